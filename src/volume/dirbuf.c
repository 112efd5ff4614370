/* SPDX-License-Identifier: Apache-2.0 */
#include "volume/dirbuf.h"

#include <dirent.h>
#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define DIRBUF_SIZE (32u * 1024)

/* As getdents64(2) has it. */
struct dirbuf_kernel {
	uint64_t ino;
	int64_t off;
	uint16_t reclen;
	uint8_t type;
	char name[];
};

struct dirbuf {
	uint64_t at; /* position of the entry at `start` */
	size_t start, end;
	uint64_t last_at; /* of the entry before it */
	size_t last_start;
	uint8_t bytes[DIRBUF_SIZE] __attribute__((aligned(8)));
};

void dirbuf_free(struct dirbuf *b)
{
	free(b);
}

void dirbuf_unread(struct dirbuf *b)
{
	b->start = b->last_start;
	b->at = b->last_at;
}

static int dirbuf_fill(struct dirbuf *b, int fd)
{
	long n = syscall(SYS_getdents64, fd, b->bytes, sizeof(b->bytes));

	b->start = 0;
	b->end = n > 0 ? (size_t)n : 0;
	return n < 0 ? -errno : n > 0;
}

int dirbuf_read(struct dirbuf **bp, int fd, uint64_t at, struct dirbuf_entry *out)
{
	struct dirbuf_kernel d;
	struct dirbuf *b = *bp;
	int rc;

	if (!b) {
		b = *bp = malloc(sizeof(*b));
		if (!b)
			return -ENOMEM;
		b->start = b->end = 0;
		b->at = 0;
		if (lseek(fd, 0, SEEK_SET) < 0)
			return -errno;
	}
	if (b->at != at || !at) {
		/* Position 0 is asked for afresh: entries may have come since. */
		if (b->at != at || b->start || b->end) {
			if (lseek(fd, (off_t)at, SEEK_SET) < 0)
				return -errno;
			b->start = b->end = 0;
			b->at = at;
		}
	}
	if (b->start == b->end) {
		rc = dirbuf_fill(b, fd);
		if (rc <= 0)
			return rc;
	}
	memcpy(&d, b->bytes + b->start, offsetof(struct dirbuf_kernel, name));
	if (d.reclen < offsetof(struct dirbuf_kernel, name) + 1 || d.reclen > b->end - b->start)
		return -EIO;
	out->ino = d.ino;
	out->next = (uint64_t)d.off;
	out->type = d.type;
	out->name = (const char *)b->bytes + b->start + offsetof(struct dirbuf_kernel, name);
	b->last_start = b->start;
	b->last_at = b->at;
	b->start += d.reclen;
	b->at = out->next;
	return 1;
}
