/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DOC: MCP over HTTP
 *
 * Purpose: the transport "streamable HTTP": each message is a POST, its answer either one
 * JSON document or a stream of events whose last one is the answer.
 *
 * Which of both: JSON, until there is something to say before the answer (progress, for
 * who asked for it) or the call takes longer than MCP_BEAT_FIRST_MS; then, if the client
 * takes events, a stream, which is kept alive by comments so that nobody on the way takes
 * it for dead.  There is no stream from server to client besides (GET is 405, as the
 * specification has it for such servers), and streams cannot be resumed.
 *
 * Sessions: initialize makes one.  Requests without one work as well, each on its own, for
 * clients that know nothing of sessions.  A client that closes its connection has given up
 * its request, unless it has a session: then the call goes on (a client cancels by saying
 * so, and a connection breaks for other reasons), but not for longer than MCP_DETACHED_MS,
 * because its answer can reach nobody.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "server/conn.h"
#include "server/mcp.h"

#define MCP_DETACHED_MS 60000u

struct mcp_http {
	struct conn *conn; /* NULL = gone */
	struct server *server;
	struct mcp_session *session; /* NULL = none */
	struct mcp_peer own; /* without a session */
	struct mcp_exchange x;
	struct loop_timer detached;
	struct corpse corpse;
	unsigned accepts; /* bits of enum mcp_accept */
	bool streaming;
};

static void mcp_http_free(struct corpse *c)
{
	struct mcp_http *h = container_of(c, struct mcp_http, corpse);

	mcp_exchange_fini(&h->x);
	free(h);
}

static void mcp_http_bury(struct mcp_http *h)
{
	h->conn = NULL;
	loop_timer_cancel(&h->detached);
	server_bury(h->server, &h->corpse, mcp_http_free);
}

static void mcp_http_give_up(struct loop_timer *t)
{
	struct mcp_http *h = container_of(t, struct mcp_http, detached);

	mcp_exchange_cancel(&h->x);
	mcp_http_bury(h);
}

/* The client is gone. */
static void mcp_http_gone(struct conn *c)
{
	struct mcp_http *h = c->state;

	h->conn = NULL;
	if (h->session && h->x.running) {
		loop_timer_set(h->server->loop, &h->detached, MCP_DETACHED_MS);
		return;
	}
	mcp_exchange_cancel(&h->x);
	mcp_http_bury(h);
}

/* ---- answers ------------------------------------------------------------------------ */

/* @more: further header lines. Return: false if the client is gone. */
static bool mcp_http_stream(struct mcp_http *h, const char *more)
{
	char headers[700];
	size_t n;

	if (!h->conn || h->streaming)
		return h->conn != NULL;
	n = (size_t)snprintf(headers, sizeof(headers),
			     "Cache-Control: no-cache\r\nX-Accel-Buffering: no\r\n%s", more);
	http_api_headers(h->conn, headers + n, sizeof(headers) - n);
	if (conn_begin(h->conn, 200, "text/event-stream", headers))
		return false;
	h->streaming = true;
	return true;
}

/* @text NULL: memory was out. Return: false if it is not sent; the client may be gone then. */
static bool mcp_http_event(struct mcp_http *h, const char *text)
{
	struct buf event = BUF_INIT;
	int rc = text ? 0 : -ENOMEM;

	if (!rc && !(rc = buf_append(&event, "event: message\ndata: ", 21)) &&
	    !(rc = buf_append(&event, text, strlen(text))) && !(rc = buf_append(&event, "\n\n", 2)))
		rc = conn_add(h->conn, buf_data(&event), buf_len(&event));
	buf_fini(&event);
	return !rc;
}

static void mcp_http_reply(struct conn *c, int status, const char *more, const char *body)
{
	char headers[600];
	size_t n = (size_t)snprintf(headers, sizeof(headers), "%s", more);

	http_api_headers(c, headers + n, sizeof(headers) - n);
	if (!body && status != 202 && status != 204)
		conn_reply(c, 503, "application/json", headers, "{}", 2, false);
	else
		conn_reply(c, status, "application/json", headers, body, body ? strlen(body) : 0,
			   false);
}

static void mcp_http_done(struct mcp_exchange *x, int status, char *answer)
{
	struct mcp_http *h = container_of(x, struct mcp_http, x);
	struct mcp_session *m;
	char header[80] = "";

	if (x->opened && h->conn && !h->session) {
		m = mcp_session_create(h->server, &x->peer->who, x->peer->version);
		if (m)
			snprintf(header, sizeof(header), "Mcp-Session-Id: %s\r\n", m->id);
	}
	if (answer && status == 200 && h->accepts == MCP_ACCEPT_EVENTS)
		mcp_http_stream(h, header);
	if (h->conn && h->streaming) {
		struct conn *c = h->conn;

		/* conn_add() calls it if the client is gone: then there is nothing to end. */
		if (!answer || mcp_http_event(h, answer))
			conn_end(c);
	} else if (h->conn) {
		mcp_http_reply(h->conn, status, header, answer);
	}
	free(answer);
	mcp_http_bury(h);
}

static void mcp_http_notify(struct mcp_exchange *x, json_t *message)
{
	struct mcp_http *h = container_of(x, struct mcp_http, x);
	auto_free char *text = NULL;
	size_t n;

	/* Who does not read is told less. */
	if (!(h->accepts & MCP_ACCEPT_EVENTS) || !mcp_http_stream(h, "") || !conn_room(h->conn)) {
		json_decref(message);
		return;
	}
	text = rpc_text(message, SIZE_MAX, &n);
	mcp_http_event(h, text);
}

static void mcp_http_beat(struct mcp_exchange *x)
{
	struct mcp_http *h = container_of(x, struct mcp_http, x);

	if (h->accepts & MCP_ACCEPT_EVENTS && mcp_http_stream(h, "") && conn_room(h->conn))
		conn_add(h->conn, ": working\n\n", 11);
}

static const struct mcp_exchange_ops mcp_http_ops = {
	.done = mcp_http_done,
	.notify = mcp_http_notify,
	.beat = mcp_http_beat,
};

/* ---- requests -------------------------------------------------------------------------- */

/* Refuses a request as a whole. */
static void mcp_http_refuse(struct conn *c, int status, int code, const char *message)
{
	size_t n;
	auto_free char *answer = rpc_text(mcp_error(code, message, NULL), SIZE_MAX, &n);

	c->server->count.bad_requests++;
	mcp_http_reply(c, status, "", answer);
}

/*
 * What both methods ask of the headers.  *@out: the session, NULL = none is named.
 * Return: false if the request was answered.
 */
static bool mcp_http_check(struct conn *c, const struct principal *who, enum mcp_version *version,
			   struct mcp_session **out)
{
	const struct http_request *q = &c->reader.request;
	const char *said = http_header(q, "mcp-protocol-version");
	const char *id = http_header(q, "mcp-session-id");

	*version = mcp_version_parse(said);
	*out = NULL;
	if (said && !*version) {
		mcp_http_refuse(c, 400, JSONRPC_INVALID,
				"Bad Request: this MCP-Protocol-Version is not spoken here");
		return false;
	}
	if (id && !(*out = mcp_session_find(c->server, who, id))) {
		mcp_http_refuse(c, 404, RPC_NOT_FOUND,
				"Session not found: initialize again, without Mcp-Session-Id");
		return false;
	}
	return true;
}

void mcp_http_post(struct conn *c, const struct principal *who)
{
	unsigned accepts = mcp_accept_parse(http_header(&c->reader.request, "accept"));
	struct buf *body = &c->reader.request.body;
	enum mcp_version version;
	struct mcp_session *session;
	struct mcp_http *h;

	if (!accepts) {
		mcp_http_refuse(c, 406, JSONRPC_INVALID,
				"Not Acceptable: accept application/json and text/event-stream");
		return;
	}
	if (!mcp_http_check(c, who, &version, &session))
		return;
	h = calloc(1, sizeof(*h));
	if (!h) {
		mcp_http_reply(c, 503, "", NULL);
		return;
	}
	h->conn = c;
	h->server = c->server;
	h->session = session;
	h->accepts = accepts;
	loop_timer_init(&h->detached, mcp_http_give_up);
	mcp_peer_init(&h->own, c->server, who, version);
	c->state = h;
	c->cancel = mcp_http_gone;
	mcp_exchange_start(&h->x, session ? &session->peer : &h->own, &mcp_http_ops,
			   (const char *)buf_data(body), buf_len(body));
}

void mcp_http_delete(struct conn *c, const struct principal *who)
{
	enum mcp_version version;
	struct mcp_session *session;

	if (!mcp_http_check(c, who, &version, &session))
		return;
	if (!session) {
		mcp_http_refuse(c, 400, JSONRPC_INVALID,
				"Bad Request: which session? Send its Mcp-Session-Id");
		return;
	}
	mcp_session_end(session);
	mcp_http_reply(c, 204, "", NULL);
}
