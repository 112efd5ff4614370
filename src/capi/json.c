/* SPDX-License-Identifier: Apache-2.0 */
/* Members of what a server answered, each with the type that it must have; and base64 (RFC 4648 §4). */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "capi/internal.h"

int capi_bad_member(const char *key, struct msb_error **err)
{
	return capi_fail(err, MSB_ERR_INVALID_RESPONSE, "the server's answer has no proper '%s'",
			 key);
}

/* The member, or NULL for null and nothing. */
static const json_t *json_member(const json_t *o, const char *key)
{
	const json_t *v = json_object_get(o, key);

	return json_is_null(v) ? NULL : v;
}

int capi_opt_text(const json_t *o, const char *key, const char **out, struct msb_error **err)
{
	const json_t *v = json_member(o, key);

	if (!json_is_object(o) || (v && !json_is_string(v)))
		return capi_bad_member(key, err);
	if (v)
		*out = json_string_value(v);
	return 0;
}

int capi_get_text(const json_t *o, const char *key, const char **out, struct msb_error **err)
{
	*out = NULL;
	if (capi_opt_text(o, key, out, NULL) || !*out)
		return capi_bad_member(key, err);
	return 0;
}

int capi_opt_number(const json_t *o, const char *key, double *out, struct msb_error **err)
{
	const json_t *v = json_member(o, key);

	if (!json_is_object(o) || (v && !json_is_number(v)))
		return capi_bad_member(key, err);
	if (v)
		*out = json_number_value(v);
	return 0;
}

int capi_opt_integer(const json_t *o, const char *key, int64_t *out, struct msb_error **err)
{
	const json_t *v = json_member(o, key);

	if (!json_is_object(o) || (v && !json_is_integer(v)))
		return capi_bad_member(key, err);
	if (v)
		*out = json_integer_value(v);
	return 0;
}

int capi_opt_bool(const json_t *o, const char *key, int *out, struct msb_error **err)
{
	const json_t *v = json_member(o, key);

	if (!json_is_object(o) || (v && !json_is_boolean(v)))
		return capi_bad_member(key, err);
	if (v)
		*out = json_is_true(v);
	return 0;
}

int capi_get_array(const json_t *o, const char *key, json_t **out, struct msb_error **err)
{
	*out = json_object_get(o, key);
	return json_is_array(*out) ? 0 : capi_bad_member(key, err);
}

/* ---- base64 ---- */

static const char base64_digits[] =
	"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

char *capi_base64_encode(const void *p, size_t n)
{
	const uint8_t *s = p;
	size_t room;
	char *text, *to;

	if (!checked_add(n, (size_t)2, &room) || !checked_mul(room / 3, (size_t)4, &room) ||
	    !checked_add(room, (size_t)1, &room))
		return NULL;
	text = to = malloc(room);
	if (!text)
		return NULL;
	for (size_t i = 0; i < n; i += 3) {
		uint32_t v = (uint32_t)s[i] << 16;

		if (i + 1 < n)
			v |= (uint32_t)s[i + 1] << 8;
		if (i + 2 < n)
			v |= s[i + 2];
		*to++ = base64_digits[v >> 18];
		*to++ = base64_digits[v >> 12 & 63];
		*to++ = i + 1 < n ? base64_digits[v >> 6 & 63] : '=';
		*to++ = i + 2 < n ? base64_digits[v & 63] : '=';
	}
	*to = '\0';
	return text;
}

static int base64_value(char c)
{
	const char *at = c ? strchr(base64_digits, c) : NULL;

	return at ? (int)(at - base64_digits) : -1;
}

/* Four digits, of which the last @pad are padding. Return: 0 or -EINVAL. */
static int base64_quad(const char *q, unsigned pad, uint8_t *to)
{
	uint32_t v = 0;

	for (unsigned i = 0; i < 4; i++) {
		int digit = i < 4 - pad ? base64_value(q[i]) : 0;

		if (digit < 0)
			return -EINVAL;
		v = v << 6 | (uint32_t)digit;
	}
	/* Bits that no byte has must be 0, so that there is one text for some bytes. */
	if (v & ((1u << 8 * pad) - 1))
		return -EINVAL;
	to[0] = (uint8_t)(v >> 16);
	if (pad < 2)
		to[1] = (uint8_t)(v >> 8);
	if (pad < 1)
		to[2] = (uint8_t)v;
	return 0;
}

int capi_base64_decode(const char *text, size_t n, uint8_t **out, size_t *len)
{
	auto_free uint8_t *bytes = NULL;
	unsigned pad = 0;

	if (n % 4)
		return -EINVAL;
	if (n)
		pad = text[n - 1] != '=' ? 0 : text[n - 2] != '=' ? 1 : 2;
	bytes = malloc(n / 4 * 3 + 1);
	if (!bytes)
		return -ENOMEM;
	for (size_t i = 0; i < n / 4; i++)
		if (base64_quad(text + 4 * i, i + 1 == n / 4 ? pad : 0, bytes + 3 * i))
			return -EINVAL;
	*len = n / 4 * 3 - pad;
	bytes[*len] = 0;
	*out = take_ptr(&bytes);
	return 0;
}
