/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DOC: Theory of operation
 *
 * Purpose
 *   One object per EXEC: a process, its three streams (or its pty), its end.
 *
 * States
 *   starting   forked; the report pipe says whether exec succeeded: EXEC_STARTED, or
 *              ERROR and the channel is over
 *   running    streams flow; RESIZE, SIGNAL, timeout and CLOSE act on the processes
 *   draining   the process was reaped; what it wrote is still in the pipes, and goes
 *              out as the windows allow
 *   finished   EXEC_EXIT was sent (or the link is lost); freed at the end of the turn
 *
 *   The end of the process counts, not the end of its pipes: a background process that
 *   holds them does not delay EXEC_EXIT.  It lives on; only CLOSE, a timeout and the
 *   loss of the link kill everything that the request started.
 *
 * Ownership
 *   The object owns its descriptors, streams and struct proc, and is freed only when
 *   the process was reaped and nothing is left to send.
 */
#include "agent/exec.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <termios.h>

#include "agent/proc.h"
#include "agent/spawn.h"
#include "agent/stream.h"
#include "base/mem.h"

#ifndef TIOCGPTPEER
#define TIOCGPTPEER _IO('T', 0x41)
#endif

#define EXEC_PIPE_SIZE (256 * 1024)

struct exec {
	struct channel ch;
	struct agent *agent;
	struct proc proc;
	struct deferred finish;
	struct loop_watch report;
	struct loop_timer timeout;
	struct istream in;
	struct ostream out, err;
	int report_fd; /* -1 = exec succeeded or failed */
	int held_in, held_out, held_err; /* our ends, until EXEC_STARTED */
	int tty_fd; /* master of the pty, for its controls; -1 = none */
	bool failed; /* ERROR was sent: exec did not succeed */
	bool closed; /* CLOSE was seen */
	bool timed_out;
	bool reaped;
	int status;
	struct rusage usage;
	uint64_t ended_ns;
};

static void exec_destroy(struct exec *x)
{
	loop_watch_remove(&x->report);
	loop_timer_cancel(&x->timeout);
	istream_fini(&x->in);
	ostream_stop(&x->out);
	ostream_stop(&x->err);
	close_fd(&x->report_fd);
	close_fd(&x->held_in);
	close_fd(&x->held_out);
	close_fd(&x->held_err);
	close_fd(&x->tty_fd);
	list_remove(&x->finish.link);
	free(x);
}

static uint64_t exec_timeval_ns(const struct timeval *tv)
{
	return (uint64_t)tv->tv_sec * 1000000000u + (uint64_t)tv->tv_usec * 1000u;
}

static void exec_send_exit(struct exec *x)
{
	struct frame_exec_exit m = {
		.wall_ns = x->ended_ns - x->proc.started_ns,
		.cpu_user_ns = exec_timeval_ns(&x->usage.ru_utime),
		.cpu_system_ns = exec_timeval_ns(&x->usage.ru_stime),
		.max_rss_bytes = (uint64_t)x->usage.ru_maxrss * 1024,
	};

	if (WIFSIGNALED(x->status)) {
		m.reason = EXIT_SIGNALED;
		m.status = (uint32_t)WTERMSIG(x->status);
	} else {
		m.reason = EXIT_EXITED;
		m.status = (uint32_t)WEXITSTATUS(x->status);
	}
	if (x->timed_out)
		m.reason = EXIT_TIMEOUT;
	channel_finish(&x->ch, FRAME_EXEC_EXIT, &m);
}

/* At the end of a turn: is everything over? */
static void exec_finish(struct deferred *d)
{
	struct exec *x = container_of(d, struct exec, finish);

	if (!x->reaped)
		return;
	if (x->ch.link && (x->out.fd >= 0 || x->err.fd >= 0))
		return; /* the drain calls again */
	if (x->ch.link && !x->failed)
		exec_send_exit(x);
	proc_release(x->agent, &x->proc);
	exec_destroy(x);
}

static void exec_stream_done(struct ostream *s)
{
	struct exec *x = s->id == STREAM_OUT ? container_of(s, struct exec, out)
					     : container_of(s, struct exec, err);

	agent_defer(x->agent, &x->finish);
}

/* exec() succeeded: tell the host, then let the streams flow. */
static void exec_started(struct exec *x)
{
	struct frame_exec_started m = { .pid = (uint32_t)x->proc.session };

	if (x->closed)
		return;
	channel_send(&x->ch, FRAME_EXEC_STARTED, 0, &m);
	istream_start(&x->in, &x->ch, take_fd(&x->held_in), x->tty_fd >= 0);
	if (x->held_out >= 0)
		ostream_start(&x->out, &x->ch, take_fd(&x->held_out));
	if (x->held_err >= 0)
		ostream_start(&x->err, &x->ch, take_fd(&x->held_err));
}

static void exec_check_report(struct exec *x)
{
	struct err e = ERR_INIT;
	int rc;

	if (x->report_fd < 0)
		return;
	rc = spawn_report_read(x->report_fd, &e);
	if (!rc && !x->reaped)
		return;
	loop_watch_remove(&x->report);
	close_fd(&x->report_fd);
	if (rc < 0) {
		x->failed = true;
		loop_timer_cancel(&x->timeout);
		channel_fail(&x->ch, &e);
		agent_defer(x->agent, &x->finish);
	} else {
		exec_started(x);
	}
}

static void exec_report_event(struct loop_watch *w, uint32_t events)
{
	(void)events;
	exec_check_report(container_of(w, struct exec, report));
}

static void exec_exited(struct proc *p, int status, const struct rusage *ru)
{
	struct exec *x = container_of(p, struct exec, proc);

	x->reaped = true;
	x->status = status;
	x->usage = *ru;
	x->ended_ns = loop_now_ns();
	loop_timer_cancel(&x->timeout);
	exec_check_report(x);
	istream_stop(&x->in);
	if (x->ch.link && !x->failed) {
		ostream_drain(&x->out);
		ostream_drain(&x->err);
	}
	agent_defer(x->agent, &x->finish);
}

static void exec_timeout(struct loop_timer *t)
{
	struct exec *x = container_of(t, struct exec, timeout);

	x->timed_out = true;
	proc_kill_all(x->agent, &x->proc);
}

static int exec_signal(struct exec *x, const struct frame_exec_signal *m)
{
	pid_t pgrp;

	if (m->signal < 1 || m->signal > 64)
		return -EPROTO;
	if (x->reaped)
		return 0;
	/* On a terminal the group that Ctrl-C would reach, which a shell changes. */
	if (m->group && x->tty_fd >= 0 && !ioctl(x->tty_fd, TIOCGPGRP, &pgrp) && pgrp > 1)
		kill(-pgrp, (int)m->signal);
	else
		proc_signal(&x->proc, (int)m->signal, m->group);
	return 0;
}

static int exec_frame(struct channel *c, const struct frame *f)
{
	struct exec *x = container_of(c, struct exec, ch);
	struct frame_exec_signal sig;
	struct frame_exec_resize size;
	struct frame_credit credit;
	struct winsize ws = { 0 };

	switch (f->type) {
	case FRAME_DATA:
		return f->flags == STREAM_IN ? istream_data(&x->in, f->body, f->len) : -EPROTO;
	case FRAME_EOF:
		if (f->flags != STREAM_IN)
			return -EPROTO;
		istream_eof(&x->in);
		return 0;
	case FRAME_CREDIT:
		if (frame_decode(f, &credit, sizeof(credit)))
			return -EPROTO;
		if (f->flags == STREAM_OUT)
			return ostream_credit(&x->out, credit.bytes);
		return f->flags == STREAM_ERR ? ostream_credit(&x->err, credit.bytes) : -EPROTO;
	case FRAME_EXEC_RESIZE:
		if (frame_decode(f, &size, sizeof(size)))
			return -EPROTO;
		ws.ws_row = size.rows;
		ws.ws_col = size.cols;
		if (x->tty_fd >= 0)
			ioctl(x->tty_fd, TIOCSWINSZ, &ws);
		return 0;
	case FRAME_EXEC_SIGNAL:
		return frame_decode(f, &sig, sizeof(sig)) ? -EPROTO : exec_signal(x, &sig);
	default:
		return -EPROTO;
	}
}

/* Nothing more is sent but the last message, which comes when the process is reaped. */
static void exec_close(struct channel *c)
{
	struct exec *x = container_of(c, struct exec, ch);

	x->closed = true;
	proc_kill_all(x->agent, &x->proc);
	istream_stop(&x->in);
	ostream_stop(&x->out);
	ostream_stop(&x->err);
	close_fd(&x->held_in);
	close_fd(&x->held_out);
	close_fd(&x->held_err);
	agent_defer(x->agent, &x->finish);
}

static const struct channel_ops exec_ops = {
	.frame = exec_frame,
	.close = exec_close,
	.lost = exec_close,
};

/* Our end does not block and is close-on-exec; the child's end is an ordinary pipe. */
static int exec_pipe(int *ours, int *theirs, bool we_read, struct err *e)
{
	int fds[2];

	if (pipe2(fds, O_CLOEXEC))
		return err_errno(e, errno, "cannot start a process: pipe");
	*ours = fds[we_read ? 0 : 1];
	*theirs = fds[we_read ? 1 : 0];
	fcntl(*ours, F_SETFL, O_NONBLOCK);
	/* Fewer turns for large transfers; the default does when the kernel says no. */
	(void)fcntl(*ours, F_SETPIPE_SZ, EXEC_PIPE_SIZE);
	return 0;
}

static int exec_open_pty(struct exec *x, const struct frame_exec *req, int *slave, struct err *e)
{
	struct winsize ws = { .ws_row = req->rows, .ws_col = req->cols };
	int zero = 0;

	x->tty_fd = openat(x->agent->pts_fd, "ptmx", O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
	if (x->tty_fd < 0 || ioctl(x->tty_fd, TIOCSPTLCK, &zero))
		return err_errno(e, errno, "cannot open a terminal");
	/* Not by name: /dev/pts may be anything by now. */
	*slave = ioctl(x->tty_fd, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (*slave < 0)
		return err_errno(e, errno, "cannot open a terminal");
	ioctl(x->tty_fd, TIOCSWINSZ, &ws);
	x->held_out = fcntl(x->tty_fd, F_DUPFD_CLOEXEC, 0);
	if (x->held_out < 0)
		return err_errno(e, errno, "cannot open a terminal");
	if (req->flags & EXEC_STDIN) {
		x->held_in = fcntl(x->tty_fd, F_DUPFD_CLOEXEC, 0);
		if (x->held_in < 0)
			return err_errno(e, errno, "cannot open a terminal");
	}
	return 0;
}

/* Makes descriptors, forks. On failure the caller destroys @x. */
static int exec_start(struct exec *x, const struct frame_exec *req, struct spawn *s, struct err *e)
{
	auto_close int in = -1, out = -1, err = -1, report = -1;
	struct spawn_fd fds[3];
	int pipes[2], rc = 0;
	pid_t pid;

	if (req->flags & EXEC_TTY) {
		rc = exec_open_pty(x, req, &out, e);
		for (int i = 0; i < 3; i++)
			fds[i] = (struct spawn_fd){ out, i };
		s->n_fds = 3;
		s->tty = true;
	} else {
		rc = exec_pipe(&x->held_out, &out, true, e);
		if (!rc)
			rc = exec_pipe(&x->held_err, &err, true, e);
		if (!rc && (req->flags & EXEC_STDIN))
			rc = exec_pipe(&x->held_in, &in, false, e);
		fds[0] = (struct spawn_fd){ out, 1 };
		fds[1] = (struct spawn_fd){ err, 2 };
		fds[2] = (struct spawn_fd){ in, 0 };
		s->n_fds = in >= 0 ? 3 : 2;
	}
	if (!rc)
		rc = spawn_report_pipe(pipes, e);
	if (rc)
		return rc;
	x->report_fd = pipes[0];
	report = pipes[1];
	s->fds = fds;
	x->proc.command = req->flags & EXEC_COMMAND;
	rc = loop_watch_add(x->agent->loop, &x->report, x->report_fd, EPOLLIN);
	if (rc)
		return err_errno(e, -rc, "cannot start a process: epoll");
	pid = proc_fork(x->agent, &x->proc, true, e);
	if (!pid)
		spawn_exec(x->agent, s, report);
	return pid < 0 ? (int)pid : 0;
}

static struct exec *exec_create(struct agent *a)
{
	struct exec *x = calloc(1, sizeof(*x));

	if (!x)
		return NULL;
	x->agent = a;
	x->report_fd = x->held_in = x->held_out = x->held_err = x->tty_fd = -1;
	x->finish.fn = exec_finish;
	list_init(&x->finish.link);
	proc_init(&x->proc, exec_exited);
	loop_watch_init(&x->report, exec_report_event);
	loop_timer_init(&x->timeout, exec_timeout);
	istream_init(&x->in, a->loop);
	ostream_init(&x->out, a->loop, STREAM_OUT, exec_stream_done);
	ostream_init(&x->err, a->loop, STREAM_ERR, exec_stream_done);
	return x;
}

void exec_open(struct link *l, const struct frame *f)
{
	struct err e = ERR_INIT;
	struct frame_exec req;
	struct spawn s = { 0 };
	struct exec *x;
	int rc;

	if (frame_decode(f, &req, sizeof(req)))
		rc = err_set(&e, EPROTO, "EXEC: malformed request");
	else if (!req.argv.count)
		rc = err_set(&e, EINVAL, "EXEC: no program given");
	else if (req.cwd.len && req.cwd.p[0] != '/')
		rc = err_set(&e, EINVAL, "EXEC: the working directory must be an absolute path");
	else
		rc = spawn_init(&s, req.argv, req.env, &req.cwd, &req.user, &e);
	if (rc) {
		link_send_error(l, f->channel, &e);
		return;
	}
	s.rlimits = req.rlimits;
	x = exec_create(l->agent);
	rc = x ? exec_start(x, &req, &s, &e) : err_errno(&e, ENOMEM, "cannot start a process");
	spawn_fini(&s);
	if (rc) {
		link_send_error(l, f->channel, &e);
		if (x)
			exec_destroy(x);
		return;
	}
	link_open(l, &x->ch, f->channel, &exec_ops);
	if (req.timeout_ms)
		loop_timer_set(l->agent->loop, &x->timeout, req.timeout_ms);
}
