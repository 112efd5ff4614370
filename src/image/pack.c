/* SPDX-License-Identifier: Apache-2.0 */
#include "image/pack.h"

#include <archive.h>
#include <archive_entry.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <search.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/mem.h"
#include "image/tree.h"

#define PACK_COPY (256u << 10)
#define PACK_XATTRS 65536u

/* A file with several names: the first one under which it was packed. */
struct pack_link {
	dev_t dev;
	ino_t ino;
	char *name;
};

struct packer {
	struct archive *out;
	void *links; /* tsearch() tree of struct pack_link */
	char *buf;
	const char *zeros; /* PACK_COPY of them */
	uint32_t sockets;
	struct err *e;
};

static int pack_link_order(const void *a, const void *b)
{
	const struct pack_link *x = a, *y = b;

	if (x->dev != y->dev)
		return x->dev < y->dev ? -1 : 1;
	return (x->ino > y->ino) - (x->ino < y->ino);
}

static void pack_link_free(void *p)
{
	struct pack_link *l = p;

	free(l->name);
	free(l);
}

/* Return: the name under which the file is in the archive already, or NULL. */
static const char *pack_seen(struct packer *p, const struct stat *st, const char *name)
{
	struct pack_link *l = calloc(1, sizeof(*l)), **found;

	if (!l)
		return NULL;
	l->dev = st->st_dev;
	l->ino = st->st_ino;
	l->name = strdup(name);
	found = l->name ? tsearch(l, &p->links, pack_link_order) : NULL;
	if (found && *found == l)
		return NULL;
	pack_link_free(l);
	return found ? (*found)->name : NULL;
}

static int pack_error(struct packer *p, const char *name)
{
	char q[300];

	return err_errno(p->e, errno, "pack '%s'", tree_quote(q, sizeof(q), name, strlen(name)));
}

/* @path names the file without following it: /proc/self/fd/N/NAME */
static int pack_xattrs(const char *path, struct archive_entry *entry)
{
	auto_free char *names = malloc(PACK_XATTRS);
	auto_free char *value = malloc(PACK_XATTRS);
	ssize_t n = names && value ? llistxattr(path, names, PACK_XATTRS) : -1;

	if (!names || !value)
		return -ENOMEM;
	if (n < 0)
		return errno == ENOTSUP ? 0 : -errno;
	for (const char *s = names; s < names + n; s += strlen(s) + 1) {
		ssize_t k = lgetxattr(path, s, value, PACK_XATTRS);

		if (k >= 0)
			archive_entry_xattr_add_entry(entry, s, value, (size_t)k);
	}
	return 0;
}

/* The file's areas with data, so that holes are not packed. */
static int pack_map(struct archive_entry *entry, int fd, off_t size)
{
	off_t at = 0;

	while (at < size) {
		off_t data = lseek(fd, at, SEEK_DATA), hole;

		if (data < 0 && errno == ENXIO)
			break; /* the rest is a hole */
		if (data < 0)
			return 0; /* this file system cannot say: pack it as it is */
		hole = lseek(fd, data, SEEK_HOLE);
		if (hole < 0 || hole > size)
			hole = size;
		if (data == 0 && hole == size)
			return 0;
		archive_entry_sparse_add_entry(entry, data, hole - data);
		at = hole;
	}
	/* A file that is one hole still needs a map. */
	if (size && !archive_entry_sparse_count(entry))
		archive_entry_sparse_add_entry(entry, size, 0);
	return lseek(fd, 0, SEEK_SET) < 0 ? -1 : 0;
}

/* The archive's writer wants the bytes of holes too, and drops them. */
static int pack_bytes(struct packer *p, int fd, const char *full, off_t at, off_t end, bool hole)
{
	while (at < end) {
		size_t want = end - at < (off_t)PACK_COPY ? (size_t)(end - at) : PACK_COPY;
		ssize_t n = hole ? (ssize_t)want : pread(fd, p->buf, want, at);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return pack_error(p, full);
		if (!n)
			return err_set(p->e, EAGAIN, "pack '%.200s': it changed while it was read",
				       full);
		if (archive_write_data(p->out, hole ? p->zeros : p->buf, (size_t)n) != n)
			return err_set(p->e, EIO, "write the layer: %s",
				       archive_error_string(p->out));
		at += n;
	}
	return 0;
}

static int pack_content(struct packer *p, struct archive_entry *entry, int fd, const char *full)
{
	la_int64_t offset, length;
	off_t at = 0, size = archive_entry_size(entry);
	int rc = 0;

	if (!archive_entry_sparse_reset(entry))
		return pack_bytes(p, fd, full, 0, size, false);
	while (!rc && archive_entry_sparse_next(entry, &offset, &length) == ARCHIVE_OK) {
		rc = pack_bytes(p, fd, full, at, offset, true);
		if (!rc)
			rc = pack_bytes(p, fd, full, offset, offset + length, false);
		at = offset + length;
	}
	return rc ? rc : pack_bytes(p, fd, full, at, size, true);
}

/* What belongs to the tree, and nothing of the disk that it is on. */
static void pack_stat(struct archive_entry *entry, const struct stat *st)
{
	archive_entry_copy_stat(entry, st);
	archive_entry_unset_atime(entry);
	archive_entry_unset_ctime(entry);
	archive_entry_unset_birthtime(entry);
	archive_entry_set_dev(entry, 0);
	archive_entry_set_ino(entry, 0);
	archive_entry_set_nlink(entry, 1);
}

static int pack_fill(struct packer *p, struct archive_entry *entry, int dir, const char *name,
		     const char *full, const struct stat *st)
{
	char target[PATH_MAX], path[64 + NAME_MAX];
	const char *first;
	ssize_t n;

	pack_stat(entry, st);
	archive_entry_set_pathname(entry, full);
	if (S_ISLNK(st->st_mode)) {
		n = readlinkat(dir, name, target, sizeof(target) - 1);
		if (n < 0)
			return pack_error(p, full);
		target[n] = '\0';
		archive_entry_set_symlink(entry, target);
	}
	if (!S_ISDIR(st->st_mode) && st->st_nlink > 1 && (first = pack_seen(p, st, full))) {
		archive_entry_set_hardlink(entry, first);
		archive_entry_set_size(entry, 0);
		return 0;
	}
	snprintf(path, sizeof(path), "/proc/self/fd/%d/%s", dir, name);
	if (pack_xattrs(path, entry) < 0)
		return pack_error(p, full);
	return 0;
}

static int pack_tree(struct packer *p, int dir, const char *prefix, unsigned depth);

static int pack_entry(struct packer *p, int dir, const char *name, const char *full, unsigned depth)
{
	struct archive_entry *entry;
	auto_close int fd = -1;
	struct stat st;
	int rc;

	if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return pack_error(p, full);
	if (S_ISSOCK(st.st_mode)) {
		p->sockets++;
		return 0;
	}
	entry = archive_entry_new();
	if (!entry)
		return err_errno(p->e, ENOMEM, "pack the directory");
	rc = pack_fill(p, entry, dir, name, full, &st);
	if (!rc && S_ISREG(st.st_mode) && !archive_entry_hardlink(entry)) {
		fd = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
		if (fd < 0 || pack_map(entry, fd, st.st_size) < 0)
			rc = pack_error(p, full);
	}
	if (!rc && archive_write_header(p->out, entry) < ARCHIVE_WARN)
		rc = err_set(p->e, EIO, "write the layer: %s", archive_error_string(p->out));
	if (!rc && fd >= 0)
		rc = pack_content(p, entry, fd, full);
	archive_entry_free(entry);
	if (!rc && S_ISDIR(st.st_mode)) {
		auto_close int sub =
			openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

		rc = sub < 0 ? pack_error(p, full) : pack_tree(p, sub, full, depth + 1);
	}
	return rc;
}

static int pack_name_order(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static int pack_list(struct packer *p, int dir, const char *prefix, char ***out, size_t *n)
{
	int fd = dup(dir);
	DIR *list = fd < 0 ? NULL : fdopendir(fd);
	const struct dirent *d;
	char **v = NULL;
	size_t cap = 0, used = 0;

	if (!list)
		return pack_error(p, prefix);
	while ((d = readdir(list))) {
		if (!strcmp(d->d_name, ".") || !strcmp(d->d_name, ".."))
			continue;
		if (used == cap) {
			void *more = reallocarray(v, cap ? 2 * cap : 64, sizeof(*v));

			if (!more)
				break;
			v = more;
			cap = cap ? 2 * cap : 64;
		}
		v[used] = strdup(d->d_name);
		if (!v[used])
			break;
		used++;
	}
	closedir(list);
	if (used)
		qsort(v, used, sizeof(*v), pack_name_order);
	*out = v;
	*n = used;
	return d ? err_errno(p->e, ENOMEM, "pack the directory") : 0;
}

static int pack_tree(struct packer *p, int dir, const char *prefix, unsigned depth)
{
	char **names = NULL;
	size_t n = 0;
	int rc;

	if (depth > TREE_DEPTH_MAX)
		return err_set(p->e, EINVAL, "pack '%.200s': more than 1024 directories deep",
			       prefix);
	rc = pack_list(p, dir, prefix, &names, &n);
	for (size_t i = 0; i < n; i++) {
		auto_free char *full = NULL;

		if (!rc && asprintf(&full, "%s%s%s", prefix, *prefix ? "/" : "", names[i]) < 0)
			rc = err_errno(p->e, ENOMEM, "pack the directory");
		if (!rc)
			rc = pack_entry(p, dir, names[i], full, depth);
		free(names[i]);
	}
	free(names);
	return rc;
}

static int pack_root(struct packer *p, int dir)
{
	struct archive_entry *entry = archive_entry_new();
	struct stat st;
	char path[32];
	int rc = 0;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", dir);
	if (!entry || fstat(dir, &st) < 0)
		return pack_error(p, ".");
	pack_stat(entry, &st);
	archive_entry_set_pathname(entry, "./");
	if (archive_write_header(p->out, entry) < ARCHIVE_WARN)
		rc = err_set(p->e, EIO, "write the layer: %s", archive_error_string(p->out));
	archive_entry_free(entry);
	return rc ? rc : pack_tree(p, dir, "", 0);
}

int pack_dir(const char *path, int out, uint32_t *sockets, struct err *e)
{
	auto_close int dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	auto_free char *buf = malloc(PACK_COPY);
	auto_free char *zeros = calloc(1, PACK_COPY);
	struct packer p = { .out = archive_write_new(), .buf = buf, .zeros = zeros, .e = e };
	int rc;

	if (!buf || !zeros || !p.out)
		rc = err_errno(e, ENOMEM, "pack the directory");
	else if (dir < 0)
		rc = err_errno(e, errno, "open the directory %s", path);
	else if (archive_write_set_format_pax(p.out) != ARCHIVE_OK ||
		 archive_write_set_bytes_in_last_block(p.out, 1) != ARCHIVE_OK ||
		 archive_write_open_fd(p.out, out) != ARCHIVE_OK)
		rc = err_set(e, EIO, "write the layer: %s", archive_error_string(p.out));
	else
		rc = pack_root(&p, dir);
	if (!rc && archive_write_close(p.out) != ARCHIVE_OK)
		rc = err_set(e, EIO, "write the layer: %s", archive_error_string(p.out));
	archive_write_free(p.out);
	tdestroy(p.links, pack_link_free);
	if (!rc)
		*sockets = p.sockets;
	return rc;
}
