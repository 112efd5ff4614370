/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DOC: msb-image
 *
 * Makes and manages images.  msb starts it for what needs the archive library; it
 * can be used by hand too.  Exit status: 0; 1 with one line on stderr; 2 for a
 * mistake in the arguments.
 */
#include <errno.h>
#include <getopt.h>
#include <locale.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "image/assemble.h"
#include "image/convert.h"
#include "image/cmd.h"
#include "image/guard.h"
#include "image/progress.h"
#include "image/store_write.h"
#include "image/tool.h"
#include "image/unpack.h"

/* --config KEY=VALUE. A list is given by naming its key several times. */
static int main_config(struct image_config *c, const char *arg, struct err *e)
{
	static const struct {
		const char *key;
		size_t offset;
		bool list;
	} keys[] = {
		{ "entrypoint", offsetof(struct image_config, entrypoint), true },
		{ "cmd", offsetof(struct image_config, cmd), true },
		{ "env", offsetof(struct image_config, env), true },
		{ "label", offsetof(struct image_config, labels), true },
		{ "workdir", offsetof(struct image_config, workdir), false },
		{ "user", offsetof(struct image_config, user), false },
		{ "stop-signal", offsetof(struct image_config, stop_signal), false },
	};
	const char *eq = strchr(arg, '=');

	for (size_t i = 0; eq && i < ARRAY_SIZE(keys); i++) {
		void *at = (char *)c + keys[i].offset;

		if (strlen(keys[i].key) != (size_t)(eq - arg) ||
		    strncmp(keys[i].key, arg, (size_t)(eq - arg)))
			continue;
		if ((!strcmp(keys[i].key, "env") || !strcmp(keys[i].key, "label")) &&
		    !strchr(eq + 1, '='))
			return err_set(e, EINVAL, "--config %s: expected NAME=value after '='", arg);
		if (keys[i].list) {
			if (strlist_add(at, eq + 1))
				return err_errno(e, ENOMEM, "--config");
			return 0;
		}
		free(*(char **)at);
		*(char **)at = strdup(eq + 1);
		return *(char **)at ? 0 : err_errno(e, ENOMEM, "--config");
	}
	return err_set(e, EINVAL,
		       "--config %s: expected KEY=VALUE with one of entrypoint, cmd, env, label, "
		       "workdir, user, stop-signal",
		       arg);
}

static const struct {
	const char *name, *what;
	int (*run)(struct cmd_options *o, int argc, char **argv, struct err *e);
} commands[] = {
	{ "import", "make an image of a tar or a directory", cmd_import },
	{ "build", "put an image together from a recipe, unless it is there", cmd_build },
	{ "prepare", "write the root image of an image of the store", cmd_prepare },
	{ "pull", "get an image from a registry", cmd_pull },
	{ "login", "keep the password of a registry", cmd_login },
	{ "logout", "forget it", cmd_logout },
	{ "ls", "list the images", cmd_ls },
	{ "inspect", "show an image's configuration and state", cmd_inspect },
	{ "history", "show what an image was made of, layer by layer", cmd_history },
	{ "rm", "remove images", cmd_rm },
	{ "prune", "remove what no image needs; with --all images, too", cmd_prune },
	{ "df", "show what the store takes of the disk", cmd_df },
	{ "load", "take images from an archive of docker, podman or `save`", cmd_load },
	{ "save", "write images to an archive", cmd_save },
};

enum main_opt {
	OPT_NAME = 'n',
	OPT_TAR = 't',
	OPT_DIR = 'd',
	OPT_BASE = 'b',
	OPT_CONFIG = 'c',
	OPT_JAIL = 'J',
	OPT_QUIET = 'q',
	OPT_JSON = 'j',
	OPT_FORCE = 'f',
	OPT_HELP = 'h',
	OPT_USER = 'u',
	OPT_OUTPUT = 'o',
	OPT_INPUT = 'i',
	OPT_ALL = 'a',
	OPT_PLATFORM = 256,
	OPT_INSECURE,
	OPT_CA_CERTS,
	OPT_PARALLEL,
	OPT_RETRIES,
	OPT_TIMEOUT,
	OPT_PASSWORD_STDIN,
	OPT_FORMAT,
	OPT_OLDER,
	OPT_MAX_SIZE,
	OPT_MAX_UNPACKED,
	OPT_PUBLIC_ONLY,
};

static const struct option long_options[] = {
	{ "name", required_argument, NULL, OPT_NAME },
	{ "tar", required_argument, NULL, OPT_TAR },
	{ "base", required_argument, NULL, OPT_BASE },
	{ "dir", required_argument, NULL, OPT_DIR },
	{ "config", required_argument, NULL, OPT_CONFIG },
	{ "jail", required_argument, NULL, OPT_JAIL },
	{ "quiet", no_argument, NULL, OPT_QUIET },
	{ "json", no_argument, NULL, OPT_JSON },
	{ "force", no_argument, NULL, OPT_FORCE },
	{ "platform", required_argument, NULL, OPT_PLATFORM },
	{ "insecure", no_argument, NULL, OPT_INSECURE },
	{ "ca-certs", required_argument, NULL, OPT_CA_CERTS },
	{ "parallel", required_argument, NULL, OPT_PARALLEL },
	{ "retries", required_argument, NULL, OPT_RETRIES },
	{ "timeout", required_argument, NULL, OPT_TIMEOUT },
	{ "public-only", no_argument, NULL, OPT_PUBLIC_ONLY },
	{ "max-unpacked", required_argument, NULL, OPT_MAX_UNPACKED },
	{ "username", required_argument, NULL, OPT_USER },
	{ "password-stdin", no_argument, NULL, OPT_PASSWORD_STDIN },
	{ "format", required_argument, NULL, OPT_FORMAT },
	{ "output", required_argument, NULL, OPT_OUTPUT },
	{ "input", required_argument, NULL, OPT_INPUT },
	{ "all", no_argument, NULL, OPT_ALL },
	{ "older-than", required_argument, NULL, OPT_OLDER },
	{ "max-size", required_argument, NULL, OPT_MAX_SIZE },
	{ "help", no_argument, NULL, OPT_HELP },
	{ NULL, 0, NULL, 0 },
};

static void main_help(void)
{
	printf("usage: %s COMMAND [OPTIONS]\n\n", cmd_program);
	for (size_t i = 0; i < ARRAY_SIZE(commands); i++)
		printf("  %-10s %s\n", commands[i].name, commands[i].what);
	printf("\n"
	       "  --name NAME[:TAG]    name of the image that is made (import, build)\n"
	       "  --tar FILE|-         tar, plain or compressed with gzip or zstd (import)\n"
	       "  --base IMAGE         the tar is a layer over this image (import --tar)\n"
	       "  --dir DIR            directory (import)\n"
	       "  --config KEY=VALUE   entrypoint, cmd, env, label, workdir, user, stop-signal;\n"
	       "                       once for each word of a list (import)\n"
	       "  --force              make it again although it is there (build, prepare); "
	       "remove\n"
	       "                       an image's name although a sandbox runs it (rm)\n"
	       "  --platform OS/ARCH   which variant of the image (pull)\n"
	       "  --insecure           plain HTTP, or certificates that cannot be verified, will "
	       "do\n"
	       "                       (pull, login)\n"
	       "  --ca-certs FILE      trust these certificates (PEM) too (pull, login)\n"
	       "  --parallel N         layers that are fetched at a time (pull; default 4)\n"
	       "  --retries N          tries in a row that bring nothing (pull; default 5)\n"
	       "  --timeout SECONDS    give up a connection that is silent for so long (default "
	       "60)\n"
	       "  --public-only        no registry at a private address, unless registries.json "
	       "has it\n"
	       "                       (pull)\n"
	       "  --max-unpacked SIZE  refuse an image that holds more: 500M, 8G (pull; default "
	       "64G)\n"
	       "  -u, --username NAME  user at the registry (login)\n"
	       "  --password-stdin     read the password from standard input (login)\n"
	       "  -i, --input FILE|-   archive to read (load; default standard input)\n"
	       "  -o, --output FILE|-  archive to write (save; default standard output)\n"
	       "  --format oci|docker  of the archive (save; default oci)\n"
	       "  -a, --all            all images that no sandbox runs (prune)\n"
	       "  --older-than TIME    images that were not used for so long: 12h, 30d (prune)\n"
	       "  --max-size SIZE      least recently used images until the rest fits: 20G "
	       "(prune)\n"
	       "  --jail full|reduced  how archives and the network are read; full is the default\n"
	       "  --json               output for programs (import, build, ls, pull, load, rm, "
	       "df,\n"
	       "                       prune, history; inspect always)\n"
	       "  -q, --quiet          no progress\n");
}

/* A number from @min to @max. */
static int main_number(const char *opt, const char *v, unsigned min, unsigned max, unsigned *out,
		       struct err *e)
{
	char *end;
	unsigned long n = strtoul(v, &end, 10);

	if (*v < '0' || *v > '9' || *end || n < min || n > max)
		return err_set(e, EINVAL, "--%s is '%s': give a number from %u to %u", opt, v, min,
			       max);
	*out = (unsigned)n;
	return 0;
}

/* "500M", "8G", "1T"; a bare number is bytes. */
static int main_size(const char *opt, const char *v, uint64_t *out, struct err *e)
{
	static const char units[] = "KMGT";
	char *end;
	unsigned long long n = strtoull(v, &end, 10);
	const char *unit = *end ? strchr(units, *end & ~0x20) : NULL;
	unsigned shift = unit ? 10 * (unsigned)(unit - units + 1) : 0;

	if (*v < '0' || *v > '9' || (*end && (!unit || end[1])) || n > (1ull << 50) >> shift)
		return err_set(e, EINVAL, "--%s is '%s': give a size such as 500M or 8G", opt, v);
	*out = (uint64_t)n << shift;
	return 0;
}

static int main_jail(const char *v, struct err *e)
{
	if (strcmp(v, "full") && strcmp(v, "reduced"))
		return err_set(e, EINVAL, "--jail is full or reduced, not '%s'", v);
	tool_set_jail(strcmp(v, "full") ? JAIL_REDUCED : JAIL_FULL);
	return 0;
}

/* "90s", "15m", "12h", "30d"; a bare number is seconds. */
static int main_age(const char *v, uint64_t *out, struct err *e)
{
	static const struct {
		char unit;
		unsigned seconds;
	} units[] = { { '\0', 1 }, { 's', 1 }, { 'm', 60 }, { 'h', 3600 }, { 'd', 86400 } };
	char *end;
	unsigned long long n = strtoull(v, &end, 10);

	for (size_t i = 0; i < ARRAY_SIZE(units) && *v >= '0' && *v <= '9'; i++)
		if (*end == units[i].unit && (!*end || !end[1]) && n < 1u << 30) {
			*out = (uint64_t)n * units[i].seconds;
			return 0;
		}
	return err_set(e, EINVAL, "--older-than is '%s': give a time such as 12h or 30d", v);
}

/* The options of load, save and prune. */
static int main_archive_option(int c, struct cmd_options *o, struct err *e)
{
	switch (c) {
	case OPT_FORMAT:
		o->format = optarg;
		return 0;
	case OPT_OUTPUT:
		o->output = optarg;
		return 0;
	case OPT_INPUT:
		o->input = optarg;
		return 0;
	case OPT_ALL:
		o->all = true;
		return 0;
	case OPT_OLDER:
		return main_age(optarg, &o->older_s, e);
	case OPT_MAX_SIZE:
		return main_size("max-size", optarg, &o->max_bytes, e);
	default: /* getopt has said what is wrong */
		return -EINVAL;
	}
}

/* The options of pull and login. */
static int main_registry_option(int c, struct cmd_options *o, struct err *e)
{
	switch (c) {
	case OPT_PLATFORM:
		o->platform = optarg;
		return 0;
	case OPT_INSECURE:
		o->registry.insecure = true;
		return 0;
	case OPT_CA_CERTS:
		o->registry.ca_certs = optarg;
		return 0;
	case OPT_PARALLEL:
		return main_number("parallel", optarg, 1, FETCH_WORKERS_MAX, &o->registry.parallel,
				   e);
	case OPT_RETRIES:
		return main_number("retries", optarg, 0, 100, &o->registry.retries, e);
	case OPT_TIMEOUT:
		return main_number("timeout", optarg, 1, 3600, &o->registry.stall_s, e);
	case OPT_PUBLIC_ONLY:
		o->registry.public_only = true;
		return 0;
	case OPT_MAX_UNPACKED:
		return main_size("max-unpacked", optarg, &o->max_unpacked, e);
	case OPT_USER:
		o->user = optarg;
		return 0;
	case OPT_PASSWORD_STDIN:
		o->password_stdin = true;
		return 0;
	default:
		return main_archive_option(c, o, e);
	}
}

static int main_option(int c, struct cmd_options *o, struct err *e)
{
	switch (c) {
	case OPT_NAME:
		o->name = optarg;
		return 0;
	case OPT_TAR:
		o->tar = optarg;
		return 0;
	case OPT_DIR:
		o->dir = optarg;
		return 0;
	case OPT_BASE:
		o->base = optarg;
		return 0;
	case OPT_CONFIG:
		return main_config(&o->config, optarg, e);
	case OPT_QUIET:
		o->quiet = true;
		return 0;
	case OPT_JSON:
		o->json = true;
		return 0;
	case OPT_FORCE:
		o->force = true;
		return 0;
	case OPT_JAIL:
		return main_jail(optarg, e);
	default:
		return main_registry_option(c, o, e);
	}
}

/* Return: 0, 2 for a mistake, 3 if all is done (--help). */
static int main_options(int argc, char **argv, struct cmd_options *o, struct err *e)
{
	int c;

	while ((c = getopt_long(argc, argv, "qhau:i:o:", long_options, NULL)) >= 0) {
		if (c == OPT_HELP) {
			main_help();
			return 3;
		}
		if (main_option(c, o, e))
			return 2;
	}
	return 0;
}

static int main_run(int argc, char **argv, struct err *e)
{
	struct cmd_options o = { .registry = REGISTRY_ARGS_DEFAULT,
				 .older_s = UINT64_MAX,
				 .max_bytes = UINT64_MAX };
	int rc = main_options(argc, argv, &o, e);

	if (rc || optind == argc) {
		if (!rc)
			rc = cmd_usage(e, "COMMAND [OPTIONS] (--help tells more)");
		image_config_fini(&o.config);
		return rc;
	}
	progress_init(o.quiet);
	rc = -ENOENT;
	for (size_t i = 0; i < ARRAY_SIZE(commands) && rc == -ENOENT && !e->code; i++)
		if (!strcmp(argv[optind], commands[i].name))
			rc = commands[i].run(&o, argc - optind - 1, argv + optind + 1, e);
	if (rc == -ENOENT && !e->code) {
		err_set(e, EINVAL, "unknown command '%s' (--help lists them)", argv[optind]);
		rc = 2;
	}
	image_config_fini(&o.config);
	return rc;
}

struct main_args {
	int argc;
	char **argv;
};

static int main_work(void *arg)
{
	const struct main_args *a = arg;
	struct err e = ERR_INIT;
	int rc = main_run(a->argc, a->argv, &e);

	if (rc && e.code) {
		progress_end();
		fprintf(stderr, "error: %s\n", err_text(&e));
	}
	return rc < 0 ? 1 : rc == 3 ? 0 : rc;
}

/* Opening the store for writing removes what a dead writer left. */
static void main_clean(void)
{
	struct store_writer *w;

	if (cmd_writer(&w, NULL) == 0)
		store_writer_close(w);
}

int main(int argc, char **argv)
{
	struct main_args args = { argc, argv };

	/* A full disk or a closed pipe is an error to report, not a way to die. */
	signal(SIGXFSZ, SIG_IGN);
	signal(SIGPIPE, SIG_IGN);
	if (argc > 1 && !strcmp(argv[1], "convert"))
		return convert_main(argc, argv);
	if (argc > 1 && !strcmp(argv[1], "unpack"))
		return unpack_main(argc, argv);
	if (argc > 1 && !strcmp(argv[1], "assemble"))
		return assemble_main(argc, argv);
	setlocale(LC_CTYPE, "C.UTF-8");
	/* `msb image` hands over to us under its own name. */
	if (argc && strchr(argv[0], ' '))
		cmd_program = argv[0];
	return guard_run(main_work, &args, main_clean);
}
