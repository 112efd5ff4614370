/* SPDX-License-Identifier: Apache-2.0 */
#include "server/mcp.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "codec/utf8.h"
#include "server/api.h"

#define MCP_REASON_MAX 200 /* of what a client says about itself, in the log */

void mcp_peer_init(struct mcp_peer *p, struct server *s, const struct principal *who,
		   enum mcp_version version)
{
	*p = (struct mcp_peer){ .server = s, .who = *who, .version = version };
	list_init(&p->exchanges);
}

/* ---- answers ------------------------------------------------------------------------ */

json_t *mcp_error(int code, const char *message, json_t *id)
{
	json_t *null = json_null(), *answer = NULL;
	struct buf clean = BUF_INIT;

	/* It may be cut in the middle of a character. */
	if (!utf8_clean(&clean, message, strlen(message) + 1))
		answer = jsonrpc_error(code, (const char *)buf_data(&clean), NULL, id ? id : null);
	buf_fini(&clean);
	return answer;
}

/* Of what is short. */
static char *mcp_dump(json_t *answer)
{
	size_t n;

	return rpc_text(answer, SIZE_MAX, &n);
}

/* One more of a batch, or in its place an error if together they are too long. */
static void mcp_batch_add(struct mcp_exchange *x, char *text)
{
	size_t n = text ? strlen(text) : 0, had = buf_len(&x->answers);
	char message[256];

	if (n > RPC_ANSWER_MAX || had > RPC_ANSWER_MAX - n) {
		free(text);
		snprintf(message, sizeof(message),
			 "the answers of this batch are too long (limit %u MiB): send the calls by "
			 "themselves",
			 RPC_ANSWER_MAX >> 20);
		text = mcp_dump(mcp_error(RPC_LIMIT, message, x->current.call.id));
	}
	if (!text || buf_append(&x->answers, had ? "," : "[", 1) ||
	    buf_append(&x->answers, text, strlen(text)))
		x->failed = true;
	free(text);
}

/* The answer to the current request, which is taken over; NULL: memory is out. */
static void mcp_answer(struct mcp_exchange *x, char *text)
{
	if (x->msg.batch)
		mcp_batch_add(x, text);
	else if (!text)
		x->status = 503;
	else
		x->answer = text;
}

static void mcp_result(struct mcp_exchange *x, json_t *result)
{
	mcp_answer(x, mcp_dump(jsonrpc_result(result, x->current.call.id)));
}

static void mcp_fail(struct mcp_exchange *x, int status, int code, const char *message)
{
	x->status = status;
	mcp_answer(x, mcp_dump(mcp_error(code, message, x->current.call.id)));
}

/* ---- methods ------------------------------------------------------------------------- */

static void mcp_initialize(struct mcp_exchange *x)
{
	const json_t *params = x->current.call.params;
	const json_t *asked = json_object_get(params, "protocolVersion");
	struct mcp_peer *p = x->peer;
	enum mcp_version v = mcp_version_parse(json_string_value(asked));
	bool titled;

	if (x->msg.batch || p->initialized) {
		mcp_fail(x, 400, JSONRPC_INVALID,
			 p->initialized ? "Invalid request: this session is initialized already"
					: "Invalid request: initialize may not be in a batch");
		return;
	}
	if (asked && !json_is_string(asked)) {
		mcp_fail(x, 200, JSONRPC_BAD_PARAMS,
			 "Invalid params: protocolVersion must be a string");
		return;
	}
	p->version = v ? v : MCP_NEWEST;
	p->initialized = x->opened = true;
	titled = p->version >= MCP_2025_06_18;
	mcp_result(x,
		   json_pack("{s:s, s:{s:{s:b}, s:{s:b}}, s:{s:s, s:s, s:s*}, s:s}",
			     "protocolVersion", mcp_version_text(p->version), "capabilities",
			     "tools", "listChanged", 0, "prompts", "listChanged", 0, "serverInfo",
			     "name", "microsandbox-server", "version", MSB_VERSION, "title",
			     titled ? "microsandbox" : NULL, "instructions",
			     "Sandboxes are small virtual machines for code that nobody has "
			     "checked. Start one first (sandbox_start, with an image such as "
			     "microsandbox/python), run code or programs in it, and stop it when "
			     "done: nothing of it is kept. Code keeps its variables from call "
			     "to call."));
}

/* There is one page; whoever asks for another made it up. */
static bool mcp_cursor_ok(struct mcp_exchange *x)
{
	const json_t *cursor = json_object_get(x->current.call.params, "cursor");

	if (!cursor || json_is_null(cursor))
		return true;
	mcp_fail(x, 200, JSONRPC_BAD_PARAMS, "Invalid params: there is no such cursor");
	return false;
}

static void mcp_list_tools(struct mcp_exchange *x)
{
	if (mcp_cursor_ok(x))
		mcp_result(x, mcp_tools_list(x->peer));
}

static void mcp_list_prompts(struct mcp_exchange *x)
{
	if (mcp_cursor_ok(x))
		mcp_result(x, mcp_prompts_list(x->peer));
}

static void mcp_get_prompt(struct mcp_exchange *x)
{
	const char *reason = NULL;
	json_t *result = mcp_prompts_get(x->current.call.params, &reason);

	if (!result && reason)
		mcp_fail(x, 200, JSONRPC_BAD_PARAMS, reason);
	else
		mcp_result(x, result);
}

static void mcp_ping(struct mcp_exchange *x)
{
	mcp_result(x, json_object());
}

/* ---- calls of tools --------------------------------------------------------------------- */

static void mcp_step(struct mcp_exchange *x);

/* Tells how far it is, if that was wanted: the seconds so far, which always increase. */
static void mcp_tell(struct mcp_exchange *x, const char *what)
{
	double s = (double)((loop_now_ns() - x->since_ns) / 1000000) / 1000;
	struct buf clean = BUF_INIT;
	json_t *message;

	if (!x->current.token)
		return;
	x->told = s > x->told ? s : x->told + 0.001;
	if (utf8_clean(&clean, what, strlen(what) + 1))
		return;
	message = json_pack("{s:s, s:s, s:{s:O, s:f, s:s*}}", "jsonrpc", "2.0", "method",
			    "notifications/progress", "params", "progressToken", x->current.token,
			    "progress", x->told, "message",
			    x->peer->version == MCP_2024_11_05 ? NULL
							       : (const char *)buf_data(&clean));
	buf_fini(&clean);
	if (message)
		x->ops->notify(x, message);
}

static void mcp_tool_progress(struct rpc_call *call, const char *what)
{
	mcp_tell(container_of(call, struct mcp_exchange, call), what);
}

static void mcp_beat(struct loop_timer *t)
{
	struct mcp_exchange *x = container_of(t, struct mcp_exchange, beat);
	char line[80];

	loop_timer_set(x->peer->server->loop, t, MCP_BEAT_MS);
	snprintf(line, sizeof(line), "%s: running for %.0f s", x->tool->name,
		 (double)(loop_now_ns() - x->since_ns) / 1e9);
	mcp_tell(x, line);
	/* Telling may have ended it: then the timer was cancelled, too. */
	if (!x->ended && x->ops->beat)
		x->ops->beat(x);
}

static void mcp_tool_ended(struct mcp_exchange *x)
{
	x->running = false;
	loop_timer_cancel(&x->beat);
	rpc_call_fini(&x->call);
	if (!x->looping)
		mcp_step(x);
}

static void mcp_tool_done(struct rpc_call *call)
{
	struct mcp_exchange *x = container_of(call, struct mcp_exchange, call);

	if (x->ended)
		return;
	mcp_answer(x, mcp_tool_answer(x->peer, x->tool, call, x->current.call.id));
	mcp_tool_ended(x);
}

static void mcp_call_tool(struct mcp_exchange *x)
{
	const json_t *params = x->current.call.params;
	json_t *args = json_object_get(params, "arguments");
	const char *name = rpc_string(params, "name");
	char message[160];

	x->tool = name ? mcp_tool_find(name) : NULL;
	if (!x->tool) {
		snprintf(message, sizeof(message), "Unknown tool: %.64s", name ? name : "");
		mcp_fail(x, 200, JSONRPC_BAD_PARAMS,
			 name ? message : "Invalid params: name is missing");
		return;
	}
	if (args && !json_is_object(args) && !json_is_null(args)) {
		mcp_fail(x, 200, JSONRPC_BAD_PARAMS, "Invalid params: arguments must be an object");
		return;
	}
	x->call = (struct rpc_call){
		.server = x->peer->server,
		.who = x->peer->who,
		.params = json_is_object(args) ? args : NULL,
		.done = mcp_tool_done,
		.progress = mcp_tool_progress,
	};
	x->running = true;
	x->since_ns = loop_now_ns();
	x->told = 0;
	loop_timer_set(x->call.server->loop, &x->beat, MCP_BEAT_FIRST_MS);
	rpc_start(&x->call, x->tool->method);
}

/* ---- notifications -------------------------------------------------------------------------- */

static struct mcp_exchange *mcp_find_call(const struct mcp_peer *p, const json_t *id)
{
	list_for_each (pos, tmp, &p->exchanges) {
		struct mcp_exchange *x = list_entry(pos, struct mcp_exchange, link);

		if (x->running && json_equal(x->current.call.id, id))
			return x;
	}
	return NULL;
}

/* A call that has ended, or never was, may be named as well: messages cross on their way. */
static void mcp_cancelled(struct mcp_exchange *by)
{
	const json_t *params = by->current.call.params;
	const json_t *id = json_object_get(params, "requestId");
	struct mcp_exchange *x = id ? mcp_find_call(by->peer, id) : NULL;
	const char *reason = rpc_string(params, "reason");

	if (!x)
		return;
	log_info("event=mcp-cancelled ns=%s tool=%s reason=\"%.*s\"", x->peer->who.ns,
		 x->tool->name, MCP_REASON_MAX, reason ? reason : "");
	rpc_cancel(&x->call);
	mcp_tool_ended(x);
}

/* ---- an exchange ------------------------------------------------------------------------------ */

static const struct {
	const char *name;
	void (*run)(struct mcp_exchange *x);
} mcp_methods[] = {
	{ "initialize", mcp_initialize },     { "ping", mcp_ping },
	{ "tools/list", mcp_list_tools },     { "tools/call", mcp_call_tool },
	{ "prompts/list", mcp_list_prompts }, { "prompts/get", mcp_get_prompt },
};

static void mcp_dispatch(struct mcp_exchange *x)
{
	const char *method = x->current.call.method;
	char message[128];

	if (mcp_find_call(x->peer, x->current.call.id)) {
		mcp_fail(x, 400, JSONRPC_INVALID,
			 "Invalid request: a request with this id is being worked on");
		return;
	}
	for (size_t i = 0; i < ARRAY_SIZE(mcp_methods); i++)
		if (!strcmp(mcp_methods[i].name, method)) {
			mcp_methods[i].run(x);
			return;
		}
	snprintf(message, sizeof(message), "Method not found: %.64s", method);
	mcp_fail(x, 200, JSONRPC_NO_METHOD, message);
}

static void mcp_one(struct mcp_exchange *x)
{
	mcp_message_at(&x->msg, x->next++, &x->current);
	switch (x->current.kind) {
	case MCP_REQUEST:
		mcp_dispatch(x);
		return;
	case MCP_NOTIFICATION:
		if (!strcmp(x->current.call.method, "notifications/cancelled"))
			mcp_cancelled(x);
		return;
	case MCP_RESPONSE: /* to something that we never asked */
		return;
	case MCP_INVALID:
		x->peer->server->count.bad_requests++;
		mcp_fail(x, 400, x->current.call.error, x->current.call.reason);
		return;
	}
}

/* What a batch says, NULL if that is nothing; sets the status. */
static char *mcp_batch_end(struct mcp_exchange *x)
{
	char *text;

	x->status = 200;
	if (!x->failed && !buf_len(&x->answers)) /* notifications only */
		return NULL;
	if (x->failed || buf_append(&x->answers, "]", 2)) { /* with the NUL */
		x->status = 503;
		return NULL;
	}
	text = (char *)x->answers.mem; /* nothing was consumed: it is where the text begins */
	x->answers = (struct buf)BUF_INIT;
	return text;
}

static void mcp_end(struct mcp_exchange *x)
{
	char *answer = x->msg.batch ? mcp_batch_end(x) : take_ptr(&x->answer);

	x->ended = true;
	list_remove(&x->link);
	if (!answer && x->status == 200)
		x->status = 202;
	x->ops->done(x, x->status, answer);
}

static void mcp_step(struct mcp_exchange *x)
{
	x->looping = true;
	while (!x->running && x->next < x->msg.n)
		mcp_one(x);
	x->looping = false;
	if (!x->running)
		mcp_end(x);
}

void mcp_exchange_start(struct mcp_exchange *x, struct mcp_peer *p,
			const struct mcp_exchange_ops *ops, const char *text, size_t len)
{
	char reason[256];
	int code;

	*x = (struct mcp_exchange){ .ops = ops, .peer = p, .status = 200 };
	list_append(&p->exchanges, &x->link);
	loop_timer_init(&x->beat, mcp_beat);
	code = jsonrpc_parse(text, len, &x->msg, reason, sizeof(reason));
	if (!code && x->msg.batch && !mcp_version_batches(p->version)) {
		code = JSONRPC_INVALID;
		snprintf(reason, sizeof(reason),
			 "Invalid request: this version of MCP has no batches: send one message");
	}
	if (code) {
		p->server->count.bad_requests++;
		x->msg.batch = false;
		mcp_fail(x, 400, code, reason);
		mcp_end(x);
		return;
	}
	mcp_step(x);
}

void mcp_exchange_cancel(struct mcp_exchange *x)
{
	if (x->ended)
		return;
	x->ended = true;
	list_remove(&x->link);
	loop_timer_cancel(&x->beat);
	if (x->running)
		rpc_cancel(&x->call);
	x->running = false;
}

void mcp_exchange_abort(struct mcp_exchange *x, int status, const char *message)
{
	if (x->ended)
		return;
	mcp_exchange_cancel(x);
	x->ops->done(x, status, mcp_dump(mcp_error(RPC_NOT_FOUND, message, x->current.call.id)));
}

void mcp_exchange_fini(struct mcp_exchange *x)
{
	buf_fini(&x->answers);
	free(x->answer);
	x->answer = NULL;
	rpc_call_fini(&x->call);
	jsonrpc_message_fini(&x->msg);
}
