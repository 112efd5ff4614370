/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_IMAGE_POST_H
#define MSB_IMAGE_POST_H

/*
 * DOC: What maintainer scripts would have made
 *
 * Purpose.  Debian compiles Python's modules, and makes the cache of shared
 * libraries, when packages are configured.  No maintainer script runs here, so the
 * image's own interpreter and its own ldconfig are run: they are those of the image
 * whatever the host has.
 *
 * How.  The archive is unpacked to a folder.  Programs in it are started through its
 * own dynamic loader with its own libraries, in a jail that holds that folder
 * read-only, under the path that it has outside.  What they make comes out through a
 * descriptor as a tar.
 *
 * Byte code has the sources' times in it (PEP 552, the default kind), so a source
 * that is changed in a sandbox is compiled again; the times come from the packages,
 * and the hash seed is fixed: same packages, same bytes.
 *
 * Trust boundary.  Programs and modules are those that apt verified.
 */

#include "base/err.h"
#include "codec/recipe.h"

/**
 * post_run() - make what the recipe asks for
 * @dir:   absolute path of a folder to work in
 * @base:  the image's files, a tar
 * @extra: empty file that gets a tar of what was made
 */
int post_run(const struct recipe *r, const char *dir, int base, int extra, struct err *e);

#endif
