/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bytes from a hostile guest through the real relay, with a client attached.
 *
 * The first byte of the input says how, the second how long the pieces are in which the
 * rest arrives.  Whatever the guest sends, the client gets whole frames, on channels that
 * it opened, within the windows that it granted, nothing on one that has ended, and only
 * the last message on one that it closed; the relay holds no more than its limits.
 */
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"
#include "sandbox/relay.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define OPT_SYNCED 1u /* the hellos were answered before */
#define OPT_BULK 2u /* the bytes come on agent.bulk */
#define OPT_CLIENT_LEAVES 4u /* the client goes away half-way */
#define OPT_CLIENT_CLOSES 8u /* the client abandons its first channel half-way */

#define GENERATION 0x0807060504030201u
#define CHANNELS 3u /* of the client on each link: 101.. on ctl, 201.. on bulk */
#define CHANNEL_RESULTS 103u /* a REPL_RUN, with results; the other are EXEC */
#define QUEUE_MAX (1u << 20) /* far beyond what these inputs can make the relay hold */

struct world {
	struct relay relay;
	struct loop *loop;
	int ctl, bulk, client;
	struct buf in; /* what the client received */
	unsigned faults, refusals;
	struct seen {
		uint64_t data[STREAM_COUNT];
		unsigned results;
		bool ended, closed;
	} seen[2][CHANNELS];
};

static void on_fault(struct relay *r, const char *reason)
{
	struct world *w = container_of(r, struct world, relay);

	assert(reason && reason[0]);
	w->faults++;
}
static void on_configured(struct relay *r, const struct frame_configured *c)
{
	(void)c;
	relay_set_ready(r);
}
static void on_refused(struct relay *r, const struct frame_error *err)
{
	struct world *w = container_of(r, struct world, relay);

	assert(err->message.len <= FRAME_BODY_MAX);
	w->refusals++;
}
static void on_stop(struct relay *r, uint32_t grace_ms)
{
	(void)r;
	(void)grace_ms;
	abort(); /* the client never asks */
}
static void on_owner_gone(struct relay *r)
{
	(void)r;
	abort(); /* the client is not the owner */
}
static void on_let_go(struct relay *r)
{
	(void)r;
}

static const struct relay_ops ops = {
	.on_fault = on_fault,
	.on_configured = on_configured,
	.on_refused = on_refused,
	.on_stop = on_stop,
	.on_owner_gone = on_owner_gone,
	.on_let_go = on_let_go,
};

static int end_of(int *theirs)
{
	int sv[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, sv) < 0)
		abort();
	*theirs = sv[1];
	return sv[0];
}

static void send_all(int fd, const void *p, size_t n)
{
	ssize_t sent = send(fd, p, n, MSG_NOSIGNAL);

	/* The relay may have hung up; a full socket would be a relay that does not read. */
	assert(sent == (ssize_t)n || errno == EPIPE || errno == ECONNRESET);
}

static void send_ack(int fd, enum frame_link link)
{
	struct frame_hello_ack ack = { .version = FRAME_VERSION,
				       .link = (uint8_t)link,
				       .generation = GENERATION };
	struct buf b = BUF_INIT;

	memcpy(ack.magic, FRAME_MAGIC, FRAME_MAGIC_SIZE);
	if (frame_encode(&b, 0, FRAME_HELLO_ACK, 0, &ack))
		abort();
	send_all(fd, buf_data(&b), buf_len(&b));
	buf_fini(&b);
}

static void client_start(struct world *w)
{
	struct frame_hello h = { .version = FRAME_VERSION, .version_min = 1, .link = LINK_CLIENT };
	struct frame_exec x = { .flags = EXEC_STDIN };
	struct frame_repl_run run = { .flags = REPL_RESULTS };
	struct frame_file file = { .path = frame_str_of("/x") };
	struct buf b = BUF_INIT;

	memcpy(h.magic, FRAME_MAGIC, FRAME_MAGIC_SIZE);
	assert(frame_encode(&b, 0, FRAME_HELLO, 0, &h) == 0);
	for (uint32_t i = 1; i <= CHANNELS; i++) {
		assert(frame_encode(&b, 100 + i,
				    100 + i == CHANNEL_RESULTS ? FRAME_REPL_RUN : FRAME_EXEC, 0,
				    100 + i == CHANNEL_RESULTS ? (void *)&run : (void *)&x) == 0);
		assert(frame_encode_raw(&b, 100 + i, FRAME_DATA, STREAM_IN, "in", 2) == 0);
		assert(frame_encode(&b, 200 + i, FRAME_FILE_READ, 0, &file) == 0);
	}
	send_all(w->client, buf_data(&b), buf_len(&b));
	buf_fini(&b);
}

static void client_frame(struct world *w, const struct frame *f)
{
	uint32_t link = f->channel / 100, i = f->channel % 100;
	struct seen *s;

	if (!f->channel) {
		assert(f->type == FRAME_HELLO_ACK || f->type == FRAME_SANDBOX_STATE);
		return;
	}
	assert((link == 1 || link == 2) && i >= 1 && i <= CHANNELS);
	s = &w->seen[link - 1][i - 1];
	assert(!s->ended);
	assert(!s->closed || frame_type_ends_channel(f->type));
	if (f->type == FRAME_DATA) {
		assert(f->flags == STREAM_OUT || f->flags == STREAM_ERR ||
		       (f->flags == STREAM_RESULT && f->channel == CHANNEL_RESULTS));
		s->data[f->flags] += f->len;
		assert(s->data[f->flags] <= FRAME_WINDOW); /* no credit was given */
	}
	if (f->type == FRAME_REPL_RESULT)
		assert(f->channel == CHANNEL_RESULTS && ++s->results <= FRAME_RESULTS_MAX);
	s->ended = frame_type_ends_channel(f->type);
}

static void client_read(struct world *w)
{
	uint8_t bytes[16384];
	struct frame f;
	ssize_t n;
	int rc;

	while (w->client >= 0 && (n = read(w->client, bytes, sizeof(bytes))) > 0)
		if (buf_append(&w->in, bytes, (size_t)n))
			abort();
	while ((rc = frame_parse(buf_data(&w->in), buf_len(&w->in), &f)) > 0) {
		client_frame(w, &f);
		buf_consume(&w->in, (size_t)rc);
	}
	assert(rc == 0);
}

static void turn(struct world *w)
{
	uint8_t sink[16384];

	/* More than enough for what one piece can cause; events that never end would show. */
	for (int i = 0; i < 3; i++)
		assert(loop_run_once(w->loop, 0) == 0);
	while (read(w->ctl, sink, sizeof(sink)) > 0)
		;
	while (read(w->bulk, sink, sizeof(sink)) > 0)
		;
	client_read(w);
	assert(buf_len(&w->relay.ctl.stream.in) <= w->relay.ctl.stream.in.max);
	assert(buf_len(&w->relay.ctl.stream.out) <= QUEUE_MAX);
	assert(buf_len(&w->relay.bulk.stream.out) <= QUEUE_MAX);
	assert(w->faults <= 1);
}

/* Half-way: the client does what its options say. */
static void client_act(struct world *w, uint8_t options)
{
	struct buf b = BUF_INIT;

	if (options & OPT_CLIENT_CLOSES) {
		assert(frame_encode(&b, 101, FRAME_CLOSE, 0, NULL) == 0);
		assert(frame_encode(&b, 201, FRAME_CLOSE, 0, NULL) == 0);
		send_all(w->client, buf_data(&b), buf_len(&b));
		buf_fini(&b);
	}
	if (options & OPT_CLIENT_LEAVES)
		close_fd(&w->client);
	turn(w);
	if (options & OPT_CLIENT_CLOSES)
		w->seen[0][0].closed = w->seen[1][0].closed = true;
}

static void world_init(struct world *w, uint8_t options)
{
	struct frame_configure c = { .hostname = frame_str_of("box") };
	int ctl, bulk, client;

	memset(w, 0, sizeof(*w));
	list_init(&w->relay.clients);
	w->ctl = end_of(&ctl);
	w->bulk = end_of(&bulk);
	w->client = end_of(&client);
	if (loop_create(&w->loop, NULL) ||
	    relay_init(&w->relay, w->loop, &ops, ctl, bulk, &c, NULL) ||
	    relay_add_client(&w->relay, client, false, NULL))
		abort();
	/* What an input may know. */
	w->relay.ctl.generation = w->relay.bulk.generation = GENERATION;
	client_start(w);
	if (options & OPT_SYNCED) {
		send_ack(w->ctl, LINK_CTL);
		send_ack(w->bulk, LINK_BULK);
		relay_set_ready(&w->relay);
	}
	turn(w);
}

static void world_fini(struct world *w)
{
	relay_fini(&w->relay);
	loop_destroy(w->loop);
	close_fd(&w->ctl);
	close_fd(&w->bulk);
	close_fd(&w->client);
	buf_fini(&w->in);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct world w;
	size_t step;
	uint8_t options;

	if (size < 2 || size > 64u * 1024)
		return 0;
	log_init(-1, LOG_ERR, "fuzz");
	options = data[0];
	step = (size_t)data[1] * 4 + 1;
	data += 2;
	size -= 2;
	/* Not more than a hundred pieces, for speed. */
	if (step < size / 100)
		step = size / 100;
	world_init(&w, options);
	for (size_t at = 0, part; at < size; at += part) {
		part = size - at < step ? size - at : step;
		if (at <= size / 2 && at + part > size / 2)
			client_act(&w, options);
		send_all(options & OPT_BULK ? w.bulk : w.ctl, data + at, part);
		turn(&w);
	}
	world_fini(&w);
	return 0;
}
