/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading an archive of images.  Its files go to temporary files of the store, each hashed
 * on its way; when all are there, the documents among them say which are layers.  A file
 * is known by the digest that it has, never by the name that the archive gives it.
 */
#include "image/load.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/mem.h"
#include "codec/docker_archive.h"
#include "codec/sha256.h"
#include "image/digest.h"
#include "image/progress.h"
#include "image/pull_layers.h"
#include "image/store_internal.h"
#include "image/unpack.h"
#include "sys/file.h"

#define LOAD_FILES_MAX 16384u
#define LOAD_BYTES_MAX (256ull << 30)
#define LOAD_READ (1u << 20)
#define LOAD_LINKS_MAX 8 /* one behind the other */

struct load_file {
	char name[UNPACK_NAME_MAX];
	char link[UNPACK_NAME_MAX]; /* "" = a file */
	char digest[DIGEST_SIZE];
	uint64_t size;
	uint8_t head[4];
	char *doc; /* small ones; NULL = only in @temp */
	struct store_temp temp;
};

struct load {
	struct store_writer *w;
	struct load_file *files;
	size_t n;
	uint64_t bytes;
	void (*loaded)(const char *name, const char *digest);
	const char *name;
};

/* ---- the archive's files ---- */

/* "./a//b" and "a/b" are the same file. */
static void load_normal_name(char *s)
{
	char *to = s;

	while (s[0] == '/' || (s[0] == '.' && s[1] == '/'))
		s += s[0] == '/' ? 1 : 2;
	for (; *s; s++)
		if (s[0] != '/' || (s[1] && s[1] != '/'))
			*to++ = *s;
	*to = '\0';
}

static int load_read_file(struct load *l, struct unpack *u, struct load_file *f, char *buf,
			  struct err *e)
{
	uint8_t sum[DIGEST_BYTES];
	struct digest *sha;
	uint64_t at = 0;
	long n = 0;
	int rc;

	if (f->size > LOAD_BYTES_MAX - l->bytes)
		return err_set(e, EFBIG, "the archive has more than %llu GiB", LOAD_BYTES_MAX >> 30);
	l->bytes += f->size;
	rc = store_temp_file(l->w, &f->temp, e);
	if (!rc)
		rc = digest_create(&sha, e);
	if (rc)
		return rc;
	while (!rc && (n = unpack_read(u, buf, LOAD_READ, e)) > 0) {
		digest_update(sha, buf, (size_t)n);
		for (long i = 0; i < n && at + (uint64_t)i < sizeof(f->head); i++)
			f->head[at + (uint64_t)i] = (uint8_t)buf[i];
		rc = file_write_all(f->temp.fd, buf, (size_t)n);
		if (rc)
			rc = err_errno(e, -rc, "copy the archive to the image store");
		at += (uint64_t)n;
		progress_bytes(l->bytes - f->size + at, 0);
	}
	digest_final(sha, sum);
	digest_destroy(sha);
	sha256_text(sum, f->digest);
	return rc ? rc : n < 0 ? (int)n : 0;
}

static int load_read_doc(struct load_file *f, struct err *e)
{
	if (f->doc)
		return 0;
	if (f->size > MANIFEST_DOC_MAX)
		return err_set(e, EINVAL, "%s: larger than %u MiB", f->name, MANIFEST_DOC_MAX >> 20);
	f->doc = calloc(1, (size_t)f->size + 1);
	if (!f->doc)
		return err_errno(e, ENOMEM, "read %s", f->name);
	if (pread(f->temp.fd, f->doc, (size_t)f->size, 0) != (ssize_t)f->size)
		return err_errno(e, errno, "read %s", f->name);
	return 0;
}

static int load_add_file(struct load *l, const struct unpack_member *m, struct load_file **out,
			 struct err *e)
{
	struct load_file *p;

	if (l->n == LOAD_FILES_MAX)
		return err_set(e, EFBIG, "the archive has more than %u files", LOAD_FILES_MAX);
	p = reallocarray(l->files, l->n + 1, sizeof(*p));
	if (!p)
		return err_errno(e, ENOMEM, "read the archive");
	l->files = p;
	p += l->n++;
	*p = (struct load_file){ .size = m->size, .temp = STORE_TEMP_INIT };
	memcpy(p->name, m->name, sizeof(p->name));
	load_normal_name(p->name);
	if (m->kind == UNPACK_LINK)
		memcpy(p->link, m->text, sizeof(p->link));
	*out = p;
	return 0;
}

static int load_read_all(struct load *l, int fd, struct err *e)
{
	auto_free char *buf = malloc(LOAD_READ);
	struct unpack u = UNPACK_INIT;
	struct unpack_member m;
	struct load_file *f = NULL;
	int rc = buf ? unpack_start(fd, &u, e) : err_errno(e, ENOMEM, "read the archive");

	while (!rc && (rc = unpack_next(&u, &m, e)) == 0) {
		rc = load_add_file(l, &m, &f, e);
		if (!rc && m.kind == UNPACK_FILE)
			rc = load_read_file(l, &u, f, buf, e);
	}
	unpack_stop(&u);
	return rc < 0 ? rc : 0;
}

/* By name, the last one of several; links are followed. */
static struct load_file *load_find(struct load *l, const char *name)
{
	char at[2 * UNPACK_NAME_MAX];

	snprintf(at, sizeof(at), "%s", name);
	for (int depth = 0; depth < LOAD_LINKS_MAX; depth++) {
		struct load_file *f = NULL;
		const char *link, *slash;

		for (size_t i = l->n; i-- > 0 && !f;)
			if (!strcmp(l->files[i].name, at))
				f = &l->files[i];
		if (!f || !f->link[0])
			return f;
		/* docker writes "../<id>/layer.tar"; a hard link is from the top. */
		link = f->link;
		slash = strrchr(f->name, '/');
		if (!strncmp(link, "../", 3) && slash)
			snprintf(at, sizeof(at), "%s", link + 3);
		else if (slash && !strchr(link, '/'))
			snprintf(at, sizeof(at), "%.*s/%s", (int)(slash - f->name), f->name, link);
		else
			snprintf(at, sizeof(at), "%s", link);
		load_normal_name(at);
	}
	return NULL;
}

static struct load_file *load_by_digest(struct load *l, const char *digest)
{
	for (size_t i = 0; i < l->n; i++)
		if (!l->files[i].link[0] && !strcmp(l->files[i].digest, digest))
			return &l->files[i];
	return NULL;
}

static bool load_take(void *ctx, const struct descriptor *d, struct store_temp *out)
{
	struct load_file *f = load_by_digest(ctx, d->digest);

	/* A file that another image of the archive took is in the store by now. */
	if (!f || f->size != d->size || !f->temp.w)
		return false;
	*out = f->temp;
	f->temp = (struct store_temp)STORE_TEMP_INIT;
	return true;
}

/* ---- its images ---- */

/* The name under which an image is kept: as given, with a tag. */
static int load_name(const struct load *l, const char *given, char to[REFERENCE_MAX], struct err *e)
{
	char names[REFERENCE_CANDIDATES][REFERENCE_MAX];
	const char *name = l->name ? l->name : given;
	struct reference ref;
	int rc;

	if (!name[0])
		return err_set(e, EINVAL, "the archive has no name for its image: give --name NAME");
	rc = reference_parse(name, strlen(name), &ref, e);
	if (!rc && !reference_candidates(&ref, names))
		rc = err_set(e, EINVAL, "'%.80s' is no name for an image", name);
	if (!rc)
		memcpy(to, names[0], REFERENCE_MAX);
	return rc;
}

static int load_finish(struct load *l, const struct manifest *m, const struct image_config *c,
		       const char *cdoc, const char *mdoc, char *const *tags, struct err *e)
{
	struct pull_layers job = { .w = l->w, .m = m, .c = c, .take = load_take, .ctx = l };
	struct descriptor d;
	char name[REFERENCE_MAX], created[40];
	time_t now = time(NULL);
	struct tm tm;
	int rc = 0;

	if (!m->n_layers || m->n_layers != c->n_diff_ids)
		return err_set(e, EINVAL, "the image has %zu layers but %zu diff_ids", m->n_layers,
			       c->n_diff_ids);
	/* Before anything is kept: a name that is none. */
	for (char *const *t = tags; !rc && *t; t++)
		rc = load_name(l, *t, name, e);
	if (!rc && !*tags)
		rc = load_name(l, "", name, e);
	if (!rc)
		rc = pull_layers_run(&job, e);
	if (!rc)
		rc = store_put_doc(l->w, cdoc, m->config.media_type, &d, e);
	if (!rc)
		rc = store_put_doc(l->w, mdoc, MEDIA_MANIFEST, &d, e);
	gmtime_r(&now, &tm);
	strftime(created, sizeof(created), "%Y-%m-%dT%H:%M:%SZ", &tm);
	do {
		if (!rc)
			rc = load_name(l, *tags ? *tags : "", name, e);
		if (!rc)
			rc = store_set_name(l->w, &d, name, created, "", e);
		if (!rc && l->loaded)
			l->loaded(name, d.digest);
	} while (!rc && !l->name && *tags && *++tags);
	return rc;
}

/* The document with this digest. */
static int load_doc(struct load *l, const struct descriptor *d, char **out, struct err *e)
{
	struct load_file *f = load_by_digest(l, d->digest);
	int rc;

	if (!f || f->size != d->size)
		return err_set(e, ENOENT, "the archive lacks the blob %.19s", d->digest);
	rc = load_read_doc(f, e);
	*out = f->doc;
	return rc;
}

static int load_oci_manifest(struct load *l, const struct descriptor *d, const char *name,
			     struct err *e)
{
	char *tags[] = { (char *)name, NULL }, *mdoc, *cdoc;
	struct image_config c;
	struct manifest m;
	int rc = load_doc(l, d, &mdoc, e);

	if (!rc)
		rc = manifest_parse(mdoc, (size_t)d->size, &m, e);
	if (rc)
		return rc;
	rc = load_doc(l, &m.config, &cdoc, e);
	if (!rc)
		rc = image_config_parse(cdoc, (size_t)m.config.size, &c, e);
	if (!rc) {
		rc = load_finish(l, &m, &c, cdoc, mdoc, name[0] ? tags : tags + 1, e);
		image_config_fini(&c);
	}
	manifest_fini(&m);
	return rc;
}

/* An entry of index.json, which may be an index of platforms itself. */
static int load_oci_entry(struct load *l, const struct index_entry *en, struct err *e)
{
	const struct index_entry *one;
	struct index x;
	char *doc;
	int rc;

	if (!manifest_is_index(en->target.media_type))
		return load_oci_manifest(l, &en->target,
					 en->image_name[0] ? en->image_name : en->name, e);
	rc = load_doc(l, &en->target, &doc, e);
	if (!rc)
		rc = index_parse(doc, (size_t)en->target.size, &x, e);
	if (rc)
		return rc;
	one = index_pick(&x, "linux", store_arch(), "");
	rc = one ? load_oci_manifest(l, &one->target, en->image_name[0] ? en->image_name : en->name,
				     e)
		 : err_set(e, ENOENT, "the image has no variant for linux/%s", store_arch());
	index_fini(&x);
	return rc;
}

static int load_oci(struct load *l, struct load_file *index, struct err *e)
{
	struct index x;
	int rc = load_read_doc(index, e);

	if (!rc)
		rc = index_parse(index->doc, (size_t)index->size, &x, e);
	if (rc)
		return rc;
	if (!x.n)
		rc = err_set(e, EINVAL, "the archive has no image");
	else if (x.n > 1 && l->name)
		rc = err_set(e, EINVAL, "--name is for an archive of one image; this has %zu", x.n);
	for (size_t i = 0; !rc && i < x.n; i++)
		rc = load_oci_entry(l, &x.entries[i], e);
	index_fini(&x);
	return rc;
}

static const char *load_layer_type(const uint8_t head[4])
{
	if (head[0] == 0x1f && head[1] == 0x8b)
		return MEDIA_LAYER_GZIP;
	return !memcmp(head, "\x28\xb5\x2f\xfd", 4) ? MEDIA_LAYER_ZSTD : MEDIA_LAYER;
}

/* Of `docker save`: there is no manifest, it is made of what the archive has. */
static int load_docker_image(struct load *l, const struct docker_image *im, struct err *e)
{
	struct load_file *config = load_find(l, im->config), *f;
	struct manifest m = { .n_layers = 0 };
	auto_free char *mdoc = NULL;
	struct image_config c;
	int rc;

	if (!config)
		return err_set(e, ENOENT, "the archive lacks the file %.80s", im->config);
	m.layers = calloc(strlist_count(im->layers) + 1, sizeof(*m.layers));
	rc = m.layers ? load_read_doc(config, e) : err_errno(e, ENOMEM, "load the image");
	for (; !rc && im->layers[m.n_layers]; m.n_layers++) {
		f = load_find(l, im->layers[m.n_layers]);
		if (!f) {
			rc = err_set(e, ENOENT, "the archive lacks the file %.80s",
				     im->layers[m.n_layers]);
			break;
		}
		m.layers[m.n_layers].size = f->size;
		memcpy(m.layers[m.n_layers].digest, f->digest, DIGEST_SIZE);
		snprintf(m.layers[m.n_layers].media_type, sizeof(m.layers->media_type), "%s",
			 load_layer_type(f->head));
	}
	if (!rc) {
		m.config.size = config->size;
		memcpy(m.config.digest, config->digest, DIGEST_SIZE);
		snprintf(m.config.media_type, sizeof(m.config.media_type), MEDIA_CONFIG);
		mdoc = manifest_format(&m);
		rc = mdoc ? image_config_parse(config->doc, (size_t)config->size, &c, e)
			  : err_errno(e, ENOMEM, "load the image");
	}
	if (!rc) {
		rc = load_finish(l, &m, &c, config->doc, mdoc, im->tags, e);
		image_config_fini(&c);
	}
	manifest_fini(&m);
	return rc;
}

static int load_docker(struct load *l, struct load_file *list, struct err *e)
{
	struct docker_archive a;
	int rc = load_read_doc(list, e);

	if (!rc)
		rc = docker_archive_parse(list->doc, (size_t)list->size, &a, e);
	if (rc)
		return rc;
	if (!a.n)
		rc = err_set(e, EINVAL, "the archive has no image");
	else if (a.n > 1 && l->name)
		rc = err_set(e, EINVAL, "--name is for an archive of one image; this has %zu", a.n);
	for (size_t i = 0; !rc && i < a.n; i++)
		rc = load_docker_image(l, &a.images[i], e);
	docker_archive_fini(&a);
	return rc;
}

int load_archive(struct store_writer *w, int fd, const char *name,
		 void (*loaded)(const char *name, const char *digest), struct err *e)
{
	struct load l = { .w = w, .loaded = loaded, .name = name };
	struct load_file *doc;
	int rc;

	pull_more_files();
	progress_step("reading the archive");
	rc = load_read_all(&l, fd, e);
	progress_end();
	if (!rc && (doc = load_find(&l, "index.json")) && load_find(&l, "oci-layout"))
		rc = load_oci(&l, doc, e);
	else if (!rc && (doc = load_find(&l, "manifest.json")))
		rc = load_docker(&l, doc, e);
	else if (!rc)
		rc = err_set(e, EINVAL,
			     "the archive has neither index.json nor manifest.json: it is no image "
			     "(`msb image import --tar` makes one of a file tree)");
	for (size_t i = 0; i < l.n; i++) {
		free(l.files[i].doc);
		store_temp_fini(&l.files[i].temp);
	}
	free(l.files);
	return rc;
}
