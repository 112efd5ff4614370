/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DOC: Programs and code as server-sent events
 *
 * Purpose: POST /api/v1/sandboxes/NAME/exec and .../repl: what is printed is told while it
 * is printed.  Format: the event stream of the HTML standard, one JSON object an event.
 *
 * Output is text where it is UTF-8.  A character that is cut at the border of two pieces
 * waits for its rest; a piece that has anything else in it is sent as base64, whole.
 *
 * States: conn_begin() when the guest was asked; what is wrong with the request is an
 * ordinary error before that, what goes wrong after it is an event.  The last event ends
 * the answer.  The client's vanishing kills what runs.
 */
#include <errno.h>
#include <string.h>

#include "base/mem.h"
#include "codec/base64.h"
#include "codec/jsonrpc.h"
#include "codec/utf8.h"
#include "server/api.h"
#include "server/live.h"
#include "server/sandbox_path.h"

#define EVENTS_TYPE "text/event-stream"
#define EVENTS_KEEP_ALIVE_MS 15000u
#define EVENTS_CREDIT (FRAME_WINDOW / 4)

struct events {
	struct conn *conn; /* NULL = answered, or gone */
	struct live live;
	struct loop_timer timer;
	struct corpse corpse;
	struct buf held[2]; /* of stdout and stderr: the beginning of a character */
};

static void events_free(struct corpse *c)
{
	struct events *ev = container_of(c, struct events, corpse);

	live_fini(&ev->live);
	buf_fini(&ev->held[0]);
	buf_fini(&ev->held[1]);
	free(ev);
}

static void events_end(struct events *ev)
{
	loop_timer_cancel(&ev->timer);
	ev->conn = NULL;
	server_bury(ev->live.server, &ev->corpse, events_free);
}

static void events_cancel(struct conn *c)
{
	struct events *ev = c->state;

	live_close(&ev->live);
	events_end(ev);
}

/* An answer with a hole in it is broken off. */
static void events_broken(struct events *ev)
{
	struct conn *c = ev->conn;

	live_close(&ev->live);
	events_end(ev);
	conn_break(c);
}

/* Return: -EPIPE if there is nobody to tell any more. @data is taken over. */
static int events_send(struct events *ev, const char *event, json_t *data)
{
	auto_free char *json =
		data ? json_dumps(data, JSON_COMPACT | JSON_REAL_PRECISION(12)) : NULL;
	auto_free char *text = NULL;
	int n;

	json_decref(data);
	if (!ev->conn)
		return -EPIPE;
	n = json ? asprintf(&text, "event: %s\ndata: %s\n\n", event, json) : -1;
	if (n < 0) {
		text = NULL;
		events_broken(ev);
		return -EPIPE;
	}
	return conn_add(ev->conn, text, (size_t)n);
}

/* ---- what the run says -------------------------------------------------------------- */

static void events_started(struct live *l, uint32_t pid)
{
	struct events *ev = container_of(l, struct events, live);

	events_send(ev, "started", json_pack("{s:I}", "pid", (json_int_t)pid));
}

static json_t *events_base64(const void *p, size_t n)
{
	struct buf text = BUF_INIT;
	json_t *data = NULL;

	if (!base64_encode(&text, p, n))
		data = json_pack("{s:o}", "base64",
				 json_stringn((const char *)buf_data(&text), buf_len(&text)));
	buf_fini(&text);
	return data;
}

/* Tells @p, but for the beginning of a character at its end. Return: -EPIPE, or bytes told. */
static int events_tell(struct events *ev, bool err, const uint8_t *p, size_t n)
{
	bool partial;
	size_t good = utf8_prefix(p, n, &partial);
	bool text = good == n || partial;
	json_t *data;

	if (text && !good)
		return 0;
	data = text ? json_pack("{s:o}", "text", json_stringn((const char *)p, good))
		    : events_base64(p, n);
	if (events_send(ev, err ? "stderr" : "stdout", data))
		return -EPIPE;
	return (int)(text ? good : n);
}

static void events_output(struct live *l, bool err, const void *p, size_t n)
{
	struct events *ev = container_of(l, struct events, live);
	struct buf *held = &ev->held[err];
	const uint8_t *from = p;
	bool had = buf_len(held) > 0;
	int told;

	if (!ev->conn)
		return;
	if (had) {
		if (buf_append(held, p, n)) {
			events_broken(ev);
			return;
		}
		from = buf_data(held);
		n = buf_len(held);
	}
	told = events_tell(ev, err, from, n);
	if (told < 0)
		return;
	if (had)
		buf_consume(held, (size_t)told);
	else if (buf_append(held, from + told, n - (size_t)told)) {
		events_broken(ev);
		return;
	}
	if (conn_room(ev->conn))
		live_credit(l, EVENTS_CREDIT);
}

static void events_ended(struct live *l, const char *event, json_t *data)
{
	struct events *ev = container_of(l, struct events, live);
	struct conn *c = ev->conn;

	/* What no more will complete. */
	for (unsigned i = 0; i < 2; i++)
		if (buf_len(&ev->held[i]) &&
		    events_send(ev, i ? "stderr" : "stdout",
				events_base64(buf_data(&ev->held[i]), buf_len(&ev->held[i]))))
			return;
	if (events_send(ev, event, json_incref(data)))
		return;
	events_end(ev);
	conn_end(c);
}

static const struct live_ops events_ops = {
	.started = events_started,
	.output = events_output,
	.ended = events_ended,
};

/* ---- what the client does --------------------------------------------------------------- */

static void events_room(struct conn *c)
{
	struct events *ev = c->state;

	live_credit(&ev->live, 1);
}

/* Proxies close what is silent, and a client that vanished is found out. */
static void events_tick(struct loop_timer *t)
{
	static const char comment[] = ": still running\n\n";
	struct events *ev = container_of(t, struct events, timer);

	if (conn_room(ev->conn) && conn_add(ev->conn, comment, sizeof(comment) - 1))
		return;
	loop_timer_set(ev->live.server->loop, t, EVENTS_KEEP_ALIVE_MS);
}

/* ---- requests ------------------------------------------------------------------------------ */

static void events_begin(struct events *ev)
{
	struct conn *c = ev->conn;
	char headers[600];

	c->state = ev;
	c->cancel = events_cancel;
	c->on_room = events_room;
	loop_timer_set(c->server->loop, &ev->timer, EVENTS_KEEP_ALIVE_MS);
	http_api_headers(c, headers, sizeof(headers));
	snprintf(headers + strlen(headers), sizeof(headers) - strlen(headers),
		 "Cache-Control: no-store\r\nX-Accel-Buffering: no\r\n");
	conn_begin(c, 200, EVENTS_TYPE, headers);
}

static int events_open(struct events *ev, const struct sandbox_target *t, bool repl, struct err *e)
{
	struct buf *body = conn_body(ev->conn);
	json_t *request = live_parse(repl ? api_repl_request : api_exec_request,
				     (const char *)buf_data(body), buf_len(body), e);
	int rc;

	if (!request)
		return -EINVAL;
	rc = repl ? live_repl(&ev->live, &events_ops, t, request, e)
		  : live_exec(&ev->live, &events_ops, t, request, false, e);
	json_decref(request);
	return rc;
}

static void events_request(struct conn *c, bool repl)
{
	static const char *const params[] = { NULL };
	struct sandbox_target t;
	struct events *ev;
	struct err e = ERR_INIT;
	int rc;

	if (!sandbox_path_find(c, params, &t))
		return;
	ev = calloc(1, sizeof(*ev));
	if (!ev) {
		http_api_fail(c, 503, 5003, NULL, "the server is out of memory: try again later");
		return;
	}
	ev->conn = c;
	loop_timer_init(&ev->timer, events_tick);
	rc = events_open(ev, &t, repl, &e);
	if (!rc) {
		events_begin(ev);
		return;
	}
	events_free(&ev->corpse);
	if (rc == -EINVAL)
		sandbox_path_bad(c, &e);
	else
		http_api_fail(c, 500, 5002, NULL, err_text(&e));
}

void http_events_exec(struct conn *c, const char *unused)
{
	(void)unused;
	events_request(c, false);
}

void http_events_repl(struct conn *c, const char *unused)
{
	(void)unused;
	events_request(c, true);
}
