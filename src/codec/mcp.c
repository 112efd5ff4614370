/* SPDX-License-Identifier: Apache-2.0 */
#include "codec/mcp.h"

#include <string.h>
#include <strings.h>

#include "base/mem.h"

/* ---- versions --------------------------------------------------------------------------- */

static const char *const mcp_versions[] = {
	[MCP_2024_11_05] = "2024-11-05",
	[MCP_2025_03_26] = "2025-03-26",
	[MCP_2025_06_18] = "2025-06-18",
	[MCP_2025_11_25] = "2025-11-25",
};

enum mcp_version mcp_version_parse(const char *text)
{
	for (size_t v = MCP_2024_11_05; text && v < ARRAY_SIZE(mcp_versions); v++)
		if (!strcmp(mcp_versions[v], text))
			return (enum mcp_version)v;
	return MCP_UNKNOWN;
}

const char *mcp_version_text(enum mcp_version v)
{
	return mcp_versions[v];
}

/* ---- messages ----------------------------------------------------------------------------- */

static void mcp_message_invalid(struct mcp_message *m, const char *reason)
{
	m->kind = MCP_INVALID;
	m->call.error = JSONRPC_INVALID;
	m->call.reason = reason;
}

void mcp_message_at(const struct jsonrpc_message *m, size_t i, struct mcp_message *out)
{
	json_t *j = m->batch ? json_array_get(m->root, i) : m->root, *token;

	*out = (struct mcp_message){ .kind = MCP_REQUEST };
	jsonrpc_call_at(m, i, &out->call);
	if (json_is_object(j) && !json_object_get(j, "method") &&
	    (json_object_get(j, "result") || json_object_get(j, "error"))) {
		out->kind = MCP_RESPONSE;
		return;
	}
	if (out->call.error) {
		out->kind = MCP_INVALID;
	} else if (!out->call.id) {
		out->kind = MCP_NOTIFICATION;
	} else if (json_is_null(out->call.id)) {
		mcp_message_invalid(out, "Invalid request: id must not be null");
	}
	if (out->kind == MCP_INVALID && json_is_null(out->call.id))
		out->call.id = NULL;
	token = json_object_get(json_object_get(out->call.params, "_meta"), "progressToken");
	if (out->kind == MCP_REQUEST && (json_is_string(token) || json_is_integer(token)))
		out->token = token;
}

/* ---- Accept --------------------------------------------------------------------------------- */

static const char *mcp_accept_space(const char *p, const char *end)
{
	while (p < end && (*p == ' ' || *p == '\t'))
		p++;
	return p;
}

static bool mcp_accept_is(const char *p, size_t n, const char *type)
{
	return n == strlen(type) && !strncasecmp(p, type, n);
}

/* Does one of the parameters say q=0, 0., 0.0 …: anything but this? */
static bool mcp_accept_refused(const char *p, const char *end)
{
	while ((p = memchr(p, ';', (size_t)(end - p)))) {
		p = mcp_accept_space(p + 1, end);
		if (end - p < 3 || (*p != 'q' && *p != 'Q') || p[1] != '=' || p[2] != '0')
			continue;
		p += 3;
		if (p < end && *p == '.')
			for (p++; p < end && *p == '0';)
				p++;
		p = mcp_accept_space(p, end);
		if (p == end || *p == ';')
			return true;
	}
	return false;
}

unsigned mcp_accept_parse(const char *header)
{
	unsigned found = 0, wild = 0, refused = 0;

	if (!header)
		return MCP_ACCEPT_JSON;
	for (const char *p = header, *next; p; p = next) {
		const char *comma = strchr(p, ','), *end = comma ? comma : p + strlen(p);
		unsigned named = 0, any = 0;
		size_t n;

		next = comma ? comma + 1 : NULL;
		p = mcp_accept_space(p, end);
		n = strcspn(p, " \t;,");
		if (mcp_accept_is(p, n, "application/json"))
			named = MCP_ACCEPT_JSON;
		else if (mcp_accept_is(p, n, "text/event-stream"))
			named = MCP_ACCEPT_EVENTS;
		else if (mcp_accept_is(p, n, "*/*") || mcp_accept_is(p, n, "application/*"))
			any = MCP_ACCEPT_JSON;
		if (mcp_accept_refused(p, end)) {
			refused |= named;
		} else {
			found |= named;
			wild |= any;
		}
	}
	/* What is named beats what "anything" says. */
	return (found | wild) & ~refused;
}

/* ---- one message a line --------------------------------------------------------------- */

static bool mcp_lines_blank(const uint8_t *p, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (p[i] != ' ' && p[i] != '\t' && p[i] != '\r')
			return false;
	return true;
}

enum mcp_line mcp_lines_next(struct mcp_lines *l, struct buf *in, size_t max, size_t *len,
			     size_t *used)
{
	for (;;) {
		const uint8_t *p = buf_data(in);
		size_t have = buf_len(in);
		const uint8_t *nl =
			have > l->scanned ? memchr(p + l->scanned, '\n', have - l->scanned) : NULL;
		size_t n = nl ? (size_t)(nl - p) : have;
		bool skipped = l->skipping;

		l->scanned = nl ? 0 : have;
		l->skipping = !nl && (skipped || n > max);
		if (!skipped && n <= max && !nl)
			return MCP_LINE_MORE;
		if (!skipped && n <= max && !mcp_lines_blank(p, n)) {
			*len = n;
			*used = n + 1;
			return MCP_LINE_READY;
		}
		buf_consume(in, nl ? n + 1 : n);
		if (!nl)
			l->scanned = 0;
		if (!skipped && n > max)
			return MCP_LINE_TOO_LONG;
		if (!nl)
			return MCP_LINE_MORE;
	}
}
