/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/stream.h"

#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>

#include "base/checked.h"
#include "base/mem.h"

#define OSTREAM_TURN (8u * FRAME_DATA_MAX) /* bytes of one stream before others' turn */
#define OSTREAM_TTY_DRAIN (1024u * 1024) /* more than a pty can hold */
#define ISTREAM_CREDIT_AT (FRAME_WINDOW / 4) /* credits are collected up to this */

static void ostream_event(struct loop_watch *w, uint32_t events);
static void ostream_resume(struct waiter *w);

void ostream_init(struct ostream *s, struct loop *loop, uint16_t id, void (*done)(struct ostream *s))
{
	*s = (struct ostream){ .loop = loop, .id = id, .fd = -1, .done = done };
	loop_watch_init(&s->watch, ostream_event);
	list_init(&s->waiter.link);
	s->waiter.resume = ostream_resume;
}

/* An idle watch is removed, not masked: a pipe without writers reports EPOLLHUP for ever. */
static void ostream_want(struct ostream *s, bool want)
{
	if (!want)
		loop_watch_remove(&s->watch);
	else if (s->watch.fd < 0)
		loop_watch_add(s->loop, &s->watch, s->fd, EPOLLIN);
}

static void ostream_close(struct ostream *s)
{
	loop_watch_remove(&s->watch);
	list_remove(&s->waiter.link);
	close_fd(&s->fd);
}

/* The descriptor has no more to give, or the drain has all it is to have. */
static void ostream_end(struct ostream *s, bool at_eof)
{
	bool keep = s->keep_open && !at_eof;
	bool draining = s->draining;

	s->draining = false;
	if (keep)
		list_remove(&s->waiter.link);
	else
		ostream_close(s);
	if (!s->keep_open) {
		if (s->ch)
			channel_send(s->ch, FRAME_EOF, s->id, NULL);
		s->done(s);
	} else if (draining) {
		s->done(s);
	}
}

/* What somebody writes when nobody listens. Return: is there a descriptor to watch? */
static bool ostream_discard(struct ostream *s)
{
	uint8_t trash[4096];
	ssize_t n;

	for (unsigned total = 0; total < OSTREAM_TURN; total += (unsigned)n) {
		n = read(s->fd, trash, sizeof(trash));
		if (n < 0 && errno == EINTR) {
			n = 0;
			continue;
		}
		if (n < 0 && errno == EAGAIN) {
			if (s->draining)
				ostream_end(s, false);
			break;
		}
		if (n <= 0) {
			ostream_end(s, true);
			break;
		}
		if (s->draining) {
			s->drain_left -= min_u64(s->drain_left, (uint64_t)n);
			if (!s->drain_left) {
				ostream_end(s, false);
				break;
			}
		}
	}
	return s->fd >= 0;
}

/* Reads one chunk into the link's queue. Return: 1 = there may be more, else 0. */
static int ostream_chunk(struct ostream *s, struct buf *out)
{
	size_t want = min_u64(FRAME_DATA_MAX, s->window);
	uint8_t *p;
	ssize_t n;

	if (s->draining)
		want = min_u64(want, s->drain_left);
	if (s->draining && !s->drain_left) {
		ostream_end(s, false);
		return 0;
	}
	if (buf_reserve(out, FRAME_HEADER_SIZE + want, &p)) {
		s->ch->link->broken = true;
		return 0;
	}
	do
		n = read(s->fd, p + FRAME_HEADER_SIZE, want);
	while (n < 0 && errno == EINTR);
	if (n < 0 && errno == EAGAIN) {
		if (s->draining)
			ostream_end(s, false);
		return 0;
	}
	if (n <= 0) { /* EIO is the end of a pty */
		ostream_end(s, true);
		return 0;
	}
	frame_header_put(p, (size_t)n, s->ch->id, FRAME_DATA, s->id);
	buf_commit(out, FRAME_HEADER_SIZE + (size_t)n);
	s->window -= (uint32_t)n;
	if (s->draining)
		s->drain_left -= (uint64_t)n;
	return 1;
}

static void ostream_pump(struct ostream *s)
{
	struct link *l;
	unsigned turn = 0;

	if (s->fd < 0)
		return;
	if (!s->ch || !s->ch->link) {
		if (ostream_discard(s))
			ostream_want(s, true);
		return;
	}
	l = s->ch->link;
	/* A drain with nothing left needs neither window nor room. */
	while (s->window || (s->draining && !s->drain_left)) {
		if (!link_has_room(l)) {
			list_remove(&s->waiter.link);
			list_append(&l->waiting, &s->waiter.link);
			break;
		}
		if (turn++ == OSTREAM_TURN / FRAME_DATA_MAX)
			break;
		if (!ostream_chunk(s, &l->out))
			break;
	}
	if (s->fd >= 0)
		ostream_want(s, s->window && list_empty(&s->waiter.link));
}

static void ostream_event(struct loop_watch *w, uint32_t events)
{
	(void)events;
	ostream_pump(container_of(w, struct ostream, watch));
}

static void ostream_resume(struct waiter *w)
{
	ostream_pump(container_of(w, struct ostream, waiter));
}

void ostream_start(struct ostream *s, struct channel *ch, int fd)
{
	s->fd = fd;
	ostream_attach(s, ch);
}

void ostream_attach(struct ostream *s, struct channel *ch)
{
	s->ch = ch;
	s->window = FRAME_WINDOW;
	list_remove(&s->waiter.link);
	if (s->fd >= 0)
		ostream_want(s, true);
}

int ostream_credit(struct ostream *s, uint32_t bytes)
{
	uint32_t window;

	if (!checked_add(s->window, bytes, &window) || window > FRAME_WINDOW_MAX)
		return -EPROTO;
	s->window = window;
	ostream_pump(s);
	return 0;
}

void ostream_drain(struct ostream *s)
{
	int n = 0;

	if (s->fd < 0) {
		s->done(s);
		return;
	}
	s->draining = true;
	/* A pty keeps bytes in places that FIONREAD does not count. */
	if (isatty(s->fd))
		s->drain_left = OSTREAM_TTY_DRAIN;
	else
		s->drain_left =
			ioctl(s->fd, FIONREAD, &n) || n < 0 ? OSTREAM_TTY_DRAIN : (uint64_t)n;
	ostream_pump(s);
}

void ostream_drop(struct ostream *s)
{
	uint8_t trash[4096];
	int left = 0;

	if (s->fd < 0 || ioctl(s->fd, FIONREAD, &left))
		return;
	while (left > 0) {
		ssize_t n = read(s->fd, trash, sizeof(trash));

		if (n <= 0)
			return;
		left -= (int)n;
	}
}

void ostream_stop(struct ostream *s)
{
	s->draining = false;
	s->ch = NULL;
	if (s->fd >= 0)
		ostream_close(s);
	list_remove(&s->waiter.link);
}

static void istream_event(struct loop_watch *w, uint32_t events);

void istream_init(struct istream *s, struct loop *loop)
{
	*s = (struct istream){ .loop = loop, .fd = -1, .window = FRAME_WINDOW };
	loop_watch_init(&s->watch, istream_event);
	buf_init(&s->pending, FRAME_WINDOW);
}

void istream_start(struct istream *s, struct channel *ch, int fd, bool tty)
{
	s->ch = ch;
	s->fd = fd;
	s->tty = tty;
	s->started = true;
	if (fd >= 0 && (buf_len(&s->pending) || s->eof))
		loop_watch_add(s->loop, &s->watch, fd, EPOLLOUT);
	else
		buf_reset(&s->pending);
}

static void istream_took(struct istream *s, uint32_t n)
{
	struct frame_credit credit;

	s->owed += n;
	if (s->owed < ISTREAM_CREDIT_AT || s->eof)
		return;
	credit.bytes = s->owed;
	s->window += s->owed;
	s->owed = 0;
	if (s->ch)
		channel_send(s->ch, FRAME_CREDIT, STREAM_IN, &credit);
}

/* Bytes that the descriptor took; its reader being gone is no error of the host. */
static size_t istream_write(struct istream *s, const uint8_t *p, size_t n)
{
	size_t done = 0;

	while (done < n && s->fd >= 0) {
		ssize_t k = write(s->fd, p + done, n - done);

		if (k < 0 && errno == EINTR)
			continue;
		if (k < 0 && errno == EAGAIN)
			break;
		if (k < 0) {
			loop_watch_remove(&s->watch);
			close_fd(&s->fd);
			break;
		}
		done += (size_t)k;
		s->last = p[done - 1];
	}
	return s->fd < 0 ? n : done;
}

/*
 * A terminal has no end of file; the EOF character makes a reader see one.  After an
 * unfinished line it takes two: the first only hands the line over.
 */
static bool istream_tty_eof(struct istream *s)
{
	struct termios t;
	uint8_t c[2];
	size_t n = s->last && s->last != '\n' ? 2 : 1;

	if (tcgetattr(s->fd, &t) || !(t.c_lflag & ICANON))
		return true;
	c[0] = c[1] = t.c_cc[VEOF];
	return write(s->fd, c, n) >= 0 || errno != EAGAIN;
}

static void istream_finish(struct istream *s)
{
	if (s->fd < 0 || buf_len(&s->pending))
		return;
	if (s->tty && !istream_tty_eof(s))
		return; /* full: the watch brings us back */
	loop_watch_remove(&s->watch);
	close_fd(&s->fd);
}

static void istream_event(struct loop_watch *w, uint32_t events)
{
	struct istream *s = container_of(w, struct istream, watch);
	size_t n = istream_write(s, buf_data(&s->pending), buf_len(&s->pending));

	if (!n && (events & (EPOLLERR | EPOLLHUP)) && !s->tty) {
		loop_watch_remove(&s->watch);
		close_fd(&s->fd);
		n = buf_len(&s->pending);
	}
	buf_consume(&s->pending, n);
	istream_took(s, (uint32_t)n);
	if (s->eof)
		istream_finish(s);
	else if (!buf_len(&s->pending))
		loop_watch_remove(&s->watch);
}

int istream_data(struct istream *s, const uint8_t *p, uint32_t n)
{
	size_t done = 0;

	if (n > s->window || s->eof)
		return -EPROTO;
	s->window -= n;
	if (s->started && !buf_len(&s->pending))
		done = istream_write(s, p, n);
	if (done < n) {
		if (buf_append(&s->pending, p + done, n - done))
			return -ENOMEM;
		if (s->started && s->watch.fd < 0)
			loop_watch_add(s->loop, &s->watch, s->fd, EPOLLOUT);
	}
	istream_took(s, (uint32_t)done);
	return 0;
}

void istream_eof(struct istream *s)
{
	if (s->eof)
		return;
	s->eof = true;
	if (s->started)
		istream_finish(s);
	if (s->fd >= 0 && s->watch.fd < 0)
		loop_watch_add(s->loop, &s->watch, s->fd, EPOLLOUT);
}

void istream_stop(struct istream *s)
{
	loop_watch_remove(&s->watch);
	close_fd(&s->fd);
	buf_reset(&s->pending);
	s->started = true;
	s->ch = NULL;
}

void istream_fini(struct istream *s)
{
	istream_stop(s);
	buf_fini(&s->pending);
}
