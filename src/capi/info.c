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

/* ---- the network ---- */

struct info_network {
	struct msb_network n;
	json_t *o;
	const char **rules;
	struct msb_network_counter *counters;
	struct msb_network_member *members;
};

void msb_network_free(struct msb_network *n)
{
	struct info_network *i = n ? container_of(n, struct info_network, n) : NULL;

	if (!i)
		return;
	json_decref(i->o);
	free(i->rules);
	free(i->counters);
	free(i->members);
	free(i);
}

static int info_network_arrays(struct info_network *i, json_t *rules, json_t *counters,
			       json_t *members, struct msb_error **err)
{
	struct msb_network *n = &i->n;
	int rc = 0;

	i->rules = calloc(json_array_size(rules) + 1, sizeof(*i->rules));
	i->counters = calloc(json_array_size(counters) + 1, sizeof(*i->counters));
	i->members = calloc(json_array_size(members) + 1, sizeof(*i->members));
	if (!i->rules || !i->counters || !i->members)
		return capi_no_memory(err);
	for (; n->n_rules < json_array_size(rules); n->n_rules++) {
		i->rules[n->n_rules] = json_string_value(json_array_get(rules, n->n_rules));
		if (!i->rules[n->n_rules])
			return capi_bad_member("rules", err);
	}
	for (; !rc && n->n_counters < json_array_size(counters); n->n_counters++) {
		struct msb_network_counter *c = &i->counters[n->n_counters];
		json_t *o = json_array_get(counters, n->n_counters);

		rc = capi_get_text(o, "name", &c->name, err);
		rc = rc ? rc : capi_opt_integer(o, "count", &c->count, err);
	}
	for (; !rc && n->n_members < json_array_size(members); n->n_members++) {
		struct msb_network_member *m = &i->members[n->n_members];
		json_t *o = json_array_get(members, n->n_members);

		rc = capi_get_text(o, "name", &m->name, err);
		rc = rc ? rc : capi_get_text(o, "address", &m->address, err);
	}
	n->rules = i->rules;
	n->counters = i->counters;
	n->members = i->members;
	return rc;
}

static int info_network_new(struct msb_network **out, json_t *o, struct msb_error **err)
{
	struct info_network *i = calloc(1, sizeof(*i));
	json_t *rules, *counters, *members;
	int rc;

	if (!i)
		return capi_no_memory(err);
	i->o = json_incref(o);
	i->n.closed = -1;
	rc = capi_get_text(o, "scope", &i->n.scope, err);
	rc = rc ? rc : capi_opt_text(o, "group", &i->n.group, err);
	rc = rc ? rc : capi_opt_bool(o, "closed", &i->n.closed, err);
	rc = rc ? rc : capi_get_array(o, "rules", &rules, err);
	rc = rc ? rc : capi_get_array(o, "counters", &counters, err);
	rc = rc ? rc : capi_get_array(o, "members", &members, err);
	rc = rc ? rc : info_network_arrays(i, rules, counters, members, err);
	if (!rc && i->n.closed < 0)
		rc = capi_bad_member("closed", err);
	if (rc)
		msb_network_free(&i->n);
	else
		*out = &i->n;
	return rc;
}

int msb_sandbox_network(struct msb_sandbox *sb, const char *const *rules, struct msb_cancel *cancel,
			struct msb_network **out, struct msb_error **err)
{
	const char *method = rules ? "sandbox.network.set" : "sandbox.network.get";
	json_t *o = NULL, *params = NULL;
	int rc = capi_check_started(sb, err);

	rc = rc ? rc : capi_sandbox_params(sb, &params, err);
	/* An empty list is one as well: no rules. */
	if (!rc && rules)
		rc = capi_set(params, "rules", json_array(), err);
	if (!rc && rules)
		rc = capi_set_texts(params, "rules", rules, err);
	if (rc) {
		json_decref(params);
		return rc;
	}
	rc = capi_call(capi_sandbox_client(sb), method, params, CAPI_QUERY_LIMIT, cancel, &o, err);
	if (!rc)
		rc = info_network_new(out, o, err);
	json_decref(o);
	return rc;
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
