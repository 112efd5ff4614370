/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Output as it comes: POST /api/v1/sandboxes/NAME/exec and …/repl, answered with server-sent
 * events (src/codec/sse.h): started, stdout, stderr, and at the end one of exit, done and error.
 * A stream that ends without one of these was cut off.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "capi/internal.h"
#include "codec/sse.h"
#include "codec/utf8.h"

/* Of one call: as many bytes as the server keeps of a call that answers at its end, and as many lines as a
 * program that prints nothing but newlines should cost. */
#define STREAM_KEPT_MAX ((size_t)8 << 20)
#define STREAM_LINES_MAX ((size_t)1 << 20)

/* Output that is kept, by line, in the order of their ends. */
struct stream_lines {
	json_t *done; /* array of {stream, text}; NULL: nothing is kept */
	struct buf open[2]; /* what has no end yet, of stdout and stderr */
	size_t size;
	bool truncated;
};

struct stream {
	struct sse_parser sse;
	const char *end; /* the event that ends it well: "exit" or "done" */
	enum capi_execution_type type;
	msb_started_fn *on_started;
	msb_output_fn *on_output;
	void *context;
	struct stream_lines lines;
	json_t *last; /* its data; NULL: it did not come yet */
	int kind; /* why an event ended the stream */
	struct msb_error *why; /* of that kind */
};

static int stream_gave_up(struct stream *s)
{
	return capi_fail(&s->why, MSB_ERR_CANCELLED, "the receiver of the output gave up");
}

/* ---- what is kept ---- */

/* Return: 0 or MSB_ERR_NO_MEMORY. */
static int stream_end_line(struct stream *s, enum msb_stream which)
{
	struct buf *line = &s->lines.open[which == MSB_STDERR], clean = BUF_INIT;
	json_t *o = NULL;

	if (!utf8_clean(&clean, buf_data(line), buf_len(line)))
		o = json_pack("{s:s, s:s%}", "stream", which == MSB_STDERR ? "stderr" : "stdout",
			      "text", buf_len(&clean) ? (const char *)buf_data(&clean) : "",
			      buf_len(&clean));
	buf_fini(&clean);
	buf_consume(line, buf_len(line));
	if (!o || json_array_append_new(s->lines.done, o))
		return capi_no_memory(&s->why);
	return 0;
}

/* Return: 0 or MSB_ERR_NO_MEMORY. */
static int stream_keep(struct stream *s, enum msb_stream which, const char *p, size_t n)
{
	struct stream_lines *l = &s->lines;
	struct buf *line = &l->open[which == MSB_STDERR];
	const char *newline;
	int rc = 0;

	if (!l->done || l->truncated)
		return 0;
	l->truncated = n > STREAM_KEPT_MAX - l->size;
	if (l->truncated)
		return 0;
	l->size += n;
	while (!rc && (newline = memchr(p, '\n', n)) != NULL) {
		size_t len = (size_t)(newline - p);

		l->truncated = json_array_size(l->done) >= STREAM_LINES_MAX;
		if (l->truncated)
			return 0;
		rc = buf_append(line, p, len) ? capi_no_memory(&s->why) : stream_end_line(s, which);
		p += len + 1;
		n -= len + 1;
	}
	if (!rc && buf_append(line, p, n))
		rc = capi_no_memory(&s->why);
	return rc;
}

/* Puts what was kept to the end of the stream, as the answer to sandbox.command.run has it. */
static int stream_take_lines(struct stream *s, const json_t *body, struct msb_error **err)
{
	int rc = 0;

	for (int i = 0; i < 2 && !rc; i++)
		if (buf_len(&s->lines.open[i]))
			rc = stream_end_line(s, i ? MSB_STDERR : MSB_STDOUT);
	if (rc || json_object_set(s->last, "output", s->lines.done) ||
	    json_object_set_new(s->last, "truncated", json_boolean(s->lines.truncated)) ||
	    json_object_set(s->last, "command", json_object_get(body, "command")) ||
	    json_object_set(s->last, "args", json_object_get(body, "args")))
		return capi_no_memory(err);
	return 0;
}

/* ---- events ---- */

static int stream_give(struct stream *s, enum msb_stream which, const void *p, size_t n)
{
	if (s->on_output && s->on_output(s->context, which, p, n))
		return stream_gave_up(s);
	return stream_keep(s, which, p, n);
}

static int stream_output(struct stream *s, enum msb_stream which, const json_t *o)
{
	const json_t *text = json_object_get(o, "text"), *base64 = json_object_get(o, "base64");
	auto_free uint8_t *bytes = NULL;
	size_t len;
	int rc;

	if (json_is_string(text))
		return stream_give(s, which, json_string_value(text), json_string_length(text));
	if (!json_is_string(base64))
		return capi_bad_member("text", &s->why);
	rc = capi_base64_decode(json_string_value(base64), json_string_length(base64), &bytes, &len);
	if (rc)
		return rc == -ENOMEM ? capi_no_memory(&s->why) : capi_bad_member("base64", &s->why);
	return stream_give(s, which, bytes, len);
}

static int stream_started(struct stream *s, const json_t *o)
{
	int64_t pid = -1;
	int rc = capi_opt_integer(o, "pid", &pid, &s->why);

	if (!rc && pid >= 0 && s->on_started && s->on_started(s->context, pid))
		return stream_gave_up(s);
	return rc;
}

int capi_said_error(const json_t *o, struct msb_error **err)
{
	const char *message;
	int64_t code = 0;
	int rc = capi_get_text(o, "message", &message, err);

	rc = rc ? rc : capi_opt_integer(o, "code", &code, err);
	if (rc)
		return rc;
	if (code < INT32_MIN || code > INT32_MAX)
		return capi_bad_member("code", err);
	return capi_fail_server(err, capi_kind_of_code(code), message, (int)code, 200,
				json_incref(json_object_get(o, "data")));
}

static int stream_on_event(void *context, const char *name, const uint8_t *data, size_t len)
{
	struct stream *s = context;
	json_t *o;

	if (s->last)
		return 0; /* nothing of interest comes after the end */
	o = json_loadb((const char *)data, len, JSON_ALLOW_NUL, NULL);
	if (!o || !json_is_object(o))
		s->kind = capi_fail(&s->why, MSB_ERR_INVALID_RESPONSE,
				    "an event '%s' of the server is no JSON object", name);
	else if (!strcmp(name, "stdout"))
		s->kind = stream_output(s, MSB_STDOUT, o);
	else if (!strcmp(name, "stderr"))
		s->kind = stream_output(s, MSB_STDERR, o);
	else if (!strcmp(name, "started"))
		s->kind = stream_started(s, o);
	else if (!strcmp(name, "error"))
		s->kind = capi_said_error(o, &s->why);
	else if (!strcmp(name, s->end))
		s->last = json_incref(o);
	/* What a newer server adds is passed over. */
	json_decref(o);
	return s->kind;
}

static int stream_on_data(void *context, const void *data, size_t len, struct msb_error **err)
{
	struct stream *s = context;
	int rc = sse_feed(&s->sse, data, len, stream_on_event, s);

	if (s->kind) {
		*err = take_ptr(&s->why);
		return s->kind;
	}
	if (rc == -ENOBUFS)
		return capi_fail(err, MSB_ERR_INVALID_RESPONSE,
				 "an event of the server is longer than %zu bytes", s->sse.max);
	return rc ? capi_no_memory(err) : 0;
}

/* Takes over @body. */
static int stream_call(struct msb_sandbox *sb, const char *what, json_t *body, double timeout,
		       struct stream *s, struct msb_cancel *cancel, struct msb_execution **out,
		       struct msb_error **err)
{
	auto_free char *text = json_dumps(body, JSON_COMPACT);
	auto_free char *path = capi_sandbox_path(sb, what);
	struct capi_exchange x = {
		.method = "POST",
		.path = path,
		.what = what,
		.accept = "text/event-stream, application/json",
		.answer_type = "text/event-stream",
		.content_type = "application/json",
		.body = text,
		.body_len = text ? strlen(text) : 0,
		.limit = timeout + CAPI_GRACE,
		.silence = CAPI_SILENCE_LIMIT,
		.cancel = cancel,
		.take = stream_on_data,
		.take_context = s,
		.answer = BUF_INIT,
	};
	struct msb_execution *e = NULL;
	size_t max;
	int rc;

	if (!text || !path) {
		json_decref(s->lines.done);
		json_decref(body);
		return capi_no_memory(err);
	}
	max = capi_client_max_answer(capi_sandbox_client(sb));
	sse_init(&s->sse, max < CAPI_EVENT_MAX ? max : CAPI_EVENT_MAX);
	rc = capi_exchange(capi_sandbox_client(sb), &x, err);
	if (!rc && x.status != 200)
		rc = capi_refused(x.status, buf_data(&x.answer), buf_len(&x.answer), err);
	else if (!rc && !s->last)
		rc = capi_fail(err, MSB_ERR_UNREACHABLE,
			       "the server's stream ended before its end: what became of the call "
			       "is not known");
	if (!rc && s->lines.done)
		rc = stream_take_lines(s, body, err);
	rc = rc ? rc : capi_execution_new(&e, json_incref(s->last), s->type, err);
	if (!rc && out)
		*out = e;
	else
		msb_execution_free(e);
	json_decref(body);
	json_decref(s->last);
	json_decref(s->lines.done);
	buf_fini(&s->lines.open[0]);
	buf_fini(&s->lines.open[1]);
	sse_fini(&s->sse);
	buf_fini(&x.answer);
	return rc;
}

/* As text, which is shorter, if it is that; what has a NUL is none. */
static int stream_set_input(json_t *o, const char *p, size_t n, struct msb_error **err)
{
	json_t *text = memchr(p, '\0', n) ? NULL : json_stringn(p, n);
	auto_free char *coded = NULL;

	if (text)
		return capi_set(o, "stdin", text, err);
	coded = capi_base64_encode(p, n);
	return coded ? capi_set_text(o, "stdin_base64", coded, err) : capi_no_memory(err);
}

int capi_set_program(json_t *o, const struct msb_exec *exec, struct msb_error **err)
{
	static const char *const none[] = { NULL };
	int rc = capi_set_texts(o, "args", exec->args ? exec->args : none, err);

	rc = rc ? rc : capi_set_pairs(o, "env", exec->envs, err);
	rc = rc ? rc : capi_set_text(o, "cwd", exec->cwd, err);
	rc = rc ? rc : capi_set_text(o, "user", exec->user, err);
	if (rc || !exec->input_len)
		return rc;
	if (!exec->input)
		return capi_fail(err, MSB_ERR_ARGUMENT, "input_len without input");
	return stream_set_input(o, exec->input, exec->input_len, err);
}

int msb_sandbox_exec(struct msb_sandbox *sb, const char *command, double timeout,
		     const struct msb_exec *given, struct msb_cancel *cancel,
		     struct msb_execution **out, struct msb_error **err)
{
	struct stream s = { .end = "exit", .type = CAPI_EXIT };
	struct msb_exec exec;
	json_t *body = NULL;
	int rc = capi_check_started(sb, err);

	rc = rc ? rc : capi_check_timeout(timeout, err);
	rc = rc ? rc : capi_need(command, "command", err);
	rc = rc ? rc : capi_options(&exec, sizeof(exec), given, "msb_exec", err);
	if (rc)
		return rc;
	s.on_started = exec.on_started;
	s.on_output = exec.on_output;
	s.context = exec.context;
	body = json_object();
	rc = body ? capi_set_text(body, "command", command, err) : capi_no_memory(err);
	if (!rc && exec.keep_output) {
		s.type = CAPI_EXEC;
		s.lines.done = json_array();
		rc = s.lines.done ? 0 : capi_no_memory(err);
	}
	rc = rc ? rc : capi_set_program(body, &exec, err);
	if (!rc && !isinf(timeout))
		rc = capi_set_seconds(body, "timeout", timeout, err);
	if (rc) {
		json_decref(s.lines.done);
		json_decref(body);
		return rc;
	}
	return stream_call(sb, "exec", body, timeout, &s, cancel, out, err);
}

int msb_sandbox_run_streamed(struct msb_sandbox *sb, const char *code, double timeout,
			     msb_output_fn *on_output, void *context, struct msb_cancel *cancel,
			     struct msb_execution **out, struct msb_error **err)
{
	struct stream s = {
		.end = "done",
		.type = CAPI_REPL_END,
		.on_output = on_output,
		.context = context,
	};
	json_t *body = NULL;
	int rc = capi_check_started(sb, err);

	rc = rc ? rc : capi_check_timeout(timeout, err);
	rc = rc ? rc : capi_need(code, "code", err);
	if (rc)
		return rc;
	body = json_object();
	rc = body ? capi_set_text(body, "language", msb_sandbox_language(sb), err)
		  : capi_no_memory(err);
	rc = rc ? rc : capi_set_text(body, "code", code, err);
	if (!rc && !isinf(timeout))
		rc = capi_set_seconds(body, "timeout", timeout, err);
	if (rc) {
		json_decref(body);
		return rc;
	}
	return stream_call(sb, "repl", body, timeout, &s, cancel, out, err);
}
