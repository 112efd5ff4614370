/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DOC: The port's socket
 *
 * One thread: a request is read, done and answered before the next one is looked at.  While
 * answers of more than SERVE_OUT_HIGH wait to be taken nothing is read, so that what a guest
 * makes us hold is bounded by that and one answer.  The socket never blocks; calls on the
 * host's files do, for as long as the host's file system takes.
 */
#include "volume/serve.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/log.h"
#include "base/mem.h"
#include "codec/volume.h"
#include "codec/volume_wire.h"

#define SERVE_IN_SIZE (2u * (VOLUME_WIRE_HEADER + VOLUME_BODY_MAX))
#define SERVE_OUT_HIGH (256u * 1024)
#define SERVE_OUT_MAX (SERVE_OUT_HIGH + VOLUME_BODY_MAX + 4096u)
#define SERVE_OUT_KEEP (256u * 1024)

struct serve {
	int fd;
	struct share *shares;
	unsigned n;
	uint8_t *in;
	size_t start, end;
	struct buf out;
};

static int serve_open(struct share *s, const uint8_t *body, uint32_t len, struct err *e)
{
	if (len != VOLUME_OPEN_SIZE)
		return err_set(e, EPROTO, "the guest opens a volume with %u bytes", len);
	s->guest_uid = le_get32(body);
	s->guest_gid = le_get32(body + 4);
	return 0;
}

static int serve_message(struct serve *v, const struct volume_wire *w, const uint8_t *body,
			 struct err *e)
{
	struct request r;
	int rc;

	if (w->volume >= v->n)
		return err_set(e, EPROTO, "the guest speaks of a volume %u", w->volume);
	if (w->type == VOLUME_WIRE_OPEN)
		return serve_open(&v->shares[w->volume], body, w->length, e);
	if (w->type != VOLUME_WIRE_FUSE)
		return err_set(e, EPROTO, "the guest sends a message of type %u", w->type);
	rc = request_parse(body, w->length, &r);
	if (rc == -EPROTO)
		return err_set(e, EPROTO, "the guest sends what is no message of FUSE");
	rc = share_serve(&v->shares[w->volume], &r, rc, &v->out);
	return rc ? err_errno(e, -rc, "an answer to the guest") : 0;
}

/* All whole messages, as long as answers are taken. */
static int serve_input(struct serve *v, struct err *e)
{
	int rc = 0;

	while (!rc && v->end - v->start >= VOLUME_WIRE_HEADER && buf_len(&v->out) < SERVE_OUT_HIGH) {
		struct volume_wire w = volume_wire_get(v->in + v->start);

		if (w.length > VOLUME_BODY_MAX)
			return err_set(e, EPROTO, "the guest announces a message of %u bytes",
				       w.length);
		if (v->end - v->start < VOLUME_WIRE_HEADER + w.length)
			break;
		rc = serve_message(v, &w, v->in + v->start + VOLUME_WIRE_HEADER, e);
		v->start += VOLUME_WIRE_HEADER + w.length;
	}
	return rc;
}

/* Return: 1 = something came, 0 = nothing yet, -ENODATA = the end, or another error. */
static int serve_receive(struct serve *v)
{
	ssize_t n;

	if (v->start == v->end) {
		v->start = v->end = 0;
	} else if (SERVE_IN_SIZE - v->end < VOLUME_WIRE_HEADER + VOLUME_BODY_MAX) {
		/* What is left is less than a message: there is room for the rest of it. */
		memmove(v->in, v->in + v->start, v->end - v->start);
		v->end -= v->start;
		v->start = 0;
	}
	n = recv(v->fd, v->in + v->end, SERVE_IN_SIZE - v->end, MSG_DONTWAIT);
	if (n < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : -errno;
	if (!n)
		return -ENODATA;
	v->end += (size_t)n;
	return 1;
}

static int serve_flush(struct serve *v)
{
	while (buf_len(&v->out)) {
		ssize_t n = send(v->fd, buf_data(&v->out), buf_len(&v->out),
				 MSG_DONTWAIT | MSG_NOSIGNAL);

		if (n < 0)
			return errno == EAGAIN || errno == EINTR ? 0 : -errno;
		buf_consume(&v->out, (size_t)n);
	}
	if (v->out.cap > SERVE_OUT_KEEP)
		buf_reset(&v->out);
	return 0;
}

/* Waits until something can be done. Return: may be read? */
static bool serve_wait(struct serve *v, const sigset_t *waiting)
{
	struct pollfd p = { .fd = v->fd };

	if (buf_len(&v->out) < SERVE_OUT_HIGH)
		p.events |= POLLIN;
	if (buf_len(&v->out))
		p.events |= POLLOUT;
	return ppoll(&p, 1, NULL, waiting) > 0 && p.revents & (POLLIN | POLLHUP | POLLERR);
}

/*
 * Requests and answers, until there is no request or no room.  Where requests had to wait for
 * answers to be taken, and the guest took them all at once, nothing would wake us for them.
 */
static int serve_work(struct serve *v, struct err *e)
{
	bool full;
	size_t before;
	int rc;

	do {
		before = v->start;
		full = buf_len(&v->out) >= SERVE_OUT_HIGH;
		rc = serve_input(v, e);
		if (!rc)
			rc = serve_flush(v);
	} while (!rc && (v->start != before || (full && buf_len(&v->out) < SERVE_OUT_HIGH)));
	return rc;
}

static int serve_loop(struct serve *v, const volatile sig_atomic_t *stop, const sigset_t *waiting,
		      struct err *e)
{
	int rc = 0;

	while (!*stop) {
		if (serve_wait(v, waiting))
			rc = serve_receive(v);
		if (rc >= 0)
			rc = serve_work(v, e);
		if (rc == -ENODATA || rc == -EPIPE || rc == -ECONNRESET)
			return 0;
		if (rc < 0)
			return e->code ? -e->code : err_errno(e, -rc, "the socket of the port");
	}
	return 0;
}

int serve_run(int fd, struct share *shares, unsigned n, const volatile sig_atomic_t *stop,
	      const sigset_t *waiting, struct err *e)
{
	struct serve v = { .fd = fd, .shares = shares, .n = n, .in = malloc(SERVE_IN_SIZE) };
	int rc;

	if (!v.in)
		return err_errno(e, ENOMEM, "message buffer");
	buf_init(&v.out, SERVE_OUT_MAX);
	rc = serve_loop(&v, stop, waiting, e);
	buf_fini(&v.out);
	free(v.in);
	return rc;
}
