/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_SANDBOX_TAILLOG_H
#define MSB_SANDBOX_TAILLOG_H

/*
 * Keeps what an untrusted program prints (the guest's console, QEMU, msb-net): in a
 * file of bounded size, and the last bytes in memory for error messages.
 *
 * The file is rotated once to "<name>.old" at TAILLOG_FILE_MAX, so that a flood fills
 * twice that and no more.
 */

#include <stddef.h>

#include "base/err.h"
#include "sys/loop.h"
#include "sys/stream.h"

#define TAILLOG_FILE_MAX (1u << 20)
#define TAILLOG_TAIL 2048u
#define TAILLOG_COPY_MAX (64u << 20)

struct taillog {
	struct stream stream;
	int dirfd; /* not owned: where the file lies */
	int file_fd; /* owned; -1 = not kept */
	char name[64];
	size_t written;
	int copy_fd; /* owned; -1 = none: gets the same, printable */
	size_t copied;
	size_t tail_len;
	char tail[TAILLOG_TAIL];
};

/* Takes over @fd (the reading end). @dirfd must stay open as long as the log. */
int taillog_init(struct taillog *t, struct loop *l, int fd, int dirfd, const char *name,
		 struct err *e);
void taillog_fini(struct taillog *t);

/*
 * Writes what comes to @fd as well, which is taken over, up to TAILLOG_COPY_MAX bytes; it may
 * be a person's terminal.
 */
void taillog_copy_to(struct taillog *t, int fd);

/* Reads what is there now, so that taillog_last_lines() misses nothing. */
void taillog_drain(struct taillog *t);

/* The last non-empty lines, joined by " | ", printable; "" if there are none. */
void taillog_last_lines(const struct taillog *t, unsigned lines, char *to, size_t size);

#endif
