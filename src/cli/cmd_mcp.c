/* SPDX-License-Identifier: Apache-2.0 */
/* `msb mcp`: sandboxes for a desktop agent, on standard input and output. */
#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "cli/cli.h"
#include "server/server.h"
#include "sys/parts.h"

#define MCP_SANDBOXES_MAX 32u
#define MCP_NS_PREFIX "agent-" /* and our process id */

enum mcp_opt {
	MCP_PATH,
	MCP_NAMESPACE,
	MCP_KEEP,
	MCP_MAX_SANDBOXES,
	MCP_JAIL,
	MCP_PUBLISH,
	MCP_LOG_LEVEL
};

const struct cli_opt mcp_opts[] = {
	[MCP_PATH] = { "path", NULL, "p", "DIR",
		       "where sandboxes are kept (default ~/.microsandbox/mcp)" },
	[MCP_NAMESPACE] = { "namespace", NULL, "n", "NAME",
			    "the namespace of its sandboxes (default: one of its own; with --keep "
			    "default)" },
	[MCP_KEEP] = { "keep", NULL, "", NULL,
		       "leave sandboxes running at the end; the next one finds them" },
	[MCP_MAX_SANDBOXES] = { "max-sandboxes", NULL, "", "N",
				"at most so many at once (default 32)" },
	[MCP_JAIL] = { "jail", NULL, "", "MODE",
		       "full, or reduced where namespaces are refused (default full)" },
	[MCP_PUBLISH] = { "publish", NULL, "", "WHERE",
			  "where sandboxes may publish ports: local, any, none (default local)" },
	[MCP_LOG_LEVEL] = { "log-level", NULL, "", "LEVEL",
			    "error, warn, info or debug, on standard error (default warn)" },
	{ NULL },
};

/* Directories of agents that were killed. Those that are not empty, or in use, stay. */
static void mcp_sweep(const char *path)
{
	DIR *dir = opendir(path);
	struct dirent *d;

	while (dir && (d = readdir(dir))) {
		auto_free char *menv = NULL;
		uint64_t pid;

		if (strncmp(d->d_name, MCP_NS_PREFIX, strlen(MCP_NS_PREFIX)) ||
		    cli_parse_uint(d->d_name + strlen(MCP_NS_PREFIX), INT32_MAX, &pid) ||
		    !kill((pid_t)pid, 0) || errno != ESRCH ||
		    asprintf(&menv, "%s/%s/menv", path, d->d_name) < 0)
			continue;
		rmdir(menv);
		*strrchr(menv, '/') = '\0';
		rmdir(menv);
	}
	if (dir)
		closedir(dir);
}

static int mcp_parse_option(const struct cli_command *cmd, struct server_options *o,
			    enum log_level *level, int opt, const char *v)
{
	uint64_t n;

	switch (opt) {
	case MCP_PATH:
		o->path = v;
		return 0;
	case MCP_NAMESPACE:
		o->ns = v;
		if (!cli_is_name(v))
			return cli_usage(cmd, "--namespace is '%s': letters, digits, - and _", v);
		return 0;
	case MCP_KEEP:
		o->keep = true;
		return 0;
	case MCP_MAX_SANDBOXES:
		if (cli_parse_uint(v, 10000, &n) || !n)
			return cli_usage(cmd, "--max-sandboxes is '%s': give a number from 1", v);
		o->max_sandboxes = (unsigned)n;
		return 0;
	case MCP_JAIL:
		return cli_one_of(cmd, "jail", v, cli_jails, &o->jail);
	case MCP_PUBLISH:
		return cli_one_of(cmd, "publish", v, cli_publish, &o->publish);
	default: /* MCP_LOG_LEVEL */
		if (log_level_parse(v, level))
			return cli_usage(cmd, "--log-level is '%s': error, warn, info or debug", v);
		return 0;
	}
}

int cmd_mcp(const struct cli_command *cmd, int argc, char **argv)
{
	struct server_options o = { .stdio = true,
				    .max_sandboxes = MCP_SANDBOXES_MAX,
				    .jail = "full",
				    .publish = "local",
				    .ready_fd = -1 };
	enum log_level level = LOG_WARN;
	auto_free char *home = NULL;
	auto_free char *path = NULL;
	struct err e = ERR_INIT;
	struct cli_args args;
	char own[32];
	int opt, rc;

	cli_args_init(&args, cmd, argc, argv);
	while ((opt = cli_args_next(&args)) >= 0) {
		rc = mcp_parse_option(cmd, &o, &level, opt, args.value);
		if (rc)
			return rc;
	}
	if (opt != CLI_OPT_END)
		return cli_args_status(opt);
	if (args.n_words)
		return cli_usage(cmd, "unexpected argument '%s'", args.words[0]);
	if (parts_home(&home, &e))
		return cli_fail(&e);
	if (!o.path && asprintf(&path, "%s/mcp", home) < 0) {
		path = NULL;
		err_errno(&e, ENOMEM, "mcp");
		return cli_fail(&e);
	}
	o.home = home;
	o.path = o.path ? o.path : path;
	snprintf(own, sizeof(own), MCP_NS_PREFIX "%d", getpid());
	if (!o.ns)
		o.ns = o.keep ? "default" : own;
	mcp_sweep(o.path);
	if (isatty(STDIN_FILENO))
		cli_notice("this speaks MCP, one JSON message a line, for a program that starts it "
			   "(Ctrl-D ends it)");
	log_init(STDERR_FILENO, level, "mcp");
	return server_run(&o, &e) ? cli_fail(&e) : CLI_OK;
}
