/* SPDX-License-Identifier: Apache-2.0 */
/* WebSocket frames: what comes out of what the other side sends, and what is refused. */
#include "unit/test.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "codec/websocket.h"

#define TEXT_MAX 1000u

struct outcome {
	int rc; /* the last */
	unsigned controls, messages;
	char data[4096]; /* of data messages, '|' at the end of each */
	char control[256]; /* of the last control frame */
	uint8_t control_opcode;
	size_t len;
};

static bool from_server; /* what run() is given */

static void run_in_pieces(const uint8_t *p, size_t n, size_t piece, struct outcome *o)
{
	struct ws_reader *r = malloc(sizeof(*r));
	bool inside = false;
	size_t at = 0, used;

	assert_non_null(r);
	if (from_server)
		ws_reader_init_client(r, TEXT_MAX);
	else
		ws_reader_init(r, TEXT_MAX);
	memset(o, 0, sizeof(*o));
	while (at < n) {
		size_t len = n - at < piece ? n - at : piece;

		o->rc = ws_reader_feed(r, p + at, len, &used);
		assert_true(used <= len);
		at += used;
		if (o->rc < 0) {
			assert_true(r->reason[0]);
			break;
		}
		if (o->rc == WS_EV_MORE)
			assert_int_equal(used, len);
		if (o->rc == WS_EV_CONTROL) {
			o->controls++;
			o->control_opcode = r->opcode;
			memcpy(o->control, r->piece, r->piece_len);
			o->control[r->piece_len] = '\0';
		}
		if (o->rc != WS_EV_PIECE)
			continue;
		assert_true(r->first == !inside);
		inside = !r->last;
		assert_true(o->len + r->piece_len + 1 < sizeof(o->data));
		memcpy(o->data + o->len, r->piece, r->piece_len);
		o->len += r->piece_len;
		if (r->last) {
			o->messages++;
			o->data[o->len++] = '|';
		}
	}
	free(r);
}

/* The same however it is cut. */
static void run(const void *p, size_t n, struct outcome *o)
{
	struct outcome bytes;

	run_in_pieces(p, n, n, o);
	for (size_t piece = 1; piece < 5; piece++) {
		run_in_pieces(p, n, piece, &bytes);
		assert_int_equal(bytes.rc < 0 ? bytes.rc : 0, o->rc < 0 ? o->rc : 0);
		assert_int_equal(bytes.messages, o->messages);
		assert_int_equal(bytes.controls, o->controls);
		if (o->rc >= 0)
			assert_string_equal(bytes.data, o->data);
	}
}

#define RUN(text, o) run(text, sizeof(text) - 1, o)
#define MASK "\x37\xfa\x21\x3d"
#define HELLO "\x7f\x9f\x4d\x51\x58" /* RFC 6455 §5.7 */

static void what_the_specification_shows(void **state)
{
	struct outcome o;
	char accept[WS_ACCEPT_SIZE];
	uint8_t header[WS_HEADER_MAX];

	(void)state;
	RUN("\x81\x85" MASK HELLO, &o);
	assert_string_equal(o.data, "Hello|");
	RUN("\x89\x85" MASK HELLO, &o);
	assert_int_equal(o.controls, 1);
	assert_int_equal(o.control_opcode, WS_PING);
	assert_string_equal(o.control, "Hello");
	assert_int_equal(ws_header(header, WS_TEXT, 5), 2);
	assert_memory_equal(header, "\x81\x05", 2);
	assert_int_equal(ws_header(header, WS_BINARY, 256), 4);
	assert_memory_equal(header, "\x82\x7e\x01\x00", 4);
	assert_int_equal(ws_header(header, WS_BINARY, 65536), 10);
	assert_memory_equal(header, "\x82\x7f\0\0\0\0\0\x01\0\0", 10);
	/* §1.3 */
	assert_true(ws_accept("dGhlIHNhbXBsZSBub25jZQ==", accept));
	assert_string_equal(accept, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
}

static void keys_are_sixteen_bytes(void **state)
{
	static const char *const bad[] = { "",
					   "dGhlIHNhbXBsZSBub25jZQ=",
					   "dGhlIHNhbXBsZSBub25jZQ===",
					   "dGhlIHNhbXBsZSBub25jZ!==",
					   "dGhlIHNhbXBsZSBub25jZR==",
					   "dGhlIHNhbXBsZSBub25jZXMh",
					   "dGhlIHNhbXBsZSBub25j ZQ=" };
	char accept[WS_ACCEPT_SIZE];

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_false(ws_accept(bad[i], accept));
}

#define Z "\0\0\0\0" /* a mask that changes nothing */

static void fragments_make_messages(void **state)
{
	struct outcome o;

	(void)state;
	RUN("\x01\x83" Z "abc\x89\x81" Z "p\x00\x80" Z "\x80\x82" Z "de\x82\x80" Z "\x8a\x80" Z, &o);
	assert_int_equal(o.messages, 2);
	assert_string_equal(o.data, "abcde||");
	assert_int_equal(o.controls, 2);
	/* a character over three fragments */
	RUN("\x01\x81" Z "\xe2\x00\x81" Z "\x82\x80\x81" Z "\xac", &o);
	assert_string_equal(o.data, "\xe2\x82\xac|");
}

static void close_frames(void **state)
{
	struct ws_reader r;
	struct outcome o;
	size_t used;

	(void)state;
	RUN("\x88\x80" Z, &o);
	assert_int_equal(o.control_opcode, WS_CLOSE);
	ws_reader_init(&r, TEXT_MAX);
	assert_int_equal(ws_reader_feed(&r,
					(const uint8_t *)"\x88\x85" Z "\x03\xe8"
							 "bye",
					11, &used),
			 WS_EV_CONTROL);
	assert_int_equal(ws_close_code(&r), WS_CLOSE_NORMAL);
	assert_int_equal(ws_reader_feed(&r, (const uint8_t *)"\x88\x80" Z, 6, &used), WS_EV_CONTROL);
	assert_int_equal(ws_close_code(&r), WS_CLOSE_NO_CODE);
}

#define ROW(code, text) \
	{ \
		-(code), text, sizeof(text) - 1 \
	}

static void what_is_refused(void **state)
{
	static const struct {
		int rc;
		const char *text;
		size_t len;
	} rows[] = {
		ROW(1002, "\x81\x05Hello"), /* no mask */
		ROW(1002, "\xc1\x80" Z),
		ROW(1002, "\xa1\x80" Z),
		ROW(1002, "\x91\x80" Z),
		ROW(1002, "\x83\x80" Z),
		ROW(1002, "\x87\x80" Z),
		ROW(1002, "\x8b\x80" Z),
		ROW(1002, "\x8f\x80" Z),
		ROW(1002, "\x09\x80" Z), /* ping in fragments */
		ROW(1002, "\x89\xfe\x00\x7e" Z), /* and a long one */
		ROW(1002, "\x80\x80" Z), /* nothing to continue */
		ROW(1002, "\x01\x80" Z "\x81\x80" Z), /* a message inside another */
		ROW(1002, "\x81\x80" Z "\x80\x80" Z), /* it was complete */
		ROW(1002, "\x82\xfe\x00\x7d" Z), /* not the shortest form */
		ROW(1002, "\x82\xff\0\0\0\0\0\0\xff\xff" Z),
		ROW(1002, "\x82\xff\x80\0\0\0\0\0\0\0" Z), /* over 2^63 - 1 */
		ROW(1002, "\x88\x81" Z "\x03"), /* half a code */
		ROW(1002, "\x88\x82" Z "\x03\xe7"), /* 999 */
		ROW(1002, "\x88\x82" Z "\x03\xec"), /* 1004 to 1006 */
		ROW(1002, "\x88\x82" Z "\x03\xed"),
		ROW(1002, "\x88\x82" Z "\x03\xee"),
		ROW(1002, "\x88\x82" Z "\x03\xf7"), /* 1015 */
		ROW(1002, "\x88\x82" Z "\x0b\xb7"), /* 2999 */
		ROW(1002, "\x88\x82" Z "\x13\x88"), /* 5000 */
		ROW(1007, "\x88\x83" Z "\x03\xe8\xff"),
		ROW(1007, "\x81\x81" Z "\xff"),
		ROW(1007, "\x81\x82" Z "\xc3\x28"),
		ROW(1007, "\x81\x82" Z "\xe2\x82"),
		ROW(1007, "\x01\x82" Z "\xe2\x82\x80\x80" Z),
		ROW(1007, "\x01\x81" Z "\xed\x80\x81" Z "\xa0"), /* a surrogate, as it comes */
		ROW(1009, "\x81\xfe\x03\xe9" Z), /* 1001 bytes of text */
		ROW(1009, "\x81\xff\x7f\xff\xff\xff\xff\xff\xff\xff" Z),
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct outcome o;

		run(rows[i].text, rows[i].len, &o);
		if (o.rc != rows[i].rc)
			fail_msg("row %zu: %d, not %d", i, o.rc, rows[i].rc);
	}
}

static void text_has_a_limit_over_all_fragments(void **state)
{
	uint8_t bytes[2 * (4 + 4 + 600)] = { 0x01, 0xfe, 600 >> 8, 600 & 255 };
	struct outcome o;

	(void)state;
	memset(bytes + 8, 'a', 600);
	memcpy(bytes + 608, "\x80\xfe\x01\x90\0\0\0\0", 8); /* 400: just at it */
	memset(bytes + 616, 'b', 400);
	run(bytes, 616 + 400, &o);
	assert_int_equal(o.messages, 1);
	memcpy(bytes + 608, "\x80\xfe\x01\x91\0\0\0\0", 8);
	run(bytes, 616 + 401, &o);
	assert_int_equal(o.rc, -WS_CLOSE_TOO_BIG);
	/* bytes have none */
	bytes[0] = 0x02;
	run(bytes, 616 + 401, &o);
	assert_int_equal(o.messages, 1);
}

static void a_huge_message_comes_in_pieces(void **state)
{
	static uint8_t bytes[100000];
	struct ws_reader *r = malloc(sizeof(*r));
	uint64_t got = 0;
	size_t used;

	(void)state;
	assert_non_null(r);
	ws_reader_init(r, TEXT_MAX);
	assert_int_equal(ws_reader_feed(r, (const uint8_t *)"\x82\xff\0\0\0\x10\0\0\0\0" Z, 14,
					&used),
			 WS_EV_MORE);
	while (got < 1u << 24) {
		assert_int_equal(ws_reader_feed(r, bytes, sizeof(bytes), &used), WS_EV_PIECE);
		assert_int_equal(used, WS_PIECE_MAX);
		assert_int_equal(r->piece_len, WS_PIECE_MAX);
		assert_true(r->first == !got && !r->last);
		got += used;
	}
	free(r);
}

/* ---- from a client's side ---- */

static int as_client(void **state)
{
	(void)state;
	from_server = true;
	return 0;
}

static int as_server(void **state)
{
	(void)state;
	from_server = false;
	return 0;
}

static void what_a_server_sends(void **state)
{
	struct outcome o;

	(void)state;
	RUN("\x81\x05Hello\x89\x01p\x02\x03"
	    "abc\x80\x02"
	    "de\x82\x00",
	    &o);
	assert_string_equal(o.data, "Hello|abcde||");
	assert_int_equal(o.messages, 3);
	assert_string_equal(o.control, "p");
	RUN("\x82\x00\x88\x05\x03\xe8"
	    "bye",
	    &o);
	assert_int_equal(o.control_opcode, WS_CLOSE);
	assert_int_equal(o.messages, 1);
}

static void what_a_server_may_not(void **state)
{
	static const struct {
		int rc;
		const char *text;
		size_t len;
	} rows[] = {
		ROW(1002, "\x81\x85" MASK HELLO),
		ROW(1002, "\x82\x80" Z),
		ROW(1002, "\xc2\x00"),
		ROW(1002, "\x83\x00"),
		ROW(1002, "\x89\x7e\x00\x7e"),
		ROW(1002, "\x09\x00"),
		ROW(1002, "\x80\x00"),
		ROW(1002, "\x02\x01y\x82\x00"),
		ROW(1002, "\x82\x7e\x00\x7d"),
		ROW(1007, "\x81\x01\xff"),
		ROW(1009, "\x81\x7e\x03\xe9"), /* 1001 bytes, of text */
		ROW(1009, "\x82\x7e\x03\xe9"), /* or not */
		ROW(1009, "\x82\x7f\x7f\xff\xff\xff\xff\xff\xff\xff"),
	};
	uint8_t bytes[700] = { 0x02, 0x7e, 600 >> 8, 600 & 255 };
	struct outcome o;

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		run(rows[i].text, rows[i].len, &o);
		if (o.rc != rows[i].rc)
			fail_msg("row %zu: %d, not %d", i, o.rc, rows[i].rc);
	}
	memcpy(bytes + 604, "\x80\x7e\x01\x91", 4); /* and 401 more */
	run(bytes, 608, &o);
	assert_int_equal(o.rc, -WS_CLOSE_TOO_BIG);
}

/* What a client makes is what a server reads. */
static void frames_of_a_client(void **state)
{
	static const size_t sizes[] = { 0, 1, 125, 126, 999 };
	struct buf frame = BUF_INIT;
	uint8_t bytes[1000], mask[] = { 0x37, 0xfa, 0x21, 0x3d };
	struct outcome o;

	(void)state;
	assert_int_equal(ws_client_frame(&frame, WS_TEXT, mask, "Hel", 3, "lo", 2), 0);
	assert_int_equal(buf_len(&frame), 11);
	assert_memory_equal(buf_data(&frame), "\x81\x85" MASK HELLO, 11);
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		buf_reset(&frame);
		memset(bytes, 'x', sizeof(bytes));
		assert_int_equal(ws_client_frame(&frame, WS_BINARY, mask, "\1", 1, bytes, sizes[i]),
				 0);
		run(buf_data(&frame), buf_len(&frame), &o);
		assert_int_equal(o.messages, 1);
		assert_int_equal(o.len, sizes[i] + 2);
		assert_int_equal(o.data[0], 1);
		assert_memory_equal(o.data + 1, bytes, sizes[i]);
	}
	/* Nothing is there of one that has no room. */
	buf_fini(&frame);
	buf_init(&frame, 100);
	assert_int_equal(ws_client_frame(&frame, WS_BINARY, mask, NULL, 0, bytes, 100), -ENOBUFS);
	assert_int_equal(ws_client_frame(&frame, WS_BINARY, mask, bytes, 2, bytes, SIZE_MAX),
			 -ENOBUFS);
	assert_int_equal(buf_len(&frame), 0);
	buf_fini(&frame);
	assert_int_equal(ws_client_frame(&frame, WS_PONG, mask, NULL, 0, NULL, 0), 0);
	assert_memory_equal(buf_data(&frame), "\x8a\x80" MASK, 6);
	buf_fini(&frame);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(what_the_specification_shows),
		TEST(keys_are_sixteen_bytes),
		TEST(fragments_make_messages),
		TEST(close_frames),
		TEST(what_is_refused),
		TEST(text_has_a_limit_over_all_fragments),
		TEST(a_huge_message_comes_in_pieces),
		cmocka_unit_test_setup_teardown(what_a_server_sends, as_client, as_server),
		cmocka_unit_test_setup_teardown(what_a_server_may_not, as_client, as_server),
		TEST(frames_of_a_client),
	};

	return test_run(tests);
}
