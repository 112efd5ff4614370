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
 * that the client gets to read the answer (RFC 9112 §9.6).
 *
 * Limits: a client may take CONN_HEAD_MS for a request's head, CONN_BODY_MS plus a second
 * for every CONN_BODY_RATE bytes for its body, CONN_IDLE_MS between requests, and must
 * take some of an answer within CONN_WRITE_MS.  The bodies of all connections together
 * are bounded, and so is the number of connections; the longest idle one makes room.
 *
 * Failure: a client that closes its side while its request is worked on has given up:
 * the request is cancelled, and what runs for it in a sandbox is killed.
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
#define CONN_BODY_MAX (17u << 20) /* of one request: the code of a call and then some */
#define CONN_BODIES_MAX (256u << 20) /* of all */

enum conn_phase { CONN_IDLE, CONN_HEAD, CONN_BODY, CONN_BUSY, CONN_LINGER };

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
	size_t unwritten; /* at the last look of the timer */
	size_t body_bytes; /* counted in server->body_bytes */
	bool pumping, gone, local;
	bool head_only; /* the request is HEAD: no body in the answer */
	/* Called if the client goes while its request is worked on. */
	void (*cancel)(struct conn *c);
	void *state; /* of whoever works on it */
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

/* Closes the longest idle connection. Return: was there one? */
bool conn_evict(struct server *s);

/* No further requests; those that are worked on are answered. */
void conn_drain_all(struct server *s);

/* ---- who works on requests (http_api.c) --------------------------------------------- */

/* The head is there.  Return: false if it was answered already (an error). */
bool http_api_head(struct conn *c);

/* conn_reply() with what a page of another origin needs to read it. */
void http_api_reply(struct conn *c, int status, const char *type, const void *body, size_t len);

/* The request is complete; conn_reply() comes, now or later. */
void http_api_request(struct conn *c);

#endif
