/* SPDX-License-Identifier: Apache-2.0 */
#include "codec/jsonrpc.h"

#include <stdio.h>
#include <string.h>

/*
 * What is read is bounded before it is read: jansson's own limit of nesting is far higher
 * than anything that a request needs, and it has none for values, of which each takes up to
 * a hundred times the bytes of its text.  Return: the limit that is passed, or NULL.
 */
static const char *jsonrpc_beyond(const char *text, size_t len, unsigned *limit)
{
	unsigned depth = 0, values = 1;
	bool string = false;

	for (size_t i = 0; i < len; i++) {
		char c = text[i];

		if (string && c == '\\') {
			i++;
		} else if (c == '"') {
			string = !string;
		} else if (!string && (c == '[' || c == '{')) {
			values++;
			if (++depth > (*limit = JSONRPC_DEPTH_MAX))
				return "nested too deeply";
		} else if (!string && (c == ']' || c == '}') && depth) {
			depth--;
		} else if (!string && (c == ',' || c == ':')) {
			values++;
		}
		if (values > (*limit = JSONRPC_VALUES_MAX))
			return "too many values";
	}
	return NULL;
}

int jsonrpc_parse(const char *text, size_t len, struct jsonrpc_message *out, char *reason,
		  size_t size)
{
	struct jsonrpc_message m = { .n = 1 };
	const char *beyond;
	json_error_t e;
	unsigned limit;

	beyond = jsonrpc_beyond(text, len, &limit);
	if (beyond) {
		snprintf(reason, size, "Parse error: %s (limit %u)", beyond, limit);
		return JSONRPC_PARSE;
	}
	m.root = json_loadb(text, len, JSON_REJECT_DUPLICATES, &e);
	if (!m.root) {
		snprintf(reason, size, "Parse error: line %d, column %d: %s", e.line, e.column,
			 e.text);
		return JSONRPC_PARSE;
	}
	m.batch = json_is_array(m.root);
	if (m.batch)
		m.n = json_array_size(m.root);
	if (!m.batch && !json_is_object(m.root))
		snprintf(reason, size, "Invalid request: send an object, or an array of them");
	else if (!m.n)
		snprintf(reason, size, "Invalid request: the batch is empty");
	else if (m.n > JSONRPC_BATCH_MAX)
		snprintf(reason, size, "Invalid request: a batch has at most %u calls",
			 JSONRPC_BATCH_MAX);
	else {
		*out = m;
		return 0;
	}
	json_decref(m.root);
	return JSONRPC_INVALID;
}

void jsonrpc_message_fini(struct jsonrpc_message *m)
{
	json_decref(m->root);
	m->root = NULL;
}

static void jsonrpc_invalid(struct jsonrpc_call *c, int code, const char *reason)
{
	c->error = code;
	c->reason = reason;
}

void jsonrpc_call_at(const struct jsonrpc_message *m, size_t i, struct jsonrpc_call *out)
{
	json_t *j = m->batch ? json_array_get(m->root, i) : m->root;
	json_t *version = json_object_get(j, "jsonrpc"), *method = json_object_get(j, "method");
	json_t *params = json_object_get(j, "params"), *id = json_object_get(j, "id");

	*out = (struct jsonrpc_call){ .id = id, .method = json_string_value(method) };
	if (id && !json_is_string(id) && !json_is_number(id) && !json_is_null(id)) {
		out->id = NULL;
		jsonrpc_invalid(out, JSONRPC_INVALID,
				"Invalid request: id must be a string, a number or null");
	} else if (!json_is_object(j)) {
		jsonrpc_invalid(out, JSONRPC_INVALID, "Invalid request: a call is an object");
	} else if (!json_is_string(version) || strcmp(json_string_value(version), "2.0")) {
		jsonrpc_invalid(out, JSONRPC_INVALID, "Invalid or missing jsonrpc version field");
	} else if (!out->method) {
		jsonrpc_invalid(out, JSONRPC_INVALID, "Invalid request: method must be a string");
	} else if (params && !json_is_object(params) && !json_is_null(params)) {
		jsonrpc_invalid(out, JSONRPC_BAD_PARAMS, "Invalid params: give them by name");
	} else {
		out->params = json_is_object(params) ? params : NULL;
	}
}

static json_t *jsonrpc_answer(const char *key, json_t *value, json_t *id)
{
	json_t *j = json_object();

	if (!j || !value || json_object_set_new(j, "jsonrpc", json_string("2.0")) ||
	    json_object_set(j, key, value) || (id && json_object_set(j, "id", id))) {
		json_decref(j);
		j = NULL;
	}
	json_decref(value);
	return j;
}

json_t *jsonrpc_result(json_t *result, json_t *id)
{
	return jsonrpc_answer("result", result, id);
}

json_t *jsonrpc_error(int code, const char *message, json_t *data, json_t *id)
{
	json_t *e = json_object();

	if (!e || json_object_set_new(e, "code", json_integer(code)) ||
	    json_object_set_new(e, "message", json_string(message)) ||
	    (data && json_object_set(e, "data", data))) {
		json_decref(e);
		e = NULL;
	}
	json_decref(data);
	return jsonrpc_answer("error", e, id);
}
