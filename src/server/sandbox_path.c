/* SPDX-License-Identifier: Apache-2.0 */
#include "server/sandbox_path.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"

#define SANDBOX_PATH_PREFIX "/api/v1/sandboxes/"

/* Length of the name that @p begins with: letters, digits, - and _; 0 = it is none. */
static size_t sandbox_path_name(const char *p)
{
	static const char set[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
	size_t n = strspn(p, set);

	return *p == '-' || *p == '_' || n >= RPC_NAME_SIZE ? 0 : n;
}

bool sandbox_path_match(const char *pattern, const char *path)
{
	const char *star = strchr(pattern, '*');
	size_t before, name;

	if (!star)
		return !strcmp(pattern, path);
	before = (size_t)(star - pattern);
	if (strncmp(pattern, path, before))
		return false;
	name = sandbox_path_name(path + before);
	return name && !strcmp(star + 1, path + before + name);
}

void sandbox_path_bad(struct conn *c, const struct err *e)
{
	http_api_fail(c, 400, 2001, NULL, err_text(e));
}

/* Return: is the namespace one, and may the client use it? */
static bool sandbox_path_namespace(struct conn *c, const struct principal *who,
				   struct sandbox_target *t)
{
	const char *asked = query_get(&t->query, "namespace");
	struct err e = ERR_INIT;

	if (asked && (!*asked || sandbox_path_name(asked) != strlen(asked))) {
		err_set(&e, EINVAL,
			"namespace must be a name: letters, digits, - and _, at most 63");
		sandbox_path_bad(c, &e);
		return false;
	}
	if (rpc_namespace(who, asked, t->ns))
		return true;
	err_set(&e, EPERM, "Access denied: the key is for namespace %s", who->ns);
	c->server->count.denied++;
	http_api_fail(c, 403, 3001, NULL, err_text(&e));
	return false;
}

/* All the names that the query may have. */
static void sandbox_path_params(const char *const *params, const char **all, size_t max)
{
	size_t n = 0;

	all[n++] = "namespace";
	while (*params && n + 1 < max)
		all[n++] = *params++;
	all[n] = NULL;
}

void sandbox_path_audit(struct server *s, const struct sandbox_target *t, const char *method,
			enum audit_outcome outcome, int code)
{
	const struct audit_entry x = {
		.who = &t->who,
		.ns = t->ns,
		.method = method,
		.sandbox = t->name,
		.outcome = outcome,
		.code = code,
		.duration_ns = loop_now_ns() - t->started_ns,
	};

	audit_write(&s->audit, &x);
}

bool sandbox_path_find(struct conn *c, const char *const *params, struct sandbox_target *t)
{
	const struct http_request *q = &c->reader.request;
	const char *name = q->path + strlen(SANDBOX_PATH_PREFIX);
	const char *all[QUERY_PARAMS_MAX];
	struct err e = ERR_INIT;

	*t = (struct sandbox_target){ .started_ns = loop_now_ns() };
	if (!http_api_who(c, &t->who))
		return false;
	c->server->count.calls++;
	sandbox_path_params(params, all, ARRAY_SIZE(all));
	if (query_parse(&t->query, q->query, all, &e)) {
		sandbox_path_bad(c, &e);
		return false;
	}
	snprintf(t->name, sizeof(t->name), "%.*s", (int)sandbox_path_name(name), name);
	if (!sandbox_path_namespace(c, &t->who, t))
		return false;
	if (c->server->stopping) {
		http_api_fail(c, 503, 5003, NULL, "the server is ending");
		return false;
	}
	t->box = box_find_running(c->server, t->ns, t->name, &e);
	if (!t->box && e.code == EBUSY)
		http_api_fail(c, 503, 5003, NULL, err_text(&e));
	else if (!t->box)
		http_api_fail(c, 404, 4001, NULL, err_text(&e));
	return t->box != NULL;
}
