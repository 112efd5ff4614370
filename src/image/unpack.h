/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_IMAGE_UNPACK_H
#define MSB_IMAGE_UNPACK_H

/*
 * DOC: The unpacker: an archive's files, one after the other
 *
 * Purpose.  `msb load` reads archives of `docker save`, podman and others: a tar, plain or
 * compressed.  libarchive reads it in a jailed child; out comes a plain stream of
 * struct unpack_member, each file's followed by its bytes.
 *
 * Trust boundary.  The reader of that stream bounds names, counts and sizes, as if the
 * archive itself had written it.
 *
 * Descriptors: 0 the archive, 4 the stream, 5 why it failed (struct unpack_failure), since
 * in the middle of a file's bytes a member cannot say so.
 */

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "sys/child.h"

#define UNPACK_NAME_MAX 256u

enum unpack_kind {
	UNPACK_FILE = 1, /* size bytes follow */
	UNPACK_LINK, /* text: where the (symbolic or hard) link leads */
	UNPACK_END,
};

struct unpack_failure {
	uint32_t code; /* positive errno */
	char text[252];
};

struct unpack_member {
	uint32_t kind, reserved;
	uint64_t size;
	char name[UNPACK_NAME_MAX];
	char text[UNPACK_NAME_MAX];
};

struct unpack {
	struct child child;
	int fd, report; /* the stream; why it failed */
	uint64_t left; /* bytes of the file that was begun */
};

#define UNPACK_INIT \
	{ \
		.child = CHILD_INIT, .fd = -1, .report = -1 \
	}

int unpack_start(int archive, struct unpack *out, struct err *e);
/* The next file or link, what was not read of the one before is passed over. 1 = there is none. */
int unpack_next(struct unpack *u, struct unpack_member *m, struct err *e);
/* Bytes of the file: their number, 0 at its end, or a negative errno. */
long unpack_read(struct unpack *u, void *to, size_t size, struct err *e);
void unpack_stop(struct unpack *u); /* harmless on UNPACK_INIT */

/* What the child does; called by main() for `msb-image unpack`. Return: exit status. */
int unpack_main(int argc, char **argv);

#endif
