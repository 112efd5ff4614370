/* SPDX-License-Identifier: Apache-2.0 */
#include "sys/stream.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#define STREAM_READ_CHUNK (64u * 1024)

static void stream_fail(struct stream *s, int error)
{
	if (s->failed)
		return;
	s->failed = true;
	loop_watch_remove(&s->watch);
	s->on_close(s, error);
}

static bool stream_wants(const struct stream *s)
{
	return !s->paused && (!s->in.max || buf_len(&s->in) < s->in.max);
}

static void stream_update(struct stream *s)
{
	uint32_t events = 0;

	if (s->fd < 0 || s->failed)
		return;
	if (stream_wants(s))
		events |= EPOLLIN;
	if (buf_len(&s->out))
		events |= EPOLLOUT;
	loop_watch_set(&s->watch, events);
}

/* Return: false if the stream is gone. */
static bool stream_deliver(struct stream *s)
{
	if (!buf_len(&s->in) || s->paused)
		return true;
	return s->on_data(s) >= 0;
}

static bool stream_read(struct stream *s)
{
	size_t room = STREAM_READ_CHUNK;
	uint8_t *to;
	ssize_t n;

	if (s->in.max && s->in.max - buf_len(&s->in) < room)
		room = s->in.max - buf_len(&s->in);
	if (!room)
		return true;
	if (buf_reserve(&s->in, room, &to)) {
		stream_fail(s, ENOMEM);
		return false;
	}
	n = read(s->fd, to, room);
	if (n > 0) {
		buf_commit(&s->in, (size_t)n);
		return stream_deliver(s);
	}
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return true;
	stream_fail(s, n < 0 ? errno : 0);
	return false;
}

static void stream_write(struct stream *s)
{
	bool had = buf_len(&s->out) > 0;

	while (buf_len(&s->out) && !s->deaf) {
		ssize_t n = write(s->fd, buf_data(&s->out), buf_len(&s->out));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			break;
		if (n < 0 && (errno == EPIPE || errno == ECONNRESET))
			s->deaf = true;
		else if (n < 0) {
			stream_fail(s, errno);
			return;
		}
		if (s->deaf)
			break;
		buf_consume(&s->out, (size_t)n);
		s->written += (uint64_t)n;
	}
	if (s->deaf)
		buf_reset(&s->out);
	stream_update(s);
	if (had && !buf_len(&s->out) && s->on_drain)
		s->on_drain(s);
}

static void stream_event(struct loop_watch *w, uint32_t events)
{
	struct stream *s = container_of(w, struct stream, watch);

	/*
	 * A hang-up with reading paused, or with no room left, cannot be read to its end,
	 * and epoll would report it for ever: it ends the stream.
	 */
	if (events & (EPOLLIN | EPOLLHUP | EPOLLERR)) {
		if (!stream_wants(s) && events & (EPOLLHUP | EPOLLERR)) {
			stream_fail(s, events & EPOLLERR ? EPIPE : 0);
			return;
		}
		if (!s->paused && !stream_read(s))
			return;
	}
	if (s->fd >= 0 && !s->failed && events & EPOLLOUT)
		stream_write(s);
	else
		stream_update(s);
}

int stream_init(struct stream *s, struct loop *l, int fd, size_t in_max, size_t out_max,
		struct err *e)
{
	int flags = fcntl(fd, F_GETFL), rc;

	s->fd = fd;
	s->loop = l;
	s->paused = s->failed = s->deaf = false;
	s->written = 0;
	buf_init(&s->in, in_max);
	buf_init(&s->out, out_max);
	loop_watch_init(&s->watch, stream_event);
	if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0)
		return err_errno(e, errno, "stream: make descriptor %d non-blocking", fd);
	rc = loop_watch_add(l, &s->watch, fd, EPOLLIN);
	if (rc)
		return err_errno(e, -rc, "stream: watch descriptor %d", fd);
	return 0;
}

void stream_fini(struct stream *s)
{
	if (!s->loop)
		return;
	loop_watch_remove(&s->watch);
	close_fd(&s->fd);
	buf_fini(&s->in);
	buf_fini(&s->out);
	s->failed = true;
}

void stream_flush(struct stream *s)
{
	if (s->fd < 0 || s->failed)
		return;
	stream_write(s);
}

void stream_push(struct stream *s)
{
	stream_update(s);
}

void stream_pause(struct stream *s, bool pause)
{
	if (s->fd < 0 || s->failed || s->paused == pause)
		return;
	s->paused = pause;
	if (!pause && !stream_deliver(s))
		return;
	stream_update(s);
}
