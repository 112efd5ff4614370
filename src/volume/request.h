/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_VOLUME_REQUEST_H
#define MSB_VOLUME_REQUEST_H

/*
 * DOC: Requests of FUSE
 *
 * Reads one request of the guest's kernel into checked parts.  Pure.  The guest is hostile:
 * every length is checked against the message, names are single components, and counts
 * are bounded by the bytes that carry them.
 *
 * Spec: linux/fuse.h, protocol 7.31 or later.
 */

#include <linux/fuse.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define REQUEST_NAME_MAX 255u
#define REQUEST_TARGET_MAX 4095u /* of a symbolic link */

struct request {
	struct fuse_in_header h;
	/* The arguments of @h.opcode; without any, zeros. */
	union {
		struct fuse_forget_in forget;
		struct fuse_batch_forget_in batch;
		struct fuse_getattr_in getattr;
		struct fuse_setattr_in setattr;
		struct fuse_mknod_in mknod;
		struct fuse_mkdir_in mkdir;
		struct fuse_rename2_in rename; /* also of RENAME: flags 0 */
		struct fuse_link_in link;
		struct fuse_open_in open;
		struct fuse_create_in create;
		struct fuse_release_in release;
		struct fuse_read_in read;
		struct fuse_write_in write;
		struct fuse_fsync_in fsync;
		struct fuse_setxattr_in setxattr;
		struct fuse_getxattr_in getxattr;
		struct fuse_init_in init;
		struct fuse_interrupt_in interrupt;
		struct fuse_fallocate_in fallocate;
		struct fuse_lseek_in lseek;
		struct fuse_copy_file_range_in copy;
	} a;
	const char *name, *name2; /* NUL-terminated, in the message */
	const uint8_t *data; /* WRITE, SETXATTR: the bytes; BATCH_FORGET: the entries */
	size_t data_len;
};

/**
 * request_parse() - read one message
 *
 * Return: 0; -EPROTO: no message of FUSE, there is nobody to answer to; another negative
 * errno is the answer to it: -ENOSYS for what is not known, -EINVAL, -ENAMETOOLONG. @out->h is
 * filled in but for -EPROTO.
 */
int request_parse(const uint8_t *p, size_t n, struct request *out);

/* Entry @i of a BATCH_FORGET, below a.batch.count. */
struct fuse_forget_one request_forget(const struct request *r, uint32_t i);

#endif
