/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What tests/conformance asks of the C library: a JSON request a line on standard input, an
 * answer a line on standard output.  tests/conformance/README.md has the requests.
 *
 * Each request has a thread of its own, so that they overlap as those of the other SDKs do.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "driver.h"

struct box {
	struct box *next;
	char *name;
	struct msb_sandbox *sb;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* of boxes and of standard output */
static struct box *boxes; /* the newest of a name comes first; all live until the end */
static struct request *requests; /* of the main thread alone */

static void driver_say(json_int_t id, const char *key, json_t *value)
{
	json_t *o = json_pack("{s:I, s:o}", "id", id, key, value);

	pthread_mutex_lock(&lock);
	json_dumpf(o, stdout, JSON_COMPACT | JSON_ENCODE_ANY);
	putchar('\n');
	fflush(stdout);
	pthread_mutex_unlock(&lock);
	json_decref(o);
}

/* ---- answers ---- */

json_t *driver_text(const char *text)
{
	return text ? json_string(text) : json_null();
}

static json_t *driver_number(double v)
{
	return isnan(v) ? json_null() : json_real(v);
}

json_t *driver_integer(int64_t v)
{
	return v < 0 ? json_null() : json_integer(v);
}

/* Frees @e. */
static json_t *driver_error(struct msb_error *e)
{
	int kind = msb_error_kind(e);
	json_t *o = json_pack("{s:s, s:s}", "kind", msb_kind_name(kind), "message",
			      msb_error_message(e));
	size_t n;

	if (kind >= MSB_ERR_SERVER) {
		int code = msb_error_code(e);

		json_object_set_new(o, "code", code ? json_integer(code) : json_null());
		json_object_set_new(o, "http_status", json_integer(msb_error_http_status(e)));
	}
	if (kind == MSB_ERR_COMMAND_TIMEOUT) {
		const char *text = msb_error_stdout(e, &n);

		json_object_set_new(o, "stdout", json_stringn(text, n));
		text = msb_error_stderr(e, &n);
		json_object_set_new(o, "stderr", json_stringn(text, n));
	}
	if (kind == MSB_ERR_FILE) {
		json_object_set_new(o, "errno", driver_text(msb_error_errno_name(e)));
		json_object_set_new(o, "path", driver_text(msb_error_path(e)));
	}
	if (kind == MSB_ERR_CANCELLED)
		json_object_del(o, "message");
	msb_error_free(e);
	return o;
}

static json_t *driver_state(struct msb_sandbox *sb)
{
	return json_pack("{s:s, s:s?, s:s, s:b, s:b}", "name", msb_sandbox_name(sb), "namespace",
			 msb_sandbox_namespace(sb), "server_url", msb_sandbox_server_url(sb),
			 "is_started", msb_sandbox_is_started(sb), "is_ready",
			 msb_sandbox_is_ready(sb));
}

static json_t *driver_stream(const struct msb_execution *x,
			     const char *(*get)(const struct msb_execution *, size_t *))
{
	size_t n;
	const char *text = get(x, &n);

	return json_stringn(text, n);
}

/* [mime, text, bytes in hex, note] of each. */
static json_t *driver_results(const struct msb_execution *x)
{
	json_t *all = json_array();

	for (size_t i = 0; i < msb_execution_result_count(x); i++) {
		const struct msb_result *r = msb_execution_result(x, i);
		const unsigned char *p = r->data;
		char *hex = calloc(r->len + 1, 2);
		json_t *text = r->is_text ? json_stringn(r->data, r->len) : json_null();
		json_t *one = json_array();

		for (size_t k = 0; k < r->len; k++)
			sprintf(hex + 2 * k, "%02x", p[k]);
		json_array_append_new(one, json_string(r->mime));
		json_array_append_new(one, text);
		json_array_append_new(one, json_string(hex));
		json_array_append_new(one, driver_text(r->note));
		json_array_append_new(all, one);
		free(hex);
	}
	return all;
}

json_t *driver_execution(const struct msb_execution *x)
{
	json_t *o = json_object(), *lines = json_array(), *args;
	int code;

	json_object_set_new(o, "output", driver_stream(x, msb_execution_output));
	json_object_set_new(o, "error", driver_stream(x, msb_execution_error));
	json_object_set_new(o, "stdout", driver_stream(x, msb_execution_stdout));
	json_object_set_new(o, "stderr", driver_stream(x, msb_execution_stderr));
	for (size_t i = 0; i < msb_execution_line_count(x); i++) {
		const struct msb_line *l = msb_execution_line(x, i);
		json_t *pair = json_array();

		json_array_append_new(pair, json_string(l->stream));
		json_array_append_new(pair, json_stringn(l->text, l->len));
		json_array_append_new(lines, pair);
	}
	json_object_set_new(o, "lines", lines);
	json_object_set_new(o, "truncated", json_boolean(msb_execution_truncated(x)));
	json_object_set_new(o, "timed", json_boolean(!isnan(msb_execution_duration_ms(x))));
	json_object_set_new(o, "exit_code",
			    msb_execution_exit_code(x, &code) ? json_integer(code) : json_null());
	if (msb_execution_command(x)) {
		args = json_array();
		for (size_t i = 0; i < msb_execution_arg_count(x); i++)
			json_array_append_new(args, json_string(msb_execution_arg(x, i)));
		json_object_set_new(o, "command", json_string(msb_execution_command(x)));
		json_object_set_new(o, "args", args);
		json_object_set_new(o, "success", json_boolean(msb_execution_success(x)));
		return o;
	}
	json_object_set_new(o, "status", driver_text(msb_execution_status(x)));
	json_object_set_new(o, "language", driver_text(msb_execution_language(x)));
	json_object_set_new(o, "has_error", json_boolean(msb_execution_has_error(x)));
	json_object_set_new(o, "reason", driver_text(msb_execution_reason(x)));
	json_object_set_new(o, "state_lost", json_boolean(msb_execution_state_lost(x)));
	json_object_set_new(o, "timed_out", json_boolean(msb_execution_timed_out(x)));
	json_object_set_new(o, "results", driver_results(x));
	return o;
}

/* ---- arguments ---- */

const char *driver_get(const json_t *o, const char *key)
{
	return json_string_value(json_object_get(o, key));
}

/* A list that ends with NULL, for the caller to free; its texts belong to @o. An object's members
 * become "KEY=VALUE" texts, which are leaked into @keep. */
const char **driver_list(const json_t *o, const char *key, json_t *keep)
{
	json_t *v = json_object_get(o, key), *item;
	const char **list, *name;
	size_t n = 0;

	if (!v || json_is_null(v))
		return NULL;
	list = calloc(json_array_size(v) + json_object_size(v) + 1, sizeof(*list));
	for (size_t i = 0; i < json_array_size(v); i++)
		list[n++] = json_string_value(json_array_get(v, i));
	json_object_foreach(v, name, item)
	{
		json_t *text = json_sprintf("%s=%s", name, json_string_value(item));

		json_array_append_new(keep, text);
		list[n++] = json_string_value(text);
	}
	return list;
}

double driver_timeout(const json_t *q)
{
	const json_t *v = json_object_get(q, "timeout");

	return json_is_number(v) ? json_number_value(v) : MSB_NO_LIMIT;
}

struct options {
	struct msb_server server;
	struct msb_config config;
	const char **lists[6];
	const struct msb_secret **secrets;
	json_t *keep;
};

/* A list that ends with NULL, for driver_free_secrets(). */
static const struct msb_secret **driver_secrets(const json_t *o, json_t *keep)
{
	json_t *list = json_object_get(o, "secrets");
	size_t n = json_array_size(list);
	const struct msb_secret **secrets;

	if (!json_is_array(list))
		return NULL;
	secrets = calloc(n + 1, sizeof(*secrets));
	for (size_t i = 0; i < n; i++) {
		struct msb_secret *s = malloc(sizeof(*s));
		const json_t *v = json_array_get(list, i);

		MSB_INIT(s);
		s->name = driver_get(v, "name");
		s->value = driver_get(v, "value");
		s->hosts = driver_list(v, "hosts", keep);
		secrets[i] = s;
	}
	return secrets;
}

static void driver_free_secrets(const struct msb_secret **secrets)
{
	for (size_t i = 0; secrets && secrets[i]; i++) {
		free((void *)secrets[i]->hosts);
		free((void *)secrets[i]);
	}
	free(secrets);
}

static void driver_read_options(struct options *p, const json_t *o)
{
	MSB_INIT(&p->server);
	MSB_INIT(&p->config);
	p->keep = json_array();
	p->server.url = driver_get(o, "server_url");
	p->server.api_key = driver_get(o, "api_key");
	p->server.namespace_name = driver_get(o, "namespace");
	p->server.max_answer = (size_t)json_integer_value(json_object_get(o, "max_answer"));
	p->config.image = driver_get(o, "image");
	p->config.memory_mib = (uint32_t)json_integer_value(json_object_get(o, "memory"));
	p->config.cpus = json_number_value(json_object_get(o, "cpus"));
	p->config.workdir = driver_get(o, "workdir");
	p->config.scope = driver_get(o, "scope");
	p->config.group = driver_get(o, "group");
	p->config.shell = driver_get(o, "shell");
	p->config.exec = driver_get(o, "exec");
	p->config.idle_timeout = json_number_value(json_object_get(o, "idle_timeout"));
	p->config.timeout = json_number_value(json_object_get(o, "timeout"));
	p->config.envs = p->lists[0] = driver_list(o, "envs", p->keep);
	p->config.volumes = p->lists[1] = driver_list(o, "volumes", p->keep);
	p->config.ports = p->lists[2] = driver_list(o, "ports", p->keep);
	p->config.depends_on = p->lists[3] = driver_list(o, "depends_on", p->keep);
	p->config.scripts = p->lists[4] = driver_list(o, "scripts", p->keep);
	p->config.network = p->lists[5] = driver_list(o, "network", p->keep);
	p->config.secrets = p->secrets = driver_secrets(o, p->keep);
}

static void driver_free_options(struct options *p)
{
	for (size_t i = 0; i < 6; i++)
		free(p->lists[i]);
	driver_free_secrets(p->secrets);
	json_decref(p->keep);
}

/* ---- requests: each gives "ok" and returns 0, or sets *e ---- */

struct msb_sandbox *driver_box(const json_t *q)
{
	const char *name = driver_get(q, "box");
	struct msb_sandbox *sb = NULL;

	pthread_mutex_lock(&lock);
	for (struct box *b = boxes; b && !sb; b = b->next)
		if (!strcmp(b->name, name))
			sb = b->sb;
	pthread_mutex_unlock(&lock);
	if (!sb) {
		fprintf(stderr, "driver: there is no box %s\n", name);
		abort();
	}
	return sb;
}

static int driver_make(const struct request *r, const char *op, json_t **ok, struct msb_error **e)
{
	const json_t *o = json_object_get(r->q, "options");
	const char *language = driver_get(r->q, "language"), *name = driver_get(o, "name");
	struct msb_sandbox *sb = NULL;
	struct options p;
	struct box *b;
	int rc;

	driver_read_options(&p, o);
	if (!strcmp(op, "new"))
		rc = msb_sandbox_new(&sb, language, name, &p.server, &p.config, e);
	else if (!strcmp(op, "create"))
		rc = msb_sandbox_create(&sb, language, name, &p.server, &p.config, r->cancel, e);
	else
		rc = msb_sandbox_attach(&sb, language, name, &p.server, r->cancel, e);
	driver_free_options(&p);
	if (rc)
		return rc;
	b = calloc(1, sizeof(*b));
	b->name = strdup(driver_get(r->q, "box"));
	b->sb = sb;
	pthread_mutex_lock(&lock);
	b->next = boxes;
	boxes = b;
	pthread_mutex_unlock(&lock);
	*ok = driver_state(sb);
	if (!strcmp(op, "new"))
		json_object_set_new(*ok, "default_image",
				    driver_text(msb_sandbox_default_image(sb)));
	return 0;
}

static int driver_start(const struct request *r, json_t **ok, struct msb_error **e)
{
	struct msb_sandbox *sb = driver_box(r->q);
	struct options p;
	int rc;

	driver_read_options(&p, json_object_get(r->q, "options"));
	rc = msb_sandbox_start(sb, &p.config, r->cancel, e);
	driver_free_options(&p);
	*ok = rc ? NULL : driver_state(sb);
	return rc;
}

static int driver_stop(const struct request *r, json_t **ok, struct msb_error **e)
{
	struct msb_sandbox *sb = driver_box(r->q);
	int rc = msb_sandbox_stop(sb, r->cancel, e);

	*ok = rc ? NULL : driver_state(sb);
	return rc;
}

static int driver_run(const struct request *r, const char *op, json_t **ok, struct msb_error **e)
{
	struct msb_sandbox *sb = driver_box(r->q);
	struct msb_execution *x;
	json_t *keep = json_array();
	const char **args = driver_list(r->q, "args", keep);
	int rc;

	if (!strcmp(op, "run"))
		rc = msb_sandbox_run(sb, driver_get(r->q, "code"), driver_timeout(r->q), r->cancel,
				     &x, e);
	else
		rc = msb_sandbox_command(sb, driver_get(r->q, "command"), args,
					 driver_timeout(r->q), r->cancel, &x, e);
	free(args);
	json_decref(keep);
	if (rc)
		return rc;
	*ok = driver_execution(x);
	msb_execution_free(x);
	return 0;
}

/* Do its members need the function that has a structure of options? */
static bool driver_needs_exec(const json_t *q)
{
	static const char *const members[] = { "env",   "cwd",          "user",
					       "stdin", "stdin_base64", "listen" };

	for (size_t i = 0; i < sizeof(members) / sizeof(*members); i++)
		if (json_object_get(q, members[i]))
			return true;
	return false;
}

static int driver_metrics(const struct request *r, json_t **ok, struct msb_error **e)
{
	const char *what = driver_get(r->q, "what");
	struct msb_metrics *m;
	int rc = msb_sandbox_metrics(driver_box(r->q), r->cancel, &m, e);

	if (rc)
		return rc;
	if (!strcmp(what, "cpu"))
		*ok = driver_number(m->cpu_usage);
	else if (!strcmp(what, "memory"))
		*ok = driver_integer(m->memory_usage);
	else if (!strcmp(what, "disk"))
		*ok = driver_integer(m->disk_usage);
	else if (!strcmp(what, "is_running"))
		*ok = json_boolean(m->running);
	else
		*ok = json_pack("{s:s, s:s, s:b, s:o, s:o, s:o}", "name", m->name, "namespace",
				m->namespace_name, "running", m->running, "cpu_usage",
				driver_number(m->cpu_usage), "memory_usage",
				driver_integer(m->memory_usage), "disk_usage",
				driver_integer(m->disk_usage));
	msb_metrics_free(m);
	return 0;
}

static json_t *driver_info(const struct msb_info *i)
{
	json_t *ports = json_array();

	for (size_t n = 0; n < i->n_ports; n++)
		json_array_append_new(ports, json_pack("{s:s, s:i, s:i, s:s}", "host_ip",
						       i->ports[n].host_ip, "host_port",
						       i->ports[n].host_port, "guest_port",
						       i->ports[n].guest_port, "protocol",
						       i->ports[n].protocol));
	return json_pack("{s:s, s:s, s:s, s:s, s:s?, s:s?, s:s, s:o, s:o, s:s?, s:o, s:o}", "name",
			 i->name, "namespace", i->namespace_name, "image", i->image, "state",
			 i->state, "engine", i->engine, "isolation", i->isolation, "started_at",
			 i->started_at, "memory", driver_integer(i->memory_mib), "cpus",
			 driver_integer(i->cpus), "scope", i->scope, "idle_timeout",
			 driver_number(i->idle_timeout), "ports", ports);
}

static int driver_compare(const void *a, const void *b)
{
	const struct msb_info *const *x = a, *const *y = b;
	int d = strcmp((*x)->namespace_name, (*y)->namespace_name);

	return d ? d : strcmp((*x)->name, (*y)->name);
}

static int driver_list_boxes(const struct request *r, json_t **ok, struct msb_error **e)
{
	const struct msb_info **sorted;
	struct msb_list *l;
	struct options p;
	size_t n;
	int rc;

	driver_read_options(&p, json_object_get(r->q, "options"));
	rc = msb_list(&l, &p.server, r->cancel, e);
	driver_free_options(&p);
	if (rc)
		return rc;
	n = msb_list_count(l);
	sorted = calloc(n + 1, sizeof(struct msb_info *));
	for (size_t i = 0; i < n; i++)
		sorted[i] = msb_list_item(l, i);
	qsort(sorted, n, sizeof(struct msb_info *), driver_compare);
	*ok = json_array();
	for (size_t i = 0; i < n; i++)
		json_array_append_new(*ok, driver_info(sorted[i]));
	free(sorted);
	msb_list_free(l);
	return 0;
}

/* ---- the network ---- */

static json_t *driver_network_value(const struct msb_network *n)
{
	json_t *rules = json_array(), *counters = json_array(), *members = json_array();

	for (size_t i = 0; i < n->n_rules; i++)
		json_array_append_new(rules, json_string(n->rules[i]));
	for (size_t i = 0; i < n->n_counters; i++)
		json_array_append_new(counters,
				      json_pack("{s:s, s:I}", "name", n->counters[i].name, "count",
						(json_int_t)n->counters[i].count));
	for (size_t i = 0; i < n->n_members; i++)
		json_array_append_new(members, json_pack("{s:s, s:s}", "name", n->members[i].name,
							 "address", n->members[i].address));
	return json_pack("{s:s, s:s?, s:b, s:o, s:o, s:o}", "scope", n->scope, "group", n->group,
			 "closed", n->closed, "rules", rules, "counters", counters, "members",
			 members);
}

static int driver_network(const struct request *r, json_t **ok, struct msb_error **e)
{
	const json_t *given = json_object_get(r->q, "rules");
	const char *rules[65] = { NULL };
	struct msb_network *n;
	int rc;

	for (size_t i = 0; i < json_array_size(given) && i < 64; i++)
		rules[i] = json_string_value(json_array_get(given, i));
	rc = msb_sandbox_network(driver_box(r->q), given ? rules : NULL, r->cancel, &n, e);
	if (rc)
		return rc;
	*ok = driver_network_value(n);
	msb_network_free(n);
	return 0;
}

/* ---- life ---- */

static int driver_life(const struct request *r, const char *op, json_t **ok, struct msb_error **e)
{
	const json_t *limit = json_object_get(r->q, "idle_timeout");
	struct msb_sandbox *sb = driver_box(r->q);
	struct msb_list *l;
	struct msb_log *log;
	int rc;

	if (!strcmp(op, "restart")) {
		rc = msb_sandbox_restart(sb, driver_timeout(r->q), r->cancel, e);
		*ok = rc ? NULL : driver_state(sb);
		return rc;
	}
	if (!strcmp(op, "logs")) {
		rc = msb_sandbox_log(sb, driver_get(r->q, "source"),
				     (uint32_t)json_integer_value(json_object_get(r->q, "tail")),
				     r->cancel, &log, e);
		if (rc)
			return rc;
		*ok = json_array();
		for (size_t i = 0; i < msb_log_count(log); i++)
			json_array_append_new(*ok, json_string(msb_log_line(log, i)));
		msb_log_free(log);
		return 0;
	}
	if (!strcmp(op, "info"))
		rc = msb_sandbox_info(sb, r->cancel, &l, e);
	else
		rc = msb_sandbox_keep_alive(sb,
					    json_is_null(limit) ? MSB_NO_LIMIT
								: json_number_value(limit),
					    r->cancel, &l, e);
	if (rc)
		return rc;
	*ok = driver_info(msb_list_item(l, 0));
	msb_list_free(l);
	return 0;
}

static void *driver_serve(void *argument)
{
	const struct request *r = argument;
	const char *op = driver_get(r->q, "op");
	struct msb_error *e = NULL;
	json_t *ok = NULL;
	int rc;

	if (!strcmp(op, "new") || !strcmp(op, "create") || !strcmp(op, "attach")) {
		rc = driver_make(r, op, &ok, &e);
	} else if (!strcmp(op, "start")) {
		rc = driver_start(r, &ok, &e);
	} else if (!strcmp(op, "stop")) {
		rc = driver_stop(r, &ok, &e);
	} else if (!strcmp(op, "exec") || !strcmp(op, "run_streamed") ||
		   ((!strcmp(op, "run") || !strcmp(op, "command")) && driver_needs_exec(r->q))) {
		rc = driver_listen(r, op, &ok, &e);
	} else if (!strcmp(op, "run") || !strcmp(op, "command")) {
		rc = driver_run(r, op, &ok, &e);
	} else if (!strcmp(op, "metrics")) {
		rc = driver_metrics(r, &ok, &e);
	} else if (!strcmp(op, "list")) {
		rc = driver_list_boxes(r, &ok, &e);
	} else if (!strcmp(op, "network")) {
		rc = driver_network(r, &ok, &e);
	} else if (!strcmp(op, "info") || !strcmp(op, "keep_alive") || !strcmp(op, "restart") ||
		   !strcmp(op, "logs")) {
		rc = driver_life(r, op, &ok, &e);
	} else {
		rc = driver_on_process(r, op, &ok, &e);
		if (rc == DRIVER_OTHER)
			rc = driver_on_stream(r, op, &ok, &e);
		if (rc == DRIVER_OTHER)
			rc = driver_on_file(r, op, &ok, &e);
	}
	if (rc == DRIVER_SAID) {
		driver_say(r->id, "error", ok);
		return NULL;
	}
	if (rc == DRIVER_OTHER) {
		driver_say(r->id, "error", json_pack("{s:s, s:s}", "kind", "bug", "message", op));
		return NULL;
	}
	if (rc && rc != msb_error_kind(e)) {
		fprintf(stderr, "driver: %s returned %d, but its error is of kind %d\n", op, rc,
			msb_error_kind(e));
		abort();
	}
	driver_say(r->id, rc ? "error" : "ok", rc ? driver_error(e) : ok);
	return NULL;
}

/* ---- the main thread ---- */

static void driver_take(json_t *q)
{
	struct request *r = calloc(1, sizeof(*r)), *t;
	const char *op = driver_get(q, "op");

	r->q = q;
	r->id = json_integer_value(json_object_get(q, "id"));
	if (!strcmp(op, "cancel")) {
		for (t = requests; t; t = t->next)
			if (t->id == json_integer_value(json_object_get(q, "target")))
				msb_cancel_trigger(t->cancel);
		driver_say(r->id, "ok", json_null());
		json_decref(q);
		free(r);
		return;
	}
	if (msb_cancel_new(&r->cancel, NULL) || pthread_create(&r->thread, NULL, driver_serve, r))
		abort();
	r->next = requests;
	requests = r;
}

int main(void)
{
	char *line = NULL;
	size_t room = 0;
	ssize_t n;

	while ((n = getline(&line, &room, stdin)) > 0) {
		json_t *q = json_loadb(line, (size_t)n, JSON_ALLOW_NUL, NULL);

		if (!q) {
			fputs("driver: a request is no JSON\n", stderr);
			return 1;
		}
		driver_take(q);
	}
	free(line);
	/* Calls that nobody waits for are ended, so that everything can be given back. */
	for (struct request *r = requests; r; r = r->next)
		msb_cancel_trigger(r->cancel);
	while (requests) {
		struct request *r = requests;

		requests = r->next;
		pthread_join(r->thread, NULL);
		msb_cancel_free(r->cancel);
		json_decref(r->q);
		free(r);
	}
	driver_end_streams();
	driver_end_processes();
	while (boxes) {
		struct box *b = boxes;

		boxes = b->next;
		msb_sandbox_free(b->sb);
		free(b->name);
		free(b);
	}
	return 0;
}
