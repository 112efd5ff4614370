/* SPDX-License-Identifier: Apache-2.0 */
#include "sandbox/linelog.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/mem.h"
#include "codec/logline.h"

static int linelog_open(struct linelog *l)
{
	struct stat st;
	char last;

	l->fd = openat(l->dirfd, LINELOG_FILE,
		       O_RDWR | O_CREAT | O_APPEND | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0600);
	if (l->fd < 0)
		return -errno;
	if (fstat(l->fd, &st) < 0 || !S_ISREG(st.st_mode)) {
		close_fd(&l->fd);
		return -EINVAL;
	}
	l->written = (size_t)st.st_size;
	/* An earlier writer was killed, or its disk was full, inside a line. */
	l->torn = st.st_size && (pread(l->fd, &last, 1, st.st_size - 1) != 1 || last != '\n');
	return 0;
}

int linelog_init(struct linelog *l, int dirfd, struct err *e)
{
	int rc;

	*l = (struct linelog){ .dirfd = dirfd, .fd = -1, .max = LINELOG_FILE_MAX };
	for (size_t i = 0; i < ARRAY_SIZE(l->part); i++)
		buf_init(&l->part[i], LOGLINE_TEXT_MAX);
	rc = linelog_open(l);
	return rc ? err_errno(e, -rc, "cannot open the sandbox's log " LINELOG_FILE) : 0;
}

/* A full disk costs lines of the log, not the sandbox. */
static void linelog_write(struct linelog *l, const struct logline *line)
{
	struct buf b = BUF_INIT;
	ssize_t n;

	if ((l->torn && buf_append(&b, "\n", 1)) || logline_format(line, &b))
		goto out;
	if (l->written && l->written + buf_len(&b) > l->max) {
		close_fd(&l->fd);
		renameat(l->dirfd, LINELOG_FILE, l->dirfd, LINELOG_OLD);
		linelog_open(l);
	}
	if (l->fd < 0 && linelog_open(l))
		goto out;
	n = write(l->fd, buf_data(&b), buf_len(&b));
	if (n > 0) {
		l->written += (size_t)n;
		l->torn = (size_t)n < buf_len(&b);
	}
out:
	buf_fini(&b);
}

static void linelog_line(struct linelog *l, bool err, bool partial, const void *p, size_t n)
{
	struct logline line = { .err = err, .partial = partial, .text = p, .len = n };
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	line.time_us = (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
	linelog_write(l, &line);
}

void linelog_add(struct linelog *l, bool err, const void *p, size_t n)
{
	struct buf *part = &l->part[err];
	const char *at = p;

	while (n) {
		const char *end = memchr(at, '\n', n);
		size_t len = end ? (size_t)(end - at) : n, room = LOGLINE_TEXT_MAX - buf_len(part);
		bool whole = end && len <= room;

		if (len > room)
			len = room;
		if (buf_append(part, at, len))
			buf_reset(part); /* no memory: the line is lost */
		at += len + whole;
		n -= len + whole;
		if (!whole && buf_len(part) < LOGLINE_TEXT_MAX)
			continue;
		/* A line of exactly the maximum is whole if its newline follows. */
		if (!whole && n && *at == '\n') {
			whole = true;
			at++;
			n--;
		}
		linelog_line(l, err, !whole, buf_len(part) ? (const char *)buf_data(part) : "",
			     buf_len(part));
		buf_reset(part);
	}
}

void linelog_end(struct linelog *l, bool err)
{
	struct buf *part = &l->part[err];

	if (buf_len(part))
		linelog_line(l, err, true, buf_data(part), buf_len(part));
	buf_reset(part);
}

void linelog_fini(struct linelog *l)
{
	for (size_t i = 0; i < ARRAY_SIZE(l->part); i++) {
		linelog_end(l, i == 1);
		buf_fini(&l->part[i]);
	}
	close_fd(&l->fd);
}
