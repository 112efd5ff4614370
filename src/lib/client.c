/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/client.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "codec/sandbox_config.h"

#define CLIENT_IN_MAX (FRAME_HEADER_SIZE + FRAME_BODY_MAX + 64u * 1024)
#define CLIENT_OUT_MAX (64u << 20)

static void client_gone(struct client *c, const char *reason)
{
	if (c->closed)
		return;
	c->closed = true;
	stream_pause(&c->stream, true); /* what is left unread must not wake us */
	list_for_each (pos, tmp, &c->channels) {
		struct client_channel *ch = list_entry(pos, struct client_channel, link);

		list_remove(&ch->link);
		ch->client = NULL;
	}
	c->ops->on_closed(c, reason);
}

static void client_link_frame(struct client *c, const struct frame *f)
{
	struct frame_sandbox_state state;
	struct frame_error err;
	char text[512];

	switch (f->type) {
	case FRAME_SANDBOX_STATE:
		if (!frame_decode(f, &state, sizeof(state)))
			c->ops->on_state(c, &state);
		return;
	case FRAME_ERROR:
		if (frame_decode(f, &err, sizeof(err)) ||
		    frame_str_copy(&err.message, text, sizeof(text)))
			snprintf(text, sizeof(text), "the sandbox refused the connection");
		client_gone(c, text);
		return;
	default: /* HELLO_ACK, PONG */
		return;
	}
}

static void client_channel_frame(struct client *c, const struct frame *f)
{
	list_for_each (pos, tmp, &c->channels) {
		struct client_channel *ch = list_entry(pos, struct client_channel, link);

		if (ch->number != f->channel)
			continue;
		if (frame_type_ends_channel(f->type)) {
			list_remove(&ch->link);
			ch->client = NULL;
		}
		ch->on_frame(ch, f);
		return;
	}
}

static int client_data(struct stream *s)
{
	struct client *c = container_of(s, struct client, stream);
	struct frame f;

	while (!c->closed) {
		int n = frame_parse(buf_data(&s->in), buf_len(&s->in), &f);

		if (!n)
			return 0;
		if (n < 0) {
			client_gone(c, "the supervisor broke the protocol");
			break;
		}
		if (f.channel)
			client_channel_frame(c, &f);
		else
			client_link_frame(c, &f);
		if (!c->closed)
			buf_consume(&s->in, (size_t)n);
	}
	return -EPIPE;
}

static void client_stream_closed(struct stream *s, int error)
{
	struct client *c = container_of(s, struct client, stream);

	client_gone(c, error ? strerror(error) : "the sandbox's supervisor ended unexpectedly");
}

int client_init(struct client *c, struct loop *l, int fd, const struct client_ops *ops,
		struct err *e)
{
	struct frame_hello h = {
		.version = FRAME_VERSION,
		.version_min = FRAME_VERSION,
		.link = LINK_CLIENT,
	};
	int rc;

	*c = (struct client){ .ops = ops, .next_number = 1 };
	list_init(&c->channels);
	c->stream.on_data = client_data;
	c->stream.on_close = client_stream_closed;
	rc = stream_init(&c->stream, l, fd, CLIENT_IN_MAX, CLIENT_OUT_MAX, e);
	if (rc) {
		stream_fini(&c->stream);
		return rc;
	}
	memcpy(h.magic, FRAME_MAGIC, FRAME_MAGIC_SIZE);
	if (getrandom(&h.generation, sizeof(h.generation), 0) < 0)
		h.generation = loop_now_ns();
	rc = frame_encode(&c->stream.out, 0, FRAME_HELLO, 0, &h);
	if (rc)
		return err_errno(e, -rc, "hello");
	stream_flush(&c->stream);
	return 0;
}

void client_fini(struct client *c)
{
	c->closed = true;
	stream_fini(&c->stream);
}

int client_connect(int dirfd, int *out, struct err *e)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	auto_close int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	snprintf(sa.sun_path, sizeof(sa.sun_path), "/proc/self/fd/%d/" SANDBOX_CTL_SOCK, dirfd);
	if (fd < 0 || connect(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0)
		return err_errno(e, errno, "cannot reach the sandbox's supervisor");
	*out = take_fd(&fd);
	return 0;
}

int client_supervisor(int fd, int *pidfd, struct err *e)
{
	struct ucred cred;
	socklen_t len = sizeof(cred);
	char byte;
	int p;

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) < 0)
		return err_errno(e, errno, "cannot find the sandbox's supervisor");
	p = pidfd_open(cred.pid, 0);
	if (p < 0)
		return err_errno(e, errno, "cannot find the sandbox's supervisor");
	/* Still connected: so the process with that number is still the one that listens. */
	if (recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) == 0) {
		close(p);
		return err_set(e, ESRCH, "the sandbox's supervisor has just ended");
	}
	*pidfd = p;
	return 0;
}

int client_open(struct client *c, struct client_channel *ch, uint16_t type, const void *msg)
{
	int rc;

	if (c->closed)
		return -EPIPE;
	ch->number = c->next_number++;
	if (!c->next_number)
		c->next_number = 1; /* 0 is the link; those of long ago are free again */
	rc = frame_encode(&c->stream.out, ch->number, type, 0, msg);
	if (rc)
		return rc;
	ch->client = c;
	list_append(&c->channels, &ch->link);
	stream_flush(&c->stream);
	return 0;
}

int client_send(struct client_channel *ch, uint16_t type, uint16_t flags, const void *msg)
{
	int rc;

	if (!ch->client)
		return 0;
	rc = frame_encode(&ch->client->stream.out, ch->number, type, flags, msg);
	if (!rc)
		stream_flush(&ch->client->stream);
	return rc;
}

int client_send_data(struct client_channel *ch, const void *p, size_t n)
{
	int rc;

	if (!ch->client)
		return 0;
	rc = frame_encode_raw(&ch->client->stream.out, ch->number, FRAME_DATA, STREAM_IN, p, n);
	if (!rc)
		stream_flush(&ch->client->stream);
	return rc;
}

int client_credit(struct client_channel *ch, uint16_t stream, uint32_t bytes)
{
	struct frame_credit credit = { .bytes = bytes };

	return client_send(ch, FRAME_CREDIT, stream, &credit);
}

void client_close(struct client_channel *ch)
{
	if (!ch->client)
		return;
	client_send(ch, FRAME_CLOSE, 0, NULL);
	list_remove(&ch->link);
	ch->client = NULL;
}

void client_hold(struct client *c, bool hold)
{
	struct frame_sandbox_hold h = { .hold = hold };

	if (c->closed)
		return;
	frame_encode(&c->stream.out, 0, FRAME_SANDBOX_HOLD, 0, &h);
	stream_flush(&c->stream);
}

void client_stop(struct client *c, uint32_t grace_ms)
{
	struct frame_sandbox_stop s = { .grace_ms = grace_ms };

	if (c->closed)
		return;
	frame_encode(&c->stream.out, 0, FRAME_SANDBOX_STOP, 0, &s);
	stream_flush(&c->stream);
}
