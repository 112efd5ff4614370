/* SPDX-License-Identifier: Apache-2.0 */
#include "server/live.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "codec/base64.h"
#include "codec/jsonrpc.h"
#include "codec/utf8.h"
#include "server/api.h"
#include "server/run.h"

#define LIVE_ROWS 24u
#define LIVE_COLS 80u
#define LIVE_TOO_LONG "arguments and environment are too long together (limit 256 KiB)"
#define LIVE_OUT_OF_MEMORY "the server is out of memory: try again later"

/* ---- the end ---------------------------------------------------------------------------- */

static void live_gone_from_box(struct live *l, enum audit_outcome outcome, int code)
{
	if (!l->open)
		return;
	l->open = false;
	sandbox_path_audit(l->server, &l->target, l->language[0] ? "repl.stream" : "exec.stream",
			   outcome, code);
	box_call_end(&l->in_box);
	l->server->n_streams--;
}

/* @code: of an error, 0 = none. @data is taken over. */
static void live_ended(struct live *l, const char *event, int code, json_t *data)
{
	live_gone_from_box(l, code ? AUDIT_ERROR : AUDIT_OK, code);
	l->ops->ended(l, event, data);
	json_decref(data);
}

static void live_failed(struct live *l, int code, const char *text)
{
	struct buf clean = BUF_INIT;
	json_t *message = NULL;

	if (!utf8_clean(&clean, text, strlen(text)))
		message = json_stringn((const char *)buf_data(&clean), buf_len(&clean));
	buf_fini(&clean);
	l->server->count.failed_calls++;
	live_ended(l, "error", code, json_pack("{s:i, s:o}", "code", code, "message", message));
}

static void live_gone(struct box_call *in_box, const char *reason)
{
	struct live *l = container_of(in_box, struct live, in_box);
	struct err e = ERR_INIT;

	err_set(&e, EPIPE, "Sandbox %s ended: %s", l->target.name, reason);
	live_failed(l, RPC_SANDBOX_FAILED, err_text(&e));
}

void live_close(struct live *l)
{
	if (!l->open)
		return;
	client_close(&l->channel);
	live_gone_from_box(l, AUDIT_CANCELLED, 0);
}

void live_fini(struct live *l)
{
	buf_fini(&l->in);
	rich_fini(&l->rich);
}

/* ---- what the guest says ------------------------------------------------------------------ */

static void live_exit(struct live *l, const struct frame *f)
{
	static const char *const reasons[] = {
		[EXIT_EXITED] = "exited",
		[EXIT_SIGNALED] = "signal",
		[EXIT_TIMEOUT] = "timeout",
	};
	struct frame_exec_exit x;
	unsigned number;
	json_t *data;
	int code;

	if (frame_decode(f, &x, sizeof(x)) || x.reason > EXIT_TIMEOUT) {
		live_failed(l, RPC_SANDBOX_FAILED, "the sandbox sent an invalid answer");
		return;
	}
	/* Out of time means killed, whatever it still did about it. */
	number = x.reason == EXIT_TIMEOUT ? SIGKILL : x.status & 0x7f;
	code = (int)(x.reason == EXIT_EXITED ? x.status & 0xff : 128 + number);
	data = json_pack("{s:i, s:b, s:s, s:o}", "exit_code", code, "success", !code, "reason",
			 reasons[x.reason], "duration_ms", run_duration(x.wall_ns));
	if (x.reason != EXIT_EXITED)
		json_object_set_new(data, "signal", json_integer(number));
	live_ended(l, "exit", 0, data);
}

static void live_done(struct live *l, const struct frame *f)
{
	struct frame_repl_done d;
	json_t *data = NULL, *results;
	char line[160];

	if (!frame_decode(f, &d, sizeof(d)))
		data = run_repl_result(&d, l->language);
	results = rich_take(&l->rich);
	if (!data || json_object_set_new(data, "results", results)) {
		json_decref(data);
		live_failed(l, RPC_SANDBOX_FAILED, "the sandbox sent an invalid answer");
		return;
	}
	if (d.status == REPL_TIMEOUT) {
		run_timeout_line(&d, l->timeout_ms, line, sizeof(line) - 1);
		strcat(line, "\n");
		l->ops->output(l, true, line, strlen(line));
	}
	if (l->open) /* the client may have gone over that line */
		live_ended(l, "done", 0, data);
	else
		json_decref(data);
}

static void live_error(struct live *l, const struct frame *f)
{
	struct frame_error err;
	struct err e = ERR_INIT;
	char text[1024];

	if (frame_decode(f, &err, sizeof(err)) || frame_str_copy(&err.message, text, sizeof(text)))
		snprintf(text, sizeof(text), "the sandbox refused it");
	err_set(&e, EIO, "Command execution failed: %s", text);
	live_failed(l, RPC_NOT_RUN, err_text(&e));
}

/* ---- input ----------------------------------------------------------------------------------- */

/* Return: 0; an error: the run was abandoned, and nobody was told. */
static int live_send_input(struct live *l)
{
	while (l->open && l->window && buf_len(&l->in)) {
		size_t n = buf_len(&l->in);
		int rc;

		if (n > FRAME_DATA_MAX)
			n = FRAME_DATA_MAX;
		if (n > l->window)
			n = l->window;
		rc = client_send_data(&l->channel, buf_data(&l->in), n);
		if (rc) {
			live_close(l);
			return rc;
		}
		l->window -= (uint32_t)n;
		l->server->count.stream_in_bytes += n;
		buf_consume(&l->in, n);
	}
	if (!l->open || !l->in_ended || l->eof_sent || buf_len(&l->in))
		return 0;
	l->eof_sent = true;
	buf_reset(&l->in);
	return client_send(&l->channel, FRAME_EOF, STREAM_IN, NULL);
}

static void live_push_input(struct live *l)
{
	if (!live_send_input(l))
		return;
	live_close(l);
	live_failed(l, JSONRPC_INTERNAL, LIVE_OUT_OF_MEMORY);
}

int live_input(struct live *l, const void *p, size_t n)
{
	int rc = l->in_ended ? 0 : buf_append(&l->in, p, n);

	if (!rc)
		live_push_input(l);
	return rc;
}

void live_input_end(struct live *l)
{
	l->in_ended = true;
	live_push_input(l);
}

static void live_more_window(struct live *l, const struct frame *f)
{
	struct frame_credit credit;
	bool full = !live_has_room(l);

	if (f->flags != STREAM_IN || frame_decode(f, &credit, sizeof(credit)) ||
	    credit.bytes > FRAME_WINDOW_MAX - l->window)
		return;
	l->window += credit.bytes;
	live_push_input(l);
	if (full && l->open && live_has_room(l) && l->ops->input_room)
		l->ops->input_room(l);
}

/* ---- output ------------------------------------------------------------------------------------ */

static void live_output(struct live *l, const struct frame *f)
{
	bool err = f->flags == STREAM_ERR;

	if (f->flags == STREAM_RESULT) {
		/* Bounded as a whole, and told at the end: nobody has to wait for room. */
		rich_add_data(&l->rich, f->body, f->len);
		client_credit(&l->channel, STREAM_RESULT, f->len);
		return;
	}
	if (f->flags != STREAM_OUT && !err)
		return;
	l->owed[err] += f->len;
	l->server->count.stream_out_bytes += f->len;
	l->ops->output(l, err, f->body, f->len);
}

void live_credit(struct live *l, uint32_t least)
{
	for (unsigned i = 0; l->open && i < ARRAY_SIZE(l->owed); i++) {
		if (!l->owed[i] || l->owed[i] < least)
			continue;
		client_credit(&l->channel, i ? STREAM_ERR : STREAM_OUT, l->owed[i]);
		l->owed[i] = 0;
	}
}

static void live_frame(struct client_channel *ch, const struct frame *f)
{
	struct live *l = container_of(ch, struct live, channel);
	struct frame_exec_started started;

	switch (f->type) {
	case FRAME_DATA:
		live_output(l, f);
		return;
	case FRAME_CREDIT:
		live_more_window(l, f);
		return;
	case FRAME_EXEC_STARTED:
		if (!frame_decode(f, &started, sizeof(started)))
			l->ops->started(l, started.pid);
		return;
	case FRAME_EXEC_EXIT:
		live_exit(l, f);
		return;
	case FRAME_REPL_RESULT:
		rich_add(&l->rich, f);
		return;
	case FRAME_REPL_DONE:
		live_done(l, f);
		return;
	case FRAME_ERROR:
		live_error(l, f);
		return;
	default:
		if (frame_type_ends_channel(f->type))
			live_failed(l, RPC_SANDBOX_FAILED, "the sandbox sent an invalid answer");
	}
}

/* ---- control ------------------------------------------------------------------------------------ */

void live_resize(struct live *l, uint16_t rows, uint16_t cols)
{
	struct frame_exec_resize m = { .rows = rows, .cols = cols };

	if (l->open)
		client_send(&l->channel, FRAME_EXEC_RESIZE, 0, &m);
}

void live_signal(struct live *l, unsigned number)
{
	struct frame_exec_signal m = { .signal = number, .group = 1 };

	if (l->open)
		client_send(&l->channel, FRAME_EXEC_SIGNAL, 0, &m);
}

/* ---- requests ------------------------------------------------------------------------------------- */

json_t *live_parse(const struct schema *schema, const char *text, size_t len, struct err *e)
{
	struct jsonrpc_message m;
	char reason[256];

	if (jsonrpc_parse(text, len, &m, reason, sizeof(reason))) {
		err_set(e, EINVAL, "%s", reason);
		return NULL;
	}
	if (!schema_check(schema, m.root, "the request", e))
		return m.root;
	jsonrpc_message_fini(&m);
	return NULL;
}

static void live_init(struct live *l, const struct live_ops *ops, const struct sandbox_target *t,
		      const json_t *request)
{
	*l = (struct live){ .ops = ops, .server = t->box->server, .window = FRAME_WINDOW };
	l->target = *t;
	l->target.box = NULL;
	rich_init(&l->rich, &l->server->outputs);
	l->in_box.gone = live_gone;
	l->channel.on_frame = live_frame;
	list_init(&l->in_box.link);
	list_init(&l->channel.link);
	l->timeout_ms = rpc_timeout_ms(request);
}

static int live_open(struct live *l, struct box *b, uint16_t type, const void *msg, struct err *e)
{
	int rc = client_open(&b->client, &l->channel, type, msg);

	if (rc == -EMSGSIZE)
		return err_set(e, EINVAL, LIVE_TOO_LONG);
	if (rc)
		return err_set(e, -rc, "The sandbox's supervisor does not answer");
	l->open = true;
	box_call_begin(b, &l->in_box);
	l->server->n_streams++;
	l->server->count.streams++;
	rc = live_send_input(l);
	if (!rc)
		return 0;
	live_close(l);
	return err_set(e, -rc, LIVE_OUT_OF_MEMORY);
}

/* The input that stands in the request. Return: 0 or an error; *@any: is there one? */
static int live_request_input(struct live *l, const json_t *request, bool *any, struct err *e)
{
	const json_t *text = json_object_get(request, "stdin");
	const json_t *bytes = json_object_get(request, "stdin_base64");
	int rc = 0;

	*any = json_is_string(text) || json_is_string(bytes);
	if (json_is_string(text) && json_is_string(bytes))
		return err_set(e, EINVAL, "give stdin or stdin_base64, not both");
	if (json_is_string(text))
		rc = buf_append(&l->in, json_string_value(text), json_string_length(text));
	else if (json_is_string(bytes))
		rc = base64_decode(&l->in, json_string_value(bytes), json_string_length(bytes));
	if (rc == -EINVAL)
		return err_set(e, EINVAL, "stdin_base64 is no base64");
	return rc ? err_errno(e, -rc, "the standard input") : 0;
}

static int live_list_error(int rc, struct err *e)
{
	if (!rc)
		return 0;
	if (rc == -ENOMEM)
		return err_set(e, ENOMEM, LIVE_OUT_OF_MEMORY);
	return err_set(e, EINVAL, LIVE_TOO_LONG);
}

/* Does @env have a value for the variable in @entry, which is KEY=VALUE? */
static bool live_env_overrides(const json_t *env, const struct frame_str *entry)
{
	const uint8_t *eq = memchr(entry->p, '=', entry->len);

	return eq && json_object_getn(env, (const char *)entry->p, (size_t)(eq - entry->p));
}

/* The sandbox's environment, with the request's on top. */
static int live_env(struct box *b, json_t *env, struct buf *bytes, struct frame_list *out,
		    struct err *e)
{
	struct frame_list base = b->env;
	struct frame_str entry;
	const char *key;
	json_t *v;
	int rc = 0;

	while (!rc && frame_list_next(&base, &entry))
		if (!live_env_overrides(env, &entry))
			rc = frame_list_add(bytes, out, entry.p, entry.len);
	json_object_foreach(env, key, v)
	{
		auto_free char *line = NULL;

		if (!json_is_string(v) || !*key || strchr(key, '='))
			return err_set(e, EINVAL,
				       "the request.env must be an object of strings: "
				       "{\"KEY\": \"value\"}");
		if (rc)
			continue;
		if (asprintf(&line, "%s=%s", key, json_string_value(v)) < 0) {
			line = NULL;
			rc = -ENOMEM;
			continue;
		}
		rc = frame_list_add(bytes, out, line, strlen(line));
	}
	frame_list_end(bytes, out);
	return live_list_error(rc, e);
}

static int live_argv(const json_t *request, struct buf *bytes, struct frame_list *out, struct err *e)
{
	const char *command = rpc_string(request, "command");
	json_t *args = json_object_get(request, "args"), *v;
	int rc = frame_list_add(bytes, out, command, strlen(command));
	size_t i;

	json_array_foreach(args, i, v)
	{
		if (strlen(json_string_value(v)) != json_string_length(v))
			return err_set(e, EINVAL, "the request.args[%zu] has a NUL character", i);
		if (!rc)
			rc = frame_list_add(bytes, out, json_string_value(v), json_string_length(v));
	}
	frame_list_end(bytes, out);
	return live_list_error(rc, e);
}

static uint16_t live_size(const json_t *request, const char *key, unsigned none)
{
	double v;

	return (uint16_t)(rpc_number(request, key, &v) ? (unsigned)v : none);
}

static const char *live_choose(const json_t *request, const char *key, const char *otherwise)
{
	const char *v = rpc_string(request, key);

	return v ? v : otherwise;
}

int live_exec(struct live *l, const struct live_ops *ops, const struct sandbox_target *t,
	      const json_t *request, bool keep_input, struct err *e)
{
	struct box *b = t->box;
	struct buf argv = BUF_INIT, env = BUF_INIT;
	struct frame_exec msg = {
		.cwd = frame_str_of(live_choose(request, "cwd", box_meta(b, "workdir"))),
		.user = frame_str_of(live_choose(request, "user", box_meta(b, "user"))),
		.rows = live_size(request, "rows", LIVE_ROWS),
		.cols = live_size(request, "cols", LIVE_COLS),
	};
	bool input = false;
	int rc;

	live_init(l, ops, t, request);
	msg.timeout_ms = l->timeout_ms;
	rc = live_request_input(l, request, &input, e);
	if (!rc)
		rc = live_argv(request, &argv, &msg.argv, e);
	if (!rc)
		rc = live_env(b, json_object_get(request, "env"), &env, &msg.env, e);
	if (input || keep_input)
		msg.flags |= EXEC_STDIN;
	if (json_is_true(json_object_get(request, "tty")))
		msg.flags |= EXEC_TTY;
	l->in_ended = !keep_input;
	l->eof_sent = !(msg.flags & EXEC_STDIN); /* there is no such stream */
	if (!rc)
		rc = live_open(l, b, FRAME_EXEC, &msg, e);
	buf_fini(&argv);
	buf_fini(&env);
	return rc;
}

int live_repl(struct live *l, const struct live_ops *ops, const struct sandbox_target *t,
	      const json_t *request, struct err *e)
{
	struct box *b = t->box;
	const json_t *code = json_object_get(request, "code");
	const char *given = rpc_string(request, "language"), *language = run_language(given);
	struct frame_repl_run msg = {
		.code_len = json_string_length(code),
		.user = frame_str_of(box_meta(b, "user")),
		.cwd = frame_str_of(box_meta(b, "workdir")),
		.env = b->env,
		.flags = REPL_RESULTS,
	};
	int rc;

	live_init(l, ops, t, request);
	if (!language)
		return err_set(e, EINVAL, "Unsupported language: %s (python, node and sh are)",
			       given);
	snprintf(l->language, sizeof(l->language), "%s", given);
	msg.language = frame_str_of(language);
	msg.timeout_ms = l->timeout_ms;
	l->in_ended = true;
	rc = buf_append(&l->in, json_string_value(code), json_string_length(code));
	return rc ? err_errno(e, -rc, "the code") : live_open(l, b, FRAME_REPL_RUN, &msg, e);
}
