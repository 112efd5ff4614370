/* SPDX-License-Identifier: Apache-2.0 */
/* Writing images as an archive; see load.h.  Same images, same bytes. */
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/checked.h"
#include "base/mem.h"
#include "codec/docker_archive.h"
#include "codec/sha256.h"
#include "codec/tar_head.h"
#include "image/digest.h"
#include "image/load.h"
#include "image/store_internal.h"
#include "sys/file.h"

#define SAVE_COPY (1u << 20)
#define SAVE_LAYOUT "{\"imageLayoutVersion\":\"1.0.0\"}"

/* One image of the archive. */
struct save_image {
	char name[REFERENCE_MAX];
	struct descriptor d;
	struct manifest m;
};

struct save {
	struct store *s;
	int fd;
	uint8_t *buf;
	struct save_image *images;
	size_t n;
	char (*done)[DIGEST_SIZE]; /* blobs that are written */
	size_t n_done;
};

static int save_write(struct save *s, const void *p, size_t n, struct err *e)
{
	int rc = file_write_all(s->fd, p, n);

	return rc ? err_errno(e, -rc, "write the archive") : 0;
}

static int save_head(struct save *s, const char *name, bool dir, uint64_t size, struct err *e)
{
	uint8_t head[TAR_BLOCK];

	tar_head_format(name, dir, size, head);
	return save_write(s, head, sizeof(head), e);
}

static int save_pad(struct save *s, uint64_t size, struct err *e)
{
	static const uint8_t zeros[TAR_BLOCK];

	return save_write(s, zeros, tar_head_padding(size), e);
}

static int save_doc(struct save *s, const char *name, const char *text, struct err *e)
{
	int rc = text ? save_head(s, name, false, strlen(text), e)
		      : err_errno(e, ENOMEM, "write the archive");

	if (!rc)
		rc = save_write(s, text, strlen(text), e);
	return rc ? rc : save_pad(s, strlen(text), e);
}

/* The blob's bytes, hashed on their way: a damaged one is not handed on unnoticed. */
static int save_copy(struct save *s, int from, const struct descriptor *d, struct err *e)
{
	uint8_t sum[DIGEST_BYTES];
	char text[DIGEST_SIZE];
	struct digest *sha;
	uint64_t left = d->size;
	int rc = digest_create(&sha, e);

	if (rc)
		return rc;
	while (!rc && left) {
		ssize_t n = read(from, s->buf, (size_t)min_u64(left, SAVE_COPY));

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0) {
			rc = err_errno(e, n ? errno : EIO, "read the blob %.19s", d->digest);
			break;
		}
		digest_update(sha, s->buf, (size_t)n);
		left -= (uint64_t)n;
		rc = save_write(s, s->buf, (size_t)n, e);
	}
	digest_final(sha, sum);
	digest_destroy(sha);
	sha256_text(sum, text);
	if (!rc && strcmp(text, d->digest))
		rc = err_set(e, EUCLEAN, "the blob %.19s in the image store is damaged", d->digest);
	return rc ? rc : save_pad(s, d->size, e);
}

/* Each blob once. */
static int save_blob(struct save *s, const struct descriptor *d, const char *name, struct err *e)
{
	char path[STORE_BLOB_PATH_MAX];
	auto_close int fd = -1;
	struct stat st;
	int rc;

	for (size_t i = 0; i < s->n_done; i++)
		if (!strcmp(s->done[i], d->digest))
			return 0;
	store_blob_path(d->digest, path);
	fd = openat(s->s->dir, path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0 || fstat(fd, &st) < 0)
		return err_errno(e, errno, "open the blob %.19s", d->digest);
	if ((uint64_t)st.st_size != d->size)
		return err_set(e, EUCLEAN, "the blob %.19s in the image store is damaged",
			       d->digest);
	memcpy(s->done[s->n_done++], d->digest, DIGEST_SIZE);
	rc = save_head(s, name ? name : path, false, d->size, e);
	return rc ? rc : save_copy(s, fd, d, e);
}

static int save_find(struct save *s, const char *name, struct save_image *to, struct err *e)
{
	struct image_config c;
	struct image *img;
	int rc = store_resolve(s->s, name, &img, e);

	if (rc)
		return rc;
	memcpy(to->name, img->reference, sizeof(to->name));
	memcpy(to->d.digest, img->digest, DIGEST_SIZE);
	snprintf(to->d.media_type, sizeof(to->d.media_type), MEDIA_MANIFEST);
	image_free(img);
	rc = store_describe(s->s, &to->d, e);
	if (!rc)
		rc = store_load(s->s, &to->d, &to->d, &to->m, &c, e);
	if (!rc)
		image_config_fini(&c);
	return rc;
}

/* "docker.io/library/python:3" is "python:3" to docker, which adds the rest itself. */
static const char *save_tag(const char *name)
{
	static const char hub[] = "docker.io/", library[] = "library/";

	if (strncmp(name, hub, strlen(hub)))
		return name;
	name += strlen(hub);
	return strncmp(name, library, strlen(library)) ? name : name + strlen(library);
}

static int save_oci(struct save *s, struct err *e)
{
	json_t *list = json_array();
	auto_free char *index = NULL;
	json_t *doc;
	int rc = save_doc(s, "oci-layout", SAVE_LAYOUT, e);

	for (size_t i = 0; i < s->n; i++) {
		const struct save_image *im = &s->images[i];

		json_array_append_new(list, json_pack("{s:s, s:s, s:I, s:{s:s, s:s}}", "mediaType",
						      im->d.media_type, "digest", im->d.digest,
						      "size", (json_int_t)im->d.size, "annotations",
						      "org.opencontainers.image.ref.name", im->name,
						      "io.containerd.image.name", im->name));
	}
	doc = json_pack("{s:i, s:s, s:o}", "schemaVersion", 2, "mediaType", MEDIA_INDEX,
			"manifests", list);
	index = json_dumps(doc, JSON_COMPACT | JSON_SORT_KEYS);
	json_decref(doc);
	if (!rc)
		rc = save_doc(s, "index.json", index, e);
	if (!rc)
		rc = save_head(s, "blobs", true, 0, e);
	if (!rc)
		rc = save_head(s, "blobs/sha256", true, 0, e);
	for (size_t i = 0; !rc && i < s->n; i++) {
		const struct save_image *im = &s->images[i];

		rc = save_blob(s, &im->d, NULL, e);
		if (!rc)
			rc = save_blob(s, &im->m.config, NULL, e);
		for (size_t k = 0; !rc && k < im->m.n_layers; k++)
			rc = save_blob(s, &im->m.layers[k], NULL, e);
	}
	return rc;
}

/* "<hex>.json", "<hex>.tar": docker and podman take layers as they are, compressed or not. */
static void save_docker_name(const struct descriptor *d, const char *end, char to[96])
{
	snprintf(to, 96, "%.64s%s", d->digest + strlen("sha256:"), end);
}

static int save_docker_list(struct save *s, struct docker_archive *a, struct err *e)
{
	char name[96];

	a->images = calloc(s->n, sizeof(*a->images));
	if (!a->images)
		return err_errno(e, ENOMEM, "write the archive");
	for (; a->n < s->n; a->n++) {
		const struct save_image *im = &s->images[a->n];
		struct docker_image *to = &a->images[a->n];

		save_docker_name(&im->m.config, ".json", name);
		to->config = strdup(name);
		if (!to->config || (im->name[0] && strlist_add(&to->tags, save_tag(im->name))))
			return err_errno(e, ENOMEM, "write the archive");
		for (size_t k = 0; k < im->m.n_layers; k++) {
			save_docker_name(&im->m.layers[k], ".tar", name);
			if (strlist_add(&to->layers, name))
				return err_errno(e, ENOMEM, "write the archive");
		}
	}
	return 0;
}

static int save_docker(struct save *s, struct err *e)
{
	struct docker_archive a = { .n = 0 };
	auto_free char *list = NULL;
	char name[96];
	int rc = save_docker_list(s, &a, e);

	if (!rc) {
		list = docker_archive_format(&a);
		rc = save_doc(s, "manifest.json", list, e);
	}
	for (size_t i = 0; !rc && i < s->n; i++) {
		const struct save_image *im = &s->images[i];

		save_docker_name(&im->m.config, ".json", name);
		rc = save_blob(s, &im->m.config, name, e);
		for (size_t k = 0; !rc && k < im->m.n_layers; k++) {
			save_docker_name(&im->m.layers[k], ".tar", name);
			rc = save_blob(s, &im->m.layers[k], name, e);
		}
	}
	docker_archive_fini(&a);
	return rc;
}

int save_archive(struct store *store, char *const *names, size_t n, enum save_format format, int fd,
		 struct err *e)
{
	static const uint8_t end[2 * TAR_BLOCK];
	struct save s = { .s = store, .fd = fd };
	size_t blobs = 0;
	int rc = 0;

	s.buf = malloc(SAVE_COPY);
	s.images = calloc(n, sizeof(*s.images));
	if (!s.buf || !s.images)
		rc = err_errno(e, ENOMEM, "write the archive");
	while (!rc && s.n < n) {
		rc = save_find(&s, names[s.n], &s.images[s.n], e);
		if (!rc)
			blobs += 2 + s.images[s.n++].m.n_layers;
	}
	if (!rc && !(s.done = calloc(blobs, sizeof(*s.done))))
		rc = err_errno(e, ENOMEM, "write the archive");
	if (!rc)
		rc = format == SAVE_OCI ? save_oci(&s, e) : save_docker(&s, e);
	if (!rc)
		rc = save_write(&s, end, sizeof(end), e);
	while (s.n)
		manifest_fini(&s.images[--s.n].m);
	free(s.images);
	free(s.done);
	free(s.buf);
	return rc;
}
