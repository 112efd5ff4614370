/* SPDX-License-Identifier: Apache-2.0 */
/* The parent's side of the converter; see convert.h. */
#include "image/convert.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
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

/* Hands layer @i over. A converter that is gone is noticed by its reports. */
static void convert_send_layer(const struct convert_job *job, int sock, size_t i)
{
	char control[CMSG_SPACE(sizeof(int))] = { 0 }, byte = 0;
	struct iovec iov = { &byte, 1 };
	struct msghdr m = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control,
		.msg_controllen = sizeof(control),
	};
	struct cmsghdr *c = CMSG_FIRSTHDR(&m);

	if (i >= job->n_layers)
		return;
	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(c), &job->layers[i], sizeof(int));
	while (sendmsg(sock, &m, MSG_NOSIGNAL) < 0 && errno == EINTR)
		;
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

static int convert_follow(const struct convert_job *job, int fd, int sock,
			  struct convert_result *res, struct err *e)
{
	struct convert_report r;
	size_t layers = 0;
	int rc;

	convert_send_layer(job, sock, 0);
	while ((rc = convert_next(fd, &r)) > 0) {
		switch (r.kind) {
		case CONVERT_PROGRESS:
			if (job->progress)
				job->progress(job->ctx, r.bytes);
			break;
		case CONVERT_LAYER:
			if (layers >= job->n_layers)
				return err_set(e, EPROTO, "the converter reports too many layers");
			memcpy(res->diff_ids[layers++], r.digest, DIGEST_BYTES);
			chain_add(res->chain, r.digest);
			convert_send_layer(job, sock, layers);
			break;
		case CONVERT_DONE:
			if (layers != job->n_layers)
				return err_set(e, EPROTO, "the converter did not read all layers");
			res->bytes = r.bytes;
			res->inodes = r.count;
			res->xattrs_dropped = r.dropped;
			return 0;
		case CONVERT_FAILED:
			for (char *p = r.text; *p; p++)
				if ((unsigned char)*p < 0x20 || *p == 0x7f)
					*p = '?';
			return err_set(e, r.code > 0 && r.code < 4096 ? (int)r.code : EIO, "%s",
				       r.text);
		default:
			return err_set(e, EPROTO, "the converter sends what it should not");
		}
	}
	/* It ended without a word: its exit status says more. */
	return rc ? err_set(e, EPROTO, "the converter sends what it should not") : 1;
}

int convert_run(const struct convert_job *job, struct convert_result *out, struct err *e)
{
	struct convert_result res = { .diff_ids = NULL };
	struct child child = CHILD_INIT;
	auto_close int rd = -1, wr = -1, mine = -1, its = -1;
	int fds[2], status = 0, rc;

	if (pipe2(fds, O_CLOEXEC) < 0)
		return err_errno(e, errno, "start the converter: pipe");
	rd = fds[0];
	wr = fds[1];
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0)
		return err_errno(e, errno, "start the converter: socketpair");
	mine = fds[0];
	its = fds[1];
	res.diff_ids = calloc(job->n_layers + 1, sizeof(*res.diff_ids));
	if (!res.diff_ids)
		return err_errno(e, ENOMEM, "start the converter");
	rc = convert_spawn(job, wr, its, &child, e);
	close_fd(&wr);
	close_fd(&its);
	if (!rc) {
		rc = convert_follow(job, rd, mine, &res, e);
		if (rc < 0)
			child_kill(&child);
		else
			child_reap(&child, &status);
		if (rc > 0 || (!rc && status)) {
			char text[128];

			child_status_text(status, text, sizeof(text));
			rc = err_set(e, EPROTO, "the converter %s", text);
		}
	}
	if (rc)
		free(res.diff_ids);
	else
		*out = res;
	return rc;
}
