/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DOC: Theory of operation
 *
 * Purpose
 *   The pump moves messages between /dev/fuse, one descriptor a volume, and the port
 *   agent.fuse (codec/volume_wire.h).  It is a process of its own, so that PID 1 cannot be
 *   made to wait for a file server; and it touches no path, so that it cannot wait for
 *   itself.
 *
 * States
 *   A request is taken from a device only when the port has taken the one before it.  Answers
 *   are always taken: /dev/fuse never blocks at a write.  So neither direction waits for the
 *   other.
 *
 * Failure
 *   The port's end, an answer that is none, or a server that owes answers and is silent for
 *   the time-out (longer while it syncs): the pump ends.  The kernel then aborts the
 *   connections, for nobody else has the devices open: whoever waits gets ENOTCONN, and so
 *   does everybody who comes later.
 *
 * Limits
 *   One message in each direction is held in memory.
 */
#include "agent/volumes.h"

#include <errno.h>
#include <limits.h>
#include <linux/fuse.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>

#include "base/log.h"
#include "base/mem.h"
#include "codec/volume_wire.h"

#define PUMP_SYNC_FACTOR 10 /* a sync may take so many times longer */
#define PUMP_TURN 64 /* messages, or reads, before the other direction gets its turn */
#define PUMP_MESSAGE_MAX (VOLUME_WIRE_HEADER + VOLUME_BODY_MAX)
#define PUMP_PIECE 4096u /* a buffer of the port's driver */
#define PUMP_PIECES 64

struct pump_state {
	struct pump *p;
	uint8_t *out, *in;
	size_t out_start, out_end; /* of `out`: still to be written */
	size_t in_end;
	unsigned next; /* device that is asked first */
	uint64_t owed; /* answers */
	uint64_t owed_syncs;
	uint64_t heard_ms; /* when the server said something, or began to owe */
};

static uint64_t pump_now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

static int pump_log = -1;

/* As an error of the kernel's log, which alone the console shows: the host keeps that. */
static void __attribute__((noreturn)) pump_end(const char *why)
{
	dprintf(pump_log, "<3>agent: event=volumes_gone reason=\"%s\" effect=\"ENOTCONN\"\n", why);
	_exit(1);
}

static bool pump_is_sync(uint32_t opcode)
{
	return opcode == FUSE_FSYNC || opcode == FUSE_FSYNCDIR || opcode == FUSE_FALLOCATE ||
	       opcode == FUSE_COPY_FILE_RANGE;
}

/*
 * What the server would refuse whatever it is about, and the kernel asks again and again:
 * each open() of Python's is a TCGETS, each new file that is written to a question for its
 * security.capability.  Return: the error, or 0 for what is the server's to answer.
 */
static int pump_refusal(const struct fuse_in_header *h, const uint8_t *body)
{
	static const char theirs[] = "user."; /* extended attributes that a volume has */
	size_t name = sizeof(*h) + sizeof(struct fuse_getxattr_in);

	switch (h->opcode) {
	case FUSE_INTERRUPT: /* waits are never cut short, and the kernel need not ask again */
	case FUSE_IOCTL:
		return ENOSYS;
	case FUSE_GETXATTR:
		return h->len > name + strlen(theirs) && memcmp(body + name, theirs, strlen(theirs))
			       ? EOPNOTSUPP
			       : 0;
	default:
		return 0;
	}
}

/* A request that is on its way. Return: is it to go to the server? */
static bool pump_account(struct pump_state *s, const struct fuse_in_header *h, const uint8_t *body,
			 int device)
{
	struct fuse_out_header no = { .len = sizeof(no), .unique = h->unique };

	no.error = -pump_refusal(h, body);
	if (no.error) {
		if (write(device, &no, sizeof(no)) < 0 && errno != ENOENT)
			log_warn("event=volume_refusal opcode=%u: %m", (unsigned)h->opcode);
		return false;
	}
	if (h->opcode == FUSE_FORGET || h->opcode == FUSE_BATCH_FORGET)
		return true;
	if (!s->owed)
		s->heard_ms = pump_now_ms();
	s->owed++;
	/* Which answer is a sync's is not looked up: the count is that of one quiet moment. */
	if (pump_is_sync(h->opcode))
		s->owed_syncs++;
	return true;
}

/* Takes a request off a device. Return: there was one. */
static bool pump_request(struct pump_state *s, unsigned i)
{
	struct fuse_in_header h;
	ssize_t n = read(s->p->devices[i], s->out + VOLUME_WIRE_HEADER, VOLUME_BODY_MAX);

	if (n < 0 && errno == ENODEV) { /* unmounted */
		close_fd(&s->p->devices[i]);
		return false;
	}
	if (n < (ssize_t)sizeof(h))
		return false; /* EAGAIN; ENOENT, EINTR: it was taken back */
	memcpy(&h, s->out + VOLUME_WIRE_HEADER, sizeof(h));
	if (!pump_account(s, &h, s->out + VOLUME_WIRE_HEADER, s->p->devices[i]))
		return true;
	volume_wire_put(s->out, (struct volume_wire){ (uint32_t)n, (uint16_t)i, VOLUME_WIRE_FUSE });
	s->out_start = 0;
	s->out_end = VOLUME_WIRE_HEADER + (size_t)n;
	return true;
}

static bool pump_flush(struct pump_state *s)
{
	while (s->out_start < s->out_end) {
		ssize_t n = write(s->p->port, s->out + s->out_start, s->out_end - s->out_start);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return false;
		if (n < 0)
			pump_end("the port cannot be written");
		s->out_start += (size_t)n;
	}
	return true;
}

/* Requests, one after the other, as long as the port takes them. */
static void pump_up(struct pump_state *s)
{
	unsigned quiet = 0;

	for (unsigned turn = 0; turn < PUMP_TURN && quiet < s->p->n && pump_flush(s); turn++) {
		unsigned i = s->next;

		s->next = (s->next + 1) % s->p->n;
		if (s->p->devices[i] >= 0 && pump_request(s, i))
			quiet = 0;
		else
			quiet++;
	}
	pump_flush(s);
}

static void pump_answer(struct pump_state *s, const struct volume_wire *w, const uint8_t *body)
{
	struct fuse_out_header h;

	if (w->type != VOLUME_WIRE_FUSE || w->volume >= s->p->n || w->length < sizeof(h))
		pump_end("the file server sends what is no answer");
	memcpy(&h, body, sizeof(h));
	s->heard_ms = pump_now_ms();
	if (h.unique && s->owed)
		s->owed--;
	if (!s->owed)
		s->owed_syncs = 0;
	/* ENOENT: nobody waits for it any more. */
	if (s->p->devices[w->volume] >= 0 && write(s->p->devices[w->volume], body, w->length) < 0 &&
	    errno != ENOENT && errno != ENODEV)
		log_warn("event=volume_answer volume=%u len=%u: %m", w->volume, (unsigned)w->length);
}

/* The whole answers that are there; the rest of one moves to the front. */
static void pump_answers(struct pump_state *s)
{
	size_t at = 0;

	while (s->in_end - at >= VOLUME_WIRE_HEADER) {
		struct volume_wire w = volume_wire_get(s->in + at);

		if (w.length > VOLUME_BODY_MAX)
			pump_end("the file server announces too long an answer");
		if (s->in_end - at < VOLUME_WIRE_HEADER + w.length)
			break;
		pump_answer(s, &w, s->in + at + VOLUME_WIRE_HEADER);
		at += VOLUME_WIRE_HEADER + w.length;
	}
	/* Not for nothing: a long answer comes in hundreds of pieces. */
	if (at)
		memmove(s->in, s->in + at, s->in_end - at);
	s->in_end -= at;
}

/*
 * Takes what the port has, up to a turn of it.  One read() of a port gives one buffer of its
 * driver's, a page; readv() makes one for each piece, and ends at the first that is short.
 */
static void pump_down(struct pump_state *s)
{
	struct iovec pieces[PUMP_PIECES];

	for (unsigned turn = 0; turn < PUMP_TURN; turn++) {
		size_t at = s->in_end;
		int n = 0;
		ssize_t got;

		for (; n < PUMP_PIECES && at < PUMP_MESSAGE_MAX; n++) {
			size_t room = PUMP_MESSAGE_MAX - at;

			pieces[n].iov_base = s->in + at;
			pieces[n].iov_len = room < PUMP_PIECE ? room : PUMP_PIECE;
			at += pieces[n].iov_len;
		}
		got = readv(s->p->port, pieces, n);
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0 && errno == EAGAIN)
			return;
		if (got <= 0)
			pump_end("the file server is gone");
		s->in_end += (size_t)got;
		pump_answers(s);
	}
}

/* Milliseconds until the server's silence is too long; -1 = it owes nothing. */
static int pump_patience(const struct pump_state *s)
{
	uint64_t limit = s->p->timeout_ms, quiet = pump_now_ms() - s->heard_ms;

	if (!s->owed)
		return -1;
	if (s->owed_syncs)
		limit *= PUMP_SYNC_FACTOR;
	if (quiet >= limit)
		pump_end("the file server does not answer");
	limit -= quiet;
	return limit > INT_MAX ? INT_MAX : (int)limit;
}

static void pump_wait(struct pump_state *s, struct pollfd *fds)
{
	bool full = s->out_start < s->out_end;
	unsigned open = 0;
	int n;

	fds[0] = (struct pollfd){ .fd = s->p->port,
				  .events = (short)(POLLIN | (full ? POLLOUT : 0)) };
	for (unsigned i = 0; i < s->p->n; i++) {
		fds[1 + i] =
			(struct pollfd){ .fd = full ? -1 : s->p->devices[i], .events = POLLIN };
		open += s->p->devices[i] >= 0;
	}
	if (!open)
		_exit(0); /* all were unmounted */
	n = poll(fds, 1 + s->p->n, pump_patience(s));
	if (n < 0 && errno != EINTR)
		pump_end("poll");
}

/* Who owns what, before the first request. */
static void pump_open(struct pump_state *s)
{
	struct pump_ids ids;
	ssize_t n;

	do
		n = read(s->p->ids_fd, &ids, sizeof(ids));
	while (n < 0 && errno == EINTR);
	if (n != (ssize_t)sizeof(ids))
		pump_end("the volumes cannot be mounted");
	close_fd(&s->p->ids_fd);
	for (unsigned i = 0; i < s->p->n; i++) {
		uint8_t *p = s->out + s->out_end;

		volume_wire_put(p, (struct volume_wire){ VOLUME_OPEN_SIZE, (uint16_t)i,
							 VOLUME_WIRE_OPEN });
		le_put32(p + VOLUME_WIRE_HEADER, ids.uids[i]);
		le_put32(p + VOLUME_WIRE_HEADER + 4, ids.gids[i]);
		s->out_end += VOLUME_WIRE_HEADER + VOLUME_OPEN_SIZE;
	}
}

/* Nobody's descriptors but those it needs: it would keep others' pipes open. */
static void pump_close_others(const struct pump *p)
{
	unsigned next = 0;

	for (;;) {
		unsigned keep = UINT_MAX;

		for (unsigned i = 0; i < p->n + 3; i++) {
			const int others[] = { p->port, p->log_fd, p->ids_fd };
			int fd = i < p->n ? p->devices[i] : others[i - p->n];

			if (fd >= 0 && (unsigned)fd >= next && (unsigned)fd < keep)
				keep = (unsigned)fd;
		}
		if (keep > next && syscall(SYS_close_range, next, keep - 1, 0))
			return;
		if (keep == UINT_MAX)
			return;
		next = keep + 1;
	}
}

void pump_run(struct pump *p)
{
	static struct pump_state s;
	struct pollfd fds[1 + PUMP_VOLUMES_MAX];

	/* At a shutdown programs write to volumes until they are gone; then it gets SIGKILL. */
	for (int sig = 1; sig < 32; sig++)
		if (sig != SIGSEGV && sig != SIGBUS && sig != SIGILL && sig != SIGFPE)
			signal(sig, SIG_IGN);
	pump_close_others(p);
	pump_log = p->log_fd;
	log_init(p->log_fd, LOG_WARN, "volumes");
	prctl(PR_SET_NAME, "msb-volumes");
#ifdef PR_SET_IO_FLUSHER
	/* Memory is not to be found by writing to a volume. */
	prctl(PR_SET_IO_FLUSHER, 1, 0, 0, 0);
#endif
	s.p = p;
	s.out = malloc(PUMP_MESSAGE_MAX);
	s.in = malloc(PUMP_MESSAGE_MAX);
	if (!s.out || !s.in)
		pump_end("no memory");
	pump_open(&s);
	for (;;) {
		pump_up(&s);
		pump_wait(&s, fds);
		if (fds[0].revents & (POLLIN | POLLHUP | POLLERR))
			pump_down(&s);
	}
}
