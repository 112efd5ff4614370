/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_NET_FRAMES_H
#define MSB_NET_FRAMES_H

/*
 * The VM's NIC as a stream socket: each Ethernet frame is preceded by its length in
 * 4 bytes, most significant first, as QEMU's "-netdev stream" does it.  Nothing
 * here blocks.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"

/* QEMU's own bound on a frame; more means that the stream is out of step. */
#define FRAMES_WIRE_MAX 69632u
#define FRAMES_IN_SIZE (128u * 1024u + FRAMES_WIRE_MAX)

/*
 * Towards the VM: above HIGH no more is fetched from the host's sockets, so that
 * TCP's windows close and datagrams wait in the kernel; above MAX, which only what
 * the guest itself asks for can reach, frames are dropped, as a NIC would do.
 */
#define FRAMES_OUT_HIGH (256u * 1024u)
#define FRAMES_OUT_MAX (1024u * 1024u)

struct frames {
	int fd; /* not owned */
	uint8_t *in; /* FRAMES_IN_SIZE bytes; [in_start, in_end) are unread */
	size_t in_start, in_end;
	struct buf out;
	uint64_t dropped; /* frames lost because the VM did not read */
};

int frames_init(struct frames *f, int fd, struct err *e);
void frames_fini(struct frames *f);

/* Reads once. Return: 1 = something, 0 = nothing now, -ENODATA = closed, other errno. */
int frames_receive(struct frames *f);

/*
 * The next whole frame, in place, valid until the next frames_receive().
 * Return: 1, 0 = not there yet, -EPROTO = a length that no frame has.
 */
int frames_next(struct frames *f, const uint8_t **frame, size_t *len);

/* Sends or queues a frame. Return: 0 (also if it was dropped), or the socket's errno. */
int frames_send(struct frames *f, const void *frame, size_t len);

/* Sends what is queued, as far as it goes now. */
int frames_flush(struct frames *f);

/* Is there something that frames_next() was not asked for, a whole frame or a part of one? */
static inline bool frames_waiting(const struct frames *f)
{
	return f->in_end > f->in_start;
}

static inline bool frames_full(const struct frames *f)
{
	return buf_len(&f->out) >= FRAMES_OUT_HIGH;
}

#endif
