/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DOC: Theory of operation
 *
 * Purpose
 *   `/proc/1/exe layer`: what this machine's disk has over its image, as a layer of an OCI
 *   image (a tar with pax headers) on standard output.  `msb build` runs it, as root, when the
 *   steps of a build are done.
 *
 * What is in it
 *   The directory `upper` of the disk, which the overlay writes: its whiteouts (character
 *   devices 0:0) become `.wh.NAME`, its opaque directories get a `.wh..wh..opq`
 *   (image-spec 1.1, layer.md).  Left out is what belongs to a running machine: files of /tmp
 *   and /run, and those that the agent writes at each start.  Names come sorted.
 *
 * Trust boundary
 *   Whoever is root in the guest can write any tar to the host anyway; the host reads it as it
 *   reads any archive.  The disk is mounted anew, in a mount namespace of this process, since the
 *   first mount has no path any more.
 */
#include "agent/layer.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sched.h>
#include <search.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "agent/boot.h"
#include "base/buf.h"
#include "base/mem.h"

#define LAYER_BLOCK 512u
#define LAYER_COPY (256u << 10)
#define LAYER_DEPTH_MAX 512u
#define LAYER_PATH_MAX 4096u
#define LAYER_XATTRS_MAX 65536u
#define LAYER_MOUNT "/sys" /* a directory that every root has */

/* POSIX ustar; numbers are octal. */
struct layer_header {
	char name[100], mode[8], uid[8], gid[8], size[12], mtime[12], sum[8], type, linkname[100];
	char magic[6], version[2], uname[32], gname[32], major[8], minor[8], prefix[155], pad[12];
};

_Static_assert(sizeof(struct layer_header) == LAYER_BLOCK, "a tar header is one block");

/* A file with several names: the first one that was written. */
struct layer_link {
	ino_t ino;
	char path[];
};

struct layer {
	int out;
	char *copy; /* LAYER_COPY */
	struct buf pax; /* records of the next entry */
	void *links; /* tsearch() tree of struct layer_link */
	char path[LAYER_PATH_MAX]; /* of what is being written, from the root */
	struct err *e;
};

static int layer_fail(struct layer *l, const char *what)
{
	return err_errno(l->e, errno, "%s '%.200s'", what, l->path);
}

/* ---- tar ---- */

static int layer_write(struct layer *l, const void *p, size_t n)
{
	const char *at = p;

	while (n) {
		ssize_t k = write(l->out, at, n);

		if (k < 0 && errno == EINTR)
			continue;
		if (k < 0)
			return err_errno(l->e, errno, "write the layer");
		at += k;
		n -= (size_t)k;
	}
	return 0;
}

static int layer_pad(struct layer *l, uint64_t size)
{
	static const char zero[LAYER_BLOCK];
	size_t n = (size_t)(-size % LAYER_BLOCK);

	return layer_write(l, zero, n);
}

/* What does not fit stands in the pax header; here it is cut. */
static void layer_octal(char *to, size_t size, uint64_t v)
{
	for (size_t i = size - 1; i-- > 0; v >>= 3)
		to[i] = (char)('0' + (v & 7));
}

/* "LENGTH KEY=VALUE\n", the length counting itself. */
static int layer_record(struct layer *l, const char *key, const void *value, size_t n)
{
	size_t len = strlen(key) + n + 3, digits = 1;
	char head[32];

	while ((size_t)snprintf(head, sizeof(head), "%zu ", len + digits) != digits + 1)
		digits++;
	if (buf_append(&l->pax, head, strlen(head)) || buf_append(&l->pax, key, strlen(key)) ||
	    buf_append(&l->pax, "=", 1) || buf_append(&l->pax, value, n) ||
	    buf_append(&l->pax, "\n", 1))
		return err_errno(l->e, ENOMEM, "write the layer");
	return 0;
}

static int layer_number(struct layer *l, const char *key, uint64_t v)
{
	char text[32];

	snprintf(text, sizeof(text), "%" PRIu64, v);
	return layer_record(l, key, text, strlen(text));
}

static int layer_header(struct layer *l, struct layer_header *h)
{
	unsigned sum = 0;

	memcpy(h->magic, "ustar", 6);
	memcpy(h->version, "00", 2);
	memset(h->sum, ' ', sizeof(h->sum));
	for (size_t i = 0; i < sizeof(*h); i++)
		sum += ((const unsigned char *)h)[i];
	layer_octal(h->sum, 7, sum);
	return layer_write(l, h, sizeof(*h));
}

/* The header of the entry l->path, with the records that wait in front. */
static int layer_entry(struct layer *l, const struct stat *st, char type, const char *link)
{
	struct layer_header x = { .type = 'x', .name = "pax" }, h = { .type = type };
	uint64_t size = type == '0' ? (uint64_t)st->st_size : 0;
	char mtime[48];
	int rc;

	snprintf(mtime, sizeof(mtime), "%lld.%09ld", (long long)st->st_mtim.tv_sec,
		 st->st_mtim.tv_nsec);
	if ((rc = layer_record(l, "path", l->path, strlen(l->path))) ||
	    (rc = layer_record(l, "mtime", mtime, strlen(mtime))) ||
	    (link && (rc = layer_record(l, "linkpath", link, strlen(link)))) ||
	    (rc = layer_number(l, "uid", st->st_uid)) ||
	    (rc = layer_number(l, "gid", st->st_gid)) || (rc = layer_number(l, "size", size)))
		return rc;
	layer_octal(x.mode, sizeof(x.mode), 0644);
	layer_octal(x.size, sizeof(x.size), buf_len(&l->pax));
	rc = layer_header(l, &x);
	if (!rc)
		rc = layer_write(l, buf_data(&l->pax), buf_len(&l->pax));
	if (!rc)
		rc = layer_pad(l, buf_len(&l->pax));
	buf_consume(&l->pax, buf_len(&l->pax));
	if (rc)
		return rc;
	snprintf(h.name, sizeof(h.name), "%s", l->path);
	layer_octal(h.mode, sizeof(h.mode), st->st_mode & 07777);
	layer_octal(h.uid, sizeof(h.uid), st->st_uid);
	layer_octal(h.gid, sizeof(h.gid), st->st_gid);
	layer_octal(h.size, sizeof(h.size), size);
	layer_octal(h.mtime, sizeof(h.mtime), (uint64_t)st->st_mtim.tv_sec);
	if (link)
		snprintf(h.linkname, sizeof(h.linkname), "%s", link);
	if (type == '3' || type == '4') {
		layer_octal(h.major, sizeof(h.major), major(st->st_rdev));
		layer_octal(h.minor, sizeof(h.minor), minor(st->st_rdev));
	}
	return layer_header(l, &h);
}

/* An empty file beside, or in, what l->path names: @name takes the place from @at on. */
static int layer_marker(struct layer *l, size_t at, const char *prefix, const char *name)
{
	struct stat st = { .st_mode = S_IFREG | 0600 };

	if (snprintf(l->path + at, sizeof(l->path) - at, "%s%s", prefix, name) >=
	    (int)(sizeof(l->path) - at))
		return err_errno(l->e, ENAMETOOLONG, "write the layer");
	return layer_entry(l, &st, '0', NULL);
}

/* ---- one file ---- */

/*
 * Puts the attributes of an open file among the records.  *@opaque: it is a directory that
 * hides what the image has in it.
 */
static int layer_xattrs(struct layer *l, int fd, bool *opaque)
{
	auto_free char *names = malloc(LAYER_XATTRS_MAX);
	auto_free char *value = malloc(LAYER_XATTRS_MAX);
	ssize_t n = names && value ? flistxattr(fd, names, LAYER_XATTRS_MAX) : -1;
	int rc = 0;

	*opaque = false;
	if (n < 0)
		return errno == ENOTSUP ? 0 : layer_fail(l, "read the attributes of");
	for (const char *s = names; s < names + n && !rc; s += strlen(s) + 1) {
		ssize_t k = fgetxattr(fd, s, value, LAYER_XATTRS_MAX);
		char key[300];

		if (k < 0)
			continue;
		if (!strcmp(s, "trusted.overlay.opaque")) {
			*opaque = k == 1 && value[0] == 'y';
			continue;
		}
		if (!strcmp(s, "trusted.overlay.redirect") ||
		    !strcmp(s, "trusted.overlay.metacopy"))
			return err_set(l->e, ENOTSUP, "'%.200s' is in a form that no layer has: %s",
				       l->path, s);
		if (!strncmp(s, "trusted.overlay.", 16))
			continue;
		snprintf(key, sizeof(key), "SCHILY.xattr.%s", s);
		rc = layer_record(l, key, value, (size_t)k);
	}
	return rc;
}

static int layer_content(struct layer *l, int fd, uint64_t size)
{
	uint64_t left = size;
	int rc = 0;

	while (left && !rc) {
		ssize_t n = read(fd, l->copy, left < LAYER_COPY ? (size_t)left : LAYER_COPY);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return layer_fail(l, "read");
		if (!n) { /* it was cut while we read: the entry keeps its length */
			n = (ssize_t)(left < LAYER_COPY ? left : LAYER_COPY);
			memset(l->copy, 0, (size_t)n);
		}
		rc = layer_write(l, l->copy, (size_t)n);
		left -= (uint64_t)n;
	}
	return rc ? rc : layer_pad(l, size);
}

static int layer_link_order(const void *a, const void *b)
{
	const struct layer_link *x = a, *y = b;

	return (x->ino > y->ino) - (x->ino < y->ino);
}

/* Return: the name by which the file was written, or NULL; then it has this one now. */
static const char *layer_seen(struct layer *l, const struct stat *st)
{
	size_t n = strlen(l->path) + 1;
	struct layer_link *x = malloc(sizeof(*x) + n), **found;

	if (!x)
		return NULL;
	x->ino = st->st_ino;
	memcpy(x->path, l->path, n);
	found = tsearch(x, &l->links, layer_link_order);
	if (found && *found == x)
		return NULL;
	free(x);
	return found ? (*found)->path : NULL;
}

static int layer_regular(struct layer *l, int dir, const char *name)
{
	auto_close int fd = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	const char *first;
	bool opaque;
	struct stat st;
	int rc;

	if (fd < 0 || fstat(fd, &st))
		return layer_fail(l, "open");
	if (!S_ISREG(st.st_mode))
		return err_set(l->e, EAGAIN, "'%.200s' changes while it is read", l->path);
	first = st.st_nlink > 1 ? layer_seen(l, &st) : NULL;
	if (first)
		return layer_entry(l, &st, '1', first);
	rc = layer_xattrs(l, fd, &opaque);
	if (!rc)
		rc = layer_entry(l, &st, '0', NULL);
	return rc ? rc : layer_content(l, fd, (uint64_t)st.st_size);
}

static int layer_symlink(struct layer *l, int dir, const char *name, const struct stat *st)
{
	char target[LAYER_PATH_MAX];
	ssize_t n = readlinkat(dir, name, target, sizeof(target) - 1);

	if (n < 0)
		return layer_fail(l, "read the link");
	target[n] = '\0';
	return layer_entry(l, st, '2', target);
}

/* ---- the tree ---- */

/* What a machine writes at each start, or only while it runs. */
static bool layer_is_left_out(const char *path)
{
	static const char *const files[] = { "etc/hosts", "etc/hostname", "etc/resolv.conf", "dev",
					     "proc",      "sys",          ".sandbox" };
	static const char *const inside[] = { "tmp/", "run/", "var/tmp/" };

	for (size_t i = 0; i < ARRAY_SIZE(files); i++)
		if (!strcmp(path, files[i]))
			return true;
	for (size_t i = 0; i < ARRAY_SIZE(inside); i++)
		if (!strncmp(path, inside[i], strlen(inside[i])))
			return true;
	return false;
}

static int layer_order(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* The names in a directory, sorted; each and the list are malloc'ed. */
static int layer_names(struct layer *l, int fd, char ***names, size_t *n)
{
	DIR *dir = fdopendir(dup(fd));
	struct dirent *d;
	int rc = dir ? 0 : layer_fail(l, "open");

	while (dir && !rc && (d = readdir(dir))) {
		char **v;

		if (!strcmp(d->d_name, ".") || !strcmp(d->d_name, ".."))
			continue;
		v = reallocarray(*names, *n + 1, sizeof(*v));
		if (v)
			*names = v;
		if (!v || !(v[*n] = strdup(d->d_name)))
			rc = err_errno(l->e, ENOMEM, "read a directory");
		else
			++*n;
	}
	if (dir)
		closedir(dir);
	qsort(*names, *n, sizeof(**names), layer_order);
	return rc;
}

static int layer_directory(struct layer *l, int parent, const char *name, unsigned depth);

/* One name of a directory, l->path being its path of @at bytes before the name. */
static int layer_one(struct layer *l, int dir, size_t at, const char *name, unsigned depth)
{
	struct stat st;

	if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW))
		return layer_fail(l, "look at");
	if (layer_is_left_out(l->path))
		return 0;
	switch (st.st_mode & S_IFMT) {
	case S_IFDIR:
		return layer_directory(l, dir, name, depth + 1);
	case S_IFREG:
		return layer_regular(l, dir, name);
	case S_IFLNK:
		return layer_symlink(l, dir, name, &st);
	case S_IFCHR:
		if (!st.st_rdev)
			return layer_marker(l, at, ".wh.", name);
		return layer_entry(l, &st, '3', NULL);
	case S_IFBLK:
		return layer_entry(l, &st, '4', NULL);
	case S_IFIFO:
		return layer_entry(l, &st, '6', NULL);
	default: /* a socket, which nobody serves any more */
		return 0;
	}
}

/* The directory l->path and all in it. */
static int layer_directory(struct layer *l, int parent, const char *name, unsigned depth)
{
	auto_close int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	size_t len = strlen(l->path), at, n = 0;
	char **names = NULL;
	bool opaque = false;
	struct stat st;
	int rc;

	if (fd < 0 || fstat(fd, &st))
		return layer_fail(l, "open");
	if (depth > LAYER_DEPTH_MAX)
		return err_set(l->e, ELOOP, "'%.200s' is nested too deeply", l->path);
	at = len;
	if (depth) { /* the root is the image's */
		rc = layer_xattrs(l, fd, &opaque);
		l->path[at++] = '/';
		l->path[at] = '\0';
		if (!rc)
			rc = layer_entry(l, &st, '5', NULL);
		if (!rc && opaque)
			rc = layer_marker(l, at, ".wh.", ".wh..opq");
		if (rc)
			return rc;
	}
	rc = layer_names(l, fd, &names, &n);
	for (size_t i = 0; i < n; i++) {
		if (!rc && at + strlen(names[i]) + 2 > sizeof(l->path))
			rc = err_set(l->e, ENAMETOOLONG, "a path is too long: '%.200s'", l->path);
		if (!rc) {
			strcpy(l->path + at, names[i]);
			rc = layer_one(l, fd, at, names[i], depth);
		}
		free(names[i]);
	}
	free(names);
	l->path[len] = '\0';
	return rc;
}

int layer_pack(int upper, int out, struct err *e)
{
	static const char end[2 * LAYER_BLOCK];
	struct layer l = { .out = out, .copy = malloc(LAYER_COPY), .pax = BUF_INIT, .e = e };
	int rc = l.copy ? layer_directory(&l, upper, ".", 0)
			: err_errno(e, ENOMEM, "write the layer");

	if (!rc)
		rc = layer_write(&l, end, sizeof(end));
	while (l.links) {
		struct layer_link *x = *(struct layer_link **)l.links;

		tdelete(x, &l.links, layer_link_order);
		free(x);
	}
	buf_fini(&l.pax);
	free(l.copy);
	return rc;
}

int layer_main(void)
{
	auto_close int upper = -1;
	struct err e = ERR_INIT;
	char dev[64];
	int rc;

	sync();
	rc = root_find_disk("upper", dev, sizeof(dev), &e);
	if (!rc && (unshare(CLONE_NEWNS) || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) ||
		    mount(dev, LAYER_MOUNT, "ext4", 0, NULL)))
		rc = err_errno(&e, errno, "mount the disk again (only root can)");
	if (!rc) {
		upper = open(LAYER_MOUNT "/upper", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		rc = upper < 0 ? err_errno(&e, errno, "open the disk") : 0;
	}
	if (!rc)
		rc = layer_pack(upper, STDOUT_FILENO, &e);
	if (rc)
		fprintf(stderr, "layer: %s\n", err_text(&e));
	return rc ? 1 : 0;
}
