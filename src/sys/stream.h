/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_SYS_STREAM_H
#define MSB_SYS_STREAM_H

/*
 * A buffered, non-blocking byte stream on the event loop: a connected socket (or
 * the two ends of a pipe) with a queue in each direction.
 *
 * The owner takes bytes out of `in` in on_data(), and queues bytes into `out` and
 * calls stream_flush().  on_close() is called once, when the peer closed or an I/O
 * error came (error = errno, 0 = end of file), and never before all that the peer sent
 * was read: its last words say why it left.  The owner then calls stream_fini()
 * there or later.  Callbacks may call stream_fini(), which frees no memory of the
 * struct itself; on_data() must then return a negative number.
 */

#include "base/buf.h"
#include "base/err.h"
#include "sys/loop.h"

struct stream {
	struct loop_watch watch;
	struct loop *loop;
	int fd; /* owned */
	struct buf in, out;
	uint64_t written; /* bytes that the peer's side took, in all */
	bool paused; /* not reading */
	bool failed;
	bool deaf; /* the peer takes nothing more; what it sent is still read */
	int (*on_data)(struct stream *s);
	void (*on_close)(struct stream *s, int error);
	void (*on_drain)(struct stream *s); /* optional: the out queue became empty */
};

/*
 * Takes over @fd, makes it non-blocking and watches it.  @in_max bounds the bytes
 * read and not yet taken (reading waits meanwhile), @out_max those queued.
 */
int stream_init(struct stream *s, struct loop *l, int fd, size_t in_max, size_t out_max,
		struct err *e);

/* Closes the descriptor and frees the queues. Harmless when done twice or on zeroes. */
void stream_fini(struct stream *s);

static inline bool stream_open(const struct stream *s)
{
	return s->fd >= 0;
}

/* Writes what can be written now and arranges for the rest. */
void stream_flush(struct stream *s);

/*
 * Arranges for writing what is queued, when the loop turns: no callback comes out of this
 * call, and what is queued until then goes out in one piece.
 */
void stream_push(struct stream *s);

/* Stops or resumes reading; resuming delivers bytes that wait in `in` first. */
void stream_pause(struct stream *s, bool pause);

#endif
