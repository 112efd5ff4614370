/* SPDX-License-Identifier: Apache-2.0 */
#include "image/store_write.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "codec/sha256.h"
#include "image/store_write_internal.h"

#define LAYOUT_DOC "{\"imageLayoutVersion\":\"1.0.0\"}"

struct store *store_writer_store(struct store_writer *w)
{
	return w->store;
}

int store_fail(const struct store_writer *w, struct err *e, const char *what)
{
	int code = errno;

	if (code == ENOSPC || code == EDQUOT)
		return err_set(e, code, "%s: no space left for the image store %s", what,
			       w->store->path);
	return err_errno(e, code, "%s in the image store %s", what, w->store->path);
}

int store_flock(int fd, int op)
{
	int rc;

	do
		rc = flock(fd, op);
	while (rc < 0 && errno == EINTR);
	return rc;
}

static int store_write_all(int fd, const char *p, size_t n)
{
	while (n) {
		ssize_t k = write(fd, p, n);

		if (k < 0 && errno == EINTR)
			continue;
		if (k < 0)
			return -1;
		p += k;
		n -= (size_t)k;
	}
	return 0;
}

/* ---- temporaries ---- */

static int store_temp_make(struct store_writer *w, struct store_temp *t, struct err *e)
{
	/* Somebody who cleans up may take the name away before it is locked: then again. */
	for (;;) {
		struct stat st;
		uint32_t r;

		if (getrandom(&r, sizeof(r), 0) != (ssize_t)sizeof(r))
			return store_fail(w, e, "getrandom");
		snprintf(t->name, sizeof(t->name), "tmp/%d-%u-%08x", getpid(), w->temps++, r);
		if (t->dir) {
			if (mkdirat(w->store->dir, t->name, 0700) < 0)
				return store_fail(w, e, "make a folder");
			t->fd = openat(w->store->dir, t->name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
			if (t->fd < 0 && errno == ENOENT)
				continue;
		} else {
			t->fd = openat(w->store->dir, t->name,
				       O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
		}
		if (t->fd < 0)
			return store_fail(w, e, "make a file");
		if (store_flock(t->fd, LOCK_EX) < 0 || fstat(t->fd, &st) < 0) {
			close_fd(&t->fd);
			return store_fail(w, e, "lock a file");
		}
		if (st.st_nlink) {
			t->w = w;
			return 0;
		}
		close_fd(&t->fd);
	}
}

int store_temp_file(struct store_writer *w, struct store_temp *out, struct err *e)
{
	*out = (struct store_temp){ .fd = -1, .dir = false };
	return store_temp_make(w, out, e);
}

int store_temp_dir(struct store_writer *w, struct store_temp *out, struct err *e)
{
	*out = (struct store_temp){ .fd = -1, .dir = true };
	return store_temp_make(w, out, e);
}

char *store_temp_path(const struct store_temp *t)
{
	char *p;

	return asprintf(&p, "%s/%s", t->w->store->path, t->name) < 0 ? NULL : p;
}

/*
 * Removes a file or a folder with all that is in it.  Names come from archives and
 * packages: nothing is followed, and depth is bounded by what a path can hold.
 */
static void store_remove_at(int dir, const char *name, unsigned depth)
{
	const struct dirent *d;
	DIR *list;
	int fd;

	if (unlinkat(dir, name, 0) == 0 || (errno != EISDIR && errno != EPERM))
		return;
	fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return;
	/* A folder without write permission can still be one of ours. */
	(void)fchmod(fd, 0700);
	list = fdopendir(fd);
	if (!list) {
		close(fd);
		return;
	}
	while ((d = readdir(list)))
		if (strcmp(d->d_name, ".") && strcmp(d->d_name, "..") && depth < 512)
			store_remove_at(dirfd(list), d->d_name, depth + 1);
	closedir(list);
	unlinkat(dir, name, AT_REMOVEDIR);
}

void store_temp_fini(struct store_temp *t)
{
	if (t->w)
		store_remove_at(t->w->store->dir, t->name, 0);
	close_fd(&t->fd);
	t->w = NULL;
}

/* What a dead writer left has no lock on it. */
static void store_clean_temps(struct store_writer *w)
{
	int fd = openat(w->store->dir, "tmp", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *list = fd < 0 ? NULL : fdopendir(fd);
	const struct dirent *d;

	if (!list) {
		close_fd(&fd);
		return;
	}
	while ((d = readdir(list))) {
		auto_close int one = -1;

		if (d->d_name[0] == '.')
			continue;
		one = openat(dirfd(list), d->d_name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
		if (one >= 0 && flock(one, LOCK_EX | LOCK_NB) == 0)
			store_remove_at(dirfd(list), d->d_name, 0);
	}
	closedir(list);
}

/* ---- commits ---- */

static int store_sync_dir(struct store_writer *w, const char *name)
{
	auto_close int fd = openat(w->store->dir, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	return fd < 0 ? -1 : fsync(fd);
}

/* Syncs and renames; the folder is synced by the caller. */
static int store_rename(struct store_temp *t, const char *to, struct err *e)
{
	struct store_writer *w = t->w;

	if (fsync(t->fd) < 0)
		return store_fail(w, e, "write a file");
	if (renameat(w->store->dir, t->name, w->store->dir, to) < 0)
		return store_fail(w, e, "name a file");
	t->w = NULL;
	return 0;
}

static int store_commit(struct store_temp *t, const char *to, const char *folder, struct err *e)
{
	struct store_writer *w = t->w;
	int rc = store_rename(t, to, e);

	if (rc)
		return rc;
	return store_sync_dir(w, folder) < 0 ? store_fail(w, e, "write a folder") : 0;
}

int store_name_blob(struct store_temp *t, const char digest[DIGEST_SIZE], struct err *e)
{
	char path[STORE_BLOB_PATH_MAX];
	struct stat have, want;

	store_blob_path(digest, path);
	/* The same bytes are there: only a file that was damaged later is replaced. */
	if (fstatat(t->w->store->dir, path, &have, 0) == 0 && fstat(t->fd, &want) == 0 &&
	    have.st_size == want.st_size) {
		store_temp_fini(t);
		return 0;
	}
	return store_rename(t, path, e);
}

int store_sync_blobs(struct store_writer *w, struct err *e)
{
	return store_sync_dir(w, "blobs/sha256") < 0 ? store_fail(w, e, "write a folder") : 0;
}

int store_commit_blob(struct store_temp *t, const char digest[DIGEST_SIZE], struct err *e)
{
	struct store_writer *w = t->w;
	int rc = store_name_blob(t, digest, e);

	return rc ? rc : store_sync_blobs(w, e);
}

int store_commit_rootfs(struct store_temp *t, const char chain[DIGEST_SIZE], struct err *e)
{
	char path[STORE_BLOB_PATH_MAX];

	snprintf(path, sizeof(path), "rootfs/%.64s.ext4", chain + strlen("sha256:"));
	return store_commit(t, path, "rootfs", e);
}

int store_put_doc(struct store_writer *w, const char *doc, const char *media_type,
		  struct descriptor *out, struct err *e)
{
	struct store_temp t = STORE_TEMP_INIT;
	uint8_t digest[SHA256_BYTES];
	int rc = store_temp_file(w, &t, e);

	if (rc)
		return rc;
	*out = (struct descriptor){ .size = strlen(doc) };
	snprintf(out->media_type, sizeof(out->media_type), "%s", media_type);
	sha256(doc, strlen(doc), digest);
	sha256_text(digest, out->digest);
	if (store_write_all(t.fd, doc, strlen(doc)) < 0)
		rc = store_fail(w, e, "write a file");
	else
		rc = store_commit_blob(&t, out->digest, e);
	store_temp_fini(&t);
	return rc;
}

/* Replaces a document of the store as a whole. */
static int store_replace_doc(struct store_writer *w, const char *name, const char *doc,
			     struct err *e)
{
	struct store_temp t = STORE_TEMP_INIT;
	int rc = store_temp_file(w, &t, e);

	if (rc)
		return rc;
	if (store_write_all(t.fd, doc, strlen(doc)) < 0)
		rc = store_fail(w, e, "write a file");
	else
		rc = store_commit(&t, name, ".", e);
	store_temp_fini(&t);
	return rc;
}

/* ---- the index ---- */

int store_lock_index(struct store_writer *w, int *out, struct err *e)
{
	auto_close int fd = openat(w->store->dir, "index.lock", O_RDWR | O_CREAT | O_CLOEXEC, 0644);

	if (fd < 0 || store_flock(fd, LOCK_EX) < 0)
		return store_fail(w, e, "lock the index");
	*out = take_fd(&fd);
	return 0;
}

int store_write_index(struct store_writer *w, const struct index *x, struct err *e)
{
	auto_free char *doc = index_format(x);

	if (!doc)
		return err_errno(e, ENOMEM, "write the index of images");
	return store_replace_doc(w, "index.json", doc, e);
}

void store_drop_entry(struct index *x, size_t i)
{
	free(x->entries[i].raw);
	memmove(&x->entries[i], &x->entries[i + 1], (x->n - i - 1) * sizeof(*x->entries));
	x->n--;
}

int store_set_name(struct store_writer *w, const struct descriptor *manifest, const char *name,
		   const char *created, const char *source, struct err *e)
{
	struct index_entry new = { .target = *manifest };
	auto_close int lock = -1;
	struct index_entry *p;
	struct index x;
	int rc = store_lock_index(w, &lock, e);

	if (!rc)
		rc = store_read_index(w->store, &x, e);
	if (rc)
		return rc;
	snprintf(new.name, sizeof(new.name), "%s", name);
	snprintf(new.created, sizeof(new.created), "%s", created);
	snprintf(new.source, sizeof(new.source), "%s", source);
	for (size_t i = x.n; i-- > 0;)
		if (!strcmp(x.entries[i].name, name)) {
			w->replaced |= strcmp(x.entries[i].target.digest, manifest->digest) != 0;
			store_drop_entry(&x, i);
		}
	p = reallocarray(x.entries, x.n + 1, sizeof(*p));
	if (!p) {
		rc = err_errno(e, ENOMEM, "write the index of images");
	} else {
		x.entries = p;
		p[x.n++] = new;
		rc = store_write_index(w, &x, e);
	}
	index_fini(&x);
	return rc;
}

/* ---- opening ---- */

int store_lock_recipe(struct store_writer *w, const char *recipe, void (*waiting)(const char *),
		      int *out, struct err *e)
{
	auto_close int fd = -1;
	char name[300];

	snprintf(name, sizeof(name), "build-%s.lock", recipe);
	fd = openat(w->store->dir, name, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
	if (fd < 0)
		return store_fail(w, e, "lock the recipe");
	if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
		if (waiting)
			waiting(recipe);
		if (store_flock(fd, LOCK_EX) < 0)
			return store_fail(w, e, "lock the recipe");
	}
	*out = take_fd(&fd);
	return 0;
}

static int store_make_folders(struct store_writer *w, struct err *e)
{
	static const char *const folders[] = { "blobs", "blobs/sha256", "rootfs", "tmp", "partial" };

	for (size_t i = 0; i < ARRAY_SIZE(folders); i++)
		if (mkdirat(w->store->dir, folders[i], 0755) < 0 && errno != EEXIST)
			return store_fail(w, e, "make a folder");
	return 0;
}

/* oci-layout and an empty index.json, so that other tools take it for a layout. */
static int store_make_docs(struct store_writer *w, struct err *e)
{
	struct index none = { .n = 0 };
	auto_close int lock = -1;
	int rc;

	if (faccessat(w->store->dir, "oci-layout", F_OK, 0) == 0 &&
	    faccessat(w->store->dir, "index.json", F_OK, 0) == 0)
		return 0;
	rc = store_lock_index(w, &lock, e);
	if (!rc && faccessat(w->store->dir, "index.json", F_OK, 0) < 0)
		rc = store_write_index(w, &none, e);
	return rc ? rc : store_replace_doc(w, "oci-layout", LAYOUT_DOC, e);
}

static int store_writer_setup(struct store_writer *w, const char *home, struct err *e)
{
	int rc = store_open(home, &w->store, e);

	if (rc)
		return rc;
	if (w->store->dir < 0) {
		if (mkdir(w->store->path, 0755) < 0 && errno != EEXIST)
			return store_fail(w, e, "make it");
		store_close(w->store);
		w->store = NULL;
		rc = store_open(home, &w->store, e);
		if (rc)
			return rc;
	}
	rc = store_make_folders(w, e);
	if (rc)
		return rc;
	w->lock = openat(w->store->dir, "lock", O_RDWR | O_CREAT | O_CLOEXEC, 0644);
	if (w->lock < 0 || store_flock(w->lock, LOCK_SH) < 0)
		return store_fail(w, e, "lock it");
	store_clean_temps(w);
	store_clean_partials(w, STORE_PARTIAL_DAYS * 24 * 3600);
	return store_make_docs(w, e);
}

int store_writer_open(const char *home, struct store_writer **out, struct err *e)
{
	struct store_writer *w = calloc(1, sizeof(*w));
	int rc;

	if (!w)
		return err_errno(e, ENOMEM, "open the image store");
	w->lock = -1;
	rc = store_writer_setup(w, home, e);
	if (rc) {
		store_writer_close(w);
		return rc;
	}
	*out = w;
	return 0;
}

void store_writer_close(struct store_writer *w)
{
	uint64_t bytes = 0;

	if (!w)
		return;
	if (w->replaced)
		store_collect(w, &bytes);
	close_fd(&w->lock);
	store_close(w->store);
	free(w);
}
