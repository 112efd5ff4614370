/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_IMAGE_PACK_H
#define MSB_IMAGE_PACK_H

/* A directory to a layer. */

#include <stdint.h>

#include "base/err.h"

/**
 * pack_dir() - write a directory's tree as a tar
 * @path:    the directory; what it holds becomes the root of the image
 * @out:     empty file
 * @sockets: number of sockets that were left out (a tar has none)
 *
 * Names in sorted order, owners as numbers, hard links, extended attributes, devices:
 * same tree, same bytes.  Nothing is followed out of the directory; other file
 * systems mounted in it are packed too.
 */
int pack_dir(const char *path, int out, uint32_t *sockets, struct err *e);

#endif
