/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_SERVER_CONN_H
#define MSB_SERVER_CONN_H

/*
 * DOC: HTTP connections
 *
 * Purpose: a client's connection, from accept to close.  Requests are answered one at a
 * time and in order; what a client sends ahead (pipelining) waits in a bounded buffer.
 *
 * States: idle -> head -> body -> busy (the request is worked on) -> idle; or linger: the
 * answer was the last one, we have shut down our side and discard what still comes, so
 * that the client gets to read the answer (RFC 9112 §9.6).  After conn_upgrade(): busy ->
 * raw (another protocol) -> linger.
 *
 * Bodies are gathered, or streamed: the body of a request then goes to its handler as it
 * comes (from the head on, in phase body), and an answer is made of pieces, conn_begin()
 * to conn_end().  Both have a window of CONN_WINDOW bytes.  A handler that takes nothing
 * stops the client, a client that takes nothing stops the handler.
 *
 * Limits: a client may take CONN_HEAD_MS for a request's head, CONN_BODY_MS plus a second
 * for every CONN_BODY_RATE bytes for its body, CONN_IDLE_MS between requests, and must
 * take some of an answer within CONN_WRITE_MS.  Of a streamed body something must come
 * within CONN_BODY_MS whenever there is room for it.  The bodies of all connections
 * together are bounded, and so is the number of connections; the longest idle one makes
 * room.  What clients have not read is bounded for each (CONN_OUT_MAX) and for all together
 * (CONN_UNREAD_MAX): when an answer goes beyond that, the client with the most unread loses
 * its connection, but not the one that is being answered.
 *
 * Failure: a client that closes its side while its request is worked on has given up:
 * the request is cancelled, and what runs for it in a sandbox is killed.  An answer that
 * cannot be completed is broken off, so that it cannot be taken for a whole one.
 */

#include "server/http.h"
#include "server/internal.h"
#include "server/tls.h"
#include "sys/stream.h"

#define CONN_HEAD_MS 10000u
#define CONN_BODY_MS 20000u
#define CONN_BODY_RATE 65536u
#define CONN_IDLE_MS 75000u
#define CONN_WRITE_MS 60000u
#define CONN_LINGER_MS 2000u
#define CONN_LINGER_MAX_MS 30000u /* of a client that goes on sending */
#define CONN_WINDOW (256u << 10) /* of a streamed body, each way */
#define CONN_BODY_MAX (17u << 20) /* of one request: the code of a call and then some */
#define CONN_BODIES_MAX (256u << 20) /* of all */
#define CONN_UNREAD_MAX (512u << 20) /* of what all clients have not read */

enum conn_phase { CONN_IDLE, CONN_HEAD, CONN_BODY, CONN_BUSY, CONN_RAW, CONN_LINGER };

struct conn {
	struct server *server;
	struct stream stream;
	struct tls *tls; /* NULL = plain */
	struct buf plain; /* what came through TLS and was not read yet */
	struct http_reader reader;
	struct list link;
	struct corpse corpse;
	enum conn_phase phase;
	struct loop_timer timer;
	uint64_t deadline_ns; /* 0 = none; the timer may be set to earlier, never to later */
	uint64_t body_since_ns;
	uint64_t linger_until_ns; /* 0 = our side is not shut down yet */
	uint64_t written; /* stream.written at the last look of the timer */
	size_t body_bytes; /* counted in server->body_bytes */
	size_t unread; /* counted in server->unread_bytes */
	bool pumping, gone, local;
	bool doomed; /* it is broken off when the loop turns: others need its room */
	bool head_only; /* the request is HEAD: no body in the answer */
	bool streamed; /* the request's body goes to its handler as it comes */
	bool body_done; /* and all of it has come */
	bool answering; /* between conn_begin() or conn_upgrade() and conn_end() */
	bool chunked, keep; /* how that answer ends */

	/* Of whoever works on a request; all are forgotten with its answer. */
	void *state;
	/* Called once if the client goes meanwhile. */
	void (*cancel)(struct conn *c);
	/* More of a streamed request's body is there, or (body_done) no more will come. */
	void (*on_body)(struct conn *c);
	/* The client has taken all that was added: there is room for more. */
	void (*on_room)(struct conn *c);
	/* After conn_upgrade(): bytes came, see conn_input(). */
	void (*on_input)(struct conn *c);
};

/* Takes over @fd. */
int conn_create(struct server *s, int fd, bool local, struct err *e);

/* Closes it at once. */
void conn_destroy(struct conn *c);

/*
 * Answers the current request.  @headers: further lines, each with CRLF; may be "".
 * @close: this was the last one.
 */
void conn_reply(struct conn *c, int status, const char *type, const char *headers, const void *body,
		size_t len, bool close);

/* ---- bodies over time --------------------------------------------------------------- */

/* What came of a streamed request's body and was not taken. */
static inline struct buf *conn_body(struct conn *c)
{
	return &c->reader.request.body;
}

/* Takes @n bytes off conn_body(); the client may send more. */
void conn_body_take(struct conn *c, size_t n);

/*
 * Begins an answer whose body comes in pieces: chunked, or, for HTTP/1.0, up to the end
 * of the connection.  Return: 0; -EPIPE: the client is gone, and c->cancel was called.
 */
int conn_begin(struct conn *c, int status, const char *type, const char *headers);

/* How many bytes may be added; 0 = on_room comes when there is room. */
static inline size_t conn_room(const struct conn *c)
{
	size_t waits = buf_len(&c->stream.out);

	return waits < CONN_WINDOW ? CONN_WINDOW - waits : 0;
}

/*
 * Adds a piece.  It is queued also if there is no room for it: who adds keeps to
 * conn_room() well enough that what waits stays bounded.  No callback comes out of it but
 * cancel.  Return: as conn_begin().
 */
int conn_add(struct conn *c, const void *p, size_t n);

/* The answer is complete. */
void conn_end(struct conn *c);

/* It will never be: closes the connection so that the client notices. */
void conn_break(struct conn *c);

/*
 * Answers 101 and hands the connection over (RFC 9110 §7.8): set on_input first.  What is
 * added from now on is sent as it is; conn_end() closes.  Return: as conn_begin().
 */
int conn_upgrade(struct conn *c, const char *headers);

/* What the client sent after an upgrade; consume what was used. */
struct buf *conn_input(struct conn *c);

/* There is room again in whoever takes conn_body() or conn_input(): on_body, on_input. */
void conn_resume(struct conn *c);

/* Closes the longest idle connection. Return: was there one? */
bool conn_evict(struct server *s);

/* No further requests; those that are worked on are answered. */
void conn_drain_all(struct server *s);

/* ---- who works on requests (http_api.c) --------------------------------------------- */

/*
 * The head is there.  Return: false if it was answered already (an error).  With
 * c->streamed set http_api_request() follows at once, else when the body is complete.
 */
bool http_api_head(struct conn *c);

/* What a page of another origin needs to read an answer, as lines for conn_reply(). */
const char *http_api_headers(struct conn *c, char *to, size_t size);

/* conn_reply() with them. */
void http_api_reply(struct conn *c, int status, const char *type, const void *body, size_t len);

/* Works on the request; conn_reply() or conn_begin() comes, now or later. */
void http_api_request(struct conn *c);

#endif
