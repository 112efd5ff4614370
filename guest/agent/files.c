/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DOC: Theory of operation
 *
 * Purpose
 *   One object per FILE_* request: a helper that makes the calls (file_helper.c), and
 *   the pipe that carries content between it and the channel.
 *
 * States
 *   running    the helper works, content flows as the windows allow
 *   draining   it was reaped; what it wrote is still in the pipe
 *   finished   FILE_DONE or ERROR was sent (or the link is lost); freed at the end of the
 *              turn
 *
 * Failure
 *   CLOSE and the loss of the link end the helper with SIGTERM, so that it can remove a
 *   temporary file.  One that does not end (a volume that hangs) gets SIGKILL after
 *   FILES_GRACE_MS.  The last message waits for its end: nothing changes after it.
 *
 * Ownership
 *   The object owns its descriptors, streams and struct proc, and is freed only when
 *   the helper was reaped and nothing is left to send.
 */
#include "agent/files.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/helper.h"
#include "agent/stream.h"
#include "base/checked.h"
#include "base/mem.h"

#define FILES_GRACE_MS 2000

_Static_assert(sizeof(struct file_result) <= HELPER_RESULT_MAX, "fits a pipe");

struct files {
	struct channel ch;
	struct agent *agent;
	struct proc proc;
	struct deferred finish;
	struct loop_timer grace;
	struct istream in;
	struct ostream out;
	uint16_t type;
	int result_fd;
	bool closed; /* CLOSE was seen */
	bool reaped;
	struct file_result result;
};

/* What each request is called in a message, and the flags that it knows. */
static const struct {
	uint16_t type;
	const char *what;
	uint32_t flags;
} files_requests[] = {
	{ FRAME_FILE_READ, "read", 0 },
	{ FRAME_FILE_WRITE, "write", FILE_PARENTS | FILE_APPEND | FILE_EXCL },
	{ FRAME_FILE_LIST, "list", 0 },
	{ FRAME_FILE_STAT, "stat", FILE_FOLLOW },
	{ FRAME_FILE_MKDIR, "make directory", FILE_PARENTS },
	{ FRAME_FILE_REMOVE, "remove", FILE_RECURSIVE },
	{ FRAME_FILE_RENAME, "rename", 0 },
};

static void files_destroy(struct files *x)
{
	loop_timer_cancel(&x->grace);
	istream_fini(&x->in);
	ostream_stop(&x->out);
	close_fd(&x->result_fd);
	list_remove(&x->finish.link);
	free(x);
}

static void files_send_last(struct files *x)
{
	struct file_result *r = &x->result;

	if (x->closed) {
		struct err e = ERR_INIT;

		err_set(&e, ECANCELED, "%s: abandoned", frame_type_name(x->type));
		channel_fail(&x->ch, &e);
		return;
	}
	if (r->err.code) {
		channel_fail(&x->ch, &r->err);
		return;
	}
	r->done.target.p = (const uint8_t *)r->target;
	r->done.target.len = (uint32_t)min_u64(r->target_len, sizeof(r->target) - 1);
	channel_finish(&x->ch, FRAME_FILE_DONE, &r->done);
}

/* At the end of a turn: is everything over? */
static void files_finish(struct deferred *d)
{
	struct files *x = container_of(d, struct files, finish);

	if (!x->reaped || (x->ch.link && x->out.fd >= 0))
		return;
	if (x->ch.link)
		files_send_last(x);
	proc_release(x->agent, &x->proc);
	files_destroy(x);
}

static void files_stream_done(struct ostream *s)
{
	struct files *x = container_of(s, struct files, out);

	agent_defer(x->agent, &x->finish);
}

static void files_exited(struct proc *p, int status, const struct rusage *ru)
{
	struct files *x = container_of(p, struct files, proc);
	struct file_result *r = &x->result;
	struct err e = ERR_INIT;

	(void)ru;
	x->reaped = true;
	loop_timer_cancel(&x->grace);
	if (helper_result(x->result_fd, status, r, sizeof(*r), &e)) {
		*r = (struct file_result){ 0 };
		r->err = e;
	}
	r->err.msg[sizeof(r->err.msg) - 1] = '\0';
	istream_stop(&x->in);
	/* After success the stream comes to its end by itself: nobody else has the pipe. */
	if (r->err.code)
		ostream_stop(&x->out);
	agent_defer(x->agent, &x->finish);
}

static int files_frame(struct channel *c, const struct frame *f)
{
	struct files *x = container_of(c, struct files, ch);
	struct frame_credit credit;

	switch (f->type) {
	case FRAME_DATA:
		if (x->type != FRAME_FILE_WRITE || f->flags != STREAM_IN)
			return -EPROTO;
		return istream_data(&x->in, f->body, f->len);
	case FRAME_EOF:
		if (x->type != FRAME_FILE_WRITE || f->flags != STREAM_IN)
			return -EPROTO;
		istream_eof(&x->in);
		return 0;
	case FRAME_CREDIT:
		if (f->flags != STREAM_OUT || frame_decode(f, &credit, sizeof(credit)))
			return -EPROTO;
		return ostream_credit(&x->out, credit.bytes);
	default:
		return -EPROTO;
	}
}

static void files_grace_over(struct loop_timer *t)
{
	proc_signal(&container_of(t, struct files, grace)->proc, SIGKILL, false);
}

static void files_close(struct channel *c)
{
	struct files *x = container_of(c, struct files, ch);

	if (x->closed)
		return;
	x->closed = true;
	/* Before the pipe is closed, or the helper would take that for the end of content. */
	if (!proc_signal(&x->proc, SIGTERM, false))
		loop_timer_set(x->agent->loop, &x->grace, FILES_GRACE_MS);
	istream_stop(&x->in);
	ostream_stop(&x->out);
	agent_defer(x->agent, &x->finish);
}

/* The link is gone: whether it was closed before or not, nothing is sent. */
static const struct channel_ops files_ops = {
	.frame = files_frame,
	.close = files_close,
	.lost = files_close,
};

static int files_copy_path(const struct frame_str *s, const char *what, char to[PATH_MAX],
			   struct err *e)
{
	if (frame_str_copy(s, to, PATH_MAX))
		return err_set(e, ENAMETOOLONG, "%s: the path is longer than %d bytes", what,
			       PATH_MAX - 1);
	if (to[0] != '/')
		return err_set(e, EINVAL, "%s '%.*s': the path must be absolute", what,
			       FILE_SHOWN_MAX, to);
	return 0;
}

static int files_job(const struct frame *f, struct file_job *job, struct err *e)
{
	struct frame_file req;
	uint32_t known = 0;
	size_t len;
	int rc;

	job->in_fd = job->out_fd = job->proc_fd = -1;
	job->type = f->type;
	for (size_t i = 0; i < ARRAY_SIZE(files_requests); i++) {
		if (files_requests[i].type != f->type)
			continue;
		job->what = files_requests[i].what;
		known = files_requests[i].flags;
	}
	if (frame_decode(f, &req, sizeof(req)))
		return err_set(e, EPROTO, "%s: malformed request", frame_type_name(f->type));
	rc = files_copy_path(&req.path, job->what, job->path, e);
	job->to[0] = '\0';
	if (!rc && f->type == FRAME_FILE_RENAME)
		rc = files_copy_path(&req.to, job->what, job->to, e);
	if (rc)
		return rc;
	len = strlen(job->path);
	snprintf(job->shown, sizeof(job->shown), "%s%s", len > FILE_SHOWN_MAX ? "..." : "",
		 job->path + (len > FILE_SHOWN_MAX ? len - FILE_SHOWN_MAX : 0));
	if (frame_str_copy(&req.user, job->user, sizeof(job->user)))
		return err_set(e, EINVAL, "%s %s: the user's name is too long", job->what,
			       job->shown);
	if (req.flags & ~known)
		return err_set(e, EINVAL, "%s %s: flags 0x%x do not belong to this request",
			       job->what, job->shown, (unsigned)(req.flags & ~known));
	if (req.mode & ~07777u)
		return err_set(e, EINVAL, "%s %s: mode 0%o has more than permission bits",
			       job->what, job->shown, (unsigned)req.mode);
	if (req.offset > INT64_MAX || req.length > INT64_MAX - req.offset)
		return err_set(e, EINVAL, "%s %s: offset and length are beyond any file", job->what,
			       job->shown);
	job->flags = req.flags;
	job->mode = req.mode;
	job->offset = req.offset;
	job->length = req.length;
	return 0;
}

static struct files *files_create(struct agent *a, uint16_t type)
{
	struct files *x = calloc(1, sizeof(*x));

	if (!x)
		return NULL;
	x->agent = a;
	x->type = type;
	x->result_fd = -1;
	x->finish.fn = files_finish;
	list_init(&x->finish.link);
	proc_init(&x->proc, files_exited);
	loop_timer_init(&x->grace, files_grace_over);
	istream_init(&x->in, a->loop);
	ostream_init(&x->out, a->loop, STREAM_OUT, files_stream_done);
	return x;
}

/* The helper, with the other end of the pipe in @job. *@data is our end, or -1. */
static int files_start(struct files *x, struct file_job *job, int *data, struct err *e)
{
	auto_close int ours = -1, theirs = -1;
	int *keep[] = { &job->in_fd, &job->out_fd, &job->proc_fd };
	pid_t pid;
	int rc = 0;

	if (x->type == FRAME_FILE_WRITE) {
		rc = helper_pipe(&ours, &theirs, false, e);
		job->in_fd = theirs;
	} else if (x->type == FRAME_FILE_READ || x->type == FRAME_FILE_LIST) {
		rc = helper_pipe(&ours, &theirs, true, e);
		job->out_fd = theirs;
	}
	if (rc)
		return rc;
	job->proc_fd = x->agent->proc_fd;
	pid = helper_fork(x->agent, &x->proc, keep, ARRAY_SIZE(keep), &x->result_fd, e);
	if (!pid) {
		file_helper_run(job, &x->result);
		helper_exit(x->result_fd, &x->result, sizeof(x->result));
	}
	if (pid < 0)
		return (int)pid;
	*data = take_fd(&ours);
	return 0;
}

void files_open(struct link *l, const struct frame *f)
{
	struct err e = ERR_INIT;
	struct file_job job;
	struct files *x = NULL;
	int data = -1, rc;

	rc = files_job(f, &job, &e);
	if (!rc) {
		x = files_create(l->agent, f->type);
		rc = x ? files_start(x, &job, &data, &e)
		       : err_errno(&e, ENOMEM, "%s %s", job.what, job.shown);
	}
	if (rc) {
		link_send_error(l, f->channel, &e);
		if (x)
			files_destroy(x);
		return;
	}
	link_open(l, &x->ch, f->channel, &files_ops);
	if (f->type == FRAME_FILE_WRITE)
		istream_start(&x->in, &x->ch, data, false);
	else if (data >= 0)
		ostream_start(&x->out, &x->ch, data);
}
