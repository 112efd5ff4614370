/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_CLI_IMAGE_FIND_H
#define MSB_CLI_IMAGE_FIND_H

#include <stdbool.h>

#include "image/store.h"

/*
 * The image of that name in the store of @home.  If it is absent, or its root image is,
 * and there is a recipe for the name, it is built first, by msb-image, with progress on
 * stderr unless @quiet, in a jail of mode @jail.  @out: to be freed with image_free().
 */
int image_find(const char *home, const char *name, bool quiet, const char *jail, struct image **out,
	       struct err *e);

#endif
