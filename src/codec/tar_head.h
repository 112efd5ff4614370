/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_CODEC_TAR_HEAD_H
#define MSB_CODEC_TAR_HEAD_H

/* Headers of tar archives that we write ourselves: plain files and folders, ustar. */

#include <stdbool.h>
#include <stdint.h>

#define TAR_BLOCK 512u

/*
 * A file (@dir: a folder, name without '/') of root, from the beginning of time.  @name:
 * at most 99 bytes.  A size of 8 GiB and more is written as GNU tar does.
 */
void tar_head_format(const char *name, bool dir, uint64_t size, uint8_t to[TAR_BLOCK]);

/* Bytes that fill the last block of a file of that size. */
static inline unsigned tar_head_padding(uint64_t size)
{
	return (unsigned)(-size % TAR_BLOCK);
}

#endif
