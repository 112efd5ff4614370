/* SPDX-License-Identifier: Apache-2.0 */
#include "codec/authfile.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "codec/base64.h"
#include "codec/reference.h"

#define HUB "docker.io"
#define HUB_KEY "https://index.docker.io/v1/"

const char *authfile_key(const char *registry)
{
	return strcmp(registry, HUB) ? registry : HUB_KEY;
}

static int authfile_load(const void *p, size_t len, json_t **out, struct err *e)
{
	json_error_t je;

	if (len > AUTHFILE_MAX)
		return err_set(e, EINVAL, "larger than %u KiB", AUTHFILE_MAX >> 10);
	*out = json_loadb(p, len, JSON_REJECT_DUPLICATES, &je);
	if (*out && json_is_object(*out))
		return 0;
	if (!*out)
		return err_set(e, EINVAL, "line %d: not valid JSON", je.line);
	json_decref(*out);
	return err_set(e, EINVAL, "not a JSON object");
}

/* Keys are "host", "host/path", or URLs of old: "https://host/v1/". */
static void authfile_normal_key(const char *key, char *to, size_t size)
{
	size_t n;

	if (!strncmp(key, "https://", 8))
		key += 8;
	else if (!strncmp(key, "http://", 7))
		key += 7;
	snprintf(to, size, "%s", key);
	n = strlen(to);
	while (n && to[n - 1] == '/')
		to[--n] = '\0';
	if (n > 3 && (!strcmp(to + n - 3, "/v1") || !strcmp(to + n - 3, "/v2")))
		to[n - 3] = '\0';
	if (!strcmp(to, "index.docker.io") || !strcmp(to, "registry-1.docker.io"))
		snprintf(to, size, HUB);
}

/* How well a key fits: its length, if it is the name or one of the folders above it. */
static size_t authfile_fits(const char *key, const char *full)
{
	char k[512];
	size_t n;

	authfile_normal_key(key, k, sizeof(k));
	n = strlen(k);
	return !strncmp(k, full, n) && (!full[n] || full[n] == '/') ? n : 0;
}

/* The member of an object whose key fits best. */
static const json_t *authfile_best(json_t *object, const char *full, bool folders)
{
	const json_t *best = NULL;
	const char *key;
	json_t *value;
	size_t had = 0;

	json_object_foreach(object, key, value)
	{
		size_t n = authfile_fits(key, full);

		if (!folders && full[n])
			continue;
		if (n > had) {
			had = n;
			best = value;
		}
	}
	return best;
}

/* A string that can go into a header: no control bytes. */
static int authfile_copy(const char *s, size_t len, char *to, size_t size, struct err *e)
{
	if (len >= size)
		return err_set(e, EINVAL, "a user name or password that is too long");
	for (size_t i = 0; i < len; i++)
		if ((unsigned char)s[i] < ' ' || s[i] == 0x7f)
			return err_set(e, EINVAL, "a user name or password with a control byte");
	memcpy(to, s, len);
	to[len] = '\0';
	return 0;
}

static int authfile_entry(const json_t *entry, struct credential *c, struct err *e)
{
	const char *auth = json_string_value(json_object_get(entry, "auth"));
	const char *token = json_string_value(json_object_get(entry, "identitytoken"));
	struct buf text = BUF_INIT;
	const char *p, *colon;
	size_t n;
	int rc;

	if (token && *token) {
		c->identity = true;
		return authfile_copy(token, strlen(token), c->secret, sizeof(c->secret), e);
	}
	if (!auth || !*auth)
		return 0;
	if (base64_decode(&text, auth, strlen(auth))) {
		buf_fini(&text);
		return err_set(e, EINVAL, "member auth is not base64");
	}
	p = (const char *)buf_data(&text);
	n = buf_len(&text);
	colon = n ? memchr(p, ':', n) : NULL;
	if (!colon) {
		rc = err_set(e, EINVAL, "member auth is not USER:PASSWORD in base64");
	} else {
		/* podman of old pads with NUL. */
		while (n && !p[n - 1])
			n--;
		rc = authfile_copy(p, (size_t)(colon - p), c->user, sizeof(c->user), e);
		if (!rc)
			rc = authfile_copy(colon + 1, n - (size_t)(colon + 1 - p), c->secret,
					   sizeof(c->secret), e);
	}
	buf_fini(&text);
	return rc;
}

/* A helper's name becomes part of a program's name. */
static int authfile_helper(const char *name, struct authfile_match *m, struct err *e)
{
	size_t n = strlen(name);

	if (n >= sizeof(m->helper) ||
	    strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUV"
			 "WXYZ0123456789-_.") != n)
		return err_set(e, EINVAL, "a credential helper whose name is no program's");
	memcpy(m->helper, name, n + 1);
	return 0;
}

int authfile_find(const void *p, size_t len, const char *registry, const char *path,
		  struct authfile_match *out, struct err *e)
{
	struct authfile_match m = { .helper = "" };
	char full[REFERENCE_MAX];
	const json_t *entry;
	const char *helper;
	json_t *doc;
	int rc = authfile_load(p, len, &doc, e);

	if (rc)
		return rc;
	snprintf(full, sizeof(full), "%s%s%s", registry, *path ? "/" : "", path);
	helper = json_string_value(
		authfile_best(json_object_get(doc, "credHelpers"), registry, false));
	entry = authfile_best(json_object_get(doc, "auths"), full, true);
	if (!helper && entry) {
		rc = authfile_entry(entry, &m.credential, e);
		if (!rc && !m.credential.secret[0])
			helper = json_string_value(json_object_get(doc, "credsStore"));
	} else if (!helper) {
		helper = json_string_value(json_object_get(doc, "credsStore"));
	}
	if (!rc && helper && *helper)
		rc = authfile_helper(helper, &m, e);
	json_decref(doc);
	if (!rc && !m.helper[0] && !m.credential.secret[0])
		return -ENOENT;
	if (!rc)
		*out = m;
	return rc;
}

int authfile_helper_parse(const void *p, size_t len, struct credential *out, struct err *e)
{
	struct credential c = { .user = "" };
	const char *user, *secret;
	json_t *doc;
	int rc = authfile_load(p, len, &doc, e);

	if (rc)
		return rc;
	user = json_string_value(json_object_get(doc, "Username"));
	secret = json_string_value(json_object_get(doc, "Secret"));
	if (!secret || !*secret)
		rc = err_set(e, EINVAL, "no member Secret");
	if (!rc)
		rc = authfile_copy(secret, strlen(secret), c.secret, sizeof(c.secret), e);
	if (!rc && user && strcmp(user, "<token>"))
		rc = authfile_copy(user, strlen(user), c.user, sizeof(c.user), e);
	else
		c.identity = true;
	json_decref(doc);
	if (!rc)
		*out = c;
	return rc;
}

static json_t *authfile_dump(const struct credential *c)
{
	char both[CREDENTIAL_USER_MAX + CREDENTIAL_SECRET_MAX];
	struct buf text = BUF_INIT;
	json_t *entry = NULL;

	if (c->identity)
		return json_pack("{s:s}", "identitytoken", c->secret);
	snprintf(both, sizeof(both), "%s:%s", c->user, c->secret);
	if (!base64_encode(&text, both, strlen(both)) && !buf_append(&text, "", 1))
		entry = json_pack("{s:s}", "auth", buf_data(&text));
	buf_fini(&text);
	return entry;
}

char *authfile_update(const void *p, size_t len, const char *registry, const struct credential *c,
		      bool *found, struct err *e)
{
	const char *key = authfile_key(registry);
	json_t *doc = NULL, *auths;
	char *text = NULL;

	if (len ? authfile_load(p, len, &doc, e) != 0 : !(doc = json_object()))
		return NULL;
	auths = json_object_get(doc, "auths");
	*found = json_object_get(auths, key) != NULL;
	if (c && !json_is_object(auths)) {
		json_object_set_new(doc, "auths", json_object());
		auths = json_object_get(doc, "auths");
	}
	if (c ? json_object_set_new(auths, key, authfile_dump(c)) == 0 : true) {
		if (!c)
			json_object_del(auths, key);
		text = json_dumps(doc, JSON_INDENT(2));
	}
	json_decref(doc);
	if (!text)
		err_errno(e, ENOMEM, "write the file of passwords");
	return text;
}
