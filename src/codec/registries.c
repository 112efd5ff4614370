/* SPDX-License-Identifier: Apache-2.0 */
#include "codec/registries.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

/* A URL of a host, without user, query and the like: it is put in front of "/v2/…". */
static bool registries_url_valid(const char *s)
{
	const char *host = !strncmp(s, "https://", 8)  ? s + 8
			   : !strncmp(s, "http://", 7) ? s + 7
						       : "";
	size_t n = strlen(host);

	return n && n < REGISTRY_URL_MAX - 16 && host[0] != '/' && host[n - 1] != '/' &&
	       strspn(host,
		      "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_:/[]") == n;
}

static int registries_mirrors(const json_t *list, struct registry_options *o, struct err *e)
{
	if (!json_is_array(list) || json_array_size(list) > REGISTRY_MIRRORS_MAX)
		return err_set(e, EINVAL, "mirrors is a list of at most %u URLs",
			       REGISTRY_MIRRORS_MAX);
	for (size_t i = 0; i < json_array_size(list); i++) {
		const char *url = json_string_value(json_array_get(list, i));

		if (!url || !registries_url_valid(url))
			return err_set(e, EINVAL,
				       "a mirror is https://HOST[:PORT] or http://HOST[:PORT]");
		snprintf(o->mirrors[o->n_mirrors++], REGISTRY_URL_MAX, "%s", url);
	}
	return 0;
}

static int registries_load(json_t *object, struct registry_options *o, struct err *e)
{
	const char *key, *path;
	json_t *v;
	int rc = 0;

	if (!json_is_object(object))
		return err_set(e, EINVAL, "not an object");
	json_object_foreach(object, key, v)
	{
		if (!strcmp(key, "mirrors")) {
			rc = registries_mirrors(v, o, e);
		} else if (!strcmp(key, "insecure") && json_is_boolean(v)) {
			o->insecure = json_is_true(v);
		} else if (!strcmp(key, "ca_certs") && json_is_string(v)) {
			path = json_string_value(v);
			if (path[0] != '/' || strlen(path) >= sizeof(o->ca_certs))
				return err_set(e, EINVAL, "ca_certs is an absolute path");
			snprintf(o->ca_certs, sizeof(o->ca_certs), "%s", path);
		} else {
			return err_set(
				e, EINVAL,
				"member '%.40s': expected mirrors (list), insecure (boolean) or "
				"ca_certs (path)",
				key);
		}
		if (rc)
			return rc;
	}
	return 0;
}

int registries_find(const void *p, size_t len, const char *registry, struct registry_options *out,
		    struct err *e)
{
	json_error_t je = { .line = 0 };
	json_t *doc =
		len <= REGISTRIES_MAX ? json_loadb(p, len, JSON_REJECT_DUPLICATES, &je) : NULL;
	json_t *all = json_object_get(doc, "registries"), *v;
	const char *key;
	int rc = 0;

	*out = (struct registry_options){ .n_mirrors = 0 };
	if (!doc)
		return err_set(e, EINVAL, "line %d: not valid JSON", je.line);
	if (!json_is_object(all) || json_object_size(doc) != 1)
		rc = err_set(e, EINVAL, "expected {\"registries\": {NAME: {…}}} and nothing else");
	json_object_foreach(all, key, v)
	{
		/* All are checked: a mistake is found when it is made, not on the day it counts. */
		struct registry_options o = { .listed = true };

		if (rc)
			break;
		rc = registries_load(v, &o, e);
		if (rc)
			err_wrap(e, "registry %.80s", key);
		else if (!strcmp(key, registry))
			*out = o;
	}
	json_decref(doc);
	return rc;
}
