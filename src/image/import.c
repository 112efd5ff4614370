/* SPDX-License-Identifier: Apache-2.0 */
#include "image/import.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#include "base/mem.h"
#include "codec/sha256.h"
#include "image/convert.h"
#include "image/pack.h"
#include "image/progress.h"
#include "image/store_internal.h"

#define IMPORT_COPY (1u << 20)

/* A conversion. */
struct import_layers {
	const int *fds;
	size_t n;
	uint64_t bytes; /* of all */
	const char *last; /* digest of the last one, which was hashed just now; or NULL */
};

static void import_progress(void *ctx, uint64_t bytes)
{
	const struct import_layers *l = ctx;

	progress_bytes(bytes, l->bytes);
}

static const char *import_known(void *ctx, size_t i)
{
	const struct import_layers *l = ctx;

	return i + 1 == l->n ? l->last : NULL;
}

static const char *import_media_type(const uint8_t head[4])
{
	static const uint8_t gzip[] = { 0x1f, 0x8b }, zstd[] = { 0x28, 0xb5, 0x2f, 0xfd };

	if (!memcmp(head, gzip, sizeof(gzip)))
		return MEDIA_LAYER_GZIP;
	return memcmp(head, zstd, sizeof(zstd)) ? MEDIA_LAYER : MEDIA_LAYER_ZSTD;
}

/* Hashes @from to its end and copies it to @to, unless that is -1. */
static int import_hash(int from, int to, struct descriptor *d, struct err *e)
{
	auto_free uint8_t *buf = malloc(IMPORT_COPY);
	uint8_t sum[DIGEST_BYTES], head[4] = { 0 };
	struct digest *digest;
	uint64_t total = 0;
	int rc = buf ? digest_create(&digest, e) : err_errno(e, ENOMEM, "read the layer");

	if (rc)
		return rc;
	for (;;) {
		ssize_t n = read(from, buf, IMPORT_COPY), done = 0;

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			rc = err_errno(e, errno, "read the archive");
		if (n <= 0)
			break;
		digest_update(digest, buf, (size_t)n);
		/* A pipe may deliver the first bytes one by one. */
		for (ssize_t i = 0; total + (uint64_t)i < sizeof(head) && i < n; i++)
			head[total + (uint64_t)i] = buf[i];
		while (to >= 0 && done < n) {
			ssize_t k = write(to, buf + done, (size_t)(n - done));

			if (k < 0 && errno == EINTR)
				continue;
			if (k < 0)
				break;
			done += k;
		}
		if (to >= 0 && done < n) {
			rc = err_errno(e, errno, "copy the archive to the image store");
			break;
		}
		total += (uint64_t)n;
		progress_bytes(total, 0);
	}
	digest_final(digest, sum);
	digest_destroy(digest);
	sha256_text(sum, d->digest);
	d->size = total;
	snprintf(d->media_type, sizeof(d->media_type), "%s", import_media_type(head));
	return rc;
}

/* Layers to a root image in a temporary file. */
static int import_convert(struct store_writer *w, struct import_layers *layers,
			  struct store_temp *rootfs, struct convert_result *res, struct err *e)
{
	struct convert_job job = {
		.layers = layers->fds,
		.known = import_known,
		.n_layers = layers->n,
		.limits = ROOTIMAGE_LIMITS_DEFAULT,
		.progress = import_progress,
		.ctx = layers,
	};
	int rc = store_temp_file(w, rootfs, e);

	if (rc)
		return rc;
	job.out = rootfs->fd;
	return convert_run(&job, res, e);
}

static void import_now(char to[40])
{
	time_t now = time(NULL);
	struct tm tm;

	gmtime_r(&now, &tm);
	strftime(to, 40, "%Y-%m-%dT%H:%M:%SZ", &tm);
}

/* Configuration, manifest, index: in this order, all that they refer to is there. */
static int import_publish(struct store_writer *w, struct descriptor *layers, size_t n,
			  const struct image_config *config, const char *name,
			  struct import_result *out, struct err *e)
{
	struct manifest m = { .layers = layers, .n_layers = n };
	auto_free char *cdoc = image_config_format(config);
	auto_free char *mdoc = NULL;
	struct descriptor d;
	char created[40];
	int rc;

	if (!cdoc)
		return err_errno(e, ENOMEM, "write the image's configuration");
	rc = store_put_doc(w, cdoc, MEDIA_CONFIG, &m.config, e);
	if (rc)
		return rc;
	mdoc = manifest_format(&m);
	rc = mdoc ? store_put_doc(w, mdoc, MEDIA_MANIFEST, &d, e)
		  : err_errno(e, ENOMEM, "write the image's manifest");
	if (rc)
		return rc;
	memcpy(out->digest, d.digest, sizeof(out->digest));
	import_now(created);
	return store_set_name(w, &d, name, created, "", e);
}

static int import_blob(struct store_writer *w, struct store_temp *blob, struct descriptor *layer,
		       struct image_config *config, const char *name, struct import_result *out,
		       struct err *e)
{
	struct import_layers layers = { &blob->fd, 1, layer->size, layer->digest };
	struct store_temp rootfs = STORE_TEMP_INIT;
	struct convert_result res = { .diff_ids = NULL };
	struct utsname u;
	int rc;

	*out = (struct import_result){ .inodes = 0 };
	if (!config->architecture) {
		bool arm = uname(&u) == 0 && !strcmp(u.machine, "aarch64");

		config->architecture = strdup(arm ? "arm64" : "amd64");
		if (!config->architecture)
			return err_errno(e, ENOMEM, "write the image's configuration");
	}
	progress_step("%s: writing the root image", name);
	if (lseek(blob->fd, 0, SEEK_SET) < 0)
		return err_errno(e, errno, "read the layer back");
	rc = import_convert(w, &layers, &rootfs, &res, e);
	if (!rc) {
		free(config->diff_ids);
		config->diff_ids = calloc(1, sizeof(*config->diff_ids));
		config->n_diff_ids = 1;
		if (!config->diff_ids)
			rc = err_errno(e, ENOMEM, "write the image's configuration");
		else
			sha256_text(res.diff_ids[0], config->diff_ids[0]);
	}
	if (!rc) {
		sha256_text(res.chain, out->chain);
		out->layer_bytes = layer->size;
		out->rootfs_bytes = res.bytes;
		out->inodes = res.inodes;
		out->xattrs_dropped = res.xattrs_dropped;
		rc = store_commit_blob(blob, layer->digest, e);
	}
	if (!rc)
		rc = store_commit_rootfs(&rootfs, out->chain, e);
	if (!rc)
		rc = import_publish(w, layer, 1, config, name, out, e);
	free(res.diff_ids);
	store_temp_fini(&rootfs);
	progress_end();
	return rc;
}

int import_tar(struct store_writer *w, int fd, struct image_config *config, const char *name,
	       struct import_result *out, struct err *e)
{
	struct store_temp blob = STORE_TEMP_INIT;
	struct descriptor layer = { .size = 0 };
	int rc = store_temp_file(w, &blob, e);

	if (rc)
		return rc;
	progress_step("%s: reading the archive", name);
	rc = import_hash(fd, blob.fd, &layer, e);
	if (!rc && !layer.size)
		rc = err_set(e, EINVAL,
			     "the archive is empty: expected a tar, plain or compressed with "
			     "gzip or zstd");
	if (!rc)
		rc = import_blob(w, &blob, &layer, config, name, out, e);
	store_temp_fini(&blob);
	return rc;
}

int import_dir(struct store_writer *w, const char *path, struct image_config *config,
	       const char *name, struct import_result *out, struct err *e)
{
	struct store_temp blob = STORE_TEMP_INIT;
	uint32_t sockets = 0;
	int rc = store_temp_file(w, &blob, e);

	if (rc)
		return rc;
	progress_step("%s: packing %s", name, path);
	rc = pack_dir(path, blob.fd, &sockets, e);
	if (!rc)
		rc = import_layer(w, &blob, config, name, out, e);
	if (!rc)
		out->sockets_dropped = sockets;
	store_temp_fini(&blob);
	return rc;
}

int import_layer(struct store_writer *w, struct store_temp *blob, struct image_config *config,
		 const char *name, struct import_result *out, struct err *e)
{
	struct descriptor layer = { .size = 0 };
	int rc = 0;

	if (lseek(blob->fd, 0, SEEK_SET) < 0)
		return err_errno(e, errno, "read the layer back");
	rc = import_hash(blob->fd, -1, &layer, e);
	return rc ? rc : import_blob(w, blob, &layer, config, name, out, e);
}

/* ---- a root image of layers that are in the store ---- */

/*
 * They are not hashed here: what they hold is, by the converter, and import_check_layers() compares
 * that with the image's diff_ids.
 */
static int import_open_layers(struct store_writer *w, const struct manifest *m, int *fds,
			      uint64_t *bytes, struct err *e)
{
	const struct store *s = store_writer_store(w);

	for (size_t i = 0; i < m->n_layers; i++) {
		char path[STORE_BLOB_PATH_MAX];

		store_blob_path(m->layers[i].digest, path);
		fds[i] = openat(s->dir, path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
		if (fds[i] < 0)
			return err_errno(e, errno, "open the layer %s/%s", s->path, path);
		*bytes += m->layers[i].size;
	}
	return 0;
}

/* Was it because of a layer that is not what it was?  Then that is the error to tell. */
static void import_blame_layer(struct store_writer *w, const struct manifest *m, const int *fds,
			       struct err *e)
{
	const struct store *s = store_writer_store(w);

	for (size_t i = 0; i < m->n_layers; i++) {
		char path[STORE_BLOB_PATH_MAX];
		struct descriptor d = { .size = 0 };

		if (fds[i] < 0 || lseek(fds[i], 0, SEEK_SET) < 0 ||
		    import_hash(fds[i], -1, &d, NULL) || !strcmp(d.digest, m->layers[i].digest))
			continue;
		store_blob_path(m->layers[i].digest, path);
		err_clear(e);
		err_set(e, EUCLEAN, "the layer %s/%s is damaged: remove the image and get it again",
			s->path, path);
		return;
	}
}

/* Converts layers of the store, @l->n - @m->n_layers more on top of them, and closes the store's. */
static int import_convert_stored(struct store_writer *w, const struct manifest *m,
				 const struct image_config *c, struct import_layers *l, int *fds,
				 struct store_temp *rootfs, struct convert_result *res,
				 struct err *e)
{
	struct err own = ERR_INIT;
	char text[DIGEST_SIZE];
	int rc = import_open_layers(w, m, fds, &l->bytes, &own);

	if (!rc) {
		l->fds = fds;
		rc = import_convert(w, l, rootfs, res, &own);
		for (size_t i = 0; i < m->n_layers && !rc; i++) {
			sha256_text(res->diff_ids[i], text);
			if (strcmp(text, c->diff_ids[i]))
				rc = err_set(&own, EINVAL,
					     "layer %zu is not the one that the image's "
					     "configuration names",
					     i + 1);
		}
		if (rc)
			import_blame_layer(w, m, fds, &own);
	}
	for (size_t i = 0; i < m->n_layers; i++)
		close_fd(&fds[i]);
	return rc ? err_set(e, own.code, "%s", err_text(&own)) : 0;
}

static int import_prepare_layers(struct store_writer *w, const struct manifest *m,
				 const struct image_config *c, struct err *e)
{
	auto_free int *fds = reallocarray(NULL, m->n_layers, sizeof(*fds));
	struct import_layers layers = { .n = m->n_layers };
	struct store_temp rootfs = STORE_TEMP_INIT;
	struct convert_result res = { .diff_ids = NULL };
	char text[DIGEST_SIZE];
	int rc;

	if (!fds)
		return err_errno(e, ENOMEM, "open the layers");
	memset(fds, 0xff, m->n_layers * sizeof(*fds));
	rc = import_convert_stored(w, m, c, &layers, fds, &rootfs, &res, e);
	if (!rc) {
		sha256_text(res.chain, text);
		rc = store_commit_rootfs(&rootfs, text, e);
	}
	free(res.diff_ids);
	store_temp_fini(&rootfs);
	return rc;
}

/* The documents of an image of the store. */
static int import_load(struct store_writer *w, const char *digest, struct manifest *m,
		       struct image_config *c, struct err *e)
{
	struct store *s = store_writer_store(w);
	struct descriptor d = { .size = 0 }, found;
	int rc;

	/* The manifest is known by its digest; its size is the file's. */
	memcpy(d.digest, digest, sizeof(d.digest));
	snprintf(d.media_type, sizeof(d.media_type), "%s", MEDIA_MANIFEST);
	rc = store_describe(s, &d, e);
	return rc ? rc : store_load(s, &d, &found, m, c, e);
}

int import_prepare(struct store_writer *w, const char *name, bool force, struct err *e)
{
	struct store *s = store_writer_store(w);
	struct image_config c;
	struct image *img;
	auto_close int fd = -1;
	struct manifest m;
	int rc = store_resolve(s, name, &img, e);

	if (rc)
		return rc;
	if (!force && rootimage_open(img->rootfs, &fd, NULL) == 0) {
		image_free(img);
		return 0;
	}
	rc = import_load(w, img->digest, &m, &c, e);
	image_free(img);
	if (rc)
		return rc;
	progress_step("%s: writing the root image", name);
	rc = import_prepare_layers(w, &m, &c, e);
	progress_end();
	manifest_fini(&m);
	image_config_fini(&c);
	if (rc)
		err_wrap(e, "image %s", name);
	return rc;
}

/* ---- a layer over an image ---- */

/* Puts what @over has in the place of what @c has. */
static int import_configure(struct image_config *c, struct image_config *over, struct err *e)
{
	char ***const lists[] = { &c->entrypoint, &c->cmd, &c->env };
	char ***const new[] = { &over->entrypoint, &over->cmd, &over->env };
	char **const texts[] = { &c->workdir, &c->user, &c->stop_signal };
	char **const said[] = { &over->workdir, &over->user, &over->stop_signal };

	for (size_t i = 0; i < ARRAY_SIZE(lists); i++) {
		if (!*new[i])
			continue;
		strlist_free(*lists[i]);
		*lists[i] = take_ptr(new[i]);
	}
	for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
		if (!*said[i])
			continue;
		free(*texts[i]);
		*texts[i] = take_ptr(said[i]);
	}
	for (char **s = over->labels; s && *s; s++)
		if (strlist_add(&c->labels, *s))
			return err_errno(e, ENOMEM, "write the image's configuration");
	return 0;
}

static int import_over_layers(struct store_writer *w, struct store_temp *blob,
			      const struct descriptor *layer, const struct manifest *base,
			      struct image_config *c, const char *name, struct import_result *out,
			      struct err *e)
{
	size_t n = base->n_layers + 1;
	auto_free int *fds = reallocarray(NULL, n, sizeof(*fds));
	auto_free struct descriptor *all = reallocarray(NULL, n, sizeof(*all));
	struct store_temp rootfs = STORE_TEMP_INIT;
	struct convert_result res = { .diff_ids = NULL };
	struct import_layers layers = { .n = n, .bytes = layer->size, .last = layer->digest };
	int rc = 0;

	if (!fds || !all)
		return err_errno(e, ENOMEM, "open the layers");
	memset(fds, 0xff, n * sizeof(*fds));
	fds[n - 1] = blob->fd;
	if (lseek(blob->fd, 0, SEEK_SET) < 0)
		rc = err_errno(e, errno, "read the layer back");
	if (!rc)
		rc = import_convert_stored(w, base, c, &layers, fds, &rootfs, &res, e);
	if (!rc) {
		free(c->diff_ids);
		c->diff_ids = calloc(n, sizeof(*c->diff_ids));
		c->n_diff_ids = n;
		if (!c->diff_ids)
			rc = err_errno(e, ENOMEM, "write the image's configuration");
	}
	for (size_t i = 0; i < n && !rc; i++)
		sha256_text(res.diff_ids[i], c->diff_ids[i]);
	if (!rc) {
		sha256_text(res.chain, out->chain);
		out->layer_bytes = layer->size;
		out->rootfs_bytes = res.bytes;
		out->inodes = res.inodes;
		out->xattrs_dropped = res.xattrs_dropped;
		memcpy(all, base->layers, base->n_layers * sizeof(*all));
		all[n - 1] = *layer;
		rc = store_commit_blob(blob, layer->digest, e);
	}
	if (!rc)
		rc = store_commit_rootfs(&rootfs, out->chain, e);
	if (!rc)
		rc = import_publish(w, all, n, c, name, out, e);
	free(res.diff_ids);
	store_temp_fini(&rootfs);
	return rc;
}

int import_over(struct store_writer *w, const char *base, int fd, struct image_config *config,
		const char *name, struct import_result *out, struct err *e)
{
	struct store_temp blob = STORE_TEMP_INIT;
	struct descriptor layer = { .size = 0 };
	struct image_config c;
	struct manifest m;
	struct image *img;
	int rc = store_resolve(store_writer_store(w), base, &img, e);

	if (rc)
		return rc;
	*out = (struct import_result){ .inodes = 0 };
	rc = import_load(w, img->digest, &m, &c, e);
	image_free(img);
	if (rc)
		return rc;
	rc = store_temp_file(w, &blob, e);
	if (!rc) {
		progress_step("%s: reading the layer", name);
		rc = import_hash(fd, blob.fd, &layer, e);
	}
	if (!rc)
		rc = import_configure(&c, config, e);
	if (!rc) {
		progress_step("%s: writing the root image", name);
		rc = import_over_layers(w, &blob, &layer, &m, &c, name, out, e);
	}
	progress_end();
	store_temp_fini(&blob);
	manifest_fini(&m);
	image_config_fini(&c);
	return rc;
}
