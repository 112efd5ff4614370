/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_CODEC_WEBSOCKET_H
#define MSB_CODEC_WEBSOCKET_H

/*
 * DOC: WebSocket frames
 *
 * Purpose: the bytes of a WebSocket, from either side: what the other one sends comes out
 * as pieces of messages, what it is to get is made a frame.  Pure: no descriptor, no clock,
 * no random numbers.
 *
 * Spec: RFC 6455, without extensions.
 *
 * Trust boundary: the other side may send anything.  Refused, with the close code that the
 * specification has for it: a client's frames without a mask and a server's with one, reserved
 * bits and opcodes, lengths not in their shortest form or over 2^63 - 1, control frames that
 * are long or in fragments, a continuation of nothing, a new message inside another, text
 * that is no UTF-8 (found as it comes, also across fragments), messages over their limit,
 * close frames with a bad code.
 *
 * States: header -> payload -> header.  After an error nothing more may be fed.
 *
 * Limits: a message comes in pieces of at most WS_PIECE_MAX bytes, so that bytes may be of any
 * length if the owner sets no limit.  A control frame comes whole.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "codec/utf8.h"

#define WS_PIECE_MAX 16384u
#define WS_CONTROL_MAX 125u
#define WS_HEADER_MAX 10u /* of a frame that a server sends */
#define WS_MASK_BYTES 4u
#define WS_KEY_BYTES 16u
#define WS_KEY_SIZE 25u /* with NUL */
#define WS_ACCEPT_SIZE 29u /* with NUL */

enum ws_opcode {
	WS_CONTINUATION = 0,
	WS_TEXT = 1,
	WS_BINARY = 2,
	WS_CLOSE = 8,
	WS_PING = 9,
	WS_PONG = 10,
};

enum ws_close {
	WS_CLOSE_NORMAL = 1000,
	WS_CLOSE_AWAY = 1001,
	WS_CLOSE_PROTOCOL = 1002,
	WS_CLOSE_UNSUPPORTED = 1003,
	WS_CLOSE_NO_CODE = 1005, /* never sent: the close frame was empty */
	WS_CLOSE_NOT_TEXT = 1007,
	WS_CLOSE_POLICY = 1008,
	WS_CLOSE_TOO_BIG = 1009,
	WS_CLOSE_AGAIN = 1013, /* registered later: try again later */
};

enum ws_event {
	WS_EV_MORE = 0, /* all was taken, more is needed */
	WS_EV_PIECE = 1, /* of a data message: piece, first, last, opcode */
	WS_EV_CONTROL = 2, /* piece is all of it; opcode */
};

struct ws_reader {
	/* with WS_EV_PIECE and WS_EV_CONTROL, until the next feed */
	uint8_t opcode; /* of the message or the control frame */
	bool first, last; /* of the message; both, if there is one piece */
	size_t piece_len; /* 0 is possible */
	uint8_t piece[WS_PIECE_MAX];

	uint64_t text_max, binary_max; /* of a message; may be changed between messages */
	const char *reason; /* of an error, for the close frame */

	uint8_t header[14];
	unsigned header_len, header_want;
	uint8_t mask[4];
	unsigned mask_at;
	uint64_t left; /* of the frame's payload */
	uint64_t message_len;
	uint8_t message; /* opcode of the message under way; 0 = none */
	bool from_server;
	bool in_payload, fin, fresh; /* fresh: no piece of the message was given yet */
	struct utf8_check text;
};

/* Of what a client sends. Bytes have no limit. */
void ws_reader_init(struct ws_reader *r, uint64_t text_max);

/* Of what a server sends. @max: bytes of a message of either kind. */
void ws_reader_init_client(struct ws_reader *r, uint64_t max);

/**
 * ws_reader_feed() - take bytes
 * @used: how many of them were taken; the rest is to be given again
 *
 * Return: enum ws_event, or minus an enum ws_close; r->reason then says what is wrong.
 */
int ws_reader_feed(struct ws_reader *r, const uint8_t *p, size_t n, size_t *used);

/* The code of a WS_CLOSE that came: as sent, or WS_CLOSE_NO_CODE. */
uint16_t ws_close_code(const struct ws_reader *r);

/* Header of a server's frame that holds a whole message. Return: its length. */
size_t ws_header(uint8_t to[WS_HEADER_MAX], uint8_t opcode, uint64_t len);

/*
 * Appends a client's frame that holds a whole message, of two parts, either of which may be
 * empty.  @mask must be new for each frame, and not to be foretold (RFC 6455 §10.3).
 * Return: as of buf_append(); on failure @to is as it was.
 */
int ws_client_frame(struct buf *to, uint8_t opcode, const uint8_t mask[WS_MASK_BYTES],
		    const void *head, size_t head_len, const void *p, size_t n);

/*
 * The answer to a Sec-WebSocket-Key (RFC 6455 §4.2.2).  Return: false if the key is not
 * 16 bytes in base64.
 */
bool ws_accept(const char *key, char to[WS_ACCEPT_SIZE]);

#endif
