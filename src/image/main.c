/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DOC: msb-image
 *
 * Makes and manages images.  msb starts it for what needs the archive library; it
 * can be used by hand too.  Exit status: 0; 1 with one line on stderr; 2 for a
 * mistake in the arguments.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <jansson.h>
#include <locale.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "image/assemble.h"
#include "image/build.h"
#include "image/convert.h"
#include "image/import.h"
#include "image/progress.h"
#include "image/store_write.h"
#include "image/tool.h"
#include "sys/parts.h"

struct options {
	const char *name, *tar, *dir;
	struct image_config config;
	bool quiet, json, force, if_absent;
};

static int main_writer(struct store_writer **out, struct err *e)
{
	auto_free char *home = NULL;
	int rc = parts_home(&home, e);

	return rc ? rc : store_writer_open(home, out, e);
}

/* The full name under which an image is kept: with a tag, without a digest. */
static int main_full_name(const char *name, char to[REFERENCE_MAX], struct err *e)
{
	char names[REFERENCE_CANDIDATES][REFERENCE_MAX];
	struct reference ref;
	int rc = reference_parse(name, strlen(name), &ref, e);

	if (rc)
		return rc;
	if (ref.digest[0] || !reference_candidates(&ref, names))
		return err_set(e, EINVAL, "--name takes a name and a tag, not a digest");
	memcpy(to, names[0], REFERENCE_MAX);
	return 0;
}

static int cmd_import(struct options *o, int argc, char **argv, struct err *e)
{
	struct import_result res;
	struct store_writer *w;
	char name[REFERENCE_MAX];
	auto_close int fd = -1;
	int rc;

	(void)argv;
	if (argc || !o->name || !o->tar == !o->dir) {
		err_set(e, EINVAL,
			"usage: msb-image import --name NAME[:TAG] (--tar FILE|- | --dir DIR) "
			"[--config KEY=VALUE]...");
		return 2;
	}
	rc = main_full_name(o->name, name, e);
	if (rc)
		return rc;
	if (!o->tar)
		return err_set(e, ENOTSUP, "--dir is not there yet");
	fd = strcmp(o->tar, "-") ? open(o->tar, O_RDONLY | O_CLOEXEC) : dup(STDIN_FILENO);
	if (fd < 0)
		return err_errno(e, errno, "open %s", o->tar);
	rc = main_writer(&w, e);
	if (rc)
		return rc;
	rc = import_tar(w, fd, &o->config, name, &res, e);
	store_writer_close(w);
	if (!rc)
		printf("%s %s\n", name, res.digest);
	return rc;
}

static int cmd_build(struct options *o, int argc, char **argv, struct err *e)
{
	char name[REFERENCE_MAX], built[REFERENCE_MAX];
	auto_free char *dir = NULL;
	auto_free char *path = NULL;
	struct store_writer *w;
	int rc;

	if (argc != 1) {
		err_set(e, EINVAL,
			"usage: msb-image build [--name NAME[:TAG]] [--force] RECIPE|FILE");
		return 2;
	}
	rc = o->name ? main_full_name(o->name, name, e) : 0;
	if (!rc && !strchr(argv[0], '/')) {
		rc = parts_path("recipes", &dir, e);
		if (!rc && recipe_find(dir, argv[0], &path))
			rc = err_set(e, ENOENT, "there is no recipe '%.80s' in %s", argv[0], dir);
	}
	if (!rc && strchr(argv[0], '/') && access(argv[0], R_OK) < 0 &&
	    parts_path("recipes", &dir, e) == 0)
		(void)recipe_find(dir, argv[0], &path);
	if (!rc)
		rc = main_writer(&w, e);
	if (rc)
		return rc;
	rc = build_recipe(w, path ? path : argv[0], o->name ? name : NULL, o->force, built, e);
	store_writer_close(w);
	if (!rc)
		printf("%s\n", built);
	return rc;
}

static int cmd_prepare(struct options *o, int argc, char **argv, struct err *e)
{
	struct store_writer *w;
	int rc;

	if (argc != 1) {
		err_set(e, EINVAL, "usage: msb-image prepare [--force] IMAGE");
		return 2;
	}
	rc = main_writer(&w, e);
	if (rc)
		return rc;
	rc = import_prepare(w, argv[0], o->force, e);
	store_writer_close(w);
	return rc;
}

static int cmd_ls(struct options *o, int argc, char **argv, struct err *e)
{
	(void)o;
	(void)argc;
	(void)argv;
	auto_free char *home = NULL;
	auto_free struct store_entry *v = NULL;
	struct store *s;
	size_t n;
	int rc = parts_home(&home, e);

	if (!rc)
		rc = store_open(home, &s, e);
	if (rc)
		return rc;
	rc = store_list(s, &v, &n, e);
	for (size_t i = 0; !rc && i < n; i++)
		printf("%s %.19s %llu %llu\n", v[i].name, v[i].digest,
		       (unsigned long long)v[i].size, (unsigned long long)v[i].rootfs_bytes);
	store_close(s);
	return rc;
}

static const struct {
	const char *name;
	int (*run)(struct options *o, int argc, char **argv, struct err *e);
} commands[] = {
	{ "import", cmd_import },
	{ "build", cmd_build },
	{ "prepare", cmd_prepare },
	{ "ls", cmd_ls },
};

static const struct option long_options[] = {
	{ "name", required_argument, NULL, 'n' }, { "tar", required_argument, NULL, 't' },
	{ "dir", required_argument, NULL, 'd' },  { "quiet", no_argument, NULL, 'q' },
	{ "json", no_argument, NULL, 'j' },       { "force", no_argument, NULL, 'f' },
	{ "jail", required_argument, NULL, 'J' }, { NULL, 0, NULL, 0 },
};

static int main_run(int argc, char **argv, struct err *e)
{
	struct options o = { .name = NULL };
	int c, rc;

	if (argc < 2) {
		err_set(e, EINVAL, "usage: msb-image import|build|prepare|ls|inspect|rm");
		return 2;
	}
	while ((c = getopt_long(argc - 1, argv + 1, "q", long_options, NULL)) >= 0) {
		switch (c) {
		case 'n':
			o.name = optarg;
			break;
		case 't':
			o.tar = optarg;
			break;
		case 'd':
			o.dir = optarg;
			break;
		case 'q':
			o.quiet = true;
			break;
		case 'j':
			o.json = true;
			break;
		case 'f':
			o.force = true;
			break;
		case 'J':
			tool_set_jail(strcmp(optarg, "reduced") ? JAIL_FULL : JAIL_REDUCED);
			break;
		default:
			return 2;
		}
	}
	progress_init(o.quiet);
	for (size_t i = 0; i < ARRAY_SIZE(commands); i++) {
		if (strcmp(argv[1], commands[i].name))
			continue;
		rc = commands[i].run(&o, argc - 1 - optind, argv + 1 + optind, e);
		image_config_fini(&o.config);
		return rc;
	}
	err_set(e, EINVAL, "unknown command '%s'", argv[1]);
	return 2;
}

int main(int argc, char **argv)
{
	struct err e = ERR_INIT;
	int rc;

	/* A full disk or a closed pipe is an error to report, not a way to die. */
	signal(SIGXFSZ, SIG_IGN);
	signal(SIGPIPE, SIG_IGN);
	if (argc > 1 && !strcmp(argv[1], "convert"))
		return convert_main(argc, argv);
	if (argc > 1 && !strcmp(argv[1], "assemble"))
		return assemble_main(argc, argv);
	setlocale(LC_CTYPE, "C.UTF-8");
	rc = main_run(argc, argv, &e);
	if (rc && e.code) {
		progress_end();
		fprintf(stderr, "error: %s\n", err_text(&e));
	}
	return rc < 0 ? 1 : rc;
}
