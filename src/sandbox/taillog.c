/* SPDX-License-Identifier: Apache-2.0 */
#include "sandbox/taillog.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"

static int taillog_open(const struct taillog *t)
{
	return openat(t->dirfd, t->name, O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW | O_CLOEXEC,
		      0600);
}

static bool taillog_has_room(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLOUT };

	return poll(&p, 1, 0) == 1 && p.revents & POLLOUT;
}

static void taillog_copy(struct taillog *t, const uint8_t *p, size_t n)
{
	uint8_t text[1024];

	while (n && t->copy_fd >= 0) {
		size_t k = n < sizeof(text) ? n : sizeof(text);

		for (size_t i = 0; i < k; i++)
			text[i] = (p[i] < 0x20 && p[i] != '\n') || p[i] >= 0x7f ? '?' : p[i];
		t->copied += k;
		/*
		 * One who does not read, a full disk: it costs the copy, not the sandbox.  A pipe
		 * that can be written to has room for a piece (pipe(7), PIPE_BUF), so this never waits.
		 */
		if (t->copied > TAILLOG_COPY_MAX || !taillog_has_room(t->copy_fd) ||
		    write(t->copy_fd, text, k) < 0)
			close_fd(&t->copy_fd);
		p += k;
		n -= k;
	}
}

static void taillog_keep(struct taillog *t, const uint8_t *p, size_t n)
{
	char old[sizeof(t->name) + 4];

	taillog_copy(t, p, n);
	if (t->file_fd >= 0) {
		if (t->written + n > TAILLOG_FILE_MAX) {
			snprintf(old, sizeof(old), "%s.old", t->name);
			close_fd(&t->file_fd);
			renameat(t->dirfd, t->name, t->dirfd, old);
			t->file_fd = taillog_open(t);
			t->written = 0;
		}
		/* A full disk costs the log, not the sandbox. */
		if (t->file_fd >= 0 && write(t->file_fd, p, n) > 0)
			t->written += n;
	}
	if (n >= sizeof(t->tail)) {
		memcpy(t->tail, p + n - sizeof(t->tail), sizeof(t->tail));
		t->tail_len = sizeof(t->tail);
		return;
	}
	if (t->tail_len + n > sizeof(t->tail)) {
		size_t drop = t->tail_len + n - sizeof(t->tail);

		memmove(t->tail, t->tail + drop, t->tail_len - drop);
		t->tail_len -= drop;
	}
	memcpy(t->tail + t->tail_len, p, n);
	t->tail_len += n;
}

static int taillog_data(struct stream *s)
{
	struct taillog *t = container_of(s, struct taillog, stream);

	taillog_keep(t, buf_data(&s->in), buf_len(&s->in));
	buf_consume(&s->in, buf_len(&s->in));
	return 0;
}

static void taillog_closed(struct stream *s, int error)
{
	(void)error;
	stream_fini(s);
}

int taillog_init(struct taillog *t, struct loop *l, int fd, int dirfd, const char *name,
		 struct err *e)
{
	struct stat st;

	t->dirfd = dirfd;
	t->copy_fd = -1;
	snprintf(t->name, sizeof(t->name), "%s", name);
	t->file_fd = taillog_open(t);
	if (t->file_fd < 0 || fstat(t->file_fd, &st) < 0) {
		int rc = err_errno(e, errno, "cannot open the sandbox's log %s", name);

		close(fd);
		return rc;
	}
	t->written = (size_t)st.st_size;
	t->tail_len = 0;
	t->stream.on_data = taillog_data;
	t->stream.on_close = taillog_closed;
	t->stream.on_drain = NULL;
	return stream_init(&t->stream, l, fd, 64u << 10, 4096, e);
}

void taillog_fini(struct taillog *t)
{
	stream_fini(&t->stream);
	if (!t->name[0])
		return;
	close_fd(&t->file_fd);
	close_fd(&t->copy_fd);
}

void taillog_copy_to(struct taillog *t, int fd)
{
	t->copy_fd = fd;
}

void taillog_drain(struct taillog *t)
{
	uint8_t bytes[4096];
	/* Bounded: the writer may still be alive and flooding. */
	for (unsigned i = 0; i < 64 && stream_open(&t->stream); i++) {
		ssize_t n = read(t->stream.fd, bytes, sizeof(bytes));

		if (n <= 0)
			return;
		taillog_keep(t, bytes, (size_t)n);
	}
}

void taillog_last_lines(const struct taillog *t, unsigned lines, char *to, size_t size)
{
	size_t start = t->tail_len, n = 0;
	bool text = false, gap = false;

	/* Back over so many lines that have text. */
	for (; start && lines; start--) {
		char c = t->tail[start - 1];

		if (c == '\n' && text && !--lines)
			break;
		text = c != '\n' && (text || c != '\r');
	}
	for (size_t i = start; i < t->tail_len && n + 4 < size; i++) {
		char c = t->tail[i];

		if (c == '\n')
			gap = n > 0;
		if (c == '\n' || c == '\r')
			continue;
		if (gap) {
			memcpy(to + n, " | ", 3);
			n += 3;
		}
		gap = false;
		to[n++] = (unsigned char)c < 0x20 || (unsigned char)c >= 0x7f ? '?' : c;
	}
	to[n] = '\0';
}
