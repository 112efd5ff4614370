/* SPDX-License-Identifier: Apache-2.0 */
#include "codec/manifest.h"

#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

#define KEY_REF_NAME "org.opencontainers.image.ref.name"
#define KEY_CREATED "org.opencontainers.image.created"
#define KEY_IMAGE_NAME "io.containerd.image.name"
#define KEY_SOURCE "dev.microsandbox.source.digest"
#define LIST_MAX 65536u

size_t strlist_count(char *const *list)
{
	size_t n = 0;

	while (list && list[n])
		n++;
	return n;
}

void strlist_free(char **list)
{
	for (size_t i = 0; list && list[i]; i++)
		free(list[i]);
	free(list);
}

int strlist_add(char ***list, const char *s)
{
	size_t n = strlist_count(*list);
	char *copy = strdup(s);
	char **p = copy ? reallocarray(*list, n + 2, sizeof(*p)) : NULL;

	if (!p) {
		free(copy);
		return -ENOMEM;
	}
	p[n] = copy;
	p[n + 1] = NULL;
	*list = p;
	return 0;
}

bool manifest_is_index(const char *media_type)
{
	return !strcmp(media_type, MEDIA_INDEX) || !strcmp(media_type, MEDIA_DOCKER_LIST);
}

bool manifest_is_manifest(const char *media_type)
{
	return !strcmp(media_type, MEDIA_MANIFEST) || !strcmp(media_type, MEDIA_DOCKER_MANIFEST);
}

bool manifest_is_layer(const char *media_type)
{
	static const char *const bases[] = {
		MEDIA_LAYER, MEDIA_DOCKER_LAYER,
		"application/vnd.oci.image.layer.nondistributable.v1.tar", MEDIA_DOCKER_FOREIGN
	};
	static const char *const ends[] = { "", "+gzip", "+zstd", ".gzip", ".zstd" };

	for (size_t i = 0; i < ARRAY_SIZE(bases); i++) {
		size_t n = strlen(bases[i]);

		if (strncmp(media_type, bases[i], n))
			continue;
		for (size_t k = 0; k < ARRAY_SIZE(ends); k++)
			if (!strcmp(media_type + n, ends[k]))
				return true;
	}
	return false;
}

const char *manifest_oci_type(const char *media_type)
{
	static const char *const pairs[][2] = {
		{ MEDIA_DOCKER_LIST, MEDIA_INDEX },
		{ MEDIA_DOCKER_MANIFEST, MEDIA_MANIFEST },
		{ MEDIA_DOCKER_CONFIG, MEDIA_CONFIG },
		{ MEDIA_DOCKER_LAYER, MEDIA_LAYER },
		{ MEDIA_DOCKER_LAYER ".gzip", MEDIA_LAYER_GZIP },
		{ MEDIA_DOCKER_LAYER ".zstd", MEDIA_LAYER_ZSTD },
		{ MEDIA_DOCKER_FOREIGN, MEDIA_LAYER },
		{ MEDIA_DOCKER_FOREIGN ".gzip", MEDIA_LAYER_GZIP },
	};

	for (size_t i = 0; i < ARRAY_SIZE(pairs); i++)
		if (!strcmp(media_type, pairs[i][0]))
			return pairs[i][1];
	return media_type;
}

const struct index_entry *index_pick(const struct index *x, const char *os, const char *arch,
				     const char *variant)
{
	const struct index_entry *best = NULL;

	for (size_t i = 0; i < x->n; i++) {
		const struct index_entry *en = &x->entries[i];

		if (!manifest_is_manifest(en->target.media_type) || strcmp(en->os, os) ||
		    strcmp(en->arch, arch) || (*variant && strcmp(en->variant, variant)))
			continue;
		if (!best || (best->variant[0] && !en->variant[0]))
			best = en;
	}
	return best;
}

static int doc_load(const void *p, size_t len, const char *what, json_t **out, struct err *e)
{
	json_error_t je;
	json_t *doc;

	if (len > MANIFEST_DOC_MAX)
		return err_set(e, EINVAL, "%s: larger than %u MiB", what, MANIFEST_DOC_MAX >> 20);
	doc = json_loadb(p, len, JSON_REJECT_DUPLICATES, &je);
	if (!doc)
		return err_set(e, EINVAL, "%s: line %d: not valid JSON", what, je.line);
	if (!json_is_object(doc)) {
		json_decref(doc);
		return err_set(e, EINVAL, "%s: not a JSON object", what);
	}
	*out = doc;
	return 0;
}

/* Copies an optional string member; too long or not a string is an error. */
static int doc_string(const json_t *o, const char *key, char *to, size_t size, struct err *e)
{
	const json_t *v = json_object_get(o, key);

	to[0] = '\0';
	if (!v || json_is_null(v))
		return 0;
	if (!json_is_string(v) || json_string_length(v) >= size)
		return err_set(e, EINVAL, "member %s is not a string of less than %zu bytes", key,
			       size);
	memcpy(to, json_string_value(v), json_string_length(v) + 1);
	return 0;
}

static int doc_strdup(const json_t *o, const char *key, char **out, struct err *e)
{
	const json_t *v = json_object_get(o, key);

	if (!v || json_is_null(v))
		return 0;
	if (!json_is_string(v))
		return err_set(e, EINVAL, "member %s is not a string", key);
	if (!json_string_length(v))
		return 0;
	*out = strdup(json_string_value(v));
	return *out ? 0 : err_errno(e, ENOMEM, "read a document of the image");
}

static int doc_digest(const json_t *v, char to[DIGEST_SIZE], struct err *e)
{
	if (!json_is_string(v) || !digest_valid(json_string_value(v), json_string_length(v)))
		return err_set(e, EINVAL, "a digest is not sha256: and 64 hex digits");
	memcpy(to, json_string_value(v), DIGEST_SIZE);
	return 0;
}

static int descriptor_load(const json_t *o, struct descriptor *d, struct err *e)
{
	const json_t *size = json_object_get(o, "size");
	int rc;

	if (!json_is_object(o))
		return err_set(e, EINVAL, "a descriptor is not an object");
	if (!json_is_integer(size) || json_integer_value(size) < 0)
		return err_set(e, EINVAL, "a descriptor's size is not a positive number");
	d->size = (uint64_t)json_integer_value(size);
	rc = doc_string(o, "mediaType", d->media_type, sizeof(d->media_type), e);
	return rc ? rc : doc_digest(json_object_get(o, "digest"), d->digest, e);
}

static int index_entry_load(const json_t *o, struct index_entry *x, struct err *e)
{
	const json_t *a, *p;
	int rc = descriptor_load(o, &x->target, e);

	if (rc)
		return rc;
	x->raw = json_dumps(o, JSON_COMPACT);
	if (!x->raw)
		return err_errno(e, ENOMEM, "read it");
	a = json_object_get(o, "annotations");
	p = json_object_get(o, "platform");
	rc = doc_string(a, KEY_REF_NAME, x->name, sizeof(x->name), e);
	if (!rc)
		rc = doc_string(a, KEY_CREATED, x->created, sizeof(x->created), e);
	if (!rc)
		rc = doc_string(a, KEY_IMAGE_NAME, x->image_name, sizeof(x->image_name), e);
	if (!rc)
		rc = doc_string(a, KEY_SOURCE, x->source, sizeof(x->source), e);
	if (!rc && x->source[0] && !digest_valid(x->source, strlen(x->source)))
		rc = err_set(e, EINVAL, "annotation " KEY_SOURCE " is no digest");
	if (!rc)
		rc = doc_string(p, "os", x->os, sizeof(x->os), e);
	if (!rc)
		rc = doc_string(p, "variant", x->variant, sizeof(x->variant), e);
	return rc ? rc : doc_string(p, "architecture", x->arch, sizeof(x->arch), e);
}

int index_parse(const void *p, size_t len, struct index *out, struct err *e)
{
	struct index x = { .n = 0 };
	json_t *doc, *list;
	int rc = doc_load(p, len, "image index", &doc, e);

	if (rc)
		return rc;
	list = json_object_get(doc, "manifests");
	if (!json_is_array(list) || json_array_size(list) > MANIFEST_INDEX_MAX) {
		rc = err_set(e, EINVAL, "image index: no list of manifests");
	} else {
		x.entries = calloc(json_array_size(list) + 1, sizeof(*x.entries));
		if (!x.entries)
			rc = err_errno(e, ENOMEM, "image index");
	}
	while (!rc && x.n < json_array_size(list)) {
		rc = index_entry_load(json_array_get(list, x.n), &x.entries[x.n], e);
		if (rc)
			err_wrap(e, "image index: entry %zu", x.n + 1);
		x.n++;
	}
	json_decref(doc);
	if (rc)
		index_fini(&x);
	else
		*out = x;
	return rc;
}

void index_fini(struct index *x)
{
	for (size_t i = 0; i < x->n; i++)
		free(x->entries[i].raw);
	free(x->entries);
	*x = (struct index){ .n = 0 };
}

int manifest_parse(const void *p, size_t len, struct manifest *out, struct err *e)
{
	struct manifest m = { .n_layers = 0 };
	json_t *doc, *list, *version;
	int rc = doc_load(p, len, "image manifest", &doc, e);

	if (rc)
		return rc;
	version = json_object_get(doc, "schemaVersion");
	list = json_object_get(doc, "layers");
	if (!json_is_integer(version) || json_integer_value(version) != 2 || !json_is_array(list)) {
		rc = err_set(e, EINVAL, "not an image manifest of schema version 2");
	} else if (json_array_size(list) > MANIFEST_LAYERS_MAX) {
		rc = err_set(e, EINVAL, "more than %u layers", MANIFEST_LAYERS_MAX);
	} else {
		m.layers = calloc(json_array_size(list) + 1, sizeof(*m.layers));
		rc = m.layers ? descriptor_load(json_object_get(doc, "config"), &m.config, e)
			      : err_errno(e, ENOMEM, "read it");
	}
	if (!rc)
		rc = doc_string(doc, "mediaType", m.media_type, sizeof(m.media_type), e);
	while (!rc && m.n_layers < json_array_size(list)) {
		rc = descriptor_load(json_array_get(list, m.n_layers), &m.layers[m.n_layers], e);
		m.n_layers++;
	}
	json_decref(doc);
	if (rc) {
		manifest_fini(&m);
		err_wrap(e, "image manifest");
	} else {
		*out = m;
	}
	return rc;
}

const char *manifest_kind(const void *p, size_t len, const char *given, struct err *e)
{
	static const char *const known[] = { MEDIA_INDEX, MEDIA_MANIFEST, MEDIA_DOCKER_LIST,
					     MEDIA_DOCKER_MANIFEST };
	const char *type, *kind = NULL;
	json_t *doc;

	if (doc_load(p, len, "manifest", &doc, e))
		return NULL;
	type = json_string_value(json_object_get(doc, "mediaType"));
	if (!type)
		type = given;
	for (size_t i = 0; i < ARRAY_SIZE(known); i++)
		if (!strcmp(type, known[i]))
			kind = known[i];
	/* OCI's member is optional, and not every server names the type. */
	if (!kind && type == given && json_is_array(json_object_get(doc, "manifests")))
		kind = MEDIA_INDEX;
	else if (!kind && type == given && json_is_array(json_object_get(doc, "layers")))
		kind = MEDIA_MANIFEST;
	if (!kind && json_integer_value(json_object_get(doc, "schemaVersion")) == 1)
		err_set(e, ENOTSUP,
			"the image has a manifest of Docker's old schema 1: it has to be pushed "
			"again by a newer tool");
	else if (!kind)
		err_set(e, ENOTSUP, "it is no image but '%.100s'", type);
	json_decref(doc);
	return kind;
}

void manifest_fini(struct manifest *m)
{
	free(m->layers);
	*m = (struct manifest){ .n_layers = 0 };
}

/* An array of strings; absent and null are the empty list. */
static int config_list(const json_t *o, const char *key, char ***out, struct err *e)
{
	const json_t *v = json_object_get(o, key);
	size_t n = json_array_size(v);
	char **list = calloc(n + 1, sizeof(*list));

	if (!list)
		return err_errno(e, ENOMEM, "read a document of the image");
	*out = list;
	if (v && !json_is_null(v) && (!json_is_array(v) || n > LIST_MAX))
		return err_set(e, EINVAL, "member %s is not a list of strings", key);
	for (size_t i = 0; i < n; i++) {
		const char *s = json_string_value(json_array_get(v, i));

		if (!s)
			return err_set(e, EINVAL, "member %s is not a list of strings", key);
		list[i] = strdup(s);
		if (!list[i])
			return err_errno(e, ENOMEM, "read a document of the image");
	}
	return 0;
}

/* An object as a list: KEY=value where values are strings, else the keys alone. */
static int config_map(const json_t *o, const char *key, bool values, char ***out, struct err *e)
{
	json_t *v = json_object_get(o, key);
	char **list = calloc(json_object_size(v) + 1, sizeof(*list));
	const char *name;
	json_t *value;
	size_t n = 0;

	if (!list)
		return err_errno(e, ENOMEM, "read a document of the image");
	*out = list;
	if (v && !json_is_null(v) && (!json_is_object(v) || json_object_size(v) > LIST_MAX))
		return err_set(e, EINVAL, "member %s is not an object", key);
	json_object_foreach(v, name, value)
	{
		const char *s = values ? json_string_value(value) : "";
		size_t size;

		if (!s)
			return err_set(e, EINVAL, "member %s: %.64s is not a string", key, name);
		size = strlen(name) + strlen(s) + 2;
		list[n] = malloc(size);
		if (!list[n])
			return err_errno(e, ENOMEM, "read a document of the image");
		memcpy(list[n], name, strlen(name) + 1);
		if (values) {
			strcat(list[n], "=");
			strcat(list[n], s);
		}
		n++;
	}
	return 0;
}

static int config_diff_ids(const json_t *doc, struct image_config *c, struct err *e)
{
	const json_t *list = json_object_get(json_object_get(doc, "rootfs"), "diff_ids");
	size_t n = json_array_size(list);
	int rc = 0;

	if (!json_is_array(list) || n > MANIFEST_LAYERS_MAX)
		return err_set(e, EINVAL, "no list rootfs.diff_ids of at most %u digests",
			       MANIFEST_LAYERS_MAX);
	c->diff_ids = calloc(n + 1, sizeof(*c->diff_ids));
	if (!c->diff_ids)
		return err_errno(e, ENOMEM, "read a document of the image");
	while (!rc && c->n_diff_ids < n) {
		rc = doc_digest(json_array_get(list, c->n_diff_ids), c->diff_ids[c->n_diff_ids], e);
		c->n_diff_ids++;
	}
	return rc;
}

static int config_load(const json_t *doc, struct image_config *c, struct err *e)
{
	const json_t *o = json_object_get(doc, "config");
	int rc;

	if (o && !json_is_null(o) && !json_is_object(o))
		return err_set(e, EINVAL, "member config is not an object");
	(void)((rc = doc_strdup(doc, "os", &c->os, e)) ||
	       (rc = doc_strdup(doc, "architecture", &c->architecture, e)) ||
	       (rc = doc_strdup(doc, "created", &c->created, e)) ||
	       (rc = config_list(o, "Entrypoint", &c->entrypoint, e)) ||
	       (rc = config_list(o, "Cmd", &c->cmd, e)) ||
	       (rc = config_list(o, "Env", &c->env, e)) ||
	       (rc = config_map(o, "Labels", true, &c->labels, e)) ||
	       (rc = config_map(o, "ExposedPorts", false, &c->exposed_ports, e)) ||
	       (rc = config_map(o, "Volumes", false, &c->volumes, e)) ||
	       (rc = doc_strdup(o, "WorkingDir", &c->workdir, e)) ||
	       (rc = doc_strdup(o, "User", &c->user, e)) ||
	       (rc = doc_strdup(o, "StopSignal", &c->stop_signal, e)) ||
	       (rc = config_diff_ids(doc, c, e)));
	return rc;
}

int image_config_parse(const void *p, size_t len, struct image_config *out, struct err *e)
{
	struct image_config c = { .os = NULL };
	json_t *doc;
	int rc = doc_load(p, len, "image configuration", &doc, e);

	if (rc)
		return rc;
	rc = config_load(doc, &c, e);
	json_decref(doc);
	if (rc) {
		image_config_fini(&c);
		err_wrap(e, "image configuration");
	} else {
		*out = c;
	}
	return rc;
}

void image_config_fini(struct image_config *c)
{
	free(c->os);
	free(c->architecture);
	free(c->created);
	strlist_free(c->entrypoint);
	strlist_free(c->cmd);
	strlist_free(c->env);
	strlist_free(c->labels);
	strlist_free(c->exposed_ports);
	strlist_free(c->volumes);
	free(c->workdir);
	free(c->user);
	free(c->stop_signal);
	free(c->diff_ids);
	*c = (struct image_config){ .os = NULL };
}

/* ---- writing ---- */

static char *doc_dump(json_t *doc)
{
	char *s = doc ? json_dumps(doc, JSON_COMPACT | JSON_SORT_KEYS) : NULL;

	json_decref(doc);
	return s;
}

static json_t *descriptor_dump(const struct descriptor *d)
{
	return json_pack("{s:s, s:s, s:I}", "mediaType", d->media_type, "digest", d->digest, "size",
			 (json_int_t)d->size);
}

/* Sets a string member unless it is empty. */
static void doc_set(json_t *o, const char *key, const char *value)
{
	if (value && value[0])
		json_object_set_new(o, key, json_string(value));
}

char *index_format(const struct index *x)
{
	json_t *doc = json_pack("{s:i, s:s}", "schemaVersion", 2, "mediaType", MEDIA_INDEX);
	json_t *list = json_array();

	for (size_t i = 0; i < x->n; i++) {
		const struct index_entry *en = &x->entries[i];
		json_t *o = en->raw ? json_loads(en->raw, 0, NULL) : descriptor_dump(&en->target);

		if (!en->raw) {
			json_t *a = json_object(), *p = json_object();

			doc_set(a, KEY_REF_NAME, en->name);
			doc_set(a, KEY_CREATED, en->created);
			doc_set(a, KEY_SOURCE, en->source);
			doc_set(p, "os", en->os);
			doc_set(p, "architecture", en->arch);
			doc_set(p, "variant", en->variant);
			if (json_object_size(a))
				json_object_set(o, "annotations", a);
			if (json_object_size(p))
				json_object_set(o, "platform", p);
			json_decref(a);
			json_decref(p);
		}
		json_array_append_new(list, o);
	}
	json_object_set_new(doc, "manifests", list);
	return doc_dump(doc);
}

char *manifest_format(const struct manifest *m)
{
	json_t *doc = json_pack("{s:i, s:s}", "schemaVersion", 2, "mediaType", MEDIA_MANIFEST);
	json_t *list = json_array();

	for (size_t i = 0; i < m->n_layers; i++)
		json_array_append_new(list, descriptor_dump(&m->layers[i]));
	json_object_set_new(doc, "config", descriptor_dump(&m->config));
	json_object_set_new(doc, "layers", list);
	return doc_dump(doc);
}

static void config_set_list(json_t *o, const char *key, char *const *list)
{
	json_t *a;

	if (!list || !list[0])
		return;
	a = json_array();
	for (size_t i = 0; list[i]; i++)
		json_array_append_new(a, json_string(list[i]));
	json_object_set_new(o, key, a);
}

static void config_set_map(json_t *o, const char *key, char *const *list, bool values)
{
	json_t *m;

	if (!list || !list[0])
		return;
	m = json_object();
	for (size_t i = 0; list[i]; i++) {
		const char *eq = strchr(list[i], '=');
		size_t n = values && eq ? (size_t)(eq - list[i]) : strlen(list[i]);

		json_object_setn_new(m, list[i], n,
				     values ? json_string(eq ? eq + 1 : "") : json_object());
	}
	json_object_set_new(o, key, m);
}

/* An entry for each layer: tools that put layers on top count them (buildah insists). */
static json_t *config_history(const struct image_config *c)
{
	json_t *all = json_array();

	for (size_t i = 0; i < c->n_diff_ids; i++) {
		json_t *entry = json_object();

		doc_set(entry, "created", c->created);
		doc_set(entry, "created_by", "microsandbox");
		json_array_append_new(all, entry);
	}
	return all;
}

char *image_config_format(const struct image_config *c)
{
	json_t *doc = json_object(), *o = json_object(), *ids = json_array(), *root;

	doc_set(doc, "os", c->os ? c->os : "linux");
	doc_set(doc, "architecture", c->architecture);
	doc_set(doc, "created", c->created);
	config_set_list(o, "Entrypoint", c->entrypoint);
	config_set_list(o, "Cmd", c->cmd);
	config_set_list(o, "Env", c->env);
	config_set_map(o, "Labels", c->labels, true);
	config_set_map(o, "ExposedPorts", c->exposed_ports, false);
	config_set_map(o, "Volumes", c->volumes, false);
	doc_set(o, "WorkingDir", c->workdir);
	doc_set(o, "User", c->user);
	doc_set(o, "StopSignal", c->stop_signal);
	json_object_set_new(doc, "config", o);
	for (size_t i = 0; i < c->n_diff_ids; i++)
		json_array_append_new(ids, json_string(c->diff_ids[i]));
	root = json_pack("{s:s, s:o}", "type", "layers", "diff_ids", ids);
	json_object_set_new(doc, "rootfs", root);
	json_object_set_new(doc, "history", config_history(c));
	return doc_dump(doc);
}
