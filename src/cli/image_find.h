/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_CLI_IMAGE_FIND_H
#define MSB_CLI_IMAGE_FIND_H

#include <stdbool.h>

#include "image/store.h"

enum image_pull { IMAGE_PULL_MISSING, IMAGE_PULL_ALWAYS, IMAGE_PULL_NEVER };

struct image_find {
	const char *home;
	const char *jail; /* mode of msb-image's jails */
	enum image_pull pull;
	bool quiet; /* no progress on stderr */
};

/* "missing", "always", "never". Return: 0 or -EINVAL. */
int image_pull_parse(const char *s, enum image_pull *out);

/*
 * The image of that name in the store.  If it is absent it is made by msb-image first: put
 * together from its recipe, if there is one for the name, else pulled from a registry.
 * @out: to be freed with image_free().
 */
int image_find(const struct image_find *f, const char *name, struct image **out, struct err *e);

/*
 * Runs msb-image and waits for its end. @in, @out: its standard input and output, -1 = none.
 * What goes wrong it tells the user itself, on our standard error (CLI_TOLD).
 */
int image_program(char *const *argv, int in, int out, struct err *e);

#endif
