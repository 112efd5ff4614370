/* SPDX-License-Identifier: Apache-2.0 */
/* `msb exe` (`x`, msx): one command in a throw-away sandbox. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "cli/box_opts.h"
#include "cli/cli.h"
#include "cli/image_find.h"
#include "cli/net_opts.h"
#include "cli/secret_opts.h"
#include "cli/session.h"
#include "cli/terminal.h"
#include "engine/engine.h"
#include "lib/groups.h"
#include "lib/imageconfig.h"
#include "lib/launch.h"
#include "lib/volumes.h"
#include "sys/parts.h"

#define EXE_MEMORY_DEFAULT (512ull << 20)
#define EXE_DISK_DEFAULT (4ull << 30)
#define EXE_DISK_MIN (16ull << 20)
#define EXE_DISK_MAX (16ull << 40)
#define EXE_BOOT_TIMEOUT_S 60u
#define EXE_END_TIMEOUT_MS 10000u

enum exe_opt {
	EXE_CPUS,
	EXE_MEMORY,
	EXE_DISK,
	EXE_VOLUME,
	EXE_TMPFS,
	EXE_VOLUME_TIMEOUT,
	EXE_PORT,
	EXE_ENV,
	EXE_SECRET,
	EXE_WORKDIR,
	EXE_USER,
	EXE_SCOPE,
	EXE_GROUP,
	EXE_NAME,
	EXE_NET_ALLOW,
	EXE_NET_DENY,
	EXE_NET_DEFAULT,
	EXE_NET_LIMIT,
	EXE_NET_LOG,
	EXE_EXEC,
	EXE_TIMEOUT,
	EXE_ENGINE,
	EXE_KERNEL,
	EXE_BOOT_TIMEOUT,
	EXE_JAIL,
	EXE_RLIMIT,
	EXE_TTY,
	EXE_NO_TTY,
	EXE_IMAGE,
	EXE_PULL,
	EXE_QUIET,
};

const struct cli_opt exe_opts[] = {
	[EXE_CPUS] = BOX_OPT_CPUS,
	[EXE_MEMORY] = BOX_OPT_MEMORY,
	[EXE_DISK] = BOX_OPT_DISK,
	[EXE_PORT] = { "port", NULL, "p", "[ADDR:]HOST:GUEST",
		       "publish a port on 127.0.0.1 or ADDR; /udp, ranges, HOST 0 = any "
		       "(repeatable)" },
	[EXE_VOLUME] = BOX_OPT_VOLUME,
	[EXE_TMPFS] = BOX_OPT_TMPFS,
	[EXE_VOLUME_TIMEOUT] = { "volume-timeout", NULL, "", "TIME",
				 "give up volumes whose file server is silent (default 30s)" },
	[EXE_ENV] = BOX_OPT_ENV,
	[EXE_SECRET] = { "secret", NULL, "", "NAME@HOST[:PORT],…",
			 "a placeholder in the sandbox, our variable's value in plain HTTP "
			 "requests "
			 "to HOST; NAME=env:VAR@…, NAME=file:PATH@… (repeatable)" },
	[EXE_WORKDIR] = BOX_OPT_WORKDIR,
	[EXE_USER] = BOX_OPT_USER,
	[EXE_SCOPE] = { "scope", NULL, "", "SCOPE", "network: none, group, public (default), any" },
	[EXE_GROUP] = { "group", NULL, "", "GROUP",
			"scope group: the sandboxes of GROUP, by name, and nobody else" },
	[EXE_NAME] = { "name", NULL, "", "NAME", "the sandbox's name (default: a random one)" },
	[EXE_NET_ALLOW] = { "net-allow", NULL, "", "RULE",
			    "open a target: 'tcp example.org:443' (repeatable, first match "
			    "counts)" },
	[EXE_NET_DENY] = { "net-deny", NULL, "", "RULE", "shut a target: 'any:25', '10.0.0.0/8'" },
	[EXE_NET_DEFAULT] = { "net-default", NULL, "", "ACTION",
			      "where no rule matches: allow, deny, 'in deny' (default: the "
			      "scope)" },
	[EXE_NET_LIMIT] = { "net-limit", NULL, "", "LIMIT",
			    "'in-bytes 10M', 'connects 50': a second; 'connections 20' "
			    "(repeatable)" },
	[EXE_NET_LOG] = { "net-log", NULL, "", "FILE",
			  "append what the network denied to FILE; - = standard error" },
	[EXE_EXEC] = { "exec", NULL, "ex", "PROGRAM", "run this program instead of the image's" },
	[EXE_TIMEOUT] = BOX_OPT_TIMEOUT,
	[EXE_ENGINE] = BOX_OPT_ENGINE,
	[EXE_KERNEL] = { "kernel", NULL, "", "FILE", "boot this vmlinux instead of ours" },
	[EXE_BOOT_TIMEOUT] = BOX_OPT_BOOT_TIMEOUT,
	[EXE_JAIL] = BOX_OPT_JAIL,
	[EXE_RLIMIT] = { "rlimit", NULL, "", "NAME=SOFT[:HARD]",
			 "resource limit of the command, e.g. nofile=1024 (repeatable)" },
	[EXE_TTY] = BOX_OPT_TTY,
	[EXE_NO_TTY] = BOX_OPT_NO_TTY,
	[EXE_IMAGE] = { "image", NULL, "i", NULL,
			"the argument is an image (it always is; accepted for compatibility)" },
	[EXE_PULL] = { "pull", NULL, "", "WHEN",
		       "ask a registry for the image: missing (default), always, never" },
	[EXE_QUIET] = BOX_OPT_QUIET,
	{ NULL },
};

struct exe {
	const struct cli_command *cmd;
	const char *image, *script, *program;
	const char *workdir, *user, *scope, *engine, *kernel, *jail;
	const char *group, *name, *net_log; /* NULL = none */
	uint64_t cpus, memory, disk, timeout_ms, volume_timeout_ms;
	unsigned boot_timeout_s;
	struct volume_list volumes;
	bool quiet, tty, no_tty;
	enum image_pull pull;
	struct buf env_bytes, argv_bytes, rlimit_bytes;
	struct frame_list env, argv, rlimits;
	struct netpolicy network;
	struct publish_list ports;
	struct secret_list secrets;
	char **args; /* behind "--"; NULL = none */
	int n_args;
};

static int exe_parse_limits(struct exe *x, int opt, const char *v)
{
	static const char *const names[] = {
		[EXE_CPUS] = "cpus", [EXE_MEMORY] = "memory", [EXE_DISK] = "disk"
	};
	switch (opt) {
	case EXE_CPUS:
		if (cli_parse_uint(v, ENGINE_CPUS_MAX, &x->cpus) || !x->cpus)
			return cli_usage(x->cmd, "--cpus is '%s': give a number from 1 to %u", v,
					 ENGINE_CPUS_MAX);
		return 0;
	case EXE_MEMORY:
		if (!cli_parse_memory(v, &x->memory) && x->memory >= ENGINE_MEMORY_MIN &&
		    x->memory <= ENGINE_MEMORY_MAX)
			return 0;
		return cli_usage(
			x->cmd,
			"--%s is '%s': give MiB or a size such as 512M or 2G, at least 128M",
			names[opt], v);
	default:
		if (!cli_parse_memory(v, &x->disk) && x->disk >= EXE_DISK_MIN &&
		    x->disk <= EXE_DISK_MAX)
			return 0;
		return cli_usage(
			x->cmd,
			"--%s is '%s': give MiB or a size such as 512M or 10G, at least 16M",
			names[opt], v);
	}
}

static int exe_parse_port(struct exe *x, const char *v)
{
	struct err e = ERR_INIT;

	return publish_add(&x->ports, v, &e) ? cli_usage(x->cmd, "--port: %s", err_text(&e)) : 0;
}

static int exe_add_volume(struct exe *x, bool tmpfs, const char *v)
{
	struct volume volume;
	struct err e = ERR_INIT;

	if (volume_parse(v, tmpfs, &volume, &e) || volume_list_add(&x->volumes, &volume, &e))
		return cli_usage(x->cmd, "%s", err_text(&e));
	return 0;
}

static int exe_parse_network(struct exe *x, int opt, const char *v)
{
	static const char *const scopes[] = { "none", "public", "any", "group", NULL };

	switch (opt) {
	case EXE_SCOPE:
		return cli_one_of(x->cmd, "scope", v, scopes, &x->scope);
	case EXE_GROUP:
	case EXE_NAME:
		*(opt == EXE_GROUP ? &x->group : &x->name) = v;
		return cli_is_name(v) ? 0
				      : cli_usage(x->cmd,
						  "--%s is '%s': give up to 63 letters, digits, - "
						  "and _",
						  exe_opts[opt].name, v);
	case EXE_NET_LOG:
		x->net_log = v;
		return *v ? 0 : cli_usage(x->cmd, "--net-log needs a file, or -");
	case EXE_NET_ALLOW:
		return net_opts_add(x->cmd, "net-allow", "allow", v, &x->network);
	case EXE_NET_DENY:
		return net_opts_add(x->cmd, "net-deny", "deny", v, &x->network);
	case EXE_NET_DEFAULT:
		return net_opts_add(x->cmd, "net-default", "default", v, &x->network);
	default:
		return net_opts_add(x->cmd, "net-limit", "limit", v, &x->network);
	}
}

static int exe_parse_option(struct exe *x, int opt, const char *v)
{
	const char *eq;

	switch (opt) {
	case EXE_CPUS:
	case EXE_MEMORY:
	case EXE_DISK:
		return exe_parse_limits(x, opt, v);
	case EXE_VOLUME:
	case EXE_TMPFS:
		return exe_add_volume(x, opt == EXE_TMPFS, v);
	case EXE_VOLUME_TIMEOUT:
		if (cli_parse_duration(v, &x->volume_timeout_ms) || x->volume_timeout_ms < 1000 ||
		    x->volume_timeout_ms > SANDBOX_VOLUME_TIMEOUT_MAX_S * 1000ull)
			return cli_usage(x->cmd,
					 "--volume-timeout is '%s': give seconds, at least 1", v);
		return 0;
	case EXE_PORT:
		return exe_parse_port(x, v);
	case EXE_ENV:
		eq = strchr(v, '=');
		if (!eq || eq == v)
			return cli_usage(x->cmd, "--env is '%s': give KEY=VALUE", v);
		if (frame_list_add(&x->env_bytes, &x->env, v, strlen(v)))
			return cli_usage(x->cmd, "--env: too much");
		return 0;
	case EXE_SECRET:
		return secret_opts_add(x->cmd, v, &x->secrets);
	case EXE_RLIMIT:
		eq = strchr(v, '=');
		if (!eq || eq == v || !eq[1])
			return cli_usage(x->cmd, "--rlimit is '%s': give NAME=SOFT[:HARD]", v);
		if (frame_list_add(&x->rlimit_bytes, &x->rlimits, v, strlen(v)))
			return cli_usage(x->cmd, "--rlimit: too much");
		return 0;
	case EXE_WORKDIR:
		x->workdir = v;
		return *v == '/' ? 0
				 : cli_usage(x->cmd, "--workdir is '%s': give an absolute path", v);
	case EXE_USER:
		x->user = v;
		return 0;
	case EXE_SCOPE:
	case EXE_GROUP:
	case EXE_NAME:
	case EXE_NET_LOG:
	case EXE_NET_ALLOW:
	case EXE_NET_DENY:
	case EXE_NET_DEFAULT:
	case EXE_NET_LIMIT:
		return exe_parse_network(x, opt, v);
	case EXE_EXEC:
		x->program = v;
		return *v ? 0 : cli_usage(x->cmd, "--exec needs a program");
	case EXE_TIMEOUT:
		if (cli_parse_duration(v, &x->timeout_ms) || !x->timeout_ms)
			return cli_usage(x->cmd, "--timeout is '%s': give seconds, or 1.5s, 2m, 1h",
					 v);
		return 0;
	case EXE_BOOT_TIMEOUT:
		return cli_boot_timeout(x->cmd, v, &x->boot_timeout_s);
	case EXE_ENGINE:
		return cli_one_of(x->cmd, "engine", v, cli_engines, &x->engine);
	case EXE_KERNEL:
		x->kernel = v;
		return 0;
	case EXE_JAIL:
		return cli_one_of(x->cmd, "jail", v, cli_jails, &x->jail);
	case EXE_TTY:
		x->tty = true;
		return 0;
	case EXE_NO_TTY:
		x->no_tty = true;
		return 0;
	case EXE_PULL:
		if (image_pull_parse(v, &x->pull))
			return cli_usage(x->cmd, "--pull is '%s': use missing, always or never", v);
		return 0;
	case EXE_QUIET:
		x->quiet = true;
		return 0;
	default: /* EXE_IMAGE */
		return 0;
	}
}

static int exe_parse(struct exe *x, struct cli_args *a)
{
	char *tilde;
	int opt, rc;

	while ((opt = cli_args_next(a)) >= 0) {
		rc = exe_parse_option(x, opt, a->value);
		if (rc)
			return rc;
	}
	if (opt != CLI_OPT_END)
		return cli_args_status(opt);
	if (!a->n_words)
		return cli_usage(x->cmd, "which image? For example: msx python");
	if (a->n_words > 1)
		return cli_usage(
			x->cmd,
			"unexpected argument '%s': what the program is to get stands behind --, "
			"as in: %s %s -- %s",
			a->words[1], cli_program, a->words[0], a->words[1]);
	x->image = a->words[0];
	tilde = strchr(a->words[0], '~');
	if (tilde) {
		*tilde = '\0';
		x->script = tilde + 1;
		if (strcmp(x->script, "shell"))
			return cli_usage(x->cmd,
					 "image %s has no script '%s': an image by itself has only "
					 "~shell",
					 x->image, x->script);
		if (x->program)
			return cli_usage(x->cmd, "give either ~SCRIPT or --exec, not both");
	}
	if (!*x->image)
		return cli_usage(x->cmd, "the image's name is empty");
	/* Who names a group wants to be in it. */
	if (x->group && !x->scope)
		x->scope = "group";
	if (!x->scope)
		x->scope = "public";
	if (!strcmp(x->scope, "group") != !!x->group)
		return cli_usage(x->cmd, "--scope group and --group NAME go together");
	if (x->ports.n && !strcmp(x->scope, "none"))
		return cli_usage(x->cmd, "--port needs a network, and --scope none has none");
	x->args = a->n_rest ? a->rest : NULL;
	x->n_args = a->n_rest;
	return 0;
}

static int exe_add(struct exe *x, const char *word, struct err *e)
{
	if (frame_list_add(&x->argv_bytes, &x->argv, word, strlen(word)))
		return err_set(e, E2BIG,
			       "the arguments are too long (limit %u bytes together): pass the "
			       "data on standard input",
			       FRAME_BODY_MAX);
	return 0;
}

static int exe_add_all(struct exe *x, char *const *words, struct err *e)
{
	int rc = 0;

	for (; words && *words && !rc; words++)
		rc = exe_add(x, *words, e);
	return rc;
}

/* As whom the command runs. */
static const char *exe_user(const struct exe *x, const struct image *image)
{
	return x->user ? x->user : image->config.user;
}

/*
 * What runs: --exec, else ~shell, else the image's Entrypoint (kept whole, arguments
 * replace Cmd), else Cmd (arguments replace what follows its first word), else a shell.
 */
static int exe_build_argv(struct exe *x, const struct image_config *c, struct err *e)
{
	bool has_entry = c->entrypoint && c->entrypoint[0], has_cmd = c->cmd && c->cmd[0];
	int rc;

	if (x->program)
		rc = exe_add(x, x->program, e);
	else if (x->script || (!has_entry && !has_cmd))
		rc = exe_add(x, "/bin/sh", e);
	else if (has_entry)
		rc = exe_add_all(x, c->entrypoint, e);
	else
		rc = exe_add(x, c->cmd[0], e);
	if (rc)
		return rc;
	if (x->args)
		return exe_add_all(x, x->args, e);
	if (x->program || x->script || !has_cmd)
		return 0;
	return exe_add_all(x, has_entry ? c->cmd : c->cmd + 1, e);
}

static int exe_build_env(struct exe *x, const struct image_config *c, struct err *e)
{
	struct buf all = BUF_INIT;
	struct frame_list list = { .p = NULL }, given = x->env;
	const char *term = getenv("TERM");
	char term_var[128];
	struct frame_str s;
	int rc = 0;

	frame_list_end(&x->env_bytes, &given);
	for (char *const *p = c->env; p && *p && !rc; p++)
		rc = frame_list_add(&all, &list, *p, strlen(*p));
	if (x->tty && term && *term && !rc) {
		snprintf(term_var, sizeof(term_var), "TERM=%s", term);
		rc = frame_list_add(&all, &list, term_var, strlen(term_var));
	}
	if (!rc)
		rc = secret_opts_env(&x->secrets, &all, &list);
	while (!rc && frame_list_next(&given, &s))
		rc = frame_list_add(&all, &list, s.p, s.len);
	if (rc) {
		buf_fini(&all);
		return err_set(e, E2BIG, "the environment is too long (limit %u bytes)",
			       FRAME_BODY_MAX);
	}
	buf_fini(&x->env_bytes);
	x->env_bytes = all;
	x->env = list;
	return 0;
}

static int exe_strdup(char **to, const char *s, struct err *e)
{
	*to = strdup(s);
	return *to ? 0 : err_errno(e, ENOMEM, "sandbox configuration");
}

/* The supervisor works in another directory. */
static int exe_net_log(const struct exe *x, struct sandbox_config *cfg, struct err *e)
{
	auto_free char *cwd = NULL;

	if (!x->net_log || !strcmp(x->net_log, "-") || *x->net_log == '/')
		return exe_strdup(&cfg->net_log, x->net_log ? x->net_log : "", e);
	cwd = getcwd(NULL, 0);
	if (!cwd || asprintf(&cfg->net_log, "%s/%s", cwd, x->net_log) < 0) {
		cfg->net_log = NULL;
		return err_errno(e, errno, "--net-log");
	}
	return 0;
}

static int exe_fill_network(const struct exe *x, const char *home, struct sandbox_config *cfg,
			    struct err *e)
{
	int rc;

	if ((rc = exe_strdup(&cfg->scope, x->scope, e)) ||
	    (rc = net_opts_text(&x->network, &cfg->network, e)) || (rc = exe_net_log(x, cfg, e)))
		return rc;
	if (x->name)
		rc = exe_strdup(&cfg->name, x->name, e);
	return !rc && x->group ? groups_set(cfg, home, NULL, x->group, e) : rc;
}

static int exe_fill_config(struct exe *x, const struct image *image, const char *home,
			   struct sandbox_config *cfg, struct err *e)
{
	auto_free char *volumes = NULL;
	int rc;

	cfg->cpus = (unsigned)x->cpus;
	cfg->memory_bytes = x->memory;
	cfg->disk_bytes = x->disk;
	cfg->ports = x->ports;
	cfg->boot_timeout_s = x->boot_timeout_s;
	if ((rc = exe_strdup(&cfg->image, x->image, e)) ||
	    (rc = exe_strdup(&cfg->image_path, image->rootfs, e)) ||
	    (rc = exe_strdup(&cfg->engine, x->engine, e)) ||
	    (rc = exe_fill_network(x, home, cfg, e)) || (rc = exe_strdup(&cfg->jail, x->jail, e)) ||
	    (rc = parts_path("initramfs.cpio.gz", &cfg->initramfs, e)) ||
	    (rc = volumes_parent(home, NULL, &volumes, e)) ||
	    (rc = volumes_resolve(&x->volumes, &(struct volumes_policy){ .parent = volumes }, e)) ||
	    (rc = volumes_own(&x->volumes, exe_user(x, image), e)) ||
	    (rc = imageconfig_apply(cfg, &image->config, e)))
		return rc;
	cfg->volumes = x->volumes;
	x->volumes.n = 0;
	cfg->secrets = x->secrets;
	x->secrets = (struct secret_list){ .v = NULL };
	cfg->volume_timeout_s = (unsigned)((x->volume_timeout_ms + 999) / 1000);
	if (!x->kernel)
		return parts_path("vmlinux", &cfg->kernel, e);
	cfg->kernel = realpath(x->kernel, NULL);
	return cfg->kernel ? 0 : err_errno(e, errno, "--kernel %s", x->kernel);
}

/* The ports that were left to choose: nothing else tells them, so --quiet does not hide them. */
static void exe_print_ports(const struct exe *x, const struct publish_list *chosen)
{
	char addr[PUBLISH_TEXT_MAX];

	for (size_t i = 0; i < chosen->n; i++) {
		const struct publish *p = &chosen->v[i];

		if (x->ports.v[i].host)
			continue;
		publish_format_addr(p, addr);
		cli_notice("port %u/%s of the sandbox is %s:%u", p->guest, p->udp ? "udp" : "tcp",
			   addr, p->host);
	}
}

static int exe_run(struct exe *x, const struct image *image, const char *home)
{
	struct frame_exec exec = { .timeout_ms = x->timeout_ms };
	struct sandbox_config cfg = { .name = NULL };
	struct launch launch = LAUNCH_INIT;
	const struct engine_ops *engine;
	char notice[ENGINE_NOTICE_MAX];
	struct err e = ERR_INIT;
	int status;

	x->tty = x->tty || (!x->no_tty && terminal_interactive());
	if (exe_build_argv(x, &image->config, &e) || exe_build_env(x, &image->config, &e) ||
	    engine_choose(x->engine, &engine, notice, sizeof(notice), &e) ||
	    exe_fill_config(x, image, home, &cfg, &e)) {
		sandbox_config_fini(&cfg);
		return cli_fail(&e);
	}
	if (notice[0] && !x->quiet)
		cli_notice("%s", notice);
	frame_list_end(&x->argv_bytes, &x->argv);
	frame_list_end(&x->env_bytes, &x->env);
	frame_list_end(&x->rlimit_bytes, &x->rlimits);
	exec.argv = x->argv;
	exec.env = x->env;
	exec.rlimits = x->rlimits;
	exec.cwd = frame_str_of(x->workdir ? x->workdir : image->config.workdir);
	exec.user = frame_str_of(exe_user(x, image));
	status = launch_ephemeral(home, &cfg, &launch, &e);
	if (!status)
		exe_print_ports(x, &cfg.ports);
	sandbox_config_fini(&cfg);
	if (status)
		return cli_fail(&e);
	struct session_spec spec = {
		.fd = take_fd(&launch.fd),
		.exec = &exec,
		.what = x->image,
		.quiet = x->quiet,
		.tty = x->tty,
		.timeout_ms = x->timeout_ms,
	};
	status = session_run(&spec);
	launch_end(&launch, EXE_END_TIMEOUT_MS);
	return status;
}

static int exe_find_image(const struct exe *x, const char *home, struct image **out, struct err *e)
{
	const struct image_find f = {
		.home = home, .jail = x->jail, .pull = x->pull, .quiet = x->quiet
	};

	return image_find(&f, x->image, out, e);
}

int cmd_exe(const struct cli_command *cmd, int argc, char **argv)
{
	struct exe x = {
		.cmd = cmd,
		.engine = "auto",
		.jail = "full",
		.cpus = 1,
		.memory = EXE_MEMORY_DEFAULT,
		.disk = EXE_DISK_DEFAULT,
		.boot_timeout_s = EXE_BOOT_TIMEOUT_S,
		.volume_timeout_ms = SANDBOX_VOLUME_TIMEOUT_S * 1000,
	};
	auto_free char *home = NULL;
	struct image *image = NULL;
	struct err e = ERR_INIT;
	struct cli_args args;
	int status;

	cli_args_init(&args, cmd, argc, argv);
	status = exe_parse(&x, &args);
	if (status || args.n_words == 0) /* an error, or --help was served */
		goto out;
	if (parts_home(&home, &e) || exe_find_image(&x, home, &image, &e))
		status = cli_fail(&e);
	else
		status = exe_run(&x, image, home);
	image_free(image);
out:
	volume_list_fini(&x.volumes);
	secret_list_fini(&x.secrets);
	buf_fini(&x.env_bytes);
	buf_fini(&x.argv_bytes);
	buf_fini(&x.rlimit_bytes);
	return status;
}
