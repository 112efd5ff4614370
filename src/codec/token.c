/* SPDX-License-Identifier: Apache-2.0 */
#include "codec/token.h"

#include <errno.h>
#include <jansson.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "codec/sha256.h"

#define TOKEN_BLOCK 64u /* of SHA-256 */
#define TOKEN_SECRET_MAX 4096u

/* {"alg":"HS256","typ":"JWT"} */
#define TOKEN_HEADER "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9"

static const char token_digits[] =
	"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/* RFC 4648 §5 without padding. @to has room for 4/3 of @n + 2. */
static size_t token_encode(const uint8_t *p, size_t n, char *to)
{
	size_t k = 0;

	for (size_t i = 0; i < n; i += 3) {
		uint32_t v = (uint32_t)p[i] << 16;

		if (i + 1 < n)
			v |= (uint32_t)p[i + 1] << 8;
		if (i + 2 < n)
			v |= p[i + 2];
		to[k++] = token_digits[v >> 18 & 63];
		to[k++] = token_digits[v >> 12 & 63];
		if (i + 1 < n)
			to[k++] = token_digits[v >> 6 & 63];
		if (i + 2 < n)
			to[k++] = token_digits[v & 63];
	}
	to[k] = '\0';
	return k;
}

/* Return: bytes written to @to (room for @n), or -EINVAL. */
static int token_decode(const char *s, size_t n, uint8_t *to)
{
	uint32_t v = 0;
	unsigned bits = 0;
	int k = 0;

	for (size_t i = 0; i < n; i++) {
		const char *d = s[i] ? strchr(token_digits, s[i]) : NULL;

		if (!d)
			return -EINVAL;
		v = (v << 6 | (uint32_t)(d - token_digits)) & 0xffffff;
		bits += 6;
		if (bits >= 8) {
			bits -= 8;
			to[k++] = (uint8_t)(v >> bits);
		}
	}
	/* Left-over bits must be zero: one text for one value. */
	return bits >= 6 || (v & ((1u << bits) - 1)) ? -EINVAL : k;
}

bool token_equal(const void *a, const void *b, size_t n)
{
	const volatile uint8_t *x = a, *y = b;
	uint8_t diff = 0;

	for (size_t i = 0; i < n; i++)
		diff |= x[i] ^ y[i];
	return !diff;
}

/* HMAC-SHA-256 (RFC 2104). */
static int token_sign(const void *secret, size_t secret_len, const char *text, size_t len,
		      uint8_t out[SHA256_BYTES])
{
	uint8_t key[TOKEN_BLOCK] = { 0 }, outer[TOKEN_BLOCK + SHA256_BYTES];
	uint8_t inner[TOKEN_BLOCK + TOKEN_MAX];

	if (len > TOKEN_MAX || !secret_len || secret_len > TOKEN_SECRET_MAX)
		return -EINVAL;
	if (secret_len > TOKEN_BLOCK)
		sha256(secret, secret_len, key);
	else
		memcpy(key, secret, secret_len);
	for (size_t i = 0; i < TOKEN_BLOCK; i++) {
		inner[i] = key[i] ^ 0x36;
		outer[i] = key[i] ^ 0x5c;
	}
	memcpy(inner + TOKEN_BLOCK, text, len);
	sha256(inner, TOKEN_BLOCK + len, outer + TOKEN_BLOCK);
	sha256(outer, sizeof(outer), out);
	explicit_bzero(key, sizeof(key));
	return 0;
}

static const struct {
	const char *claim;
	size_t at;
} token_limit_claims[] = {
	{ "max_sandboxes", offsetof(struct token_limits, sandboxes) },
	{ "max_memory", offsetof(struct token_limits, memory_mib) },
	{ "rate", offsetof(struct token_limits, rate) },
};

static uint32_t *token_limit(struct token_limits *l, size_t i)
{
	return (uint32_t *)((char *)l + token_limit_claims[i].at);
}

static bool token_has_limits(const struct token_limits *l)
{
	return l->sandboxes || l->memory_mib || l->rate;
}

static int token_add_limits(json_t *j, struct token_limits l)
{
	int rc = 0;

	for (size_t i = 0; i < ARRAY_SIZE(token_limit_claims); i++)
		if (*token_limit(&l, i))
			rc |= json_object_set_new(j, token_limit_claims[i].claim,
						  json_integer(*token_limit(&l, i)));
	return rc;
}

/*
 * A limit that is not understood is no licence to ignore it, and one without an id could
 * not be accounted for.
 */
static bool token_read_limits(json_t *j, struct token_claims *c)
{
	for (size_t i = 0; i < ARRAY_SIZE(token_limit_claims); i++) {
		json_t *v = json_object_get(j, token_limit_claims[i].claim);

		*token_limit(&c->limits, i) = 0;
		if (!v)
			continue;
		if (!json_is_integer(v) || json_integer_value(v) < 1 ||
		    json_integer_value(v) > UINT32_MAX)
			return false;
		*token_limit(&c->limits, i) = (uint32_t)json_integer_value(v);
	}
	return c->id[0] || !token_has_limits(&c->limits);
}

int token_make(const void *secret, size_t secret_len, const struct token_claims *c, char **out)
{
	auto_free char *claims = NULL;
	auto_free char *key = NULL;
	json_t *j = json_pack("{s:I, s:I, s:s}", "exp", (json_int_t)c->expires, "iat",
			      (json_int_t)c->issued, "namespace", c->ns);
	uint8_t mac[SHA256_BYTES];
	size_t n;
	int rc;

	if (token_has_limits(&c->limits) && !c->id[0]) {
		json_decref(j);
		return -EINVAL;
	}
	if (j && ((c->id[0] && json_object_set_new(j, "jti", json_string(c->id))) ||
		  token_add_limits(j, c->limits))) {
		json_decref(j);
		j = NULL;
	}
	claims = j ? json_dumps(j, JSON_COMPACT) : NULL;
	json_decref(j);
	key = malloc(TOKEN_MAX);
	if (!claims || !key)
		return -ENOMEM;
	if (strlen(claims) > TOKEN_MAX / 2)
		return -EINVAL;
	n = (size_t)snprintf(key, TOKEN_MAX, TOKEN_PREFIX TOKEN_HEADER ".");
	n += token_encode((const uint8_t *)claims, strlen(claims), key + n);
	rc = token_sign(secret, secret_len, key + strlen(TOKEN_PREFIX), n - strlen(TOKEN_PREFIX),
			mac);
	if (rc)
		return rc;
	key[n++] = '.';
	token_encode(mac, sizeof(mac), key + n);
	*out = take_ptr(&key);
	return 0;
}

/* Only the algorithm matters: whoever holds the secret may write the header differently. */
static bool token_header_ok(const char *s, size_t n)
{
	uint8_t text[TOKEN_MAX];
	json_t *j, *crit;
	const char *alg;
	int len = token_decode(s, n, text);
	bool ok;

	j = len > 0 ? json_loadb((char *)text, (size_t)len, JSON_REJECT_DUPLICATES, NULL) : NULL;
	alg = json_string_value(json_object_get(j, "alg"));
	crit = json_object_get(j, "crit"); /* extensions that must be understood: none are */
	ok = alg && !strcmp(alg, "HS256") && !crit;
	json_decref(j);
	return ok;
}

static int token_read_claims(const char *s, size_t n, struct token_claims *c)
{
	uint8_t text[TOKEN_MAX];
	json_t *j, *exp, *iat, *ns, *id;
	int len = token_decode(s, n, text), rc = -EACCES;

	j = len > 0 ? json_loadb((char *)text, (size_t)len, JSON_REJECT_DUPLICATES, NULL) : NULL;
	exp = json_object_get(j, "exp");
	iat = json_object_get(j, "iat");
	ns = json_object_get(j, "namespace");
	id = json_object_get(j, "jti");
	if (json_is_integer(exp) && (!iat || json_is_integer(iat)) &&
	    (!ns || (json_is_string(ns) && json_string_length(ns) < sizeof(c->ns))) &&
	    (!id || (json_is_string(id) && json_string_length(id) < sizeof(c->id)))) {
		c->expires = json_integer_value(exp);
		c->issued = json_integer_value(iat);
		snprintf(c->ns, sizeof(c->ns), "%s", ns ? json_string_value(ns) : "*");
		snprintf(c->id, sizeof(c->id), "%s", id ? json_string_value(id) : "");
		rc = token_read_limits(j, c) ? 0 : -EACCES;
	}
	json_decref(j);
	return rc;
}

int token_check(const void *secret, size_t secret_len, const char *key, int64_t now_s,
		struct token_claims *out)
{
	uint8_t mac[SHA256_BYTES], given[TOKEN_MAX];
	struct token_claims c;
	const char *dot, *dot2;

	if (strncmp(key, TOKEN_PREFIX, strlen(TOKEN_PREFIX)) || strlen(key) >= TOKEN_MAX)
		return -EACCES;
	key += strlen(TOKEN_PREFIX);
	dot = strchr(key, '.');
	dot2 = dot ? strchr(dot + 1, '.') : NULL;
	if (!dot2 || token_sign(secret, secret_len, key, (size_t)(dot2 - key), mac) ||
	    token_decode(dot2 + 1, strlen(dot2 + 1), given) != (int)sizeof(mac) ||
	    !token_equal(mac, given, sizeof(mac)))
		return -EACCES;
	/* Only now is anything of it looked at. */
	if (!token_header_ok(key, (size_t)(dot - key)) ||
	    token_read_claims(dot + 1, (size_t)(dot2 - dot - 1), &c))
		return -EACCES;
	if (c.expires < now_s - TOKEN_LEEWAY_S)
		return -ETIME;
	*out = c;
	return 0;
}
