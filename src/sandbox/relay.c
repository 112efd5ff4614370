/* SPDX-License-Identifier: Apache-2.0 */
#include "sandbox/relay.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "base/log.h"
#include "base/mem.h"

#define RELAY_IN_MAX (FRAME_HEADER_SIZE + FRAME_BODY_MAX + 64u * 1024)
#define RELAY_AGENT_OUT (64u << 20) /* all clients' windows together, and then some */
#define RELAY_CLIENT_OUT (64u << 20)
#define RELAY_CLIENTS_MAX 128u
#define RELAY_CALLS_MAX 64u /* to the supervisor, not answered yet */
/* What a guest may print on its port before the agent's hello. */
#define RELAY_DISCARD_MAX (1u << 20)

/* One request of a client, and its streams. */
struct channel {
	struct agent_link *link;
	struct ctl_client *client; /* NULL = gone */
	bool closing; /* CLOSE was sent: only the last message passes */
	bool started; /* EXEC_STARTED was seen */
	bool wants_results; /* a REPL_RUN with REPL_RESULTS */
	unsigned results; /* REPL_RESULT messages seen */
	bool eof[STREAM_COUNT]; /* of the guest's streams */
	uint32_t number; /* on the agent's link */
	uint32_t client_number;
	uint32_t window[STREAM_COUNT]; /* bytes the sender may still send */
};

struct ctl_client {
	struct relay *relay;
	struct stream stream;
	struct list link;
	bool owner, hello, gone;
	bool holds; /* the sandbox is not to end meanwhile */
	unsigned refs; /* frames being handled: not freed meanwhile */
};

struct relay_call {
	struct relay *relay;
	struct ctl_client *client; /* NULL = gone */
	uint32_t number;
	struct list link;
};

static void client_drop(struct ctl_client *c, const char *why);

static void relay_fault(struct relay *r, const char *reason)
{
	if (r->fault)
		return;
	r->fault = true;
	/* Nothing more is read of this guest; unread bytes must not wake us until it is dead. */
	stream_pause(&r->ctl.stream, true);
	stream_pause(&r->bulk.stream, true);
	r->ops->on_fault(r, reason);
}

/* ---- channels ---------------------------------------------------------------- */

static struct channel *channel_find_agent(struct agent_link *l, uint32_t number)
{
	return number && number <= FRAME_CHANNELS_MAX ? l->channels[number - 1] : NULL;
}

static struct channel *channel_find_client(struct relay *r, const struct ctl_client *c,
					   uint32_t client_number)
{
	struct agent_link *links[] = { &r->ctl, &r->bulk };

	for (size_t l = 0; l < ARRAY_SIZE(links); l++)
		for (size_t i = 0; i < FRAME_CHANNELS_MAX; i++) {
			struct channel *ch = links[l]->channels[i];

			if (ch && ch->client == c && ch->client_number == client_number)
				return ch;
		}
	return NULL;
}

static struct channel *channel_create(struct agent_link *l, struct ctl_client *c,
				      uint32_t client_number)
{
	for (uint32_t i = 0; i < FRAME_CHANNELS_MAX; i++) {
		struct channel *ch;

		if (l->channels[i])
			continue;
		ch = calloc(1, sizeof(*ch));
		if (!ch)
			return NULL;
		ch->link = l;
		ch->client = c;
		ch->number = i + 1;
		ch->client_number = client_number;
		for (int s = 0; s < STREAM_COUNT; s++)
			ch->window[s] = FRAME_WINDOW;
		l->channels[i] = ch;
		return ch;
	}
	return NULL;
}

static void channel_destroy(struct channel *ch)
{
	ch->link->channels[ch->number - 1] = NULL;
	free(ch);
}

/* The client lost interest: the agent kills what runs, and the number stays taken until
 * its last message. */
static void channel_close(struct channel *ch)
{
	if (ch->closing)
		return;
	ch->closing = true;
	frame_encode(&ch->link->stream.out, ch->number, FRAME_CLOSE, 0, NULL);
	stream_flush(&ch->link->stream);
}

/* Return: false if the sender went past the window. */
static bool channel_spend(struct channel *ch, unsigned stream, uint32_t bytes)
{
	if (bytes > ch->window[stream])
		return false;
	ch->window[stream] -= bytes;
	return true;
}

/* Return: false if the CREDIT is malformed or empty, or the window grows over its maximum. */
static bool channel_credit(struct channel *ch, unsigned stream, const struct frame *f)
{
	struct frame_credit c;

	if (frame_decode(f, &c, sizeof(c)) || !c.bytes ||
	    c.bytes > FRAME_WINDOW_MAX - ch->window[stream])
		return false;
	ch->window[stream] += c.bytes;
	return true;
}

/* ---- towards the client ------------------------------------------------------ */

static void client_send(struct ctl_client *c, uint32_t channel, uint16_t type, const void *msg)
{
	if (c->gone)
		return;
	if (frame_encode(&c->stream.out, channel, type, 0, msg))
		client_drop(c, "does not read");
	else
		stream_flush(&c->stream);
}

static void client_refuse(struct ctl_client *c, uint32_t channel, int code, const char *message)
{
	struct frame_error err = { .code = (uint32_t)code, .message = frame_str_of(message) };

	client_send(c, channel, FRAME_ERROR, &err);
}

static void client_free(struct ctl_client *c)
{
	if (c->refs)
		return;
	stream_fini(&c->stream);
	free(c);
}

static void client_drop(struct ctl_client *c, const char *why)
{
	struct relay *r = c->relay;
	struct agent_link *links[] = { &r->ctl, &r->bulk };
	bool owner = c->owner, held = c->holds;

	if (c->gone)
		return;
	if (why)
		log_warn("event=client-dropped reason=\"%s\"", why);
	c->gone = true;
	list_remove(&c->link);
	r->n_clients--;
	for (size_t l = 0; l < ARRAY_SIZE(links); l++)
		for (size_t i = 0; i < FRAME_CHANNELS_MAX; i++)
			if (links[l]->channels[i] && links[l]->channels[i]->client == c) {
				channel_close(links[l]->channels[i]);
				links[l]->channels[i]->client = NULL;
			}
	list_for_each (pos, tmp, &r->calls) {
		struct relay_call *call = list_entry(pos, struct relay_call, link);

		if (call->client == c)
			call->client = NULL;
	}
	client_free(c);
	if (owner)
		r->ops->on_owner_gone(r);
	if (held)
		r->ops->on_let_go(r);
}

/* ---- from the agent ---------------------------------------------------------- */

/* A stream that the guest may send on. */
static bool channel_takes(const struct channel *ch, uint16_t stream)
{
	return stream == STREAM_OUT || stream == STREAM_ERR ||
	       (stream == STREAM_RESULT && ch->wants_results);
}

/*
 * What costs no window may come once, or a stated number of times, so that the frames which wait for a slow client are
 * bounded too.  Return: false if the guest broke the protocol.
 */
static bool agent_channel_frame(struct agent_link *l, const struct frame *f)
{
	struct channel *ch = channel_find_agent(l, f->channel);
	struct ctl_client *c;

	if (!ch)
		return false;
	switch (f->type) {
	case FRAME_DATA:
		if (!channel_takes(ch, f->flags) || ch->eof[f->flags] || !f->len ||
		    !channel_spend(ch, f->flags, f->len))
			return false;
		break;
	case FRAME_EOF:
		if (!channel_takes(ch, f->flags) || ch->eof[f->flags])
			return false;
		ch->eof[f->flags] = true;
		break;
	case FRAME_CREDIT:
		if (f->flags != STREAM_IN || !channel_credit(ch, STREAM_IN, f))
			return false;
		break;
	case FRAME_EXEC_STARTED:
		if (ch->started)
			return false;
		ch->started = true;
		break;
	case FRAME_NET_STATE: /* the supervisor's own */
		return false;
	case FRAME_REPL_RESULT:
		if (!ch->wants_results || ++ch->results > FRAME_RESULTS_MAX)
			return false;
		break;
	default:
		if (!frame_type_ends_channel(f->type))
			return false;
	}
	c = ch->closing && !frame_type_ends_channel(f->type) ? NULL : ch->client;
	if (c && frame_encode_raw(&c->stream.out, ch->client_number, f->type, f->flags, f->body,
				  f->len)) {
		client_drop(c, "does not read");
		c = NULL;
	}
	if (frame_type_ends_channel(f->type))
		channel_destroy(ch);
	return true;
}

/* Return: false if the guest broke the protocol. */
static bool agent_link_frame(struct agent_link *l, const struct frame *f)
{
	struct relay *r = l->relay;
	struct frame_configured configured;
	struct frame_hello_ack ack;
	struct frame_error err;

	switch (f->type) {
	case FRAME_HELLO_ACK:
		if (frame_decode(f, &ack, sizeof(ack)) || ack.generation != l->generation)
			return true; /* an answer to somebody before us */
		if (ack.version != FRAME_VERSION || ack.link != l->id)
			return false;
		l->synced = true;
		return true;
	case FRAME_CONFIGURED:
		if (frame_decode(f, &configured, sizeof(configured)) || l->id != LINK_CTL ||
		    r->ready)
			return false;
		r->ops->on_configured(r, &configured);
		return true;
	case FRAME_ERROR:
		if (frame_decode(f, &err, sizeof(err)))
			return false;
		r->fault = true;
		r->ops->on_refused(r, &err);
		return true;
	case FRAME_PONG:
		return true;
	default:
		return false;
	}
}

/* Discards what is not a hello. Return: false when the guest sent too much of it. */
static bool agent_sync(struct agent_link *l)
{
	struct buf *in = &l->stream.in;
	size_t n = frame_sync(buf_data(in), buf_len(in), FRAME_HELLO_ACK);

	buf_consume(in, n);
	l->discarded += n;
	return l->discarded <= RELAY_DISCARD_MAX;
}

static int agent_data(struct stream *s)
{
	struct agent_link *l = container_of(s, struct agent_link, stream);
	struct relay *r = l->relay;
	struct frame f;
	int n = 0;

	while (!r->fault) {
		if (!l->synced && !agent_sync(l)) {
			relay_fault(r, "the guest sent garbage instead of the agent's hello");
			break;
		}
		n = frame_parse(buf_data(&s->in), buf_len(&s->in), &f);
		if (n == 0)
			break;
		if (n < 0 && !l->synced) {
			buf_consume(&s->in, 1);
			l->discarded++;
			continue;
		}
		if (n < 0 || !(f.channel ? l->synced && agent_channel_frame(l, &f)
					 : agent_link_frame(l, &f))) {
			log_warn("event=protocol-violation link=%d type=%s channel=%u", l->id,
				 n < 0 ? "?" : frame_type_name(f.type), n < 0 ? 0 : f.channel);
			relay_fault(r, "the guest broke the agent protocol");
			break;
		}
		if (stream_open(s))
			buf_consume(&s->in, (size_t)n);
		if (!l->synced)
			l->discarded += (size_t)n;
	}
	list_for_each (pos, tmp, &r->clients)
		stream_flush(&list_entry(pos, struct ctl_client, link)->stream);
	return r->fault || !stream_open(s) ? -EPIPE : 0;
}

static void agent_closed(struct stream *s, int error)
{
	struct agent_link *l = container_of(s, struct agent_link, stream);

	(void)error;
	/* The end of the VM process says more; it is looked at first. */
	stream_fini(&l->stream);
}

/* ---- from the client --------------------------------------------------------- */

static struct agent_link *link_for_request(struct relay *r, uint16_t type)
{
	switch (type) {
	case FRAME_EXEC:
	case FRAME_REPL_RUN:
	case FRAME_METRICS:
	case FRAME_PING:
		return &r->ctl;
	case FRAME_FILE_READ:
	case FRAME_FILE_WRITE:
	case FRAME_FILE_LIST:
	case FRAME_FILE_STAT:
	case FRAME_FILE_MKDIR:
	case FRAME_FILE_REMOVE:
	case FRAME_FILE_RENAME:
		return &r->bulk;
	default:
		return NULL;
	}
}

static void client_hello(struct ctl_client *c, const struct frame *f)
{
	struct frame_hello_ack ack = { .version = FRAME_VERSION,
				       .link = LINK_CLIENT,
				       .build = frame_str_of(MSB_VERSION) };
	struct frame_hello h;

	if (frame_decode(f, &h, sizeof(h)) || memcmp(h.magic, FRAME_MAGIC, FRAME_MAGIC_SIZE) ||
	    h.link != LINK_CLIENT) {
		client_drop(c, "sent no valid hello");
		return;
	}
	if (h.version_min > FRAME_VERSION || h.version < FRAME_VERSION) {
		client_refuse(c, 0, EPROTONOSUPPORT,
			      "this sandbox was started by another version of "
			      "microsandbox: stop and start it");
		client_drop(c, "speaks another protocol version");
		return;
	}
	memcpy(ack.magic, FRAME_MAGIC, FRAME_MAGIC_SIZE);
	ack.generation = h.generation;
	c->hello = true;
	client_send(c, 0, FRAME_HELLO_ACK, &ack);
	client_send(c, 0, FRAME_SANDBOX_STATE, &c->relay->state);
}

static void client_hold(struct ctl_client *c, bool hold)
{
	bool held = c->holds;

	c->holds = hold;
	if (hold || !held)
		return;
	c->refs++;
	c->relay->ops->on_let_go(c->relay);
	c->refs--;
	client_send(c, 0, FRAME_SANDBOX_STATE, &c->relay->state);
}

static void client_link_frame(struct ctl_client *c, const struct frame *f)
{
	struct frame_sandbox_stop stop;
	struct frame_sandbox_hold hold;

	switch (f->type) {
	case FRAME_HELLO:
		client_hello(c, f);
		return;
	case FRAME_PING:
		if (f->len <= FRAME_PING_MAX &&
		    !frame_encode_raw(&c->stream.out, 0, FRAME_PONG, 0, f->body, f->len)) {
			stream_flush(&c->stream);
			return;
		}
		break;
	case FRAME_SANDBOX_STOP:
		if (!frame_decode(f, &stop, sizeof(stop))) {
			c->relay->ops->on_stop(c->relay, stop.grace_ms);
			return;
		}
		break;
	case FRAME_SANDBOX_HOLD:
		if (!frame_decode(f, &hold, sizeof(hold))) {
			client_hold(c, hold.hold);
			return;
		}
		break;
	}
	client_drop(c, "sent an invalid message");
}

static void client_request(struct ctl_client *c, struct agent_link *l, const struct frame *f)
{
	struct frame_repl_run run;
	struct channel *ch;

	if (channel_find_client(c->relay, c, f->channel)) {
		client_drop(c, "opened a channel twice");
		return;
	}
	if (!stream_open(&l->stream)) {
		client_refuse(c, f->channel, EPIPE, "the sandbox is ending");
		return;
	}
	ch = channel_create(l, c, f->channel);
	if (!ch) {
		client_refuse(c, f->channel, EBUSY,
			      "too many requests at once in this sandbox (limit 256)");
		return;
	}
	/* Of a malformed request there are none; the agent says what is wrong with it. */
	ch->wants_results = f->type == FRAME_REPL_RUN && !frame_decode(f, &run, sizeof(run)) &&
			    run.flags & REPL_RESULTS;
	if (frame_encode_raw(&l->stream.out, ch->number, f->type, f->flags, f->body, f->len)) {
		channel_destroy(ch);
		client_refuse(c, f->channel, ENOBUFS, "the sandbox's agent does not keep up");
	}
}

/* A request to the supervisor. */
static void client_call(struct ctl_client *c, const struct frame *f)
{
	struct relay *r = c->relay;
	struct relay_call *call;

	if (!r->ops->on_call) {
		client_refuse(c, f->channel, ENOTSUP, "this sandbox takes no such request");
		return;
	}
	call = r->n_calls < RELAY_CALLS_MAX ? calloc(1, sizeof(*call)) : NULL;
	if (!call) {
		client_refuse(c, f->channel, EBUSY, "too many requests to the supervisor at once");
		return;
	}
	call->relay = r;
	call->client = c;
	call->number = f->channel;
	list_append(&r->calls, &call->link);
	r->n_calls++;
	r->ops->on_call(r, call, f);
}

static void call_free(struct relay_call *call)
{
	list_remove(&call->link);
	call->relay->n_calls--;
	free(call);
}

void relay_answer(struct relay_call *call, uint16_t type, const void *msg)
{
	if (call->client)
		client_send(call->client, call->number, type, msg);
	call_free(call);
}

void relay_refuse(struct relay_call *call, int code, const char *message)
{
	if (call->client)
		client_refuse(call->client, call->number, code, message);
	call_free(call);
}

/* A frame on an open channel. Return: false if the client broke the protocol. */
static bool client_channel_frame(struct channel *ch, const struct frame *f)
{
	if (ch->closing)
		return true; /* sent before it saw the last message */
	switch (f->type) {
	case FRAME_DATA:
		if (f->flags != STREAM_IN || !channel_spend(ch, STREAM_IN, f->len))
			return false;
		break;
	case FRAME_EOF:
		if (f->flags != STREAM_IN)
			return false;
		break;
	case FRAME_CREDIT:
		if (!channel_takes(ch, f->flags) || !channel_credit(ch, f->flags, f))
			return false;
		break;
	case FRAME_CLOSE:
		channel_close(ch);
		return true;
	case FRAME_EXEC_RESIZE:
	case FRAME_EXEC_SIGNAL:
		break;
	default:
		return false;
	}
	/* Bounded by the windows; beyond that the guest does not read. */
	return !frame_encode_raw(&ch->link->stream.out, ch->number, f->type, f->flags, f->body,
				 f->len);
}

static void client_frame(struct ctl_client *c, const struct frame *f)
{
	struct agent_link *l = link_for_request(c->relay, f->type);
	struct channel *ch;

	if (!f->channel) {
		client_link_frame(c, f);
	} else if (!c->hello) {
		client_drop(c, "sent a request before its hello");
	} else if (l) {
		client_request(c, l, f);
	} else if (f->type == FRAME_NET_GET || f->type == FRAME_NET_SET) {
		client_call(c, f);
	} else {
		ch = channel_find_client(c->relay, c, f->channel);
		/* A channel that just ended: its last message is on the way. */
		if (ch && !client_channel_frame(ch, f))
			client_drop(c, "broke the protocol of a channel");
	}
}

static int client_data(struct stream *s)
{
	struct ctl_client *c = container_of(s, struct ctl_client, stream);
	struct relay *r = c->relay;
	struct frame f;
	bool gone;

	c->refs++;
	while (!c->gone) {
		int n = frame_parse(buf_data(&s->in), buf_len(&s->in), &f);

		if (n < 0) {
			client_drop(c, "sent an invalid frame");
			break;
		}
		if (n == 0)
			break;
		/* Requests wait until the agent takes them; hello and stop do not. */
		if (f.channel && !r->ready)
			break;
		client_frame(c, &f);
		if (!c->gone)
			buf_consume(&s->in, (size_t)n);
	}
	c->refs--;
	gone = c->gone;
	if (gone)
		client_free(c);
	stream_flush(&r->ctl.stream);
	stream_flush(&r->bulk.stream);
	return gone ? -EPIPE : 0;
}

static void client_closed(struct stream *s, int error)
{
	struct ctl_client *c = container_of(s, struct ctl_client, stream);

	(void)error;
	client_drop(c, NULL);
}

int relay_add_client(struct relay *r, int fd, bool owner, struct err *e)
{
	struct ctl_client *c;
	int rc;

	if (r->n_clients >= RELAY_CLIENTS_MAX) {
		close(fd);
		return err_set(e, EBUSY, "too many clients at once (limit %u)", RELAY_CLIENTS_MAX);
	}
	c = calloc(1, sizeof(*c));
	if (!c) {
		close(fd);
		return err_errno(e, ENOMEM, "client");
	}
	c->relay = r;
	c->owner = c->holds = owner;
	c->stream.on_data = client_data;
	c->stream.on_close = client_closed;
	rc = stream_init(&c->stream, r->loop, fd, RELAY_IN_MAX, RELAY_CLIENT_OUT, e);
	if (rc) {
		stream_fini(&c->stream);
		free(c);
		return rc;
	}
	list_append(&r->clients, &c->link);
	r->n_clients++;
	return 0;
}

/* ---- life -------------------------------------------------------------------- */

static int link_hello(struct agent_link *l, struct err *e)
{
	struct frame_hello h = { .version = FRAME_VERSION,
				 .version_min = FRAME_VERSION,
				 .link = (uint8_t)l->id };
	struct timespec now;

	memcpy(h.magic, FRAME_MAGIC, FRAME_MAGIC_SIZE);
	if (getrandom(h.entropy, sizeof(h.entropy), 0) != sizeof(h.entropy) ||
	    getrandom(&l->generation, sizeof(l->generation), 0) != sizeof(l->generation))
		return err_errno(e, errno, "getrandom");
	h.generation = l->generation;
	clock_gettime(CLOCK_REALTIME, &now);
	h.realtime_ns = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
	if (frame_encode(&l->stream.out, 0, FRAME_HELLO, 0, &h))
		return err_errno(e, ENOMEM, "agent hello");
	return 0;
}

static int link_init(struct relay *r, struct agent_link *l, enum frame_link id, int fd,
		     struct err *e)
{
	int rc;

	l->relay = r;
	l->id = id;
	l->stream.on_data = agent_data;
	l->stream.on_close = agent_closed;
	rc = stream_init(&l->stream, r->loop, fd, RELAY_IN_MAX, RELAY_AGENT_OUT, e);
	return rc ? rc : link_hello(l, e);
}

int relay_init(struct relay *r, struct loop *l, const struct relay_ops *ops, int ctl_fd,
	       int bulk_fd, const struct frame_configure *configure, struct err *e)
{
	int rc;

	r->loop = l;
	r->ops = ops;
	r->ready = r->fault = false;
	list_init(&r->calls);
	r->n_calls = 0;
	rc = link_init(r, &r->ctl, LINK_CTL, ctl_fd, e);
	if (!rc)
		rc = link_init(r, &r->bulk, LINK_BULK, bulk_fd, e);
	if (!rc && frame_encode(&r->ctl.stream.out, 0, FRAME_CONFIGURE, 0, configure))
		rc = err_set(e, EINVAL, "the sandbox's name or network configuration is too long");
	if (rc)
		return rc;
	stream_flush(&r->ctl.stream);
	stream_flush(&r->bulk.stream);
	return 0;
}

void relay_fini(struct relay *r)
{
	struct agent_link *links[] = { &r->ctl, &r->bulk };

	list_for_each (pos, tmp, &r->clients) {
		struct ctl_client *c = list_entry(pos, struct ctl_client, link);

		list_remove(&c->link);
		client_free(c);
	}
	list_for_each (pos, tmp, &r->calls)
		call_free(list_entry(pos, struct relay_call, link));
	for (size_t l = 0; l < ARRAY_SIZE(links); l++) {
		for (size_t i = 0; i < FRAME_CHANNELS_MAX; i++)
			free(links[l]->channels[i]);
		stream_fini(&links[l]->stream);
	}
}

void relay_set_state(struct relay *r, const struct frame_sandbox_state *s)
{
	r->state = *s;
	list_for_each (pos, tmp, &r->clients) {
		struct ctl_client *c = list_entry(pos, struct ctl_client, link);

		if (c->hello)
			client_send(c, 0, FRAME_SANDBOX_STATE, &r->state);
	}
}

void relay_set_ready(struct relay *r)
{
	r->ready = true;
	list_for_each (pos, tmp, &r->clients)
		client_data(&list_entry(pos, struct ctl_client, link)->stream);
}

void relay_shutdown(struct relay *r, uint32_t grace_ms)
{
	struct frame_shutdown s = { .grace_ms = grace_ms };

	frame_encode(&r->ctl.stream.out, 0, FRAME_SHUTDOWN, 0, &s);
	stream_flush(&r->ctl.stream);
}

bool relay_held(const struct relay *r)
{
	list_for_each (pos, tmp, &r->clients)
		if (list_entry(pos, struct ctl_client, link)->holds)
			return true;
	return false;
}

bool relay_drained(const struct relay *r)
{
	list_for_each (pos, tmp, &r->clients)
		if (buf_len(&list_entry(pos, struct ctl_client, link)->stream.out))
			return false;
	return true;
}
