/* SPDX-License-Identifier: Apache-2.0 */
#include "image/pull.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/mem.h"
#include "codec/sha256.h"
#include "image/fetch.h"
#include "image/progress.h"
#include "image/pull_layers.h"
#include "image/store_internal.h"

#define PULL_HUB "docker.io"
#define PULL_BYTES_MAX (256ull << 30) /* of all layers together, compressed */

struct pull {
	struct store_writer *w;
	const struct pull_args *args;
	struct reference ref;
	char name[REFERENCE_MAX]; /* full, as in the index */
	char os[32], arch[32], variant[32];
	bool platform; /* was given */
	struct fetch_setup setup;
	char *ca;
	struct fetch fetch;
	struct manifest m;
	struct image_config c;
	char *mdoc, *cdoc;
	struct descriptor d; /* of the manifest */
	char source[DIGEST_SIZE];
};

static void pull_note(const char *text)
{
	if (progress_mode() == PROGRESS_QUIET)
		return;
	progress_end();
	fprintf(stderr, "note: %s\n", text);
}

static void pull_waiting(const char *name)
{
	progress_step("%s: waiting for another process that pulls it", name);
}

/* "docker.io/library/python:latest", "host:5000/a/b@sha256:…" */
static int pull_name(struct pull *p, const char *name, struct err *e)
{
	struct reference *r = &p->ref;
	int rc = reference_parse(name, strlen(name), r, e);

	if (rc)
		return rc;
	if (!r->path[0])
		return err_set(e, EINVAL, "a digest alone names no registry: give NAME@%s", name);
	if (!r->registry[0])
		snprintf(r->registry, sizeof(r->registry), PULL_HUB);
	if (!strcmp(r->registry, PULL_HUB) && !strchr(r->path, '/')) {
		char path[sizeof(r->path)];

		snprintf(path, sizeof(path), "library/%.200s", r->path);
		memcpy(r->path, path, sizeof(path));
	}
	if (r->digest[0])
		snprintf(p->name, sizeof(p->name), "%s/%s@%s", r->registry, r->path, r->digest);
	else
		snprintf(p->name, sizeof(p->name), "%s/%s:%s", r->registry, r->path,
			 r->tag[0] ? r->tag : "latest");
	return 0;
}

/* "linux/arm64/v8" */
static int pull_platform(struct pull *p, const char *s, struct err *e)
{
	int end = 0;

	if (!s) {
		snprintf(p->os, sizeof(p->os), "linux");
		snprintf(p->arch, sizeof(p->arch), "%s", store_arch());
		return 0;
	}
	p->platform = true;
	if (sscanf(s, "%31[a-z0-9]/%31[a-z0-9_]%n/%31[a-z0-9.]%n", p->os, p->arch, &end, p->variant,
		   &end) < 2 ||
	    s[end])
		return err_set(e, EINVAL,
			       "--platform is '%.80s': give OS/ARCH[/VARIANT], as in "
			       "linux/amd64",
			       s);
	return 0;
}

static void pull_digest(const char *doc, size_t len, char to[DIGEST_SIZE])
{
	uint8_t sum[SHA256_BYTES];

	sha256(doc, len, sum);
	sha256_text(sum, to);
}

/* A document known by its digest. */
static int pull_doc(struct pull *p, enum fetch_kind kind, const struct descriptor *d, char **out,
		    size_t *len, struct err *e)
{
	struct fetch_event done;
	char digest[DIGEST_SIZE];
	int rc;

	if (d->size > MANIFEST_DOC_MAX)
		return err_set(e, EINVAL, "the document %.19s is larger than %u MiB", d->digest,
			       MANIFEST_DOC_MAX >> 20);
	rc = fetch_doc(&p->fetch, kind, d->digest, d->size, pull_note, out, len, &done, e);
	if (rc)
		return rc;
	pull_digest(*out, *len, digest);
	if (*len == d->size && !strcmp(digest, d->digest))
		return 0;
	free(take_ptr(out));
	return err_set(e, EBADMSG, "the registry sends another document than %.19s", d->digest);
}

/* The first document: what the tag or the digest means. *@kind: its media type. */
static int pull_first(struct pull *p, char **out, size_t *len, char digest[DIGEST_SIZE],
		      const char **kind, struct err *e)
{
	const char *what = p->ref.digest[0] ? p->ref.digest : p->ref.tag[0] ? p->ref.tag : "latest";
	struct fetch_event done;
	int rc = fetch_doc(&p->fetch, FETCH_MANIFEST, what, 0, pull_note, out, len, &done, e);

	if (rc)
		return rc;
	pull_digest(*out, *len, digest);
	/* What the head says of the body finds one that was damaged on its way. */
	if ((p->ref.digest[0] && strcmp(digest, p->ref.digest)) ||
	    (digest_valid(done.digest, strlen(done.digest)) && strcmp(digest, done.digest)))
		return err_set(e, EBADMSG, "the registry sends another manifest than %.19s",
			       p->ref.digest[0] ? p->ref.digest : done.digest);
	*kind = manifest_kind(*out, *len, done.media_type, e);
	return *kind ? 0 : e && e->code ? -e->code : -EINVAL;
}

/* Of an index, the manifest for the platform. */
static int pull_choose(struct pull *p, const char *doc, size_t len, struct err *e)
{
	const struct index_entry *en;
	struct index x;
	int rc = index_parse(doc, len, &x, e);

	if (rc)
		return rc;
	en = index_pick(&x, p->os, p->arch, p->variant);
	if (en)
		p->d = en->target;
	else
		rc = err_set(e, ENOENT, "the image has no variant for %s/%s%s%s", p->os, p->arch,
			     p->variant[0] ? "/" : "", p->variant);
	index_fini(&x);
	return rc;
}

static void pull_set_type(struct descriptor *d, const char *type)
{
	if (type != d->media_type)
		snprintf(d->media_type, sizeof(d->media_type), "%s", type);
}

/*
 * Tools expect OCI documents in an OCI layout: a Docker manifest is written anew as one.
 * What it names stays as it is; the digest that the registry has for it is kept beside.
 */
static int pull_translate(struct pull *p, struct err *e)
{
	struct manifest *m = &p->m;
	if (!p->source[0])
		memcpy(p->source, p->d.digest, sizeof(p->source));
	pull_set_type(&m->config, manifest_oci_type(m->config.media_type));
	for (size_t i = 0; i < m->n_layers; i++)
		pull_set_type(&m->layers[i], manifest_oci_type(m->layers[i].media_type));
	free(p->mdoc);
	p->mdoc = manifest_format(m);
	if (!p->mdoc)
		return err_errno(e, ENOMEM, "write the image's manifest");
	snprintf(p->d.media_type, sizeof(p->d.media_type), MEDIA_MANIFEST);
	p->d.size = strlen(p->mdoc);
	pull_digest(p->mdoc, p->d.size, p->d.digest);
	return 0;
}

static int pull_manifest(struct pull *p, struct err *e)
{
	char digest[DIGEST_SIZE];
	const char *kind;
	size_t len;
	int rc = pull_first(p, &p->mdoc, &len, digest, &kind, e);

	if (!rc && manifest_is_index(kind)) {
		memcpy(p->source, digest, sizeof(p->source));
		rc = pull_choose(p, p->mdoc, len, e);
		free(take_ptr(&p->mdoc));
		if (!rc)
			rc = pull_doc(p, FETCH_MANIFEST, &p->d, &p->mdoc, &len, e);
	} else if (!rc) {
		p->d = (struct descriptor){ .size = len };
		memcpy(p->d.digest, digest, sizeof(p->d.digest));
		snprintf(p->d.media_type, sizeof(p->d.media_type), "%s", kind);
	}
	if (!rc)
		rc = manifest_parse(p->mdoc, len, &p->m, e);
	if (!rc && strcmp(p->d.media_type, MEDIA_MANIFEST))
		rc = pull_translate(p, e);
	return rc;
}

static int pull_config(struct pull *p, struct err *e)
{
	uint64_t total = 0;
	size_t len;
	int rc = pull_doc(p, FETCH_BLOB, &p->m.config, &p->cdoc, &len, e);

	if (!rc)
		rc = image_config_parse(p->cdoc, len, &p->c, e);
	if (rc)
		return rc;
	if (!p->m.n_layers || p->m.n_layers != p->c.n_diff_ids)
		return err_set(e, EINVAL, "the image has %zu layers but %zu diff_ids",
			       p->m.n_layers, p->c.n_diff_ids);
	if (p->c.os && strcmp(p->c.os, p->os))
		return err_set(e, EINVAL, "the image is for %.30s, not for %s", p->c.os, p->os);
	if (p->c.architecture && strcmp(p->c.architecture, p->arch))
		return err_set(e, EINVAL, "the image is for %s/%.30s, not for %s/%s", p->os,
			       p->c.architecture, p->os, p->arch);
	for (size_t i = 0; i < p->m.n_layers; i++) {
		const struct descriptor *d = &p->m.layers[i];

		if (!manifest_is_layer(d->media_type))
			return err_set(e, ENOTSUP, "layer %zu is no file tree but '%.100s'", i + 1,
				       d->media_type);
		if (d->size > PULL_BYTES_MAX - total)
			return err_set(e, EFBIG, "the layers have more than %llu GiB",
				       PULL_BYTES_MAX >> 30);
		total += d->size;
	}
	return 0;
}

/* Is all of this image there? Then it becomes the pull's result. */
static bool pull_have(struct pull *p, struct pull_result *out)
{
	struct store *s = store_writer_store(p->w);
	struct descriptor found;
	struct image_config c;
	auto_close int fd = -1;
	struct manifest m;
	struct image *img;
	bool whole;

	if (store_resolve(s, p->name, &img, NULL))
		return false;
	found = (struct descriptor){ .size = 0 };
	memcpy(found.digest, img->digest, sizeof(found.digest));
	snprintf(found.media_type, sizeof(found.media_type), MEDIA_MANIFEST);
	whole = rootimage_open(img->rootfs, &fd, NULL) == 0 && store_describe(s, &found, NULL) == 0;
	/* Another platform's is not the one that was asked for. */
	whole = whole && (!img->config.architecture || !strcmp(img->config.architecture, p->arch));
	if (whole && store_load(s, &found, &found, &m, &c, NULL) == 0) {
		for (size_t i = 0; i < m.n_layers; i++)
			whole = whole && store_has_blob(s, &m.layers[i]);
		manifest_fini(&m);
		image_config_fini(&c);
	} else {
		whole = false;
	}
	memcpy(out->digest, found.digest, sizeof(out->digest));
	image_free(img);
	return whole;
}

/* Does the registry still have what we have under this tag? */
static bool pull_is_current(struct pull *p, const struct pull_result *have)
{
	const char *what = p->ref.tag[0] ? p->ref.tag : "latest";
	struct fetch_event done;
	struct index x;
	bool same = false;

	if (fetch_doc(&p->fetch, FETCH_HEAD, what, 0, pull_note, NULL, NULL, &done, NULL) ||
	    store_read_index(store_writer_store(p->w), &x, NULL))
		return false;
	for (size_t i = 0; i < x.n; i++)
		if (!strcmp(x.entries[i].name, p->name))
			same = done.digest[0] && (!strcmp(x.entries[i].source, done.digest) ||
						  !strcmp(have->digest, done.digest));
	index_fini(&x);
	return same;
}

static int pull_publish(struct pull *p, struct err *e)
{
	struct descriptor d;
	char created[40];
	time_t now = time(NULL);
	struct tm tm;
	int rc = store_put_doc(p->w, p->cdoc, p->m.config.media_type, &d, e);

	if (!rc)
		rc = store_put_doc(p->w, p->mdoc, p->d.media_type, &d, e);
	if (!rc && strcmp(d.digest, p->d.digest))
		rc = err_set(e, EPROTO, "the manifest changed its digest");
	gmtime_r(&now, &tm);
	strftime(created, sizeof(created), "%Y-%m-%dT%H:%M:%SZ", &tm);
	return rc ? rc : store_set_name(p->w, &p->d, p->name, created, p->source, e);
}

static int pull_fetch(struct pull *p, const char *home, struct pull_result *out, struct err *e)
{
	struct pull_layers layers = { .w = p->w, .m = &p->m, .c = &p->c };
	bool have = pull_have(p, out);
	int rc;

	/* What a digest names does not change: nobody has to be asked. */
	out->unchanged = have && p->ref.digest[0];
	if (out->unchanged)
		return 0;
	rc = registry_setup(home, p->ref.registry, p->ref.path, &p->args->registry, NULL, &p->setup,
			    &p->ca, e);
	if (!rc)
		rc = fetch_start(&p->setup, p->ca, &p->fetch, e);
	if (rc)
		return rc;
	progress_step("%s: asking the registry", p->name);
	out->unchanged = have && pull_is_current(p, out);
	if (!out->unchanged)
		rc = pull_manifest(p, e);
	if (!rc && !out->unchanged)
		rc = pull_config(p, e);
	progress_end();
	if (rc || out->unchanged)
		return rc;
	layers.fetch = &p->fetch;
	layers.parallel = p->args->registry.parallel;
	layers.max_unpacked = p->args->max_unpacked;
	rc = pull_layers_run(&layers, e);
	out->fetched = layers.fetched;
	memcpy(out->digest, p->d.digest, sizeof(out->digest));
	return rc ? rc : pull_publish(p, e);
}

int pull_image(const char *home, struct store_writer *w, const char *name,
	       const struct pull_args *args, struct pull_result *out, struct err *e)
{
	struct pull *p = calloc(1, sizeof(*p));
	auto_close int lock = -1;
	int rc;

	*out = (struct pull_result){ .fetched = 0 };
	if (!p)
		return err_errno(e, ENOMEM, "pull the image");
	p->w = w;
	p->args = args;
	p->fetch = (struct fetch)FETCH_INIT;
	pull_more_files();
	rc = pull_name(p, name, e);
	if (!rc)
		rc = pull_platform(p, args->platform, e);
	if (!rc)
		rc = store_lock_pull(w, p->name, pull_waiting, &lock, e);
	progress_end();
	if (!rc) {
		memcpy(out->name, p->name, sizeof(out->name));
		rc = pull_fetch(p, home, out, e);
		if (rc)
			err_wrap(e, "pull %s", p->name);
	}
	fetch_stop(&p->fetch);
	manifest_fini(&p->m);
	image_config_fini(&p->c);
	free(p->mdoc);
	free(p->cdoc);
	free(p->ca);
	explicit_bzero(p, sizeof(*p));
	free(p);
	return rc;
}
