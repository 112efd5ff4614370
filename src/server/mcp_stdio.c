/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DOC: MCP on standard input and output
 *
 * Purpose: `msb mcp`: one client, the program that started us, and one message a line.
 *
 * Standard output carries nothing but the protocol: its descriptor is put aside, and what
 * anything else might print goes to standard error.  The descriptors may be shared with
 * other processes, so they are never made non-blocking: of the input only what is there is
 * read; pipes and terminals are opened anew for writing, which gives a description of our
 * own, and sockets have MSG_DONTWAIT.  Regular files never block and cannot be polled: they
 * are read a piece each turn of the loop.
 *
 * End: the end of the input, or an output that nobody reads.  Then what is worked on is
 * given up, and the server ends with its sandboxes.
 *
 * Limits: a line as long as an HTTP request may be; MCP_STDIO_EXCHANGES at once; with
 * MCP_STDIO_OUT_HIGH unread by the client its next message waits.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "server/conn.h"
#include "server/mcp.h"

#define MCP_STDIO_READ (64u << 10)
#define MCP_STDIO_EXCHANGES 256u
#define MCP_STDIO_OUT_HIGH (1u << 20)
#define MCP_STDIO_OUT_MAX (256u << 20)

struct mcp_stdio {
	struct server *server;
	struct mcp_peer peer;
	struct mcp_lines lines;
	struct buf in, out;
	struct loop_watch in_watch, out_watch;
	struct loop_timer in_timer; /* of an input that cannot be polled, and to go on */
	int out_fd;
	unsigned n_exchanges;
	bool in_file; /* it is a regular one */
	bool eof, ended;
	bool out_own; /* the description is ours alone */
	bool out_socket, out_polled, broken;
	bool reading; /* on the stack */
};

struct mcp_stdio_exchange {
	struct mcp_stdio *io;
	struct mcp_exchange x;
	struct corpse corpse;
};

static void mcp_stdio_take(struct mcp_stdio *io);

/* ---- output ------------------------------------------------------------------------- */

static bool mcp_stdio_full(const struct mcp_stdio *io)
{
	return buf_len(&io->out) > MCP_STDIO_OUT_HIGH;
}

bool mcp_stdio_idle(const struct mcp_stdio *io)
{
	return !io || io->broken || !buf_len(&io->out);
}

static ssize_t mcp_stdio_write_some(struct mcp_stdio *io)
{
	size_t n = buf_len(&io->out);

	if (io->out_socket)
		return send(io->out_fd, buf_data(&io->out), n, MSG_DONTWAIT | MSG_NOSIGNAL);
	/* A pipe that polls writable takes so much without blocking. */
	if (!io->out_own && io->out_polled && n > PIPE_BUF)
		n = PIPE_BUF;
	return write(io->out_fd, buf_data(&io->out), n);
}

static void mcp_stdio_flush(struct mcp_stdio *io)
{
	bool once = !io->out_own && !io->out_socket && io->out_polled;

	while (buf_len(&io->out) && !io->broken) {
		ssize_t n = mcp_stdio_write_some(io);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			break;
		if (n < 0) {
			log_warn("event=output-closed reason=\"%s\"", strerror(errno));
			io->broken = true;
			loop_watch_remove(&io->out_watch);
			server_end(io->server);
			return;
		}
		buf_consume(&io->out, (size_t)n);
		if (once)
			break; /* the next poll says whether more can be taken */
	}
	loop_watch_set(&io->out_watch, buf_len(&io->out) ? EPOLLOUT : 0);
	if (!buf_len(&io->out))
		server_check_end(io->server);
}

static void mcp_stdio_writable(struct loop_watch *w, uint32_t events)
{
	struct mcp_stdio *io = container_of(w, struct mcp_stdio, out_watch);
	bool full = mcp_stdio_full(io);

	if (events & (EPOLLERR | EPOLLHUP) && !buf_len(&io->out)) {
		io->broken = true;
		loop_watch_remove(w);
		server_end(io->server);
		return;
	}
	mcp_stdio_flush(io);
	if (full && !mcp_stdio_full(io))
		mcp_stdio_take(io);
}

/* @text is taken over; NULL: memory was out. */
static void mcp_stdio_write(struct mcp_stdio *io, char *text)
{
	if (io->broken || !text) {
		free(text);
		return;
	}
	/* A message with a piece missing would make one with the next: then rather none. */
	if (buf_append(&io->out, text, strlen(text)) || buf_append(&io->out, "\n", 1)) {
		log_err("event=output-full");
		io->broken = true;
		server_end(io->server);
	}
	free(text);
	/* What waits already goes out when it can. */
	if (!io->broken && (!io->out_polled || !io->out_watch.events))
		mcp_stdio_flush(io);
}

/* @message is taken over. */
static void mcp_stdio_say(struct mcp_stdio *io, json_t *message)
{
	size_t n;

	mcp_stdio_write(io, rpc_text(message, SIZE_MAX, &n));
}

/* ---- exchanges -------------------------------------------------------------------------- */

static void mcp_stdio_free(struct corpse *c)
{
	struct mcp_stdio_exchange *e = container_of(c, struct mcp_stdio_exchange, corpse);

	mcp_exchange_fini(&e->x);
	free(e);
}

static void mcp_stdio_done(struct mcp_exchange *x, int status, char *answer)
{
	struct mcp_stdio_exchange *e = container_of(x, struct mcp_stdio_exchange, x);

	(void)status;
	/* There was no room for another: now there is, when the loop turns. */
	if (e->io->n_exchanges-- > MCP_STDIO_EXCHANGES && !e->io->ended)
		loop_timer_set(e->io->server->loop, &e->io->in_timer, 0);
	if (answer)
		mcp_stdio_write(e->io, answer);
	server_bury(e->io->server, &e->corpse, mcp_stdio_free);
}

static void mcp_stdio_notify(struct mcp_exchange *x, json_t *message)
{
	struct mcp_stdio_exchange *e = container_of(x, struct mcp_stdio_exchange, x);

	if (mcp_stdio_full(e->io))
		json_decref(message); /* who does not read is told less */
	else
		mcp_stdio_say(e->io, message);
}

static const struct mcp_exchange_ops mcp_stdio_ops = {
	.done = mcp_stdio_done,
	.notify = mcp_stdio_notify,
};

static void mcp_stdio_message(struct mcp_stdio *io, const char *text, size_t len)
{
	struct mcp_stdio_exchange *e;

	io->server->count.requests++;
	e = calloc(1, sizeof(*e));
	if (!e) {
		mcp_stdio_say(io, mcp_error(JSONRPC_INTERNAL,
					    "Internal server error: out of memory", NULL));
		return;
	}
	e->io = io;
	io->n_exchanges++;
	mcp_exchange_start(&e->x, &io->peer, &mcp_stdio_ops, text, len);
}

/* ---- input ------------------------------------------------------------------------------- */

/* Room for one more message that may run for long, while those that run can be cancelled. */
static bool mcp_stdio_busy(const struct mcp_stdio *io)
{
	return mcp_stdio_full(io) || io->n_exchanges > MCP_STDIO_EXCHANGES;
}

/* Works on the lines that are there. */
static void mcp_stdio_take(struct mcp_stdio *io)
{
	size_t len, used;

	if (io->reading)
		return;
	io->reading = true;
	while (!io->ended && !mcp_stdio_busy(io)) {
		enum mcp_line line =
			mcp_lines_next(&io->lines, &io->in, CONN_BODY_MAX, &len, &used);

		if (line == MCP_LINE_MORE)
			break;
		if (line == MCP_LINE_TOO_LONG) {
			io->server->count.bad_requests++;
			mcp_stdio_say(io, mcp_error(JSONRPC_PARSE,
						    "Parse error: the message is too long "
						    "(limit 17 MiB)",
						    NULL));
			continue;
		}
		mcp_stdio_message(io, (const char *)buf_data(&io->in), len);
		buf_consume(&io->in, used);
	}
	io->reading = false;
	if (io->ended)
		return;
	if (mcp_stdio_busy(io)) {
		loop_watch_set(&io->in_watch, 0);
		loop_timer_cancel(&io->in_timer);
	} else if (io->eof) {
		server_end(io->server);
	} else if (io->in_file) {
		loop_timer_set(io->server->loop, &io->in_timer, 0);
	} else {
		loop_watch_set(&io->in_watch, EPOLLIN);
	}
}

static void mcp_stdio_read(struct mcp_stdio *io)
{
	uint8_t *to;
	ssize_t n;

	if (buf_reserve(&io->in, MCP_STDIO_READ, &to)) {
		log_err("event=input-failed reason=\"out of memory\"");
		server_end(io->server);
		return;
	}
	n = read(STDIN_FILENO, to, MCP_STDIO_READ);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n > 0) {
		buf_commit(&io->in, (size_t)n);
	} else {
		io->eof = true;
		loop_watch_remove(&io->in_watch);
		/* The last line may lack its end. */
		if (buf_len(&io->in) && buf_append(&io->in, "\n", 1))
			log_warn("event=input-cut");
	}
	mcp_stdio_take(io);
}

static void mcp_stdio_readable(struct loop_watch *w, uint32_t events)
{
	struct mcp_stdio *io = container_of(w, struct mcp_stdio, in_watch);

	/* A hang-up is reported also when we do not want to read now. */
	if (!(events & EPOLLIN) && mcp_stdio_busy(io)) {
		io->eof = true;
		loop_watch_remove(w);
		return;
	}
	mcp_stdio_read(io);
}

static void mcp_stdio_turn(struct loop_timer *t)
{
	struct mcp_stdio *io = container_of(t, struct mcp_stdio, in_timer);

	if (io->in_file && !io->eof && !mcp_stdio_busy(io))
		mcp_stdio_read(io);
	else
		mcp_stdio_take(io);
}

/* ---- life ---------------------------------------------------------------------------------- */

/* Puts standard output aside. */
static int mcp_stdio_open_output(struct mcp_stdio *io, struct err *e)
{
	struct stat st;
	int rc;

	io->out_fd = fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3);
	if (io->out_fd < 0 || fstat(io->out_fd, &st) < 0 ||
	    dup2(STDERR_FILENO, STDOUT_FILENO) != STDOUT_FILENO)
		return err_errno(e, errno, "standard output");
	io->out_socket = S_ISSOCK(st.st_mode);
	if (S_ISFIFO(st.st_mode) || S_ISCHR(st.st_mode)) {
		char path[32];
		int fd;

		snprintf(path, sizeof(path), "/proc/self/fd/%d", io->out_fd);
		fd = open(path, O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
		if (fd >= 0) {
			close(io->out_fd);
			io->out_fd = fd;
			io->out_own = true;
		}
	}
	rc = loop_watch_add(io->server->loop, &io->out_watch, io->out_fd, 0);
	io->out_polled = !rc;
	return rc && rc != -EPERM ? err_errno(e, -rc, "watch standard output") : 0;
}

int mcp_stdio_create(struct server *s, struct mcp_stdio **out, struct err *e)
{
	struct mcp_stdio *io = calloc(1, sizeof(*io));
	struct principal who = { .key = "", .peer = "stdio" };
	int rc;

	if (!io)
		return err_errno(e, ENOMEM, "mcp");
	*out = io;
	io->server = s;
	io->out_fd = -1;
	snprintf(who.ns, sizeof(who.ns), "%s", s->opt->ns);
	mcp_peer_init(&io->peer, s, &who, MCP_UNKNOWN);
	buf_init(&io->in, CONN_BODY_MAX + 2 * MCP_STDIO_READ);
	buf_init(&io->out, MCP_STDIO_OUT_MAX);
	loop_watch_init(&io->in_watch, mcp_stdio_readable);
	loop_watch_init(&io->out_watch, mcp_stdio_writable);
	loop_timer_init(&io->in_timer, mcp_stdio_turn);
	rc = mcp_stdio_open_output(io, e);
	if (rc)
		return rc;
	rc = loop_watch_add(s->loop, &io->in_watch, STDIN_FILENO, EPOLLIN);
	if (rc == -EPERM) {
		io->in_file = true;
		loop_timer_set(s->loop, &io->in_timer, 0);
		rc = 0;
	}
	return rc ? err_errno(e, -rc, "watch standard input") : 0;
}

void mcp_stdio_end(struct mcp_stdio *io)
{
	if (!io || io->ended)
		return;
	io->ended = true;
	loop_watch_remove(&io->in_watch);
	loop_timer_cancel(&io->in_timer);
	while (!list_empty(&io->peer.exchanges)) {
		struct mcp_exchange *x =
			list_entry(io->peer.exchanges.next, struct mcp_exchange, link);
		struct mcp_stdio_exchange *e = container_of(x, struct mcp_stdio_exchange, x);

		mcp_exchange_cancel(x);
		io->n_exchanges--;
		server_bury(io->server, &e->corpse, mcp_stdio_free);
	}
}

void mcp_stdio_destroy(struct mcp_stdio *io)
{
	if (!io)
		return;
	mcp_stdio_end(io);
	loop_watch_remove(&io->out_watch);
	close_fd(&io->out_fd);
	buf_fini(&io->in);
	buf_fini(&io->out);
	free(io);
}
