/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_CODEC_MCP_H
#define MSB_CODEC_MCP_H

/*
 * The text of the Model Context Protocol: its messages, versions, and what frames them.
 *
 * Spec: MCP 2025-11-25, 2025-06-18, 2025-03-26 and 2024-11-05 (modelcontextprotocol.io), each
 * JSON-RPC 2.0 with rules of its own: a request's id is never null, and only 2025-03-26 has
 * batches.
 */

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"
#include "codec/jsonrpc.h"

/* In the order of time. */
enum mcp_version {
	MCP_UNKNOWN, /* nobody has said: as lenient as all of them together */
	MCP_2024_11_05,
	MCP_2025_03_26,
	MCP_2025_06_18,
	MCP_2025_11_25,
	MCP_NEWEST = MCP_2025_11_25,
};

/* Return: MCP_UNKNOWN if we do not speak it. @text may be NULL. */
enum mcp_version mcp_version_parse(const char *text);
const char *mcp_version_text(enum mcp_version v); /* not of MCP_UNKNOWN */

/* May the messages be an array? */
static inline bool mcp_version_batches(enum mcp_version v)
{
	return v == MCP_UNKNOWN || v == MCP_2025_03_26;
}

enum mcp_kind {
	MCP_REQUEST, /* wants an answer */
	MCP_NOTIFICATION,
	MCP_RESPONSE, /* an answer, or an error, of the other side */
	MCP_INVALID, /* call.error and call.reason say why */
};

struct mcp_message {
	enum mcp_kind kind;
	struct jsonrpc_call call; /* id NULL unless it may be answered with it */
	json_t *token; /* of a request that wants to be told of progress, or NULL; borrowed */
};

/* The @i-th message; everything points into @m. */
void mcp_message_at(const struct jsonrpc_message *m, size_t i, struct mcp_message *out);

enum mcp_accept {
	MCP_ACCEPT_JSON = 1,
	MCP_ACCEPT_EVENTS = 2, /* text/event-stream, by name: "anything" does not mean it */
};

/* What an Accept header takes (RFC 9110 §12.5.1), bits of enum mcp_accept. NULL = JSON. */
unsigned mcp_accept_parse(const char *header);

/* ---- one message a line --------------------------------------------------------------- */

struct mcp_lines {
	size_t scanned; /* of the buffer: there is no newline */
	bool skipping; /* the rest of a line that was too long */
};

enum mcp_line { MCP_LINE_MORE, MCP_LINE_READY, MCP_LINE_TOO_LONG };

/*
 * The next line of @in that is not blank; blank ones and the rest of those that were too
 * long are taken off.  With MCP_LINE_READY it is *@len bytes at the beginning of @in, whose
 * first *@used are to be consumed before the next call.  MCP_LINE_TOO_LONG: it has more than
 * @max bytes; said once.
 */
enum mcp_line mcp_lines_next(struct mcp_lines *l, struct buf *in, size_t max, size_t *len,
			     size_t *used);

#endif
