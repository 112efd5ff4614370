/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DOC: Theory of operation
 *
 * Purpose
 *   Turns a byte stream (a virtio-console port, in tests a socket) into frames and
 *   back.  One object per port, for the life of the agent.
 *
 * States
 *   Unsynced until a HELLO is found among the bytes; whatever comes before it is
 *   dropped.  Synced after that.  A hang-up of the host, a broken rule and a new
 *   HELLO each end all channels of the connection and make the link unsynced.
 *
 * Events
 *   A port whose host side is closed reports EPOLLHUP for as long as it is closed.
 *   Ports are therefore watched edge-triggered, and every event is used up: read
 *   until EAGAIN, written until EAGAIN.
 *
 *   A hang-up counts only as a change: data of a new connection can be there before the
 *   driver has handled the message that the port is open, and the port still reports the
 *   hang-up of before.
 *
 * Limits
 *   `in` holds at most one frame and one read.  Streams stop reading their pipes when
 *   `out` holds LINK_OUT_HIGH; requests are no longer read when it holds LINK_OUT_STOP,
 *   so that a host that sends and never reads makes us hold a bounded amount.
 *
 * Not implemented
 *   If the host is replaced in the middle of a frame, and the port's hang-up and its
 *   reopening fall together before we look, the new HELLO is taken for the rest of that
 *   frame.  Supervisors do not reconnect in the middle of a frame; a test client may
 *   have to say HELLO twice.
 */
#include "agent/agent.h"

#include <errno.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"

#define LINK_READ_CHUNK (32u * 1024)
#define LINK_READ_TURN (1024u * 1024) /* bytes read before others get their turn */
#define LINK_OUT_HIGH (256u * 1024)
#define LINK_OUT_STOP (1024u * 1024)
#define LINK_OUT_MAX (4u * 1024 * 1024)
#define LINK_HELLO_MAX 4096u /* a HELLO with a longer body is none */

#define LINK_EVENTS (EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET)

void link_reset(struct link *l)
{
	l->synced = false;
	l->broken = false;
	buf_reset(&l->in);
	buf_reset(&l->out);
	while (!list_empty(&l->channels)) {
		struct channel *c = list_entry(l->channels.next, struct channel, node);

		list_remove(&c->node);
		l->n_channels--;
		c->link = NULL;
		c->ops->lost(c);
	}
}

static void link_unsynced_input(struct link *l)
{
	struct frame f;
	int n;

	while (!l->synced) {
		buf_consume(&l->in, frame_sync(buf_data(&l->in), buf_len(&l->in), FRAME_HELLO));
		n = frame_parse(buf_data(&l->in), buf_len(&l->in), &f);
		if (!n && buf_len(&l->in) < FRAME_HEADER_SIZE)
			return;
		if (!n) {
			const uint8_t *p = buf_data(&l->in);
			uint32_t len = p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 |
				       (uint32_t)p[3] << 24;

			if (len <= LINK_HELLO_MAX)
				return;
		}
		/* agent_hello() answers on success, so the frame is used up before. */
		if (n > 0 && f.len <= LINK_HELLO_MAX && !agent_hello(l, &f)) {
			l->synced = true;
			buf_consume(&l->in, (size_t)n);
		} else {
			buf_consume(&l->in, n > 0 ? (size_t)n : 1);
		}
	}
}

static void link_input(struct link *l)
{
	struct err e = ERR_INIT;
	struct frame f;
	int n;

	while (buf_len(&l->in) && !l->broken) {
		if (!l->synced) {
			link_unsynced_input(l);
			if (!l->synced)
				return;
			continue;
		}
		n = frame_parse(buf_data(&l->in), buf_len(&l->in), &f);
		if (!n)
			return;
		if (n < 0) {
			err_set(&e, EPROTO, "malformed frame: the link starts again with a HELLO");
			log_warn("event=bad_frame link=%d", l->kind);
			link_reset(l);
			link_send_error(l, 0, &e);
			return;
		}
		if (f.type == FRAME_HELLO && !f.channel) {
			/* A new connection: let the unsynced path find this frame again. */
			struct buf rest = l->in;

			l->in = (struct buf){ .max = rest.max };
			link_reset(l);
			l->in = rest;
			continue;
		}
		agent_frame(l, &f);
		/* A frame that ended the link also dropped the bytes after it. */
		if (!l->synced)
			return;
		buf_consume(&l->in, (size_t)n);
	}
}

/*
 * The host side is closed.  While it was so already that is no news: the bytes of a new
 * connection can arrive before the kernel has heard that the port was opened.
 */
static void link_hangup(struct link *l)
{
	if (l->open)
		link_reset(l);
	l->open = false;
}

static void link_read(struct link *l)
{
	size_t total = 0;
	uint8_t *p;
	ssize_t n;

	while (l->watch.fd >= 0) {
		l->paused = buf_len(&l->out) > LINK_OUT_STOP;
		if (l->paused)
			return;
		if (total > LINK_READ_TURN) {
			/* Added anew, an edge-triggered watch reports what is there. */
			loop_watch_remove(&l->watch);
			if (loop_watch_add(l->agent->loop, &l->watch, l->fd, LINK_EVENTS))
				log_err("event=link_watch link=%d: %m", l->kind);
			return;
		}
		if (buf_reserve(&l->in, LINK_READ_CHUNK, &p)) {
			l->broken = true;
			return;
		}
		n = read(l->fd, p, LINK_READ_CHUNK);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return;
		if (n <= 0) {
			link_hangup(l);
			return;
		}
		buf_commit(&l->in, (size_t)n);
		total += (size_t)n;
		link_input(l);
	}
}

static void link_event(struct loop_watch *w, uint32_t events)
{
	struct link *l = container_of(w, struct link, watch);
	bool hangup = events & (EPOLLHUP | EPOLLERR);

	if (!hangup)
		l->open = true;
	if (hangup || events & (EPOLLIN | EPOLLRDHUP))
		link_read(l);
	if (hangup)
		link_hangup(l);
}

static void link_write(struct link *l)
{
	while (buf_len(&l->out)) {
		ssize_t n = write(l->fd, buf_data(&l->out), buf_len(&l->out));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno != EAGAIN)
			l->broken = true;
		if (n <= 0)
			return;
		buf_consume(&l->out, (size_t)n);
	}
}

void link_flush(struct link *l)
{
	if (l->broken) {
		log_warn("event=link_reset link=%d", l->kind);
		link_reset(l);
		return;
	}
	link_write(l);
	/* Room again: first those who already waited, in their order. */
	while (!list_empty(&l->waiting) && link_has_room(l)) {
		struct waiter *x = list_entry(l->waiting.next, struct waiter, link);

		list_remove(&x->link);
		x->resume(x);
		if (!link_has_room(l))
			link_write(l);
	}
	link_write(l);
	if (l->paused && buf_len(&l->out) <= LINK_OUT_STOP)
		link_read(l);
}

bool link_has_room(const struct link *l)
{
	return buf_len(&l->out) < LINK_OUT_HIGH;
}

void link_send(struct link *l, uint32_t channel, uint16_t type, const void *msg)
{
	if (frame_encode(&l->out, channel, type, 0, msg))
		l->broken = true;
}

void link_send_error(struct link *l, uint32_t channel, const struct err *e)
{
	struct frame_error m = {
		.code = (uint32_t)(e->code ? e->code : EIO),
		.message = frame_str_of(err_text(e)),
	};

	link_send(l, channel, FRAME_ERROR, &m);
}

void link_open(struct link *l, struct channel *c, uint32_t id, const struct channel_ops *ops)
{
	c->link = l;
	c->id = id;
	c->ops = ops;
	list_append(&l->channels, &c->node);
	l->n_channels++;
}

void channel_send(struct channel *c, uint16_t type, uint16_t flags, const void *msg)
{
	if (c->link && frame_encode(&c->link->out, c->id, type, flags, msg))
		c->link->broken = true;
}

void channel_finish(struct channel *c, uint16_t type, const void *msg)
{
	struct link *l = c->link;

	if (!l)
		return;
	channel_send(c, type, 0, msg);
	c->link = NULL;
	list_remove(&c->node);
	l->n_channels--;
}

void channel_fail(struct channel *c, const struct err *e)
{
	struct link *l = c->link;

	if (!l)
		return;
	link_send_error(l, c->id, e);
	c->link = NULL;
	list_remove(&c->node);
	l->n_channels--;
}

int link_create(struct agent *a, enum frame_link kind, int fd, struct err *e)
{
	auto_close int own = fd;
	auto_free struct link *l = calloc(1, sizeof(*l));
	int rc;

	if (!l)
		return err_errno(e, ENOMEM, "agent: link");
	l->agent = a;
	l->kind = kind;
	l->fd = own;
	buf_init(&l->in, FRAME_HEADER_SIZE + FRAME_BODY_MAX + LINK_READ_CHUNK);
	buf_init(&l->out, LINK_OUT_MAX);
	list_init(&l->channels);
	list_init(&l->waiting);
	list_init(&l->node);
	loop_watch_init(&l->watch, link_event);
	rc = loop_watch_add(a->loop, &l->watch, own, LINK_EVENTS);
	if (rc)
		return err_errno(e, -rc, "agent: watch link %d", kind);
	take_fd(&own);
	list_append(&a->links, &l->node);
	take_ptr(&l);
	return 0;
}

void link_destroy(struct link *l)
{
	link_reset(l);
	loop_watch_remove(&l->watch);
	list_remove(&l->node);
	close(l->fd);
	free(l);
}
