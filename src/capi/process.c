/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DOC: Theory of operation
 *
 * Purpose: a program that is talked to: its input, its output, its terminal and its signals are
 * messages of a WebSocket (GET /api/v1/sandboxes/NAME/exec, docs/server.md).
 *
 * Spec: RFC 6455, from a client's side, without extensions.
 *
 * Threads: one thread of the caller's reads, in msb_process_read() or msb_process_wait(), while
 * others write.  What is written goes into a queue, which is bounded, so that a writer waits while
 * the program takes nothing; a thread of our own, the sender, takes it from there.  It is there
 * because the server ends a connection that gives no sign of life (it pings every 30 s), and a
 * caller may neither read nor write for hours: the sender then gives one.  And so neither a
 * resize nor a signal waits for a writer, nor the answer to a ping: they find their place in the
 * queue behind at most a few frames.
 *
 * libcurl's handle and the queue are under `lock`, which nobody holds while waiting.  Who waits
 * sleeps in poll(), the reader on the socket, the sender on the socket and `wake_fd`, writers on
 * `room_fd`, so that a struct msb_cancel can end it.
 *
 * States: running -> ended (exit came; the sender says goodbye) or failed (all else: an error of
 * the server's, a broken connection, a call that was given up, msb_process_close()).  The first
 * failure stays, and every later read says it again.  What is written after either is dropped,
 * since whoever reads is told.
 *
 * Trust boundary: what the server sends.  Messages are bounded, texts must be JSON objects.
 *
 * Limits: a message; the queue, and what the sender has taken out of it.
 */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/random.h>

#include "capi/internal.h"
#include "codec/websocket.h"

#define PROCESS_MESSAGE_MAX ((size_t)16 << 20)
/* Input goes in such pieces, so that a resize or a signal need not wait for all of it. */
#define PROCESS_PIECE ((size_t)64 << 10)
/* Bytes of frames: of input, and of all. */
#define PROCESS_QUEUE_MAX ((size_t)128 << 10)
#define PROCESS_CONTROL_MAX (PROCESS_QUEUE_MAX + ((size_t)16 << 10))
#define PROCESS_TEXT_MAX ((size_t)4096) /* what the server takes after the first */
#define PROCESS_FRAME_MAX (PROCESS_PIECE + 1 + WS_HEADER_MAX + WS_MASK_BYTES)
#define PROCESS_HEARTBEAT 15.0 /* seconds */

enum { PROCESS_STDIN = 0 }; /* the other streams are enum msb_stream */

struct msb_process {
	char *url; /* told to people */
	int wake_fd; /* readable: the sender has something to do */
	int room_fd; /* readable: input has room in the queue, or need not be sent */
	pthread_t sender;
	bool has_sender;

	pthread_mutex_t lock; /* of the link's send and recv, and of what follows */
	struct capi_link *link; /* NULL: it is closed */
	unsigned users; /* of the link: the sender, and who reads */
	struct buf queue; /* frames that the sender has not begun with */
	bool has_room; /* room_fd is readable */
	bool mute; /* what is written is dropped */
	bool ended; /* exit came */
	bool freed; /* nobody waits for the goodbye */
	struct msb_error *failure; /* NULL: it did not fail */

	struct buf sending; /* the sender's alone */

	/* Of who reads. */
	struct ws_reader reader;
	uint8_t in[16384];
	size_t in_at, in_len;
	enum msb_stream stream; /* of the message of output that comes */
	bool stream_known;
	size_t piece_at, piece_left; /* of reader.piece: output that was not taken yet */
	struct buf text; /* of the message of text that comes */
	int64_t pid; /* as it is when msb_process_start() returns */
	bool started, begun; /* the server has said so; msb_process_start() has returned */
	struct msb_execution *exit;
};

/* ---- the queue ---- */

static void process_poke(int fd)
{
	uint64_t one = 1;

	/* It cannot be full: it is read before it is written again, or at 2^64 - 2. */
	(void)!write(fd, &one, sizeof(one));
}

static void process_drain(int fd)
{
	uint64_t n;

	(void)!read(fd, &n, sizeof(n)); /* EAGAIN: nobody has written */
}

/* Under the lock, after all that may have changed it. */
static void process_set_room(struct msb_process *p)
{
	bool room = p->mute || buf_len(&p->queue) + PROCESS_FRAME_MAX <= PROCESS_QUEUE_MAX;

	if (room && !p->has_room)
		process_poke(p->room_fd);
	else if (!room && p->has_room)
		process_drain(p->room_fd);
	p->has_room = room;
}

/* Under the lock; drops it if nobody would get it. Return: 0, -EAGAIN (no room), -EIO or -ENOMEM. */
static int process_queue(struct msb_process *p, uint8_t opcode, const void *head, size_t head_len,
			 const void *data, size_t len, size_t max)
{
	uint8_t mask[WS_MASK_BYTES];
	int rc;

	if (p->mute)
		return 0;
	if (buf_len(&p->queue) + head_len + len > max - WS_HEADER_MAX - WS_MASK_BYTES)
		return -EAGAIN;
	if (getrandom(mask, sizeof(mask), 0) != sizeof(mask))
		return -EIO;
	rc = ws_client_frame(&p->queue, opcode, mask, head, head_len, data, len);
	process_set_room(p);
	process_poke(p->wake_fd);
	return rc ? -ENOMEM : 0;
}

/* @rc: 0, -EIO or -ENOMEM of it. */
static int process_queued(int rc, struct msb_error **err)
{
	if (rc == -EIO)
		return capi_fail(err, MSB_ERR_ARGUMENT, "no random bytes for a WebSocket");
	return rc ? capi_no_memory(err) : 0;
}

/* ---- the link ---- */

/*
 * The link can be closed when nobody sleeps on its descriptor.  It is then, not when the process is
 * freed: a server that only writes, and whose output nobody takes, learns of it in no other way.
 * Under the lock.
 */
static void process_close_unused(struct msb_process *p)
{
	if (p->users || !(p->failure || p->ended))
		return;
	capi_link_free(p->link);
	p->link = NULL;
}

/* Return: the link, for process_leave(); NULL: it is closed, or about to be. */
static struct capi_link *process_enter(struct msb_process *p)
{
	struct capi_link *l;

	pthread_mutex_lock(&p->lock);
	l = p->failure ? NULL : p->link;
	p->users += l != NULL;
	pthread_mutex_unlock(&p->lock);
	return l;
}

static void process_leave(struct msb_process *p)
{
	pthread_mutex_lock(&p->lock);
	p->users--;
	process_close_unused(p);
	pthread_mutex_unlock(&p->lock);
}

/* ---- failing ---- */

/* Takes over @why. The first failure stays; one that comes after the end is none. */
static void process_fail(struct msb_process *p, struct msb_error *why)
{
	pthread_mutex_lock(&p->lock);
	if (!p->failure && !p->ended) {
		p->failure = why;
		why = NULL;
		p->mute = true;
		process_set_room(p);
		process_poke(p->wake_fd);
		if (p->link)
			capi_link_shut(p->link); /* wakes who sleeps on it */
		process_close_unused(p);
	}
	pthread_mutex_unlock(&p->lock);
	msb_error_free(why);
}

/* Return: 0, or the kind of its failure. */
static int process_failed(struct msb_process *p, struct msb_error **err)
{
	int rc = 0;

	pthread_mutex_lock(&p->lock);
	if (p->failure)
		rc = capi_fail_again(err, p->failure);
	pthread_mutex_unlock(&p->lock);
	return rc;
}

static int process_cancelled(struct msb_error **err)
{
	return capi_fail(err, MSB_ERR_CANCELLED, "exec was cancelled");
}

static int process_closed(struct msb_error **err)
{
	return capi_fail(err, MSB_ERR_UNREACHABLE, "the process was closed");
}

/* ---- the sender ---- */

/* Return: false: there is nothing more to do. @blocked: the socket takes nothing now. */
static bool process_flush(struct msb_process *p, bool *blocked)
{
	struct buf t;
	ssize_t n = 0;
	bool more;

	*blocked = false;
	pthread_mutex_lock(&p->lock);
	while (!p->failure && n >= 0) {
		if (!buf_len(&p->sending)) {
			t = p->sending;
			p->sending = p->queue;
			p->queue = t;
			/* The first message may have been long. */
			if (p->queue.cap > 2 * PROCESS_QUEUE_MAX)
				buf_reset(&p->queue);
			process_set_room(p);
		}
		if (!buf_len(&p->sending))
			break;
		n = capi_link_send(p->link, buf_data(&p->sending), buf_len(&p->sending));
		if (n > 0)
			buf_consume(&p->sending, (size_t)n);
	}
	*blocked = n == -EAGAIN;
	if (n == -EIO) { /* whoever reads is told */
		p->mute = true;
		process_set_room(p);
	}
	more = !p->failure && n != -EIO && !p->freed && (*blocked || !p->ended);
	pthread_mutex_unlock(&p->lock);
	return more;
}

/* RFC 6455 allows a pong that nobody asked for. */
static void process_beat(struct msb_process *p)
{
	pthread_mutex_lock(&p->lock);
	process_queue(p, WS_PONG, NULL, 0, NULL, 0, PROCESS_CONTROL_MAX);
	pthread_mutex_unlock(&p->lock);
}

static void *process_send(void *argument)
{
	struct msb_process *p = argument;
	double beat = capi_now() + PROCESS_HEARTBEAT, left;
	int fd = capi_link_fd(p->link);
	bool blocked;

	while (process_flush(p, &blocked)) {
		struct pollfd fds[2] = {
			{ .fd = p->wake_fd, .events = POLLIN },
			{ .fd = blocked ? fd : -1, .events = POLLOUT },
		};

		left = beat - capi_now();
		if (left > 0) {
			poll(fds, 2, (int)(left * 1000) + 1);
			process_drain(p->wake_fd);
			continue;
		}
		beat = capi_now() + PROCESS_HEARTBEAT;
		if (!blocked)
			process_beat(p);
	}
	process_leave(p);
	return NULL;
}

/* No signal of the program's is handled in a thread that it does not know. */
static int process_start_sender(struct msb_process *p, struct msb_error **err)
{
	sigset_t all, had;
	int rc;

	p->users++; /* nobody else has the process yet */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &had);
	rc = pthread_create(&p->sender, NULL, process_send, p);
	pthread_sigmask(SIG_SETMASK, &had, NULL);
	p->has_sender = !rc;
	if (rc)
		p->users--;
	return rc ? capi_no_memory(err) : 0;
}

/* ---- what the server says ---- */

static int process_bad(const char *what, struct msb_error **why)
{
	return capi_fail(why, MSB_ERR_INVALID_RESPONSE, "the server's WebSocket is none: %s", what);
}

static int process_exited(struct msb_process *p, json_t *o, struct msb_error **why)
{
	static const uint8_t normal[2] = { WS_CLOSE_NORMAL >> 8, WS_CLOSE_NORMAL & 255 };
	int rc = capi_execution_new(&p->exit, json_incref(o), CAPI_EXIT, why);

	if (rc)
		return rc;
	pthread_mutex_lock(&p->lock);
	if (!p->failure) {
		/* Input that waits is of no use; the sender may be in the middle of another frame. */
		buf_reset(&p->queue);
		process_queue(p, WS_CLOSE, normal, sizeof(normal), NULL, 0, PROCESS_CONTROL_MAX);
		p->ended = p->mute = true;
		process_set_room(p);
		process_close_unused(p); /* the sender may have gone, when it could not send */
	}
	pthread_mutex_unlock(&p->lock);
	return 0;
}

static int process_said(struct msb_process *p, json_t *o, struct msb_error **why)
{
	const char *type = json_string_value(json_object_get(o, "type"));

	if (!json_is_object(o))
		return process_bad("a text that is no JSON object", why);
	if (type && !strcmp(type, "started")) {
		if (!json_is_integer(json_object_get(o, "pid")))
			return capi_bad_member("pid", why);
		/* Later it would change while others look. */
		if (!p->begun)
			p->pid = json_integer_value(json_object_get(o, "pid"));
		p->started = true;
	} else if (type && !strcmp(type, "error")) {
		return capi_said_error(o, why);
	} else if (type && !strcmp(type, "exit")) {
		return process_exited(p, o, why);
	}
	return 0; /* what a newer server adds is passed over */
}

static int process_text_piece(struct msb_process *p, struct msb_error **why)
{
	json_t *o;
	int rc;

	if (buf_append(&p->text, p->reader.piece, p->reader.piece_len))
		return capi_no_memory(why);
	if (!p->reader.last)
		return 0;
	o = buf_len(&p->text) ? json_loadb((const char *)buf_data(&p->text), buf_len(&p->text),
					   JSON_ALLOW_NUL, NULL)
			      : NULL;
	rc = process_said(p, o, why);
	json_decref(o);
	buf_reset(&p->text);
	return rc;
}

static int process_output_piece(struct msb_process *p, struct msb_error **why)
{
	const struct ws_reader *r = &p->reader;

	p->piece_at = 0;
	if (r->first)
		p->stream_known = false;
	if (!p->stream_known && r->piece_len) {
		if (r->piece[0] != MSB_STDOUT && r->piece[0] != MSB_STDERR)
			return process_bad("output of a stream that does not exist", why);
		p->stream = r->piece[0] == MSB_STDOUT ? MSB_STDOUT : MSB_STDERR;
		p->stream_known = true;
		p->piece_at = 1;
	}
	if (!p->stream_known && r->last)
		return process_bad("output of no stream", why);
	p->piece_left = r->piece_len - p->piece_at;
	return 0;
}

static int process_control_frame(struct msb_process *p, struct msb_error **why)
{
	const struct ws_reader *r = &p->reader;
	bool reason = r->piece_len > 2;

	if (r->opcode == WS_PING) {
		/* Without room it is left out, which a server does not mind that does not listen. */
		pthread_mutex_lock(&p->lock);
		process_queue(p, WS_PONG, NULL, 0, r->piece, r->piece_len, PROCESS_CONTROL_MAX);
		pthread_mutex_unlock(&p->lock);
	}
	if (r->opcode != WS_CLOSE)
		return 0;
	if (!r->piece_len)
		return capi_fail(why, MSB_ERR_UNREACHABLE,
				 "the server closed the connection without a reason");
	return capi_fail(why, MSB_ERR_UNREACHABLE,
			 "the server closed the connection with code %u%s%.*s", ws_close_code(r),
			 reason ? ": " : "", reason ? (int)r->piece_len - 2 : 0,
			 (const char *)r->piece + 2);
}

/* Waits for bytes. Return: 0, or a kind with *@why. */
static int process_wait_bytes(struct msb_process *p, struct capi_link *link,
			      const struct msb_cancel *cancel, struct msb_error **why)
{
	double until = capi_now() + CAPI_SILENCE_LIMIT;
	ssize_t n;
	int rc;

	for (;;) {
		if (capi_cancelled(cancel))
			return process_cancelled(why);
		pthread_mutex_lock(&p->lock);
		n = capi_link_recv(link, p->in, sizeof(p->in));
		rc = n == -EIO ? capi_link_broke(link, why) : 0;
		pthread_mutex_unlock(&p->lock);
		if (rc)
			return rc;
		if (!n)
			return capi_fail(why, MSB_ERR_UNREACHABLE,
					 "the connection to %s ended before the program did",
					 p->url);
		if (n > 0)
			break;
		rc = capi_link_wait(link, POLLIN, until, cancel);
		if (rc == MSB_ERR_CANCELLED)
			return process_cancelled(why);
		if (rc)
			return capi_fail(why, MSB_ERR_TIMEOUT,
					 "the server at %s said nothing for %g seconds", p->url,
					 CAPI_SILENCE_LIMIT);
	}
	p->in_at = 0;
	p->in_len = (size_t)n;
	return 0;
}

static int process_receive(struct msb_process *p, const struct msb_cancel *cancel,
			   struct msb_error **why)
{
	struct capi_link *link = process_enter(p);
	int rc;

	if (!link)
		return process_closed(why);
	rc = process_wait_bytes(p, link, cancel, why);
	process_leave(p);
	return rc;
}

/* Takes one event of the connection. Return: 0, or a kind with *@why. */
static int process_step(struct msb_process *p, const struct msb_cancel *cancel,
			struct msb_error **why)
{
	size_t used;
	int rc = 0;

	if (p->in_at == p->in_len)
		rc = process_receive(p, cancel, why);
	if (rc)
		return rc;
	rc = ws_reader_feed(&p->reader, p->in + p->in_at, p->in_len - p->in_at, &used);
	p->in_at += used;
	if (rc < 0)
		return process_bad(p->reader.reason, why);
	if (rc == WS_EV_CONTROL)
		return process_control_frame(p, why);
	if (rc != WS_EV_PIECE)
		return 0;
	return p->reader.opcode == WS_TEXT ? process_text_piece(p, why)
					   : process_output_piece(p, why);
}

/* Until there is output, or the end, or at the start the word that it runs. */
static int process_more(struct msb_process *p, const struct msb_cancel *cancel,
			struct msb_error **err)
{
	struct msb_error *why = NULL;

	/* Also if there is something to read already. */
	if (!p->exit && capi_cancelled(cancel)) {
		process_cancelled(&why);
		process_fail(p, take_ptr(&why));
		p->piece_left = 0;
	}
	while (!p->piece_left && !p->exit && (p->begun || !p->started)) {
		int rc = process_failed(p, err);

		if (rc)
			return rc;
		/* If somebody closed it, that is why, and not what is to be seen of it here. */
		if (process_step(p, cancel, &why))
			process_fail(p, take_ptr(&why));
	}
	return 0;
}

/* ---- life ---- */

void msb_process_free(struct msb_process *p)
{
	if (!p)
		return;
	msb_process_close(p);
	pthread_mutex_lock(&p->lock);
	p->freed = true;
	process_poke(p->wake_fd);
	pthread_mutex_unlock(&p->lock);
	if (p->has_sender)
		pthread_join(p->sender, NULL);
	capi_link_free(p->link);
	close_fd(&p->wake_fd);
	close_fd(&p->room_fd);
	pthread_mutex_destroy(&p->lock);
	free(p->url);
	buf_fini(&p->queue);
	buf_fini(&p->sending);
	buf_fini(&p->text);
	msb_error_free(p->failure);
	msb_execution_free(p->exit);
	free(p);
}

void msb_process_close(struct msb_process *p)
{
	struct msb_error *why = NULL;

	if (!p)
		return;
	process_closed(&why);
	process_fail(p, why);
}

/* Takes over @link. NULL: no memory, or no descriptor left. */
static struct msb_process *process_new(struct capi_link *link, size_t max)
{
	struct msb_process *p = calloc(1, sizeof(*p));

	if (!p) {
		capi_link_free(link);
		return NULL;
	}
	pthread_mutex_init(&p->lock, NULL);
	p->link = link;
	p->pid = -1;
	p->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	p->room_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	p->url = strdup(capi_link_url(link));
	if (p->wake_fd < 0 || p->room_fd < 0 || !p->url) {
		msb_process_free(p);
		return NULL;
	}
	ws_reader_init_client(&p->reader, max);
	process_set_room(p);
	return p;
}

static int process_size(uint32_t n, const char *what, struct msb_error **err)
{
	return n <= UINT16_MAX ? 0
			       : capi_fail(err, MSB_ERR_ARGUMENT,
					   "%s must be a number from 1 to 65535, not %u", what,
					   (unsigned)n);
}

/* The first message, as text; malloc()ed. */
static int process_request(char **out, const char *command, double timeout,
			   const struct msb_process_config *c, struct msb_error **err)
{
	const struct msb_exec exec = {
		.args = c->args,
		.envs = c->envs,
		.cwd = c->cwd,
		.user = c->user,
		.input = c->input,
		.input_len = c->input_len,
	};
	json_t *o = json_object();
	int rc = o ? capi_set_text(o, "command", command, err) : capi_no_memory(err);

	rc = rc ? rc : capi_set_program(o, &exec, err);
	rc = rc ? rc : process_size(c->rows, "rows", err);
	rc = rc ? rc : process_size(c->cols, "cols", err);
	if (!rc && !isinf(timeout))
		rc = capi_set_seconds(o, "timeout", timeout, err);
	if (!rc && c->tty)
		rc = capi_set(o, "tty", json_true(), err);
	if (!rc && c->rows)
		rc = capi_set(o, "rows", json_integer(c->rows), err);
	if (!rc && c->cols)
		rc = capi_set(o, "cols", json_integer(c->cols), err);
	if (!rc) {
		*out = json_dumps(o, JSON_COMPACT);
		rc = *out ? 0 : capi_no_memory(err);
	}
	json_decref(o);
	return rc;
}

/* Sends the request and waits until the program runs. */
static int process_begin(struct msb_process *p, const char *request, const struct buf *rest,
			 struct msb_cancel *cancel, struct msb_error **err)
{
	int rc;

	if (buf_len(rest) > sizeof(p->in))
		return process_bad("it talks too early", err);
	p->in_len = buf_len(rest);
	if (p->in_len)
		memcpy(p->in, buf_data(rest), p->in_len);
	/* There is no sender yet that could have the lock. */
	rc = process_queued(process_queue(p, WS_TEXT, NULL, 0, request, strlen(request), SIZE_MAX),
			    err);
	rc = rc ? rc : process_start_sender(p, err);
	rc = rc ? rc : process_more(p, cancel, err);
	p->begun = true;
	return rc;
}

int msb_process_start(struct msb_process **out, struct msb_sandbox *sb, const char *command,
		      double timeout, const struct msb_process_config *config,
		      struct msb_cancel *cancel, struct msb_error **err)
{
	auto_free char *request = NULL, *path = NULL;
	struct msb_process_config c;
	struct capi_link *link = NULL;
	struct msb_process *p = NULL;
	struct buf rest = BUF_INIT;
	size_t max;
	int rc = capi_check_started(sb, err);

	rc = rc ? rc : capi_check_timeout(timeout, err);
	rc = rc ? rc : capi_need(command, "command", err);
	rc = rc ? rc : capi_options(&c, sizeof(c), config, "msb_process_config", err);
	rc = rc ? rc : process_request(&request, command, timeout, &c, err);
	if (rc)
		return rc;
	path = capi_sandbox_path(sb, "exec");
	if (!path)
		return capi_no_memory(err);
	rc = capi_link_open(&link, capi_sandbox_client(sb), path, "exec", cancel, &rest, err);
	if (!rc) {
		max = capi_client_max_answer(capi_sandbox_client(sb));
		p = process_new(link, max < PROCESS_MESSAGE_MAX ? max : PROCESS_MESSAGE_MAX);
		rc = p ? process_begin(p, request, &rest, cancel, err) : capi_no_memory(err);
	}
	buf_fini(&rest);
	if (rc) {
		msb_process_free(p);
		return rc;
	}
	*out = p;
	return 0;
}

int64_t msb_process_pid(const struct msb_process *p)
{
	return p->pid;
}

/* ---- reading ---- */

int msb_process_read(struct msb_process *p, void *buf, size_t room, enum msb_stream *stream,
		     size_t *len, struct msb_cancel *cancel, struct msb_error **err)
{
	int rc = capi_need(buf, "buffer", err);

	rc = rc ? rc : capi_need(len, "len", err);
	if (!rc && !room)
		rc = capi_fail(err, MSB_ERR_ARGUMENT, "a buffer of 0 bytes");
	rc = rc ? rc : process_more(p, cancel, err);
	if (rc)
		return rc;
	*len = p->piece_left < room ? p->piece_left : room;
	if (!*len)
		return 0;
	memcpy(buf, p->reader.piece + p->piece_at, *len);
	p->piece_at += *len;
	p->piece_left -= *len;
	if (stream)
		*stream = p->stream;
	return 0;
}

int msb_process_wait(struct msb_process *p, struct msb_cancel *cancel, struct msb_error **err)
{
	int rc = 0;

	do {
		p->piece_left = 0;
		rc = process_more(p, cancel, err);
	} while (!rc && !p->exit);
	return rc;
}

const struct msb_execution *msb_process_exit(const struct msb_process *p)
{
	return p->exit;
}

/* ---- writing ---- */

/* Waits until there is room for it. */
static int process_put(struct msb_process *p, uint8_t opcode, const void *head, size_t head_len,
		       const void *data, size_t len, size_t max, struct msb_cancel *cancel,
		       struct msb_error **err)
{
	struct pollfd fds[2] = {
		{ .fd = p->room_fd, .events = POLLIN },
		{ .fd = capi_cancel_fd(cancel), .events = POLLIN },
	};
	struct msb_error *why = NULL;
	int rc;

	for (;;) {
		if (capi_cancelled(cancel)) {
			process_cancelled(&why);
			process_fail(p, why);
			return process_cancelled(err);
		}
		pthread_mutex_lock(&p->lock);
		rc = process_queue(p, opcode, head, head_len, data, len, max);
		pthread_mutex_unlock(&p->lock);
		if (rc != -EAGAIN)
			return process_queued(rc, err);
		poll(fds, 2, -1);
	}
}

int msb_process_write(struct msb_process *p, const void *data, size_t len,
		      struct msb_cancel *cancel, struct msb_error **err)
{
	static const uint8_t to = PROCESS_STDIN;
	const uint8_t *at = data;
	int rc = len ? capi_need(data, "data", err) : 0;

	while (len && !rc) {
		size_t n = len < PROCESS_PIECE ? len : PROCESS_PIECE;

		rc = process_put(p, WS_BINARY, &to, 1, at, n, PROCESS_QUEUE_MAX, cancel, err);
		at += n;
		len -= n;
	}
	return rc;
}

/* Takes over @o. */
static int process_control(struct msb_process *p, const char *type, json_t *o,
			   struct msb_cancel *cancel, struct msb_error **err)
{
	auto_free char *text = NULL;

	if (o && !json_object_set_new(o, "type", json_string(type)))
		text = json_dumps(o, JSON_COMPACT);
	json_decref(o);
	if (!text)
		return capi_no_memory(err);
	if (strlen(text) > PROCESS_TEXT_MAX)
		return capi_fail(err, MSB_ERR_ARGUMENT, "the name of a signal is too long");
	return process_put(p, WS_TEXT, NULL, 0, text, strlen(text), PROCESS_CONTROL_MAX, cancel,
			   err);
}

int msb_process_close_stdin(struct msb_process *p, struct msb_cancel *cancel, struct msb_error **err)
{
	return process_control(p, "eof", json_object(), cancel, err);
}

int msb_process_resize(struct msb_process *p, uint32_t rows, uint32_t cols,
		       struct msb_cancel *cancel, struct msb_error **err)
{
	int rc = process_size(rows, "rows", err);

	rc = rc ? rc : process_size(cols, "cols", err);
	if (!rc && (!rows || !cols))
		rc = capi_fail(err, MSB_ERR_ARGUMENT,
			       "rows and cols must be numbers from 1 to 65535, not 0");
	if (rc)
		return rc;
	return process_control(p, "resize",
			       json_pack("{s:i, s:i}", "rows", (int)rows, "cols", (int)cols),
			       cancel, err);
}

int msb_process_signal(struct msb_process *p, const char *name, struct msb_cancel *cancel,
		       struct msb_error **err)
{
	json_t *o = json_object();
	int rc = capi_need(name, "signal", err);

	if (!rc)
		rc = o ? capi_set_text(o, "signal", name, err) : capi_no_memory(err);
	if (!rc)
		return process_control(p, "signal", o, cancel, err);
	json_decref(o);
	return rc;
}

int msb_process_signal_number(struct msb_process *p, int number, struct msb_cancel *cancel,
			      struct msb_error **err)
{
	if (number < 1 || number > 64)
		return capi_fail(err, MSB_ERR_ARGUMENT, "a signal is a number from 1 to 64, not %d",
				 number);
	return process_control(p, "signal", json_pack("{s:i}", "signal", number), cancel, err);
}
