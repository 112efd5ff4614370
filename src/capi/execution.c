/* SPDX-License-Identifier: Apache-2.0 */
/* What code and programs gave: the result object of the server, checked once and then read. */
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "capi/internal.h"

/* What output() takes off the end; the same in all SDKs. */
#define EXECUTION_SPACE " \t\r\n\v\f"

struct execution_text {
	char *text;
	size_t len;
};

struct msb_execution {
	json_t *o; /* keeps all texts below */
	enum capi_execution_type type;
	struct execution_text out, err, out_trimmed, err_trimmed;
	struct msb_line *lines;
	size_t n_lines;
	struct msb_result *results;
	uint8_t **bytes; /* of results that came as base64; NULL: the text is in o */
	size_t n_results;
	const char *status, *language, *reason, *command;
	json_t *args;
	int64_t exit_code, signal;
	bool has_exit_code;
	int success, truncated, state_lost;
	double duration_ms;
};

char *capi_join_lines(const json_t *lines, const char *stream, size_t *len)
{
	size_t n = json_array_size(lines), total = 0;
	bool first = true;
	char *text, *to;

	for (size_t i = 0; i < n; i++)
		total += json_string_length(json_object_get(json_array_get(lines, i), "text")) + 1;
	text = to = malloc(total + 1);
	if (!text)
		return NULL;
	for (size_t i = 0; i < n; i++) {
		const json_t *o = json_array_get(lines, i);
		const json_t *t = json_object_get(o, "text");
		const char *s = json_string_value(json_object_get(o, "stream"));

		if (!s || strcmp(s, stream) || !json_is_string(t))
			continue;
		if (!first)
			*to++ = '\n';
		first = false;
		memcpy(to, json_string_value(t), json_string_length(t));
		to += json_string_length(t);
	}
	*to = '\0';
	*len = (size_t)(to - text);
	return text;
}

static int execution_take_lines(struct msb_execution *x, struct msb_error **err)
{
	json_t *lines;
	int rc = capi_get_array(x->o, "output", &lines, err);

	if (rc)
		return rc;
	x->n_lines = json_array_size(lines);
	x->lines = calloc(x->n_lines + 1, sizeof(*x->lines));
	if (!x->lines)
		return capi_no_memory(err);
	for (size_t i = 0; i < x->n_lines; i++) {
		const json_t *o = json_array_get(lines, i);
		struct msb_line *l = &x->lines[i];

		rc = capi_get_text(o, "stream", &l->stream, err);
		if (!rc)
			rc = capi_get_text(o, "text", &l->text, err);
		if (rc)
			return rc;
		l->len = json_string_length(json_object_get(o, "text"));
	}
	x->out.text = capi_join_lines(lines, "stdout", &x->out.len);
	x->err.text = capi_join_lines(lines, "stderr", &x->err.len);
	return x->out.text && x->err.text ? 0 : capi_no_memory(err);
}

static int execution_take_result(struct msb_result *r, uint8_t **bytes, const json_t *o,
				 struct msb_error **err)
{
	const json_t *data = json_object_get(o, "data");
	const char *encoding = "utf-8";
	int rc = capi_get_text(o, "mime", &r->mime, err);

	rc = rc ? rc : capi_opt_text(o, "encoding", &encoding, err);
	rc = rc ? rc : capi_opt_text(o, "note", &r->note, err);
	if (rc)
		return rc;
	if (!json_is_string(data))
		return capi_bad_member("data", err);
	r->data = json_string_value(data);
	r->len = json_string_length(data);
	r->is_text = !strcmp(encoding, "utf-8");
	if (r->is_text)
		return 0;
	if (strcmp(encoding, "base64"))
		return capi_bad_member("encoding", err);
	rc = capi_base64_decode(json_string_value(data), r->len, bytes, &r->len);
	if (rc)
		return rc == -ENOMEM ? capi_no_memory(err) : capi_bad_member("data", err);
	r->data = *bytes;
	return 0;
}

/* Older servers have none. */
static int execution_take_results(struct msb_execution *x, struct msb_error **err)
{
	json_t *list = json_object_get(x->o, "results");
	int rc = 0;

	if (!list || json_is_null(list))
		return 0;
	if (!json_is_array(list))
		return capi_bad_member("results", err);
	x->results = calloc(json_array_size(list) + 1, sizeof(*x->results));
	x->bytes = calloc(json_array_size(list) + 1, sizeof(*x->bytes));
	if (!x->results || !x->bytes)
		return capi_no_memory(err);
	x->n_results = json_array_size(list);
	for (size_t i = 0; i < x->n_results && !rc; i++)
		rc = execution_take_result(&x->results[i], &x->bytes[i], json_array_get(list, i),
					   err);
	return rc;
}

static int execution_trim(struct execution_text *to, const struct execution_text *from,
			  struct msb_error **err)
{
	to->len = from->len;
	while (to->len && from->text[to->len - 1] && /* strchr() finds the NUL, too */
	       strchr(EXECUTION_SPACE, from->text[to->len - 1]))
		to->len--;
	to->text = malloc(to->len + 1);
	if (!to->text)
		return capi_no_memory(err);
	if (to->len)
		memcpy(to->text, from->text, to->len);
	to->text[to->len] = '\0';
	return 0;
}

static int execution_take_code(struct msb_execution *x, struct msb_error **err)
{
	int rc = capi_get_text(x->o, "status", &x->status, err);

	if (!rc)
		rc = capi_get_text(x->o, "language", &x->language, err);
	if (!rc)
		rc = capi_opt_bool(x->o, "state_lost", &x->state_lost, err);
	if (!rc)
		x->success = !strcmp(x->status, "success");
	return rc;
}

static int execution_take_program(struct msb_execution *x, struct msb_error **err)
{
	int rc = 0;

	x->success = -1;
	if (x->type != CAPI_EXIT) {
		rc = capi_get_text(x->o, "command", &x->command, err);
		if (!rc)
			rc = capi_get_array(x->o, "args", &x->args, err);
		for (size_t i = 0; !rc && i < json_array_size(x->args); i++)
			if (!json_is_string(json_array_get(x->args, i)))
				rc = capi_bad_member("args", err);
	}
	if (!rc && x->type != CAPI_COMMAND)
		rc = capi_opt_integer(x->o, "signal", &x->signal, err);
	if (!rc)
		rc = capi_opt_bool(x->o, "success", &x->success, err);
	if (!rc && x->success < 0)
		rc = capi_bad_member("success", err);
	if (!rc && !json_is_integer(json_object_get(x->o, "exit_code")))
		rc = capi_bad_member("exit_code", err);
	if (!rc && (x->signal < 0 || x->signal > 255))
		rc = capi_bad_member("signal", err);
	return rc;
}

static int execution_take(struct msb_execution *x, struct msb_error **err)
{
	bool code = x->type == CAPI_REPL || x->type == CAPI_REPL_END;
	int rc = code ? execution_take_code(x, err) : execution_take_program(x, err);

	if (!rc)
		rc = capi_opt_integer(x->o, "exit_code", &x->exit_code, err);
	x->has_exit_code = json_is_integer(json_object_get(x->o, "exit_code"));
	if (!rc && (x->exit_code < INT_MIN || x->exit_code > INT_MAX))
		rc = capi_bad_member("exit_code", err);
	if (!rc)
		rc = capi_opt_text(x->o, "reason", &x->reason, err);
	if (!rc)
		rc = capi_opt_bool(x->o, "truncated", &x->truncated, err);
	if (!rc)
		rc = capi_opt_number(x->o, "duration_ms", &x->duration_ms, err);
	if (!rc && code)
		rc = execution_take_results(x, err);
	if (!rc && x->type != CAPI_REPL_END && x->type != CAPI_EXIT)
		rc = execution_take_lines(x, err);
	if (!rc)
		rc = execution_trim(&x->out_trimmed, &x->out, err);
	if (!rc)
		rc = execution_trim(&x->err_trimmed, &x->err, err);
	return rc;
}

int capi_execution_new(struct msb_execution **out, json_t *o, enum capi_execution_type type,
		       struct msb_error **err)
{
	struct msb_execution *x = calloc(1, sizeof(*x));
	int rc;

	if (!x) {
		json_decref(o);
		return capi_no_memory(err);
	}
	x->o = o;
	x->type = type;
	x->duration_ms = NAN;
	rc = execution_take(x, err);
	if (rc)
		msb_execution_free(x);
	else
		*out = x;
	return rc;
}

void msb_execution_free(struct msb_execution *x)
{
	if (!x)
		return;
	free(x->out.text);
	free(x->err.text);
	free(x->out_trimmed.text);
	free(x->err_trimmed.text);
	free(x->lines);
	for (size_t i = 0; i < x->n_results; i++)
		free(x->bytes[i]);
	free(x->results);
	free(x->bytes);
	json_decref(x->o);
	free(x);
}

static const char *execution_text(const struct execution_text *t, size_t *len)
{
	if (len)
		*len = t->len;
	return t->text ? t->text : "";
}

const char *msb_execution_output(const struct msb_execution *x, size_t *len)
{
	return execution_text(&x->out_trimmed, len);
}

const char *msb_execution_error(const struct msb_execution *x, size_t *len)
{
	return execution_text(&x->err_trimmed, len);
}

const char *msb_execution_stdout(const struct msb_execution *x, size_t *len)
{
	return execution_text(&x->out, len);
}

const char *msb_execution_stderr(const struct msb_execution *x, size_t *len)
{
	return execution_text(&x->err, len);
}

size_t msb_execution_line_count(const struct msb_execution *x)
{
	return x->n_lines;
}

const struct msb_line *msb_execution_line(const struct msb_execution *x, size_t i)
{
	return i < x->n_lines ? &x->lines[i] : NULL;
}

size_t msb_execution_result_count(const struct msb_execution *x)
{
	return x->n_results;
}

const struct msb_result *msb_execution_result(const struct msb_execution *x, size_t i)
{
	return i < x->n_results ? &x->results[i] : NULL;
}

int msb_execution_truncated(const struct msb_execution *x)
{
	return x->truncated;
}

double msb_execution_duration_ms(const struct msb_execution *x)
{
	return x->duration_ms;
}

const char *msb_execution_status(const struct msb_execution *x)
{
	return x->status;
}

const char *msb_execution_language(const struct msb_execution *x)
{
	return x->language;
}

const char *msb_execution_reason(const struct msb_execution *x)
{
	return x->reason;
}

int msb_execution_timed_out(const struct msb_execution *x)
{
	return x->reason && !strcmp(x->reason, "timeout");
}

int msb_execution_has_error(const struct msb_execution *x)
{
	if (x->status && (!strcmp(x->status, "error") || !strcmp(x->status, "exception")))
		return 1;
	for (size_t i = 0; i < x->n_lines; i++)
		if (x->lines[i].len && !strcmp(x->lines[i].stream, "stderr"))
			return 1;
	return 0;
}

int msb_execution_state_lost(const struct msb_execution *x)
{
	return x->state_lost;
}

int msb_execution_exit_code(const struct msb_execution *x, int *code)
{
	if (x->has_exit_code && code)
		*code = (int)x->exit_code;
	return x->has_exit_code;
}

int msb_execution_success(const struct msb_execution *x)
{
	return x->success;
}

int msb_execution_signal(const struct msb_execution *x)
{
	return (int)x->signal;
}

const char *msb_execution_command(const struct msb_execution *x)
{
	return x->command;
}

size_t msb_execution_arg_count(const struct msb_execution *x)
{
	return json_array_size(x->args);
}

const char *msb_execution_arg(const struct msb_execution *x, size_t i)
{
	return json_string_value(json_array_get(x->args, i));
}
