/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sandbox.logs: the end of a log of the sandbox's supervisor (sandbox/taillog.h bounds its
 * size).  What is in it comes from the guest: it is made UTF-8.
 */
#include "server/logs.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "codec/sandbox_config.h"
#include "server/api.h"
#include "server/box.h"

#define LOGS_TAIL 200
#define LOGS_READ_MAX (1u << 20) /* of one file */

/* The end of a file, from the beginning of a line; absent is empty. */
static int logs_read(int dirfd, const char *name, struct buf *out)
{
	auto_close int fd = openat(dirfd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	off_t from = 0;
	struct stat st;
	uint8_t *to;
	ssize_t n;
	char *nl;
	int rc;

	if (fd < 0)
		return errno == ENOENT ? 0 : -errno;
	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
		return -EIO;
	if (st.st_size > (off_t)LOGS_READ_MAX)
		from = st.st_size - (off_t)LOGS_READ_MAX;
	rc = buf_reserve(out, LOGS_READ_MAX, &to);
	if (rc)
		return rc;
	n = pread(fd, to, LOGS_READ_MAX, from);
	if (n < 0)
		return -errno;
	buf_commit(out, (size_t)n);
	nl = from && n ? memchr(to, '\n', (size_t)n) : NULL;
	if (nl)
		buf_consume(out, (size_t)(nl + 1 - (char *)to));
	return 0;
}

/* Adds the last lines of a log, and of what it was before it became too long. */
static int logs_gather(int dirfd, const char *name, unsigned tail, json_t *lines)
{
	struct buf now = BUF_INIT, all = BUF_INIT;
	unsigned left = tail;
	char old[64];
	int rc;

	snprintf(old, sizeof(old), "%s.old", name);
	rc = logs_read(dirfd, name, &now);
	logs_last_lines((const char *)buf_data(&now), buf_len(&now), &left);
	/* The two are one text: a line may begin in one and end in the other. */
	if (!rc && left)
		rc = logs_read(dirfd, old, &all);
	if (!rc && buf_len(&now))
		rc = buf_append(&all, buf_data(&now), buf_len(&now));
	buf_fini(&now);
	left = tail;
	buf_consume(&all, logs_last_lines((const char *)buf_data(&all), buf_len(&all), &left));
	if (!rc)
		rc = logs_split((const char *)buf_data(&all), buf_len(&all), lines);
	buf_fini(&all);
	return rc;
}

static int logs_open_dir(const struct box *b)
{
	auto_free char *parent = box_parent(b);
	auto_free char *dir = NULL;
	int fd;

	if (!parent || asprintf(&dir, "%s/%s/" SANDBOX_LOG_DIR, parent, b->name) < 0) {
		dir = NULL;
		return -ENOMEM;
	}
	fd = open(dir, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

void method_sandbox_logs(struct rpc_call *c)
{
	const char *name = rpc_string(c->params, "sandbox");
	const char *source = rpc_string(c->params, "source");
	struct box *b = box_find(c->server, c->ns, name);
	auto_close int dirfd = -1;
	double tail = LOGS_TAIL;
	json_t *lines;
	char file[32];
	int rc = 0;

	if (!b) {
		rpc_fail(c, RPC_NOT_FOUND, "Sandbox %s is not running", name);
		return;
	}
	if (!source)
		source = "console";
	rpc_number(c->params, "tail", &tail);
	snprintf(file, sizeof(file), "%s.log", source);
	lines = json_array();
	dirfd = logs_open_dir(b);
	if (dirfd >= 0)
		rc = logs_gather(dirfd, file, (unsigned)tail, lines);
	else if (dirfd != -ENOENT) /* it is being prepared, or just ending */
		rc = dirfd;
	if (rc) {
		json_decref(lines);
		rpc_fail(c, JSONRPC_INTERNAL, "Internal server error: the log %s: %s", file,
			 strerror(-rc));
		return;
	}
	rpc_reply(c, json_pack("{s:s, s:o}", "source", source, "lines", lines));
}
