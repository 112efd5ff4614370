/* SPDX-License-Identifier: Apache-2.0 */
/* `msb run` (`r`, msr), `shell` and `exec`: a command in a sandbox of a project. */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "cli/box_opts.h"
#include "cli/cli.h"
#include "cli/project_open.h"
#include "cli/project_opts.h"
#include "cli/terminal.h"

enum run_opt {
	RUN_FILE,
	RUN_SANDBOX,
	RUN_BUILD,
	RUN_DETACH,
	RUN_EXEC,
	RUN_WORKDIR,
	RUN_USER,
	RUN_TIMEOUT,
	RUN_KEEP_DISK,
	RUN_TTY,
	RUN_NO_TTY,
	RUN_ENGINE,
	RUN_JAIL,
	RUN_BOOT_TIMEOUT,
	RUN_QUIET,
};

const struct cli_opt run_opts[] = {
	[RUN_FILE] = PROJECT_OPT_FILE,
	[RUN_SANDBOX] = { "sandbox", NULL, "s", NULL,
			  "the name is a sandbox's (it always is; accepted for compatibility)" },
	[RUN_BUILD] = { "build", NULL, "b", NULL, "refused: builds are not run" },
	[RUN_DETACH] = { "detach", NULL, "d", NULL,
			 "in the background: see msb log, msb status, msb down" },
	[RUN_EXEC] = { "exec", NULL, "ex", "PROGRAM", "run this program instead" },
	[RUN_WORKDIR] = { "workdir", NULL, "", "DIR", "directory to start in" },
	[RUN_USER] = { "user", NULL, "u", "USER", "name, uid, name:group or uid:gid" },
	[RUN_TIMEOUT] = BOX_OPT_TIMEOUT,
	[RUN_KEEP_DISK] = { "keep-disk", NULL, "", NULL,
			    "go on with what it wrote although its image is another one" },
	[RUN_TTY] = BOX_OPT_TTY,
	[RUN_NO_TTY] = BOX_OPT_NO_TTY,
	[RUN_ENGINE] = BOX_OPT_ENGINE,
	[RUN_JAIL] = BOX_OPT_JAIL,
	[RUN_BOOT_TIMEOUT] = BOX_OPT_BOOT_TIMEOUT,
	[RUN_QUIET] = BOX_OPT_QUIET,
	{ NULL },
};

struct run {
	const struct cli_command *cmd;
	const char *file, *name;
	struct plan_run what;
	struct plan_start start;
	uint64_t timeout_ms;
	bool detach, keep_disk, tty, no_tty, quiet;
	bool only_running;
};

static int run_parse_option(struct run *r, int opt, const char *v)
{
	switch (opt) {
	case RUN_FILE:
		r->file = v;
		return 0;
	case RUN_BUILD:
		return cli_usage(r->cmd, "--build is not supported: a build cannot be run");
	case RUN_DETACH:
		r->detach = true;
		return 0;
	case RUN_EXEC:
		r->what.program = v;
		return *v ? 0 : cli_usage(r->cmd, "--exec needs a program");
	case RUN_WORKDIR:
		r->what.workdir = v;
		return *v == '/' ? 0
				 : cli_usage(r->cmd, "--workdir is '%s': give an absolute path", v);
	case RUN_USER:
		r->what.user = v;
		return 0;
	case RUN_TIMEOUT:
		if (cli_parse_duration(v, &r->timeout_ms) || !r->timeout_ms)
			return cli_usage(r->cmd, "--timeout is '%s': give seconds, or 1.5s, 2m, 1h",
					 v);
		return 0;
	case RUN_KEEP_DISK:
		r->keep_disk = true;
		return 0;
	case RUN_TTY:
		r->tty = true;
		return 0;
	case RUN_NO_TTY:
		r->no_tty = true;
		return 0;
	case RUN_ENGINE:
		return cli_one_of(r->cmd, "engine", v, cli_engines, &r->start.engine);
	case RUN_JAIL:
		return cli_one_of(r->cmd, "jail", v, cli_jails, &r->start.jail);
	case RUN_BOOT_TIMEOUT:
		return cli_boot_timeout(r->cmd, v, &r->start.boot_timeout_s);
	case RUN_QUIET:
		r->quiet = true;
		return 0;
	default: /* RUN_SANDBOX */
		return 0;
	}
}

/* Return: 0, or the status to end with; r->name NULL: --help was served. */
static int run_parse(struct run *r, struct cli_args *a)
{
	char *tilde;
	int opt, rc;

	while ((opt = cli_args_next(a)) >= 0) {
		rc = run_parse_option(r, opt, a->value);
		if (rc)
			return rc;
	}
	if (opt != CLI_OPT_END)
		return cli_args_status(opt);
	if (a->n_words != 1)
		return a->n_words ? cli_usage(r->cmd,
					      "unexpected argument '%s': what the program is to "
					      "get stands behind --",
					      a->words[1])
				  : cli_usage(r->cmd, "which sandbox? See msb list");
	tilde = strchr(a->words[0], '~');
	if (tilde) {
		*tilde = '\0';
		if (r->what.script)
			return cli_usage(r->cmd, "give a sandbox, not a script");
		r->what.script = tilde + 1;
	}
	if (r->what.script && r->what.program)
		return cli_usage(r->cmd, "give either ~SCRIPT or --exec, not both");
	if (r->detach && (r->tty || r->timeout_ms))
		return cli_usage(r->cmd, "--detach goes with neither --tty nor --timeout");
	if (r->only_running && r->detach)
		return cli_usage(r->cmd, "--detach: see msb run");
	if (r->only_running && !r->what.program)
		return cli_usage(r->cmd, "which command? As in: msb exec %s -- ls /", a->words[0]);
	r->name = a->words[0];
	r->what.args = a->n_rest ? a->rest : NULL;
	return 0;
}

static int run_detached(struct run *r, struct kept_run *box)
{
	struct err e = ERR_INIT;
	bool already;
	int conn = -1;

	if (kept_start(box, true, &already, &conn, &e))
		return cli_fail(&e);
	close_fd(&conn);
	if (already) {
		cli_error("sandbox %s is running already: run a command in it without --detach, or "
			  "stop it with `msb down %s`",
			  r->name, r->name);
		return CLI_FAILED;
	}
	return CLI_OK;
}

static int run_in(struct run *r, const struct project_view *v)
{
	const struct sandboxfile_sandbox *s;
	struct project_box b = { .s = NULL };
	struct err e = ERR_INIT;
	int status;

	if (r->tty)
		r->what.term = getenv("TERM");
	if (sandboxfile_need(v->p.file, r->name, &s, &e) ||
	    project_box_init(v, s, &r->start, &r->what, r->quiet, &b, &e)) {
		status = cli_fail(&e);
	} else {
		struct kept_run box = {
			.parent = v->menv,
			.name = r->name,
			.cfg = &b.cfg,
			.command = &b.command,
			.project = &v->p,
			.entry = s,
			.timeout_ms = r->timeout_ms ? r->timeout_ms : s->timeout_ms,
			.keep_disk = r->keep_disk,
			.only_running = r->only_running,
			.tty = r->tty,
			.quiet = r->quiet,
		};

		status = r->detach ? run_detached(r, &box) : kept_run(&box);
	}
	project_box_fini(&b);
	return status;
}

static int run_main(struct run *r, struct cli_args *a)
{
	struct project_view v;
	struct err e = ERR_INIT;
	int status = run_parse(r, a);

	if (status || !r->name)
		return status;
	r->tty = !r->detach && (r->tty || (!r->no_tty && terminal_interactive()));
	status = project_open(r->file, r->quiet, &v, &e) ? cli_fail(&e) : run_in(r, &v);
	project_close(&v);
	return status;
}

int cmd_run(const struct cli_command *cmd, int argc, char **argv)
{
	struct run r = { .cmd = cmd };
	struct cli_args a;

	cli_args_init(&a, cmd, argc, argv);
	return run_main(&r, &a);
}

/* The program is the first of what stands behind "--", as in docker exec. */
int cmd_exec(const struct cli_command *cmd, int argc, char **argv)
{
	struct run r = { .cmd = cmd, .only_running = true };
	struct cli_args a;

	cli_args_init(&a, cmd, argc, argv);
	if (a.n_rest) {
		r.what.program = a.rest[0];
		a.rest++;
		a.n_rest--;
	}
	return run_main(&r, &a);
}

int cmd_shell(const struct cli_command *cmd, int argc, char **argv)
{
	struct run r = { .cmd = cmd, .what.script = "shell" };
	struct cli_args a;

	cli_args_init(&a, cmd, argc, argv);
	return run_main(&r, &a);
}
