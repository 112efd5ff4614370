/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <errno.h>
#include <cmocka.h>

#include "codec/sse.h"

/* Events as text: "name=data|name=data|". */
static int note(void *context, const char *name, const uint8_t *data, size_t len)
{
	struct buf *b = context;

	assert_int_equal(buf_append(b, name, strlen(name)), 0);
	assert_int_equal(buf_append(b, "=", 1), 0);
	assert_int_equal(buf_append(b, data, len), 0);
	assert_int_equal(buf_append(b, "|", 1), 0);
	return 0;
}

static void expect(const char *stream, size_t n, const char *events)
{
	/* In pieces of every size: the events never depend on it. */
	for (size_t piece = 1; piece <= n; piece++) {
		struct buf got = BUF_INIT;
		struct sse_parser p;

		sse_init(&p, 100);
		for (size_t at = 0; at < n; at += piece)
			assert_int_equal(sse_feed(&p, stream + at, n - at < piece ? n - at : piece,
						  note, &got),
					 0);
		assert_int_equal(buf_append(&got, "", 1), 0);
		assert_string_equal((const char *)buf_data(&got), events);
		sse_fini(&p);
		buf_fini(&got);
	}
}

#define EXPECT(stream, events) expect(stream, sizeof(stream) - 1, events)

static void test_events(void **state)
{
	(void)state;
	EXPECT("event: exit\ndata: {\"a\":1}\n\n", "exit={\"a\":1}|");
	EXPECT("data: a\n\ndata: b\n\n", "message=a|message=b|");
	EXPECT("data: a\ndata: b\n\n", "message=a\nb|");
	EXPECT("data:a\ndata:  b\n\n", "message=a\n b|");
	EXPECT("data\n\n", "message=|");
	EXPECT("data\ndata\n\n", "message=\n|");
	EXPECT("event: x\n\ndata: y\n\n", "message=y|");
	EXPECT("event: x\nevent: z\ndata: y\n\n", "z=y|");
	EXPECT("data: a:b: c\n\n", "message=a:b: c|");
}

static void test_ends_of_lines(void **state)
{
	(void)state;
	EXPECT("data: a\r\n\r\n", "message=a|");
	EXPECT("data: a\r\r", "message=a|");
	EXPECT("data: a\n\rdata: b\r\n\n", "message=a|message=b|");
	EXPECT("\n\n\r\n\rdata: a\n\n", "message=a|");
}

static void test_what_is_no_event(void **state)
{
	(void)state;
	EXPECT(": keep-alive\n\n: x\ndata: a\n: y\n\n", "message=a|");
	EXPECT("id: 4\nretry: 10\nunknown: x\n\n", "");
	EXPECT("data: a\n", "");
	EXPECT("data: a\n\ndata: cut off", "message=a|");
	EXPECT("\xEF\xBB\xBF"
	       "data: a\n\n\xEF\xBB\xBF"
	       "data: b\n\n",
	       "message=a|");
	EXPECT(" data: a\n\n", "");
	EXPECT("datax: a\n\n", "");
}

static void test_limits(void **state)
{
	char line[300];
	struct sse_parser p;
	struct buf got = BUF_INIT;

	(void)state;
	/* A line of the maximum and its newline pass; a longer one does not, in one piece or many. */
	memset(line, ':', sizeof(line));
	for (size_t piece = 1; piece <= 2; piece++) {
		int rc = 0;

		sse_init(&p, 100);
		line[103] = '\n';
		assert_int_equal(sse_feed(&p, line, 104, note, &got), 0);
		line[103] = ':';
		line[299] = '\n';
		for (size_t at = 0; at < 300 && !rc; at += piece == 1 ? 300 : 7)
			rc = sse_feed(&p, line + at,
				      piece == 1 ? 300 : (300 - at < 7 ? 300 - at : 7), note, &got);
		assert_int_equal(rc, -ENOBUFS);
		sse_fini(&p);
	}
	/* So does an event of many short lines. */
	sse_init(&p, 100);
	for (int i = 0; i < 10; i++)
		assert_int_equal(sse_feed(&p, "data: 012345678\n", 16, note, &got), 0);
	assert_int_equal(sse_feed(&p, "data: 012345678\n", 16, note, &got), -ENOBUFS);
	sse_fini(&p);
	/* A name is cut. */
	sse_init(&p, 200);
	memset(line, 'n', sizeof(line));
	assert_int_equal(sse_feed(&p, "event:", 6, note, &got), 0);
	assert_int_equal(sse_feed(&p, line, 100, note, &got), 0);
	assert_int_equal(sse_feed(&p, "\ndata:x\n\n", 9, note, &got), 0);
	assert_int_equal(buf_len(&got), SSE_NAME_MAX + 3);
	sse_fini(&p);
	buf_fini(&got);
}

static int refuse(void *context, const char *name, const uint8_t *data, size_t len)
{
	(void)name;
	(void)data;
	(void)len;
	++*(int *)context;
	return 42;
}

static void test_a_callback_that_refuses(void **state)
{
	struct sse_parser p;
	int calls = 0;

	(void)state;
	sse_init(&p, 100);
	assert_int_equal(sse_feed(&p, "data: a\n\ndata: b\n\n", 18, refuse, &calls), 42);
	assert_int_equal(calls, 1);
	sse_fini(&p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_events),
		cmocka_unit_test(test_ends_of_lines),
		cmocka_unit_test(test_what_is_no_event),
		cmocka_unit_test(test_limits),
		cmocka_unit_test(test_a_callback_that_refuses),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
