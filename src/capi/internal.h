/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_CAPI_INTERNAL_H
#define MSB_CAPI_INTERNAL_H

/*
 * DOC: Theory of operation
 *
 * Purpose: libmicrosandbox, what include/microsandbox.h declares: a client of a server's HTTP
 * interface, as the SDKs of other languages are.  It is installed and linked into programs of
 * others, so nothing of it is in msb, and it takes nothing from the floors that know
 * sandboxes from the inside (src/lib is msb's own way to them).
 *
 *   error.c      what a call says when it fails; structures with options
 *   endpoint.c   which server: arguments, environment, .env
 *   cancel.c     ending a call from outside
 *   http.c       one exchange over libcurl
 *   rpc.c        a JSON-RPC call over that; what an answer means
 *   json.c       members of answers, checked
 *   sandbox.c    life of a sandbox; execution.c: what code and programs gave
 *   info.c       lists, metrics, logs; files.c; stream.c: server-sent events
 *   link.c       a WebSocket's connection; process.c: a program on it
 *
 * Trust boundary: the server's answers.  All of it is bounded and checked; what has the wrong
 * type is MSB_ERR_INVALID_RESPONSE.
 *
 * Threads: a client (one server) is shared by the threads that use a sandbox.  It lends each
 * exchange a slot, which is a libcurl handle with its connection; the list of idle slots is
 * under a lock, a slot that is lent is its exchange's alone.  A process has a connection and a
 * thread of its own (process.c) and does not need its sandbox any more.
 *
 * Failure: a function returns 0 or a value of enum msb_kind, and has then set *err if err is not NULL.
 */

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/buf.h"
#include "base/mem.h"
#include "microsandbox.h"

#define CAPI_USER_AGENT "microsandbox-c/1"
#define CAPI_GRACE 30.0 /* seconds that an answer may take beyond the call's own limit */
/* A stream has a comment every 15 s: a server that is silent for longer is gone. */
#define CAPI_SILENCE_LIMIT 60.0
#define CAPI_STOP_LIMIT 60.0
#define CAPI_QUERY_LIMIT 30.0
#define CAPI_GIVEN_UP_LIMIT 5.0
#define CAPI_START_TIMEOUT 180.0
#define CAPI_MEMORY_MIB 512u
#define CAPI_HEAD_MAX ((size_t)64 << 10)
#define CAPI_ANSWER_MAX ((size_t)512 << 20)
#define CAPI_EVENT_MAX ((size_t)64 << 20) /* 8 MiB of results, all of it escaped */
#define CAPI_FILE_MAX ((size_t)8 << 20) /* of one call; streams have no limit */

/* ---- error.c ---- */

struct msb_error {
	int kind, code, http_status;
	char *message;
	json_t *data;
	char *data_text; /* NULL: there is none */
	char *out, *err; /* what a program that ran out of time had printed */
	size_t out_len, err_len;
	const char *errno_name, *path; /* in data */
};

/* Return: @kind. */
int capi_fail(struct msb_error **err, int kind, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
int capi_no_memory(struct msb_error **err);
/* Another of the same. Return: its kind. */
int capi_fail_again(struct msb_error **err, const struct msb_error *e);

/* What the server says; takes over @data (may be NULL). Return: @kind. */
int capi_fail_server(struct msb_error **err, int kind, const char *message, int code, int status,
		     json_t *data);

/*
 * Copies a caller's structure with options. @src NULL: @dst is all zeroes.
 * @dst_size: what this library knows of it; what is beyond must be zero.
 */
int capi_options(void *dst, size_t dst_size, const void *src, const char *what,
		 struct msb_error **err);

/* A time limit: above 0, or none. */
int capi_check_timeout(double timeout, struct msb_error **err);
/* An argument that may not be NULL. */
int capi_need(const void *argument, const char *name, struct msb_error **err);

/* ---- endpoint.c ---- */

struct capi_endpoint {
	char *url; /* as it is told to people */
	char *base; /* as libcurl takes it, without a slash at its end */
	char *unix_path; /* NULL: none */
	char *api_key; /* NULL: none */
	char *ca_file, *ca_dir; /* NULL: libcurl's own */
};

/* The MSB_ variables of the text of a .env file: the last value of @key, or NULL. malloc()ed. */
char *capi_env_value(const char *text, size_t len, const char *key);

int capi_endpoint_init(struct capi_endpoint *e, const char *url, const char *api_key,
		       struct msb_error **err);
void capi_endpoint_fini(struct capi_endpoint *e);

/* ---- cancel.c ---- */

/* NULL is never cancelled. */
bool capi_cancelled(const struct msb_cancel *c);
int capi_cancel_fd(const struct msb_cancel *c);

/* ---- http.c ---- */

struct capi_client;

struct capi_exchange {
	const char *method; /* "POST", "GET", "PUT" */
	const char *path; /* with its query, percent-encoded */
	const char *what; /* told to people: "sandbox.stop" */
	const char *accept, *content_type;
	const char *answer_type; /* that 200 must have; NULL: any */
	const void *body;
	size_t body_len;
	msb_source_fn *source; /* in place of body */
	int64_t length; /* of what the source gives; -1: not known */
	void *source_context;
	double limit; /* seconds; HUGE_VAL: none */
	double silence; /* seconds in which nothing comes; 0: no limit */
	struct msb_cancel *cancel;
	/*
	 * Takes what a server that answers 200 sends; NULL: it is kept in `answer`.
	 * Return: 0, or a kind, then with *err set: the exchange ends with it.
	 */
	int (*take)(void *context, const void *data, size_t len, struct msb_error **err);
	void *take_context;

	int status;
	struct buf answer; /* of any other status, also with take; the caller frees it */
};

int capi_client_new(struct capi_client **out, const struct msb_server *server,
		    struct msb_error **err);
/* No exchange may be under way. */
void capi_client_free(struct capi_client *c);
/* Closes idle connections. */
void capi_client_close_idle(struct capi_client *c);
const char *capi_client_url(const struct capi_client *c);
const char *capi_client_namespace(const struct capi_client *c);
size_t capi_client_max_answer(const struct capi_client *c);
const struct capi_endpoint *capi_client_endpoint(const struct capi_client *c);

/* Seconds of a clock that nobody sets. */
double capi_now(void);

/* Return: 0 whatever the status is, or what went wrong with the connection. */
int capi_exchange(struct capi_client *c, struct capi_exchange *x, struct msb_error **err);

/* ---- rpc.c ---- */

/* Takes over @params. @result (may be NULL): json_decref(). */
int capi_call(struct capi_client *c, const char *method, json_t *params, double limit,
	      struct msb_cancel *cancel, json_t **result, struct msb_error **err);

/* What an answer means; *@result only if it is one of JSON-RPC. */
int capi_decode(int status, const void *body, size_t len, json_t **result, struct msb_error **err);
/* An answer that is not 200, of a path that is not JSON-RPC. */
int capi_refused(int status, const void *body, size_t len, struct msb_error **err);
/* A code and message of the server's, also inside a stream. */
int capi_kind_of_code(json_int_t code);

/* Members of parameters. A NULL text is left out; one that is no UTF-8 is MSB_ERR_ARGUMENT. */
int capi_set_text(json_t *o, const char *key, const char *text, struct msb_error **err);
/* A list that ends with NULL; a NULL list is left out. */
int capi_set_texts(json_t *o, const char *key, const char *const *texts, struct msb_error **err);
/* "KEY=VALUE" texts as an object. */
int capi_set_pairs(json_t *o, const char *key, const char *const *texts, struct msb_error **err);
int capi_set_seconds(json_t *o, const char *key, double seconds, struct msb_error **err);
/* Takes over @value; NULL: no memory. */
int capi_set(json_t *o, const char *key, json_t *value, struct msb_error **err);

/* ---- json.c: members of an answer; the objects keep what they return alive ---- */

int capi_bad_member(const char *key, struct msb_error **err);
int capi_get_text(const json_t *o, const char *key, const char **out, struct msb_error **err);
/* These leave *out as it is where there is none, or null. */
int capi_opt_text(const json_t *o, const char *key, const char **out, struct msb_error **err);
int capi_opt_number(const json_t *o, const char *key, double *out, struct msb_error **err);
int capi_opt_integer(const json_t *o, const char *key, int64_t *out, struct msb_error **err);
int capi_opt_bool(const json_t *o, const char *key, int *out, struct msb_error **err);
int capi_get_array(const json_t *o, const char *key, json_t **out, struct msb_error **err);

/* ---- base64 (json.c) ---- */

/* malloc()ed, NUL-terminated; NULL: no memory. */
char *capi_base64_encode(const void *p, size_t n);
/* Padding is required. *@out is malloc()ed and ends with a NUL. Return: 0, -EINVAL, -ENOMEM. */
int capi_base64_decode(const char *text, size_t n, uint8_t **out, size_t *len);

/* ---- sandbox.c ---- */

int capi_check_started(struct msb_sandbox *sb, struct msb_error **err);
struct capi_client *capi_sandbox_client(struct msb_sandbox *sb);
/* {"sandbox": …, "namespace": …}; *@out on success only. */
int capi_sandbox_params(const struct msb_sandbox *sb, json_t **out, struct msb_error **err);
/* "/api/v1/sandboxes/NAME/@what" with the namespace in its query; malloc()ed; NULL: no memory. */
char *capi_sandbox_path(const struct msb_sandbox *sb, const char *what);
/* Appends "&key=value", encoded; frees @path and returns NULL if it fails. A NULL @value: nothing. */
char *capi_path_add(char *path, const char *key, const char *value);

/* ---- link.c: a WebSocket's connection ---- */

struct capi_link;

/*
 * Connects and shakes hands. @path: percent-encoded; @what: told to people; @rest: takes what came
 * after the answer, in any case the caller's. A server that refuses is its own error.
 */
int capi_link_open(struct capi_link **out, struct capi_client *c, const char *path,
		   const char *what, const struct msb_cancel *cancel, struct buf *rest,
		   struct msb_error **err);
void capi_link_free(struct capi_link *l);

/*
 * One of them at a time, under a lock of the caller's. They do not wait. A send that gave -EAGAIN
 * is repeated with the same bytes at the same place (TLS has begun with them).
 * Return: bytes, of recv 0 at the end; -EAGAIN; -EIO: capi_link_broke().
 */
ssize_t capi_link_send(struct capi_link *l, const void *p, size_t n);
ssize_t capi_link_recv(struct capi_link *l, void *to, size_t room);
int capi_link_broke(const struct capi_link *l, struct msb_error **err);

/* These need no lock. @events: of poll(); @until: of capi_now().  Return: 0 (or it was shut),
 * MSB_ERR_CANCELLED or MSB_ERR_TIMEOUT. */
int capi_link_wait(struct capi_link *l, short events, double until, const struct msb_cancel *cancel);
int capi_link_fd(const struct capi_link *l);
const char *capi_link_url(const struct capi_link *l);
/* Both directions end; who waits is woken. */
void capi_link_shut(struct capi_link *l);

/* ---- stream.c ---- */

/* What the server says in place of an end: {"code": …, "message": …}. Return: its kind, never 0. */
int capi_said_error(const json_t *o, struct msb_error **err);
/* What runs, and with which standard input; of @exec only that is looked at. */
int capi_set_program(json_t *o, const struct msb_exec *exec, struct msb_error **err);

/* ---- execution.c ---- */

/* Takes over @o, a result of sandbox.repl.run, sandbox.command.run or the end of a stream. */
enum capi_execution_type {
	CAPI_REPL,
	CAPI_COMMAND,
	CAPI_REPL_END,
	CAPI_EXIT,
	CAPI_EXEC, /* CAPI_EXIT with the members of CAPI_COMMAND */
};
int capi_execution_new(struct msb_execution **out, json_t *o, enum capi_execution_type type,
		       struct msb_error **err);

/* Joins the lines of a stream. @lines: an array of {stream, text}; malloc()ed; NULL: no memory. */
char *capi_join_lines(const json_t *lines, const char *stream, size_t *len);

/* ---- info.c ---- */

/* A list of one, from one object. Takes over @o. */
int capi_list_of_one(struct msb_list **out, json_t *o, struct msb_error **err);

#endif
