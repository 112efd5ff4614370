/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sandbox.metrics.get: asks every sandbox concerned at once.  A guest that does not answer
 * in time has nulls in the answer; it never holds up the others.
 */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "server/api.h"
#include "server/box.h"

#define METRICS_TIMEOUT_MS 2000u

struct metrics;

struct metrics_one {
	struct metrics *all;
	struct box *box;
	struct box_call in_box;
	struct client_channel channel;
	json_t *entry; /* borrowed from the answer */
	bool waiting;
};

struct metrics {
	struct rpc_call *call;
	struct loop_timer timer;
	struct corpse corpse;
	json_t *answer; /* array */
	size_t n, waiting;
	struct metrics_one ones[];
};

static void metrics_free(struct corpse *c)
{
	struct metrics *m = container_of(c, struct metrics, corpse);

	json_decref(m->answer);
	free(m);
}

static struct rpc_call *metrics_end(struct metrics *m)
{
	loop_timer_cancel(&m->timer);
	for (size_t i = 0; i < m->n; i++) {
		if (!m->ones[i].waiting)
			continue;
		list_remove(&m->ones[i].in_box.link);
		client_close(&m->ones[i].channel);
	}
	server_bury(m->call->server, &m->corpse, metrics_free);
	return m->call;
}

static void metrics_cancel(struct rpc_call *c)
{
	metrics_end(c->state);
}

static void metrics_reply(struct metrics *m)
{
	struct rpc_call *c = metrics_end(m);

	rpc_reply(c, json_pack("{s:O}", "sandboxes", m->answer));
}

static void metrics_timeout(struct loop_timer *t)
{
	metrics_reply(container_of(t, struct metrics, timer));
}

static void metrics_one_done(struct metrics_one *o)
{
	struct metrics *m = o->all;

	o->waiting = false;
	list_remove(&o->in_box.link);
	if (!--m->waiting && m->call->cancel) /* not while they are being asked */
		metrics_reply(m);
}

static void metrics_gone(struct box_call *in_box, const char *reason)
{
	struct metrics_one *o = container_of(in_box, struct metrics_one, in_box);

	(void)reason;
	json_object_set_new(o->entry, "running", json_false());
	metrics_one_done(o);
}

/* Percent of one CPU since the last look, or since the guest booted. */
static double metrics_cpu(struct box_metrics *last, const struct frame_metrics_reply *r)
{
	uint64_t busy = r->cpu_user_ns + r->cpu_system_ns;
	bool delta = last->valid && busy >= last->cpu_busy_ns && r->uptime_ns > last->at_ns;
	uint64_t did = delta ? busy - last->cpu_busy_ns : busy;
	uint64_t in = delta ? r->uptime_ns - last->at_ns : r->uptime_ns;

	*last = (struct box_metrics){ busy, r->uptime_ns, true };
	return in ? (double)(did * 1000 / in) / 10 : 0;
}

static void metrics_frame(struct client_channel *ch, const struct frame *f)
{
	struct metrics_one *o = container_of(ch, struct metrics_one, channel);
	struct frame_metrics_reply r;

	if (!frame_type_ends_channel(f->type))
		return;
	if (f->type == FRAME_METRICS_REPLY && !frame_decode(f, &r, sizeof(r))) {
		json_object_set_new(o->entry, "cpu_usage",
				    json_real(metrics_cpu(&o->box->metrics, &r)));
		json_object_set_new(o->entry, "memory_usage",
				    json_integer(frame_metrics_used(r.mem_total, r.mem_available) >>
						 20));
		json_object_set_new(o->entry, "disk_usage",
				    json_integer(
					    frame_metrics_used(r.disk_total, r.disk_available)));
	}
	metrics_one_done(o);
}

static void metrics_ask(struct metrics *m, struct box *b)
{
	struct metrics_one *o = &m->ones[m->n++];
	bool running = b->state == BOX_READY;

	o->all = m;
	o->box = b;
	o->entry = json_pack("{s:s, s:s, s:b, s:n, s:n, s:n}", "name", b->name, "namespace", b->ns,
			     "running", running, "cpu_usage", "memory_usage", "disk_usage");
	json_array_append_new(m->answer, o->entry);
	o->channel.on_frame = metrics_frame;
	list_init(&o->channel.link);
	list_init(&o->in_box.link);
	if (!o->entry || !running || client_open(&b->client, &o->channel, FRAME_METRICS, NULL))
		return;
	o->waiting = true;
	o->in_box.gone = metrics_gone;
	list_append(&b->calls, &o->in_box.link);
	m->waiting++;
}

static bool metrics_wanted(const struct rpc_call *c, const struct box *b)
{
	const char *name = rpc_string(c->params, "sandbox");

	return (!strcmp(c->ns, "*") || !strcmp(c->ns, b->ns)) && (!name || !strcmp(name, b->name));
}

void method_sandbox_metrics_get(struct rpc_call *c)
{
	const char *name = rpc_string(c->params, "sandbox");
	struct metrics *m = calloc(1, sizeof(*m) + c->server->n_boxes * sizeof(m->ones[0]));

	if (!m) {
		rpc_fail(c, JSONRPC_INTERNAL, "Internal server error: out of memory");
		return;
	}
	m->call = c;
	m->answer = json_array();
	loop_timer_init(&m->timer, metrics_timeout);
	list_for_each (pos, tmp, &c->server->boxes) {
		struct box *b = list_entry(pos, struct box, link);

		if (metrics_wanted(c, b))
			metrics_ask(m, b);
	}
	if (name && !m->n) {
		metrics_end(m);
		rpc_fail(c, RPC_NOT_FOUND, "Sandbox %s is not running", name);
		return;
	}
	c->state = m;
	c->cancel = metrics_cancel;
	if (m->waiting)
		loop_timer_set(c->server->loop, &m->timer, METRICS_TIMEOUT_MS);
	else
		metrics_reply(m);
}
