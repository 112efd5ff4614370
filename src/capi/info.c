/* SPDX-License-Identifier: Apache-2.0 */
/* What is there (sandbox.list, sandbox.get), what it uses, and its log. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "capi/internal.h"

struct msb_list {
	json_t *o; /* keeps all texts below */
	struct msb_info *items;
	struct msb_port *ports; /* of all of them, one after the other */
	size_t n;
};

struct msb_log {
	json_t *lines;
};

/* What a program sees of it comes first. */
struct info_metrics {
	struct msb_metrics m;
	json_t *o;
};

static const json_t *info_ports(const json_t *o)
{
	return json_object_get(o, "ports"); /* older servers have none */
}

static int info_take_port(struct msb_port *p, const json_t *o, struct msb_error **err)
{
	int64_t host = -1, guest = -1;
	int rc = capi_get_text(o, "host_ip", &p->host_ip, err);

	rc = rc ? rc : capi_opt_integer(o, "host_port", &host, err);
	rc = rc ? rc : capi_opt_integer(o, "guest_port", &guest, err);
	rc = rc ? rc : capi_get_text(o, "protocol", &p->protocol, err);
	if (!rc && (host < 1 || host > 65535 || guest < 1 || guest > 65535))
		rc = capi_bad_member("host_port", err);
	p->host_port = (uint16_t)host;
	p->guest_port = (uint16_t)guest;
	return rc;
}

/* Fills in @i's ports, from *@next on. */
static int info_take_ports(struct msb_info *i, const json_t *o, struct msb_port **next,
			   struct msb_error **err)
{
	const json_t *ports = info_ports(o);
	int rc = 0;

	i->ports = *next;
	i->n_ports = json_array_size(ports);
	for (size_t n = 0; n < i->n_ports && !rc; n++)
		rc = info_take_port((*next)++, json_array_get(ports, n), err);
	return rc;
}

static int info_take(struct msb_info *i, const json_t *o, struct msb_error **err)
{
	int rc = 0;

	*i = (struct msb_info){ .memory_mib = -1, .cpus = -1, .idle_timeout = NAN };
	rc = rc ? rc : capi_get_text(o, "name", &i->name, err);
	rc = rc ? rc : capi_get_text(o, "namespace", &i->namespace_name, err);
	rc = rc ? rc : capi_get_text(o, "image", &i->image, err);
	rc = rc ? rc : capi_get_text(o, "state", &i->state, err);
	rc = rc ? rc : capi_opt_text(o, "engine", &i->engine, err);
	rc = rc ? rc : capi_opt_text(o, "isolation", &i->isolation, err);
	rc = rc ? rc : capi_get_text(o, "started_at", &i->started_at, err);
	rc = rc ? rc : capi_opt_integer(o, "memory", &i->memory_mib, err);
	rc = rc ? rc : capi_opt_integer(o, "cpus", &i->cpus, err);
	rc = rc ? rc : capi_opt_text(o, "scope", &i->scope, err);
	rc = rc ? rc : capi_opt_number(o, "idle_timeout", &i->idle_timeout, err);
	return rc;
}

/* Takes over @array. */
static int info_list_new(struct msb_list **out, json_t *array, struct msb_error **err)
{
	struct msb_list *l = calloc(1, sizeof(*l));
	struct msb_port *next;
	size_t n_ports = 0;
	int rc = 0;

	if (!l || !array) {
		free(l);
		json_decref(array);
		return capi_no_memory(err);
	}
	l->o = array;
	l->n = json_array_size(array);
	for (size_t i = 0; i < l->n; i++)
		n_ports += json_array_size(info_ports(json_array_get(array, i)));
	l->items = calloc(l->n + 1, sizeof(*l->items));
	l->ports = next = calloc(n_ports + 1, sizeof(*l->ports));
	if (!l->items || !l->ports)
		rc = capi_no_memory(err);
	for (size_t i = 0; i < l->n && !rc; i++) {
		rc = info_take(&l->items[i], json_array_get(array, i), err);
		rc = rc ? rc : info_take_ports(&l->items[i], json_array_get(array, i), &next, err);
	}
	if (rc)
		msb_list_free(l);
	else
		*out = l;
	return rc;
}

int capi_list_of_one(struct msb_list **out, json_t *o, struct msb_error **err)
{
	return info_list_new(out, json_pack("[o]", o), err);
}

int msb_list(struct msb_list **out, const struct msb_server *server, struct msb_cancel *cancel,
	     struct msb_error **err)
{
	struct capi_client *c;
	json_t *params = json_object(), *o = NULL, *array;
	int rc = capi_client_new(&c, server, err);

	if (rc) {
		json_decref(params);
		return rc;
	}
	rc = params ? capi_set_text(params, "namespace", capi_client_namespace(c), err)
		    : capi_no_memory(err);
	if (rc)
		json_decref(params);
	else
		rc = capi_call(c, "sandbox.list", params, CAPI_QUERY_LIMIT, cancel, &o, err);
	if (!rc)
		rc = capi_get_array(o, "sandboxes", &array, err);
	if (!rc)
		rc = info_list_new(out, json_incref(array), err);
	json_decref(o);
	capi_client_free(c);
	return rc;
}

size_t msb_list_count(const struct msb_list *l)
{
	return l->n;
}

const struct msb_info *msb_list_item(const struct msb_list *l, size_t i)
{
	return i < l->n ? &l->items[i] : NULL;
}

void msb_list_free(struct msb_list *l)
{
	if (!l)
		return;
	free(l->items);
	free(l->ports);
	json_decref(l->o);
	free(l);
}

/* ---- metrics ---- */

static int info_metrics_new(struct msb_metrics **out, json_t *o, struct msb_error **err)
{
	struct info_metrics *i = calloc(1, sizeof(*i));
	struct msb_metrics *m;
	int rc = 0;

	if (!i)
		return capi_no_memory(err);
	i->o = json_incref(o);
	m = &i->m;
	*m = (struct msb_metrics){
		.running = -1,
		.cpu_usage = NAN,
		.memory_usage = -1,
		.disk_usage = -1,
	};
	rc = rc ? rc : capi_get_text(o, "name", &m->name, err);
	rc = rc ? rc : capi_get_text(o, "namespace", &m->namespace_name, err);
	rc = rc ? rc : capi_opt_bool(o, "running", &m->running, err);
	rc = rc ? rc : capi_opt_number(o, "cpu_usage", &m->cpu_usage, err);
	rc = rc ? rc : capi_opt_integer(o, "memory_usage", &m->memory_usage, err);
	rc = rc ? rc : capi_opt_integer(o, "disk_usage", &m->disk_usage, err);
	if (!rc && m->running < 0)
		rc = capi_bad_member("running", err);
	if (rc)
		msb_metrics_free(m);
	else
		*out = m;
	return rc;
}

int msb_sandbox_metrics(struct msb_sandbox *sb, struct msb_cancel *cancel, struct msb_metrics **out,
			struct msb_error **err)
{
	struct msb_metrics *m = NULL;
	json_t *o = NULL, *array, *params;
	int rc = capi_check_started(sb, err);

	rc = rc ? rc : capi_sandbox_params(sb, &params, err);
	if (rc)
		return rc;
	rc = capi_call(capi_sandbox_client(sb), "sandbox.metrics.get", params, CAPI_QUERY_LIMIT,
		       cancel, &o, err);
	if (!rc)
		rc = capi_get_array(o, "sandboxes", &array, err);
	for (size_t i = 0; !rc && !m && i < json_array_size(array); i++) {
		rc = info_metrics_new(&m, json_array_get(array, i), err);
		if (!rc && strcmp(m->name, msb_sandbox_name(sb))) {
			msb_metrics_free(m);
			m = NULL;
		}
	}
	json_decref(o);
	if (!rc && !m) {
		char text[256];

		snprintf(text, sizeof(text), "Sandbox %.128s is not running", msb_sandbox_name(sb));
		rc = capi_fail_server(err, MSB_ERR_NOT_FOUND, text, -32001, 404, NULL);
	}
	if (!rc)
		*out = m;
	return rc;
}

void msb_metrics_free(struct msb_metrics *m)
{
	struct info_metrics *i = m ? container_of(m, struct info_metrics, m) : NULL;

	if (i)
		json_decref(i->o);
	free(i);
}

/* ---- the log ---- */

int msb_sandbox_log(struct msb_sandbox *sb, const char *source, uint32_t tail,
		    struct msb_cancel *cancel, struct msb_log **out, struct msb_error **err)
{
	json_t *o = NULL, *lines = NULL, *params;
	struct msb_log *l;
	int rc = capi_check_started(sb, err);

	rc = rc ? rc : capi_sandbox_params(sb, &params, err);
	if (rc)
		return rc;
	rc = capi_set_text(params, "source", source, err);
	if (!rc && tail)
		rc = capi_set(params, "tail", json_integer(tail), err);
	if (rc) {
		json_decref(params);
		return rc;
	}
	rc = capi_call(capi_sandbox_client(sb), "sandbox.logs", params, CAPI_QUERY_LIMIT, cancel,
		       &o, err);
	if (!rc)
		rc = capi_get_array(o, "lines", &lines, err);
	for (size_t i = 0; !rc && i < json_array_size(lines); i++)
		if (!json_is_string(json_array_get(lines, i)))
			rc = capi_bad_member("lines", err);
	l = rc ? NULL : calloc(1, sizeof(*l));
	if (l) {
		l->lines = json_incref(lines);
		*out = l;
	} else if (!rc) {
		rc = capi_no_memory(err);
	}
	json_decref(o);
	return rc;
}

size_t msb_log_count(const struct msb_log *l)
{
	return json_array_size(l->lines);
}

const char *msb_log_line(const struct msb_log *l, size_t i)
{
	return json_string_value(json_array_get(l->lines, i));
}

void msb_log_free(struct msb_log *l)
{
	if (!l)
		return;
	json_decref(l->lines);
	free(l);
}
