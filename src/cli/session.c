/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DOC: Theory of operation
 *
 * Purpose: connect the caller's descriptors 0, 1 and 2 with one command in a sandbox, byte
 * for byte, with flow control from end to end: standard input is read only as far as the
 * guest's window allows, and the guest is given credit only for what was written here.
 *
 * The caller's descriptors are shared with other processes, so they are never made
 * non-blocking.  Pipes and terminals are opened anew through /proc/self/fd for writing,
 * which gives a description of our own; where that fails, writes are cut to PIPE_BUF,
 * which a pipe that polls writable takes without blocking.  Regular files never block and
 * cannot be polled: they are read whenever there is window.
 *
 * End: the command's exit message arrives after all its output; when that is written the
 * session is over.  A reader of our output that went away ends it with 128 + SIGPIPE, as
 * it would end a local command.
 */
#include "cli/session.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/mem.h"
#include "cli/cli.h"
#include "cli/terminal.h"
#include "lib/client.h"
#include "sys/signals.h"

#define SESSION_TERM_GRACE_MS 5000u
#define SESSION_PROGRESS_MS 1000u
#define SESSION_LEAVE_MS 45000u /* a shutdown of a guest, and some time for the host */

struct session;

/* One of our outputs, with what waits to be written to it. */
struct outlet {
	struct session *session;
	struct loop_watch watch;
	struct buf pending;
	int fd;
	bool own_fd; /* fd is our own description, non-blocking */
	bool pollable; /* the watch is on it */
	bool broken; /* its reader is gone */
	uint32_t written; /* since credit was last given */
	uint16_t stream;
};

struct session {
	struct session_spec *spec;
	struct loop *loop;
	struct client client;
	struct client_channel channel;
	struct outlet out[2];
	struct loop_watch in_watch, signal_watch;
	struct loop_timer term_timer, progress_timer, leave_timer;
	uint64_t started_ns;
	int signal_fd;
	uint32_t in_window;
	bool in_pollable, in_eof;
	bool ready, exec_started, exec_ended;
	bool leaving; /* the command is over, and we let the sandbox go */
	unsigned n_term; /* times we were asked to end */
	int status;
	bool done;
};

static void session_end(struct session *s, int status)
{
	if (s->done)
		return;
	s->done = true;
	s->status = status;
	loop_stop(s->loop, 0);
}

/* The command is over and its output written: lets go of a sandbox that is kept. */
static void session_leave(struct session *s)
{
	if (!s->spec->hold || s->client.closed) {
		s->spec->ended = s->client.closed;
		session_end(s, s->status);
		return;
	}
	if (s->leaving)
		return;
	s->leaving = true;
	terminal_restore();
	client_hold(&s->client, false);
	loop_timer_set(s->loop, &s->leave_timer, SESSION_LEAVE_MS);
}

static void session_leave_timeout(struct loop_timer *t)
{
	struct session *s = container_of(t, struct session, leave_timer);

	cli_notice("the sandbox is still shutting down");
	session_end(s, s->status);
}

/* What a sandbox that is kept says of its end. Return: true if there is nothing else to do. */
static bool session_kept_state(struct session *s, uint8_t state)
{
	if (s->leaving) {
		s->spec->ended = state >= SANDBOX_STOPPING;
		if (state == SANDBOX_READY || state == SANDBOX_STOPPED)
			session_end(s, s->status);
		return true;
	}
	if (state < SANDBOX_STOPPING || !s->spec->joined || s->exec_started)
		return false;
	session_end(s, SESSION_AGAIN);
	return true;
}

/* ---- output ------------------------------------------------------------------ */

static void session_check_end(struct session *s)
{
	if (!s->exec_ended)
		return;
	for (size_t i = 0; i < ARRAY_SIZE(s->out); i++)
		if (buf_len(&s->out[i].pending) && !s->out[i].broken)
			return;
	session_leave(s);
}

static ssize_t outlet_write(struct outlet *o)
{
	size_t n = buf_len(&o->pending);
	ssize_t rc;

	if (o->own_fd)
		return write(o->fd, buf_data(&o->pending), n);
	rc = send(o->fd, buf_data(&o->pending), n, MSG_DONTWAIT | MSG_NOSIGNAL);
	if (rc >= 0 || errno != ENOTSOCK)
		return rc;
	if (o->pollable && n > PIPE_BUF)
		n = PIPE_BUF;
	return write(o->fd, buf_data(&o->pending), n);
}

static void outlet_broken(struct outlet *o, int error)
{
	struct session *s = o->session;

	o->broken = true;
	loop_watch_remove(&o->watch);
	if (error == EPIPE) {
		client_close(&s->channel);
		session_end(s, 128 + SIGPIPE);
		return;
	}
	cli_error("cannot write to standard %s: %s", o->stream == STREAM_OUT ? "output" : "error",
		  strerror(error));
	client_close(&s->channel);
	session_end(s, CLI_FAILED);
}

static void outlet_pump(struct outlet *o)
{
	while (buf_len(&o->pending) && !o->broken) {
		ssize_t n = outlet_write(o);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			break;
		if (n < 0) {
			outlet_broken(o, errno);
			return;
		}
		buf_consume(&o->pending, (size_t)n);
		o->written += (uint32_t)n;
		if (o->pollable && !o->own_fd)
			break; /* once a readiness event: the next write may block */
	}
	if (o->written >= FRAME_WINDOW / 4 || (o->written && !buf_len(&o->pending))) {
		client_credit(&o->session->channel, o->stream, o->written);
		o->written = 0;
	}
	if (o->pollable)
		loop_watch_set(&o->watch, buf_len(&o->pending) ? EPOLLOUT : 0);
	session_check_end(o->session);
}

static void outlet_event(struct loop_watch *w, uint32_t events)
{
	struct outlet *o = container_of(w, struct outlet, watch);

	if (buf_len(&o->pending))
		outlet_pump(o);
	else if (events & EPOLLERR)
		outlet_broken(o, EPIPE); /* the reader left before we wrote */
	else if (events & EPOLLHUP)
		loop_watch_remove(w);
}

static void outlet_init(struct outlet *o, struct session *s, int fd, uint16_t stream)
{
	char path[32];
	struct stat st;

	o->session = s;
	o->stream = stream;
	o->fd = fd;
	buf_init(&o->pending, FRAME_WINDOW_MAX);
	loop_watch_init(&o->watch, outlet_event);
	if (!fstat(fd, &st) && (S_ISFIFO(st.st_mode) || isatty(fd))) {
		snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
		int own = open(path, O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);

		if (own >= 0) {
			o->fd = own;
			o->own_fd = true;
		}
	}
	o->pollable = loop_watch_add(s->loop, &o->watch, o->fd, 0) == 0;
}

static void outlet_fini(struct outlet *o)
{
	loop_watch_remove(&o->watch);
	buf_fini(&o->pending);
	if (o->own_fd)
		close_fd(&o->fd);
}

/* ---- input ------------------------------------------------------------------- */

static void session_in_eof(struct session *s)
{
	s->in_eof = true;
	loop_watch_remove(&s->in_watch);
	client_send(&s->channel, FRAME_EOF, STREAM_IN, NULL);
}

/* Return: true if there may be more at once. */
static bool session_in_read(struct session *s)
{
	uint8_t bytes[FRAME_DATA_MAX];
	size_t room = s->in_window < sizeof(bytes) ? s->in_window : sizeof(bytes);
	ssize_t n;

	if (s->in_eof || !room || s->done || s->exec_ended)
		return false;
	n = read(STDIN_FILENO, bytes, room);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return false;
	/* EIO: a background process may not read its terminal. */
	if (n <= 0) {
		session_in_eof(s);
		return false;
	}
	s->in_window -= (uint32_t)n;
	client_send_data(&s->channel, bytes, (size_t)n);
	return true;
}

static void session_in_pump(struct session *s)
{
	if (s->in_eof)
		return;
	if (s->in_pollable) {
		loop_watch_set(&s->in_watch, s->in_window ? EPOLLIN : 0);
		return;
	}
	while (session_in_read(s))
		;
}

static void session_in_event(struct loop_watch *w, uint32_t events)
{
	struct session *s = container_of(w, struct session, in_watch);

	(void)events;
	if (s->in_window)
		session_in_read(s);
	else if (events & (EPOLLHUP | EPOLLERR))
		loop_watch_remove(w); /* taken up again with the next credit */
	session_in_pump(s);
}

static void session_in_credit(struct session *s, uint32_t bytes)
{
	s->in_window += bytes;
	if (s->in_pollable && s->in_watch.fd < 0 && !s->in_eof)
		loop_watch_add(s->loop, &s->in_watch, STDIN_FILENO, EPOLLIN);
	session_in_pump(s);
}

/* ---- the command ------------------------------------------------------------- */

static void session_exec_exit(struct session *s, const struct frame *f)
{
	struct frame_exec_exit x;

	s->exec_ended = true;
	if (frame_decode(f, &x, sizeof(x))) {
		cli_error("the sandbox sent an invalid exit message");
		s->status = CLI_FAILED;
	} else if (x.reason == EXIT_TIMEOUT) {
		terminal_restore();
		cli_error("the command was killed after its time limit of %g s",
			  (double)s->spec->timeout_ms / 1000);
		s->status = CLI_TIMEOUT;
	} else {
		s->status = (int)(x.reason == EXIT_SIGNALED ? 128 + x.status : x.status) & 0xff;
	}
	loop_watch_remove(&s->in_watch);
	session_check_end(s);
}

static void session_exec_error(struct session *s, const struct frame *f)
{
	struct frame_error err;
	char text[1024];

	terminal_progress_end();
	terminal_restore();
	if (frame_decode(f, &err, sizeof(err)) || frame_str_copy(&err.message, text, sizeof(text))) {
		cli_error("the sandbox refused the command");
		err.code = EPROTO;
	} else {
		for (char *p = text; *p; p++)
			if ((unsigned char)*p < 0x20 || *p == 0x7f)
				*p = '?';
		cli_error("%s", text);
	}
	s->exec_ended = true;
	s->status = err.code == ENOENT                          ? CLI_NOT_FOUND
		    : err.code == EACCES || err.code == ENOEXEC ? CLI_NOT_RUN
								: CLI_FAILED;
	session_leave(s);
}

static void session_frame(struct client_channel *ch, const struct frame *f)
{
	struct session *s = container_of(ch, struct session, channel);
	struct frame_credit credit;
	struct outlet *o;

	switch (f->type) {
	case FRAME_EXEC_STARTED:
		s->exec_started = true;
		terminal_progress_end();
		loop_timer_cancel(&s->progress_timer);
		if (s->spec->tty)
			terminal_raw();
		break;
	case FRAME_DATA:
		o = &s->out[f->flags == STREAM_ERR];
		if (!o->broken && !buf_append(&o->pending, f->body, f->len))
			outlet_pump(o);
		break;
	case FRAME_CREDIT:
		if (!frame_decode(f, &credit, sizeof(credit)) && f->flags == STREAM_IN)
			session_in_credit(s, credit.bytes);
		break;
	case FRAME_EXEC_EXIT:
		session_exec_exit(s, f);
		break;
	case FRAME_ERROR:
		session_exec_error(s, f);
		break;
	}
}

static void session_state(struct client *c, const struct frame_sandbox_state *st)
{
	struct session *s = container_of(c, struct session, client);
	char text[1024];

	if (s->spec->hold && session_kept_state(s, st->state))
		return;
	if (st->state == SANDBOX_READY)
		s->ready = true;
	if (st->state != SANDBOX_STOPPED || s->exec_ended)
		return;
	terminal_progress_end();
	terminal_restore();
	if (frame_str_copy(&st->detail, text, sizeof(text)) || !text[0])
		snprintf(text, sizeof(text), "the sandbox ended");
	if (!s->n_term)
		cli_error("%s", text);
	s->spec->ended = true;
	session_end(s, s->n_term ? s->status : CLI_FAILED);
}

static void session_closed(struct client *c, const char *reason)
{
	struct session *s = container_of(c, struct session, client);

	s->spec->ended = true;
	if (s->spec->hold && s->spec->joined && !s->exec_started && !s->exec_ended)
		session_end(s, SESSION_AGAIN);
	if (s->leaving)
		session_end(s, s->status);
	if (s->done || s->exec_ended)
		return;
	terminal_progress_end();
	terminal_restore();
	cli_error("%s", reason);
	session_end(s, CLI_FAILED);
}

static const struct client_ops session_client_ops = {
	.on_state = session_state,
	.on_closed = session_closed,
};

/* ---- signals, time ----------------------------------------------------------- */

static void session_forward(struct session *s, int signo)
{
	struct frame_exec_signal sig = { .signal = (uint32_t)signo, .group = 1 };

	client_send(&s->channel, FRAME_EXEC_SIGNAL, 0, &sig);
}

static void session_on_term(struct session *s, int signo)
{
	bool interrupt = signo == SIGINT || signo == SIGQUIT;

	if (s->leaving) {
		session_end(s, s->status);
		return;
	}
	s->status = 128 + signo;
	s->n_term++;
	if (!s->exec_started || s->exec_ended || s->n_term > (interrupt ? 2 : 1)) {
		session_end(s, 128 + signo);
		return;
	}
	session_forward(s, signo);
	/* An interrupt may be handled by the command, which then goes on. */
	if (!interrupt)
		loop_timer_set(s->loop, &s->term_timer, SESSION_TERM_GRACE_MS);
}

static void session_term_timeout(struct loop_timer *t)
{
	struct session *s = container_of(t, struct session, term_timer);

	session_end(s, s->status);
}

static void session_signal(struct loop_watch *w, uint32_t events)
{
	struct session *s = container_of(w, struct session, signal_watch);
	struct frame_exec_resize size;
	int signo;

	(void)events;
	while ((signo = signals_next(s->signal_fd))) {
		if (signo != SIGWINCH) {
			session_on_term(s, signo);
			continue;
		}
		if (s->spec->tty && s->exec_started) {
			terminal_size(&size.rows, &size.cols);
			client_send(&s->channel, FRAME_EXEC_RESIZE, 0, &size);
		}
	}
}

static void session_progress(struct loop_timer *t)
{
	struct session *s = container_of(t, struct session, progress_timer);

	terminal_progress("Starting %s: %s (%.0f s)", s->spec->what,
			  s->ready ? "starting the command" : "booting the VM",
			  (double)(loop_now_ns() - s->started_ns) / 1e9);
	loop_timer_set(s->loop, t, SESSION_PROGRESS_MS);
}

static int session_signals(struct session *s, struct err *e)
{
	static const int signals[] = { SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGWINCH };
	int fd = signals_watch(s->loop, &s->signal_watch, signals, ARRAY_SIZE(signals), e);

	if (fd < 0)
		return fd;
	s->signal_fd = fd;
	/* A background process that reads its terminal gets EIO, and so an end of file. */
	signal(SIGTTIN, SIG_IGN);
	return 0;
}

/* ---- life -------------------------------------------------------------------- */

static int session_open(struct session *s, struct err *e)
{
	struct frame_exec exec = *s->spec->exec;
	int rc;

	exec.flags |= EXEC_STDIN;
	/* Of a sandbox that ran before it is one program more. */
	if (!s->spec->joined)
		exec.flags |= EXEC_COMMAND;
	if (s->spec->tty) {
		exec.flags |= EXEC_TTY;
		terminal_size(&exec.rows, &exec.cols);
	}
	s->channel.on_frame = session_frame;
	list_init(&s->channel.link);
	rc = client_open(&s->client, &s->channel, FRAME_EXEC, &exec);
	if (rc == -EMSGSIZE)
		return err_set(e, E2BIG,
			       "arguments and environment are too long (limit %u bytes together): "
			       "pass the data on standard input",
			       FRAME_BODY_MAX);
	if (rc)
		return err_errno(e, -rc, "cannot send the command");
	s->in_pollable = loop_watch_add(s->loop, &s->in_watch, STDIN_FILENO, EPOLLIN) == 0;
	session_in_pump(s);
	return 0;
}

static int session_start(struct session *s, struct err *e)
{
	int rc;

	outlet_init(&s->out[0], s, STDOUT_FILENO, STREAM_OUT);
	outlet_init(&s->out[1], s, STDERR_FILENO, STREAM_ERR);
	rc = client_init(&s->client, s->loop, s->spec->fd, &session_client_ops, e);
	if (rc)
		return rc;
	s->started_ns = loop_now_ns();
	if (s->spec->hold)
		client_hold(&s->client, true);
	if (!s->spec->quiet)
		loop_timer_set(s->loop, &s->progress_timer, SESSION_PROGRESS_MS);
	return session_open(s, e);
}

int session_run(struct session_spec *spec)
{
	struct session s = {
		.spec = spec,
		.signal_fd = -1,
		.in_window = FRAME_WINDOW,
		.status = CLI_FAILED,
	};
	struct err e = ERR_INIT;
	int rc;

	loop_watch_init(&s.in_watch, session_in_event);
	loop_watch_init(&s.signal_watch, session_signal);
	loop_timer_init(&s.term_timer, session_term_timeout);
	loop_timer_init(&s.progress_timer, session_progress);
	loop_timer_init(&s.leave_timer, session_leave_timeout);
	/* Until there is a loop there is nothing else to take down. */
	if (loop_create(&s.loop, &e) || session_signals(&s, &e)) {
		close_fd(&spec->fd);
		loop_destroy(s.loop);
		return cli_fail(&e);
	}
	rc = session_start(&s, &e);
	if (!rc && !s.done)
		rc = loop_run(s.loop);
	if (rc < 0 && !s.done) {
		cli_error("%s", e.code ? err_text(&e) : strerror(-rc));
		s.status = CLI_FAILED;
	}
	terminal_progress_end();
	terminal_restore();
	client_fini(&s.client);
	for (size_t i = 0; i < ARRAY_SIZE(s.out); i++)
		outlet_fini(&s.out[i]);
	close_fd(&s.signal_fd);
	loop_destroy(s.loop);
	return s.status;
}
