/* SPDX-License-Identifier: Apache-2.0 */
/* The parent's side of the assembler; see assemble.h. */
#include "image/assemble.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/mem.h"
#include "image/convert.h"
#include "image/tool.h"

#define ASSEMBLE_OUT_MAX (64ull << 30)

int assemble_start(const struct assemble_job *job, struct child *child, int *report, struct err *e)
{
	char *argv[] = { (char *)"msb-image", (char *)"assemble",
			 (char *)(job->gzip ? "gzip" : "plain"), NULL };
	auto_close int rd = -1, wr = -1, text = -1;
	int fds[2], rc;

	if (pipe2(fds, O_CLOEXEC) < 0)
		return err_errno(e, errno, "start the assembler: pipe");
	rd = fds[0];
	wr = fds[1];
	text = memfd_create("recipe", MFD_CLOEXEC);
	if (text < 0)
		return err_errno(e, errno, "start the assembler: memfd_create");
	if (job->recipe) {
		size_t n = strlen(job->recipe);

		if (write(text, job->recipe, n) != (ssize_t)n || lseek(text, 0, SEEK_SET) < 0)
			return err_errno(e, errno, "start the assembler: hand the recipe over");
	}
	const struct child_fd list[] = {
		{ job->in, 0 }, { STDERR_FILENO, 2 }, { job->out, 3 }, { wr, 4 }, { text, 5 },
	};
	rc = tool_spawn_self(argv, list, ARRAY_SIZE(list), ASSEMBLE_OUT_MAX, 16, child, e);
	if (!rc)
		*report = take_fd(&rd);
	return rc;
}

int assemble_finish(struct child *child, int report, struct err *e)
{
	struct convert_report r;
	auto_close int fd = report;
	char text[128];
	int status;
	ssize_t n;

	do
		n = read(fd, &r, sizeof(r));
	while (n < 0 && errno == EINTR);
	child_reap(child, &status);
	if (n == (ssize_t)sizeof(r) && r.kind == CONVERT_FAILED) {
		r.text[sizeof(r.text) - 1] = '\0';
		return err_set(e, r.code > 0 && r.code < 4096 ? (int)r.code : EIO, "%s", r.text);
	}
	if (n == (ssize_t)sizeof(r) && r.kind == CONVERT_DONE && !status)
		return 0;
	child_status_text(status, text, sizeof(text));
	return err_set(e, EPROTO, "the assembler %s", text);
}
