/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DOC: sandbox.repl.run and sandbox.command.run
 *
 * Purpose: one request to the guest's agent and its answer.  Output is gathered as it
 * comes, each stream given credit at once, so that a program never waits for us; what
 * passes RUN_OUTPUT_MAX is dropped and the answer says so.
 *
 * Ends, each of which answers or cancels the call once: the guest's last message
 * (run_frame), the end of the sandbox (run_gone), the client vanishing (run_cancel: the
 * channel is closed, which kills what runs on it).
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/mem.h"
#include "server/api.h"
#include "server/box.h"
#include "server/lines.h"
#include "server/rich.h"
#include "server/run.h"

#define RUN_OUTPUT_MAX (8u << 20)

struct run {
	struct rpc_call *call;
	struct box *box;
	struct box_call in_box;
	struct client_channel channel;
	struct corpse corpse;
	struct lines lines;
	struct rich rich;
	/* what is still to be sent as the standard input: the code of a REPL_RUN */
	const char *code;
	size_t code_left;
	uint32_t window;
	uint64_t timeout_ms;
};

static void run_free(struct corpse *c)
{
	struct run *r = container_of(c, struct run, corpse);

	lines_fini(&r->lines);
	rich_fini(&r->rich);
	free(r);
}

/* Ends the run. Return: the call, to be answered; r is valid until the loop turns. */
static struct rpc_call *run_end(struct run *r)
{
	struct rpc_call *c = r->call;

	box_call_end(&r->in_box);
	server_bury(c->server, &r->corpse, run_free);
	return c;
}

static void run_cancel(struct rpc_call *c)
{
	struct run *r = c->state;

	client_close(&r->channel);
	run_end(r);
}

static void run_gone(struct box_call *in_box, const char *reason)
{
	struct run *r = container_of(in_box, struct run, in_box);

	rpc_fail(run_end(r), RPC_SANDBOX_FAILED, "Sandbox %s ended: %s", r->box->name, reason);
}

/* Sends as much of the code as the guest takes now. */
static void run_send_code(struct run *r)
{
	while (r->code && r->window) {
		size_t n = r->code_left;

		if (!n) {
			client_send(&r->channel, FRAME_EOF, STREAM_IN, NULL);
			r->code = NULL;
			return;
		}
		if (n > FRAME_DATA_MAX)
			n = FRAME_DATA_MAX;
		if (n > r->window)
			n = r->window;
		client_send_data(&r->channel, r->code, n);
		r->code += n;
		r->code_left -= n;
		r->window -= (uint32_t)n;
	}
}

json_t *run_duration(uint64_t wall_ns)
{
	return json_real((double)(wall_ns / 10000) / 100);
}

static void run_add_duration(json_t *result, uint64_t wall_ns, const struct run *r)
{
	if (r->lines.truncated)
		json_object_set_new(result, "truncated", json_true());
	json_object_set_new(result, "duration_ms", run_duration(wall_ns));
}

/* ---- the interpreter --------------------------------------------------------------------- */

void run_timeout_line(const struct frame_repl_done *d, uint64_t timeout_ms, char *to, size_t size)
{
	snprintf(to, size, "Error: Execution timed out after %g seconds%s",
		 (double)timeout_ms / 1000,
		 d->state_lost ? "; its interpreter had to be restarted: variables are lost" : "");
}

json_t *run_repl_result(const struct frame_repl_done *d, const char *language)
{
	static const char *const reasons[] = {
		[REPL_EXCEPTION] = "exception",
		[REPL_TIMEOUT] = "timeout",
		[REPL_EXITED] = "exited",
	};
	json_t *result;

	if (d->status > REPL_EXITED)
		return NULL;
	result = json_pack("{s:s, s:s}", "status", d->status ? "error" : "success", "language",
			   language);
	if (d->status)
		json_object_set_new(result, "reason", json_string(reasons[d->status]));
	if (d->status == REPL_EXITED)
		json_object_set_new(result, "exit_code", json_integer(d->exit_code));
	if (d->state_lost)
		json_object_set_new(result, "state_lost", json_true());
	json_object_set_new(result, "duration_ms", run_duration(d->wall_ns));
	return result;
}

static void run_repl_done(struct run *r, const struct frame *f)
{
	struct frame_repl_done d;
	json_t *result, *output, *results;
	char line[128];

	if (frame_decode(f, &d, sizeof(d)) || d.status > REPL_EXITED) {
		rpc_fail(run_end(r), RPC_SANDBOX_FAILED, "Sandbox %s sent an invalid answer",
			 r->box->name);
		return;
	}
	if (d.status == REPL_TIMEOUT) {
		run_timeout_line(&d, r->timeout_ms, line, sizeof(line));
		lines_say(&r->lines, true, line);
	}
	output = lines_take(&r->lines);
	results = rich_take(&r->rich);
	result = output && results ? run_repl_result(&d, rpc_string(r->call->params, "language"))
				   : NULL;
	if (result) {
		json_object_set(result, "output", output);
		json_object_set(result, "results", results);
		run_add_duration(result, d.wall_ns, r);
	}
	json_decref(output);
	json_decref(results);
	rpc_reply(run_end(r), result);
}

/* ---- a program ----------------------------------------------------------------------------- */

static void run_exec_timeout(struct run *r, json_t *output)
{
	rpc_fail_data(run_end(r), RPC_TIMED_OUT,
		      json_pack("{s:o, s:b}", "output", output, "truncated", r->lines.truncated),
		      "Command timeout after %g seconds: it was killed, with all that it started",
		      (double)r->timeout_ms / 1000);
}

static void run_exec_exit(struct run *r, const struct frame *f)
{
	json_t *args = json_object_get(r->call->params, "args"), *result, *output;
	struct frame_exec_exit x;
	int status;

	if (frame_decode(f, &x, sizeof(x))) {
		rpc_fail(run_end(r), RPC_SANDBOX_FAILED, "Sandbox %s sent an invalid answer",
			 r->box->name);
		return;
	}
	output = lines_take(&r->lines);
	if (output && x.reason == EXIT_TIMEOUT) {
		run_exec_timeout(r, output);
		return;
	}
	status = (int)(x.reason == EXIT_SIGNALED ? 128 + (x.status & 0x7f) : x.status & 0xff);
	args = json_is_array(args) ? json_incref(args) : json_array();
	result = output ? json_pack("{s:O, s:o, s:i, s:b, s:o}", "command",
				    json_object_get(r->call->params, "command"), "args", args,
				    "exit_code", status, "success", !status, "output", output)
			: NULL;
	if (result)
		run_add_duration(result, x.wall_ns, r);
	rpc_reply(run_end(r), result);
}

/* ---- both ------------------------------------------------------------------------------------ */

static void run_error(struct run *r, const struct frame *f)
{
	struct frame_error err;
	char text[1024];
	bool bad = frame_decode(f, &err, sizeof(err)) ||
		   frame_str_copy(&err.message, text, sizeof(text));

	if (bad)
		snprintf(text, sizeof(text), "the sandbox refused it");
	rpc_fail_data(run_end(r), RPC_NOT_RUN,
		      bad ? NULL : json_pack("{s:i}", "errno", (int)err.code),
		      "Command execution failed: %s", text);
}

static void run_frame(struct client_channel *ch, const struct frame *f)
{
	struct run *r = container_of(ch, struct run, channel);
	struct frame_credit credit;

	switch (f->type) {
	case FRAME_DATA:
		if (f->flags == STREAM_RESULT)
			rich_add_data(&r->rich, f->body, f->len);
		else
			lines_add(&r->lines, f->flags == STREAM_ERR, f->body, f->len);
		client_credit(ch, f->flags, f->len);
		return;
	case FRAME_CREDIT:
		if (f->flags == STREAM_IN && !frame_decode(f, &credit, sizeof(credit))) {
			r->window += credit.bytes;
			run_send_code(r);
		}
		return;
	case FRAME_REPL_RESULT:
		rich_add(&r->rich, f);
		return;
	case FRAME_REPL_DONE:
		run_repl_done(r, f);
		return;
	case FRAME_EXEC_EXIT:
		run_exec_exit(r, f);
		return;
	case FRAME_ERROR:
		run_error(r, f);
		return;
	default:
		if (frame_type_ends_channel(f->type))
			rpc_fail(run_end(r), RPC_SANDBOX_FAILED,
				 "Sandbox %s sent an invalid answer", r->box->name);
	}
}

static struct box *run_find_box(struct rpc_call *c)
{
	struct err e = ERR_INIT;
	struct box *b = box_find_running(c->server, c->ns, rpc_string(c->params, "sandbox"), &e);

	if (!b)
		rpc_fail(c, e.code == EBUSY ? RPC_LIMIT : RPC_NOT_FOUND, "%s", err_text(&e));
	return b;
}

static void run_open(struct rpc_call *c, struct box *b, uint16_t type, const void *msg,
		     const char *code, size_t code_len)
{
	struct run *r = calloc(1, sizeof(*r));
	int rc;

	if (!r) {
		rpc_fail(c, JSONRPC_INTERNAL, "Internal server error: out of memory");
		return;
	}
	r->call = c;
	r->box = b;
	r->in_box.gone = run_gone;
	r->channel.on_frame = run_frame;
	list_init(&r->channel.link);
	lines_init(&r->lines, RUN_OUTPUT_MAX, &c->server->outputs);
	rich_init(&r->rich, &c->server->outputs);
	r->code = code;
	r->code_left = code_len;
	r->window = FRAME_WINDOW;
	r->timeout_ms = rpc_timeout_ms(c->params);
	rc = client_open(&b->client, &r->channel, type, msg);
	if (rc) {
		run_free(&r->corpse);
		rpc_fail(c, rc == -EMSGSIZE ? JSONRPC_BAD_PARAMS : RPC_SANDBOX_FAILED,
			 rc == -EMSGSIZE ? "Invalid params: arguments and environment are too long "
					   "together (limit 256 KiB)"
					 : "The sandbox's supervisor does not answer");
		return;
	}
	box_call_begin(b, &r->in_box);
	c->state = r;
	c->cancel = run_cancel;
	run_send_code(r);
}

const char *run_language(const char *given)
{
	static const char *const names[] = { "python", "node", "nodejs", "javascript",
					     "sh",     "bash", "shell",  NULL };

	for (const char *const *n = names; *n; n++)
		if (!strcasecmp(*n, given))
			return *n;
	return NULL;
}

void method_sandbox_repl_run(struct rpc_call *c)
{
	json_t *code = json_object_get(c->params, "code");
	const char *given = rpc_string(c->params, "language"), *language = run_language(given);
	struct frame_repl_run msg = { .timeout_ms = rpc_timeout_ms(c->params),
				      .flags = REPL_RESULTS };
	struct box *b = run_find_box(c);

	if (!b)
		return;
	if (!language) {
		rpc_fail(c, JSONRPC_BAD_PARAMS,
			 "Invalid params: Unsupported language: %s (python, node and sh are)",
			 given);
		return;
	}
	msg.language = frame_str_of(language);
	msg.code_len = json_string_length(code);
	msg.user = frame_str_of(box_meta(b, "user"));
	msg.cwd = frame_str_of(box_meta(b, "workdir"));
	msg.env = b->env;
	run_open(c, b, FRAME_REPL_RUN, &msg, json_string_value(code), json_string_length(code));
}

void method_sandbox_command_run(struct rpc_call *c)
{
	const char *command = rpc_string(c->params, "command");
	json_t *args = json_object_get(c->params, "args"), *v;
	struct frame_exec msg = { .timeout_ms = rpc_timeout_ms(c->params) };
	struct box *b = run_find_box(c);
	struct buf bytes = BUF_INIT;
	size_t i;
	int rc;

	if (!b)
		return;
	rc = frame_list_add(&bytes, &msg.argv, command, strlen(command));
	json_array_foreach(args, i, v) if (!rc) rc =
		frame_list_add(&bytes, &msg.argv, json_string_value(v), json_string_length(v));
	frame_list_end(&bytes, &msg.argv);
	msg.cwd = frame_str_of(box_meta(b, "workdir"));
	msg.user = frame_str_of(box_meta(b, "user"));
	msg.env = b->env;
	if (rc)
		rpc_fail(c, JSONRPC_BAD_PARAMS,
			 "Invalid params: params.args is too long (limit 256 KiB)");
	else
		run_open(c, b, FRAME_EXEC, &msg, NULL, 0);
	buf_fini(&bytes);
}
