/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DOC: Theory of operation
 *
 * Purpose
 *   One long-lived interpreter per language and user, and the queue of calls that it
 *   runs one after the other.  The driver inside it (guest/repl/) is told what to run
 *   and reports the end on descriptors of its own, so nothing that a program prints can
 *   be taken for the end of a call.
 *
 * Descriptors of the process
 *   0  /dev/null; of a shell: the driver's commands, and /dev/null while code runs
 *   1, 2  pipes to the agent
 *   7  requests, a line "CALL LENGTH RESULTS" each (not for shells); RESULTS 1 = wanted
 *   8  memory file: first the driver, then the code of each call, then its results
 *   9  reports, a line "CALL STATUS VALUE" each; call 0 = ready
 *
 * Trust boundary
 *   User code runs in the same process as the driver and can report what it likes: it
 *   ends its own call early, or is killed at its timeout.  A report is a line of at most
 *   64 bytes with three numbers; others are ignored.  Its results: see results.h.
 *
 * States
 *   see enum interp_state.  A call is done when its report came (or the process ended)
 *   and the pipes were read to the end: its output never reaches the next call, and the
 *   next is not started before.  What is written while no call runs is dropped.
 *
 * Failure
 *   A timeout sends SIGINT to the process group; what does not report within
 *   INTERP_GRACE_MS is killed with all it started, and the state is lost.  An interpreter
 *   that ends by itself leaves its children alone.
 */
#include "agent/interp.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "base/log.h"
#include "base/mem.h"

/* A first traceback imports modules: on a busy host, emulated, that takes its time. */
#define INTERP_GRACE_MS 2000
#define INTERP_MAX 32 /* interpreters at once */

/* Further statuses of a report. */
#define INTERP_LATE 2 /* output came after the end of its call */
#define INTERP_RESULT 3 /* results are whole up to VALUE */

/* The end of a call's code: reached unless the code is cut short by a syntax error. */
#define INTERP_SHELL_END "\n\n__msb_rc=$?\n"

/*
 * What a shell is told to do for a call.  "command" keeps a syntax error from ending a
 * POSIX shell.  The code is not inside a loop or function of ours that break, return or
 * local could touch.
 */
#define INTERP_SHELL_CALL \
	"%s__msb_rc=; command . /proc/self/fd/8 </dev/null\n" \
	"{ __msb_st=$?; case $__msb_rc in '') printf '%u 1 %%s\\n' $__msb_st;; " \
	"*) printf '%u 0 %%s\\n' $__msb_rc;; esac >&9; } 2>/dev/null\n"

/* bash takes no second SIGINT after a `return` out of the trap, until it is set anew. */
#define INTERP_SHELL_TRAP "trap 'return 130' INT\n"

static void interp_next(struct interp *in);

static void interp_close(struct interp *in)
{
	loop_watch_remove(&in->spawned);
	loop_watch_remove(&in->reports);
	loop_timer_cancel(&in->timer);
	ostream_stop(&in->out);
	ostream_stop(&in->err);
	results_stop(&in->results);
	close_fd(&in->spawned_fd);
	close_fd(&in->report_fd);
	close_fd(&in->request_fd);
	close_fd(&in->code_fd);
	in->line_len = 0;
	in->state = INTERP_NONE;
}

static void interp_destroy(struct interp *in)
{
	interp_close(in);
	list_remove(&in->turn.link);
	list_remove(&in->node);
	free(in);
}

/* The current call's output is sent: say how it ended, and take the next. */
static void interp_call_done(struct interp *in, const struct err *e)
{
	struct interp_call *c = in->current;

	in->current = NULL;
	loop_timer_cancel(&in->timer);
	ostream_attach(&in->out, NULL);
	ostream_attach(&in->err, NULL);
	results_stop(&in->results);
	c->done.wall_ns = loop_now_ns() - c->started_ns;
	if (in->dead || in->killed)
		c->done.state_lost = 1;
	in->rearm = in->interrupted;
	in->interrupted = false;
	repl_call_finish(c, e);
}

static void interp_turn(struct deferred *d)
{
	struct interp *in = container_of(d, struct interp, turn);

	if (in->state == INTERP_DRAINING && !in->out.draining && !in->err.draining &&
	    !in->results.active) {
		in->state = INTERP_IDLE;
		if (in->current)
			interp_call_done(in, NULL);
	}
	if (in->dead && in->state != INTERP_DRAINING) {
		interp_close(in);
		proc_release(in->agent, &in->proc);
		in->dead = in->killed = false;
		if (in->orphan) {
			interp_destroy(in);
			return;
		}
	}
	interp_next(in);
}

static void interp_drained(struct ostream *s)
{
	struct interp *in = s->id == STREAM_OUT ? container_of(s, struct interp, out)
						: container_of(s, struct interp, err);

	agent_defer(in->agent, &in->turn);
}

static void interp_results_sent(struct results *r)
{
	struct interp *in = container_of(r, struct interp, results);

	agent_defer(in->agent, &in->turn);
}

static void interp_drain(struct interp *in)
{
	loop_timer_cancel(&in->timer);
	in->state = INTERP_DRAINING;
	ostream_drain(&in->out);
	ostream_drain(&in->err);
	results_send(&in->results, in->code_fd);
	agent_defer(in->agent, &in->turn);
}

static int interp_write_code(struct interp *in, const void *p, size_t n, size_t at)
{
	while (n) {
		ssize_t k = pwrite(in->code_fd, p, n, (off_t)at);

		if (k < 0 && errno == EINTR)
			continue;
		if (k <= 0)
			return k ? -errno : -EIO;
		p = (const char *)p + k;
		at += (size_t)k;
		n -= (size_t)k;
	}
	return 0;
}

/* Hands the current call to the driver, which is waiting for it. */
static void interp_send(struct interp *in)
{
	struct interp_call *c = in->current;
	size_t len = buf_len(&c->code);
	char line[512];
	int n, rc = ftruncate(in->code_fd, 0) ? -errno : 0;

	c->number = ++in->next_number;
	if (!rc)
		rc = interp_write_code(in, buf_data(&c->code), len, 0);
	if (!rc && in->lang->shell)
		rc = interp_write_code(in, INTERP_SHELL_END, strlen(INTERP_SHELL_END), len);
	if (in->lang->shell)
		n = snprintf(line, sizeof(line), INTERP_SHELL_CALL,
			     in->rearm ? INTERP_SHELL_TRAP : "", c->number, c->number);
	else
		n = snprintf(line, sizeof(line), "%u %zu %d\n", c->number, len, c->wants_results);
	in->state = INTERP_BUSY;
	if (!rc && write(in->request_fd, line, (size_t)n) != n)
		rc = -EIO;
	buf_reset(&c->code);
	if (rc) {
		/* It ended, or somebody in it plays with its descriptors. */
		log_warn("event=repl_send lang=%s rc=%d", in->lang->what, rc);
		in->killed = true;
		proc_kill_all(in->agent, &in->proc);
	}
}

static void interp_timer(struct loop_timer *t)
{
	struct interp *in = container_of(t, struct interp, timer);

	if (in->interrupted) {
		in->killed = true;
		proc_kill_all(in->agent, &in->proc);
		return;
	}
	in->interrupted = true;
	proc_signal(&in->proc, SIGINT, true);
	loop_timer_set(in->agent->loop, t, INTERP_GRACE_MS);
}

static void interp_report(struct interp *in, const struct repl_report *r)
{
	struct interp_call *c = in->current;

	if (!r->call && in->state == INTERP_STARTING) {
		in->state = INTERP_IDLE;
		if (c)
			interp_send(in);
		return;
	}
	if (r->status == INTERP_LATE) {
		log_info("event=late_output call=%u bytes=%u", r->call, r->value);
		return;
	}
	if (in->state != INTERP_BUSY || r->call != c->number)
		return;
	if (r->status == INTERP_RESULT) {
		results_mark(&in->results, r->value);
		return;
	}
	c->done.status = r->status ? REPL_EXCEPTION : REPL_OK;
	/* A shell's code that ends by `return` has a status of its own; 2 is a syntax error. */
	if (in->lang->shell && r->status && r->value != 2)
		c->done.status = REPL_OK;
	if (in->lang->shell)
		c->done.exit_code = r->value;
	if (in->interrupted)
		c->done.status = REPL_TIMEOUT;
	interp_drain(in);
}

static void interp_report_bytes(struct interp *in, const char *bytes, size_t n)
{
	struct repl_report r;

	for (size_t i = 0; i < n; i++) {
		if (bytes[i] != '\n') {
			if (in->line_len < sizeof(in->line))
				in->line[in->line_len++] = bytes[i];
			continue;
		}
		if (!repl_parse_report(in->line, in->line_len, &r))
			interp_report(in, &r);
		in->line_len = 0;
	}
}

static void interp_reports(struct loop_watch *w, uint32_t events)
{
	struct interp *in = container_of(w, struct interp, reports);
	char bytes[256];
	ssize_t n;

	(void)events;
	/* Bounded: a program that floods its report pipe gets one turn like others. */
	for (int i = 0; i < 64; i++) {
		n = read(in->report_fd, bytes, sizeof(bytes));
		if (n < 0 && errno == EINTR)
			continue;
		if (n == 0)
			loop_watch_remove(w); /* only the end of the process is left to see */
		if (n <= 0)
			return;
		interp_report_bytes(in, bytes, (size_t)n);
	}
}

static void interp_spawned(struct loop_watch *w, uint32_t events)
{
	struct interp *in = container_of(w, struct interp, spawned);
	struct err e = ERR_INIT;
	int rc = spawn_report_read(in->spawned_fd, &e);

	(void)events;
	if (!rc)
		return;
	loop_watch_remove(w);
	close_fd(&in->spawned_fd);
	if (rc < 0 && in->current)
		interp_call_done(in, &e);
}

static void interp_exited(struct proc *p, int status, const struct rusage *ru)
{
	struct interp *in = container_of(p, struct interp, proc);
	struct interp_call *c;

	(void)ru;
	if (in->spawned_fd >= 0)
		interp_spawned(&in->spawned, 0);
	if (in->report_fd >= 0)
		interp_reports(&in->reports, 0);
	c = in->current;
	in->dead = true;
	if (c && in->state != INTERP_DRAINING) {
		c->done.status = in->interrupted ? REPL_TIMEOUT : REPL_EXITED;
		c->done.exit_code = WIFSIGNALED(status) ? 128 + (uint32_t)WTERMSIG(status)
							: (uint32_t)WEXITSTATUS(status);
		interp_drain(in);
	}
	agent_defer(in->agent, &in->turn);
}

static int interp_pipe(int *ours, int *theirs, bool we_read, struct err *e)
{
	int fds[2];

	if (pipe2(fds, O_CLOEXEC))
		return err_errno(e, errno, "cannot start an interpreter: pipe");
	*ours = fds[we_read ? 0 : 1];
	*theirs = fds[we_read ? 1 : 0];
	fcntl(*ours, F_SETFL, O_NONBLOCK);
	return 0;
}

static int interp_watch(struct interp *in, struct loop_watch *w, int fd, struct err *e)
{
	int rc = loop_watch_add(in->agent->loop, w, fd, EPOLLIN);

	return rc ? err_errno(e, -rc, "cannot start an interpreter: epoll") : 0;
}

/* The driver goes into the memory file, or, of a shell, into its standard input. */
static int interp_place_driver(struct interp *in, struct err *e)
{
	const char *driver = in->lang->driver;
	size_t n = strlen(driver);
	int rc;

	in->code_fd = memfd_create("repl", MFD_CLOEXEC);
	if (in->code_fd < 0)
		return err_errno(e, errno, "cannot start an interpreter: memory file");
	if (in->lang->shell)
		rc = write(in->request_fd, driver, n) == (ssize_t)n ? 0 : -EIO;
	else
		rc = interp_write_code(in, driver, n, 0);
	return rc ? err_errno(e, -rc, "cannot start an interpreter: driver") : 0;
}

static int interp_start(struct interp *in, struct spawn *s, struct err *e)
{
	auto_close int out = -1, err = -1, request = -1, report = -1, spawned = -1;
	char *argv[4] = { NULL };
	struct spawn_fd fds[5];
	int out_fd = -1, err_fd = -1, pipes[2], rc;
	pid_t pid;

	rc = interp_pipe(&out_fd, &out, true, e);
	if (!rc)
		ostream_start(&in->out, NULL, out_fd);
	if (!rc)
		rc = interp_pipe(&err_fd, &err, true, e);
	if (!rc && err_fd >= 0)
		ostream_start(&in->err, NULL, err_fd);
	if (!rc)
		rc = interp_pipe(&in->request_fd, &request, false, e);
	if (!rc)
		rc = interp_pipe(&in->report_fd, &report, true, e);
	if (!rc)
		rc = interp_place_driver(in, e);
	if (!rc)
		rc = spawn_report_pipe(pipes, e);
	if (rc)
		return rc;
	in->spawned_fd = pipes[0];
	spawned = pipes[1];
	rc = interp_watch(in, &in->spawned, in->spawned_fd, e);
	if (!rc)
		rc = interp_watch(in, &in->reports, in->report_fd, e);
	if (rc)
		return rc;
	fds[0] = (struct spawn_fd){ out, 1 };
	fds[1] = (struct spawn_fd){ err, 2 };
	fds[2] = (struct spawn_fd){ in->code_fd, 8 };
	fds[3] = (struct spawn_fd){ report, 9 };
	fds[4] = (struct spawn_fd){ request, in->lang->shell ? 0 : 7 };
	s->fds = fds;
	s->n_fds = ARRAY_SIZE(fds);
	s->programs = in->lang->programs;
	s->what = in->lang->what;
	for (size_t i = 0; i < ARRAY_SIZE(in->lang->arg); i++)
		argv[i + 1] = (char *)(uintptr_t)in->lang->arg[i];
	s->argv = argv;
	pid = proc_fork(in->agent, &in->proc, true, e);
	if (!pid)
		spawn_exec(in->agent, s, spawned);
	if (pid < 0)
		return (int)pid;
	in->state = INTERP_STARTING;
	return 0;
}

/* Takes the next call, if there is one and nothing runs. */
static void interp_next(struct interp *in)
{
	struct err e = ERR_INIT;
	struct interp_call *c;

	while (!in->current && !in->dead && !in->orphan && !list_empty(&in->queue) &&
	       (in->state == INTERP_IDLE || in->state == INTERP_NONE)) {
		c = list_entry(in->queue.next, struct interp_call, node);
		list_remove(&c->node);
		in->current = c;
		in->interrupted = false;
		c->started_ns = loop_now_ns();
		if (in->state == INTERP_NONE && interp_start(in, &c->spawn, &e)) {
			interp_close(in);
			interp_call_done(in, &e);
			continue;
		}
		/* Between two calls nobody's output is wanted. */
		if (in->state == INTERP_IDLE) {
			ostream_drop(&in->out);
			ostream_drop(&in->err);
		}
		ostream_attach(&in->out, &c->ch);
		ostream_attach(&in->err, &c->ch);
		results_attach(&in->results, c->wants_results ? &c->ch : NULL);
		if (c->timeout_ms)
			loop_timer_set(in->agent->loop, &in->timer, c->timeout_ms);
		if (in->state == INTERP_IDLE)
			interp_send(in);
	}
}

static struct interp *interp_create(struct agent *a, const struct interp_lang *lang,
				    const char *user)
{
	struct interp *in = calloc(1, sizeof(*in));

	if (!in)
		return NULL;
	in->agent = a;
	in->lang = lang;
	snprintf(in->user, sizeof(in->user), "%s", user);
	in->spawned_fd = in->report_fd = in->request_fd = in->code_fd = -1;
	proc_init(&in->proc, interp_exited);
	loop_watch_init(&in->spawned, interp_spawned);
	loop_watch_init(&in->reports, interp_reports);
	loop_timer_init(&in->timer, interp_timer);
	ostream_init(&in->out, a->loop, STREAM_OUT, interp_drained);
	ostream_init(&in->err, a->loop, STREAM_ERR, interp_drained);
	results_init(&in->results, interp_results_sent);
	in->out.keep_open = in->err.keep_open = true;
	in->turn.fn = interp_turn;
	list_init(&in->turn.link);
	list_init(&in->queue);
	list_append(&a->interps, &in->node);
	return in;
}

int interp_queue(struct interp_call *call, const char *user, struct err *e)
{
	struct agent *a = call->agent;
	struct interp *in = NULL;
	unsigned count = 0;

	if (strlen(user) >= INTERP_USER_MAX)
		return err_set(e, EINVAL, "REPL_RUN: the user's name is too long");
	if (!*user)
		user = "0"; /* the same interpreter for all ways to say nothing */
	list_for_each (i, tmp, &a->interps) {
		struct interp *x = list_entry(i, struct interp, node);

		count++;
		if (x->lang == call->lang && !strcmp(x->user, user))
			in = x;
	}
	if (!in && count >= INTERP_MAX)
		return err_set(e, EAGAIN, "REPL_RUN: %u interpreters exist already", INTERP_MAX);
	if (!in)
		in = interp_create(a, call->lang, user);
	if (!in)
		return err_errno(e, ENOMEM, "REPL_RUN");
	call->in = in;
	list_append(&in->queue, &call->node);
	interp_next(in);
	return 0;
}

void interp_abandon(struct interp_call *call)
{
	struct interp *in = call->in;

	call->abandoned = true;
	if (in->current != call) {
		call->done.status = REPL_TIMEOUT;
		repl_call_finish(call, NULL);
		return;
	}
	ostream_attach(&in->out, NULL);
	ostream_attach(&in->err, NULL);
	results_stop(&in->results);
	if (in->state == INTERP_DRAINING) {
		agent_defer(in->agent, &in->turn);
		return;
	}
	if (!in->interrupted)
		interp_timer(&in->timer);
}

void repl_fini(struct agent *a)
{
	list_for_each (i, tmp, &a->interps) {
		struct interp *in = list_entry(i, struct interp, node);

		in->orphan = true;
		if (in->proc.pid > 0)
			proc_kill_all(a, &in->proc);
		else if (!in->dead && in->state == INTERP_NONE)
			interp_destroy(in);
	}
}
