/* SPDX-License-Identifier: Apache-2.0 */
/* The parent's side of the unpacker; see unpack.h. */
#include "image/unpack.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "base/checked.h"
#include "base/mem.h"
#include "image/tool.h"

#define UNPACK_PIPE (1 << 20)

int unpack_start(int archive, struct unpack *out, struct err *e)
{
	char *argv[] = { (char *)"msb-image", (char *)"unpack", NULL };
	struct unpack u = UNPACK_INIT;
	auto_close int rd = -1, wr = -1, report = -1, its_report = -1;
	int p[2], rc;

	if (pipe2(p, O_CLOEXEC) < 0)
		return err_errno(e, errno, "read the archive: pipe");
	rd = p[0];
	wr = p[1];
	if (pipe2(p, O_CLOEXEC) < 0)
		return err_errno(e, errno, "read the archive: pipe");
	report = p[0];
	its_report = p[1];
	(void)fcntl(rd, F_SETPIPE_SZ, UNPACK_PIPE);
	const struct child_fd fds[] = { { archive, STDIN_FILENO },
					{ STDERR_FILENO, STDERR_FILENO },
					{ wr, 4 },
					{ its_report, 5 } };
	rc = tool_spawn_self(argv, fds, ARRAY_SIZE(fds), 0, 16, &u.child, e);
	if (rc)
		return rc;
	u.fd = take_fd(&rd);
	u.report = take_fd(&report);
	*out = u;
	return 0;
}

static int unpack_ended(struct unpack *u, struct err *e)
{
	struct unpack_failure f;
	char text[128];
	int status;

	if (read(u->report, &f, sizeof(f)) == (ssize_t)sizeof(f)) {
		f.text[sizeof(f.text) - 1] = '\0';
		for (char *p = f.text; *p; p++)
			if ((unsigned char)*p < ' ' || *p == 0x7f)
				*p = '?';
		return err_set(e, f.code && f.code < 4096 ? (int)f.code : EPROTO, "%s", f.text);
	}
	child_reap(&u->child, &status);
	child_status_text(status, text, sizeof(text));
	return err_set(e, EPROTO, "the archive's reader %s", text);
}

long unpack_read(struct unpack *u, void *to, size_t size, struct err *e)
{
	ssize_t n;

	size = (size_t)min_u64(size, u->left);
	if (!size)
		return 0;
	do
		n = read(u->fd, to, size);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return err_errno(e, errno, "read the archive");
	if (!n)
		return unpack_ended(u, e);
	u->left -= (uint64_t)n;
	return n;
}

int unpack_next(struct unpack *u, struct unpack_member *m, struct err *e)
{
	char skip[4096];
	size_t have = 0;
	long n;

	while ((n = unpack_read(u, skip, sizeof(skip), e)) > 0)
		;
	u->left = sizeof(*m);
	while (n >= 0 && have < sizeof(*m)) {
		n = unpack_read(u, (char *)m + have, sizeof(*m) - have, e);
		have += n > 0 ? (size_t)n : 0;
	}
	u->left = 0;
	if (n < 0)
		return (int)n;
	m->name[sizeof(m->name) - 1] = m->text[sizeof(m->text) - 1] = '\0';
	switch (m->kind) {
	case UNPACK_FILE:
		u->left = m->size;
		return 0;
	case UNPACK_LINK:
		return 0;
	case UNPACK_END:
		return 1;
	default:
		return err_set(e, EPROTO, "the archive's reader sends what it should not");
	}
}

void unpack_stop(struct unpack *u)
{
	child_kill(&u->child);
	close_fd(&u->fd);
	close_fd(&u->report);
}
