/* SPDX-License-Identifier: Apache-2.0 */
/* The text of MCP: messages, versions, Accept headers, lines. */
#include <string.h>

#include "base/mem.h"
#include "codec/mcp.h"
#include "unit/test.h"

static enum mcp_kind kind_of(const char *text)
{
	struct jsonrpc_message m;
	struct mcp_message one;
	char reason[256];

	assert_int_equal(jsonrpc_parse(text, strlen(text), &m, reason, sizeof(reason)), 0);
	mcp_message_at(&m, 0, &one);
	jsonrpc_message_fini(&m);
	return one.kind;
}

static void kinds(void **state)
{
	static const struct {
		const char *text;
		enum mcp_kind kind;
	} cases[] = {
		{ "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\"}", MCP_REQUEST },
		{ "{\"jsonrpc\":\"2.0\",\"id\":\"\",\"method\":\"ping\"}", MCP_REQUEST },
		{ "{\"jsonrpc\":\"2.0\",\"method\":\"ping\"}", MCP_NOTIFICATION },
		{ "{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{}}", MCP_RESPONSE },
		{ "{\"jsonrpc\":\"2.0\",\"id\":1,\"error\":{}}", MCP_RESPONSE },
		{ "{\"jsonrpc\":\"2.0\",\"id\":null,\"method\":\"ping\"}", MCP_INVALID },
		{ "{\"jsonrpc\":\"2.0\",\"id\":[],\"method\":\"ping\"}", MCP_INVALID },
		{ "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":5}", MCP_INVALID },
		{ "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"a\",\"params\":[]}", MCP_INVALID },
		{ "{\"id\":1,\"method\":\"ping\"}", MCP_INVALID },
		{ "{}", MCP_INVALID },
		{ "[7]", MCP_INVALID },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		if (kind_of(cases[i].text) != cases[i].kind)
			fail_msg("%s", cases[i].text);
}

static void test_versions(void **state)
{
	(void)state;
	assert_int_equal(mcp_version_parse("2025-06-18"), MCP_2025_06_18);
	assert_int_equal(mcp_version_parse("2025-06-17"), MCP_UNKNOWN);
	assert_int_equal(mcp_version_parse(""), MCP_UNKNOWN);
	assert_int_equal(mcp_version_parse(NULL), MCP_UNKNOWN);
	for (int v = MCP_2024_11_05; v <= MCP_NEWEST; v++) {
		assert_int_equal(mcp_version_parse(mcp_version_text((enum mcp_version)v)), v);
		assert_int_equal(mcp_version_batches((enum mcp_version)v), v == MCP_2025_03_26);
	}
}

static void test_accept(void **state)
{
	const unsigned json = MCP_ACCEPT_JSON, events = MCP_ACCEPT_EVENTS;

	(void)state;
	assert_int_equal(mcp_accept_parse(NULL), json);
	assert_int_equal(mcp_accept_parse("application/json, text/event-stream"), json | events);
	assert_int_equal(mcp_accept_parse("Text/Event-Stream;q=0.2,APPLICATION/JSON"),
			 json | events);
	assert_int_equal(mcp_accept_parse("text/event-stream"), events);
	assert_int_equal(mcp_accept_parse("*/*"), json);
	assert_int_equal(mcp_accept_parse("*/*, application/json;q=0, text/event-stream"), events);
	assert_int_equal(mcp_accept_parse("text/event-stream; q=0.000 , */*"), json);
	assert_int_equal(mcp_accept_parse("text/event-stream;q=0.001"), events);
	assert_int_equal(mcp_accept_parse("text/html, application/jsonp"), 0);
	assert_int_equal(mcp_accept_parse(""), 0);
}

static void feed(struct buf *in, const char *text)
{
	assert_int_equal(buf_append(in, text, strlen(text)), 0);
}

static void test_lines(void **state)
{
	struct mcp_lines l = { .scanned = 0 };
	struct buf in = BUF_INIT;
	size_t len, used;

	(void)state;
	feed(&in, "\n \r\nab");
	assert_int_equal(mcp_lines_next(&l, &in, 4, &len, &used), MCP_LINE_MORE);
	feed(&in, "cd\nx");
	assert_int_equal(mcp_lines_next(&l, &in, 4, &len, &used), MCP_LINE_READY);
	assert_int_equal(len, 4);
	assert_memory_equal(buf_data(&in), "abcd", 4);
	buf_consume(&in, used);
	feed(&in, "yzzy");
	/* It is said once, and its end is waited for. */
	assert_int_equal(mcp_lines_next(&l, &in, 4, &len, &used), MCP_LINE_TOO_LONG);
	assert_int_equal(mcp_lines_next(&l, &in, 4, &len, &used), MCP_LINE_MORE);
	feed(&in, "more of it");
	assert_int_equal(mcp_lines_next(&l, &in, 4, &len, &used), MCP_LINE_MORE);
	assert_int_equal(buf_len(&in), 0);
	feed(&in, "end\nok\n");
	assert_int_equal(mcp_lines_next(&l, &in, 4, &len, &used), MCP_LINE_READY);
	assert_int_equal(len, 2);
	buf_consume(&in, used);
	assert_int_equal(buf_len(&in), 0);
	buf_fini(&in);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(kinds),
		cmocka_unit_test(test_versions),
		cmocka_unit_test(test_accept),
		cmocka_unit_test(test_lines),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
