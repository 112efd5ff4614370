/* SPDX-License-Identifier: Apache-2.0 */
/* Members of what a server answered, each with the type that it must have; and base64 (RFC 4648 §4). */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "capi/internal.h"
#include "codec/base64.h"

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

char *capi_base64_encode(const void *p, size_t n)
{
	struct buf b = BUF_INIT;

	if (base64_encode(&b, p, n) || buf_append(&b, "", 1))
		buf_reset(&b);
	return (char *)b.mem; /* nothing was consumed: it is where the text begins */
}

int capi_base64_decode(const char *text, size_t n, uint8_t **out, size_t *len)
{
	struct buf b = BUF_INIT;
	int rc = base64_decode(&b, text, n);

	if (!rc)
		rc = buf_append(&b, "", 1);
	if (rc) {
		buf_fini(&b);
		return rc;
	}
	*len = buf_len(&b) - 1;
	*out = b.mem;
	return 0;
}
