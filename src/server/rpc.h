/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_SERVER_RPC_H
#define MSB_SERVER_RPC_H

/*
 * Calls: from the text of a request to its answer.
 *
 * A handler (api.h) gets a struct rpc_call and answers it exactly once, with rpc_reply()
 * or rpc_fail(), at once or later.  If it answers later it sets `cancel`; that is called
 * instead when the client is gone, and the call must not be touched any more after it.
 */

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "codec/jsonrpc.h"
#include "codec/token.h"

struct server;
struct api_method;

/* JSON-RPC codes of our own; api/openrpc.json has their meaning. */
enum rpc_code {
	RPC_NOT_FOUND = -32001,
	RPC_SANDBOX_FAILED = -32002,
	RPC_NOT_RUN = -32003,
	RPC_TIMED_OUT = -32004,
	RPC_LIMIT = -32005,
	RPC_DENIED = -32006,
	RPC_FILE_FAILED = -32007,
};

#define RPC_NAME_SIZE 64u
#define RPC_PEER_SIZE 64u

/* Who asks. */
struct principal {
	char ns[RPC_NAME_SIZE]; /* the only namespace, or "*" */
	char key[TOKEN_ID_SIZE]; /* the id of the key, "" = none was needed */
	struct token_limits limits;
	char peer[RPC_PEER_SIZE]; /* "127.0.0.1:4711", "unix" */
	bool counted; /* the request was taken off the key's rate already */
};

struct rpc_call {
	struct server *server;
	struct principal who;
	json_t *params; /* checked against the schema; NULL = none; borrowed */
	char ns[RPC_NAME_SIZE]; /* the namespace asked for: a name, or "*" */
	const struct api_method *method; /* NULL = there is none, or it did not begin */
	bool checked; /* the parameters are as the schema says */
	uint64_t started_ns;
	void (*cancel)(struct rpc_call *c); /* set by the handler */
	void *state; /* the handler's */
	/* What is being done, for whoever waits; may be NULL. The handler uses rpc_progress(). */
	void (*progress)(struct rpc_call *c, const char *what);

	/* The answer, for whoever made the call. */
	void (*done)(struct rpc_call *c);
	json_t *result; /* owned; NULL = an error */
	int code;
	int http; /* the status, where it is not the code's own; 0 = it is */
	unsigned retry_after_s; /* with status 429 */
	char message[1100];
	json_t *data; /* owned; may be NULL */
	bool answered;
};

/* What a client reads who sends more than its key may: limit, seconds to wait. */
#define RPC_OVER_RATE "this key may send %u requests a second: wait %u s"

/*
 * How long an answer may be as text, or those of a batch together.  Whatever one call gives fits,
 * also as the last of a batch: 8 MiB of output, which as JSON are 48 if all of it is control
 * characters, and 12 MiB of results (rich.h).  As a tool of MCP it does not: there it is written
 * into JSON twice, and once more as a structure.  With what a client may have sent as ids, which
 * errors have as well, it fits into what a connection holds (CONN_OUT_MAX).
 */
#define RPC_ANSWER_MAX (72u << 20)
/* Bytes; RPC_ANSWER_MAX in MiB. */
#define RPC_TOO_LONG \
	"the answer has %zu bytes as JSON, more than one may have (%u MiB): ask for less at " \
	"once, " \
	"and for what is no text as base64"

/*
 * The text of @answer (may be NULL), which is released.  It is written once: what is longer than
 * @max is not kept, only counted.
 * Return: malloc'ed; NULL: it is longer (*@len > @max), or memory is out (*@len is not).
 */
char *rpc_text(json_t *answer, size_t max, size_t *len);

/* Calls @method; c->done comes, perhaps before this returns. */
void rpc_start(struct rpc_call *c, const char *method);

/*
 * Which namespace is meant by @asked (NULL = none was named), and may @who?  It is written
 * to @to in any case; nothing is looked up before.
 */
bool rpc_namespace(const struct principal *who, const char *asked, char to[RPC_NAME_SIZE]);

/* Gives it up. */
void rpc_cancel(struct rpc_call *c);

/* Frees what the answer holds. */
void rpc_call_fini(struct rpc_call *c);

/* Answers; @result is taken over, NULL means that memory is out. */
void rpc_reply(struct rpc_call *c, json_t *result);
/* @data is taken over and may be NULL; its "code" is the one of @code if it has none. */
void rpc_fail_data(struct rpc_call *c, int code, json_t *data, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));
#define rpc_fail(c, code, ...) rpc_fail_data(c, code, NULL, __VA_ARGS__)

/* Tells whoever waits for the answer what is being done, if they want to know. */
void rpc_progress(struct rpc_call *c, const char *what);

/* Parameters; the schema was checked. */
const char *rpc_string(const json_t *o, const char *key); /* NULL if absent or null */
bool rpc_number(const json_t *o, const char *key, double *out);
/* Seconds as milliseconds; 0 if absent. */
uint64_t rpc_timeout_ms(const json_t *o);

/* ---- the calls of one HTTP request --------------------------------------------------- */

struct rpc_request {
	struct rpc_call call; /* the one that runs */
	struct principal who;
	struct jsonrpc_message msg;
	struct jsonrpc_call current;
	const char *only_method; /* of the path; NULL = any */
	struct buf answers; /* of a batch, as text */
	size_t next;
	bool looping, active, failed; /* failed: memory was out for an answer of the batch */
	unsigned retry_after_s; /* for the header of that name; 0 = none */
	/* Called once: HTTP status and body; @body NULL: nothing to say. It is malloc'ed. */
	void (*done)(struct rpc_request *q, int status, char *body);
};

/* Works through a message. @text is not needed any more after it. */
void rpc_request_start(struct rpc_request *q, struct server *s, const struct principal *who,
		       const char *text, size_t len);
/* Gives it up, or frees it after done(). */
void rpc_request_fini(struct rpc_request *q);

#endif
