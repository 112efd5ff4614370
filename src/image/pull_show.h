/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_IMAGE_PULL_SHOW_H
#define MSB_IMAGE_PULL_SHOW_H

/*
 * What a pull shows on stderr: on a terminal a bar for each layer that is being fetched,
 * below the lines of those that are done; elsewhere a line for each layer; nothing with
 * --quiet (progress_init()).
 */

#include <stddef.h>
#include <stdint.h>

struct pull_show_layer {
	char name[20]; /* start of the digest */
	uint64_t have, size;
	enum { SHOW_WAITING, SHOW_FETCHING, SHOW_DONE, SHOW_STORED } state;
};

struct pull_show {
	struct pull_show_layer *layers;
	size_t n;
	unsigned bars; /* lines of the terminal that are ours now */
	uint64_t drawn_ms;
};

/* A layer that is done, or was there already: its line. */
void pull_show_line(struct pull_show *s, const struct pull_show_layer *l);
/* Draws the bars again, if it is time. */
void pull_show_bars(struct pull_show *s);
/* A remark, above the bars. */
void pull_show_note(struct pull_show *s, const char *text);
/* Takes the bars away. */
void pull_show_end(struct pull_show *s);

#endif
