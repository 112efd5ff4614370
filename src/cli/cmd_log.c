/* SPDX-License-Identifier: Apache-2.0 */
/* `msb log`: what the own commands of sandboxes printed. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/mem.h"
#include "cli/cli.h"
#include "cli/follow.h"
#include "cli/project_open.h"
#include "codec/logline.h"
#include "lib/keep.h"

enum log_opt { LOG_FILE, LOG_SANDBOX, LOG_BUILD, LOG_FOLLOW, LOG_TAIL, LOG_SINCE, LOG_TIMESTAMPS };

const struct cli_opt log_opts[] = {
	[LOG_FILE] = { "file", NULL, "", "PATH", "the project: its directory, or its Sandboxfile" },
	[LOG_SANDBOX] = { "sandbox", NULL, "s", NULL,
			  "the name is a sandbox's (it always is; accepted for compatibility)" },
	[LOG_BUILD] = { "build", NULL, "b", NULL, "refused: builds have no log of their own" },
	[LOG_FOLLOW] = { "follow", NULL, "fF", NULL, "go on until the sandbox has ended" },
	[LOG_TAIL] = { "tail", NULL, "t", "N", "only the last N lines" },
	[LOG_SINCE] = { "since", NULL, "", "TIME",
			"only lines from then on: 10m, 2h, or 2026-01-31T12:00:00Z" },
	[LOG_TIMESTAMPS] = { "timestamps", NULL, "", NULL, "the time in front of each line" },
	{ NULL },
};

struct log_args {
	const struct cli_command *cmd;
	const char *file;
	bool follow;
	struct log_view_opts view;
};

static int log_parse_since(struct log_args *x, const char *v)
{
	struct timespec now;
	uint64_t ms;
	int64_t now_us;

	if (!logline_parse_time(v, strlen(v), &x->view.since_us))
		return 0;
	clock_gettime(CLOCK_REALTIME, &now);
	now_us = (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
	if (cli_parse_duration(v, &ms) || ms > (uint64_t)now_us / 1000)
		return cli_usage(x->cmd,
				 "--since is '%s': give 90s, 10m, 2h, or a time in UTC such as "
				 "2026-01-31T12:00:00Z",
				 v);
	x->view.since_us = now_us - (int64_t)ms * 1000;
	return 0;
}

static int log_parse_option(struct log_args *x, int opt, const char *v)
{
	switch (opt) {
	case LOG_FILE:
		x->file = v;
		return 0;
	case LOG_BUILD:
		return cli_usage(x->cmd, "--build is not supported: a build has no log");
	case LOG_FOLLOW:
		x->follow = true;
		return 0;
	case LOG_TAIL:
		return cli_parse_uint(v, LOG_VIEW_TAIL_MAX, &x->view.tail)
			       ? cli_usage(x->cmd, "--tail is '%s': give a number up to %u", v,
					   LOG_VIEW_TAIL_MAX)
			       : 0;
	case LOG_SINCE:
		return log_parse_since(x, v);
	case LOG_TIMESTAMPS:
		x->view.timestamps = true;
		return 0;
	default: /* LOG_SANDBOX */
		return 0;
	}
}

static int log_show(const struct log_args *x, const char *name, int dirfd)
{
	struct follow_box box = { .name = name, .dirfd = dirfd, .opts = x->view };
	struct log_view view;
	struct err e = ERR_INIT;
	int rc;

	if (x->follow) {
		rc = follow_run(&box, 1, &e);
		return rc > 0 ? 128 + rc : !rc || rc == -EPIPE ? CLI_OK : cli_fail(&e);
	}
	rc = log_view_init(&view, dirfd, &x->view, &e);
	if (!rc)
		rc = log_view_first(&view, &e);
	log_view_end(&view);
	log_view_fini(&view);
	return rc ? cli_fail(&e) : CLI_OK;
}

int cmd_log(const struct cli_command *cmd, int argc, char **argv)
{
	struct log_args x = { .cmd = cmd, .view.tail = LOG_VIEW_ALL };
	struct project_view v = { .menv = NULL };
	auto_close int parent_fd = -1;
	auto_close int dirfd = -1;
	struct err e = ERR_INIT;
	int status = 0, opt;
	struct cli_args a;

	cli_args_init(&a, cmd, argc, argv);
	while ((opt = cli_args_next(&a)) >= 0)
		if ((status = log_parse_option(&x, opt, a.value)))
			return status;
	if (opt != CLI_OPT_END)
		return cli_args_status(opt);
	if (a.n_words != 1)
		return cli_usage(cmd, "which sandbox? See msb list");
	if (project_open(x.file, true, &v, &e)) {
		status = cli_fail(&e);
		goto out;
	}
	if (sandboxfile_name_valid(a.words[0]))
		parent_fd = open(v.menv, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	/* One that is in the file no more may have a log still. */
	if (parent_fd >= 0 && !keep_open(parent_fd, a.words[0], &dirfd, NULL))
		status = log_show(&x, a.words[0], dirfd);
	else if (sandboxfile_need(v.p.file, a.words[0], NULL, &e))
		status = cli_fail(&e);
	else
		cli_notice("sandbox %s was never started", a.words[0]);
out:
	project_close(&v);
	return status;
}
