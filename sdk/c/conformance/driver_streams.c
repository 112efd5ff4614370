/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Output as it comes.  A stream that is open is a call in a thread of its own, whose callbacks
 * put what they are given into a queue; who reads takes piece by piece from it, so that what an
 * answer has does not depend on who is faster.
 */
#include <stdlib.h>
#include <string.h>

#include "driver.h"

struct piece {
	struct piece *next;
	enum msb_stream stream;
	struct bytes data;
};

struct stream {
	struct stream *next;
	char *name;
	struct msb_sandbox *sb;
	json_t *q; /* the request that opened it */
	struct msb_cancel *cancel;
	pthread_t thread;
	pthread_mutex_t lock; /* of all that follows */
	pthread_cond_t turned;
	struct piece *first, **last;
	int64_t pid;
	bool ended;
	int rc;
	struct msb_error *error;
	struct msb_execution *x;
	struct output output; /* of the reader alone */
};

static pthread_mutex_t streams_lock = PTHREAD_MUTEX_INITIALIZER;
static struct stream *streams;

static bool stream_is_code(const json_t *q)
{
	const char *how = driver_get(q, "how"), *op = driver_get(q, "op");

	return how ? !strcmp(how, "code") : !strcmp(op, "run") || !strcmp(op, "run_streamed");
}

/* The call itself, with its output for @on_output and @context. */
static int stream_call(struct msb_sandbox *sb, const json_t *q, msb_started_fn *on_started,
		       msb_output_fn *on_output, void *context, struct msb_cancel *cancel,
		       struct msb_execution **x, struct msb_error **e)
{
	struct bytes input = driver_data(q, "stdin", "stdin_base64");
	json_t *keep = json_array();
	const char **args = driver_list(q, "args", keep), **envs = driver_list(q, "env", keep);
	struct msb_exec exec;
	int rc;

	MSB_INIT(&exec);
	exec.args = args;
	exec.envs = envs;
	exec.cwd = driver_get(q, "cwd");
	exec.user = driver_get(q, "user");
	exec.input = input.p;
	exec.input_len = input.n;
	exec.on_started = on_started;
	exec.on_output = on_output;
	exec.context = context;
	exec.keep_output = !strcmp(driver_get(q, "op"), "command");
	if (stream_is_code(q))
		rc = msb_sandbox_run_streamed(sb, driver_get(q, "code"), driver_timeout(q),
					      on_output, context, cancel, x, e);
	else
		rc = msb_sandbox_exec(sb, driver_get(q, "command"), driver_timeout(q), &exec,
				      cancel, x, e);
	free(input.p);
	free(args);
	free(envs);
	json_decref(keep);
	return rc;
}

/* ---- heard by a listener --------------------------------------------------------------------- */

struct heard {
	struct bytes data[2];
	int64_t pid;
	json_int_t calls, stop_after; /* 0: never */
};

static int heard_output(void *context, enum msb_stream stream, const void *data, size_t len)
{
	struct heard *h = context;

	driver_add(&h->data[stream == MSB_STDERR], data, len);
	return ++h->calls == h->stop_after;
}

static int heard_started(void *context, int64_t pid)
{
	((struct heard *)context)->pid = pid;
	return 0;
}

static json_t *heard_text(struct bytes *b)
{
	struct bytes text = { .n = 0 };
	json_t *o;

	driver_decode(&text, b, true);
	o = json_stringn(text.n ? text.p : "", text.n);
	free(text.p);
	return o;
}

int driver_listen(const struct request *r, const char *op, json_t **ok, struct msb_error **e)
{
	struct heard h = { .pid = -1 };
	struct msb_execution *x = NULL;
	int rc;

	h.stop_after = json_integer_value(json_object_get(r->q, "stop_after"));
	rc = stream_call(driver_box(r->q), r->q, heard_started, heard_output, &h, r->cancel, &x, e);
	if (!rc) {
		*ok = driver_execution(x);
		if (!strcmp(op, "exec") || !strcmp(op, "run_streamed")) {
			json_object_set_new(*ok, "stdout", driver_base64(&h.data[0]));
			json_object_set_new(*ok, "stderr", driver_base64(&h.data[1]));
			json_object_set_new(*ok, "pid", driver_integer(h.pid));
			json_object_set_new(*ok, "signal", json_integer(msb_execution_signal(x)));
			json_object_set_new(*ok, "reason", driver_text(msb_execution_reason(x)));
			json_object_set_new(*ok, "success", json_boolean(msb_execution_success(x)));
			json_object_set_new(*ok, "timed_out",
					    json_boolean(msb_execution_timed_out(x)));
		} else if (json_is_true(json_object_get(r->q, "listen"))) {
			json_object_set_new(*ok, "heard",
					    json_pack("{s:o, s:o}", "stdout", heard_text(&h.data[0]),
						      "stderr", heard_text(&h.data[1])));
		}
		msb_execution_free(x);
	}
	free(h.data[0].p);
	free(h.data[1].p);
	return rc;
}

/* ---- streams that are open --------------------------------------------------------------------- */

static int stream_output(void *context, enum msb_stream stream, const void *data, size_t len)
{
	struct stream *s = context;
	struct piece *p = calloc(1, sizeof(*p));

	p->stream = stream;
	driver_add(&p->data, data, len);
	pthread_mutex_lock(&s->lock);
	*s->last = p;
	s->last = &p->next;
	pthread_cond_broadcast(&s->turned);
	pthread_mutex_unlock(&s->lock);
	return 0;
}

static int stream_started(void *context, int64_t pid)
{
	struct stream *s = context;

	pthread_mutex_lock(&s->lock);
	s->pid = pid;
	pthread_cond_broadcast(&s->turned);
	pthread_mutex_unlock(&s->lock);
	return 0;
}

static void *stream_serve(void *argument)
{
	struct stream *s = argument;
	struct msb_execution *x = NULL;
	struct msb_error *e = NULL;
	int rc = stream_call(s->sb, s->q, stream_started, stream_output, s, s->cancel, &x, &e);

	pthread_mutex_lock(&s->lock);
	s->rc = rc;
	s->error = e;
	s->x = x;
	s->ended = true;
	pthread_cond_broadcast(&s->turned);
	pthread_mutex_unlock(&s->lock);
	return NULL;
}

static void stream_free(struct stream *s)
{
	msb_cancel_trigger(s->cancel);
	pthread_join(s->thread, NULL);
	while (s->first) {
		struct piece *p = s->first;

		s->first = p->next;
		free(p->data.p);
		free(p);
	}
	driver_output_free(&s->output);
	msb_execution_free(s->x);
	msb_error_free(s->error);
	msb_cancel_free(s->cancel);
	pthread_mutex_destroy(&s->lock);
	pthread_cond_destroy(&s->turned);
	json_decref(s->q);
	free(s->name);
	free(s);
}

/* Takes it off the list. NULL: there is none. */
static struct stream *stream_take(const char *name)
{
	struct stream **at, *s;

	pthread_mutex_lock(&streams_lock);
	for (at = &streams; *at && strcmp((*at)->name, name);)
		at = &(*at)->next;
	s = *at;
	if (s)
		*at = s->next;
	pthread_mutex_unlock(&streams_lock);
	return s;
}

static void stream_put(struct stream *s)
{
	pthread_mutex_lock(&streams_lock);
	s->next = streams;
	streams = s;
	pthread_mutex_unlock(&streams_lock);
}

static int stream_open(const struct request *r, json_t **ok, struct msb_error **e)
{
	struct stream *s = calloc(1, sizeof(*s));
	int rc = 0;

	driver_drop_stream(driver_get(r->q, "stream"));
	s->name = strdup(driver_get(r->q, "stream"));
	s->sb = driver_box(r->q);
	s->q = json_deep_copy(r->q);
	s->last = &s->first;
	s->pid = -1;
	pthread_mutex_init(&s->lock, NULL);
	pthread_cond_init(&s->turned, NULL);
	if (msb_cancel_new(&s->cancel, NULL) || pthread_create(&s->thread, NULL, stream_serve, s))
		abort();
	/* The library does not tell that code has begun: it has when something came of it. */
	pthread_mutex_lock(&s->lock);
	while (s->pid < 0 && !s->first && !s->ended)
		pthread_cond_wait(&s->turned, &s->lock);
	if (s->ended && s->rc && s->pid < 0 && !s->first) {
		rc = s->rc;
		*e = s->error;
		s->error = NULL;
	}
	pthread_mutex_unlock(&s->lock);
	if (rc) {
		stream_free(s);
		return rc;
	}
	*ok = json_pack("{s:o}", "pid", driver_integer(s->pid));
	stream_put(s);
	return 0;
}

/* NULL: the end. */
static struct piece *stream_next(struct stream *s)
{
	struct piece *p;

	pthread_mutex_lock(&s->lock);
	while (!s->first && !s->ended)
		pthread_cond_wait(&s->turned, &s->lock);
	p = s->first;
	if (p) {
		s->first = p->next;
		if (!s->first)
			s->last = &s->first;
	}
	pthread_mutex_unlock(&s->lock);
	return p;
}

/* Reads until standard output has @text in it, or to the end (NULL). */
static json_t *stream_read(struct stream *s, const char *text, size_t len)
{
	struct piece *p;

	while (!driver_output_has(&s->output, text, len)) {
		p = stream_next(s);
		if (!p)
			return driver_output_take(&s->output, true);
		driver_output_add(&s->output, p->stream, p->data.p, p->data.n);
		free(p->data.p);
		free(p);
	}
	return driver_output_take(&s->output, false);
}

int driver_on_stream(const struct request *r, const char *op, json_t **ok, struct msb_error **e)
{
	const json_t *text = json_object_get(r->q, "text");
	bool finish = !strcmp(op, "finish");
	struct stream *s;
	json_t *o;
	int rc = 0;

	if (!strcmp(op, "open"))
		return stream_open(r, ok, e);
	if (strcmp(op, "until") && !finish && strcmp(op, "close"))
		return DRIVER_OTHER;
	s = stream_take(driver_get(r->q, "stream"));
	if (!s)
		return DRIVER_OTHER;
	if (!strcmp(op, "close")) {
		stream_free(s);
		*ok = json_null();
		return 0;
	}
	o = stream_read(s, finish ? NULL : json_string_value(text), json_string_length(text));
	if (finish && s->rc) {
		rc = s->rc;
		*e = s->error;
		s->error = NULL;
		json_decref(o);
	} else {
		if (finish)
			driver_add_end(o, s->x, stream_is_code(s->q));
		*ok = o;
	}
	stream_put(s);
	return rc;
}

void driver_drop_stream(const char *name)
{
	struct stream *s = stream_take(name);

	if (s)
		stream_free(s);
}

void driver_end_streams(void)
{
	while (streams) {
		struct stream *s = streams;

		streams = s->next;
		stream_free(s);
	}
}
