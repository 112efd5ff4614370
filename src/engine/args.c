/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/args.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

const char *const engine_port_names[ENGINE_PORT_COUNT] = {
	[ENGINE_PORT_CTL] = "agent.ctl",
	[ENGINE_PORT_BULK] = "agent.bulk",
	[ENGINE_PORT_FUSE] = "agent.fuse",
};

void engine_arg(struct engine_args *a, const char *fmt, ...)
{
	va_list ap;

	if (a->n == ENGINE_ARGS_MAX) {
		a->failed = true;
		return;
	}
	va_start(ap, fmt);
	if (vasprintf(&a->argv[a->n], fmt, ap) < 0) {
		a->argv[a->n] = NULL;
		a->failed = true;
	} else {
		a->n++;
	}
	va_end(ap);
}

static int engine_args_map(struct engine_args *a, int from, int to)
{
	if (a->n_fds == ENGINE_ARGS_FDS_MAX) {
		a->failed = true;
		return -1;
	}
	a->fds[a->n_fds++] = (struct child_fd){ .from = from, .to = to };
	return to;
}

int engine_arg_fd(struct engine_args *a, int from)
{
	return engine_args_map(a, from, ENGINE_ARGS_FD_BASE + (int)a->n_fds);
}

void engine_args_log(struct engine_args *a, int log_fd)
{
	engine_args_map(a, log_fd, STDOUT_FILENO);
	engine_args_map(a, log_fd, STDERR_FILENO);
}

void engine_args_free(struct engine_args *a)
{
	for (unsigned i = 0; i < a->n; i++)
		free(a->argv[i]);
}

uint64_t engine_file_limit(const struct engine_vm_desc *d)
{
	uint64_t limit = 0;
	struct stat st;

	for (unsigned i = 0; i < d->n_disks; i++)
		if (!d->disks[i].readonly && !fstat(d->disks[i].fd, &st) &&
		    (uint64_t)st.st_size > limit)
			limit = (uint64_t)st.st_size;
	return limit;
}
