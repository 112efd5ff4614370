/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_CODEC_JSONRPC_H
#define MSB_CODEC_JSONRPC_H

/*
 * JSON-RPC 2.0: the text of a request, single or batch, to calls, and answers to text.
 *
 * Spec: jsonrpc.org/specification (2013).  Two things are as older clients of this API
 * expect them: a single call without id is answered all the same (without id), and
 * `params` may be null.  Parameters are by name only.
 */

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

enum jsonrpc_code {
	JSONRPC_PARSE = -32700,
	JSONRPC_INVALID = -32600,
	JSONRPC_NO_METHOD = -32601,
	JSONRPC_BAD_PARAMS = -32602,
	JSONRPC_INTERNAL = -32603,
};

#define JSONRPC_BATCH_MAX 64u
#define JSONRPC_DEPTH_MAX 64u /* nesting of a request */
#define JSONRPC_VALUES_MAX 65536u /* of a request: keys, values, lists, all counted */

struct jsonrpc_message {
	json_t *root; /* owned; an object, or the array of a batch */
	size_t n; /* calls */
	bool batch;
};

/* One call; everything points into the message. */
struct jsonrpc_call {
	const char *method;
	json_t *params; /* an object, or NULL */
	json_t *id; /* NULL = there is none */
	int error; /* enum jsonrpc_code, 0 = it is a call */
	const char *reason; /* of the error */
};

/*
 * Reads a message.  Return: 0, or enum jsonrpc_code with a line in @reason (@size bytes):
 * JSONRPC_PARSE, or JSONRPC_INVALID for an empty or too long batch, or no object.
 */
int jsonrpc_parse(const char *text, size_t len, struct jsonrpc_message *out, char *reason,
		  size_t size);
void jsonrpc_message_fini(struct jsonrpc_message *m);

/* The @i-th call of a message. */
void jsonrpc_call_at(const struct jsonrpc_message *m, size_t i, struct jsonrpc_call *out);

/* An answer.  @result is taken over; @id may be NULL.  Return: NULL if memory is out. */
json_t *jsonrpc_result(json_t *result, json_t *id);

/* An error; @data (may be NULL) is taken over. @message must be UTF-8. */
json_t *jsonrpc_error(int code, const char *message, json_t *data, json_t *id);

#endif
