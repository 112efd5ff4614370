/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The text of MCP.  The first byte of the input says which part: a message (or a batch), an
 * Accept header, or lines, which must come out the same however the bytes are cut.
 */
#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "codec/mcp.h"

#define LINE_MAX_BYTES 40u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void fuzz_message(const char *text, size_t size)
{
	struct jsonrpc_message m;
	struct mcp_message one;
	char reason[256] = "";

	if (jsonrpc_parse(text, size, &m, reason, sizeof(reason)))
		return;
	for (size_t i = 0; i < m.n; i++) {
		mcp_message_at(&m, i, &one);
		switch (one.kind) {
		case MCP_REQUEST:
			assert(one.call.method && one.call.id && !json_is_null(one.call.id));
			assert(!one.token || json_is_string(one.token) ||
			       json_is_integer(one.token));
			break;
		case MCP_NOTIFICATION:
			assert(one.call.method && !one.call.id && !one.token);
			break;
		case MCP_INVALID:
			assert(one.call.error && one.call.reason && !one.token);
			assert(!json_is_null(one.call.id));
			break;
		case MCP_RESPONSE:
			break;
		}
	}
	jsonrpc_message_fini(&m);
}

static void fuzz_accept(const char *text, size_t size)
{
	char *header = strndup(text, size);
	unsigned found = mcp_accept_parse(header);

	assert(!(found & ~(unsigned)(MCP_ACCEPT_JSON | MCP_ACCEPT_EVENTS)));
	/* Nobody gets a stream who did not name it. */
	assert(!(found & MCP_ACCEPT_EVENTS) || strcasestr(header, "text/event-stream"));
	free(header);
}

/* What came out: a line's bytes, or a mark for one that was too long. */
static void fuzz_lines(const uint8_t *p, size_t size, size_t step, struct buf *out)
{
	struct mcp_lines l = { .scanned = 0 };
	struct buf in = BUF_INIT;
	size_t len, used;

	buf_init(&in, LINE_MAX_BYTES + 64);
	for (size_t at = 0; at < size; at += step) {
		size_t n = size - at < step ? size - at : step;
		enum mcp_line line;

		assert(!buf_append(&in, p + at, n));
		while ((line = mcp_lines_next(&l, &in, LINE_MAX_BYTES, &len, &used)) !=
		       MCP_LINE_MORE) {
			if (line == MCP_LINE_TOO_LONG) {
				assert(!buf_append(out, "\n!", 2));
				continue;
			}
			assert(len && len <= LINE_MAX_BYTES && used <= buf_len(&in));
			assert(!memchr(buf_data(&in), '\n', len));
			assert(!buf_append(out, "\n", 1));
			assert(!buf_append(out, buf_data(&in), len));
			buf_consume(&in, used);
		}
		assert(buf_len(&in) <= LINE_MAX_BYTES);
	}
	buf_fini(&in);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct buf whole = BUF_INIT, cut = BUF_INIT;

	if (!size)
		return 0;
	switch (data[0] % 3) {
	case 0:
		fuzz_message((const char *)data + 1, size - 1);
		break;
	case 1:
		fuzz_accept((const char *)data + 1, size - 1);
		break;
	default:
		fuzz_lines(data + 1, size - 1, 64, &whole);
		fuzz_lines(data + 1, size - 1, 1 + data[0] / 3 % 7, &cut);
		assert(buf_len(&whole) == buf_len(&cut));
		assert(!buf_len(&cut) || !memcmp(buf_data(&whole), buf_data(&cut), buf_len(&cut)));
		buf_fini(&whole);
		buf_fini(&cut);
	}
	return 0;
}
