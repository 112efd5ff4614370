/* SPDX-License-Identifier: Apache-2.0 */
/* Connections whose bodies take their time, over TCP, with a handler of the test's. */
#include "unit/test.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "server/conn.h"

/* What the handler of the request does. */
static struct {
	struct conn *conn;
	unsigned heads, requests, cancels, bodies, rooms, inputs;
	bool streamed, holds; /* holds: takes nothing of a body */
	bool echo; /* after an upgrade */
	uint64_t body_bytes, body_hash;
	int refuse; /* status of an answer at once */
} h;

static struct server server;
static int client = -1;

/* ---- what conn.c wants from the rest of the server ------------------------------------ */

void server_bury(struct server *s, struct corpse *c, void (*fn)(struct corpse *))
{
	c->free = fn;
	list_append(&s->corpses, &c->link);
}

void server_check_end(struct server *s)
{
	(void)s;
}

static void on_cancel(struct conn *c)
{
	assert_ptr_equal(c, h.conn);
	h.cancels++;
	h.conn = NULL;
}

static void on_room(struct conn *c)
{
	(void)c;
	h.rooms++;
}

static uint64_t hash_of(uint64_t hash, const uint8_t *p, size_t n)
{
	for (size_t i = 0; i < n; i++)
		hash = (hash ^ p[i]) * 1099511628211u;
	return hash;
}

static void take_body(struct conn *c)
{
	size_t n = buf_len(conn_body(c));

	h.body_bytes += n;
	h.body_hash = hash_of(h.body_hash, buf_data(conn_body(c)), n);
	conn_body_take(c, n);
}

static void on_body(struct conn *c)
{
	h.bodies++;
	assert_true(buf_len(conn_body(c)) <= CONN_WINDOW);
	if (!h.holds)
		take_body(c);
	if (c->body_done && !h.holds)
		conn_reply(c, 200, "text/plain", "", "whole", 5, false);
}

static void on_input(struct conn *c)
{
	struct buf *in = conn_input(c);
	size_t n = buf_len(in);

	h.inputs++;
	if (h.echo && !conn_add(c, buf_data(in), n))
		buf_consume(in, n);
}

bool http_api_head(struct conn *c)
{
	h.heads++;
	c->streamed = h.streamed;
	return true;
}

void http_api_request(struct conn *c)
{
	h.requests++;
	h.conn = c;
	if (h.refuse) {
		conn_reply(c, h.refuse, "text/plain", "", "no", 2, false);
		return;
	}
	c->cancel = on_cancel;
	c->on_room = on_room;
	c->on_body = on_body;
	c->on_input = on_input;
}

/* ---- the fixture ------------------------------------------------------------------------ */

static void connect_client(void)
{
	struct sockaddr_in sa = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int l = socket(AF_INET, SOCK_STREAM, 0), small = 65536, one = 1;
	socklen_t len = sizeof(sa);
	struct err e = ERR_INIT;

	/* Small buffers in the kernel: what is held is held by us. */
	assert_int_equal(bind(l, (struct sockaddr *)&sa, len), 0);
	assert_int_equal(listen(l, 1), 0);
	assert_int_equal(getsockname(l, (struct sockaddr *)&sa, &len), 0);
	client = socket(AF_INET, SOCK_STREAM, 0);
	setsockopt(client, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small));
	setsockopt(client, SOL_SOCKET, SO_SNDBUF, &small, sizeof(small));
	setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	assert_int_equal(connect(client, (struct sockaddr *)&sa, len), 0);
	fcntl(client, F_SETFL, O_NONBLOCK);
	assert_int_equal(conn_create(&server, accept(l, NULL, NULL), false, &e), 0);
	close(l);
}

static int setup(void **state)
{
	struct err e = ERR_INIT;

	test_setup(state);
	memset(&h, 0, sizeof(h));
	memset(&server, 0, sizeof(server));
	list_init(&server.conns);
	list_init(&server.corpses);
	server.unread_max = CONN_UNREAD_MAX;
	assert_int_equal(loop_create(&server.loop, &e), 0);
	connect_client();
	return 0;
}

static void bury(void)
{
	while (!list_empty(&server.corpses)) {
		struct corpse *c = list_entry(server.corpses.next, struct corpse, link);

		list_remove(&c->link);
		c->free(c);
	}
}

static int teardown(void **state)
{
	list_for_each (pos, tmp, &server.conns)
		conn_destroy(list_entry(pos, struct conn, link));
	bury();
	assert_int_equal(server.body_bytes, 0);
	assert_int_equal(server.unread_bytes, 0);
	assert_int_equal(server.n_conns, 0);
	loop_destroy(server.loop);
	if (client >= 0)
		close(client);
	client = -1;
	return test_teardown(state);
}

static void turn(void)
{
	for (int i = 0; i < 8; i++)
		assert_int_equal(loop_run_once(server.loop, i ? 0 : 1), 0);
	bury();
}

static void say(const char *text)
{
	assert_int_equal(send(client, text, strlen(text), MSG_NOSIGNAL), (ssize_t)strlen(text));
	turn();
}

/* Reads until @want has come. Return: what came, for the length of the test. */
static char *hear(const char *want)
{
	static char text[8192];
	size_t n = 0;

	for (int i = 0; i < 1000; i++) {
		ssize_t got = recv(client, text + n, sizeof(text) - 1 - n, 0);

		n += got > 0 ? (size_t)got : 0;
		text[n] = '\0';
		if (strstr(text, want))
			return text;
		turn();
	}
	fail_msg("no '%s' in '%s'", want, text);
	return NULL;
}

/* Return: 0 at an orderly end, or the errno of another; drops what comes before. */
static int end_of_client(void)
{
	char bytes[4096];

	for (int i = 0; i < 1000; i++) {
		ssize_t n = recv(client, bytes, sizeof(bytes), 0);

		if (!n)
			return 0;
		if (n < 0 && errno != EAGAIN)
			return errno;
		turn();
	}
	fail_msg("the connection is still there");
	return -1;
}

#define GET "GET / HTTP/1.1\r\nHost: a\r\n\r\n"
#define PUT "PUT / HTTP/1.1\r\nHost: a\r\n"

/* ---- answers ---------------------------------------------------------------------------- */

static void an_answer_comes_in_pieces(void **state)
{
	struct conn *c;

	(void)state;
	say(GET GET);
	c = h.conn;
	assert_int_equal(h.requests, 1); /* the next one waits */
	assert_int_equal(conn_begin(c, 200, "text/plain", "X-A: b\r\n"), 0);
	assert_non_null(strstr(hear("\r\n\r\n"), "Transfer-Encoding: chunked\r\nX-A: b\r\n"));
	assert_int_equal(conn_add(c, "one", 3), 0);
	hear("3\r\none\r\n");
	assert_int_equal(conn_add(c, "", 0), 0); /* would be the end */
	assert_int_equal(conn_add(c, "and two", 7), 0);
	hear("7\r\nand two\r\n");
	assert_true(h.rooms >= 2);
	conn_end(c);
	hear("0\r\n\r\n");
	turn();
	assert_int_equal(h.requests, 2);
	conn_reply(c, 200, "text/plain", "", "next", 4, false);
	assert_non_null(strstr(hear("next"), "keep-alive"));
	assert_int_equal(h.cancels, 0);
}

static void for_http_1_0_the_end_of_the_connection_ends_it(void **state)
{
	(void)state;
	say("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
	assert_int_equal(conn_begin(h.conn, 200, "text/plain", ""), 0);
	assert_int_equal(conn_add(h.conn, "bytes", 5), 0);
	assert_null(strstr(hear("\r\n\r\nbytes"), "chunked"));
	conn_end(h.conn);
	assert_int_equal(end_of_client(), 0);
}

static void an_answer_that_breaks_off_is_no_whole_one(void **state)
{
	(void)state;
	say(GET);
	assert_int_equal(conn_begin(h.conn, 200, "text/plain", ""), 0);
	assert_int_equal(conn_add(h.conn, "bytes", 5), 0);
	assert_null(strstr(hear("bytes\r\n"), "0\r\n\r\n"));
	conn_break(h.conn);
	assert_int_equal(end_of_client(), 0); /* no last chunk */
	assert_int_equal(h.cancels, 0);
	close(client);
	connect_client();
	say("GET / HTTP/1.0\r\n\r\n");
	assert_int_equal(conn_begin(h.conn, 200, "text/plain", ""), 0);
	assert_int_equal(conn_add(h.conn, "bytes", 5), 0);
	hear("bytes");
	conn_break(h.conn);
	assert_int_equal(end_of_client(), ECONNRESET);
}

static void head_gets_no_body(void **state)
{
	char *text;

	(void)state;
	say("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n" GET);
	assert_int_equal(conn_begin(h.conn, 200, "text/plain", ""), 0);
	assert_int_equal(conn_add(h.conn, "bytes", 5), 0);
	conn_end(h.conn);
	turn();
	assert_int_equal(h.requests, 2);
	conn_reply(h.conn, 200, "text/plain", "", "next", 4, false);
	text = hear("next");
	assert_null(strstr(text, "bytes"));
	assert_null(strstr(text, "0\r\n\r\n"));
}

static void who_does_not_read_is_not_sent_more(void **state)
{
	static uint8_t piece[1000];
	uint64_t sent = 0, got = 0;
	unsigned rooms;

	(void)state;
	say("GET / HTTP/1.0\r\n\r\n");
	assert_int_equal(conn_begin(h.conn, 200, "text/plain", ""), 0);
	while (conn_room(h.conn)) {
		assert_int_equal(conn_add(h.conn, piece, sizeof(piece)), 0);
		sent += sizeof(piece);
		turn();
		assert_true(sent < 64u << 20);
	}
	assert_true(buf_len(&h.conn->stream.out) < CONN_WINDOW + sizeof(piece));
	assert_true(h.conn->deadline_ns > 0); /* CONN_WRITE_MS runs */
	rooms = h.rooms;
	turn();
	assert_int_equal(h.rooms, rooms);
	while (h.rooms == rooms) {
		ssize_t n = recv(client, piece, sizeof(piece), 0);

		got += n > 0 ? (uint64_t)n : 0;
		turn();
	}
	assert_int_equal(conn_room(h.conn), CONN_WINDOW);
	assert_int_equal(h.conn->deadline_ns, 0);
	conn_end(h.conn);
	while (true) {
		ssize_t n = recv(client, piece, sizeof(piece), 0);

		if (!n)
			break;
		got += n > 0 ? (uint64_t)n : 0;
		turn();
	}
	assert_true(got > sent && got < sent + 300); /* and the head */
}

/* As if the time were up. */
static void time_is_up(struct conn *c)
{
	c->deadline_ns = 1;
	loop_timer_set(server.loop, &c->timer, 0);
	turn();
}

static void who_never_reads_is_cut_off(void **state)
{
	static uint8_t piece[65536];
	struct conn *c;

	(void)state;
	say(GET);
	c = h.conn;
	assert_int_equal(conn_begin(c, 200, "text/plain", ""), 0);
	for (int i = 0; i < 200; i++) {
		assert_int_equal(conn_add(c, piece, sizeof(piece)), 0);
		turn();
	}
	c->written = UINT64_MAX; /* some was taken since the last look */
	time_is_up(c);
	assert_int_equal(h.cancels, 0);
	assert_true(c->deadline_ns > 1);
	time_is_up(c);
	assert_int_equal(h.cancels, 1);
	assert_int_equal(server.n_conns, 0);
}

static void a_client_that_goes_cancels(void **state)
{
	struct conn *c;

	(void)state;
	say(GET);
	c = h.conn;
	assert_int_equal(conn_begin(c, 200, "text/plain", ""), 0);
	hear("\r\n\r\n");
	close(client);
	client = -1;
	for (int i = 0; i < 1000 && !h.cancels; i++)
		loop_run_once(server.loop, 1);
	assert_int_equal(h.cancels, 1);
	assert_int_equal(conn_add(c, "x", 1), -EPIPE); /* until it is buried */
	conn_end(c);
	assert_int_equal(h.cancels, 1);
}

/* ---- requests --------------------------------------------------------------------------- */

/* Sends what can be sent. Return: how much of @n was. */
static size_t send_some(const uint8_t *p, size_t n)
{
	size_t sent = 0;

	for (unsigned idle = 0; sent < n && idle < 20;) {
		ssize_t rc = send(client, p + sent, n - sent, MSG_NOSIGNAL);

		if (rc > 0)
			sent += (size_t)rc;
		idle = rc > 0 ? 0 : idle + 1;
		turn();
	}
	return sent;
}

static void a_body_of_any_size_is_passed_on(void **state)
{
	size_t size = CONN_BODY_MAX + 12345;
	uint8_t *bytes = malloc(size);
	char head[200];

	(void)state;
	assert_non_null(bytes);
	for (size_t i = 0; i < size; i++)
		bytes[i] = (uint8_t)(i * 7 + i / 251);
	h.streamed = true;
	snprintf(head, sizeof(head), PUT "Content-Length: %zu\r\n\r\n", size);
	say(head);
	assert_int_equal(h.requests, 1); /* the handler knows before the body comes */
	assert_int_equal(send_some(bytes, size), size);
	assert_non_null(strstr(hear("whole"), "keep-alive"));
	assert_int_equal(h.body_bytes, size);
	assert_int_equal(h.body_hash, hash_of(0, bytes, size));
	free(bytes);
	/* the connection is as good as new */
	h.streamed = false;
	say(GET);
	conn_reply(h.conn, 200, "text/plain", "", "next", 4, false);
	hear("next");
	assert_int_equal(h.cancels, 0);
}

static void a_body_in_chunks_and_one_of_nothing(void **state)
{
	(void)state;
	h.streamed = true;
	say(PUT "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n");
	assert_int_equal(h.body_bytes, 3);
	say("2\r\nde\r\n0\r\n\r\n" PUT "Content-Length: 0\r\n\r\n");
	hear("whole");
	assert_int_equal(h.body_bytes, 5);
	assert_int_equal(h.body_hash, hash_of(0, (const uint8_t *)"abcde", 5));
	turn();
	assert_int_equal(h.requests, 2);
	assert_int_equal(h.body_bytes, 5);
}

static void who_takes_nothing_stops_the_client(void **state)
{
	size_t size = 8u << 20, sent;
	uint8_t *bytes = calloc(1, size);
	struct conn *c;
	char head[200];

	(void)state;
	assert_non_null(bytes);
	h.streamed = h.holds = true;
	snprintf(head, sizeof(head), PUT "Content-Length: %zu\r\n\r\n", size);
	say(head);
	c = h.conn;
	assert_true(c->deadline_ns > 0); /* the client is waited for */
	sent = send_some(bytes, size);
	assert_true(sent < 4u << 20);
	assert_int_equal(buf_len(conn_body(c)), CONN_WINDOW);
	assert_int_equal(server.body_bytes, CONN_WINDOW);
	assert_int_equal(c->deadline_ns, 0); /* it is not the client that holds it up */
	h.holds = false;
	take_body(c);
	conn_resume(c);
	assert_int_equal(send_some(bytes + sent, size - sent), size - sent);
	hear("whole");
	assert_int_equal(h.body_bytes, size);
	free(bytes);
}

static void an_early_answer_is_the_last(void **state)
{
	static const uint8_t rest[100000];

	(void)state;
	h.streamed = true;
	h.refuse = 404;
	say(PUT "Content-Length: 1000000\r\nExpect: 100-continue\r\n\r\n");
	assert_null(strstr(hear("\r\n\r\nno"), "100 Continue"));
	/* The client may not have looked yet: it is listened to for a while. */
	assert_int_equal(send_some(rest, sizeof(rest)), sizeof(rest));
	assert_int_equal(h.requests, 1);
	assert_int_equal(end_of_client(), 0);
}

static void a_broken_body_cancels(void **state)
{
	(void)state;
	h.streamed = true;
	say(PUT "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nzz\r\n");
	assert_int_equal(h.cancels, 1);
	assert_non_null(strstr(hear("malformed"), " 400 "));
	assert_int_equal(end_of_client(), 0);
}

static void a_body_that_stops_coming_cancels(void **state)
{
	(void)state;
	h.streamed = true;
	say(PUT "Content-Length: 10\r\nExpect: 100-continue\r\n\r\n");
	hear("100 Continue\r\n\r\n");
	say("abc");
	time_is_up(h.conn);
	assert_int_equal(h.cancels, 1);
	assert_non_null(strstr(hear("too long"), " 408 "));
}

static void a_client_that_goes_amid_its_body_cancels(void **state)
{
	(void)state;
	h.streamed = true;
	say(PUT "Content-Length: 10\r\n\r\nabc");
	shutdown(client, SHUT_WR);
	turn();
	assert_int_equal(h.cancels, 1);
	assert_int_equal(h.body_bytes, 3);
}

static void a_gathered_body_keeps_its_limit(void **state)
{
	(void)state;
	say(PUT "Content-Length: 100000000\r\nExpect: 100-continue\r\n\r\n");
	assert_null(strstr(hear(" 413 "), "100 Continue"));
	assert_int_equal(h.requests, 0);
}

/* ---- another protocol ----------------------------------------------------------------------- */

static void after_an_upgrade_bytes_go_both_ways(void **state)
{
	struct conn *c;

	(void)state;
	say(GET "early");
	c = h.conn;
	h.echo = true;
	assert_int_equal(conn_upgrade(c, "Upgrade: echo\r\n"), 0);
	conn_resume(c);
	assert_non_null(strstr(hear("\r\n\r\nearly"), "101 Switching Protocols"));
	say("more");
	hear("more");
	h.echo = false; /* it takes nothing */
	say("later");
	say("later");
	assert_int_equal(buf_len(conn_input(c)), 10);
	h.echo = true;
	conn_resume(c);
	hear("laterlater");
	conn_end(c);
	assert_int_equal(end_of_client(), 0);
	assert_int_equal(h.cancels, 0);
}

/* A request is answered with @n bytes that its client does not read. Return: the client's descriptor. */
static int answer_unread(size_t n)
{
	uint8_t *body = calloc(1, n);
	int fd = client;

	assert_non_null(body);
	say(GET);
	conn_reply(h.conn, 200, "text/plain", "", body, n, false);
	free(body);
	turn();
	connect_client();
	return fd;
}

/* Reads all that is there. Return: how much, -1 if the connection was broken off. */
static ssize_t drain(int fd)
{
	static char bytes[1 << 16];
	ssize_t total = 0;

	for (int quiet = 0; quiet < 50; turn()) {
		ssize_t n = recv(fd, bytes, sizeof(bytes), 0);

		if (!n || (n < 0 && errno != EAGAIN))
			return -1;
		total += n > 0 ? n : 0;
		quiet = n > 0 ? 0 : quiet + 1;
	}
	return total;
}

static void what_nobody_reads_is_bounded_for_all_together(void **state)
{
	int small, large, fds[3];

	(void)state;
	server.unread_max = 40u << 20;
	small = answer_unread(10u << 20);
	large = answer_unread(20u << 20);
	assert_true(server.unread_bytes > 20u << 20 && server.unread_bytes < 30u << 20);
	assert_int_equal(server.count.dropped_answers, 0);
	/* Who has the most gives way, not who is first or who comes last. */
	fds[0] = answer_unread(25u << 20);
	assert_int_equal(server.count.dropped_answers, 1);
	assert_int_equal(drain(large), -1);
	assert_true(server.unread_bytes < server.unread_max);
	assert_true(drain(small) > 10 << 20);
	assert_true(drain(fds[0]) > 25 << 20);
	assert_int_equal(server.unread_bytes, 0);
	assert_int_equal(server.n_conns, 3); /* these two and the next client */
	/* One answer is never refused for what it is itself. */
	server.unread_max = 1u << 20;
	fds[1] = answer_unread(8u << 20);
	assert_int_equal(server.count.dropped_answers, 1);
	fds[2] = answer_unread(8u << 20);
	assert_int_equal(server.count.dropped_answers, 2);
	assert_int_equal(drain(fds[1]), -1);
	assert_true(drain(fds[2]) > 8 << 20);
	for (size_t i = 0; i < ARRAY_SIZE(fds); i++)
		close(fds[i]);
	close(small);
	close(large);
}

static void a_stream_that_gives_way_is_cancelled(void **state)
{
	static uint8_t piece[CONN_WINDOW];
	struct conn *stream, *other;
	int fd = client;
	uint8_t *body;

	(void)state;
	say(GET);
	stream = h.conn;
	assert_int_equal(conn_begin(stream, 200, "text/plain", ""), 0);
	while (conn_room(stream)) {
		assert_int_equal(conn_add(stream, piece, sizeof(piece)), 0);
		turn();
	}
	server.unread_max = buf_len(&stream->stream.out);
	connect_client();
	say(GET);
	other = h.conn;
	h.conn = stream; /* whom on_cancel() expects */
	body = calloc(1, 8u << 20);
	conn_reply(other, 200, "text/plain", "", body, 8u << 20, false);
	free(body);
	assert_int_equal(h.cancels, 0); /* not under whoever works on another */
	assert_int_equal(server.count.dropped_answers, 1);
	turn();
	assert_int_equal(h.cancels, 1);
	assert_int_equal(drain(fd), -1);
	close(fd);
}

#define ROW(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		ROW(an_answer_comes_in_pieces),
		ROW(for_http_1_0_the_end_of_the_connection_ends_it),
		ROW(an_answer_that_breaks_off_is_no_whole_one),
		ROW(head_gets_no_body),
		ROW(who_does_not_read_is_not_sent_more),
		ROW(who_never_reads_is_cut_off),
		ROW(a_client_that_goes_cancels),
		ROW(a_body_of_any_size_is_passed_on),
		ROW(a_body_in_chunks_and_one_of_nothing),
		ROW(who_takes_nothing_stops_the_client),
		ROW(an_early_answer_is_the_last),
		ROW(a_broken_body_cancels),
		ROW(a_body_that_stops_coming_cancels),
		ROW(a_client_that_goes_amid_its_body_cancels),
		ROW(a_gathered_body_keeps_its_limit),
		ROW(what_nobody_reads_is_bounded_for_all_together),
		ROW(a_stream_that_gives_way_is_cancelled),
		ROW(after_an_upgrade_bytes_go_both_ways),
	};

	return test_run(tests);
}
