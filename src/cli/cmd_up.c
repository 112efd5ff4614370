/* SPDX-License-Identifier: Apache-2.0 */
/* `msb up`, `down` and `restart`: the sandboxes of a project, together. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "cli/box_opts.h"
#include "cli/cli.h"
#include "cli/follow.h"
#include "cli/kept_wait.h"
#include "cli/project_open.h"
#include "cli/project_opts.h"
#include "lib/keep.h"
#include "lib/portwait.h"

#define UP_GRACE_MS 10000u
#define UP_PORT_MS 120000u /* for a port that another one waits for */

enum up_opt {
	UP_FILE,
	UP_SANDBOX,
	UP_BUILD,
	UP_DETACH,
	UP_KEEP_DISK,
	UP_ENGINE,
	UP_JAIL,
	UP_BOOT_TIMEOUT,
	UP_QUIET,
};

const struct cli_opt up_opts[] = {
	[UP_FILE] = PROJECT_OPT_FILE,
	[UP_SANDBOX] = { "sandbox", NULL, "s", NULL,
			 "the names are sandboxes' (they always are; accepted for compatibility)" },
	[UP_BUILD] = { "build", NULL, "b", NULL, "refused: builds are not started" },
	[UP_DETACH] = { "detach", NULL, "d", NULL,
			"return when all are ready: see msb log, msb status, msb down" },
	[UP_KEEP_DISK] = { "keep-disk", NULL, "", NULL,
			   "go on with what was written although an image is another one" },
	[UP_ENGINE] = BOX_OPT_ENGINE,
	[UP_JAIL] = BOX_OPT_JAIL,
	[UP_BOOT_TIMEOUT] = BOX_OPT_BOOT_TIMEOUT,
	[UP_QUIET] = BOX_OPT_QUIET,
	{ NULL },
};

enum down_opt { DOWN_FILE, DOWN_SANDBOX, DOWN_BUILD, DOWN_TIMEOUT, DOWN_QUIET };

const struct cli_opt down_opts[] = {
	[DOWN_FILE] = PROJECT_OPT_FILE,
	[DOWN_SANDBOX] = { "sandbox", NULL, "s", NULL,
			   "the names are sandboxes' (accepted for compatibility)" },
	[DOWN_BUILD] = { "build", NULL, "b", NULL, "refused: builds are not started" },
	[DOWN_TIMEOUT] = { "timeout", NULL, "t", "TIME",
			   "processes may take so long to end, at most 10s (the default)" },
	[DOWN_QUIET] = { "quiet", NULL, "q", NULL, "no notices" },
	{ NULL },
};

struct up {
	const struct cli_command *cmd;
	const char *file;
	struct plan_start start;
	uint64_t grace_ms;
	bool detach, keep_disk, quiet;
	struct project_view v;
	const struct sandboxfile_sandbox **order;
	size_t n_order;
	struct up_box *boxes; /* in that order */
};

struct up_box {
	const struct sandboxfile_sandbox *s;
	int conn; /* its owner's connection, until it is known to be ready */
	int dirfd;
	bool started; /* by us */
};

static int up_parse_option(struct up *u, int opt, const char *v)
{
	switch (opt) {
	case UP_FILE:
		u->file = v;
		return 0;
	case UP_BUILD:
		return cli_usage(u->cmd, "--build is not supported: a build cannot be started");
	case UP_DETACH:
		u->detach = true;
		return 0;
	case UP_KEEP_DISK:
		u->keep_disk = true;
		return 0;
	case UP_ENGINE:
		return cli_one_of(u->cmd, "engine", v, cli_engines, &u->start.engine);
	case UP_JAIL:
		return cli_one_of(u->cmd, "jail", v, cli_jails, &u->start.jail);
	case UP_BOOT_TIMEOUT:
		return cli_boot_timeout(u->cmd, v, &u->start.boot_timeout_s);
	case UP_QUIET:
		u->quiet = true;
		return 0;
	default: /* UP_SANDBOX */
		return 0;
	}
}

static int down_parse_option(struct up *u, int opt, const char *v)
{
	switch (opt) {
	case DOWN_FILE:
		u->file = v;
		return 0;
	case DOWN_BUILD:
		return cli_usage(u->cmd, "--build is not supported: a build cannot be started");
	case DOWN_TIMEOUT:
		return cli_parse_duration(v, &u->grace_ms) || u->grace_ms > UP_GRACE_MS
			       ? cli_usage(u->cmd, "--timeout is '%s': give seconds, at most %u", v,
					   UP_GRACE_MS / 1000)
			       : 0;
	case DOWN_QUIET:
		u->quiet = true;
		return 0;
	default: /* DOWN_SANDBOX */
		return 0;
	}
}

/* Return: true: go on; false: an error, or --help was served, and *@status is to be returned. */
static bool up_parse(struct up *u, struct cli_args *a,
		     int (*parse)(struct up *u, int opt, const char *v), int *status)
{
	int opt;

	*status = 0;
	while (!*status && (opt = cli_args_next(a)) >= 0)
		*status = parse(u, opt, a->value);
	if (!*status && opt == CLI_OPT_END)
		return true;
	if (!*status)
		*status = cli_args_status(opt);
	return false;
}

/* ---- up --------------------------------------------------------------------------- */

/* One that was ready, and has ended before it could be asked, has left word of that. */
static int up_wait_ready(struct up_box *b, struct err *e)
{
	struct err why = ERR_INIT;
	struct box_state st;

	if (b->conn < 0 || !kept_wait_ready(take_fd(&b->conn), &why))
		return 0;
	if (why.code == EIO && !keep_wait(b->dirfd, KEEP_END_MS, NULL) &&
	    !keep_state(b->dirfd, &st, NULL) && st.ended_us) {
		if (st.ready_us)
			return 0;
		return err_set(e, EIO, "sandbox %s: %s", b->s->name, st.reason);
	}
	return err_set(e, why.code, "sandbox %s: %s", b->s->name, err_text(&why));
}

static int up_wait_port(const struct up *u, const struct sandboxfile_sandbox *s,
			const struct up_box *b, uint16_t port, struct err *e)
{
	struct err why = ERR_INIT;

	if (!u->quiet)
		cli_notice("%s waits for port %u of %s", s->name, port, b->s->name);
	if (!port_wait(b->dirfd, port, UP_PORT_MS, &why))
		return 0;
	return err_set(e, why.code, "sandbox %s depends on %s: %s", s->name, b->s->name,
		       err_text(&why));
}

/* What a sandbox depends on is ready before it is started, and serves its port if there is one. */
static int up_wait_for(struct up *u, const struct sandboxfile_sandbox *s, struct err *e)
{
	int rc = 0;

	for (size_t d = 0; d < s->depends_on.n && !rc; d++) {
		uint16_t port = s->depends_port ? s->depends_port[d] : 0;

		for (size_t i = 0; i < u->n_order && !rc; i++) {
			if (strcmp(u->order[i]->name, s->depends_on.v[d]))
				continue;
			rc = up_wait_ready(&u->boxes[i], e);
			if (!rc && port)
				rc = up_wait_port(u, s, &u->boxes[i], port, e);
		}
	}
	return rc;
}

static int up_open_dir(const struct up *u, const char *name, int *dirfd, struct err *e)
{
	auto_close int parent = open(u->v.menv, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

	return parent < 0 ? err_errno(e, errno, "cannot open %s", u->v.menv)
			  : keep_open(parent, name, dirfd, e);
}

static int up_start_one(struct up *u, struct up_box *b, struct err *e)
{
	const struct plan_run run = { .script = NULL };
	struct project_box p = { .s = NULL };
	bool already = false;
	int rc = up_wait_for(u, b->s, e);

	if (!rc)
		rc = project_box_init(&u->v, b->s, &u->start, &run, u->quiet, &p, e);
	if (!rc) {
		struct kept_run box = {
			.parent = u->v.menv,
			.name = b->s->name,
			.cfg = &p.cfg,
			.command = &p.command,
			.project = &u->v.p,
			.entry = b->s,
			.keep_disk = u->keep_disk,
			.quiet = u->quiet,
		};

		rc = kept_start(&box, plan_has_command(b->s), &already, &b->conn, e);
	}
	project_box_fini(&p);
	if (rc)
		return rc;
	b->started = !already;
	if (!u->quiet)
		cli_notice("%s %s", b->s->name, already ? "is running already" : "starts");
	return up_open_dir(u, b->s->name, &b->dirfd, e);
}

static int up_start_all(struct up *u, struct err *e)
{
	int rc = 0;

	for (size_t i = 0; i < u->n_order && !rc; i++)
		rc = up_start_one(u, &u->boxes[i], e);
	for (size_t i = 0; i < u->n_order && !rc; i++)
		rc = up_wait_ready(&u->boxes[i], e);
	return rc;
}

/* The exit status of a sandbox's own command, from what its supervisor left. */
static int up_exit_code(const struct up_box *b)
{
	struct box_state st;
	struct err e = ERR_INIT;

	if (keep_state(b->dirfd, &st, &e)) {
		cli_notice("%s: %s", b->s->name, err_text(&e));
		return CLI_FAILED;
	}
	if (st.has_exit && !st.exit_code)
		return 0;
	cli_notice("%s: %s", b->s->name, st.reason[0] ? st.reason : "it ended unexpectedly");
	return st.has_exit ? st.exit_code : CLI_FAILED;
}

static int down_all(struct up *u, bool only_started);

/* Each line with its sandbox's name in front, as wide as the longest. */
static int up_attached(struct up *u)
{
	auto_free struct follow_box *f = calloc(u->n_order ? u->n_order : 1, sizeof(*f));
	auto_free char(*prefix)[SANDBOXFILE_NAME_MAX + 4] =
		calloc(u->n_order ? u->n_order : 1, sizeof(*prefix));
	struct err e = ERR_INIT;
	size_t n = 0, width = 0;
	int rc, status = CLI_OK;

	if (!f || !prefix)
		return cli_fail(&(struct err){ .code = ENOMEM });
	for (size_t i = 0; i < u->n_order; i++)
		if (strlen(u->order[i]->name) > width)
			width = strlen(u->order[i]->name);
	for (size_t i = 0; i < u->n_order; i++) {
		struct up_box *b = &u->boxes[i];
		struct box_state st;

		/* One that does nothing by itself has nothing to say. */
		if (!b->started || !plan_has_command(b->s))
			continue;
		snprintf(prefix[n], sizeof(prefix[n]), "%-*s | ", (int)width, b->s->name);
		f[n].name = b->s->name;
		f[n].dirfd = b->dirfd;
		f[n].opts = (struct log_view_opts){ .prefix = prefix[n], .tail = LOG_VIEW_ALL };
		/* Not what it printed in an earlier life. */
		if (!keep_state(b->dirfd, &st, NULL))
			f[n].opts.since_us = st.started_us;
		n++;
	}
	rc = follow_run(f, n, &e);
	if (rc > 0) {
		if (!u->quiet)
			cli_notice("stopping (again: leave them)");
		down_all(u, true);
		return 128 + rc;
	}
	if (rc && rc != -EPIPE)
		return cli_fail(&e);
	for (size_t i = 0; i < u->n_order; i++) {
		struct up_box *b = &u->boxes[i];

		if (!plan_has_command(b->s) && !u->quiet)
			cli_notice("%s runs until `msb down`", b->s->name);
		else if (b->started && !rc && up_exit_code(b))
			status = 1;
	}
	return status;
}

static int up_run(struct up *u)
{
	struct err e = ERR_INIT;

	if (!u->n_order) {
		cli_notice("%s has no sandboxes: add one with msb add", u->v.p.path);
		return CLI_OK;
	}
	if (up_start_all(u, &e)) {
		cli_fail(&e);
		for (size_t i = 0; i < u->n_order; i++)
			if (u->boxes[i].started && !u->quiet && keep_running(u->boxes[i].dirfd) == 1)
				cli_notice("%s was started, and goes on", u->order[i]->name);
		return CLI_FAILED;
	}
	return u->detach ? CLI_OK : up_attached(u);
}

/* ---- down ------------------------------------------------------------------------- */

/* Return: 1: it was asked to end, *@dirfd is to be waited for; 0: it does not run. */
static int down_ask(struct up *u, const char *name, int *dirfd, struct err *e)
{
	auto_close int parent_fd = -1;
	auto_close int claimed = -1;
	struct err why = ERR_INIT;
	int conn = -1, rc = keep_lock(u->v.menv, false, &parent_fd, &why);

	if (rc == -ENOENT)
		return 0;
	if (rc)
		return err_set(e, why.code, "%s", err_text(&why));
	rc = keep_claim(parent_fd, name, false, &claimed, &why);
	if (!rc || rc == -ENOENT)
		return 0;
	if (rc != -EBUSY)
		return err_set(e, why.code, "%s", err_text(&why));
	rc = keep_open(parent_fd, name, dirfd, e);
	if (rc)
		return rc;
	rc = keep_connect(*dirfd, &conn, &why);
	/* At its end already. */
	if (rc == -ECONNREFUSED)
		return 1;
	if (!rc)
		rc = kept_ask_stop(conn, (unsigned)u->grace_ms, &why);
	/* One that does not even answer is killed when its time is over. */
	return !rc || rc == -ETIMEDOUT ? 1 : err_set(e, why.code, "%s", err_text(&why));
}

static int down_wait(const struct up *u, const char *name, int dirfd, struct err *e)
{
	int rc = keep_wait(dirfd, KEEP_END_MS, NULL);

	if (rc == -EBUSY) {
		cli_notice("%s does not end: its supervisor is killed", name);
		rc = kept_kill(dirfd, e);
		if (!rc)
			rc = keep_wait(dirfd, KEEP_END_MS, e);
	}
	if (!rc && !u->quiet)
		cli_notice("%s stopped", name);
	return rc;
}

/* In the reverse order of the start; all are asked before the first is waited for. */
static int down_all(struct up *u, bool only_started)
{
	auto_free int *dirs = calloc(u->n_order ? u->n_order : 1, sizeof(*dirs));
	int status = CLI_OK;

	if (!dirs)
		return cli_fail(&(struct err){ .code = ENOMEM });
	for (size_t i = u->n_order; i-- > 0;) {
		struct err e = ERR_INIT;
		int rc;

		dirs[i] = -1;
		if (only_started && !u->boxes[i].started)
			continue;
		rc = down_ask(u, u->order[i]->name, &dirs[i], &e);
		if (rc < 0)
			status = cli_fail(&e);
		if (rc <= 0)
			close_fd(&dirs[i]);
	}
	for (size_t i = u->n_order; i-- > 0;) {
		struct err e = ERR_INIT;

		if (dirs[i] >= 0 && down_wait(u, u->order[i]->name, dirs[i], &e))
			status = cli_fail(&e);
		close_fd(&dirs[i]);
	}
	return status;
}

/* ---- commands --------------------------------------------------------------------- */

static void up_fini(struct up *u)
{
	for (size_t i = 0; u->boxes && i < u->n_order; i++) {
		close_fd(&u->boxes[i].conn);
		close_fd(&u->boxes[i].dirfd);
	}
	free(u->boxes);
	free(u->order);
	project_close(&u->v);
}

/* @with_deps: those that the named ones depend on belong to them. */
static int up_open(struct up *u, const struct cli_args *a, bool with_deps, struct err *e)
{
	int rc = project_open(u->file, u->quiet, &u->v, e);
	size_t n = rc ? 0 : u->v.p.file->n_sandboxes;

	if (rc)
		return rc;
	u->order = calloc(n ? n : 1, sizeof(*u->order));
	u->boxes = calloc(n ? n : 1, sizeof(*u->boxes));
	if (!u->order || !u->boxes)
		return err_errno(e, ENOMEM, "project");
	rc = sandboxfile_order(u->v.p.file, (const char *const *)a->words, (size_t)a->n_words,
			       u->order, &n, e);
	if (rc)
		return rc;
	for (size_t i = 0; i < n; i++) {
		bool named = !a->n_words || with_deps;

		for (int w = 0; w < a->n_words; w++)
			named = named || !strcmp(a->words[w], u->order[i]->name);
		if (!named)
			continue;
		u->order[u->n_order] = u->order[i];
		u->boxes[u->n_order++] =
			(struct up_box){ .s = u->order[i], .conn = -1, .dirfd = -1 };
	}
	return 0;
}

int cmd_up(const struct cli_command *cmd, int argc, char **argv)
{
	struct up u = { .cmd = cmd, .grace_ms = UP_GRACE_MS };
	struct err e = ERR_INIT;
	struct cli_args a;
	int status;

	cli_args_init(&a, cmd, argc, argv);
	if (!up_parse(&u, &a, up_parse_option, &status))
		return status;
	status = up_open(&u, &a, true, &e) ? cli_fail(&e) : up_run(&u);
	up_fini(&u);
	return status;
}

int cmd_down(const struct cli_command *cmd, int argc, char **argv)
{
	struct up u = { .cmd = cmd, .grace_ms = UP_GRACE_MS };
	struct err e = ERR_INIT;
	struct cli_args a;
	int status;

	cli_args_init(&a, cmd, argc, argv);
	if (!up_parse(&u, &a, down_parse_option, &status))
		return status;
	status = up_open(&u, &a, false, &e) ? cli_fail(&e) : down_all(&u, false);
	up_fini(&u);
	return status;
}

/* Nothing is stopped that could not be started again for want of a secret's value. */
static int up_check_secrets(const struct up *u, struct err *e)
{
	struct secret_list l = { .v = NULL };
	int rc = 0;

	for (size_t i = 0; i < u->n_order && !rc; i++) {
		rc = project_secrets(&u->v.p, u->order[i], &l, e);
		secret_list_fini(&l);
	}
	return rc;
}

int cmd_restart(const struct cli_command *cmd, int argc, char **argv)
{
	struct up u = { .cmd = cmd, .grace_ms = UP_GRACE_MS, .detach = true };
	struct err e = ERR_INIT;
	struct cli_args a;
	int status;

	cli_args_init(&a, cmd, argc, argv);
	if (!up_parse(&u, &a, up_parse_option, &status))
		return status;
	if (up_open(&u, &a, false, &e) || up_check_secrets(&u, &e))
		status = cli_fail(&e);
	else if (!(status = down_all(&u, false)))
		status = up_run(&u);
	up_fini(&u);
	return status;
}
