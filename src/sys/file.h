/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_SYS_FILE_H
#define MSB_SYS_FILE_H

/* Small whole files: read with a bound, replaced atomically. */

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "base/err.h"

/*
 * Reads the regular file @name in @dirfd, at most @max bytes (more is -EFBIG), without
 * following a symbolic link.  *@out is malloc'ed and NUL-terminated; @len excludes that.
 */
int file_read_at(int dirfd, const char *name, size_t max, char **out, size_t *len, struct err *e);

/*
 * Replaces @name in @dirfd by @len bytes: "<name>.tmp", rename; with @durable also fsync
 * of file and directory.  Readers see the old content or the new.
 */
int file_write_at(int dirfd, const char *name, const void *p, size_t len, mode_t mode, bool durable,
		  struct err *e);

/* write(2) until all is written or an error comes. Return: 0 or a negative errno. */
int file_write_all(int fd, const void *p, size_t len);

#endif
