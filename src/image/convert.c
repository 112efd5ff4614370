/* SPDX-License-Identifier: Apache-2.0 */
/* The parent's side of the converter; see convert.h. */
#include "image/convert.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/checked.h"
#include "base/mem.h"
#include "image/chain.h"
#include "image/tool.h"
#include "sys/child.h"

#define CONVERT_FD_OUT 3
#define CONVERT_FD_REPORT 4
#define CONVERT_FD_LAYERS 5

static int convert_spawn(const struct convert_job *job, int report, int layers_sock,
			 struct child *out, struct err *e)
{
	const struct child_fd fds[] = {
		{ STDERR_FILENO, STDERR_FILENO },
		{ job->out, CONVERT_FD_OUT },
		{ report, CONVERT_FD_REPORT },
		{ layers_sock, CONVERT_FD_LAYERS },
	};
	char bytes[24], entries[16], layers[16];
	char *argv[] = { (char *)"msb-image", (char *)"convert", bytes, entries, layers, NULL };

	snprintf(bytes, sizeof(bytes), "%llu", (unsigned long long)job->limits.max_bytes);
	snprintf(entries, sizeof(entries), "%u", job->limits.max_entries);
	snprintf(layers, sizeof(layers), "%zu", job->n_layers);
	/* Twice the data's limit: bitmaps, tables and holes come on top of it. */
	return tool_spawn_self(argv, fds, ARRAY_SIZE(fds), 2 * job->limits.max_bytes, 16, out, e);
}

struct converter {
	const struct convert_job *job;
	struct child child;
	int reports, layers; /* pipe and socket */
	size_t done; /* layers */
	struct convert_result res;
};

static int convert_send_fd(int sock, int fd, const char *known)
{
	char control[CMSG_SPACE(sizeof(int))] = { 0 };
	struct convert_layer layer = { .has_known = known != NULL };
	struct iovec iov = { &layer, sizeof(layer) };
	struct msghdr m = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control,
		.msg_controllen = sizeof(control),
	};
	struct cmsghdr *c = CMSG_FIRSTHDR(&m);
	ssize_t n;

	if (known)
		digest_of_text(known, layer.known);
	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(c), &fd, sizeof(int));
	do
		n = sendmsg(sock, &m, MSG_NOSIGNAL);
	while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : 0;
}

/* Hands the next layer over. A converter that is gone is noticed by its reports. */
static int convert_send_layer(struct converter *c, struct err *e)
{
	const struct convert_job *job = c->job;
	const char *known = NULL;
	auto_close int opened = -1;

	if (c->done >= job->n_layers)
		return 0;
	if (job->known)
		known = job->known(job->ctx, c->done);
	if (!job->open_layer) {
		(void)convert_send_fd(c->layers, job->layers[c->done], known);
		return 0;
	}
	opened = job->open_layer(job->ctx, c->done);
	if (opened < 0)
		return err_set(e, EIO, "layer %zu cannot be opened", c->done + 1);
	(void)convert_send_fd(c->layers, opened, known);
	return 0;
}

/* A report comes in one piece: it is shorter than PIPE_BUF. */
static int convert_next(int fd, struct convert_report *r)
{
	ssize_t n;

	do
		n = read(fd, r, sizeof(*r));
	while (n < 0 && errno == EINTR);
	if (n != (ssize_t)sizeof(*r))
		return n == 0 ? 0 : -EPROTO;
	r->text[sizeof(r->text) - 1] = '\0';
	return 1;
}

static int convert_ended(struct converter *c, struct err *e)
{
	char text[128];
	int status;

	child_reap(&c->child, &status);
	child_status_text(status, text, sizeof(text));
	return err_set(e, EPROTO, "the converter %s", text);
}

static int convert_failed(struct convert_report *r, struct err *e)
{
	for (char *p = r->text; *p; p++)
		if ((unsigned char)*p < 0x20 || *p == 0x7f)
			*p = '?';
	return err_set(e, r->code > 0 && r->code < 4096 ? (int)r->code : EIO, "%s", r->text);
}

int convert_step(struct converter *c, struct err *e)
{
	struct convert_report r;
	int rc = convert_next(c->reports, &r);

	if (rc == 0) /* it ended without a word: its exit status says more */
		return convert_ended(c, e);
	if (rc < 0)
		return err_set(e, EPROTO, "the converter sends what it should not");
	switch (r.kind) {
	case CONVERT_PROGRESS:
		if (c->job->progress)
			c->job->progress(c->job->ctx, r.bytes);
		return 0;
	case CONVERT_LAYER:
		if (c->done >= c->job->n_layers)
			return err_set(e, EPROTO, "the converter reports too many layers");
		memcpy(c->res.diff_ids[c->done++], r.digest, DIGEST_BYTES);
		chain_add(c->res.chain, r.digest);
		return convert_send_layer(c, e);
	case CONVERT_DONE:
		if (c->done != c->job->n_layers)
			return err_set(e, EPROTO, "the converter did not read all layers");
		c->res.bytes = r.bytes;
		c->res.inodes = r.count;
		c->res.xattrs_dropped = r.dropped;
		return 1;
	case CONVERT_FAILED:
		return convert_failed(&r, e);
	default:
		return err_set(e, EPROTO, "the converter sends what it should not");
	}
}

int convert_fd(const struct converter *c)
{
	return c->reports;
}

void convert_abort(struct converter *c)
{
	if (!c)
		return;
	child_kill(&c->child);
	close_fd(&c->reports);
	close_fd(&c->layers);
	free(c->res.diff_ids);
	free(c);
}

int convert_finish(struct converter *c, struct convert_result *out, struct err *e)
{
	char text[128];
	int status, rc = 0;

	child_reap(&c->child, &status);
	if (status) {
		child_status_text(status, text, sizeof(text));
		rc = err_set(e, EPROTO, "the converter %s", text);
	} else {
		*out = c->res;
		c->res.diff_ids = NULL;
	}
	convert_abort(c);
	return rc;
}

static int convert_start_child(struct converter *c, struct err *e)
{
	auto_close int wr = -1, its = -1;
	int fds[2], rc;

	if (pipe2(fds, O_CLOEXEC) < 0)
		return err_errno(e, errno, "start the converter: pipe");
	c->reports = fds[0];
	wr = fds[1];
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0)
		return err_errno(e, errno, "start the converter: socketpair");
	c->layers = fds[0];
	its = fds[1];
	c->res.diff_ids = calloc(c->job->n_layers + 1, sizeof(*c->res.diff_ids));
	if (!c->res.diff_ids)
		return err_errno(e, ENOMEM, "start the converter");
	rc = convert_spawn(c->job, wr, its, &c->child, e);
	return rc ? rc : convert_send_layer(c, e);
}

int convert_start(const struct convert_job *job, struct converter **out, struct err *e)
{
	struct converter *c = calloc(1, sizeof(*c));
	int rc;

	if (!c)
		return err_errno(e, ENOMEM, "start the converter");
	c->job = job;
	c->child = (struct child)CHILD_INIT;
	c->reports = c->layers = -1;
	rc = convert_start_child(c, e);
	if (rc)
		convert_abort(c);
	else
		*out = c;
	return rc;
}

int convert_run(const struct convert_job *job, struct convert_result *out, struct err *e)
{
	struct converter *c;
	int rc = convert_start(job, &c, e);

	if (rc)
		return rc;
	do
		rc = convert_step(c, e);
	while (!rc);
	if (rc > 0)
		return convert_finish(c, out, e);
	convert_abort(c);
	return rc;
}
