/* SPDX-License-Identifier: Apache-2.0 */
/* Taking images out of the store, and files that no image needs. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "image/chain.h"
#include "image/store_write_internal.h"

#define STORE_INDEX_DEPTH 4u /* of indexes in indexes */

/* Names of files that some image needs, sorted; both blobs' and root images' hex digits. */
struct store_marks {
	char **names;
	size_t n, cap;
	bool failed;
};

static void store_mark(struct store_marks *m, const char *digest)
{
	if (m->n == m->cap) {
		size_t want = m->cap ? 2 * m->cap : 256;
		char **p = reallocarray(m->names, want, sizeof(*p));

		if (!p) {
			m->failed = true;
			return;
		}
		m->names = p;
		m->cap = want;
	}
	m->names[m->n] = strdup(digest + strlen("sha256:"));
	m->failed |= !m->names[m->n];
	m->n += m->names[m->n] != NULL;
}

static void store_mark_manifest(const struct store *s, const struct descriptor *d,
				struct store_marks *marks)
{
	auto_free char *doc = NULL;
	struct image_config c;
	char chain[DIGEST_SIZE];
	struct manifest m;
	size_t len;

	if (store_read_blob(s, d, &doc, &len, NULL) || manifest_parse(doc, len, &m, NULL))
		return;
	store_mark(marks, m.config.digest);
	for (size_t i = 0; i < m.n_layers; i++)
		store_mark(marks, m.layers[i].digest);
	free(take_ptr(&doc));
	if (store_read_blob(s, &m.config, &doc, &len, NULL) == 0 &&
	    image_config_parse(doc, len, &c, NULL) == 0) {
		if (c.n_diff_ids) {
			chain_of(c.diff_ids, c.n_diff_ids, chain);
			store_mark(marks, chain);
		}
		image_config_fini(&c);
	}
	manifest_fini(&m);
}

/* An image that we cannot run, or half of which is missing, keeps what is there of it. */
static void store_mark_image(const struct store *s, const struct descriptor *d, unsigned depth,
			     struct store_marks *marks)
{
	auto_free char *doc = NULL;
	struct index x;
	size_t len;

	store_mark(marks, d->digest);
	if (!manifest_is_index(d->media_type)) {
		store_mark_manifest(s, d, marks);
		return;
	}
	if (depth == STORE_INDEX_DEPTH || store_read_blob(s, d, &doc, &len, NULL) ||
	    index_parse(doc, len, &x, NULL))
		return;
	for (size_t i = 0; i < x.n; i++)
		store_mark_image(s, &x.entries[i].target, depth + 1, marks);
	index_fini(&x);
}

static int store_mark_order(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static void store_marks_sort(struct store_marks *m)
{
	if (m->n)
		qsort(m->names, m->n, sizeof(*m->names), store_mark_order);
}

static bool store_marked(const struct store_marks *m, const char *name)
{
	char hex[65], *key = hex;

	snprintf(hex, sizeof(hex), "%.64s", name);
	return bsearch(&key, m->names, m->n, sizeof(*m->names), store_mark_order);
}

static void store_marks_fini(struct store_marks *m)
{
	while (m->n)
		free(m->names[--m->n]);
	free(m->names);
}

/*
 * A root image that a sandbox has is locked by it (rootimage_open()).  What is unlinked
 * while we hold the lock, nobody opens any more.
 */
static bool store_sweep_one(int dir, const char *name, uint64_t *bytes)
{
	auto_close int fd = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0 || flock(fd, LOCK_EX | LOCK_NB) < 0 ||
	    unlinkat(dir, name, 0) < 0)
		return false;
	*bytes += (uint64_t)st.st_blocks * 512;
	return true;
}

/* Removes files of @folder whose first 64 characters are not marked. */
static void store_sweep(struct store_writer *w, const char *folder, const struct store_marks *m,
			uint64_t *bytes)
{
	int fd = openat(w->store->dir, folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *list = fd < 0 ? NULL : fdopendir(fd);
	const struct dirent *d;

	if (!list) {
		close_fd(&fd);
		return;
	}
	while ((d = readdir(list))) {
		if (d->d_name[0] != '.' && !store_marked(m, d->d_name))
			store_sweep_one(dirfd(list), d->d_name, bytes);
	}
	closedir(list);
}

/*
 * Collects what no image needs.  Only with the lock to itself: a writer's blobs are
 * there before its image is in the index.
 */
void store_collect(struct store_writer *w, uint64_t *bytes)
{
	struct store_marks m = { .n = 0 };
	struct index x;

	if (flock(w->lock, LOCK_EX | LOCK_NB) < 0) {
		/* A change of lock that fails has given the old one up. */
		store_flock(w->lock, LOCK_SH);
		return;
	}
	if (store_read_index(w->store, &x, NULL) == 0) {
		for (size_t i = 0; i < x.n; i++)
			store_mark_image(w->store, &x.entries[i].target, 0, &m);
		index_fini(&x);
		if (!m.failed) {
			store_marks_sort(&m);
			store_sweep(w, "blobs/sha256", &m, bytes);
			store_sweep(w, "rootfs", &m, bytes);
		}
	}
	store_marks_fini(&m);
	store_flock(w->lock, LOCK_SH);
}

/* The chain of an image of ours; false = it cannot be told, then nobody runs it. */
static bool store_chain(const struct store *s, const struct descriptor *d, char chain[DIGEST_SIZE])
{
	struct descriptor found;
	struct image_config c;
	struct manifest m;

	if (store_load(s, d, &found, &m, &c, NULL))
		return false;
	chain_of(c.diff_ids, c.n_diff_ids, chain);
	manifest_fini(&m);
	image_config_fini(&c);
	return true;
}

/* Does a sandbox have the root image of this chain now? */
static bool store_chain_used(const struct store *s, const char chain[DIGEST_SIZE])
{
	char path[STORE_BLOB_PATH_MAX];

	snprintf(path, sizeof(path), "rootfs/%.64s.ext4", chain + strlen("sha256:"));
	return rootimage_in_use(s->dir, path);
}

static bool store_entry_is(const struct index_entry *en, const char *name)
{
	return !strcmp(en->name, name) || !strcmp(en->target.digest, name);
}

/* Would the image be gone with this entry, while a sandbox runs it? */
static bool store_entry_used(struct store_writer *w, const struct index *x, size_t i,
			     const char *name)
{
	char chain[DIGEST_SIZE], other[DIGEST_SIZE];

	if (!store_chain(w->store, &x->entries[i].target, chain) ||
	    !store_chain_used(w->store, chain))
		return false;
	for (size_t k = 0; k < x->n; k++)
		if (!store_entry_is(&x->entries[k], name) &&
		    store_chain(w->store, &x->entries[k].target, other) && !strcmp(chain, other))
			return false;
	return true;
}

int store_remove(struct store_writer *w, const char *name, bool force, struct err *e)
{
	auto_close int lock = -1;
	uint64_t bytes = 0;
	bool found = false;
	struct index x;
	int rc = store_lock_index(w, &lock, e);

	if (!rc)
		rc = store_read_index(w->store, &x, e);
	if (rc)
		return rc;
	for (size_t i = x.n; !rc && i-- > 0;) {
		if (!store_entry_is(&x.entries[i], name))
			continue;
		found = true;
		if (!force && store_entry_used(w, &x, i, name))
			rc = err_set(
				e, EBUSY,
				"the image %s is in use by a sandbox (--force takes its name away "
				"all the same)",
				name);
		else
			store_drop_entry(&x, i);
	}
	if (!rc)
		rc = found ? store_write_index(w, &x, e)
			   : err_set(e, ENOENT, "there is no image '%s'", name);
	index_fini(&x);
	close_fd(&lock);
	if (!rc)
		store_collect(w, &bytes);
	return rc;
}

int store_prune(struct store_writer *w, uint64_t *bytes, struct err *e)
{
	(void)e;
	*bytes = store_clean_partials(w, 0);
	store_collect(w, bytes);
	return 0;
}

/* ---- what that would free ---- */

static void store_count(const struct store *s, const char *folder, const struct store_marks *m,
			uint64_t *bytes)
{
	int fd = openat(s->dir, folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *list = fd < 0 ? NULL : fdopendir(fd);
	const struct dirent *d;
	struct stat st;

	if (!list) {
		close_fd(&fd);
		return;
	}
	while ((d = readdir(list)))
		if (d->d_name[0] != '.' && !store_marked(m, d->d_name) &&
		    fstatat(dirfd(list), d->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
		    S_ISREG(st.st_mode) && !rootimage_in_use(dirfd(list), d->d_name))
			*bytes += (uint64_t)st.st_blocks * 512;
	closedir(list);
}

int store_prunable(const struct store *s, bool all, uint64_t *bytes, struct err *e)
{
	struct store_marks m = { .n = 0 }, none = { .n = 0 };
	char chain[DIGEST_SIZE];
	struct index x;
	int rc;

	*bytes = 0;
	if (s->dir < 0)
		return 0;
	rc = store_read_index(s, &x, e);
	if (rc)
		return rc;
	for (size_t i = 0; i < x.n; i++)
		if (!all ||
		    (store_chain(s, &x.entries[i].target, chain) && store_chain_used(s, chain)))
			store_mark_image(s, &x.entries[i].target, 0, &m);
	index_fini(&x);
	if (m.failed) {
		rc = err_errno(e, ENOMEM, "look through the image store");
	} else {
		store_marks_sort(&m);
		store_count(s, "blobs/sha256", &m, bytes);
		store_count(s, "rootfs", &m, bytes);
		store_count(s, "partial", &none, bytes);
	}
	store_marks_fini(&m);
	return rc;
}
