/* SPDX-License-Identifier: Apache-2.0 */
/*
 * volume.create, list, get and remove: named volumes of a namespace.
 *
 * What clients make is bounded, in number and by the quotas that they have to name, and marked
 * as theirs: they remove no other.  A volume may hold a million files, so it is removed by a
 * process of its own (`msb volume rm`), which goes on if the client goes away.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "lib/volumes.h"
#include "server/api.h"
#include "server/internal.h"
#include "sys/child.h"
#include "sys/parts.h"

#define VOLUME_REMOVALS_MAX 16u /* at once */

/* What went wrong, to a client: nothing of the host's paths. */
static void volume_fail(struct rpc_call *c, const struct err *e)
{
	const char *name = rpc_string(c->params, "name");

	switch (e->code) {
	case ENOENT:
		rpc_fail(c, RPC_NOT_FOUND, "there is no volume '%.100s' in namespace %s", name,
			 c->ns);
		return;
	case EINVAL:
	case EEXIST:
	case EBUSY:
		rpc_fail(c, JSONRPC_BAD_PARAMS, "Invalid params: %s", err_text(e));
		return;
	case EDQUOT:
		rpc_fail(c, RPC_LIMIT, "%s", err_text(e));
		return;
	case EACCES:
		rpc_fail(c, RPC_DENIED, "%s", err_text(e));
		return;
	default:
		log_err("event=volume-failed ns=%s name=%s reason=\"%s\"", c->ns, name ? name : "",
			err_text(e));
		rpc_fail(c, JSONRPC_INTERNAL, "Internal server error: volumes: %s",
			 strerror(e->code));
	}
}

static json_t *volume_json(const struct volume_info *v)
{
	time_t t = (time_t)v->created_s;
	char when[40] = "";
	struct tm tm;

	if (gmtime_r(&t, &tm))
		strftime(when, sizeof(when), "%Y-%m-%dT%H:%M:%SZ", &tm);
	return json_pack("{s:s, s:o, s:s, s:b, s:b}", "name", v->name, "size",
			 v->quota ? json_integer((json_int_t)v->quota) : json_null(), "created_at",
			 when, "in_use", v->in_use, "removable", v->client);
}

/* Where the namespace's volumes are, and the one of the call. */
static int volume_find(const struct rpc_call *c, char **parent, struct volume_info *v, struct err *e)
{
	int rc = volumes_parent_find(c->server->opt->home, c->ns, parent, e);

	return rc ? rc : volumes_get(*parent, rpc_string(c->params, "name"), v, e);
}

/* Also of a namespace that never had one. */
static int volume_make_parent(const struct rpc_call *c, char **parent, struct err *e)
{
	const char *home = c->server->opt->home;

	if (!c->server->opt->volumes.n)
		return err_set(e, EACCES,
			       "clients make no volumes here: who runs the server makes them, with "
			       "`msb volume create NAME --namespace %s`, or starts it with "
			       "--max-volumes",
			       c->ns);
	if (!volumes_parent_find(home, c->ns, parent, NULL))
		return 0;
	if (volumes_namespaces(home) >= VOLUMES_NAMESPACES_MAX)
		return err_set(e, EDQUOT, "too many namespaces have volumes (limit %u)",
			       VOLUMES_NAMESPACES_MAX);
	return volumes_parent(home, c->ns, parent, e);
}

void method_volume_create(struct rpc_call *c)
{
	const char *name = rpc_string(c->params, "name");
	auto_free char *parent = NULL;
	struct err e = ERR_INIT;
	struct volume_info v;
	double size = 0;
	int rc;

	rpc_number(c->params, "size", &size);
	rc = volume_make_parent(c, &parent, &e);
	if (!rc)
		rc = volumes_create(parent, name, (uint64_t)size, &c->server->opt->volumes, &e);
	if (!rc)
		rc = volumes_get(parent, name, &v, &e);
	if (rc)
		volume_fail(c, &e);
	else
		rpc_reply(c, volume_json(&v));
}

static void volume_list_one(void *ctx, const struct volume_info *v)
{
	json_array_append_new(ctx, volume_json(v));
}

void method_volume_list(struct rpc_call *c)
{
	json_t *list = json_array();
	auto_free char *parent = NULL;
	struct err e = ERR_INIT;
	int rc = volumes_parent_find(c->server->opt->home, c->ns, &parent, &e);

	if (!rc)
		rc = volumes_each(parent, volume_list_one, list, &e);
	if (rc && rc != -ENOENT) {
		json_decref(list);
		volume_fail(c, &e);
		return;
	}
	rpc_reply(c, json_pack("{s:o}", "volumes", list));
}

void method_volume_get(struct rpc_call *c)
{
	auto_free char *parent = NULL;
	struct err e = ERR_INIT;
	struct volume_info v;

	if (volume_find(c, &parent, &v, &e))
		volume_fail(c, &e);
	else
		rpc_reply(c, volume_json(&v));
}

/* ---- remove ------------------------------------------------------------------------------ */

struct volume_removal {
	struct list link; /* of server.volume_removals */
	struct server *server;
	struct rpc_call *call; /* NULL: the client is gone */
	struct loop_watch watch;
	struct child child;
	struct volume_info v;
};

static void volume_removal_free(struct volume_removal *r)
{
	list_remove(&r->link);
	r->server->n_volume_removals--;
	loop_watch_remove(&r->watch);
	child_kill(&r->child);
	free(r);
}

void volume_removals_fini(struct server *s)
{
	list_for_each (pos, tmp, &s->volume_removals)
		volume_removal_free(list_entry(pos, struct volume_removal, link));
}

static void volume_removal_cancel(struct rpc_call *c)
{
	struct volume_removal *r = c->state;

	r->call = NULL;
}

static void volume_removal_done(struct loop_watch *w, uint32_t events)
{
	struct volume_removal *r = container_of(w, struct volume_removal, watch);
	struct rpc_call *c = r->call;
	auto_free char *parent = NULL;
	struct volume_info v = r->v;
	struct err e = ERR_INIT;
	int status = 0;

	(void)events;
	loop_watch_remove(w);
	child_reap(&r->child, &status);
	volume_removal_free(r);
	if (!c)
		return;
	if (!status)
		rpc_reply(c, volume_json(&v));
	else if (!volume_find(c, &parent, &v, &e) && v.in_use)
		rpc_fail(c, JSONRPC_BAD_PARAMS,
			 "Invalid params: volume '%s' is in use: stop the sandboxes that have it",
			 v.name);
	else
		rpc_fail(c, JSONRPC_INTERNAL,
			 "Internal server error: volume '%s' could not be removed; try again",
			 v.name);
}

static int volume_removal_spawn(struct volume_removal *r, const char *ns, struct err *e)
{
	const struct child_fd fds[] = { { STDERR_FILENO, STDERR_FILENO } };
	auto_free char *self = NULL;
	int rc = parts_self(&self, e);
	char *argv[] = { (char *)"msb", (char *)"volume", (char *)"rm", (char *)"--namespace",
			 (char *)ns,    r->v.name,        NULL };
	const struct child_spec spec = {
		.path = self,
		.argv = argv,
		.envp = environ,
		.fds = fds,
		.n_fds = ARRAY_SIZE(fds),
		.new_session = true,
		.die_with_parent = true,
	};

	if (rc)
		return rc;
	rc = child_spawn(&spec, &r->child, e);
	if (rc)
		return rc;
	rc = loop_watch_add(r->server->loop, &r->watch, r->child.pidfd, EPOLLIN);
	return rc ? err_errno(e, -rc, "watch msb volume rm") : 0;
}

static int volume_may_remove(const struct rpc_call *c, const struct volume_info *v, struct err *e)
{
	if (!v->client || !c->server->opt->volumes.n)
		return err_set(e, EACCES,
			       "volume '%s' is none that clients may remove: who runs the server "
			       "does, with `msb volume rm %s --namespace %s`",
			       v->name, v->name, c->ns);
	if (v->in_use)
		return err_set(e, EBUSY, "volume '%s' is in use: stop the sandboxes that have it",
			       v->name);
	if (c->server->n_volume_removals >= VOLUME_REMOVALS_MAX)
		return err_set(e, EDQUOT, "%u volumes are being removed: wait for one of them",
			       VOLUME_REMOVALS_MAX);
	return 0;
}

void method_volume_remove(struct rpc_call *c)
{
	auto_free char *parent = NULL;
	struct volume_removal *r;
	struct err e = ERR_INIT;
	struct volume_info v;
	int rc = volume_find(c, &parent, &v, &e);

	if (!rc)
		rc = volume_may_remove(c, &v, &e);
	r = rc ? NULL : calloc(1, sizeof(*r));
	if (!r) {
		if (!rc)
			err_errno(&e, ENOMEM, "volume");
		volume_fail(c, &e);
		return;
	}
	r->server = c->server;
	r->child = (struct child)CHILD_INIT;
	r->v = v;
	loop_watch_init(&r->watch, volume_removal_done);
	list_append(&c->server->volume_removals, &r->link);
	c->server->n_volume_removals++;
	rc = volume_removal_spawn(r, c->ns, &e);
	if (rc) {
		volume_removal_free(r);
		volume_fail(c, &e);
		return;
	}
	r->call = c;
	c->state = r;
	c->cancel = volume_removal_cancel;
}
