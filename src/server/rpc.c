/* SPDX-License-Identifier: Apache-2.0 */
#include "server/rpc.h"

#include <malloc.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "codec/utf8.h"
#include "server/api.h"
#include "server/internal.h"
#include "server/quota.h"

/* Of a batch, bytes: what is more is not called.  One more of them still fits the connection. */
#define RPC_BATCH_ANSWERS_MAX (8u << 20)
#define RPC_TRIM (1u << 20)
#define RPC_OUT_OF_MEMORY "Internal server error: out of memory: try again later"

const struct api_method *api_find_method(const char *name)
{
	for (const struct api_method *m = api_methods; m->name; m++)
		if (!strcmp(m->name, name))
			return m;
	return NULL;
}

const struct api_error *api_find_error(int code)
{
	static const struct api_error unknown = { 0, 500, 5002 };

	for (const struct api_error *e = api_errors; e->code; e++)
		if (e->code == code)
			return e;
	return &unknown;
}

/* ---- answers ------------------------------------------------------------------------ */

static void rpc_audit(const struct rpc_call *c, enum audit_outcome outcome)
{
	const struct audit_entry x = {
		.who = &c->who,
		.ns = c->ns[0] ? c->ns : c->who.ns,
		.method = c->method ? c->method->name : NULL,
		.sandbox = c->checked ? rpc_string(c->params, "sandbox") : NULL,
		.volume = c->checked && !strncmp(c->method->name, "volume.", 7)
				  ? rpc_string(c->params, "name")
				  : NULL,
		.outcome = outcome,
		.code = c->code,
		.duration_ns = loop_now_ns() - c->started_ns,
	};

	if (c->method && c->method->audit)
		audit_write(&c->server->audit, &x);
}

static void rpc_answered(struct rpc_call *c)
{
	rpc_audit(c, c->result ? AUDIT_OK : AUDIT_ERROR);
	c->answered = true;
	c->cancel = NULL;
	if (!c->result)
		c->server->count.failed_calls++;
	c->done(c);
}

void rpc_reply(struct rpc_call *c, json_t *result)
{
	if (!result) {
		rpc_fail(c, JSONRPC_INTERNAL, "%s", RPC_OUT_OF_MEMORY);
		return;
	}
	c->result = result;
	rpc_answered(c);
}

void rpc_fail_data(struct rpc_call *c, int code, json_t *data, const char *fmt, ...)
{
	int legacy = api_find_error(code)->legacy;
	struct buf clean = BUF_INIT;
	char line[1024];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	/* Cut in the middle of a character, or with a guest's bytes in it. */
	if (!utf8_clean(&clean, line, strlen(line)))
		snprintf(c->message, sizeof(c->message), "%.*s", (int)buf_len(&clean),
			 (const char *)buf_data(&clean));
	buf_fini(&clean);
	c->code = code;
	if (!data && legacy)
		data = json_object();
	if (data && legacy && !json_object_get(data, "code"))
		json_object_set_new(data, "code", json_integer(legacy));
	c->data = data;
	rpc_answered(c);
}

void rpc_call_fini(struct rpc_call *c)
{
	json_decref(c->result);
	json_decref(c->data);
	c->result = c->data = NULL;
}

void rpc_progress(struct rpc_call *c, const char *what)
{
	if (c->progress && !c->answered)
		c->progress(c, what);
}

void rpc_cancel(struct rpc_call *c)
{
	if (c->cancel) {
		rpc_audit(c, AUDIT_CANCELLED);
		c->cancel(c);
	}
	c->cancel = NULL;
}

/* ---- parameters ---------------------------------------------------------------------- */

const char *rpc_string(const json_t *o, const char *key)
{
	return json_string_value(json_object_get(o, key));
}

bool rpc_number(const json_t *o, const char *key, double *out)
{
	json_t *v = json_object_get(o, key);

	if (!json_is_number(v))
		return false;
	*out = json_number_value(v);
	return true;
}

uint64_t rpc_timeout_ms(const json_t *o)
{
	double s;

	if (!rpc_number(o, "timeout", &s))
		return 0;
	/* Some clients send absurd numbers and mean "long". */
	return s >= 1e9 ? 1000000000000u : (uint64_t)ceil(s * 1000);
}

/* ---- one call ------------------------------------------------------------------------ */

bool rpc_namespace(const struct principal *who, const char *asked, char to[RPC_NAME_SIZE])
{
	bool all = !strcmp(who->ns, "*");

	if (!asked || (!strcmp(asked, "*") && !all))
		asked = all ? "default" : who->ns;
	snprintf(to, RPC_NAME_SIZE, "%s", asked);
	return all || !strcmp(asked, who->ns);
}

/* Return: true, and the call is answered, if the key sends too much. */
static bool rpc_over_rate(struct rpc_call *c)
{
	uint32_t rate = c->who.limits.rate;
	unsigned wait = quota_take_request(&c->server->quotas, &c->who, c->started_ns);

	if (!wait)
		return false;
	c->http = 429;
	c->retry_after_s = wait;
	rpc_fail_data(c, RPC_LIMIT,
		      json_pack("{s:s, s:I, s:i}", "limit", "rate", "max", (json_int_t)rate,
				"retry_after", (int)wait),
		      RPC_OVER_RATE, rate, wait);
	return true;
}

void rpc_start(struct rpc_call *c, const char *method)
{
	const struct api_method *m = api_find_method(method);
	struct err e = ERR_INIT;

	c->started_ns = loop_now_ns();
	c->server->count.calls++;
	if (c->server->stopping) {
		rpc_fail(c, JSONRPC_INTERNAL, "Internal server error: the server is ending");
		return;
	}
	if (!m) {
		rpc_fail(c, JSONRPC_NO_METHOD, "Method not found: %s", method);
		return;
	}
	if (!c->who.counted && rpc_over_rate(c))
		return;
	c->method = m; /* what comes before is no reason for a line in the audit log */
	if (schema_check(m->params, c->params, "params", &e)) {
		rpc_fail(c, JSONRPC_BAD_PARAMS, "Invalid params: %s", err_text(&e));
		return;
	}
	c->checked = true;
	if (!rpc_namespace(&c->who, rpc_string(c->params, "namespace"), c->ns)) {
		c->server->count.denied++;
		rpc_fail(c, RPC_DENIED, "Access denied: the key is for namespace %s", c->who.ns);
		return;
	}
	m->run(c);
}

/* ---- one request ---------------------------------------------------------------------- */

/* JSON as it is written: kept while it is short enough, and counted to its end. */
struct rpc_text {
	struct buf text;
	size_t len, max;
};

static int rpc_text_write(const char *p, size_t n, void *context)
{
	struct rpc_text *t = context;

	t->len += n;
	if (t->len <= t->max)
		return buf_append(&t->text, p, n);
	buf_reset(&t->text);
	return 0;
}

char *rpc_text(json_t *answer, size_t max, size_t *len)
{
	struct rpc_text t = { .text = BUF_INIT, .max = max };
	bool ok = answer && !json_dump_callback(answer, rpc_text_write, &t,
						JSON_COMPACT | JSON_REAL_PRECISION(12));

	json_decref(answer);
	/* A long output as JSON values leaves a heap of small holes. */
	if (t.len > RPC_TRIM)
		malloc_trim(0);
	*len = ok ? t.len : 0;
	if (!ok || t.len > max || buf_append(&t.text, "", 1))
		buf_reset(&t.text);
	return (char *)t.text.mem; /* nothing was consumed: it is where the text begins */
}

/* @body is taken over; NULL: memory was out. */
static void rpc_request_end(struct rpc_request *q, int status, char *body)
{
	if (!body) {
		body = strdup("{\"jsonrpc\":\"2.0\",\"error\":{\"code\":-32603,\"message\":"
			      "\"" RPC_OUT_OF_MEMORY "\"},\"id\":null}");
		status = 500;
	}
	q->active = false;
	q->done(q, status, body);
}

static void rpc_request_step(struct rpc_request *q);

/* Return: the answer to the current call as JSON, NULL for a notification in a batch. */
static json_t *rpc_request_answer(struct rpc_request *q)
{
	struct rpc_call *c = &q->call;
	json_t *answer;

	if (!q->current.id && q->current.error == JSONRPC_INVALID)
		q->current.id = json_null();
	if (q->msg.batch && !q->current.id && q->current.error != JSONRPC_INVALID) {
		rpc_call_fini(c);
		return NULL;
	}
	if (c->result)
		answer = jsonrpc_result(json_incref(c->result), q->current.id);
	else
		answer = jsonrpc_error(c->code, c->message, json_incref(c->data), q->current.id);
	rpc_call_fini(c);
	return answer;
}

/* The text of @answer, or of an error if it is too long for @room. @status: the answer's; may change. */
static char *rpc_answer_text(struct rpc_request *q, json_t *answer, size_t room, int *status)
{
	char message[256];
	size_t n;
	char *text = rpc_text(answer, room, &n);

	if (n <= room)
		return text;
	snprintf(message, sizeof(message), RPC_TOO_LONG, n, RPC_ANSWER_MAX >> 20);
	*status = api_find_error(RPC_LIMIT)->http;
	return rpc_text(jsonrpc_error(RPC_LIMIT, message,
				      json_pack("{s:i}", "code", api_find_error(RPC_LIMIT)->legacy),
				      q->current.id),
			SIZE_MAX, &n);
}

/* At once as text: the answers of a batch wait for each other. */
static void rpc_batch_add(struct rpc_request *q, char *text)
{
	if (!text || buf_append(&q->answers, buf_len(&q->answers) ? "," : "[", 1) ||
	    buf_append(&q->answers, text, strlen(text)))
		q->failed = true;
	free(text);
}

static void rpc_batch_end(struct rpc_request *q)
{
	if (!buf_len(&q->answers) && !q->failed) { /* notifications only */
		q->active = false;
		q->done(q, 204, NULL);
		return;
	}
	if (buf_append(&q->answers, "]", 1))
		q->failed = true;
	rpc_request_end(q, 200,
			q->failed ? NULL
				  : strndup((const char *)buf_data(&q->answers),
					    buf_len(&q->answers)));
}

static void rpc_request_done(struct rpc_call *c)
{
	struct rpc_request *q = container_of(c, struct rpc_request, call);
	int status = c->result ? 200 : c->http ? c->http : api_find_error(c->code)->http;
	json_t *answer = rpc_request_answer(q);
	size_t had, room;
	char *text;

	if (!q->msg.batch) {
		q->retry_after_s = c->retry_after_s;
		text = rpc_answer_text(q, answer, RPC_ANSWER_MAX, &status);
		rpc_request_end(q, status, text);
		return;
	}
	if (answer) {
		had = buf_len(&q->answers);
		room = had < RPC_ANSWER_MAX ? RPC_ANSWER_MAX - had : 0;
		rpc_batch_add(q, rpc_answer_text(q, answer, room, &status));
	}
	if (!q->looping)
		rpc_request_step(q);
}

static void rpc_request_one(struct rpc_request *q)
{
	struct server *s = q->call.server;

	jsonrpc_call_at(&q->msg, q->next++, &q->current);
	q->call = (struct rpc_call){
		.server = s,
		.who = q->who,
		.params = q->current.params,
		.done = rpc_request_done,
	};
	if (q->current.error)
		rpc_fail(&q->call, q->current.error, "%s", q->current.reason);
	else if (buf_len(&q->answers) > RPC_BATCH_ANSWERS_MAX)
		rpc_fail(&q->call, RPC_LIMIT,
			 "the answers of this batch are too long (limit %u MiB): send the calls "
			 "that are left by themselves",
			 RPC_BATCH_ANSWERS_MAX >> 20);
	else if (q->only_method && strcmp(q->current.method, q->only_method))
		rpc_fail(&q->call, JSONRPC_INVALID, "Invalid request: this path is for method %s",
			 q->only_method);
	else
		rpc_start(&q->call, q->current.method);
}

/* The calls of a batch run one after the other: a later one may need an earlier one. */
static void rpc_request_step(struct rpc_request *q)
{
	q->looping = true;
	while (q->call.answered && q->next < q->msg.n)
		rpc_request_one(q);
	q->looping = false;
	if (!q->msg.batch || !q->call.answered)
		return;
	rpc_batch_end(q);
}

void rpc_request_start(struct rpc_request *q, struct server *s, const struct principal *who,
		       const char *text, size_t len)
{
	char reason[256];
	int code = jsonrpc_parse(text, len, &q->msg, reason, sizeof(reason));

	q->who = *who;
	q->active = true;
	q->call = (struct rpc_call){ .server = s, .who = *who, .done = rpc_request_done };
	q->call.answered = !code;
	if (code) {
		q->current = (struct jsonrpc_call){ .id = json_null() };
		q->msg = (struct jsonrpc_message){ .root = NULL };
		s->count.bad_requests++;
		rpc_fail(&q->call, code, "%s", reason);
		return;
	}
	rpc_request_step(q);
}

void rpc_request_fini(struct rpc_request *q)
{
	if (q->active)
		rpc_cancel(&q->call);
	q->active = false;
	rpc_call_fini(&q->call);
	buf_fini(&q->answers);
	jsonrpc_message_fini(&q->msg);
}
