/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sandbox.network.get and .set: the rules of a running sandbox's network, and what it was
 * denied.  The supervisor has both (sandbox/netctl.h); they are asked of it in one request.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "server/api.h"
#include "server/box.h"

struct net {
	struct rpc_call *call;
	struct box *box;
	struct box_call in_box;
	struct client_channel channel;
	struct corpse corpse;
};

static void net_free(struct corpse *c)
{
	free(container_of(c, struct net, corpse));
}

static struct rpc_call *net_end(struct net *n)
{
	struct rpc_call *c = n->call;

	box_call_end(&n->in_box);
	client_close(&n->channel);
	server_bury(c->server, &n->corpse, net_free);
	return c;
}

static void net_cancel(struct rpc_call *c)
{
	net_end(c->state);
}

static void net_gone(struct box_call *in_box, const char *reason)
{
	struct net *n = container_of(in_box, struct net, in_box);

	rpc_fail(net_end(n), RPC_SANDBOX_FAILED, "Sandbox %s ended: %s", n->box->name, reason);
}

/* "WORD REST" as an object; NULL if it is not so. */
static json_t *net_pair(const struct frame_str *s, const char *word, const char *rest, bool number)
{
	const uint8_t *space = s->len ? memchr(s->p, ' ', s->len) : NULL;
	size_t head = space ? (size_t)(space - s->p) : 0;
	char text[128];

	if (!space || frame_str_copy(s, text, sizeof(text)))
		return NULL;
	text[head] = '\0';
	if (!number)
		return json_pack("{s:s, s:s}", word, text, rest, text + head + 1);
	return json_pack("{s:s, s:I}", word, text, rest,
			 (json_int_t)strtoll(text + head + 1, NULL, 10));
}

static json_t *net_pairs(struct frame_list l, const char *word, const char *rest, bool number)
{
	json_t *a = json_array();
	struct frame_str s;

	while (frame_list_next(&l, &s)) {
		json_t *o = net_pair(&s, word, rest, number);

		if (o)
			json_array_append_new(a, o);
	}
	return a;
}

static json_t *net_info(const struct frame_net_state *st)
{
	json_t *group = st->group.len ? json_stringn((const char *)st->group.p, st->group.len)
				      : json_null();

	return json_pack("{s:s#, s:o, s:b, s:o, s:o, s:o}", "scope", st->scope.p,
			 (int)st->scope.len, "group", group, "closed", st->closed, "rules",
			 box_network_lines((const char *)st->rules.p, st->rules.len), "counters",
			 net_pairs(st->counters, "name", "count", true), "members",
			 net_pairs(st->members, "name", "address", false));
}

static void net_frame(struct client_channel *ch, const struct frame *f)
{
	struct net *n = container_of(ch, struct net, channel);
	struct frame_net_state st;
	struct frame_error err;
	char text[1024];

	if (!frame_type_ends_channel(f->type))
		return;
	if (f->type == FRAME_NET_STATE && !frame_decode(f, &st, sizeof(st))) {
		rpc_reply(net_end(n), net_info(&st));
		return;
	}
	if (f->type != FRAME_ERROR || frame_decode(f, &err, sizeof(err)) ||
	    frame_str_copy(&err.message, text, sizeof(text))) {
		rpc_fail(net_end(n), RPC_SANDBOX_FAILED, "Sandbox %s sent an invalid answer",
			 n->box->name);
		return;
	}
	/* EINVAL: the rules are none, or none that this sandbox can have. */
	if (err.code == EINVAL)
		rpc_fail(net_end(n), JSONRPC_BAD_PARAMS, "Invalid params: %s", text);
	else
		rpc_fail(net_end(n), RPC_SANDBOX_FAILED, "Sandbox %s: %s", n->box->name, text);
}

static void net_ask(struct rpc_call *c, uint16_t type, const void *msg)
{
	struct err e = ERR_INIT;
	struct box *b = box_find_running(c->server, c->ns, rpc_string(c->params, "sandbox"), &e);
	struct net *n = b ? calloc(1, sizeof(*n)) : NULL;

	if (!n) {
		if (b)
			rpc_fail(c, JSONRPC_INTERNAL, "Internal server error: out of memory");
		else
			rpc_fail(c, e.code == EBUSY ? RPC_LIMIT : RPC_NOT_FOUND, "%s", err_text(&e));
		return;
	}
	n->call = c;
	n->box = b;
	n->channel.on_frame = net_frame;
	n->in_box.gone = net_gone;
	c->state = n;
	c->cancel = net_cancel;
	box_call_begin(b, &n->in_box);
	if (client_open(&b->client, &n->channel, type, msg))
		rpc_fail(net_end(n), RPC_SANDBOX_FAILED, "Sandbox %s is ending", b->name);
}

void method_sandbox_network_get(struct rpc_call *c)
{
	net_ask(c, FRAME_NET_GET, NULL);
}

void method_sandbox_network_set(struct rpc_call *c)
{
	struct frame_net_set set = { .rules = frame_str_of("") };
	auto_free char *text = NULL;
	struct err e = ERR_INIT;

	if (box_network_text(json_object_get(c->params, "rules"), "rules", &text, &e)) {
		rpc_fail(c, JSONRPC_BAD_PARAMS, "Invalid params: %s", err_text(&e));
		return;
	}
	set.rules = frame_str_of(text);
	net_ask(c, FRAME_NET_SET, &set);
}
