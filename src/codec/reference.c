/* SPDX-License-Identifier: Apache-2.0 */
#include "codec/reference.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define DEFAULT_REGISTRY "docker.io"
#define DEFAULT_FOLDER "library/"
#define OWN_FOLDER "microsandbox/"

static bool reference_lower(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
}

static bool reference_word(char c)
{
	return reference_lower(c) || (c >= 'A' && c <= 'Z') || c == '_';
}

bool digest_valid(const char *s, size_t len)
{
	if (len != DIGEST_SIZE - 1 || memcmp(s, "sha256:", 7))
		return false;
	for (size_t i = 7; i < len; i++)
		if (!((s[i] >= '0' && s[i] <= '9') || (s[i] >= 'a' && s[i] <= 'f')))
			return false;
	return true;
}

/* component ::= [a-z0-9]+ ((. | _ | __ | -+) [a-z0-9]+)* */
static bool reference_component(const char *s, size_t len)
{
	size_t i = 0;

	for (;;) {
		size_t start = i, run;

		while (i < len && reference_lower(s[i]))
			i++;
		if (i == start)
			return false;
		if (i == len)
			return true;
		run = i;
		while (i < len && s[i] == s[run])
			i++;
		if (!(s[run] == '-' || (s[run] == '.' && i - run == 1) ||
		      (s[run] == '_' && i - run <= 2)))
			return false;
	}
}

static bool reference_path(const char *s, size_t len)
{
	for (;;) {
		const char *slash = memchr(s, '/', len);
		size_t n = slash ? (size_t)(slash - s) : len;

		if (!reference_component(s, n))
			return false;
		if (!slash)
			return true;
		s += n + 1;
		len -= n + 1;
	}
}

static bool reference_tag(const char *s, size_t len)
{
	if (!len || len > 128 || !reference_word(s[0]))
		return false;
	for (size_t i = 1; i < len; i++)
		if (!reference_word(s[i]) && s[i] != '.' && s[i] != '-')
			return false;
	return true;
}

/* host[:port], a name or an IPv4 address, or an IPv6 address in brackets */
static bool reference_registry(const char *s, size_t len)
{
	const char *colon = memrchr(s, ':', len);
	size_t host = len;

	if (s[0] == '[') {
		const char *end = memchr(s, ']', len);

		if (!end || end == s + 1)
			return false;
		for (const char *p = s + 1; p < end; p++)
			if (!strchr("0123456789abcdefABCDEF:", *p))
				return false;
		host = (size_t)(end - s) + 1;
		if (host == len)
			return true;
		if (s[host] != ':')
			return false;
		colon = s + host;
	} else if (colon) {
		host = (size_t)(colon - s);
	}
	if (s[0] != '[') {
		/* Labels that start and end with a letter or digit, between single points. */
		for (size_t i = 0; i < host; i++) {
			bool edge = !i || i + 1 == host || s[i - 1] == '.' || s[i + 1] == '.';

			if (s[i] == '.' ? edge : !reference_word(s[i]) && (edge || s[i] != '-'))
				return false;
		}
		if (!host)
			return false;
	}
	if (host == len)
		return true;
	if (len - host - 1 < 1 || len - host - 1 > 5)
		return false;
	for (size_t i = host + 1; i < len; i++)
		if (s[i] < '0' || s[i] > '9')
			return false;
	return colon != NULL;
}

static bool reference_is_registry(const char *s, size_t len)
{
	return memchr(s, '.', len) || memchr(s, ':', len) ||
	       (len == strlen("localhost") && !memcmp(s, "localhost", len));
}

static void reference_copy(char *to, const char *s, size_t len)
{
	memcpy(to, s, len);
	to[len] = '\0';
}

int reference_parse(const char *s, size_t len, struct reference *out, struct err *e)
{
	const char *all = s, *at, *slash, *colon;
	struct reference r = { .registry = "" };
	size_t all_len = len;

	if (!len || len >= REFERENCE_MAX || memchr(s, '\0', len))
		return err_set(e, EINVAL, "an image name has between 1 and %u characters",
			       REFERENCE_MAX - 1);
	if (digest_valid(s, len)) {
		reference_copy(r.digest, s, len);
		*out = r;
		return 0;
	}
	at = memchr(s, '@', len);
	if (at) {
		size_t n = len - (size_t)(at - s) - 1;

		if (!digest_valid(at + 1, n))
			goto bad;
		reference_copy(r.digest, at + 1, n);
		len = (size_t)(at - s);
	}
	slash = memchr(s, '/', len);
	if (slash && reference_is_registry(s, (size_t)(slash - s))) {
		size_t n = (size_t)(slash - s);

		if (n >= sizeof(r.registry) || !reference_registry(s, n))
			goto bad;
		reference_copy(r.registry, s, n);
		s += n + 1;
		len -= n + 1;
	}
	colon = memchr(s, ':', len);
	if (colon) {
		size_t n = len - (size_t)(colon - s) - 1;

		if (!reference_tag(colon + 1, n))
			goto bad;
		reference_copy(r.tag, colon + 1, n);
		len = (size_t)(colon - s);
	}
	if (len >= sizeof(r.path) || !reference_path(s, len))
		goto bad;
	reference_copy(r.path, s, len);
	*out = r;
	return 0;
bad:
	/* What was given may hold anything: only a plain start of it is repeated. */
	for (len = 0; len < all_len && len < 80 && all[len] > ' ' && all[len] < 0x7f; len++)
		;
	return err_set(
		e, EINVAL,
		"'%.*s' is not an image name: expected [registry/]path[:tag][@sha256:digest] "
		"with a lower-case path",
		(int)len, all);
}

unsigned reference_candidates(const struct reference *r,
			      char names[REFERENCE_CANDIDATES][REFERENCE_MAX])
{
	const char *tag = r->tag[0] ? r->tag : "latest";
	bool simple = !strchr(r->path, '/');
	unsigned n = 0;

	if (!r->path[0])
		return 0;
	if (r->registry[0]) {
		bool hub = !strcmp(r->registry, DEFAULT_REGISTRY);

		snprintf(names[n++], REFERENCE_MAX, "%s/%s%s:%s", r->registry,
			 hub && simple ? DEFAULT_FOLDER : "", r->path, tag);
		return n;
	}
	snprintf(names[n++], REFERENCE_MAX, "%s:%s", r->path, tag);
	snprintf(names[n++], REFERENCE_MAX, DEFAULT_REGISTRY "/%s%s:%s",
		 simple ? DEFAULT_FOLDER : "", r->path, tag);
	if (simple)
		snprintf(names[n++], REFERENCE_MAX, OWN_FOLDER "%s:%s", r->path, tag);
	return n;
}

const char *reference_recipe(const struct reference *r)
{
	const char *name = r->path;

	if (r->registry[0] || r->digest[0] || !r->path[0] || (r->tag[0] && strcmp(r->tag, "latest")))
		return NULL;
	if (!strncmp(name, OWN_FOLDER, strlen(OWN_FOLDER)))
		name += strlen(OWN_FOLDER);
	return strchr(name, '/') ? NULL : name;
}
