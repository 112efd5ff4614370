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

struct stream {
	struct sse_parser sse;
	const char *end; /* the event that ends it well: "exit" or "done" */
	enum capi_execution_type type;
	msb_started_fn *on_started;
	msb_output_fn *on_output;
	void *context;
	json_t *last; /* its data; NULL: it did not come yet */
	int kind; /* why an event ended the stream */
	struct msb_error *why; /* of that kind */
};

static int stream_gave_up(struct stream *s)
{
	return capi_fail(&s->why, MSB_ERR_CANCELLED, "the receiver of the output gave up");
}

static int stream_output(struct stream *s, enum msb_stream which, const json_t *o)
{
	const json_t *text = json_object_get(o, "text"), *base64 = json_object_get(o, "base64");
	auto_free uint8_t *bytes = NULL;
	size_t len;
	int rc;

	if (json_is_string(text)) {
		if (s->on_output && s->on_output(s->context, which, json_string_value(text),
						 json_string_length(text)))
			return stream_gave_up(s);
		return 0;
	}
	if (!json_is_string(base64))
		return capi_bad_member("text", &s->why);
	rc = capi_base64_decode(json_string_value(base64), json_string_length(base64), &bytes, &len);
	if (rc)
		return rc == -ENOMEM ? capi_no_memory(&s->why) : capi_bad_member("base64", &s->why);
	if (s->on_output && s->on_output(s->context, which, bytes, len))
		return stream_gave_up(s);
	return 0;
}

static int stream_started(struct stream *s, const json_t *o)
{
	int64_t pid = -1;
	int rc = capi_opt_integer(o, "pid", &pid, &s->why);

	if (!rc && pid >= 0 && s->on_started && s->on_started(s->context, pid))
		return stream_gave_up(s);
	return rc;
}

static int stream_error(struct stream *s, const json_t *o)
{
	const char *message;
	int64_t code = 0;
	int rc = capi_get_text(o, "message", &message, &s->why);

	rc = rc ? rc : capi_opt_integer(o, "code", &code, &s->why);
	if (rc)
		return rc;
	if (code < INT32_MIN || code > INT32_MAX)
		return capi_bad_member("code", &s->why);
	return capi_fail_server(&s->why, capi_kind_of_code(code), message, (int)code, 200,
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
		s->kind = stream_error(s, o);
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
		.content_type = "application/json",
		.body = text,
		.body_len = text ? strlen(text) : 0,
		.limit = timeout + CAPI_GRACE,
		.cancel = cancel,
		.take = stream_on_data,
		.take_context = s,
		.answer = BUF_INIT,
	};
	struct msb_execution *e = NULL;
	size_t max;
	int rc;

	json_decref(body);
	if (!text || !path)
		return capi_no_memory(err);
	max = capi_client_max_answer(capi_sandbox_client(sb));
	sse_init(&s->sse, max < CAPI_EVENT_MAX ? max : CAPI_EVENT_MAX);
	rc = capi_exchange(capi_sandbox_client(sb), &x, err);
	if (!rc && x.status != 200)
		rc = capi_refused(x.status, buf_data(&x.answer), buf_len(&x.answer), err);
	else if (!rc && !s->last)
		rc = capi_fail(err, MSB_ERR_UNREACHABLE,
			       "the server's stream ended before its end: what became of the call "
			       "is not known");
	rc = rc ? rc : capi_execution_new(&e, json_incref(s->last), s->type, err);
	if (!rc && out)
		*out = e;
	else
		msb_execution_free(e);
	json_decref(s->last);
	sse_fini(&s->sse);
	buf_fini(&x.answer);
	return rc;
}

/* {"KEY": "VALUE"}, a time limit and standard input, as far as they are given. */
static int stream_exec_body(json_t *o, const struct msb_exec *exec, struct msb_error **err)
{
	auto_free char *input = NULL;
	int rc = capi_set_texts(o, "args", exec->args, err);

	rc = rc ? rc : capi_set_pairs(o, "env", exec->envs, err);
	rc = rc ? rc : capi_set_text(o, "cwd", exec->cwd, err);
	rc = rc ? rc : capi_set_text(o, "user", exec->user, err);
	if (rc || !exec->input_len)
		return rc;
	if (!exec->input)
		return capi_fail(err, MSB_ERR_ARGUMENT, "input_len without input");
	input = capi_base64_encode(exec->input, exec->input_len);
	return input ? capi_set_text(o, "stdin_base64", input, err) : capi_no_memory(err);
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
	rc = rc ? rc : stream_exec_body(body, &exec, err);
	if (!rc && !isinf(timeout))
		rc = capi_set_seconds(body, "timeout", timeout, err);
	if (rc) {
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
