/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DOC: Programs on a WebSocket
 *
 * Purpose: GET /api/v1/sandboxes/NAME/exec with an upgrade (RFC 6455): a program, with a
 * terminal or without, whose input and output are messages.  Binary ones are bytes of a
 * stream, the first byte is its number; text ones are JSON.
 *
 * States: first (the request is waited for, SOCKET_FIRST_MS) -> running -> closing (we have
 * sent a close frame and wait for the client's) -> ended.
 *
 * Back-pressure: output has the credit of the guest, given while there is room in the
 * connection.  Input that the program does not take stops the reading of the connection,
 * and with it of all that the client sends after it.
 *
 * Failure: a client that breaks the protocol is told the code of the specification, one
 * whose message makes no sense is told "error"; either kills what runs, and so does a
 * client that closes, goes, or does not answer pings.
 *
 * Trust boundary: as of all requests (http_api.c); also the Origin is looked at there, so
 * that a page of another site has no way around the same-origin policy, which does not
 * hold for WebSockets.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "codec/jsonrpc.h"
#include "codec/websocket.h"
#include "server/api.h"
#include "server/live.h"
#include "server/sandbox_path.h"
#include "sys/signals.h"

#define SOCKET_REQUEST_MAX (1u << 20) /* the first message; more input may follow it */
#define SOCKET_CONTROL_MAX 4096u /* later ones */
#define SOCKET_FIRST_MS 20000u
#define SOCKET_PING_MS 30000u
#define SOCKET_SILENT_PINGS 2u /* so many in a row without a sign of life end it */
#define SOCKET_CLOSE_MS 5000u
#define SOCKET_CREDIT (FRAME_WINDOW / 4)

enum socket_phase { SOCKET_FIRST, SOCKET_RUNNING, SOCKET_CLOSING };

struct socket {
	struct conn *conn;
	struct server *server;
	struct live live; /* used from SOCKET_RUNNING on */
	struct ws_reader reader;
	struct buf text; /* of the message that comes */
	struct loop_timer timer;
	struct corpse corpse;
	enum socket_phase phase;
	bool ended; /* nothing more may be sent */
	bool stream_known; /* the first byte of a binary message came */
	bool heard; /* something came since the last ping */
	unsigned silent;
	struct sandbox_target target; /* its box is looked up anew */
};

static void socket_free(struct corpse *c)
{
	struct socket *s = container_of(c, struct socket, corpse);

	live_fini(&s->live);
	buf_fini(&s->text);
	free(s);
}

/* Drops the message that was gathered. */
static void socket_forget_text(struct socket *s)
{
	s->server->body_bytes -= buf_len(&s->text);
	buf_reset(&s->text);
}

static struct conn *socket_end(struct socket *s)
{
	s->ended = true;
	socket_forget_text(s);
	live_close(&s->live);
	loop_timer_cancel(&s->timer);
	server_bury(s->server, &s->corpse, socket_free);
	return s->conn;
}

static void socket_cancel(struct conn *c)
{
	socket_end(c->state);
}

/* ---- sending -------------------------------------------------------------------------- */

/* One message of two parts. Return: -EPIPE if the socket has ended. */
static int socket_send(struct socket *s, uint8_t opcode, const void *head, size_t head_len,
		       const void *p, size_t n)
{
	uint8_t start[WS_HEADER_MAX + 4];
	size_t len = ws_header(start, opcode, head_len + n);

	memcpy(start + len, head, head_len);
	if (s->ended || conn_add(s->conn, start, len + head_len) || conn_add(s->conn, p, n))
		return -EPIPE;
	return 0;
}

/* @o is taken over. Return: -EPIPE if the socket has ended. */
static int socket_send_json(struct socket *s, const char *type, json_t *o)
{
	char *text = NULL;
	int rc;

	if (o && !json_object_set_new(o, "type", json_string(type)))
		text = json_dumps(o, JSON_COMPACT | JSON_REAL_PRECISION(12));
	json_decref(o);
	if (!text) {
		if (!s->ended)
			conn_break(socket_end(s));
		return -EPIPE;
	}
	rc = socket_send(s, WS_TEXT, "", 0, text, strlen(text));
	free(text);
	return rc;
}

/* Sends a close frame. Return: -EPIPE if the socket has ended. */
static int socket_send_close(struct socket *s, unsigned code, const char *reason)
{
	uint8_t bytes[2] = { (uint8_t)(code >> 8), (uint8_t)code };

	return socket_send(s, WS_CLOSE, bytes, sizeof(bytes), reason, strlen(reason));
}

/* All is said: the client closes, or the time is up. */
static void socket_close(struct socket *s)
{
	live_close(&s->live);
	if (s->phase == SOCKET_CLOSING || socket_send_close(s, WS_CLOSE_NORMAL, ""))
		return;
	s->phase = SOCKET_CLOSING;
	loop_timer_set(s->server->loop, &s->timer, SOCKET_CLOSE_MS);
	conn_resume(s->conn); /* input may have waited for the program */
}

/* The client broke the protocol: what it sends is not looked at any more. */
static void socket_fail(struct socket *s, unsigned code, const char *reason)
{
	s->server->count.bad_requests++;
	live_close(&s->live);
	if (!socket_send_close(s, code, reason))
		conn_end(socket_end(s));
}

/* What it asks for cannot be done. */
static void socket_error(struct socket *s, int code, const char *message)
{
	s->server->count.failed_calls++;
	if (!socket_send_json(s, "error", json_pack("{s:i, s:s}", "code", code, "message", message)))
		socket_close(s);
}

/* ---- what the run says ------------------------------------------------------------------ */

static void socket_started(struct live *l, uint32_t pid)
{
	struct socket *s = container_of(l, struct socket, live);

	socket_send_json(s, "started", json_pack("{s:I}", "pid", (json_int_t)pid));
}

static void socket_output(struct live *l, bool err, const void *p, size_t n)
{
	struct socket *s = container_of(l, struct socket, live);
	uint8_t stream = err ? STREAM_ERR : STREAM_OUT;

	if (!socket_send(s, WS_BINARY, &stream, 1, p, n) && conn_room(s->conn))
		live_credit(l, SOCKET_CREDIT);
}

static void socket_run_ended(struct live *l, const char *event, json_t *data)
{
	struct socket *s = container_of(l, struct socket, live);

	if (!socket_send_json(s, event, json_incref(data)))
		socket_close(s);
}

static void socket_input_room(struct live *l)
{
	conn_resume(container_of(l, struct socket, live)->conn);
}

static const struct live_ops socket_ops = {
	.started = socket_started,
	.output = socket_output,
	.input_room = socket_input_room,
	.ended = socket_run_ended,
};

/* ---- messages ------------------------------------------------------------------------------ */

/* The first message. */
static void socket_start(struct socket *s, const char *text, size_t len)
{
	struct err e = ERR_INIT;
	json_t *request = live_parse(api_exec_socket_request, text, len, &e);
	int rc;

	if (!request) {
		socket_error(s, JSONRPC_BAD_PARAMS, err_text(&e));
		return;
	}
	/* Some time has passed since the handshake. */
	s->target.box = box_find_running(s->server, s->target.ns, s->target.name, &e);
	if (!s->target.box) {
		json_decref(request);
		socket_error(s, e.code == EBUSY ? RPC_LIMIT : RPC_NOT_FOUND, err_text(&e));
		return;
	}
	rc = live_exec(&s->live, &socket_ops, &s->target, request, true, &e);
	json_decref(request);
	if (rc) {
		socket_error(s, rc == -EINVAL ? JSONRPC_BAD_PARAMS : RPC_SANDBOX_FAILED,
			     err_text(&e));
		return;
	}
	s->phase = SOCKET_RUNNING;
	s->reader.text_max = SOCKET_CONTROL_MAX;
	loop_timer_set(s->server->loop, &s->timer, SOCKET_PING_MS);
}

static bool socket_size(const json_t *o, const char *key, uint16_t *out)
{
	const json_t *v = json_object_get(o, key);
	json_int_t n = json_integer_value(v);

	if (!json_is_integer(v) || n < 1 || n > UINT16_MAX)
		return false;
	*out = (uint16_t)n;
	return true;
}

static bool socket_signal(struct socket *s, const json_t *o)
{
	const json_t *v = json_object_get(o, "signal");
	json_int_t n = json_integer_value(v);

	if (json_is_string(v))
		n = signals_number(json_string_value(v));
	if (n < 1 || n > 64)
		return false;
	live_signal(&s->live, (unsigned)n);
	return true;
}

/* Return: NULL, or what is wrong with it. */
static const char *socket_control(struct socket *s, const json_t *o)
{
	const char *type = rpc_string(o, "type");
	uint16_t rows, cols;

	if (type && !strcmp(type, "eof")) {
		live_input_end(&s->live);
		return NULL;
	}
	if (type && !strcmp(type, "resize")) {
		if (!socket_size(o, "rows", &rows) || !socket_size(o, "cols", &cols))
			return "resize needs rows and cols, 1 to 65535";
		live_resize(&s->live, rows, cols);
		return NULL;
	}
	if (type && !strcmp(type, "signal"))
		return socket_signal(s, o) ? NULL
					   : "signal must be a name such as \"SIGINT\", or a "
					     "number from 1 to 64";
	return "a text message must be an object with a type: resize, signal or eof";
}

static void socket_text(struct socket *s)
{
	const char *text = (const char *)buf_data(&s->text), *wrong;
	size_t len = buf_len(&s->text);
	json_t *o;

	if (s->phase == SOCKET_FIRST) {
		socket_start(s, text ? text : "", len);
		return;
	}
	o = json_loadb(text ? text : "", len, JSON_REJECT_DUPLICATES, NULL);
	wrong = socket_control(s, o);
	json_decref(o);
	if (wrong)
		socket_error(s, JSONRPC_BAD_PARAMS, wrong);
}

static void socket_text_piece(struct socket *s)
{
	struct ws_reader *r = &s->reader;

	if (s->server->body_bytes + r->piece_len > CONN_BODIES_MAX ||
	    buf_append(&s->text, r->piece, r->piece_len)) {
		socket_fail(s, WS_CLOSE_AGAIN, "the server is busy: try again later");
		return;
	}
	s->server->body_bytes += r->piece_len;
	if (!r->last)
		return;
	socket_text(s);
	if (!s->ended)
		socket_forget_text(s);
}

static void socket_binary_piece(struct socket *s)
{
	struct ws_reader *r = &s->reader;
	const uint8_t *p = r->piece;
	size_t n = r->piece_len;

	if (s->phase == SOCKET_FIRST) {
		socket_fail(s, WS_CLOSE_UNSUPPORTED, "the first message must be the request");
		return;
	}
	if (r->first)
		s->stream_known = false;
	if (!s->stream_known && n) {
		if (*p != STREAM_IN) {
			socket_fail(s, WS_CLOSE_UNSUPPORTED, "a client sends to stream 0 only");
			return;
		}
		s->stream_known = true;
		p++;
		n--;
	}
	if (n && live_input(&s->live, p, n))
		socket_fail(s, WS_CLOSE_AGAIN, "the server is out of memory");
}

static void socket_control_frame(struct socket *s)
{
	struct ws_reader *r = &s->reader;

	if (r->opcode == WS_PING) {
		socket_send(s, WS_PONG, "", 0, r->piece, r->piece_len);
		return;
	}
	if (r->opcode != WS_CLOSE)
		return;
	live_close(&s->live);
	/* The code comes back, unless it is the answer to ours (RFC 6455 §5.5.1). */
	if (s->phase != SOCKET_CLOSING &&
	    socket_send(s, WS_CLOSE, "", 0, r->piece, r->piece_len < 2 ? 0 : 2))
		return;
	conn_end(socket_end(s));
}

/* ---- the connection ---------------------------------------------------------------------- */

static void socket_event(struct socket *s, int rc)
{
	if (rc < 0)
		socket_fail(s, (unsigned)-rc, s->reader.reason);
	else if (rc == WS_EV_CONTROL)
		socket_control_frame(s);
	else if (rc == WS_EV_PIECE && s->phase == SOCKET_CLOSING)
		return; /* it crossed our close frame */
	else if (rc == WS_EV_PIECE && s->reader.opcode == WS_TEXT)
		socket_text_piece(s);
	else if (rc == WS_EV_PIECE)
		socket_binary_piece(s);
}

static void socket_input(struct conn *c)
{
	struct socket *s = c->state;
	struct buf *in = conn_input(c);
	size_t used;
	int rc;

	s->heard = true;
	while (!s->ended && buf_len(in)) {
		/* The program takes no more now. */
		if (s->phase == SOCKET_RUNNING && !live_has_room(&s->live))
			return;
		/* Answers to pings are bounded as well. */
		if (!conn_room(c))
			return;
		rc = ws_reader_feed(&s->reader, buf_data(in), buf_len(in), &used);
		buf_consume(in, used);
		socket_event(s, rc);
	}
}

static void socket_room(struct conn *c)
{
	struct socket *s = c->state;

	live_credit(&s->live, 1);
}

/* Return: is there no sign of life?  One that we do not listen to need not give one. */
static bool socket_is_silent(struct socket *s)
{
	bool listening = live_has_room(&s->live);

	s->silent = s->heard || !listening ? 0 : s->silent + 1;
	s->heard = false;
	return s->silent > SOCKET_SILENT_PINGS;
}

static void socket_tick(struct loop_timer *t)
{
	struct socket *s = container_of(t, struct socket, timer);

	switch (s->phase) {
	case SOCKET_FIRST:
		socket_fail(s, WS_CLOSE_POLICY, "the request took too long to arrive");
		return;
	case SOCKET_CLOSING:
		conn_end(socket_end(s));
		return;
	default:
		break;
	}
	if (socket_is_silent(s)) {
		conn_break(socket_end(s));
		return;
	}
	if (conn_room(s->conn) && socket_send(s, WS_PING, "", 0, "", 0))
		return;
	loop_timer_set(s->server->loop, t, SOCKET_PING_MS);
}

/* ---- the handshake ---------------------------------------------------------------------------- */

/* RFC 6455 §4.2.1. Return: false if the request was answered. */
static bool socket_handshake(struct conn *c, char accept[WS_ACCEPT_SIZE])
{
	const struct http_request *q = &c->reader.request;
	const char *key = http_header(q, "sec-websocket-key");
	const char *version = http_header(q, "sec-websocket-version");
	static const char text[] =
		"{\"error\":\"this path is for a WebSocket, version 13; for server-sent events use "
		"POST\",\"code\":null}";

	if (c->head_only || q->http_1_0 || !http_header_has(q, "connection", "upgrade") ||
	    !http_header_has(q, "upgrade", "websocket") || !version || strcmp(version, "13")) {
		conn_reply(c, 426, "application/json",
			   "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n", text,
			   sizeof(text) - 1, false);
		return false;
	}
	if (!q->has_body && key && ws_accept(key, accept))
		return true;
	http_api_fail(c, 400, 2001, NULL,
		      q->has_body ? "a handshake has no body"
				  : "Sec-WebSocket-Key must be 16 bytes in base64");
	return false;
}

void http_socket_exec(struct conn *c, const char *unused)
{
	static const char *const params[] = { NULL };
	char accept[WS_ACCEPT_SIZE], headers[128];
	struct sandbox_target t;
	struct socket *s;

	(void)unused;
	if (!socket_handshake(c, accept) || !sandbox_path_find(c, params, &t))
		return;
	s = calloc(1, sizeof(*s));
	if (!s) {
		http_api_fail(c, 503, 5003, NULL, "the server is out of memory: try again later");
		return;
	}
	s->conn = c;
	s->server = c->server;
	list_init(&s->live.in_box.link);
	list_init(&s->live.channel.link);
	ws_reader_init(&s->reader, SOCKET_REQUEST_MAX);
	loop_timer_init(&s->timer, socket_tick);
	s->target = t;
	s->target.box = NULL;
	c->state = s;
	c->cancel = socket_cancel;
	c->on_input = socket_input;
	c->on_room = socket_room;
	loop_timer_set(c->server->loop, &s->timer, SOCKET_FIRST_MS);
	snprintf(headers, sizeof(headers), "Upgrade: websocket\r\nSec-WebSocket-Accept: %s\r\n",
		 accept);
	conn_upgrade(c, headers);
}
