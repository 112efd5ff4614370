/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/log_view.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "codec/logline.h"
#include "codec/sandbox_config.h"
#include "sandbox/linelog.h"

#define LOG_VIEW_CHUNK (256u << 10)
#define LOG_VIEW_LINE_MAX (LOGLINE_HEAD + LOGLINE_TEXT_MAX + 1)

static int log_view_open(const struct log_view *v, const char *name)
{
	int fd = v->dirfd < 0
			 ? -1
			 : openat(v->dirfd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	struct stat st;

	if (fd >= 0 && (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode)))
		close_fd(&fd);
	return fd;
}

int log_view_init(struct log_view *v, int dirfd, const struct log_view_opts *opts, struct err *e)
{
	*v = (struct log_view){ .opts = opts, .fd = -1 };
	buf_init(&v->rest, LOG_VIEW_LINE_MAX);
	v->dirfd = openat(dirfd, SANDBOX_LOG_DIR, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (v->dirfd < 0 && errno != ENOENT)
		return err_errno(e, errno, "the sandbox's logs");
	return 0;
}

void log_view_fini(struct log_view *v)
{
	buf_fini(&v->rest);
	close_fd(&v->fd);
	close_fd(&v->dirfd);
}

/* A piece of a line is joined to the one before it, unless another stream came in between. */
static void log_view_print(struct log_view *v, const struct logline *l)
{
	FILE *to = l->err ? stderr : stdout;
	bool joined = v->open_line[l->err] && !v->opts->prefix && !v->opts->timestamps;
	char when[28];

	if (!joined && v->open_line[l->err])
		fputc('\n', to);
	if (!joined && v->opts->prefix)
		fputs(v->opts->prefix, to);
	if (v->opts->timestamps && !logline_format_time(l->time_us, when))
		fprintf(to, "%s ", when);
	fwrite(l->text, 1, l->len, to);
	v->open_line[l->err] = l->partial;
	if (!l->partial)
		fputc('\n', to);
}

void log_view_end(struct log_view *v)
{
	for (int i = 0; i < 2; i++)
		if (v->open_line[i])
			fputc('\n', i ? stderr : stdout);
	v->open_line[0] = v->open_line[1] = false;
	fflush(stdout);
	fflush(stderr);
}

/* Lines of the past, of which only the last are wanted. */
struct log_tail {
	char **v; /* a ring, each with its length in front */
	uint64_t max, n;
};

static void log_tail_add(struct log_tail *t, const char *p, size_t n)
{
	char **slot = &t->v[t->n++ % t->max];
	char *copy = malloc(sizeof(n) + n);

	free(*slot);
	*slot = copy;
	if (copy) {
		memcpy(copy, &n, sizeof(n));
		memcpy(copy + sizeof(n), p, n);
	}
}

static void log_view_line(struct log_view *v, struct log_tail *tail, const char *p, size_t n)
{
	struct logline l;

	/* What a disk that was full left is no line. */
	if (logline_parse(p, n, &l) || l.time_us < v->opts->since_us)
		return;
	if (tail)
		log_tail_add(tail, p, n);
	else
		log_view_print(v, &l);
}

/* Reads to the end of the open file. */
static int log_view_read(struct log_view *v, struct log_tail *tail)
{
	auto_free char *bytes = malloc(LOG_VIEW_CHUNK);
	ssize_t n;

	if (!bytes)
		return -ENOMEM;
	while (v->fd >= 0 && (n = pread(v->fd, bytes, LOG_VIEW_CHUNK, v->at)) > 0) {
		const char *p = bytes, *end = bytes + n, *nl;

		v->at += n;
		for (; (nl = memchr(p, '\n', (size_t)(end - p))); p = nl + 1) {
			if (buf_append(&v->rest, p, (size_t)(nl - p)))
				buf_reset(&v->rest); /* too long for a line of ours */
			else if (buf_len(&v->rest))
				log_view_line(v, tail, (const char *)buf_data(&v->rest),
					      buf_len(&v->rest));
			buf_consume(&v->rest, buf_len(&v->rest));
		}
		if (buf_append(&v->rest, p, (size_t)(end - p)))
			buf_reset(&v->rest);
	}
	return 0;
}

static void log_view_switch(struct log_view *v, int fd)
{
	close_fd(&v->fd);
	v->fd = fd;
	v->at = 0;
	buf_consume(&v->rest, buf_len(&v->rest));
}

static bool log_view_same(int a, int b)
{
	struct stat sa, sb;

	return a >= 0 && b >= 0 && !fstat(a, &sa) && !fstat(b, &sb) && sa.st_ino == sb.st_ino &&
	       sa.st_dev == sb.st_dev;
}

/* All that is there, from where we were: what was rotated away meanwhile comes first. */
static int log_view_catch_up(struct log_view *v, struct log_tail *tail)
{
	auto_close int now = log_view_open(v, LINELOG_FILE);
	auto_close int old = -1;
	int rc = log_view_read(v, tail);

	if (rc || now < 0 || log_view_same(now, v->fd))
		return rc;
	/* More may have come to it before it was put away. */
	rc = log_view_read(v, tail);
	old = log_view_open(v, LINELOG_OLD);
	if (!rc && old >= 0 && !log_view_same(old, v->fd) && !log_view_same(old, now)) {
		log_view_switch(v, take_fd(&old));
		rc = log_view_read(v, tail);
	}
	if (rc)
		return rc;
	log_view_switch(v, take_fd(&now));
	return log_view_read(v, tail);
}

int log_view_first(struct log_view *v, struct err *e)
{
	struct log_tail tail = { .max = v->opts->tail };
	struct logline l;
	int rc;

	if (tail.max == LOG_VIEW_ALL || !tail.max) {
		tail.max = 1;
		tail.v = v->opts->tail ? NULL : calloc(1, sizeof(*tail.v));
	} else {
		tail.v = calloc(tail.max, sizeof(*tail.v));
	}
	if (!tail.v && v->opts->tail != LOG_VIEW_ALL)
		return err_errno(e, ENOMEM, "the log");
	rc = log_view_catch_up(v, tail.v ? &tail : NULL);
	for (uint64_t i = tail.n < tail.max ? 0 : tail.n; tail.v && i < tail.n + tail.max; i++) {
		char *line = tail.v[i % tail.max];
		size_t n;

		if (!line)
			continue;
		memcpy(&n, line, sizeof(n));
		if (v->opts->tail && !logline_parse(line + sizeof(n), n, &l))
			log_view_print(v, &l);
		free(line);
		tail.v[i % tail.max] = NULL;
	}
	free(tail.v);
	fflush(stderr);
	return rc               ? err_errno(e, -rc, "the log")
	       : fflush(stdout) ? err_errno(e, errno, "write")
				: 0;
}

int log_view_more(struct log_view *v)
{
	int rc = log_view_catch_up(v, NULL);

	fflush(stderr);
	return rc ? rc : fflush(stdout) ? -errno : 0;
}
