/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_IMAGE_BUILD_H
#define MSB_IMAGE_BUILD_H

/* Images from recipes. */

#include <stdbool.h>

#include "base/err.h"
#include "image/import.h"

/**
 * build_recipe() - build the image of a recipe, if it is not there already
 * @path:  the recipe's file
 * @name:  full name for index.json; NULL = microsandbox/<recipe's name>:latest
 * @force: build again even if it is there
 * @built: name under which the image is (REFERENCE_MAX bytes)
 * @was_there: nothing had to be built
 *
 * A second build of the same recipe waits for the first.  An image that only lacks
 * its root image gets that written again.
 */
int build_recipe(struct store_writer *w, const char *path, const char *name, bool force,
		 char *built, bool *was_there, struct err *e);

#endif
