/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/netcall.h"

#include <errno.h>
#include <stdio.h>

#include "base/mem.h"
#include "lib/client.h"

struct netcall_ask {
	struct client client;
	struct client_channel channel;
	struct loop_timer timer;
	struct loop *loop;
	struct netcall answer;
	int rc;
	struct err *e;
};

static void netcall_end(struct netcall_ask *a, int rc)
{
	a->rc = rc;
	loop_stop(a->loop, 0);
}

static void netcall_on_state(struct client *c, const struct frame_sandbox_state *s)
{
	(void)c;
	(void)s;
}

static void netcall_on_closed(struct client *c, const char *reason)
{
	struct netcall_ask *a = container_of(c, struct netcall_ask, client);

	netcall_end(a, err_set(a->e, EPIPE, "%s", reason));
}

static void netcall_on_timeout(struct loop_timer *t)
{
	struct netcall_ask *a = container_of(t, struct netcall_ask, timer);

	netcall_end(a, err_set(a->e, ETIMEDOUT, "the sandbox does not answer"));
}

static const struct client_ops netcall_ops = {
	.on_state = netcall_on_state,
	.on_closed = netcall_on_closed,
};

/* Keeps the body, into which the state points. */
static int netcall_keep(struct netcall_ask *a, const struct frame *f)
{
	struct frame copy = *f;
	int rc = buf_append(&a->answer.body, f->body, f->len);

	if (rc)
		return err_errno(a->e, -rc, "network state");
	copy.body = buf_data(&a->answer.body);
	if (frame_decode(&copy, &a->answer.state, sizeof(a->answer.state)))
		return err_set(a->e, EPROTO, "the sandbox's supervisor gave an invalid answer");
	return 0;
}

static void netcall_on_frame(struct client_channel *ch, const struct frame *f)
{
	struct netcall_ask *a = container_of(ch, struct netcall_ask, channel);
	struct frame_error err;
	char text[1024];

	if (!frame_type_ends_channel(f->type))
		return;
	if (f->type == FRAME_NET_STATE) {
		netcall_end(a, netcall_keep(a, f));
		return;
	}
	if (f->type != FRAME_ERROR || frame_decode(f, &err, sizeof(err)) ||
	    frame_str_copy(&err.message, text, sizeof(text)))
		netcall_end(a, err_set(a->e, EPROTO,
				       "the sandbox's supervisor gave an invalid answer"));
	else
		netcall_end(a, err_set(a->e, err.code ? (int)err.code : EIO, "%s", text));
}

static int netcall_run(struct netcall_ask *a, int dirfd, const char *rules, unsigned timeout_ms)
{
	const struct frame_net_set set = { .rules = frame_str_of(rules) };
	int fd, rc = client_connect(dirfd, &fd, a->e);

	if (!rc)
		rc = client_init(&a->client, a->loop, fd, &netcall_ops, a->e);
	if (rc)
		return rc;
	rc = client_open(&a->client, &a->channel, rules ? FRAME_NET_SET : FRAME_NET_GET, &set);
	if (rc) {
		rc = err_errno(a->e, -rc, "network rules");
	} else {
		loop_timer_set(a->loop, &a->timer, timeout_ms);
		rc = loop_run(a->loop);
		rc = rc < 0 ? err_errno(a->e, -rc, "network state") : a->rc;
	}
	loop_timer_cancel(&a->timer);
	client_fini(&a->client);
	return rc;
}

int netcall(int dirfd, const char *rules, unsigned timeout_ms, struct netcall *out, struct err *e)
{
	struct netcall_ask a = { .channel.on_frame = netcall_on_frame, .e = e };
	int rc;

	buf_init(&a.answer.body, FRAME_BODY_MAX);
	list_init(&a.channel.link);
	loop_timer_init(&a.timer, netcall_on_timeout);
	rc = loop_create(&a.loop, e);
	if (!rc) {
		rc = netcall_run(&a, dirfd, rules, timeout_ms);
		loop_destroy(a.loop);
	}
	if (rc)
		netcall_fini(&a.answer);
	else
		*out = a.answer;
	return rc;
}

void netcall_fini(struct netcall *n)
{
	buf_fini(&n->body);
	n->state = (struct frame_net_state){ .closed = 0 };
}
