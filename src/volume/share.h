/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_VOLUME_SHARE_H
#define MSB_VOLUME_SHARE_H

/*
 * One volume: a directory or file of the host, and what the guest may do with it.
 */

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "volume/request.h"
#include "volume/table.h"

/* Seconds that the guest's kernel may take names and attributes for granted. */
#define SHARE_VALID_S 1u

#define SHARE_NOBODY 65534u /* whose the files of others are, if ids are not the same */

struct share_options {
	const char *path; /* in our root */
	bool readonly;
	bool identity;
	uint64_t quota; /* bytes; 0 = none */
};

struct share {
	uint16_t number;
	bool readonly;
	bool identity; /* ids of the guest are those of the host */
	uint32_t own_uid, own_gid; /* ours on the host */
	uint32_t guest_uid, guest_gid; /* without identity: who in the guest owns what is ours */
	struct table table;
	uint64_t quota, used; /* bytes; quota 0 = none, and nothing is counted */
};

int share_init(struct share *s, uint16_t number, const struct share_options *o, struct budget *b,
	       struct err *e);
void share_fini(struct share *s);

/*
 * Does what @r asks for and appends the answer, with its header of the volume wire, to @out.
 * @rc: of request_parse(), not -EPROTO.  Return: 0; -ENOMEM or -ENOBUFS from @out.
 */
int share_serve(struct share *s, const struct request *r, int rc, struct buf *out);

/* ---- between the files of operations ----------------------------------- */

/* An answer under construction. */
struct reply {
	struct buf *out;
	uint8_t *body; /* of reply_room() */
	size_t len; /* bytes of it that are sent */
	bool none; /* this request gets no answer */
};

/* Room for an answer of up to @size bytes, or NULL. */
uint8_t *reply_room(struct reply *a, size_t size);

/* An answer of these bytes. Return: 0 or -ENOMEM. */
int reply_bytes(struct reply *a, const void *p, size_t n);

void share_attr(const struct share *s, const struct statx *st, struct fuse_attr *out);

/* The entry @name of @dir, looked up and given out. */
int share_look(struct share *s, struct inode *dir, const char *name, struct fuse_entry_out *out,
	       struct inode **inode);

/* As share_look(), for an O_PATH descriptor of it that is open already (taken). */
int share_enter(struct share *s, struct inode *dir, const char *name, int fd,
		struct fuse_entry_out *out, struct inode **inode);

/* Host ids for what the requester makes; gid -1 if it follows from the directory. */
int share_give(struct share *s, struct inode *dir, int fd, const struct request *r);

/* Host ids for CHOWN of @st; -1 = not changed. Return: 0 or -EPERM. */
int share_ids_in(const struct share *s, const struct statx *st, uint32_t *uid, uint32_t *gid);

/* Space: what the file takes changed from @before (512-byte blocks) to what it takes now. */
void share_charge(struct share *s, int fd, uint64_t before);
uint64_t share_blocks(const struct share *s, int fd); /* 0 without quota */
bool share_has_room(const struct share *s, uint64_t bytes);

typedef int share_op(struct share *s, const struct request *r, struct inode *i, struct reply *a);

share_op op_lookup, op_getattr, op_setattr, op_readlink, op_statfs;
share_op op_symlink, op_mknod, op_mkdir, op_unlink, op_rmdir, op_rename, op_link;
share_op op_open, op_create, op_read, op_write, op_release, op_fsync, op_fallocate, op_lseek,
	op_copy;
share_op op_opendir, op_readdir, op_readdirplus;
share_op op_setxattr, op_getxattr, op_listxattr, op_removexattr;

#endif
