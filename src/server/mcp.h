/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_SERVER_MCP_H
#define MSB_SERVER_MCP_H

/*
 * DOC: The Model Context Protocol
 *
 * Purpose: the methods of the API as tools for agents, at POST /mcp.
 *
 * Spec: MCP 2025-06-18, "Streamable HTTP" transport, also spoken in its versions
 * 2025-03-26 and 2024-11-05.  Every request is answered by one JSON document, so there is
 * no event stream (GET is 405, as the specification has it for such servers), and there is
 * no state between requests, so there is no session id.
 *
 * Tools and the schemas of their arguments are made from api/openrpc.json (x-mcp-tool).
 * A tool that fails is a result with isError, which the model gets to read; a request that
 * is wrong is an error of JSON-RPC.
 */

#include "server/conn.h"
#include "server/rpc.h"

/* Answers the request on @c, now or later. */
void mcp_request(struct conn *c, const struct principal *who);

#endif
