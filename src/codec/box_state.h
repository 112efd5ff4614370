/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_CODEC_BOX_STATE_H
#define MSB_CODEC_BOX_STATE_H

/*
 * state.json: what the supervisor of a sandbox with a directory of its own has to tell about
 * it, also after its end.  Whether it runs is never read from here: only the directory's lock
 * tells that.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define BOX_STATE_FILE "state.json"
#define BOX_STATE_MAX (64u << 10) /* bytes of it */

struct box_state {
	int64_t started_us, ready_us, ended_us; /* since 1970; 0 = not yet */
	bool has_exit; /* its own command has ended */
	int exit_code; /* 128 + n after signal n */
	bool clean; /* the guest powered itself off */
	char reason[1024]; /* of the end, one line */
	char engine[16], isolation[16];
};

/* The text, malloc'ed. */
int box_state_format(const struct box_state *s, char **text, struct err *e);

/* Reads such a text; *@out is written on success only. */
int box_state_parse(const char *text, size_t len, struct box_state *out, struct err *e);

#endif
