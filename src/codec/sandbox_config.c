/* SPDX-License-Identifier: Apache-2.0 */
#include "codec/sandbox_config.h"

#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "codec/manifest.h"

#define CONFIG_MEMORY_MAX (1ll << 50)

struct config_string {
	const char *key;
	size_t offset;
	bool optional; /* older configurations have none: as if it were empty */
};

#define S(m) \
	{ \
#m, offsetof(struct sandbox_config, m), false \
	}
#define OPTIONAL(m) \
	{ \
#m, offsetof(struct sandbox_config, m), true \
	}
static const struct config_string config_strings[] = {
	S(name),
	S(image),
	S(image_path),
	S(kernel),
	S(initramfs),
	S(engine),
	S(scope),
	S(jail),
	S(network),
	OPTIONAL(group),
	OPTIONAL(group_dir),
	OPTIONAL(net_log),
	OPTIONAL(image_workdir),
	OPTIONAL(image_user),
};
#undef S
#undef OPTIONAL

static char **config_string_at(struct sandbox_config *c, const struct config_string *s)
{
	return (char **)((char *)c + s->offset);
}

void sandbox_config_fini(struct sandbox_config *c)
{
	for (size_t i = 0; i < ARRAY_SIZE(config_strings); i++)
		free(*config_string_at(c, &config_strings[i]));
	strlist_free(c->image_volumes);
	volume_list_fini(&c->volumes);
	secret_list_fini(&c->secrets);
	*c = (struct sandbox_config){ .name = NULL };
}

static json_t *config_ports_to_json(const struct publish_list *l)
{
	char text[PUBLISH_TEXT_MAX];
	json_t *a = json_array();

	for (size_t i = 0; a && i < l->n; i++) {
		publish_format(&l->v[i], text);
		json_array_append_new(a, json_string(text));
	}
	return a;
}

static json_t *config_volume_to_json(const struct volume *v)
{
	json_t *j = json_object();
	int bad = 0;

	if (!j)
		return NULL;
	if (v->kind == VOLUME_HOST)
		bad |= json_object_set_new(j, "source", json_string(v->source));
	bad |= json_object_set_new(j, "guest", json_string(v->guest));
	bad |= json_object_set_new(j, "readonly", json_boolean(v->readonly));
	bad |= json_object_set_new(j, "file", json_boolean(v->file));
	bad |= json_object_set_new(j, "named", json_boolean(v->named));
	bad |= json_object_set_new(j, "size", json_integer((json_int_t)v->size));
	if (v->owner)
		bad |= json_object_set_new(j, "owner", json_string(v->owner));
	if (bad) {
		json_decref(j);
		return NULL;
	}
	return j;
}

static json_t *config_volumes_to_json(const struct volume_list *l)
{
	json_t *j = json_array();

	for (unsigned i = 0; i < l->n; i++)
		if (json_array_append_new(j, config_volume_to_json(&l->v[i]))) {
			json_decref(j);
			return NULL;
		}
	return j;
}

static json_t *config_strings_to_json(char *const *list)
{
	json_t *j = json_array();

	for (; j && list && *list; list++)
		if (json_array_append_new(j, json_string(*list))) {
			json_decref(j);
			return NULL;
		}
	return j;
}

static json_t *config_to_json(const struct sandbox_config *c)
{
	json_t *j = json_object();
	int bad = 0;

	if (!j)
		return NULL;
	for (size_t i = 0; i < ARRAY_SIZE(config_strings); i++) {
		const char *v = *(char *const *)((const char *)c + config_strings[i].offset);

		bad |= json_object_set_new(j, config_strings[i].key, json_string(v ? v : ""));
	}
	bad |= json_object_set_new(j, "cpus", json_integer(c->cpus));
	bad |= json_object_set_new(j, "memory_bytes", json_integer((json_int_t)c->memory_bytes));
	bad |= json_object_set_new(j, "disk_bytes", json_integer((json_int_t)c->disk_bytes));
	bad |= json_object_set_new(j, "boot_timeout_s", json_integer(c->boot_timeout_s));
	bad |= json_object_set_new(j, "ports", config_ports_to_json(&c->ports));
	bad |= json_object_set_new(j, "volumes", config_volumes_to_json(&c->volumes));
	bad |= json_object_set_new(j, "volume_timeout_s",
				   json_integer(c->volume_timeout_s ? c->volume_timeout_s
								    : SANDBOX_VOLUME_TIMEOUT_S));
	bad |= json_object_set_new(j, "image_volumes", config_strings_to_json(c->image_volumes));
	bad |= json_object_set_new(j, "stop_signal", json_integer(c->stop_signal));
	bad |= json_object_set_new(j, "ephemeral", json_boolean(c->ephemeral));
	bad |= json_object_set_new(j, "detached", json_boolean(c->detached));
	if (bad) {
		json_decref(j);
		return NULL;
	}
	return j;
}

int sandbox_config_format(const struct sandbox_config *c, char **text, struct err *e)
{
	json_t *j = config_to_json(c);
	char *t = j ? json_dumps(j, JSON_INDENT(2)) : NULL;

	json_decref(j);
	if (!t)
		return err_set(e, EINVAL, "sandbox configuration: a value is not valid UTF-8");
	*text = t;
	return 0;
}

static int config_get_int(json_t *j, const char *key, int64_t min, int64_t max, int64_t *out,
			  struct err *e)
{
	json_t *v = json_object_get(j, key);

	if (!json_is_integer(v) || json_integer_value(v) < min || json_integer_value(v) > max)
		return err_set(e, EINVAL,
			       SANDBOX_CONFIG_FILE ": '%s' must be a number from %lld to %lld", key,
			       (long long)min, (long long)max);
	*out = json_integer_value(v);
	return 0;
}

/* Older configurations have none. */
static int config_get_ports(json_t *j, struct publish_list *out, struct err *e)
{
	json_t *a = json_object_get(j, "ports"), *v;
	size_t i;

	if (a && !json_is_array(a))
		return err_set(e, EINVAL, SANDBOX_CONFIG_FILE ": 'ports' must be an array");
	json_array_foreach(a, i, v)
	{
		if (!json_is_string(v))
			return err_set(e, EINVAL, SANDBOX_CONFIG_FILE ": a port must be a string");
		if (publish_add(out, json_string_value(v), e))
			return err_wrap(e, SANDBOX_CONFIG_FILE);
	}
	return 0;
}

static int config_copy(json_t *j, const char *key, char **to, struct err *e)
{
	json_t *v = json_object_get(j, key);

	if (!v)
		return 0;
	if (!json_is_string(v))
		return err_set(e, EINVAL, SANDBOX_CONFIG_FILE ": '%s' must be a string", key);
	*to = strdup(json_string_value(v));
	return *to ? 0 : err_errno(e, ENOMEM, SANDBOX_CONFIG_FILE);
}

static int config_volume(json_t *j, struct volume *v, struct err *e)
{
	int64_t size = 0;
	int rc;

	if ((rc = config_copy(j, "source", &v->source, e)) ||
	    (rc = config_copy(j, "guest", &v->guest, e)) ||
	    (rc = config_copy(j, "owner", &v->owner, e)) ||
	    (rc = config_get_int(j, "size", 0, CONFIG_MEMORY_MAX, &size, e)))
		return rc;
	if (!v->guest || v->guest[0] != '/' || (v->source && v->source[0] != '/'))
		return err_set(e, EINVAL, SANDBOX_CONFIG_FILE ": a volume's paths are not absolute");
	v->kind = v->source ? VOLUME_HOST : VOLUME_TMPFS;
	v->size = (uint64_t)size;
	v->readonly = json_is_true(json_object_get(j, "readonly"));
	v->file = json_is_true(json_object_get(j, "file"));
	v->named = json_is_true(json_object_get(j, "named"));
	return 0;
}

/* A configuration without them is one without volumes. */
static int config_volumes(json_t *j, struct sandbox_config *c, struct err *e)
{
	json_t *list = json_object_get(j, "volumes"), *v;
	int64_t timeout = SANDBOX_VOLUME_TIMEOUT_S;
	size_t i;
	int rc = 0;

	if (json_object_get(j, "volume_timeout_s"))
		rc = config_get_int(j, "volume_timeout_s", 1, SANDBOX_VOLUME_TIMEOUT_MAX_S,
				    &timeout, e);
	c->volume_timeout_s = (unsigned)timeout;
	if (!rc && list && !json_is_array(list))
		rc = err_set(e, EINVAL, SANDBOX_CONFIG_FILE ": 'volumes' must be a list");
	if (rc || !list)
		return rc;
	json_array_foreach(list, i, v)
	{
		struct volume one = { .source = NULL };

		rc = config_volume(v, &one, e);
		if (rc)
			volume_fini(&one);
		else
			rc = volume_list_add(&c->volumes, &one, e);
		if (rc)
			return rc;
	}
	return 0;
}

/* What the image asks for.  Older configurations have none of it. */
static int config_image(json_t *j, struct sandbox_config *c, struct err *e)
{
	json_t *list = json_object_get(j, "image_volumes"), *v;
	int64_t sig = 0;
	size_t i;
	int rc = 0;

	if (json_object_get(j, "stop_signal"))
		rc = config_get_int(j, "stop_signal", 0, 64, &sig, e);
	c->stop_signal = (unsigned)sig;
	if (!rc && list &&
	    (!json_is_array(list) || json_array_size(list) > SANDBOX_IMAGE_VOLUMES_MAX))
		rc = err_set(e, EINVAL,
			     SANDBOX_CONFIG_FILE ": 'image_volumes' must be a list of at most %u",
			     SANDBOX_IMAGE_VOLUMES_MAX);
	if (rc)
		return rc;
	json_array_foreach(list, i, v)
	{
		if (!json_is_string(v))
			return err_set(e, EINVAL,
				       SANDBOX_CONFIG_FILE
				       ": a volume of the image must be a string");
		if (strlist_add(&c->image_volumes, json_string_value(v)))
			return err_errno(e, ENOMEM, SANDBOX_CONFIG_FILE);
	}
	return 0;
}

static int config_from_json(json_t *j, struct sandbox_config *c, struct err *e)
{
	int64_t cpus = 0, memory = 0, disk = 0, boot = 0;
	int rc;

	for (size_t i = 0; i < ARRAY_SIZE(config_strings); i++) {
		json_t *v = json_object_get(j, config_strings[i].key);
		const bool absent = !v && config_strings[i].optional;

		if (!absent && !json_is_string(v))
			return err_set(e, EINVAL, SANDBOX_CONFIG_FILE ": '%s' must be a string",
				       config_strings[i].key);
		*config_string_at(c, &config_strings[i]) =
			strdup(absent ? "" : json_string_value(v));
		if (!*config_string_at(c, &config_strings[i]))
			return err_errno(e, ENOMEM, SANDBOX_CONFIG_FILE);
	}
	if ((rc = config_get_int(j, "cpus", 1, 1024, &cpus, e)) ||
	    (rc = config_get_int(j, "memory_bytes", 1, CONFIG_MEMORY_MAX, &memory, e)) ||
	    (rc = config_get_int(j, "disk_bytes", 1, CONFIG_MEMORY_MAX, &disk, e)) ||
	    (rc = config_get_int(j, "boot_timeout_s", 1, 86400, &boot, e)) ||
	    (rc = config_get_ports(j, &c->ports, e)))
		return rc;
	c->cpus = (unsigned)cpus;
	c->memory_bytes = (uint64_t)memory;
	c->disk_bytes = (uint64_t)disk;
	c->boot_timeout_s = (unsigned)boot;
	c->ephemeral = json_is_true(json_object_get(j, "ephemeral"));
	c->detached = json_is_true(json_object_get(j, "detached"));
	rc = config_image(j, c, e);
	return rc ? rc : config_volumes(j, c, e);
}

int sandbox_config_parse(const char *text, size_t len, struct sandbox_config *out, struct err *e)
{
	struct sandbox_config c = { .name = NULL };
	json_error_t je;
	json_t *j = json_loadb(text, len, JSON_REJECT_DUPLICATES, &je);
	int rc;

	if (!j)
		return err_set(e, EINVAL, SANDBOX_CONFIG_FILE ":%d: %s", je.line, je.text);
	rc = config_from_json(j, &c, e);
	json_decref(j);
	if (rc) {
		sandbox_config_fini(&c);
		return rc;
	}
	*out = c;
	return 0;
}
