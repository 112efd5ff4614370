/* SPDX-License-Identifier: Apache-2.0 */
/* Reading the store; see store.h. Linked into msb: no archive or crypto library here. */
#include "image/store_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "base/mem.h"
#include "image/chain.h"

int store_open(const char *home, struct store **out, struct err *e)
{
	struct store *s = calloc(1, sizeof(*s));

	if (!s || asprintf(&s->path, "%s/images", home) < 0) {
		free(s);
		return err_errno(e, ENOMEM, "open the image store");
	}
	s->dir = open(s->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (s->dir < 0 && errno != ENOENT) {
		int rc = err_errno(e, errno, "open the image store %s", s->path);

		store_close(s);
		return rc;
	}
	*out = s;
	return 0;
}

void store_close(struct store *s)
{
	if (!s)
		return;
	close_fd(&s->dir);
	free(s->path);
	free(s);
}

int store_read_doc(const struct store *s, const char *name, char **out, size_t *len, struct err *e)
{
	auto_close int fd =
		s->dir < 0 ? -1 : openat(s->dir, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	auto_free char *p = NULL;
	struct stat st;
	size_t n = 0;

	if (fd < 0)
		return s->dir < 0 || errno == ENOENT
			       ? -ENOENT
			       : err_errno(e, errno, "read %s/%s", s->path, name);
	if (fstat(fd, &st) < 0)
		return err_errno(e, errno, "read %s/%s", s->path, name);
	if (!S_ISREG(st.st_mode) || st.st_size > (off_t)MANIFEST_DOC_MAX)
		return err_set(e, EINVAL, "%s/%s: not a file of at most %u MiB", s->path, name,
			       MANIFEST_DOC_MAX >> 20);
	p = malloc((size_t)st.st_size + 1);
	if (!p)
		return err_errno(e, ENOMEM, "read %s/%s", s->path, name);
	while (n < (size_t)st.st_size) {
		ssize_t k = read(fd, p + n, (size_t)st.st_size - n);

		if (k < 0 && errno == EINTR)
			continue;
		if (k < 0)
			return err_errno(e, errno, "read %s/%s", s->path, name);
		if (!k)
			break;
		n += (size_t)k;
	}
	p[n] = '\0';
	*out = take_ptr(&p);
	*len = n;
	return 0;
}

int store_read_index(const struct store *s, struct index *out, struct err *e)
{
	auto_free char *doc = NULL;
	size_t len;
	int rc = store_read_doc(s, "index.json", &doc, &len, e);

	if (rc == -ENOENT) {
		*out = (struct index){ .n = 0 };
		return 0;
	}
	if (!rc)
		rc = index_parse(doc, len, out, e);
	if (rc)
		err_wrap(e, "image store %s", s->path);
	return rc;
}

void store_blob_path(const char *digest, char to[STORE_BLOB_PATH_MAX])
{
	snprintf(to, STORE_BLOB_PATH_MAX, "blobs/sha256/%.64s", digest + strlen("sha256:"));
}

int store_read_blob(const struct store *s, const struct descriptor *d, char **out, size_t *len,
		    struct err *e)
{
	char path[STORE_BLOB_PATH_MAX];
	char *doc;
	size_t n;
	int rc;

	store_blob_path(d->digest, path);
	rc = store_read_doc(s, path, &doc, &n, e);
	if (rc == -ENOENT)
		return err_set(e, ENOENT, "the image store %s lacks the blob %s", s->path,
			       d->digest);
	if (rc)
		return rc;
	if (n != d->size) {
		free(doc);
		return err_set(e, EUCLEAN, "%s/%s is damaged: it has %zu bytes, not %llu", s->path,
			       path, n, (unsigned long long)d->size);
	}
	*out = doc;
	*len = n;
	return 0;
}

bool store_has_blob(const struct store *s, const struct descriptor *d)
{
	struct descriptor have = *d;

	return store_describe(s, &have, NULL) == 0 && have.size == d->size;
}

int store_describe(const struct store *s, struct descriptor *d, struct err *e)
{
	char path[STORE_BLOB_PATH_MAX];
	struct stat st;

	store_blob_path(d->digest, path);
	if (s->dir < 0 || fstatat(s->dir, path, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return err_set(e, ENOENT, "the image store %s lacks the blob %s", s->path,
			       d->digest);
	d->size = (uint64_t)st.st_size;
	return 0;
}

const char *store_arch(void)
{
	struct utsname u;

	if (uname(&u) == 0 && !strcmp(u.machine, "aarch64"))
		return "arm64";
	return "amd64";
}

/* Of an index of several platforms, the manifest for this one. */
static int store_pick(const struct store *s, const struct descriptor *d, struct descriptor *found,
		      struct err *e)
{
	auto_free char *doc = NULL;
	const char *arch = store_arch();
	const struct index_entry *en;
	struct index x;
	size_t len;
	int rc = store_read_blob(s, d, &doc, &len, e);

	if (!rc)
		rc = index_parse(doc, len, &x, e);
	if (rc)
		return rc;
	en = index_pick(&x, "linux", arch, "");
	if (en)
		*found = en->target;
	else
		rc = -ENOENT;
	index_fini(&x);
	return rc ? err_set(e, EINVAL, "the image has no variant for linux/%s", arch) : 0;
}

int store_load(const struct store *s, const struct descriptor *d, struct descriptor *found,
	       struct manifest *m, struct image_config *c, struct err *e)
{
	auto_free char *mdoc = NULL;
	auto_free char *cdoc = NULL;
	size_t len;
	int rc = 0;

	*found = *d;
	if (manifest_is_index(d->media_type))
		rc = store_pick(s, d, found, e);
	else if (!manifest_is_manifest(d->media_type))
		rc = err_set(e, EINVAL, "%s is no image but '%.100s'", d->digest, d->media_type);
	if (!rc)
		rc = store_read_blob(s, found, &mdoc, &len, e);
	if (!rc)
		rc = manifest_parse(mdoc, len, m, e);
	if (rc)
		return rc;
	rc = store_read_blob(s, &m->config, &cdoc, &len, e);
	if (!rc)
		rc = image_config_parse(cdoc, len, c, e);
	if (!rc && (c->n_diff_ids != m->n_layers || !m->n_layers)) {
		rc = err_set(e, EINVAL, "the image has %zu layers but %zu diff_ids", m->n_layers,
			     c->n_diff_ids);
		image_config_fini(c);
	}
	if (rc)
		manifest_fini(m);
	return rc;
}

static uint64_t store_blob_bytes(const struct descriptor *d, const struct manifest *m)
{
	uint64_t n = d->size + m->config.size;

	for (size_t i = 0; i < m->n_layers; i++)
		n += m->layers[i].size;
	return n;
}

char *store_rootfs_path(const struct store *s, const struct image_config *c)
{
	char chain[DIGEST_SIZE];
	char *path;

	chain_of(c->diff_ids, c->n_diff_ids, chain);
	if (asprintf(&path, "%s/rootfs/%s.ext4", s->path, chain + strlen("sha256:")) < 0)
		return NULL;
	return path;
}

static int store_make_image(const struct store *s, const struct index_entry *en, struct image **out,
			    struct err *e)
{
	struct image *img = calloc(1, sizeof(*img));
	struct descriptor found;
	struct manifest m;
	int rc;

	if (!img)
		return err_errno(e, ENOMEM, "open the image");
	rc = store_load(s, &en->target, &found, &m, &img->config, e);
	if (rc) {
		free(img);
		return rc;
	}
	memcpy(img->reference, en->name, sizeof(img->reference));
	memcpy(img->digest, found.digest, sizeof(img->digest));
	memcpy(img->config_digest, m.config.digest, sizeof(img->config_digest));
	img->size = store_blob_bytes(&found, &m);
	img->rootfs = store_rootfs_path(s, &img->config);
	manifest_fini(&m);
	if (!img->rootfs) {
		image_free(img);
		return err_errno(e, ENOMEM, "open the image");
	}
	*out = img;
	return 0;
}

void image_free(struct image *img)
{
	if (!img)
		return;
	image_config_fini(&img->config);
	free(img->rootfs);
	free(img);
}

static const struct index_entry *store_match(const struct index *x, const char *name,
					     const char *digest)
{
	for (size_t i = 0; i < x->n; i++) {
		const struct index_entry *en = &x->entries[i];

		/* A registry's digest may be that of the index which lists the image. */
		if (digest[0] && strcmp(en->target.digest, digest) && strcmp(en->source, digest))
			continue;
		if (!name || !strcmp(en->name, name))
			return en;
	}
	return NULL;
}

int store_resolve(struct store *s, const char *name, struct image **out, struct err *e)
{
	char names[REFERENCE_CANDIDATES][REFERENCE_MAX];
	const struct index_entry *en = NULL;
	struct reference ref;
	struct index x;
	unsigned n;
	int rc = reference_parse(name, strlen(name), &ref, e);

	if (!rc)
		rc = store_read_index(s, &x, e);
	if (rc)
		return rc;
	n = reference_candidates(&ref, names);
	/* With a digest the tag is only a remark. */
	if (ref.digest[0])
		en = store_match(&x, NULL, ref.digest);
	for (unsigned i = 0; !ref.digest[0] && !en && i < n; i++)
		en = store_match(&x, names[i], "");
	rc = en ? store_make_image(s, en, out, e)
		: err_set(e, ENOENT, "there is no image '%s' in %s", name, s->path);
	if (rc && en)
		err_wrap(e, "image %s", name);
	index_fini(&x);
	return rc;
}

int store_documents(struct store *s, const char *name, struct manifest *m, char **config,
		    size_t *len, struct err *e)
{
	struct descriptor d = { .media_type = MEDIA_MANIFEST };
	struct image_config c;
	struct image *img;
	int rc = store_resolve(s, name, &img, e);

	if (rc)
		return rc;
	memcpy(d.digest, img->digest, sizeof(d.digest));
	image_free(img);
	rc = store_describe(s, &d, e);
	if (!rc)
		rc = store_load(s, &d, &d, m, &c, e);
	if (rc)
		return rc;
	image_config_fini(&c);
	rc = store_read_blob(s, &m->config, config, len, e);
	if (rc)
		manifest_fini(m);
	return rc;
}

static int store_entry_order(const void *a, const void *b)
{
	const struct store_entry *x = a, *y = b;

	return strcmp(x->name, y->name);
}

int store_list(struct store *s, struct store_entry **out, size_t *n, struct err *e)
{
	struct store_entry *v;
	struct index x;
	int rc = store_read_index(s, &x, e);

	if (rc)
		return rc;
	v = calloc(x.n + 1, sizeof(*v));
	if (!v) {
		index_fini(&x);
		return err_errno(e, ENOMEM, "list the images");
	}
	for (size_t i = 0; i < x.n; i++) {
		struct image *img;
		struct stat st;

		memcpy(v[i].name, x.entries[i].name, sizeof(v[i].name));
		memcpy(v[i].digest, x.entries[i].target.digest, sizeof(v[i].digest));
		memcpy(v[i].created, x.entries[i].created, sizeof(v[i].created));
		if (store_make_image(s, &x.entries[i], &img, NULL))
			continue;
		v[i].size = img->size;
		if (stat(img->rootfs, &st) == 0) {
			v[i].rootfs_bytes = (uint64_t)st.st_blocks * 512;
			v[i].used = st.st_atim.tv_sec;
			v[i].in_use = rootimage_in_use(AT_FDCWD, img->rootfs);
		}
		image_free(img);
	}
	qsort(v, x.n, sizeof(*v), store_entry_order);
	*out = v;
	*n = x.n;
	index_fini(&x);
	return 0;
}

bool rootimage_in_use(int dir, const char *path)
{
	auto_close int fd = openat(dir, path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);

	return fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) < 0 && errno == EWOULDBLOCK;
}

void store_touch(const struct image *img)
{
	const struct timespec times[] = { { .tv_nsec = UTIME_NOW }, { .tv_nsec = UTIME_OMIT } };

	(void)utimensat(AT_FDCWD, img->rootfs, times, 0);
}

int rootimage_open(const char *path, int *out, struct err *e)
{
	const char *name = strrchr(path, '/'), *again = "msb image prepare IMAGE";
	auto_close int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct err why = ERR_INIT;
	struct stat st;
	uint8_t id[16];
	int rc;

	name = name ? name + 1 : path;
	if (fd < 0)
		return err_errno(e, errno, "open the root image %s (`%s` writes it)", path, again);
	for (size_t i = 0; i < sizeof(id); i++)
		if (sscanf(name + 2 * i, "%2hhx", &id[i]) != 1)
			return err_set(e, EINVAL, "%s is not named as a root image", path);
	rc = rootimage_check(fd, id, &why);
	if (rc)
		return err_set(e, -rc, "the root image %s %s (`%s` writes it again)", path,
			       err_text(&why), again);
	/* Who removes it holds it exclusively; who has it cannot lose it. */
	while (flock(fd, LOCK_SH) < 0 && errno == EINTR)
		;
	if (fstat(fd, &st) == 0 && !st.st_nlink)
		return err_set(e, ENOENT, "the root image %s was just removed", path);
	*out = take_fd(&fd);
	return 0;
}

int recipe_find(const char *dir, const char *name, char **path)
{
	const char *recipe;
	struct reference ref;
	char *p;

	if (reference_parse(name, strlen(name), &ref, NULL))
		return -EINVAL;
	recipe = reference_recipe(&ref);
	if (!recipe)
		return -ENOENT;
	if (asprintf(&p, "%s/%s.recipe", dir, recipe) < 0)
		return -ENOMEM;
	if (access(p, R_OK) < 0) {
		free(p);
		return -ENOENT;
	}
	*path = p;
	return 0;
}
