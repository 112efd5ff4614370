/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_CODEC_WS_ANSWER_H
#define MSB_CODEC_WS_ANSWER_H

/*
 * DOC: The answer to a WebSocket's handshake
 *
 * Purpose: what a server says to a request for a WebSocket, from a client's side: that the
 * connection is one from now on, or an answer of HTTP like any other, whose body says why not.
 * Pure: no descriptor, no clock.
 *
 * Spec: RFC 9112 (what of it an answer to GET can have), RFC 6455 §4.1.
 *
 * Trust boundary: the server may send anything.  Refused: what is no HTTP/1, lines that are
 * folded or have no name, lengths that are no numbers or contradict each other, codings other
 * than chunked.  A line may end without a CR.
 *
 * States: status line -> fields -> (again after 1xx) -> body -> whole, or, after 101, the bytes
 * of the WebSocket.  After an error nothing more may be fed.
 *
 * Limits: all that is not body (lines of chunks and trailers as well), and the body.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "codec/websocket.h"

enum ws_answer_event {
	WS_ANSWER_MORE = 0, /* all was taken, more is needed */
	WS_ANSWER_SWITCHED = 1, /* 101; what was not taken is no HTTP */
	WS_ANSWER_WHOLE = 2, /* any other status; body */
};

struct ws_answer {
	/* when it is whole, or has switched */
	unsigned status;
	struct buf body;
	const char *reason; /* of an error */

	/* of the head that was read last */
	bool upgrade, connection; /* to a WebSocket; says that it is an upgrade */
	bool extras; /* an extension or a protocol, which nobody asked for */
	unsigned accepts; /* Sec-WebSocket-Accept: how many; the first: */
	char accept[WS_ACCEPT_SIZE];
	bool chunked, has_length;
	uint64_t length;

	struct buf line; /* that is not whole yet */
	size_t head_left;
	uint64_t left; /* of the body or a chunk */
	unsigned state;
};

/* @head_max, @body_max: bytes */
void ws_answer_init(struct ws_answer *a, size_t head_max, size_t body_max);
void ws_answer_fini(struct ws_answer *a);

/**
 * ws_answer_feed() - take bytes
 * @used: how many of them were taken
 *
 * Return: enum ws_answer_event; -EBADMSG, a->reason then says what is wrong; -ENOBUFS (head
 * or body too long) or -ENOMEM.
 */
int ws_answer_feed(struct ws_answer *a, const uint8_t *p, size_t n, size_t *used);

/* The connection has ended. Return: WS_ANSWER_WHOLE, or -EPIPE: that was not the end. */
int ws_answer_end(struct ws_answer *a);

/* Is one that has switched the answer to a handshake with this key (base64)? */
bool ws_answer_fits(const struct ws_answer *a, const char *key);

#endif
