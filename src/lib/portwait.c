/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/portwait.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"

#define PORT_TEXT_MAX (1u << 20) /* some 7000 sockets */

static const char *const port_files[] = { "/proc/net/tcp", "/proc/net/tcp6" };

static int port_ask_open(struct port_ask *a);

static void port_ask_done(struct port_ask *a, int state)
{
	port_ask_end(a);
	a->done(a, state);
}

/* A file has come to its end. */
static void port_ask_next(struct port_ask *a)
{
	int s = (int)procnet_listens((const char *)buf_data(&a->text), buf_len(&a->text), a->port);
	int rc;

	if (s > a->most)
		a->most = s;
	buf_reset(&a->text);
	if (a->most == PROCNET_OPEN || ++a->file == ARRAY_SIZE(port_files)) {
		port_ask_done(a, a->most);
		return;
	}
	rc = port_ask_open(a);
	if (rc)
		port_ask_done(a, rc);
}

static void port_ask_frame(struct client_channel *ch, const struct frame *f)
{
	struct port_ask *a = container_of(ch, struct port_ask, channel);
	struct frame_error err;

	switch (f->type) {
	case FRAME_DATA:
		if (buf_append(&a->text, f->body, f->len))
			port_ask_done(a, -EFBIG);
		else
			client_credit(ch, STREAM_OUT, f->len);
		return;
	case FRAME_ERROR:
		/* A kernel without IPv6 has one file. */
		if (!frame_decode(f, &err, sizeof(err)) && err.code == ENOENT && a->file)
			port_ask_next(a);
		else
			port_ask_done(a, -EIO);
		return;
	default:
		if (frame_type_ends_channel(f->type))
			port_ask_next(a);
	}
}

static int port_ask_open(struct port_ask *a)
{
	const struct frame_file file = {
		.path = frame_str_of(port_files[a->file]),
		.user = frame_str_of(""),
		.to = frame_str_of(""),
	};

	return client_open(a->client, &a->channel, FRAME_FILE_READ, &file);
}

int port_ask_start(struct port_ask *a, struct client *c, uint16_t port)
{
	a->client = c;
	a->port = port;
	a->file = 0;
	a->most = PROCNET_SHUT;
	a->channel = (struct client_channel){ .on_frame = port_ask_frame };
	list_init(&a->channel.link);
	buf_init(&a->text, PORT_TEXT_MAX);
	return port_ask_open(a);
}

void port_ask_end(struct port_ask *a)
{
	client_close(&a->channel);
	buf_fini(&a->text);
	buf_init(&a->text, PORT_TEXT_MAX);
}

/* ---- waiting ----------------------------------------------------------------------------- */

struct port_waiter {
	struct loop *loop;
	struct client client;
	struct port_ask ask;
	struct loop_timer again, deadline;
	unsigned wait_ms;
	int state; /* of the last answer */
	int rc;
	struct err *e;
};

static void port_wait_end(struct port_waiter *w, int rc)
{
	w->rc = rc;
	loop_stop(w->loop, 0);
}

static void port_wait_answer(struct port_ask *a, int state)
{
	struct port_waiter *w = container_of(a, struct port_waiter, ask);

	w->state = state;
	if (state == PROCNET_OPEN) {
		port_wait_end(w, 0);
		return;
	}
	loop_timer_set(w->loop, &w->again, w->wait_ms);
	w->wait_ms = w->wait_ms * 2 < PORT_WAIT_MAX_MS ? w->wait_ms * 2 : PORT_WAIT_MAX_MS;
}

static void port_wait_again(struct loop_timer *t)
{
	struct port_waiter *w = container_of(t, struct port_waiter, again);
	int rc = port_ask_start(&w->ask, &w->client, w->ask.port);

	if (rc)
		port_wait_end(w, err_errno(w->e, -rc, "port %u", w->ask.port));
}

static void port_wait_over(struct loop_timer *t)
{
	struct port_waiter *w = container_of(t, struct port_waiter, deadline);

	port_wait_end(w, err_set(w->e, ETIMEDOUT,
				 w->state == PROCNET_LOCAL
					 ? "only the sandbox itself is served on port %u: let the "
					   "program listen on 0.0.0.0"
					 : "nothing listens on port %u",
				 w->ask.port));
}

static void port_wait_state(struct client *c, const struct frame_sandbox_state *s)
{
	(void)c;
	(void)s;
}

static void port_wait_closed(struct client *c, const char *reason)
{
	struct port_waiter *w = container_of(c, struct port_waiter, client);

	port_wait_end(w, err_set(w->e, EPIPE, "%s", reason));
}

static const struct client_ops port_wait_ops = {
	.on_state = port_wait_state,
	.on_closed = port_wait_closed,
};

static int port_wait_run(struct port_waiter *w, int dirfd, uint16_t port, uint64_t timeout_ms)
{
	int fd, rc = client_connect(dirfd, &fd, w->e);

	if (!rc)
		rc = client_init(&w->client, w->loop, fd, &port_wait_ops, w->e);
	if (rc)
		return rc;
	rc = port_ask_start(&w->ask, &w->client, port);
	if (rc) {
		rc = err_errno(w->e, -rc, "port %u", port);
	} else {
		loop_timer_set(w->loop, &w->deadline, timeout_ms);
		rc = loop_run(w->loop);
		rc = rc < 0 ? err_errno(w->e, -rc, "port %u", port) : w->rc;
	}
	port_ask_end(&w->ask);
	loop_timer_cancel(&w->again);
	loop_timer_cancel(&w->deadline);
	client_fini(&w->client);
	return rc;
}

int port_wait(int dirfd, uint16_t port, uint64_t timeout_ms, struct err *e)
{
	struct port_waiter w = {
		.ask.done = port_wait_answer,
		.wait_ms = PORT_WAIT_MIN_MS,
		.e = e,
	};
	int rc = loop_create(&w.loop, e);

	if (rc)
		return rc;
	loop_timer_init(&w.again, port_wait_again);
	loop_timer_init(&w.deadline, port_wait_over);
	rc = port_wait_run(&w, dirfd, port, timeout_ms);
	loop_destroy(w.loop);
	return rc;
}
