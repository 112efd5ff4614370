/* SPDX-License-Identifier: Apache-2.0 */
/* `msb install` (`i`, msi) and `msb uninstall`: a sandbox as a command. */
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "cli/box_opts.h"
#include "cli/cli.h"
#include "cli/image_find.h"
#include "engine/engine.h"
#include "project/install.h"
#include "project/plan.h"
#include "sys/parts.h"

enum install_opt {
	INSTALL_CPUS,
	INSTALL_MEMORY,
	INSTALL_DISK,
	INSTALL_VOLUME,
	INSTALL_PORT,
	INSTALL_ENV,
	INSTALL_WORKDIR,
	INSTALL_USER,
	INSTALL_SCOPE,
	INSTALL_EXEC,
	INSTALL_BIN_DIR,
	INSTALL_IMAGE,
	INSTALL_QUIET,
};

const struct cli_opt install_opts[] = {
	[INSTALL_CPUS] = BOX_OPT_CPUS,
	[INSTALL_MEMORY] = BOX_OPT_MEMORY,
	[INSTALL_DISK] = BOX_OPT_DISK,
	[INSTALL_VOLUME] = BOX_OPT_VOLUME,
	[INSTALL_PORT] = { "port", NULL, "p", "[ADDR:]HOST:GUEST",
			   "publish a port on 127.0.0.1 or ADDR (repeatable)" },
	[INSTALL_ENV] = BOX_OPT_ENV,
	[INSTALL_WORKDIR] = BOX_OPT_WORKDIR,
	[INSTALL_USER] = BOX_OPT_USER,
	[INSTALL_SCOPE] = { "scope", NULL, "", "SCOPE", "network: none, public (default), any" },
	[INSTALL_EXEC] = { "exec", NULL, "ex", "PROGRAM",
			   "the command runs this program, with ARGS unless it is given others" },
	[INSTALL_BIN_DIR] = { "bin-dir", NULL, "", "DIR",
			      "where the command goes (default ~/.local/bin)" },
	[INSTALL_IMAGE] = { "image", NULL, "i", NULL,
			    "the argument is an image (it always is; accepted for compatibility)" },
	[INSTALL_QUIET] = BOX_OPT_QUIET,
	{ NULL },
};

struct install {
	const struct cli_command *cmd;
	const char *image, *script, *program, *name, *bin_dir;
	char name_text[128];
	char **args;
	json_t *entry; /* of the Sandboxfile */
	bool quiet;
};

static int install_set(struct install *x, const char *key, json_t *v)
{
	return json_object_set_new(x->entry, key, v)
		       ? cli_usage(x->cmd, "--%s is not valid UTF-8", key)
		       : 0;
}

static int install_append(struct install *x, const char *key, const char *v)
{
	json_t *list = json_object_get(x->entry, key);

	if (!list) {
		list = json_array();
		json_object_set_new(x->entry, key, list);
	}
	return json_array_append_new(list, json_string(v))
		       ? cli_usage(x->cmd, "'%s' is not valid UTF-8", v)
		       : 0;
}

/* A path of the host that is relative is so to where we are, not to the installed project. */
static int install_volume(struct install *x, const char *v)
{
	auto_free char *cwd = NULL;
	auto_free char *path = NULL;

	if (v[0] != '.')
		return install_append(x, "volumes", v);
	cwd = getcwd(NULL, 0);
	if (!cwd || asprintf(&path, "%s/%s", cwd, v) < 0) {
		path = NULL;
		return cli_usage(x->cmd, "--volume %s: the current directory is gone", v);
	}
	return install_append(x, "volumes", path);
}

static int install_size(struct install *x, const char *key, const char *v)
{
	uint64_t bytes;

	if (cli_parse_memory(v, &bytes) || bytes < 1 << 20)
		return cli_usage(x->cmd, "--%s is '%s': give MiB or a size such as 512M or 2G", key,
				 v);
	return install_set(x, key, json_integer((json_int_t)(bytes >> 20)));
}

static int install_parse_option(struct install *x, int opt, const char *v)
{
	uint64_t n;

	switch (opt) {
	case INSTALL_CPUS:
		if (cli_parse_uint(v, ENGINE_CPUS_MAX, &n) || !n)
			return cli_usage(x->cmd, "--cpus is '%s': give a number from 1 to %u", v,
					 ENGINE_CPUS_MAX);
		return install_set(x, "cpus", json_integer((json_int_t)n));
	case INSTALL_MEMORY:
		return install_size(x, "memory", v);
	case INSTALL_DISK:
		return install_size(x, "disk", v);
	case INSTALL_VOLUME:
		return install_volume(x, v);
	case INSTALL_PORT:
		return install_append(x, "ports", v);
	case INSTALL_ENV:
		return install_append(x, "envs", v);
	case INSTALL_WORKDIR:
		return install_set(x, "workdir", json_string(v));
	case INSTALL_USER:
		return install_set(x, "user", json_string(v));
	case INSTALL_SCOPE:
		return install_set(x, "scope", json_string(v));
	case INSTALL_EXEC:
		x->program = v;
		return *v ? 0 : cli_usage(x->cmd, "--exec needs a program");
	case INSTALL_BIN_DIR:
		x->bin_dir = v;
		return *v == '/' ? 0
				 : cli_usage(x->cmd, "--bin-dir is '%s': give an absolute path", v);
	case INSTALL_QUIET:
		x->quiet = true;
		return 0;
	default: /* INSTALL_IMAGE */
		return 0;
	}
}

/* "docker.io/library/python:3.12" -> "python" */
static void install_name_of(const char *image, char *to, size_t size)
{
	const char *slash = strrchr(image, '/');

	snprintf(to, size, "%s", slash ? slash + 1 : image);
	to[strcspn(to, ":@")] = '\0';
}

static int install_command_words(struct install *x)
{
	int rc = 0;

	if (!x->program)
		return x->args ? cli_usage(x->cmd,
					   "arguments of the command are given when it is run, or "
					   "with --exec PROGRAM -- ARGS")
			       : 0;
	rc = install_append(x, "command", x->program);
	for (char **p = x->args; p && *p && !rc; p++)
		rc = install_append(x, "command", *p);
	return rc;
}

static int install_parse(struct install *x, struct cli_args *a)
{
	char *tilde;
	int opt, rc;

	while ((opt = cli_args_next(a)) >= 0) {
		rc = install_parse_option(x, opt, a->value);
		if (rc)
			return rc;
	}
	if (opt != CLI_OPT_END)
		return cli_args_status(opt);
	if (!a->n_words || a->n_words > 2)
		return cli_usage(x->cmd,
				 a->n_words ? "unexpected argument '%s'"
					    : "which image? For example: msi python py-data",
				 a->n_words ? a->words[2] : "");
	x->args = a->n_rest ? a->rest : NULL;
	tilde = strchr(a->words[0], '~');
	if (tilde) {
		*tilde = '\0';
		x->script = tilde + 1;
		if (strcmp(x->script, "shell"))
			return cli_usage(x->cmd,
					 "image %s has no script '%s': an image by itself has only "
					 "~shell",
					 a->words[0], x->script);
		if (x->program)
			return cli_usage(x->cmd, "give either ~SCRIPT or --exec, not both");
	}
	x->image = a->words[0];
	install_name_of(x->script ? x->script : x->image, x->name_text, sizeof(x->name_text));
	x->name = a->n_words > 1 ? a->words[1] : x->name_text;
	if (!sandboxfile_name_valid(x->name))
		return cli_usage(x->cmd,
				 "'%s' cannot be a command's name: letters, digits, - and _, at "
				 "most %u",
				 x->name, SANDBOXFILE_NAME_MAX);
	rc = install_set(x, "image", json_string(x->image));
	return rc ? rc : install_command_words(x);
}

/* A command of that name that is found now would be hidden, or hide ours. */
static int install_check_path(const struct install *x, const char *bin_dir, struct err *e)
{
	const char *path = getenv("PATH");
	auto_free char *copy = strdup(path ? path : "");
	char *save = NULL;
	bool found = false;

	if (!copy)
		return err_errno(e, ENOMEM, "PATH");
	for (char *dir = strtok_r(copy, ":", &save); dir; dir = strtok_r(NULL, ":", &save)) {
		auto_free char *file = NULL;

		found = found || !strcmp(dir, bin_dir);
		if (asprintf(&file, "%s/%s", dir, x->name) < 0) {
			file = NULL;
			continue;
		}
		if (!access(file, X_OK))
			return err_set(e, EEXIST,
				       "there is a command '%s' already (%s): give another name, "
				       "as in msi %s my-%s",
				       x->name, file, x->image, x->name);
	}
	if (!found && !x->quiet)
		cli_notice("%s is not in your PATH: add it to find the command %s there", bin_dir,
			   x->name);
	return 0;
}

static int install_text(const struct install *x, char **out, struct err *e)
{
	json_t *file = json_pack("{s:{s:O}}", "sandboxes", x->name, x->entry);
	char *text = file ? json_dumps(file, JSON_INDENT(2)) : NULL;
	struct sandboxfile *parsed = NULL;
	int rc;

	json_decref(file);
	if (!text)
		return err_errno(e, ENOMEM, "Sandboxfile");
	/* What it would refuse when the command is run, it refuses now. */
	rc = sandboxfile_parse(text, strlen(text), "msb install", &parsed, NULL, e);
	sandboxfile_free(parsed);
	if (rc)
		free(text);
	else
		*out = text;
	return rc;
}

static int install_find_image(const struct install *x, const char *home, struct image **out,
			      struct err *e)
{
	const struct image_find find = { .home = home, .jail = "full", .quiet = x->quiet };

	return image_find(&find, x->image, out, e);
}

static int install_run(struct install *x)
{
	const struct engine_ops *engine;
	char notice[ENGINE_NOTICE_MAX];
	auto_free char *home = NULL;
	auto_free char *bin_dir = NULL;
	auto_free char *text = NULL;
	struct image *image = NULL;
	struct err e = ERR_INIT;

	if (x->bin_dir && !(bin_dir = strdup(x->bin_dir)))
		return cli_fail(&(struct err){ .code = ENOMEM });
	if (install_text(x, &text, &e) || parts_home(&home, &e) ||
	    (!bin_dir && install_bin_dir(&bin_dir, &e)) || install_check_path(x, bin_dir, &e) ||
	    engine_choose("auto", &engine, notice, sizeof(notice), &e) ||
	    install_find_image(x, home, &image, &e) ||
	    install_add(home, x->name, text, x->script, bin_dir, &e)) {
		image_free(image);
		return cli_fail(&e);
	}
	image_free(image);
	/* The command itself is silent about it. */
	if (notice[0] && !x->quiet)
		cli_notice("%s", notice);
	if (!x->quiet)
		cli_notice("%s/%s runs %s in a sandbox of its own, which keeps what it writes",
			   bin_dir, x->name, x->image);
	return CLI_OK;
}

int cmd_install(const struct cli_command *cmd, int argc, char **argv)
{
	struct install x = { .cmd = cmd, .entry = json_object() };
	struct cli_args a;
	int status;

	cli_args_init(&a, cmd, argc, argv);
	status = install_parse(&x, &a);
	if (!status && x.name)
		status = install_run(&x);
	json_decref(x.entry);
	return status;
}

int cmd_uninstall(const struct cli_command *cmd, int argc, char **argv)
{
	auto_free char *home = NULL;
	struct err e = ERR_INIT;
	int status = CLI_OK, opt;
	struct cli_args a;

	cli_args_init(&a, cmd, argc, argv);
	opt = cli_args_next(&a);
	if (opt != CLI_OPT_END)
		return cli_args_status(opt);
	if (!a.n_words)
		return cli_usage(cmd, "which one? See msb list --installed");
	if (parts_home(&home, &e))
		return cli_fail(&e);
	for (int i = 0; i < a.n_words; i++) {
		struct err why = ERR_INIT;
		bool foreign = false;

		if (!sandboxfile_name_valid(a.words[i]))
			err_set(&why, ENOENT, "'%s' is not installed: see msb list --installed",
				a.words[i]);
		else
			install_remove(home, a.words[i], &foreign, &why);
		if (why.code)
			status = cli_fail(&why);
		else if (foreign)
			cli_notice("the command %s is not the one that was installed, and stays",
				   a.words[i]);
	}
	return status;
}
