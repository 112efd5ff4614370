/* SPDX-License-Identifier: Apache-2.0 */
/* `msb net`: the network of a sandbox while it runs. */
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "cli/cli.h"
#include "cli/net_opts.h"
#include "cli/print_json.h"
#include "cli/sandbox_find.h"
#include "lib/netcall.h"
#include "lib/portwait.h"

#define NET_TIMEOUT_MS 60000u

enum net_opt {
	NET_ALLOW,
	NET_DENY,
	NET_DEFAULT,
	NET_LIMIT,
	NET_CLEAR,
	NET_NAMESPACE,
	NET_PATH,
	NET_JSON,
	NET_TIMEOUT,
};

const struct cli_opt net_opts[] = {
	[NET_ALLOW] = { "net-allow", "allow", "", "RULE",
			"set: open a target: 'tcp example.org:443' (repeatable, first match "
			"counts)" },
	[NET_DENY] = { "net-deny", "deny", "", "RULE",
		       "set: shut a target: 'any:25', '10.0.0.0/8'" },
	[NET_DEFAULT] = { "net-default", "default", "", "ACTION",
			  "set: where no rule matches: allow, deny, 'in deny' (default: the "
			  "scope)" },
	[NET_LIMIT] = { "net-limit", "limit", "", "LIMIT",
			"set: 'in-bytes 10M', 'connects 50', 'connections 20' (repeatable)" },
	[NET_CLEAR] = { "clear", NULL, "", NULL, "set: no rules, the scope alone" },
	[NET_NAMESPACE] = { "namespace", NULL, "n", "NAME",
			    "a sandbox of this namespace of the server" },
	[NET_PATH] = { "path", NULL, "p", "DIR",
		       "where namespaces are kept (default: the running server's, or "
		       "~/.microsandbox/projects)" },
	[NET_JSON] = { "json", NULL, "", NULL, "show, set: for programs" },
	[NET_TIMEOUT] = { "timeout", NULL, "", "TIME", "wait: give up after (default 60s)" },
	{ NULL },
};

struct net_cmd {
	const struct cli_command *cmd;
	struct netpolicy rules;
	bool any_rule, clear, json;
	struct sandbox_find find;
	const char *port;
	uint64_t timeout_ms;
};

/* ---- printing -------------------------------------------------------------------------- */

static json_t *net_json_lines(const struct frame_str *s)
{
	json_t *a = json_array();
	const char *p = (const char *)s->p, *end = p + s->len;

	while (a && p < end) {
		const char *nl = memchr(p, '\n', (size_t)(end - p));
		const char *stop = nl ? nl : end;

		json_array_append_new(a, json_stringn(p, (size_t)(stop - p)));
		p = stop + 1;
	}
	return a;
}

/* "WORD REST" entries as one object. */
static json_t *net_json_pairs(struct frame_list l, bool number)
{
	json_t *o = json_object();
	struct frame_str s;
	char text[160], *space;

	while (frame_list_next(&l, &s)) {
		if (frame_str_copy(&s, text, sizeof(text)) || !(space = strchr(text, ' ')))
			continue;
		*space++ = '\0';
		json_object_set_new(o, text,
				    number ? json_integer((json_int_t)strtoll(space, NULL, 10))
					   : json_string(space));
	}
	return o;
}

static int net_print_json(const struct frame_net_state *st)
{
	json_t *j = json_pack("{s:s#, s:o, s:b, s:o, s:o, s:o}", "scope", st->scope.p,
			      (int)st->scope.len, "group",
			      st->group.len ? json_stringn((const char *)st->group.p, st->group.len)
					    : json_null(),
			      "closed", st->closed, "rules", net_json_lines(&st->rules), "counters",
			      net_json_pairs(st->counters, true), "members",
			      net_json_pairs(st->members, false));

	return print_json(j);
}

static void net_print_list(const char *title, struct frame_list l)
{
	struct frame_str s;

	while (frame_list_next(&l, &s)) {
		const uint8_t *space = memchr(s.p, ' ', s.len);
		int head = space ? (int)(space - s.p) : (int)s.len;

		printf("%-10s %-24.*s %.*s\n", title, head, (const char *)s.p,
		       (int)s.len - head - !!space, (const char *)s.p + head + !!space);
		title = "";
	}
}

static int net_print(const struct frame_net_state *st)
{
	const char *p = (const char *)st->rules.p, *end = p + st->rules.len;
	const char *title = "rules";

	printf("%-10s %.*s%s\n", "scope", (int)st->scope.len, (const char *)st->scope.p,
	       st->closed ? " (no way out: no rule can open anything)" : "");
	if (st->group.len)
		printf("%-10s %.*s\n", "group", (int)st->group.len, (const char *)st->group.p);
	while (p < end) {
		const char *nl = memchr(p, '\n', (size_t)(end - p));
		const char *stop = nl ? nl : end;

		printf("%-10s %.*s\n", title, (int)(stop - p), p);
		title = "";
		p = stop + 1;
	}
	net_print_list("members", st->members);
	net_print_list("counted", st->counters);
	return CLI_OK;
}

/* ---- commands --------------------------------------------------------------------------- */

static int net_ask(struct net_cmd *c, const char *rules)
{
	struct netcall answer;
	struct err e = ERR_INIT;
	auto_close int dirfd = sandbox_find(&c->find, &e);
	int status;

	if (dirfd < 0 || netcall(dirfd, rules, NET_TIMEOUT_MS, &answer, &e))
		return cli_fail(&e);
	status = c->json ? net_print_json(&answer.state) : net_print(&answer.state);
	netcall_fini(&answer);
	return status;
}

static int net_show(struct net_cmd *c)
{
	if (c->any_rule || c->clear)
		return cli_usage(c->cmd, "show takes no rules: see `msb net set`");
	return net_ask(c, NULL);
}

static int net_set(struct net_cmd *c)
{
	auto_free char *text = NULL;
	struct err e = ERR_INIT;

	if (c->any_rule == c->clear)
		return cli_usage(c->cmd, c->clear ? "give either rules or --clear"
						  : "set needs rules, all that are to hold, or "
						    "--clear");
	if (net_opts_text(&c->rules, &text, &e))
		return cli_fail(&e);
	return net_ask(c, text);
}

static int net_wait(struct net_cmd *c)
{
	struct err e = ERR_INIT;
	auto_close int dirfd = -1;
	uint64_t port;

	if (cli_parse_uint(c->port, 65535, &port) || !port)
		return cli_usage(c->cmd, "'%s' is no port", c->port);
	dirfd = sandbox_find(&c->find, &e);
	if (dirfd < 0 || port_wait(dirfd, (uint16_t)port, c->timeout_ms, &e))
		return cli_fail(&e);
	return CLI_OK;
}

static int net_option(struct net_cmd *c, int opt, const char *v)
{
	static const char *const words[] = { "allow", "deny", "default", "limit" };

	switch (opt) {
	case NET_ALLOW:
	case NET_DENY:
	case NET_DEFAULT:
	case NET_LIMIT:
		c->any_rule = true;
		return net_opts_add(c->cmd, net_opts[opt].name, words[opt], v, &c->rules);
	case NET_CLEAR:
		c->clear = true;
		return 0;
	case NET_NAMESPACE:
		c->find.ns = v;
		return cli_is_name(v) ? 0 : cli_usage(c->cmd, "--namespace is '%s': no name", v);
	case NET_PATH:
		c->find.path = v;
		return 0;
	case NET_TIMEOUT:
		if (cli_parse_duration(v, &c->timeout_ms) || !c->timeout_ms)
			return cli_usage(c->cmd, "--timeout is '%s': give seconds, or 1.5s, 2m", v);
		return 0;
	default:
		c->json = true;
		return 0;
	}
}

int cmd_net(const struct cli_command *cmd, int argc, char **argv)
{
	static const struct {
		const char *name;
		int words;
		int (*run)(struct net_cmd *c);
	} verbs[] = { { "show", 2, net_show }, { "set", 2, net_set }, { "wait", 3, net_wait } };
	struct net_cmd c = { .cmd = cmd, .timeout_ms = NET_TIMEOUT_MS };
	struct cli_args a;
	int opt, rc;

	cli_args_init(&a, cmd, argc, argv);
	while ((opt = cli_args_next(&a)) >= 0) {
		rc = net_option(&c, opt, a.value);
		if (rc)
			return rc;
	}
	if (opt != CLI_OPT_END)
		return cli_args_status(opt);
	for (size_t i = 0; i < ARRAY_SIZE(verbs) && a.n_words; i++) {
		if (strcmp(a.words[0], verbs[i].name))
			continue;
		if (a.n_words != verbs[i].words || a.rest)
			return cli_usage(cmd, "%s takes the name of one sandbox%s", verbs[i].name,
					 verbs[i].words == 3 ? " and a port" : "");
		c.find.name = a.words[1];
		c.port = a.n_words == 3 ? a.words[2] : NULL;
		return verbs[i].run(&c);
	}
	return cli_usage(cmd, "give show, set or wait, and the name of a sandbox");
}
