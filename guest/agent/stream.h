/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_AGENT_STREAM_H
#define MSB_AGENT_STREAM_H

/*
 * DOC: Streams of a channel
 *
 * An ostream carries a descriptor's bytes to the host, an istream the host's bytes
 * to a descriptor.  Both obey the credit window of the wire, both survive the
 * channel's link, and neither ever blocks.
 */

#include <stdbool.h>
#include <stdint.h>

#include "agent/agent.h"

struct ostream {
	struct loop_watch watch;
	struct waiter waiter;
	struct loop *loop;
	struct channel *ch; /* NULL: what is read is dropped */
	uint16_t id; /* enum frame_stream */
	int fd; /* owned; -1 = closed or at its end */
	bool keep_open; /* finishing a drain leaves fd open and sends no EOF */
	uint32_t window; /* bytes that the host still takes */
	bool draining;
	uint64_t drain_left;
	/*
	 * Called when a drain, or the stream, has come to its end.  The stream is still in
	 * use by its caller then: an owner that wants to free it uses agent_defer().
	 */
	void (*done)(struct ostream *s);
};

void ostream_init(struct ostream *s, struct loop *loop, uint16_t id,
		  void (*done)(struct ostream *s));

/* Starts sending what can be read from @fd (taken, must not block) on @ch. */
void ostream_start(struct ostream *s, struct channel *ch, int fd);

/* The descriptor stays, the channel and its window are new. NULL = drop what comes. */
void ostream_attach(struct ostream *s, struct channel *ch);

/* CREDIT of the host. Return: 0, or -EPROTO if the window grew over its maximum. */
int ostream_credit(struct ostream *s, uint32_t bytes);

/*
 * Nobody whom we wait for writes any more: sends what is in the descriptor now, as the
 * window allows, then done().  What others write meanwhile does not prolong it.
 */
void ostream_drain(struct ostream *s);

/* Reads and drops what is in the descriptor now. */
void ostream_drop(struct ostream *s);

/* Closes without sending anything. */
void ostream_stop(struct ostream *s);

struct istream {
	struct loop_watch watch;
	struct loop *loop;
	struct channel *ch;
	int fd; /* owned; -1 = closed: what comes is dropped, and credited */
	bool started; /* until then what comes is kept */
	bool tty; /* end of file is the terminal's EOF character */
	bool eof; /* the host sent EOF */
	uint8_t last; /* last byte written to a tty */
	uint32_t window; /* bytes that the host may still send */
	uint32_t owed; /* bytes taken and not yet credited */
	struct buf pending;
};

void istream_init(struct istream *s, struct loop *loop);
void istream_fini(struct istream *s);

/* Writes what came so far and what comes from now on to @fd (taken; -1 = nowhere). */
void istream_start(struct istream *s, struct channel *ch, int fd, bool tty);

/* DATA of the host. Return: 0, or -EPROTO if it overran the window or came after EOF. */
int istream_data(struct istream *s, const uint8_t *p, uint32_t n);
void istream_eof(struct istream *s);
void istream_stop(struct istream *s);

#endif
