/* SPDX-License-Identifier: Apache-2.0 */
/* JSON-RPC 2.0 over POST /api/v1/rpc: what is sent, and what an answer means (docs/server.md). */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "capi/internal.h"
#include "codec/utf8.h"

#define RPC_PATH "/api/v1/rpc"
#define RPC_EXCERPT 200 /* bytes of an answer that is no JSON which are shown */

/* components.errors of api/openrpc.json; all others are MSB_ERR_SERVER. */
static const struct {
	int code, kind;
} rpc_codes[] = {
	{ -32602, MSB_ERR_INVALID },         { -32001, MSB_ERR_NOT_FOUND },
	{ -32002, MSB_ERR_SANDBOX_FAILED },  { -32003, MSB_ERR_NOT_RUN },
	{ -32004, MSB_ERR_COMMAND_TIMEOUT }, { -32005, MSB_ERR_LIMIT },
	{ -32006, MSB_ERR_DENIED },          { -32007, MSB_ERR_FILE },
};

/* Answers that are not JSON-RPC have only their HTTP status. */
static const struct {
	int status, kind;
} rpc_statuses[] = {
	{ 400, MSB_ERR_INVALID },   { 401, MSB_ERR_UNAUTHORIZED }, { 403, MSB_ERR_DENIED },
	{ 404, MSB_ERR_NOT_FOUND }, { 429, MSB_ERR_LIMIT },
};

int capi_kind_of_code(json_int_t code)
{
	for (size_t i = 0; i < ARRAY_SIZE(rpc_codes); i++)
		if (rpc_codes[i].code == code)
			return rpc_codes[i].kind;
	return MSB_ERR_SERVER;
}

static int rpc_kind_of_status(int status)
{
	for (size_t i = 0; i < ARRAY_SIZE(rpc_statuses); i++)
		if (rpc_statuses[i].status == status)
			return rpc_statuses[i].kind;
	return MSB_ERR_SERVER;
}

/* ---- parameters ---- */

int capi_set(json_t *o, const char *key, json_t *value, struct msb_error **err)
{
	return json_object_set_new(o, key, value) ? capi_no_memory(err) : 0;
}

/* A JSON text. @key: told to people. */
static int rpc_text(json_t **out, const char *key, const char *text, size_t len,
		    struct msb_error **err)
{
	unsigned n, bad;

	*out = json_stringn(text, len);
	if (*out)
		return 0;
	for (size_t i = 0; i < len; i += n) {
		n = utf8_next((const uint8_t *)text + i, len - i, &bad);
		if (!n)
			return capi_fail(err, MSB_ERR_ARGUMENT, "%s: no UTF-8 at byte %zu", key, i);
	}
	return capi_no_memory(err);
}

int capi_set_text(json_t *o, const char *key, const char *text, struct msb_error **err)
{
	json_t *v;
	int rc;

	if (!text)
		return 0;
	rc = rpc_text(&v, key, text, strlen(text), err);
	return rc ? rc : capi_set(o, key, v, err);
}

int capi_set_seconds(json_t *o, const char *key, double seconds, struct msb_error **err)
{
	/* A whole number as one, as every other language writes it. */
	bool whole = seconds < 1e15 && (double)(json_int_t)seconds == seconds;

	return capi_set(o, key, whole ? json_integer((json_int_t)seconds) : json_real(seconds), err);
}

int capi_set_texts(json_t *o, const char *key, const char *const *texts, struct msb_error **err)
{
	json_t *list, *v;
	int rc = 0;

	if (!texts)
		return 0;
	list = json_array();
	for (; list && *texts && !rc; texts++) {
		rc = rpc_text(&v, key, *texts, strlen(*texts), err);
		if (!rc && json_array_append_new(list, v))
			rc = capi_no_memory(err);
	}
	if (!rc)
		return capi_set(o, key, list, err);
	json_decref(list);
	return rc;
}

/* Puts "NAME=VALUE" into @pairs. */
static int rpc_pair(json_t *pairs, const char *key, const char *text, struct msb_error **err)
{
	const char *equals = strchr(text, '=');
	auto_free char *name = NULL;
	json_t *v;
	int rc;

	if (!equals || equals == text)
		return capi_fail(err, MSB_ERR_ARGUMENT, "%s: '%s' has no name before a '='", key,
				 text);
	rc = rpc_text(&v, key, text, (size_t)(equals - text), err); /* is the name UTF-8? */
	if (rc)
		return rc;
	json_decref(v);
	rc = rpc_text(&v, key, equals + 1, strlen(equals + 1), err);
	if (rc)
		return rc;
	name = strndup(text, (size_t)(equals - text));
	if (!name) {
		json_decref(v);
		return capi_no_memory(err);
	}
	return capi_set(pairs, name, v, err);
}

int capi_set_pairs(json_t *o, const char *key, const char *const *texts, struct msb_error **err)
{
	json_t *pairs;
	int rc = 0;

	if (!texts)
		return 0;
	pairs = json_object();
	for (; pairs && *texts && !rc; texts++)
		rc = rpc_pair(pairs, key, *texts, err);
	if (!rc)
		return capi_set(o, key, pairs, err);
	json_decref(pairs);
	return rc;
}

/* ---- answers ---- */

/* An answer that has no message of its own; @text is what it is, cut and made printable. */
static int rpc_excerpt(int status, const void *body, size_t len, int kind, struct msb_error **err)
{
	struct buf text = BUF_INIT;
	const char *s;
	size_t n;
	int rc;

	if (utf8_clean(&text, body, len < RPC_EXCERPT ? len : RPC_EXCERPT)) {
		buf_fini(&text);
		return capi_no_memory(err);
	}
	s = (const char *)buf_data(&text);
	n = buf_len(&text);
	for (; n && strchr(" \t\r\n\v\f", *s); n--)
		s++;
	for (; n && strchr(" \t\r\n\v\f", s[n - 1]); n--)
		;
	if (kind == MSB_ERR_INVALID_RESPONSE) {
		rc = capi_fail(err, kind, "the server's answer is no JSON: '%.*s'", (int)n,
			       n ? s : "");
	} else {
		char message[4 * RPC_EXCERPT + 32];

		if (n)
			snprintf(message, sizeof(message), "%.*s", (int)n, s);
		else
			snprintf(message, sizeof(message), "HTTP status %d", status);
		rc = capi_fail_server(err, kind, message, 0, status, NULL);
	}
	buf_fini(&text);
	return rc;
}

static int rpc_code(const json_t *v)
{
	json_int_t code = json_integer_value(v); /* 0: it is none */

	return code >= INT_MIN && code <= INT_MAX ? (int)code : 0;
}

/* What is no call, such as a transfer of a file, says it without an envelope. */
static int rpc_plain_error(json_t *o, int status, struct msb_error **err)
{
	const char *message = json_string_value(json_object_get(o, "error"));
	int code = rpc_code(json_object_get(o, "code")), kind = rpc_kind_of_status(status);
	json_t *data = NULL;

	if (json_is_string(json_object_get(o, "errno"))) {
		kind = MSB_ERR_FILE;
		data = json_pack("{s:O, s:O*, s:i}", "errno", json_object_get(o, "errno"), "path",
				 json_object_get(o, "path"), "code", code);
		if (!data)
			return capi_no_memory(err);
	}
	return capi_fail_server(err, kind, message, code, status, data);
}

/* @o: an answer with a member "error". */
static int rpc_error(json_t *o, int status, struct msb_error **err)
{
	const json_t *error = json_object_get(o, "error");
	const char *message;

	if (json_is_string(error))
		return rpc_plain_error(o, status, err);
	message = json_string_value(json_object_get(error, "message"));
	if (!message)
		return capi_fail(err, MSB_ERR_INVALID_RESPONSE,
				 "the server's answer (HTTP %d) has an error without a message",
				 status);
	return capi_fail_server(err, capi_kind_of_code(rpc_code(json_object_get(error, "code"))),
				message, rpc_code(json_object_get(error, "code")), status,
				json_incref(json_object_get(error, "data")));
}

int capi_decode(int status, const void *body, size_t len, json_t **result, struct msb_error **err)
{
	json_t *o = json_loadb(body ? body : "", len, JSON_ALLOW_NUL | JSON_DECODE_ANY, NULL);
	json_t *error;
	int rc = 0;

	if (!o)
		return rpc_excerpt(status, body, len,
				   status == 200 ? MSB_ERR_INVALID_RESPONSE
						 : rpc_kind_of_status(status),
				   err);
	error = json_object_get(o, "error");
	if (!json_is_object(o))
		rc = capi_fail(err, MSB_ERR_INVALID_RESPONSE,
			       "the server's answer (HTTP %d) is no object", status);
	else if (error && !json_is_null(error))
		rc = rpc_error(o, status, err);
	else if (status != 200 || !json_object_get(o, "result"))
		rc = capi_fail(err, MSB_ERR_INVALID_RESPONSE,
			       "the server's answer (HTTP %d) has neither result nor error",
			       status);
	else if (result)
		*result = json_incref(json_object_get(o, "result"));
	json_decref(o);
	return rc;
}

int capi_refused(int status, const void *body, size_t len, struct msb_error **err)
{
	/* What is no error is none of these paths' answers. */
	int rc = capi_decode(status, body, len, NULL, err);

	return rc ? rc
		  : capi_fail(err, MSB_ERR_INVALID_RESPONSE, "an answer with HTTP status %d",
			      status);
}

int capi_call(struct capi_client *c, const char *method, json_t *params, double limit,
	      struct msb_cancel *cancel, json_t **result, struct msb_error **err)
{
	struct capi_exchange x = {
		.method = "POST",
		.path = RPC_PATH,
		.what = method,
		.accept = "application/json",
		.content_type = "application/json",
		.limit = limit,
		.cancel = cancel,
		.answer = BUF_INIT,
	};
	json_t *call = json_pack("{s:s, s:i, s:s, s:o}", "jsonrpc", "2.0", "id", 1, "method",
				 method, "params", params);
	char *text = call ? json_dumps(call, JSON_COMPACT) : NULL;
	int rc;

	json_decref(call);
	if (!text)
		return capi_no_memory(err);
	x.body = text;
	x.body_len = strlen(text);
	rc = capi_exchange(c, &x, err);
	free(text);
	if (!rc)
		rc = capi_decode(x.status, buf_data(&x.answer), buf_len(&x.answer), result, err);
	buf_fini(&x.answer);
	return rc;
}
