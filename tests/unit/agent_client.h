/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_TESTS_UNIT_AGENT_CLIENT_H
#define MSB_TESTS_UNIT_AGENT_CLIENT_H

/*
 * A client of the agent for tests of processes and interpreters: the agent is a part of
 * the test's process, its link a socket pair whose other end is watched by the agent's
 * own loop.  Nothing waits for time: a run ends when what the test waits for has come.
 */

#include "unit/test.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agent/agent.h"
#include "base/checked.h"
#include "base/mem.h"

#define CLIENT_CALLS 8
#define CLIENT_RESULTS 70 /* more than a call may have */

struct client_result {
	char mime[256], note[256];
	uint64_t size; /* announced */
	struct buf data;
};

struct call {
	uint32_t channel; /* 0 = free */
	struct client_result results[CLIENT_RESULTS];
	unsigned n_results;
	const uint8_t *data; /* of STREAM_IN */
	size_t data_len, sent;
	bool eof, eof_sent, no_credit;
	uint32_t window;
	bool started; /* EXEC_STARTED */
	struct buf out, err;
	uint16_t last; /* type of the last message; 0 = not yet */
	struct frame_exec_exit exit;
	struct frame_repl_done repl;
	uint32_t code; /* of ERROR */
	char text[2048];
	uint32_t owed[STREAM_COUNT]; /* not credited because of no_credit */
};

struct client {
	struct agent agent;
	sigset_t mask;
	struct loop_watch watch;
	int fd;
	struct buf in, out;
	struct call calls[CLIENT_CALLS];
	uint32_t next_channel, link_error;
	bool synced;
	/* what the run waits for: the end of a call, or so many bytes of its output */
	struct call *wait_call;
	size_t wait_bytes;
	bool wait_started, wait_link;
};

static inline void client_flush(struct client *x)
{
	ssize_t n = 1;

	while (buf_len(&x->out) && n > 0) {
		n = send(x->fd, buf_data(&x->out), buf_len(&x->out), MSG_NOSIGNAL | MSG_DONTWAIT);
		if (n > 0)
			buf_consume(&x->out, (size_t)n);
	}
	loop_watch_set(&x->watch, buf_len(&x->out) ? EPOLLIN | EPOLLOUT : EPOLLIN);
}

static inline void client_send(struct client *x, uint32_t channel, uint16_t type, uint16_t flags,
			       const void *msg)
{
	assert_int_equal(frame_encode(&x->out, channel, type, flags, msg), 0);
}

static inline void client_feed(struct client *x, struct call *c)
{
	while (c->sent < c->data_len && c->window) {
		size_t n = min_u64(min_u64(c->window, FRAME_DATA_MAX), c->data_len - c->sent);

		assert_int_equal(frame_encode_raw(&x->out, c->channel, FRAME_DATA, STREAM_IN,
						  c->data + c->sent, n),
				 0);
		c->sent += n;
		c->window -= (uint32_t)n;
	}
	if (c->sent == c->data_len && c->eof && !c->eof_sent) {
		client_send(x, c->channel, FRAME_EOF, STREAM_IN, NULL);
		c->eof_sent = true;
	}
}

static inline struct call *client_find(struct client *x, uint32_t channel)
{
	for (int i = 0; i < CLIENT_CALLS; i++)
		if (x->calls[i].channel == channel)
			return &x->calls[i];
	fail_msg("a frame on channel %u, which is not open", (unsigned)channel);
	return NULL;
}

static inline void client_got_result(struct call *c, const struct frame *f)
{
	struct client_result *r = &c->results[c->n_results++];
	struct frame_repl_result m;

	assert_true(c->n_results <= CLIENT_RESULTS);
	assert_int_equal(frame_decode(f, &m, sizeof(m)), 0);
	assert_int_equal(frame_str_copy(&m.mime, r->mime, sizeof(r->mime)), 0);
	assert_int_equal(frame_str_copy(&m.note, r->note, sizeof(r->note)), 0);
	r->size = m.size;
}

static inline struct buf *client_stream(struct call *c, uint16_t stream)
{
	struct client_result *r = &c->results[c->n_results - 1];

	if (stream != STREAM_RESULT)
		return stream == STREAM_OUT ? &c->out : &c->err;
	assert_true(c->n_results && buf_len(&r->data) < r->size);
	return &r->data;
}

static inline void client_got(struct client *x, const struct frame *f)
{
	struct frame_credit credit = { .bytes = f->len };
	struct frame_error error;
	struct call *c;

	if (!f->channel) {
		if (f->type == FRAME_HELLO_ACK)
			x->synced = true;
		if (f->type == FRAME_ERROR) {
			assert_int_equal(frame_decode(f, &error, sizeof(error)), 0);
			x->link_error = error.code;
		}
		return;
	}
	c = client_find(x, f->channel);
	assert_int_equal(c->last, 0); /* nothing follows the last message */
	switch (f->type) {
	case FRAME_DATA:
		assert_true(f->flags != STREAM_IN && f->flags < STREAM_COUNT);
		assert_int_equal(buf_append(client_stream(c, f->flags), f->body, f->len), 0);
		if (c->no_credit)
			c->owed[f->flags] += f->len;
		else
			client_send(x, c->channel, FRAME_CREDIT, f->flags, &credit);
		return;
	case FRAME_EOF:
		return;
	case FRAME_REPL_RESULT:
		client_got_result(c, f);
		return;
	case FRAME_EXEC_STARTED:
		c->started = true;
		return;
	case FRAME_CREDIT:
		assert_int_equal(frame_decode(f, &credit, sizeof(credit)), 0);
		c->window += credit.bytes;
		return;
	case FRAME_EXEC_EXIT:
		assert_int_equal(frame_decode(f, &c->exit, sizeof(c->exit)), 0);
		break;
	case FRAME_REPL_DONE:
		assert_int_equal(frame_decode(f, &c->repl, sizeof(c->repl)), 0);
		break;
	case FRAME_ERROR:
		assert_int_equal(frame_decode(f, &error, sizeof(error)), 0);
		c->code = error.code;
		assert_int_equal(frame_str_copy(&error.message, c->text, sizeof(c->text)), 0);
		break;
	default:
		fail_msg("unexpected %s", frame_type_name(f->type));
	}
	c->last = f->type;
}

static inline bool client_satisfied(const struct client *x)
{
	const struct call *c = x->wait_call;

	if (x->wait_link)
		return x->synced || x->link_error;
	if (!c)
		return false;
	return c->last || (x->wait_bytes && buf_len(&c->out) >= x->wait_bytes) ||
	       (x->wait_started && c->started);
}

static inline void client_event(struct loop_watch *w, uint32_t events)
{
	struct client *x = container_of(w, struct client, watch);
	struct frame f;
	uint8_t *p;
	ssize_t n;
	int used;

	(void)events;
	assert_int_equal(buf_reserve(&x->in, 65536, &p), 0);
	n = recv(x->fd, p, 65536, MSG_DONTWAIT);
	if (n > 0)
		buf_commit(&x->in, (size_t)n);
	while ((used = frame_parse(buf_data(&x->in), buf_len(&x->in), &f)) > 0) {
		client_got(x, &f);
		buf_consume(&x->in, (size_t)used);
	}
	assert_int_equal(used, 0);
	for (int i = 0; i < CLIENT_CALLS; i++)
		if (x->calls[i].channel && !x->calls[i].last)
			client_feed(x, &x->calls[i]);
	client_flush(x);
	if (client_satisfied(x))
		x->agent.ended = true;
}

static inline void client_run(struct client *x)
{
	for (int i = 0; i < CLIENT_CALLS; i++)
		if (x->calls[i].channel && !x->calls[i].last)
			client_feed(x, &x->calls[i]);
	client_flush(x);
	x->agent.ended = client_satisfied(x);
	assert_int_equal(agent_run(&x->agent), 0);
	x->wait_call = NULL;
	x->wait_bytes = 0;
	x->wait_started = x->wait_link = false;
}

/* Runs until the call's last message. Return: its type. */
static inline uint16_t client_finish(struct client *x, struct call *c)
{
	x->wait_call = c;
	client_run(x);
	return c->last;
}

/* Runs until the call has written @n bytes of standard output (or has ended). */
static inline void client_await_output(struct client *x, struct call *c, size_t n)
{
	x->wait_call = c;
	x->wait_bytes = n;
	client_run(x);
}

static inline struct call *client_open(struct client *x)
{
	for (int i = 0; i < CLIENT_CALLS; i++) {
		struct call *c = &x->calls[i];

		if (c->channel)
			continue;
		*c = (struct call){ .channel = ++x->next_channel, .window = FRAME_WINDOW };
		return c;
	}
	fail_msg("too many calls");
	return NULL;
}

static inline void client_release(struct call *c)
{
	buf_fini(&c->out);
	buf_fini(&c->err);
	for (unsigned i = 0; i < c->n_results; i++)
		buf_fini(&c->results[i].data);
	c->n_results = 0;
	c->channel = 0;
}

static inline void client_hello(struct client *x, uint16_t version)
{
	struct frame_hello hello = {
		.version = version, .version_min = version, .link = LINK_CTL, .generation = 42
	};

	memcpy(hello.magic, FRAME_MAGIC, FRAME_MAGIC_SIZE);
	client_send(x, 0, FRAME_HELLO, 0, &hello);
	x->synced = false;
	x->link_error = 0;
	x->wait_link = true;
	client_run(x);
}

/* A link without a HELLO. */
static inline void client_connect(struct client *x)
{
	static const struct agent_platform platform = { 0 };
	struct err e = ERR_INIT;
	int fds[2];

	*x = (struct client){ 0 };
	sigprocmask(SIG_SETMASK, NULL, &x->mask);
	/* Processes that lose their parent come to the agent, as to an init. */
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	assert_int_equal(agent_init(&x->agent, &platform, "test", &e), 0);
	x->agent.proc_fd = open("/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	x->agent.dev_fd = open("/dev", O_PATH | O_DIRECTORY | O_CLOEXEC);
	x->agent.pts_fd = open("/dev/pts", O_PATH | O_DIRECTORY | O_CLOEXEC);
	x->agent.configured = true;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), 0);
	x->fd = fds[0];
	assert_int_equal(link_create(&x->agent, LINK_CTL, fds[1], &e), 0);
	loop_watch_init(&x->watch, client_event);
	assert_int_equal(loop_watch_add(x->agent.loop, &x->watch, x->fd, EPOLLIN), 0);
}

static inline void client_begin(struct client *x)
{
	client_connect(x);
	client_hello(x, FRAME_VERSION);
	assert_true(x->synced);
}

static inline void client_end(struct client *x)
{
	loop_watch_remove(&x->watch);
	close_fd(&x->fd);
	agent_fini(&x->agent);
	sigprocmask(SIG_SETMASK, &x->mask, NULL);
	buf_fini(&x->in);
	buf_fini(&x->out);
	for (int i = 0; i < CLIENT_CALLS; i++)
		client_release(&x->calls[i]);
}

static inline const char *client_text(struct buf *b)
{
	assert_int_equal(buf_append(b, "", 1), 0);
	b->end--;
	return (const char *)buf_data(b);
}

/* NULL-terminated strings as an encoded list; @b must outlive it. */
static inline struct frame_list client_list(struct buf *b, const char *const *v)
{
	struct frame_list l = { 0 };

	for (; v && *v; v++)
		assert_int_equal(frame_list_add(b, &l, *v, strlen(*v)), 0);
	frame_list_end(b, &l);
	return l;
}

#endif
