/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DOC: Reading a layer
 *
 * Purpose.  A layer's bytes go through three stages: decompress (gzip, zstd or
 * nothing, told by the first bytes), hash (the diff_id is of the uncompressed
 * stream, padding after the archive's end included), tar.
 *
 * Spec.  OCI image-spec 1.1, layer.md.  tar as libarchive reads it: ustar, GNU and
 * POSIX pax, with sparse files, long names and extended attributes.
 *
 * Trust boundary.  Runs in the jailed converter.  No format and no filter but these
 * is compiled into the reader, and no second compression inside the first is
 * looked for.
 *
 * Failure.  Anything that libarchive does not read without a complaint is an error:
 * an image is the archive's whole content or it is not made.
 */
#include "image/layer.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/checked.h"
#include "base/mem.h"

#define LAYER_READ (256u << 10)
#define LAYER_PROGRESS_STEP (4u << 20)
#define LAYER_XATTRS_MAX 1024u
#define DEV_MAJOR_MAX 4095 /* what ext4 and Linux have room for */
#define DEV_MINOR_MAX 0xfffff

struct layer_source {
	int fd;
	uint8_t *in; /* LAYER_READ bytes */
	size_t peeked; /* bytes of in[] not delivered yet */
	uint64_t in_bytes, out_bytes, max_bytes, told;
	struct archive *unpack; /* NULL = plain */
	struct digest *digest; /* NULL = the diff_id is known */
	bool ended;
	void (*progress)(void *ctx, uint64_t bytes);
	void *ctx;
	struct err *e; /* why a callback failed */
};

static ssize_t layer_read_fd(struct layer_source *s)
{
	ssize_t n;

	do
		n = read(s->fd, s->in, LAYER_READ);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return err_errno(s->e, errno, "read the layer");
	s->in_bytes += (uint64_t)n;
	if (s->progress && s->in_bytes - s->told >= LAYER_PROGRESS_STEP) {
		s->told = s->in_bytes;
		s->progress(s->ctx, s->in_bytes);
	}
	return n;
}

/* Compressed bytes, for the decompressor. */
static la_ssize_t layer_read_packed(struct archive *a, void *ctx, const void **buf)
{
	struct layer_source *s = ctx;
	ssize_t n = (ssize_t)s->peeked;

	s->peeked = 0;
	if (!n)
		n = layer_read_fd(s);
	if (n < 0)
		archive_set_error(a, EIO, "%s", err_text(s->e));
	*buf = s->in;
	return n;
}

/* Uncompressed bytes. Return: their number, 0 at the end, or a negative errno. */
static ssize_t layer_read_plain(struct layer_source *s, const void **buf)
{
	ssize_t n;

	if (s->ended)
		return 0;
	if (s->unpack) {
		la_int64_t offset;
		size_t size = 0;
		int rc;

		do
			rc = archive_read_data_block(s->unpack, buf, &size, &offset);
		while (rc == ARCHIVE_OK && !size);
		if (rc != ARCHIVE_OK && rc != ARCHIVE_EOF)
			return err_set(s->e, EINVAL, "the layer's compressed data is damaged: %s",
				       archive_error_string(s->unpack));
		n = rc == ARCHIVE_EOF ? 0 : (ssize_t)size;
	} else {
		n = (ssize_t)s->peeked;
		s->peeked = 0;
		if (!n)
			n = layer_read_fd(s);
		*buf = s->in;
	}
	if (n < 0)
		return n;
	s->ended = n == 0;
	s->out_bytes += (uint64_t)n;
	if (s->out_bytes > s->max_bytes)
		return err_set(s->e, EFBIG, "the layer holds more than the limit of %llu MiB",
			       (unsigned long long)(s->max_bytes >> 20));
	if (s->digest)
		digest_update(s->digest, *buf, (size_t)n);
	return n;
}

static la_ssize_t layer_read_tar(struct archive *a, void *ctx, const void **buf)
{
	struct layer_source *s = ctx;
	ssize_t n = layer_read_plain(s, buf);

	if (n < 0)
		archive_set_error(a, EINVAL, "%s", err_text(s->e));
	return n < 0 ? -1 : n;
}

/* An archive reader with exactly one filter: no bidding, so no nested compression. */
static int layer_open_filter(struct layer_source *s, int filter)
{
	s->unpack = archive_read_new();
	if (!s->unpack)
		return err_errno(s->e, ENOMEM, "read the layer");
	if (archive_read_append_filter(s->unpack, filter) != ARCHIVE_OK)
		return err_set(s->e, ENOTSUP, "this libarchive cannot unpack the layer: %s",
			       archive_error_string(s->unpack));
	/* Not the "empty" format: it would take a stream that fails at once for an empty one. */
	archive_read_support_format_raw(s->unpack);
	return 0;
}

static int layer_open(struct layer_source *s)
{
	static const uint8_t gzip[] = { 0x1f, 0x8b }, zstd[] = { 0x28, 0xb5, 0x2f, 0xfd };
	struct archive_entry *entry;
	int rc = 0;

	/* A pipe may deliver less than the magic number at once. */
	while (s->peeked < sizeof(zstd)) {
		ssize_t n = read(s->fd, s->in + s->peeked, LAYER_READ - s->peeked);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_errno(s->e, errno, "read the layer");
		if (!n)
			break;
		s->peeked += (size_t)n;
	}
	s->in_bytes = s->peeked;
	if (s->peeked >= sizeof(gzip) && !memcmp(s->in, gzip, sizeof(gzip)))
		rc = layer_open_filter(s, ARCHIVE_FILTER_GZIP);
	else if (s->peeked >= sizeof(zstd) && !memcmp(s->in, zstd, sizeof(zstd)))
		rc = layer_open_filter(s, ARCHIVE_FILTER_ZSTD);
	if (rc || !s->unpack)
		return rc;
	if (archive_read_open(s->unpack, s, NULL, layer_read_packed, NULL) != ARCHIVE_OK)
		return err_set(s->e, EINVAL, "the layer's compressed data is damaged: %s",
			       archive_error_string(s->unpack));
	if (archive_read_next_header(s->unpack, &entry) != ARCHIVE_OK)
		return err_set(s->e, EINVAL, "the layer's compressed data is damaged: %s",
			       archive_error_string(s->unpack));
	return 0;
}

/* ---- entries ---- */

static int layer_entry_error(struct err *e, const char *path, const char *why)
{
	char q[300];

	return err_set(e, EINVAL, "entry '%s': %s", tree_quote(q, sizeof(q), path, strlen(path)),
		       why);
}

static int layer_get_attr(struct archive_entry *entry, const char *path, struct tree_attr *a,
			  struct err *e)
{
	la_int64_t uid = archive_entry_uid(entry), gid = archive_entry_gid(entry);
	long nsec = archive_entry_mtime_nsec(entry);

	if (uid < 0 || uid >= UINT32_MAX || gid < 0 || gid >= UINT32_MAX)
		return layer_entry_error(e, path, "an owner that is no user or group id");
	a->uid = (uint32_t)uid;
	a->gid = (uint32_t)gid;
	a->mode = (archive_entry_filetype(entry) & S_IFMT) | (archive_entry_perm(entry) & 07777);
	a->mtime = archive_entry_mtime(entry);
	a->mtime_nsec = nsec < 0 || nsec > 999999999 ? 0 : (uint32_t)nsec;
	switch (a->mode & S_IFMT) {
	case S_IFLNK:
		a->link = archive_entry_symlink(entry);
		if (!a->link)
			return layer_entry_error(e, path, "a symbolic link without a target");
		a->link_len = strlen(a->link);
		return 0;
	case S_IFCHR:
	case S_IFBLK:
		if (archive_entry_rdevmajor(entry) > DEV_MAJOR_MAX ||
		    archive_entry_rdevminor(entry) > DEV_MINOR_MAX)
			return layer_entry_error(e, path, "a device number that is too large");
		a->major = (uint32_t)archive_entry_rdevmajor(entry);
		a->minor = (uint32_t)archive_entry_rdevminor(entry);
		return 0;
	case S_IFREG:
	case S_IFDIR:
	case S_IFIFO:
	case S_IFSOCK:
		return 0;
	default:
		return layer_entry_error(e, path, "a kind of file that is not known");
	}
}

/*
 * The entry's attributes.  What an overlay of the machine that made the image left
 * for itself (trusted.overlay.*) would be obeyed by the guest's overlay: it goes.
 */
static int layer_get_xattrs(struct archive_entry *entry, const char *path, struct tree_xattr *v,
			    struct tree_attr *a, struct layer_result *res, struct err *e)
{
	static const char overlay[] = "trusted.overlay.";
	int n = archive_entry_xattr_reset(entry);
	const char *name;
	const void *value;
	size_t size;

	if (n > (int)LAYER_XATTRS_MAX)
		return layer_entry_error(e, path, "more than 1024 extended attributes");
	while (archive_entry_xattr_next(entry, &name, &value, &size) == ARCHIVE_OK) {
		if (!name || !strncmp(name, overlay, strlen(overlay)))
			continue;
		v[a->n_xattrs++] = (struct tree_xattr){ name, strlen(name), value, size };
	}
	a->xattrs = v;
	if (archive_entry_acl_types(entry) &
	    (ARCHIVE_ENTRY_ACL_TYPE_POSIX1E | ARCHIVE_ENTRY_ACL_TYPE_NFS4))
		res->xattrs_dropped++;
	return 0;
}

static int layer_copy_data(struct archive *tar, struct archive_entry *entry, struct rootimage *r,
			   uint32_t inode, struct err *e)
{
	const void *buf;
	la_int64_t offset;
	size_t size;
	int rc = rootimage_file_begin(r, inode, e);

	while (!rc) {
		int k = archive_read_data_block(tar, &buf, &size, &offset);

		if (k == ARCHIVE_EOF)
			break;
		if (k != ARCHIVE_OK || offset < 0)
			return err_set(e, EINVAL, "the archive is damaged: %s",
				       archive_error_string(tar));
		rc = rootimage_file_data(r, (uint64_t)offset, buf, size, e);
	}
	return rc ? rc : rootimage_file_end(r, (uint64_t)archive_entry_size(entry), e);
}

static int layer_take_entry(struct archive *tar, struct archive_entry *entry, struct rootimage *r,
			    struct tree_xattr *xattrs, struct layer_result *res, struct err *e)
{
	const char *path = archive_entry_pathname(entry), *hard = archive_entry_hardlink(entry);
	struct tree_attr a = { .mode = 0 };
	uint32_t inode;
	int rc;

	if (!path)
		return err_set(e, EINVAL,
			       "entry %u: no name, or one that is not UTF-8 where it must be",
			       res->entries + 1);
	if (archive_entry_size(entry) < 0)
		return layer_entry_error(e, path, "a negative size");
	res->entries++;
	if (hard)
		return tree_link(rootimage_tree(r), path, strlen(path), hard, strlen(hard), e);
	rc = layer_get_attr(entry, path, &a, e);
	if (!rc)
		rc = layer_get_xattrs(entry, path, xattrs, &a, res, e);
	if (!rc)
		rc = tree_add(rootimage_tree(r), path, strlen(path), &a, &inode, e);
	if (rc || inode == TREE_NONE || !S_ISREG(a.mode))
		return rc;
	rc = layer_copy_data(tar, entry, r, inode, e);
	if (rc == -EINVAL)
		err_wrap(e, "entry %u", res->entries);
	return rc;
}

static int layer_read_entries(struct archive *tar, struct layer_source *s, struct rootimage *r,
			      struct layer_result *res, struct err *e)
{
	auto_free struct tree_xattr *xattrs = calloc(LAYER_XATTRS_MAX, sizeof(*xattrs));
	struct archive_entry *entry;
	int rc;

	if (!xattrs)
		return err_errno(e, ENOMEM, "read the layer");
	for (;;) {
		int k = archive_read_next_header(tar, &entry);

		/* First: libarchive may take a read that failed for the end. */
		if (s->e->code)
			return -s->e->code;
		if (k == ARCHIVE_EOF)
			return 0;
		if (k != ARCHIVE_OK)
			return err_set(e, EINVAL,
				       "not a tar archive, or a damaged one: after %u entries: %s",
				       res->entries, archive_error_string(tar));
		rc = layer_take_entry(tar, entry, r, xattrs, res, e);
		if (rc)
			return rc;
	}
}

static int layer_read(struct layer_source *s, struct rootimage *r, struct layer_result *res,
		      struct err *e)
{
	struct archive *tar = archive_read_new();
	const void *rest;
	ssize_t n;
	int rc;

	if (!tar)
		return err_errno(e, ENOMEM, "read the layer");
	archive_read_support_format_tar(tar);
	archive_read_support_format_empty(tar);
	if (archive_read_open(tar, s, NULL, layer_read_tar, NULL) != ARCHIVE_OK)
		rc = s->e->code ? -s->e->code
				: err_set(e, EINVAL, "not a tar archive: %s",
					  archive_error_string(tar));
	else
		rc = layer_read_entries(tar, s, r, res, e);
	archive_read_free(tar);
	/* Padding after the end of the archive is a part of the stream that was hashed. */
	while (!rc && (n = layer_read_plain(s, &rest)))
		rc = n < 0 ? (int)n : 0;
	return rc;
}

int layer_apply(int fd, struct rootimage *r, uint64_t max_bytes, const uint8_t *known,
		void (*progress)(void *ctx, uint64_t bytes), void *ctx, struct layer_result *out,
		struct err *e)
{
	auto_free uint8_t *in = malloc(LAYER_READ);
	struct err own = ERR_INIT;
	struct layer_source s = {
		.fd = fd,
		.in = in,
		.max_bytes = max_bytes,
		.progress = progress,
		.ctx = ctx,
		.e = e ? e : &own,
	};
	struct layer_result res = { .entries = 0 };
	int rc;

	if (!in)
		return err_errno(e, ENOMEM, "read the layer");
	rc = tree_layer_begin(rootimage_tree(r), e);
	if (!rc)
		rc = layer_open(&s);
	if (!rc && (s.unpack || !known))
		rc = digest_create(&s.digest, e);
	if (!rc)
		rc = layer_read(&s, r, &res, s.e);
	if (s.unpack)
		archive_read_free(s.unpack);
	if (!rc) {
		if (s.digest)
			digest_final(s.digest, res.diff_id);
		else
			memcpy(res.diff_id, known, DIGEST_BYTES);
		res.bytes = s.out_bytes;
		if (progress)
			progress(ctx, s.in_bytes);
		*out = res;
	}
	digest_destroy(s.digest);
	return rc;
}
