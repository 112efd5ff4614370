/* SPDX-License-Identifier: Apache-2.0 */
/* sandbox.start, stop, restart, list, get, keep_alive */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "server/api.h"
#include "server/box.h"

#define START_TIMEOUT_MS 180000u

/* A caller of start or stop who waits. */
struct life_wait {
	struct rpc_call *call;
	struct box_wait wait;
	struct loop_timer timer;
	struct corpse corpse;
	char ns[RPC_NAME_SIZE], name[RPC_NAME_SIZE];
	const char *did; /* "started" */
};

static void life_free(struct corpse *c)
{
	free(container_of(c, struct life_wait, corpse));
}

/* Ends the waiting. Return: the call, to be answered. */
static struct rpc_call *life_end(struct life_wait *w)
{
	struct rpc_call *c = w->call;

	loop_timer_cancel(&w->timer);
	box_wait_forget(&w->wait);
	server_bury(c->server, &w->corpse, life_free);
	return c;
}

static void life_cancel(struct rpc_call *c)
{
	life_end(c->state);
}

static void life_timeout(struct loop_timer *t)
{
	struct life_wait *w = container_of(t, struct life_wait, timer);

	rpc_reply(life_end(w), json_sprintf("Sandbox %s was %s, but timed out waiting for it to "
					    "be fully running. It may still be initializing.",
					    w->name, w->did));
}

static struct life_wait *life_wait(struct rpc_call *c, const char *did,
				   void (*done)(struct box_wait *, const char *))
{
	struct life_wait *w = calloc(1, sizeof(*w));

	if (!w) {
		rpc_fail(c, JSONRPC_INTERNAL, "Internal server error: out of memory");
		return NULL;
	}
	w->call = c;
	w->did = did;
	w->wait.done = done;
	loop_timer_init(&w->timer, life_timeout);
	strcpy(w->ns, c->ns);
	strcpy(w->name, rpc_string(c->params, "sandbox"));
	c->state = w;
	c->cancel = life_cancel;
	return w;
}

/* ---- start ---------------------------------------------------------------------------- */

static void start_try(struct life_wait *w);

static void start_progress(struct box_wait *bw, const char *what)
{
	rpc_progress(container_of(bw, struct life_wait, wait)->call, what);
}

static void start_done(struct box_wait *bw, const char *error)
{
	struct life_wait *w = container_of(bw, struct life_wait, wait);
	struct rpc_call *c = life_end(w);

	if (error)
		rpc_fail(c, RPC_SANDBOX_FAILED, "Sandbox %s could not be %s: %s", w->name, w->did,
			 error);
	else
		rpc_reply(c, json_sprintf("Sandbox %s %s successfully", w->name, w->did));
}

/* One of that name was ending; now it is gone. */
static void start_again(struct box_wait *bw, const char *error)
{
	struct life_wait *w = container_of(bw, struct life_wait, wait);

	(void)error;
	start_try(w);
}

static void start_try(struct life_wait *w)
{
	struct rpc_call *c = w->call;
	struct box *b = box_find(c->server, w->ns, w->name);
	json_t *config = json_object_get(c->params, "config"), *limit = NULL;
	struct err e = ERR_INIT;
	int code = 0;

	if (b && b->state == BOX_STOPPING && !b->restart) {
		w->wait.done = start_again;
		list_init(&w->wait.link);
		list_append(&b->stop_waits, &w->wait.link);
		return;
	}
	if (b)
		box_touch(b);
	else if (quota_check_sandbox(c->server, &c->who, box_config_memory(config), &limit, &e))
		code = RPC_LIMIT;
	else
		code = box_start(c->server, &c->who, w->ns, w->name, config, &b, &e);
	if (code) {
		life_end(w);
		rpc_fail_data(c, code, limit, "%s", err_text(&e));
		return;
	}
	w->wait.done = start_done;
	w->wait.progress = start_progress;
	if (b->state == BOX_READY) {
		box_wait_ready(b, &w->wait);
		return;
	}
	box_wait_ready(b, &w->wait);
	/* Last: who is told may turn out to be gone. */
	rpc_progress(c, b->state == BOX_PREPARING ? "its image is being put together" : "booting");
}

void method_sandbox_start(struct rpc_call *c)
{
	struct life_wait *w;
	uint64_t ms = rpc_timeout_ms(c->params);

	if (!ms)
		ms = rpc_timeout_ms(json_object_get(c->params, "config"));
	if (!strcmp(c->ns, "*")) {
		rpc_fail(c, JSONRPC_BAD_PARAMS, "Invalid params: params.namespace must be a name");
		return;
	}
	w = life_wait(c, "started", start_done);
	if (!w)
		return;
	loop_timer_set(c->server->loop, &w->timer, ms ? ms : START_TIMEOUT_MS);
	start_try(w);
}

/* ---- stop ------------------------------------------------------------------------------- */

static void stop_done(struct box_wait *bw, const char *error)
{
	struct life_wait *w = container_of(bw, struct life_wait, wait);
	struct rpc_call *c = life_end(w);

	(void)error;
	rpc_reply(c, json_sprintf("Sandbox %s stopped successfully", w->name));
}

/* Return: NULL, and the call is answered, if there is none of the name. */
static struct box *life_find(struct rpc_call *c)
{
	const char *name = rpc_string(c->params, "sandbox");
	struct box *b = box_find(c->server, c->ns, name);

	if (!b)
		rpc_fail(c, RPC_NOT_FOUND, "Sandbox %s is not running", name);
	return b;
}

void method_sandbox_stop(struct rpc_call *c)
{
	struct box *b = life_find(c);
	struct life_wait *w;

	if (!b)
		return;
	w = life_wait(c, "stopped", stop_done);
	if (w)
		box_stop(b, &w->wait);
}

/* ---- restart ---------------------------------------------------------------------------- */

void method_sandbox_restart(struct rpc_call *c)
{
	uint64_t ms = rpc_timeout_ms(c->params);
	struct box *b = life_find(c);
	struct err e = ERR_INIT;
	struct life_wait *w;
	int rc;

	if (!b)
		return;
	w = life_wait(c, "restarted", start_done);
	if (!w)
		return;
	loop_timer_set(c->server->loop, &w->timer, ms ? ms : START_TIMEOUT_MS);
	rc = box_restart(b, &w->wait, &e);
	if (!rc)
		return;
	life_end(w);
	rpc_fail(c, rc == -ESRCH ? RPC_NOT_FOUND : RPC_SANDBOX_FAILED, "%s", err_text(&e));
}

/* ---- what there is ------------------------------------------------------------------------- */

void method_sandbox_list(struct rpc_call *c)
{
	json_t *all = json_array();

	list_for_each (pos, tmp, &c->server->boxes) {
		struct box *b = list_entry(pos, struct box, link);

		if (!strcmp(c->ns, "*") || !strcmp(c->ns, b->ns))
			json_array_append_new(all, box_info(b));
	}
	rpc_reply(c, json_pack("{s:o}", "sandboxes", all));
}

void method_sandbox_get(struct rpc_call *c)
{
	struct box *b = life_find(c);

	if (b)
		rpc_reply(c, box_info(b));
}

void method_sandbox_keep_alive(struct rpc_call *c)
{
	struct box *b = life_find(c);
	struct err e = ERR_INIT;

	if (!b)
		return;
	if (b->state == BOX_STOPPING && !b->restart) {
		rpc_fail(c, RPC_NOT_FOUND, "Sandbox %s is not running", b->name);
		return;
	}
	box_touch(b);
	if (json_object_get(c->params, "idle_timeout") &&
	    box_set_idle(b, box_config_idle(c->params), &e)) {
		rpc_fail(c, JSONRPC_INTERNAL, "Internal server error: %s", err_text(&e));
		return;
	}
	rpc_reply(c, box_info(b));
}
