/* SPDX-License-Identifier: Apache-2.0 */
#include "volume/request.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include "base/mem.h"
#include "codec/volume_wire.h"

#define SETXATTR_SHORT 8u /* size and flags; the rest needs FUSE_SETXATTR_EXT */

enum request_rest {
	REST_NONE,
	REST_NAME, /* one entry's name */
	REST_NAMES, /* two */
	REST_SYMLINK, /* the entry's name, the target */
	REST_XATTR, /* an attribute's name */
	REST_XATTR_VALUE, /* its name, its value */
	REST_DATA, /* the bytes of a WRITE */
	REST_FORGETS,
	REST_ANY, /* what a newer kernel may add */
};

struct request_form {
	bool known;
	uint16_t size; /* of the arguments */
	uint8_t rest;
};

#define FORM(op, bytes, what) \
	[FUSE_##op] = { .known = true, .size = (uint16_t)(bytes), .rest = REST_##what }

static const struct request_form request_forms[] = {
	FORM(LOOKUP, 0, NAME),
	FORM(FORGET, sizeof(struct fuse_forget_in), NONE),
	FORM(GETATTR, sizeof(struct fuse_getattr_in), NONE),
	FORM(SETATTR, sizeof(struct fuse_setattr_in), NONE),
	FORM(READLINK, 0, NONE),
	FORM(SYMLINK, 0, SYMLINK),
	FORM(MKNOD, sizeof(struct fuse_mknod_in), NAME),
	FORM(MKDIR, sizeof(struct fuse_mkdir_in), NAME),
	FORM(UNLINK, 0, NAME),
	FORM(RMDIR, 0, NAME),
	FORM(RENAME, sizeof(struct fuse_rename_in), NAMES),
	FORM(LINK, sizeof(struct fuse_link_in), NAME),
	FORM(OPEN, sizeof(struct fuse_open_in), NONE),
	FORM(READ, sizeof(struct fuse_read_in), NONE),
	FORM(WRITE, sizeof(struct fuse_write_in), DATA),
	FORM(STATFS, 0, NONE),
	FORM(RELEASE, sizeof(struct fuse_release_in), NONE),
	FORM(FSYNC, sizeof(struct fuse_fsync_in), NONE),
	FORM(SETXATTR, SETXATTR_SHORT, XATTR_VALUE),
	FORM(GETXATTR, sizeof(struct fuse_getxattr_in), XATTR),
	FORM(LISTXATTR, sizeof(struct fuse_getxattr_in), NONE),
	FORM(REMOVEXATTR, 0, XATTR),
	FORM(INIT, offsetof(struct fuse_init_in, flags2), ANY),
	FORM(OPENDIR, sizeof(struct fuse_open_in), NONE),
	FORM(READDIR, sizeof(struct fuse_read_in), NONE),
	FORM(RELEASEDIR, sizeof(struct fuse_release_in), NONE),
	FORM(FSYNCDIR, sizeof(struct fuse_fsync_in), NONE),
	FORM(CREATE, sizeof(struct fuse_create_in), NAME),
	FORM(INTERRUPT, sizeof(struct fuse_interrupt_in), NONE),
	FORM(DESTROY, 0, NONE),
	FORM(BATCH_FORGET, sizeof(struct fuse_batch_forget_in), FORGETS),
	FORM(FALLOCATE, sizeof(struct fuse_fallocate_in), NONE),
	FORM(READDIRPLUS, sizeof(struct fuse_read_in), NONE),
	FORM(RENAME2, sizeof(struct fuse_rename2_in), NAMES),
	FORM(LSEEK, sizeof(struct fuse_lseek_in), NONE),
	FORM(COPY_FILE_RANGE, sizeof(struct fuse_copy_file_range_in), NONE),
};

/* Takes a string with its NUL off the bytes. */
static int request_string(const uint8_t **p, size_t *n, size_t max, const char **out)
{
	const uint8_t *nul = memchr(*p, 0, *n);

	if (!nul)
		return -EINVAL;
	if ((size_t)(nul - *p) > max)
		return -ENAMETOOLONG;
	*out = (const char *)*p;
	*n -= (size_t)(nul + 1 - *p);
	*p = nul + 1;
	return 0;
}

/* As request_string(), for what is to be an entry of a directory and nothing else. */
static int request_name(const uint8_t **p, size_t *n, const char **out)
{
	int rc = request_string(p, n, REQUEST_NAME_MAX, out);

	if (rc)
		return rc;
	if (!**out || strchr(*out, '/') || !strcmp(*out, ".") || !strcmp(*out, ".."))
		return -EINVAL;
	return 0;
}

static int request_rest(struct request *r, uint8_t rest, const uint8_t *p, size_t n)
{
	int rc = 0;

	switch (rest) {
	case REST_NAME:
		rc = request_name(&p, &n, &r->name);
		break;
	case REST_NAMES:
		rc = request_name(&p, &n, &r->name);
		if (!rc)
			rc = request_name(&p, &n, &r->name2);
		break;
	case REST_SYMLINK:
		rc = request_name(&p, &n, &r->name);
		if (!rc)
			rc = request_string(&p, &n, REQUEST_TARGET_MAX, &r->name2);
		break;
	case REST_XATTR:
		rc = request_string(&p, &n, REQUEST_NAME_MAX, &r->name);
		break;
	case REST_XATTR_VALUE:
		rc = request_string(&p, &n, REQUEST_NAME_MAX, &r->name);
		if (!rc && r->a.setxattr.size != n)
			rc = -EINVAL;
		r->data = p;
		r->data_len = n;
		return rc;
	case REST_DATA:
		if (r->a.write.size != n || n > VOLUME_WRITE_MAX)
			return -EINVAL;
		r->data = p;
		r->data_len = n;
		return 0;
	case REST_FORGETS:
		if (r->a.batch.count > n / sizeof(struct fuse_forget_one))
			return -EINVAL;
		r->data = p;
		r->data_len = n;
		return 0;
	case REST_ANY:
		return 0;
	default:
		break;
	}
	return rc ? rc : n ? -EINVAL : 0;
}

int request_parse(const uint8_t *p, size_t n, struct request *out)
{
	const struct request_form *form;
	uint8_t *args = (uint8_t *)&out->a;

	if (n < sizeof(out->h))
		return -EPROTO;
	*out = (struct request){ .name = NULL };
	memcpy(&out->h, p, sizeof(out->h));
	if (out->h.len != n)
		return -EPROTO;
	p += sizeof(out->h);
	n -= sizeof(out->h);
	form = out->h.opcode < ARRAY_SIZE(request_forms) ? &request_forms[out->h.opcode] : NULL;
	if (!form || !form->known)
		return -ENOSYS;
	/* Extensions have to be agreed upon, and are not. */
	if (n < form->size || out->h.total_extlen)
		return -EINVAL;
	memcpy(args, p, form->size);
	return request_rest(out, form->rest, p + form->size, n - form->size);
}

struct fuse_forget_one request_forget(const struct request *r, uint32_t i)
{
	struct fuse_forget_one one;

	memcpy(&one, r->data + (size_t)i * sizeof(one), sizeof(one));
	return one;
}
