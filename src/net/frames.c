/* SPDX-License-Identifier: Apache-2.0 */
#include "net/frames.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "net/wire.h"

#define FRAMES_PREFIX 4u
#define FRAMES_OUT_KEEP (64u * 1024u)

int frames_init(struct frames *f, int fd, struct err *e)
{
	*f = (struct frames){ .fd = fd };
	f->in = malloc(FRAMES_IN_SIZE);
	if (!f->in)
		return err_errno(e, ENOMEM, "frame buffer");
	buf_init(&f->out, FRAMES_OUT_MAX);
	return 0;
}

void frames_fini(struct frames *f)
{
	buf_fini(&f->out);
	free(f->in);
	f->in = NULL;
}

int frames_receive(struct frames *f)
{
	ssize_t n;

	/* What is left is less than a frame: there is room for the rest of it. */
	memmove(f->in, f->in + f->in_start, f->in_end - f->in_start);
	f->in_end -= f->in_start;
	f->in_start = 0;
	n = recv(f->fd, f->in + f->in_end, FRAMES_IN_SIZE - f->in_end, MSG_DONTWAIT);
	if (n < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : -errno;
	if (n == 0)
		return -ENODATA;
	f->in_end += (size_t)n;
	return 1;
}

int frames_next(struct frames *f, const uint8_t **frame, size_t *len)
{
	size_t have = f->in_end - f->in_start, n;

	if (have < FRAMES_PREFIX)
		return 0;
	n = wire_get32(f->in + f->in_start);
	if (n > FRAMES_WIRE_MAX)
		return -EPROTO;
	if (have - FRAMES_PREFIX < n)
		return 0;
	*frame = f->in + f->in_start + FRAMES_PREFIX;
	*len = n;
	f->in_start += FRAMES_PREFIX + n;
	return 1;
}

int frames_send(struct frames *f, const void *frame, size_t len)
{
	uint8_t prefix[FRAMES_PREFIX];
	struct iovec iov[2] = {
		{ .iov_base = prefix, .iov_len = sizeof(prefix) },
		{ .iov_base = (void *)frame, .iov_len = len },
	};
	struct msghdr msg = { .msg_iov = iov, .msg_iovlen = 2 };
	size_t sent = 0;
	uint8_t *to;
	ssize_t n;

	wire_put32(prefix, (uint32_t)len);
	if (buf_len(&f->out) == 0) {
		n = sendmsg(f->fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);
		if (n < 0 && errno != EAGAIN && errno != EINTR)
			return -errno;
		sent = n > 0 ? (size_t)n : 0;
		if (sent == sizeof(prefix) + len)
			return 0;
	}
	/* All of the rest or nothing: half a frame would put the stream out of step. */
	if (buf_reserve(&f->out, sizeof(prefix) + len - sent, &to) < 0) {
		if (sent)
			return -ENOBUFS;
		f->dropped++;
		return 0;
	}
	buf_commit(&f->out, sizeof(prefix) + len - sent);
	if (sent < sizeof(prefix)) {
		memcpy(to, prefix + sent, sizeof(prefix) - sent);
		memcpy(to + sizeof(prefix) - sent, frame, len);
	} else {
		memcpy(to, (const uint8_t *)frame + (sent - sizeof(prefix)),
		       len - (sent - sizeof(prefix)));
	}
	return 0;
}

int frames_flush(struct frames *f)
{
	while (buf_len(&f->out)) {
		ssize_t n = send(f->fd, buf_data(&f->out), buf_len(&f->out),
				 MSG_DONTWAIT | MSG_NOSIGNAL);

		if (n < 0)
			return errno == EAGAIN || errno == EINTR ? 0 : -errno;
		buf_consume(&f->out, (size_t)n);
	}
	/* An idle sandbox keeps no memory for a burst of the past. */
	if (f->out.cap > FRAMES_OUT_KEEP)
		buf_reset(&f->out);
	return 0;
}
