/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Programs that are talked to.  Requests for one overlap: who reads has the process to itself,
 * others write to it meanwhile.  So one that is closed is freed at the driver's end.
 */
#include <stdlib.h>
#include <string.h>

#include "driver.h"

struct process {
	struct process *next;
	char *name;
	bool gone; /* another of its name was opened */
	struct msb_process *p;
	pthread_mutex_t reading; /* of who reads, one after the other */
	struct output output;
};

static pthread_mutex_t processes_lock = PTHREAD_MUTEX_INITIALIZER;
static struct process *processes;

static struct process *process_find(const char *name)
{
	struct process *s;

	pthread_mutex_lock(&processes_lock);
	for (s = processes; s && (s->gone || strcmp(s->name, name));)
		s = s->next;
	pthread_mutex_unlock(&processes_lock);
	return s;
}

static void process_drop(const char *name)
{
	struct process *s = process_find(name);

	if (!s)
		return;
	msb_process_close(s->p);
	pthread_mutex_lock(&processes_lock);
	s->gone = true;
	pthread_mutex_unlock(&processes_lock);
}

static int process_open(const struct request *r, json_t **ok, struct msb_error **e)
{
	struct bytes input = driver_data(r->q, "stdin", "stdin_base64");
	json_t *keep = json_array();
	const char **args = driver_list(r->q, "args", keep);
	const char **envs = driver_list(r->q, "env", keep);
	struct msb_process_config c;
	struct msb_process *p;
	struct process *s;
	int rc;

	MSB_INIT(&c);
	c.args = args;
	c.envs = envs;
	c.cwd = driver_get(r->q, "cwd");
	c.user = driver_get(r->q, "user");
	c.input = input.p;
	c.input_len = input.n;
	c.tty = json_is_true(json_object_get(r->q, "tty"));
	c.rows = (uint32_t)json_integer_value(json_object_get(r->q, "rows"));
	c.cols = (uint32_t)json_integer_value(json_object_get(r->q, "cols"));
	rc = msb_process_start(&p, driver_box(r->q), driver_get(r->q, "command"),
			       driver_timeout(r->q), &c, r->cancel, e);
	free(input.p);
	free(args);
	free(envs);
	json_decref(keep);
	if (rc)
		return rc;
	s = calloc(1, sizeof(*s));
	s->name = strdup(driver_get(r->q, "stream"));
	s->p = p;
	pthread_mutex_init(&s->reading, NULL);
	pthread_mutex_lock(&processes_lock);
	s->next = processes;
	processes = s;
	pthread_mutex_unlock(&processes_lock);
	*ok = json_pack("{s:o}", "pid", driver_integer(msb_process_pid(p)));
	return 0;
}

/* Reads until standard output has the text of the request in it, or to the end. */
static int process_until(const struct request *r, struct process *s, json_t **ok,
			 struct msb_error **e)
{
	const json_t *text = json_object_get(r->q, "text"), *room = json_object_get(r->q, "room");
	size_t size = room ? (size_t)json_integer_value(room) : 65536, n = 1;
	char *bytes = malloc(size ? size : 1);
	enum msb_stream stream = MSB_STDOUT;
	int rc = 0;

	while (n && !rc &&
	       !driver_output_has(&s->output, json_string_value(text), json_string_length(text))) {
		rc = msb_process_read(s->p, bytes, size, &stream, &n, r->cancel, e);
		if (!rc)
			driver_output_add(&s->output, stream, bytes, n);
	}
	free(bytes);
	if (!rc)
		*ok = driver_output_take(&s->output, !n);
	return rc;
}

static int process_finish(const struct request *r, struct process *s, json_t **ok,
			  struct msb_error **e)
{
	int rc = process_until(r, s, ok, e);

	if (!rc)
		driver_add_end(*ok, msb_process_exit(s->p), false);
	return rc;
}

static int process_wait(const struct request *r, struct process *s, json_t **ok,
			struct msb_error **e)
{
	int rc = msb_process_wait(s->p, r->cancel, e);

	if (!rc)
		*ok = driver_output_take(&s->output, true);
	if (!rc)
		driver_add_end(*ok, msb_process_exit(s->p), false);
	return rc;
}

static int process_read(const struct request *r, const char *op, struct process *s, json_t **ok,
			struct msb_error **e)
{
	int rc;

	pthread_mutex_lock(&s->reading);
	if (!strcmp(op, "until"))
		rc = process_until(r, s, ok, e);
	else if (!strcmp(op, "finish"))
		rc = process_finish(r, s, ok, e);
	else
		rc = process_wait(r, s, ok, e);
	pthread_mutex_unlock(&s->reading);
	return rc;
}

static int process_say(const struct request *r, const char *op, struct process *s,
		       struct msb_error **e)
{
	const json_t *signal = json_object_get(r->q, "signal");
	struct bytes data;
	int rc;

	if (!strcmp(op, "input")) {
		data = driver_data(r->q, "text", "base64");
		rc = msb_process_write(s->p, data.p, data.n, r->cancel, e);
		free(data.p);
		return rc;
	}
	if (!strcmp(op, "close_input"))
		return msb_process_close_stdin(s->p, r->cancel, e);
	if (!strcmp(op, "resize"))
		return msb_process_resize(
			s->p, (uint32_t)json_integer_value(json_object_get(r->q, "rows")),
			(uint32_t)json_integer_value(json_object_get(r->q, "cols")), r->cancel, e);
	if (json_is_string(signal))
		return msb_process_signal(s->p, json_string_value(signal), r->cancel, e);
	return msb_process_signal_number(s->p, (int)json_integer_value(signal), r->cancel, e);
}

int driver_on_process(const struct request *r, const char *op, json_t **ok, struct msb_error **e)
{
	const char *name = driver_get(r->q, "stream"), *how = driver_get(r->q, "how");
	struct process *s;
	int rc;

	if (!name)
		return DRIVER_OTHER;
	if (!strcmp(op, "open")) {
		process_drop(name);
		if (strcmp(how, "process"))
			return DRIVER_OTHER;
		driver_drop_stream(name);
		return process_open(r, ok, e);
	}
	s = process_find(name);
	if (!s)
		return DRIVER_OTHER;
	if (!strcmp(op, "until") || !strcmp(op, "finish") || !strcmp(op, "wait_process"))
		return process_read(r, op, s, ok, e);
	if (strcmp(op, "input") && strcmp(op, "close_input") && strcmp(op, "resize") &&
	    strcmp(op, "signal") && strcmp(op, "close"))
		return DRIVER_OTHER;
	rc = 0;
	if (!strcmp(op, "close"))
		msb_process_close(s->p);
	else
		rc = process_say(r, op, s, e);
	*ok = rc ? NULL : json_null();
	return rc;
}

void driver_end_processes(void)
{
	while (processes) {
		struct process *s = processes;

		processes = s->next;
		msb_process_free(s->p);
		pthread_mutex_destroy(&s->reading);
		driver_output_free(&s->output);
		free(s->name);
		free(s);
	}
}

/* ---- output, in words ---- */

void driver_output_add(struct output *o, enum msb_stream stream, const void *p, size_t n)
{
	int i = stream == MSB_STDERR;

	driver_add(&o->open[i], p, n);
	driver_decode(&o->text[i], &o->open[i], false);
	o->size[i] += n;
}

bool driver_output_has(const struct output *o, const char *text, size_t len)
{
	return text && o->text[0].n && memmem(o->text[0].p, o->text[0].n, text, len);
}

json_t *driver_output_take(struct output *o, bool end)
{
	json_t *said;

	for (int i = 0; i < 2 && end; i++)
		driver_decode(&o->text[i], &o->open[i], true);
	said = json_pack("{s:s%, s:s%, s:I, s:I}", "stdout", o->text[0].n ? o->text[0].p : "",
			 o->text[0].n, "stderr", o->text[1].n ? o->text[1].p : "", o->text[1].n,
			 "stdout_size", (json_int_t)o->size[0], "stderr_size",
			 (json_int_t)o->size[1]);
	for (int i = 0; i < 2; i++)
		o->text[i].n = o->size[i] = 0;
	return said;
}

void driver_output_free(struct output *o)
{
	for (int i = 0; i < 2; i++) {
		free(o->open[i].p);
		free(o->text[i].p);
	}
}

void driver_add_end(json_t *o, const struct msb_execution *x, bool code)
{
	int signal = msb_execution_signal(x), exit_code;

	json_object_set_new(o, "exit_code",
			    msb_execution_exit_code(x, &exit_code) ? json_integer(exit_code)
								   : json_null());
	json_object_set_new(o, "reason", driver_text(msb_execution_reason(x)));
	json_object_set_new(o, "timed_out", json_boolean(msb_execution_timed_out(x)));
	json_object_set_new(o, "timed", json_boolean(!isnan(msb_execution_duration_ms(x))));
	if (code) {
		json_object_set_new(o, "status", driver_text(msb_execution_status(x)));
		json_object_set_new(o, "language", driver_text(msb_execution_language(x)));
		json_object_set_new(o, "state_lost", json_boolean(msb_execution_state_lost(x)));
		return;
	}
	json_object_set_new(o, "success", json_boolean(msb_execution_success(x)));
	json_object_set_new(o, "signal", signal ? json_integer(signal) : json_null());
}
