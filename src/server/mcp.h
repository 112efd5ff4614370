/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_SERVER_MCP_H
#define MSB_SERVER_MCP_H

/*
 * DOC: The Model Context Protocol
 *
 * Purpose: the methods of the API as tools for agents, at /mcp (mcp_http.c) and on the
 * standard streams of `msb mcp` (mcp_stdio.c).  This part knows messages, not how they
 * travel.
 *
 * Spec: MCP 2025-11-25, and the three versions before it.  Of what a server may offer there
 * are tools and prompts; it never asks a client for anything.
 *
 * A peer is a client from its initialize to its end, an exchange is what it sent in one
 * piece: a message, or a batch (2025-03-26 only), whose calls run one after the other.
 * Exchanges run side by side.  Each ends in one of three ways: done() once; cancelled by
 * notifications/cancelled, which is done() with nothing to say; or given up by its owner
 * with mcp_exchange_cancel(), and no done().
 *
 * Tools and the schemas of their arguments and results are made from api/openrpc.json
 * (x-mcp-tool).  A tool that fails is a result with isError, which the model gets to read;
 * a request that is wrong is an error of JSON-RPC.
 */

#include "base/buf.h"
#include "base/list.h"
#include "codec/mcp.h"
#include "server/internal.h"
#include "server/rpc.h"
#include "sys/loop.h"

#define MCP_BEAT_FIRST_MS 5000u /* a call that takes longer is told about */
#define MCP_BEAT_MS 15000u /* and then so often */

struct mcp_peer {
	struct server *server;
	struct principal who;
	enum mcp_version version; /* MCP_UNKNOWN until it is negotiated */
	bool initialized; /* initialize was answered */
	struct list exchanges; /* that are worked on */
};

struct mcp_exchange;

struct mcp_exchange_ops {
	/*
	 * All is answered, perhaps before mcp_exchange_start() returns; @x may be freed
	 * when the loop is back.  @answer is text, malloc'ed, and taken over; NULL: there is
	 * nothing to say.  @status: how HTTP calls it.
	 */
	void (*done)(struct mcp_exchange *x, int status, char *answer);
	/* Something to say meanwhile; @message is taken over. */
	void (*notify)(struct mcp_exchange *x, json_t *message);
	/* A call is still running; may be NULL. */
	void (*beat)(struct mcp_exchange *x);
};

struct mcp_exchange {
	const struct mcp_exchange_ops *ops;
	struct mcp_peer *peer;
	struct list link; /* in peer->exchanges */
	struct jsonrpc_message msg;
	struct mcp_message current;
	const struct api_tool *tool;
	struct rpc_call call; /* of tools/call, with current.call.id */
	size_t next;
	int status;
	bool looping, running, ended;
	bool opened; /* it held an initialize that was answered */
	struct buf answers; /* of a batch, as text */
	char *answer; /* else the one */
	bool failed; /* memory was out for one of a batch */
	struct loop_timer beat;
	uint64_t since_ns;
	double told; /* progress that was reported last, seconds */
};

void mcp_peer_init(struct mcp_peer *p, struct server *s, const struct principal *who,
		   enum mcp_version version);

/* Reads @text, which is not needed any more after it, and works through it. */
void mcp_exchange_start(struct mcp_exchange *x, struct mcp_peer *p,
			const struct mcp_exchange_ops *ops, const char *text, size_t len);

/* Gives it up: what runs for it is killed, and nobody is told. */
void mcp_exchange_cancel(struct mcp_exchange *x);

/* Ends it with an error in place of the answer that is still missing. */
void mcp_exchange_abort(struct mcp_exchange *x, int status, const char *message);

/* Frees what it holds, after done() or mcp_exchange_cancel(). */
void mcp_exchange_fini(struct mcp_exchange *x);

/* An error of JSON-RPC; @message may quote a client. @id may be NULL: null. */
json_t *mcp_error(int code, const char *message, json_t *id);

/* ---- tools (mcp_tools.c), prompts (mcp_prompts.c) -------------------------------------- */

struct api_tool;

/* The result of tools/list, as @p understands it. NULL if memory is out. */
json_t *mcp_tools_list(const struct mcp_peer *p);

/* NULL if there is none of that name. */
const struct api_tool *mcp_tool_find(const char *name);

/* The result of tools/call, from a call that was answered. NULL if memory is out. */
json_t *mcp_tool_result(const struct mcp_peer *p, const struct api_tool *t,
			const struct rpc_call *call);

/* The whole answer to tools/call as text, malloc'ed, with an error for a result if it is longer than
 * RPC_ANSWER_MAX. NULL if memory is out. */
char *mcp_tool_answer(const struct mcp_peer *p, const struct api_tool *t,
		      const struct rpc_call *call, json_t *id);

json_t *mcp_prompts_list(const struct mcp_peer *p);

/* Return: the result, or NULL with a line in *@reason. */
json_t *mcp_prompts_get(const json_t *params, const char **reason);

/* ---- over HTTP (mcp_http.c) --------------------------------------------------------------- */

struct conn;

/* Answers the POST on @c, now or later. */
void mcp_http_post(struct conn *c, const struct principal *who);

/* DELETE: the client's session ends. */
void mcp_http_delete(struct conn *c, const struct principal *who);

/* ---- sessions (mcp_session.c) --------------------------------------------------------------- */

#define MCP_SESSION_ID_SIZE 33u /* 32 hex digits + NUL */

struct mcp_session {
	struct mcp_peer peer;
	struct list link; /* in server->mcp_sessions, the longest unused first */
	struct corpse corpse;
	uint64_t used_ns;
	char id[MCP_SESSION_ID_SIZE];
};

void mcp_sessions_init(struct server *s);

/* Ends all of them and what runs in them. */
void mcp_sessions_fini(struct server *s);

/* A new one; one that was not used for long may have to go. NULL if it cannot be made. */
struct mcp_session *mcp_session_create(struct server *s, const struct principal *who,
				       enum mcp_version version);

/* The one of that id, if it was made with the same key, or NULL. It counts as used. */
struct mcp_session *mcp_session_find(struct server *s, const struct principal *who, const char *id);

/* Ends it: what runs in it is stopped, and its clients are told. */
void mcp_session_end(struct mcp_session *m);

/* ---- on standard input and output (mcp_stdio.c) ---------------------------------------------- */

struct mcp_stdio;

int mcp_stdio_create(struct server *s, struct mcp_stdio **out, struct err *e);
void mcp_stdio_destroy(struct mcp_stdio *io);

/* Takes no more requests and gives up those that are worked on. */
void mcp_stdio_end(struct mcp_stdio *io);

/* Was everything written, or is nobody there to read it? NULL: yes. */
bool mcp_stdio_idle(const struct mcp_stdio *io);

#endif
