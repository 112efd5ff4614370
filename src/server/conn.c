/* SPDX-License-Identifier: Apache-2.0 */
#include "server/conn.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#include "base/log.h"
#include "base/mem.h"

#define CONN_IN_MAX (64u << 10)
#define CONN_OUT_MAX (96u << 20) /* see RPC_ANSWER_MAX */
/* With so much unread by the client, its next request waits. */
#define CONN_OUT_HIGH (256u << 10)

static void conn_pump(struct conn *c);

/* ---- bytes ----------------------------------------------------------------------------- */

/* What the client sent and nobody has read. */
static struct buf *conn_in(struct conn *c)
{
	return c->tls ? &c->plain : &c->stream.in;
}

/* Decrypts as much as there is room for. Return: false if the connection is gone. */
static bool conn_fill(struct conn *c)
{
	int rc = 0;

	if (c->tls && buf_len(&c->plain) < CONN_IN_MAX)
		rc = tls_decrypt(c->tls, &c->stream.in, &c->plain, CONN_IN_MAX - buf_len(&c->plain),
				 &c->stream.out);
	if (!rc)
		return true;
	stream_flush(&c->stream); /* an alert */
	conn_destroy(c);
	return false;
}

static int conn_write(struct conn *c, const void *p, size_t n)
{
	return c->tls ? tls_encrypt(c->tls, p, n, &c->stream.out)
		      : buf_append(&c->stream.out, p, n);
}

/* ---- what clients have not read -------------------------------------------------------- */

static void conn_count_unread(struct conn *c)
{
	size_t now = c->doomed ? 0 : buf_len(&c->stream.out);

	c->server->unread_bytes += now - c->unread;
	c->unread = now;
}

/* The one with the most unread besides @other. Return: NULL if nobody has any. */
static struct conn *conn_most_unread(struct server *s, const struct conn *other)
{
	struct conn *most = NULL;

	list_for_each (pos, tmp, &s->conns) {
		struct conn *c = list_entry(pos, struct conn, link);

		if (c != other && c->unread > (most ? most->unread : 0))
			most = c;
	}
	return most;
}

/*
 * Something was queued for @c.  Is it too much of all together, others make room.  They are
 * not destroyed here: any of them may be at work further up the stack.
 */
static void conn_queued(struct conn *c)
{
	struct server *s = c->server;
	struct conn *most;

	conn_count_unread(c);
	if (s->unread_bytes <= s->unread_max)
		return;
	list_for_each (pos, tmp, &s->conns)
		conn_count_unread(list_entry(pos, struct conn, link));
	while (s->unread_bytes > s->unread_max && (most = conn_most_unread(s, c))) {
		log_warn("event=answer-dropped unread_bytes=%zu reason=\"clients have %zu bytes "
			 "unread\"",
			 most->unread, s->unread_bytes);
		s->count.dropped_answers++;
		most->doomed = true;
		conn_count_unread(most);
		loop_timer_set(s->loop, &most->timer, 0);
	}
}

/* ---- time ------------------------------------------------------------------------------ */

/* Moving a deadline later costs nothing: the timer looks again when it fires. */
static void conn_set_deadline(struct conn *c, uint64_t ms)
{
	if (!ms) {
		c->deadline_ns = 0;
		return;
	}
	c->deadline_ns = loop_now_ns() + ms * 1000000;
	if (!c->timer.at_ns || c->timer.at_ns > c->deadline_ns)
		loop_timer_set(c->server->loop, &c->timer, ms);
}

static void conn_set_phase(struct conn *c, enum conn_phase phase)
{
	static const unsigned ms[] = {
		[CONN_IDLE] = CONN_IDLE_MS,
		[CONN_HEAD] = CONN_HEAD_MS,
		[CONN_BODY] = CONN_BODY_MS,
		[CONN_BUSY] = 0,
		[CONN_RAW] = 0,
		[CONN_LINGER] = CONN_LINGER_MS,
	};

	if (c->phase == phase && phase != CONN_IDLE)
		return;
	c->phase = phase;
	c->body_since_ns = phase == CONN_BODY ? loop_now_ns() : 0;
	conn_set_deadline(c, ms[phase]);
	if (phase != CONN_IDLE)
		return;
	/* The longest idle one is first in the list. */
	list_remove(&c->link);
	list_append(&c->server->conns, &c->link);
}

/* Whoever works on the request must not touch it any more. */
static void conn_forget(struct conn *c)
{
	c->cancel = c->on_body = c->on_room = c->on_input = NULL;
}

/* The request will not be answered by whoever works on it. */
static void conn_cancel(struct conn *c)
{
	void (*cancel)(struct conn *) = c->cancel;

	conn_forget(c);
	if (cancel)
		cancel(c);
}

static void conn_timeout(struct loop_timer *t)
{
	struct conn *c = container_of(t, struct conn, timer);
	size_t unwritten = buf_len(&c->stream.out);
	uint64_t now = loop_now_ns();

	if (c->doomed) {
		conn_cancel(c);
		conn_break(c);
		return;
	}
	if (!c->deadline_ns)
		return;
	if (now < c->deadline_ns) {
		loop_timer_set(c->server->loop, t, (c->deadline_ns - now) / 1000000 + 1);
		return;
	}
	if (unwritten && c->stream.written != c->written) { /* slow, but it takes some */
		c->written = c->stream.written;
		conn_set_deadline(c, CONN_WRITE_MS);
		return;
	}
	if ((c->phase == CONN_HEAD || c->phase == CONN_BODY) && !unwritten) {
		static const char text[] =
			"{\"error\":\"the request took too long to arrive\",\"code\":null}";

		c->server->count.bad_requests++;
		conn_cancel(c);
		conn_reply(c, 408, "application/json", "", text, sizeof(text) - 1, true);
		return;
	}
	conn_destroy(c);
}

/* ---- life ------------------------------------------------------------------------------- */

static void conn_free(struct corpse *corpse)
{
	struct conn *c = container_of(corpse, struct conn, corpse);

	http_reader_fini(&c->reader);
	tls_destroy(c->tls);
	buf_fini(&c->plain);
	free(c);
}

void conn_destroy(struct conn *c)
{
	struct server *s = c->server;

	if (c->gone)
		return;
	c->gone = true;
	conn_cancel(c);
	loop_timer_cancel(&c->timer);
	stream_fini(&c->stream);
	list_remove(&c->link);
	s->n_conns--;
	s->unread_bytes -= c->unread;
	c->unread = 0;
	s->body_bytes -= c->body_bytes;
	server_bury(s, &c->corpse, conn_free);
	if (s->accept_paused) {
		s->accept_paused = false;
		for (int i = 0; i < LISTEN_COUNT; i++)
			loop_watch_set(&s->listeners[i].watch, EPOLLIN);
	}
	server_check_end(s);
}

/* It still sends to us, who have answered: it may be about to read (RFC 9112 §9.6). */
static void conn_discard(struct conn *c)
{
	uint64_t now = loop_now_ns();

	buf_reset(&c->stream.in);
	if (c->linger_until_ns && now + CONN_LINGER_MS * 1000000ull < c->linger_until_ns)
		conn_set_deadline(c, CONN_LINGER_MS);
}

static int conn_data(struct stream *st)
{
	struct conn *c = container_of(st, struct conn, stream);

	if (c->phase == CONN_LINGER)
		conn_discard(c);
	else if (conn_fill(c))
		conn_pump(c);
	return c->gone ? -EPIPE : 0;
}

static void conn_closed(struct stream *st, int error)
{
	(void)error;
	conn_destroy(container_of(st, struct conn, stream));
}

static void conn_linger(struct conn *c)
{
	shutdown(c->stream.fd, SHUT_WR);
	buf_reset(&c->stream.in);
	c->linger_until_ns = loop_now_ns() + CONN_LINGER_MAX_MS * 1000000ull;
	conn_set_deadline(c, CONN_LINGER_MS);
	stream_flush(&c->stream); /* reading was off if the buffer was full */
}

static void conn_drained(struct stream *st)
{
	struct conn *c = container_of(st, struct conn, stream);

	conn_count_unread(c);
	if (c->phase == CONN_LINGER) {
		conn_linger(c);
		return;
	}
	if (c->answering) {
		conn_set_deadline(c, 0);
		if (c->on_room)
			c->on_room(c);
	}
	if (!c->gone)
		conn_pump(c);
}

int conn_create(struct server *s, int fd, bool local, struct err *e)
{
	struct conn *c = calloc(1, sizeof(*c));
	unsigned patience = CONN_WRITE_MS;
	int one = 1, rc;

	if (!c) {
		close(fd);
		return err_errno(e, ENOMEM, "connection");
	}
	c->server = s;
	c->local = local;
	list_init(&c->link);
	if (s->tls && !local && !(c->tls = tls_create(s->tls))) {
		close(fd);
		free(c);
		return err_errno(e, ENOMEM, "connection");
	}
	http_reader_init(&c->reader, CONN_BODY_MAX);
	loop_timer_init(&c->timer, conn_timeout);
	c->stream.on_data = conn_data;
	c->stream.on_close = conn_closed;
	c->stream.on_drain = conn_drained;
	rc = stream_init(&c->stream, s->loop, fd, CONN_IN_MAX, CONN_OUT_MAX, e);
	if (rc) {
		stream_fini(&c->stream);
		conn_free(&c->corpse);
		return rc;
	}
	if (!local) {
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
		/* What the kernel holds for a client that vanished is an answer not taken too. */
		setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &patience, sizeof(patience));
	}
	s->n_conns++;
	s->count.connections++;
	conn_set_phase(c, CONN_IDLE);
	conn_set_deadline(c, CONN_HEAD_MS); /* who connects has something to ask */
	return 0;
}

bool conn_evict(struct server *s)
{
	list_for_each (pos, tmp, &s->conns) {
		struct conn *c = list_entry(pos, struct conn, link);

		if (c->phase == CONN_IDLE && !buf_len(&c->stream.out)) {
			conn_destroy(c);
			return true;
		}
	}
	return false;
}

void conn_drain_all(struct server *s)
{
	list_for_each (pos, tmp, &s->conns) {
		struct conn *c = list_entry(pos, struct conn, link);

		if (c->phase != CONN_BUSY && c->phase != CONN_RAW && !c->streamed &&
		    !buf_len(&c->stream.out))
			conn_destroy(c);
	}
}

/* ---- answers ------------------------------------------------------------------------------ */

/* RFC 9110 §6.6.1, once a second. */
static const char *conn_date(void)
{
	static char text[40];
	static time_t of;
	time_t now = time(NULL);
	struct tm tm;

	if (now != of) {
		of = now;
		strftime(text, sizeof(text), "%a, %d %b %Y %H:%M:%S GMT", gmtime_r(&now, &tm));
	}
	return text;
}

/* The answer is queued as a whole. */
static void conn_answered(struct conn *c, bool keep)
{
	struct buf *out = &c->stream.out;

	conn_forget(c);
	c->answering = c->streamed = c->body_done = false;
	c->server->body_bytes -= c->body_bytes;
	c->body_bytes = 0;
	c->written = c->stream.written;
	if (keep) {
		http_reader_next(&c->reader);
		conn_set_phase(c, CONN_IDLE);
	} else {
		if (c->tls)
			tls_finish(c->tls, out);
		conn_set_phase(c, CONN_LINGER);
		conn_set_deadline(c, CONN_WRITE_MS);
		if (!buf_len(out)) {
			conn_linger(c);
			return;
		}
	}
	stream_flush(&c->stream); /* conn_drained() follows, at once or later */
	if (!c->gone)
		conn_queued(c);
	if (!c->gone && !buf_len(out) && !c->pumping && keep)
		conn_pump(c);
}

void conn_reply(struct conn *c, int status, const char *type, const char *headers, const void *body,
		size_t len, bool close)
{
	bool keep = !close && c->reader.request.keep_alive && !c->server->stopping;
	char head[2048];
	int n;

	conn_forget(c);
	if (c->gone)
		return;
	if (c->streamed && !c->body_done)
		keep = false; /* what still comes of the body is no request */
	n = snprintf(head, sizeof(head),
		     "HTTP/1.1 %d %s\r\nDate: %s\r\n%s%s%sContent-Length: %zu\r\n%s"
		     "Connection: %s\r\n\r\n",
		     status, http_status_text(status), conn_date(), len ? "Content-Type: " : "",
		     len ? type : "", len ? "\r\n" : "", len, headers,
		     keep ? "keep-alive" : "close");
	/* 204 has no length (RFC 9110 §8.6). */
	if (status == 204)
		n = snprintf(head, sizeof(head),
			     "HTTP/1.1 204 No Content\r\nDate: %s\r\n%s"
			     "Connection: %s\r\n\r\n",
			     conn_date(), headers, keep ? "keep-alive" : "close");
	if (n >= (int)sizeof(head) || conn_write(c, head, (size_t)n) ||
	    (len && !c->head_only && conn_write(c, body, len))) {
		conn_destroy(c);
		return;
	}
	conn_answered(c, keep);
}

/* ---- answers over time -------------------------------------------------------------------- */

/* What was queued goes out when the loop turns, and something of it in time. */
static int conn_push(struct conn *c)
{
	stream_push(&c->stream);
	conn_queued(c);
	if (c->deadline_ns || !buf_len(&c->stream.out))
		return 0;
	c->written = c->stream.written;
	conn_set_deadline(c, CONN_WRITE_MS);
	return 0;
}

static int conn_start(struct conn *c, const char *head, int n, size_t size, enum conn_phase phase)
{
	if (n >= (int)size || conn_write(c, head, (size_t)n)) {
		conn_destroy(c);
		return -EPIPE;
	}
	conn_set_phase(c, phase);
	conn_set_deadline(c, 0);
	c->answering = true;
	return conn_push(c);
}

int conn_begin(struct conn *c, int status, const char *type, const char *headers)
{
	const struct http_request *q = &c->reader.request;
	char head[2048];
	int n;

	if (c->gone)
		return -EPIPE;
	c->chunked = !q->http_1_0;
	c->keep = c->chunked && q->keep_alive && !(c->streamed && !c->body_done);
	n = snprintf(head, sizeof(head),
		     "HTTP/1.1 %d %s\r\nDate: %s\r\nContent-Type: %s\r\n%s%s"
		     "Connection: %s\r\n\r\n",
		     status, http_status_text(status), conn_date(), type,
		     c->chunked ? "Transfer-Encoding: chunked\r\n" : "", headers,
		     c->keep ? "keep-alive" : "close");
	return conn_start(c, head, n, sizeof(head), CONN_BUSY);
}

int conn_upgrade(struct conn *c, const char *headers)
{
	char head[2048];
	int n;

	if (c->gone)
		return -EPIPE;
	c->chunked = c->keep = false;
	n = snprintf(head, sizeof(head),
		     "HTTP/1.1 101 Switching Protocols\r\nDate: %s\r\n%s"
		     "Connection: Upgrade\r\n\r\n",
		     conn_date(), headers);
	return conn_start(c, head, n, sizeof(head), CONN_RAW);
}

/* One chunk (RFC 9112 §7.1), through TLS as one record. */
static int conn_write_chunk(struct conn *c, const void *p, size_t n)
{
	struct buf whole = BUF_INIT;
	struct buf *to = c->tls ? &whole : &c->stream.out;
	char size[20];
	int len = snprintf(size, sizeof(size), "%zx\r\n", n), rc;

	if (!(rc = buf_append(to, size, (size_t)len)) && !(rc = buf_append(to, p, n)) &&
	    !(rc = buf_append(to, "\r\n", 2)) && c->tls)
		rc = conn_write(c, buf_data(&whole), buf_len(&whole));
	buf_fini(&whole);
	return rc;
}

int conn_add(struct conn *c, const void *p, size_t n)
{
	if (c->gone || !c->answering)
		return -EPIPE;
	if (!n || c->head_only)
		return 0;
	if (c->chunked ? conn_write_chunk(c, p, n) : conn_write(c, p, n)) {
		conn_destroy(c);
		return -EPIPE;
	}
	return conn_push(c);
}

void conn_end(struct conn *c)
{
	conn_forget(c);
	if (c->gone || !c->answering)
		return;
	if (c->chunked && !c->head_only && conn_write(c, "0\r\n\r\n", 5)) {
		conn_destroy(c);
		return;
	}
	conn_answered(c, c->keep && !c->server->stopping);
}

void conn_break(struct conn *c)
{
	struct linger at_once = { .l_onoff = 1 };

	conn_forget(c);
	/* Without chunks an orderly end would look like the end of the body. */
	if (!c->gone && !c->chunked)
		setsockopt(c->stream.fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
	conn_destroy(c);
}

/* ---- requests over time --------------------------------------------------------------------- */

void conn_body_take(struct conn *c, size_t n)
{
	size_t had = buf_len(conn_body(c));

	buf_consume(conn_body(c), n);
	had -= buf_len(conn_body(c));
	if (had > c->body_bytes)
		had = c->body_bytes;
	c->body_bytes -= had;
	c->server->body_bytes -= had;
}

struct buf *conn_input(struct conn *c)
{
	return conn_in(c);
}

void conn_resume(struct conn *c)
{
	conn_pump(c);
}

/* ---- requests ------------------------------------------------------------------------------- */

static void conn_bad(struct conn *c, int status, const char *reason)
{
	char text[256];
	int n = snprintf(text, sizeof(text), "{\"error\":\"%s\",\"code\":null}", reason);

	c->server->count.bad_requests++;
	conn_cancel(c);
	conn_reply(c, status, "application/json", "", text, (size_t)n, true);
}

/* Counts the body that arrived. Return: false if all of them are too much. */
static bool conn_account(struct conn *c)
{
	size_t now = buf_len(&c->reader.request.body);

	c->server->body_bytes += now - c->body_bytes;
	c->body_bytes = now;
	if (c->server->body_bytes > CONN_BODIES_MAX)
		return false;
	if (c->phase == CONN_BODY && !c->streamed) {
		uint64_t took = (loop_now_ns() - c->body_since_ns) / 1000000;
		uint64_t may = CONN_BODY_MS + (uint64_t)now / CONN_BODY_RATE * 1000;

		conn_set_deadline(c, may > took ? may - took : 1);
	}
	return true;
}

static void conn_head_done(struct conn *c)
{
	static const char go_on[] = "HTTP/1.1 100 Continue\r\n\r\n";
	struct http_request *q = &c->reader.request;

	c->head_only = q->method == HTTP_HEAD;
	if (!http_api_head(c))
		return;
	conn_set_phase(c, CONN_BODY);
	if (c->streamed) {
		http_reader_stream(&c->reader);
		c->server->count.requests++;
		http_api_request(c);
	}
	/* Who was answered already, or will be, need not send its body. */
	if (c->gone || c->phase != CONN_BODY || http_reader_too_large(&c->reader))
		return;
	if (q->expects_continue && !conn_write(c, go_on, sizeof(go_on) - 1))
		stream_flush(&c->stream);
}

/* Some of a streamed body came, or room for some. */
static void conn_body_more(struct conn *c, bool came)
{
	if (came && c->on_body)
		c->on_body(c);
	if (c->gone || c->phase != CONN_BODY)
		return;
	/* The client is waited for only while there is room for what it sends. */
	if (buf_len(conn_body(c)) >= CONN_WINDOW)
		conn_set_deadline(c, 0);
	else if (came || !c->deadline_ns)
		conn_set_deadline(c, CONN_BODY_MS);
}

static bool conn_request_done(struct conn *c)
{
	conn_set_phase(c, CONN_BUSY);
	c->body_done = true;
	if (!c->streamed) {
		c->server->count.requests++;
		http_api_request(c);
	} else if (c->on_body) {
		c->on_body(c);
	}
	return !c->gone && (c->phase == CONN_IDLE || c->phase == CONN_RAW);
}

/* Another protocol. Return: was some of what came taken? */
static bool conn_step_raw(struct conn *c)
{
	size_t had = buf_len(conn_in(c));

	if (c->on_input)
		c->on_input(c);
	return !c->gone && buf_len(conn_in(c)) < had;
}

/* Takes some of what came. Return: is there more to do now? */
static bool conn_step(struct conn *c)
{
	struct buf *in = conn_in(c);
	size_t used, n = buf_len(in), held = buf_len(conn_body(c));
	int rc;

	if (c->phase == CONN_RAW)
		return conn_step_raw(c);
	if (c->streamed && n > CONN_WINDOW - held)
		n = CONN_WINDOW - held;
	rc = http_reader_feed(&c->reader, buf_data(in), n, &used);
	buf_consume(in, used);
	if (rc < 0) {
		conn_bad(c, -rc, c->reader.reason);
		return false;
	}
	if (!conn_account(c)) {
		conn_bad(c, 503, "the server is busy with large requests: try again later");
		return false;
	}
	switch (rc) {
	case HTTP_EV_HEAD:
		conn_head_done(c);
		return !c->gone && c->phase == CONN_BODY;
	case HTTP_EV_REQUEST:
		return conn_request_done(c);
	default:
		if (c->phase == CONN_IDLE && http_reader_busy(&c->reader))
			conn_set_phase(c, CONN_HEAD);
		if (c->streamed)
			conn_body_more(c, used > 0);
		/*
		 * What was taken made room: TLS may hold more that has come, and for which the
		 * descriptor will not wake us.
		 */
		return !c->gone && used;
	}
}

/* Is there something to do with what came? */
static bool conn_wants(struct conn *c)
{
	if (c->phase == CONN_BUSY || c->phase == CONN_LINGER)
		return false;
	return (buf_len(conn_in(c)) || c->phase == CONN_BODY) &&
	       buf_len(&c->stream.out) < CONN_OUT_HIGH;
}

static void conn_pump(struct conn *c)
{
	if (c->pumping || c->gone)
		return;
	c->pumping = true;
	while (conn_fill(c) && conn_wants(c) && conn_step(c))
		;
	c->pumping = false;
	/* Reading was off while the buffer was full. */
	if (!c->gone)
		stream_flush(&c->stream);
}
