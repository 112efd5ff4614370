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
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "image/assemble.h"
#include "image/build.h"
#include "image/convert.h"
#include "image/guard.h"
#include "image/import.h"
#include "image/progress.h"
#include "image/store_write.h"
#include "image/tool.h"
#include "sys/parts.h"

struct options {
	const char *name, *tar, *dir, *base;
	struct image_config config;
	bool quiet, json, force;
};

static const char *main_program = "msb-image";

/* Return: the exit status for a mistake in the arguments. */
static int main_usage(struct err *e, const char *text)
{
	err_set(e, EINVAL, "usage: %s %s", main_program, text);
	return 2;
}

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

/* What an import could not keep is said, in one line. */
static void main_note_dropped(const struct import_result *res)
{
	if (res->xattrs_dropped)
		fprintf(stderr,
			"note: %u extended attributes or access control lists that ext4 "
			"does not know were left out\n",
			res->xattrs_dropped);
	if (res->sockets_dropped)
		fprintf(stderr, "note: %u sockets were left out\n", res->sockets_dropped);
}

static int cmd_import(struct options *o, int argc, char **argv, struct err *e)
{
	struct import_result res;
	struct store_writer *w;
	char name[REFERENCE_MAX];
	auto_close int fd = -1;
	int rc;

	(void)argv;
	if (argc || !o->name || !o->tar == !o->dir || (o->base && !o->tar))
		return main_usage(e, "import --name NAME[:TAG] (--tar FILE|- [--base IMAGE] | "
				     "--dir DIR) [--config KEY=VALUE]...");
	rc = main_full_name(o->name, name, e);
	if (rc)
		return rc;
	if (o->tar) {
		fd = strcmp(o->tar, "-") ? open(o->tar, O_RDONLY | O_CLOEXEC) : dup(STDIN_FILENO);
		if (fd < 0)
			return err_errno(e, errno, "open %s", o->tar);
	}
	rc = main_writer(&w, e);
	if (rc)
		return rc;
	rc = o->base  ? import_over(w, o->base, fd, &o->config, name, &res, e)
	     : o->tar ? import_tar(w, fd, &o->config, name, &res, e)
		      : import_dir(w, o->dir, &o->config, name, &res, e);
	store_writer_close(w);
	if (rc) {
		err_wrap(e, "import %s", o->tar ? o->tar : o->dir);
		return rc;
	}
	main_note_dropped(&res);
	if (o->json)
		printf("{\"name\":\"%s\",\"digest\":\"%s\",\"layer_bytes\":%llu,"
		       "\"rootfs_bytes\":%llu,\"inodes\":%u}\n",
		       name, res.digest, (unsigned long long)res.layer_bytes,
		       (unsigned long long)res.rootfs_bytes, res.inodes);
	else
		printf("%s %s\n", name, res.digest);
	return 0;
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
	/* "microsandbox/python" is no file, and a name with a '/' all the same. */
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

	if (argc != 1)
		return main_usage(e, "prepare [--force] IMAGE");
	rc = main_writer(&w, e);
	if (rc)
		return rc;
	rc = import_prepare(w, argv[0], o->force, e);
	store_writer_close(w);
	return rc;
}

static int main_store(struct store **out, struct err *e)
{
	auto_free char *home = NULL;
	int rc = parts_home(&home, e);

	return rc ? rc : store_open(home, out, e);
}

static void main_print_json(json_t *doc)
{
	json_dumpf(doc, stdout, JSON_INDENT(2) | JSON_ENSURE_ASCII);
	putchar('\n');
	json_decref(doc);
}

static void main_print_size(uint64_t bytes, char to[16])
{
	if (bytes)
		snprintf(to, 16, "%.1f MB", (double)bytes / 1e6);
	else
		snprintf(to, 16, "-");
}

static int cmd_ls(struct options *o, int argc, char **argv, struct err *e)
{
	auto_free struct store_entry *v = NULL;
	json_t *doc = json_array();
	struct store *s;
	size_t n = 0;
	int rc;

	(void)argv;
	if (argc) {
		json_decref(doc);
		return main_usage(e, "ls [--json]");
	}
	rc = main_store(&s, e);
	if (!rc) {
		rc = store_list(s, &v, &n, e);
		store_close(s);
	}
	if (!rc && !o->json)
		printf("%-40s %-20s %12s %12s\n", "NAME", "DIGEST", "STORED", "ROOT IMAGE");
	for (size_t i = 0; !rc && i < n; i++) {
		char stored[16], rootfs[16];

		main_print_size(v[i].size, stored);
		main_print_size(v[i].rootfs_bytes, rootfs);
		if (o->json)
			json_array_append_new(doc, json_pack("{s:s, s:s, s:s, s:I, s:I}", "name",
							     v[i].name, "digest", v[i].digest,
							     "created", v[i].created, "stored_bytes",
							     (json_int_t)v[i].size, "rootfs_bytes",
							     (json_int_t)v[i].rootfs_bytes));
		else
			printf("%-40s %-20.19s %12s %12s\n", v[i].name[0] ? v[i].name : "-",
			       v[i].digest, stored, rootfs);
	}
	if (!rc && o->json)
		main_print_json(doc);
	else
		json_decref(doc);
	return rc;
}

static int cmd_inspect(struct options *o, int argc, char **argv, struct err *e)
{
	auto_close int fd = -1;
	json_t *doc, *config;
	struct image *img;
	struct store *s;
	struct err why = ERR_INIT;
	char *text;
	int rc;

	(void)o;
	if (argc != 1)
		return main_usage(e, "inspect IMAGE");
	rc = main_store(&s, e);
	if (rc)
		return rc;
	rc = store_resolve(s, argv[0], &img, e);
	store_close(s);
	if (rc)
		return rc;
	text = image_config_format(&img->config);
	config = text ? json_loads(text, 0, NULL) : NULL;
	free(text);
	rootimage_open(img->rootfs, &fd, &why);
	doc = json_pack("{s:s, s:s, s:s, s:I, s:s, s:s, s:o}", "name", img->reference, "digest",
			img->digest, "config_digest", img->config_digest, "stored_bytes",
			(json_int_t)img->size, "rootfs", img->rootfs, "rootfs_state",
			fd >= 0 ? "ok" : err_text(&why), "config", config);
	image_free(img);
	main_print_json(doc);
	return 0;
}

static int cmd_rm(struct options *o, int argc, char **argv, struct err *e)
{
	struct store_writer *w;
	struct image *img;
	int rc;

	(void)o;
	if (!argc)
		return main_usage(e, "rm IMAGE...");
	rc = main_writer(&w, e);
	if (rc)
		return rc;
	for (int i = 0; !rc && i < argc; i++) {
		rc = store_resolve(store_writer_store(w), argv[i], &img, e);
		if (rc == -EINVAL || rc == -ENOENT) {
			/* A damaged image can be removed by its full name. */
			struct err again = ERR_INIT;

			if (store_remove(w, argv[i], &again) == 0) {
				err_clear(e);
				rc = 0;
			}
			continue;
		}
		if (!rc) {
			rc = store_remove(w, img->reference[0] ? img->reference : img->digest, e);
			image_free(img);
		}
	}
	store_writer_close(w);
	return rc;
}

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
	int (*run)(struct options *o, int argc, char **argv, struct err *e);
} commands[] = {
	{ "import", "make an image of a tar or a directory", cmd_import },
	{ "build", "put an image together from a recipe, unless it is there", cmd_build },
	{ "prepare", "write the root image of an image of the store", cmd_prepare },
	{ "ls", "list the images", cmd_ls },
	{ "inspect", "show an image's configuration and state", cmd_inspect },
	{ "rm", "remove images", cmd_rm },
};

static const struct option long_options[] = {
	{ "name", required_argument, NULL, 'n' },
	{ "tar", required_argument, NULL, 't' },
	{ "dir", required_argument, NULL, 'd' },
	{ "config", required_argument, NULL, 'c' },
	{ "jail", required_argument, NULL, 'J' },
	{ "quiet", no_argument, NULL, 'q' },
	{ "json", no_argument, NULL, 'j' },
	{ "force", no_argument, NULL, 'f' },
	{ "base", required_argument, NULL, 'b' },
	{ "help", no_argument, NULL, 'h' },
	{ NULL, 0, NULL, 0 },
};

static void main_help(void)
{
	printf("usage: %s COMMAND [OPTIONS]\n\n", main_program);
	for (size_t i = 0; i < ARRAY_SIZE(commands); i++)
		printf("  %-10s %s\n", commands[i].name, commands[i].what);
	printf("\n"
	       "  --name NAME[:TAG]    name of the image that is made (import, build)\n"
	       "  --tar FILE|-         tar, plain or compressed with gzip or zstd (import)\n"
	       "  --base IMAGE         the tar is a layer over this image (import --tar)\n"
	       "  --dir DIR            directory (import)\n"
	       "  --config KEY=VALUE   entrypoint, cmd, env, label, workdir, user, stop-signal;\n"
	       "                       once for each word of a list (import)\n"
	       "  --force              make it again although it is there (build, prepare)\n"
	       "  --jail full|reduced  how archives are read; full is the default\n"
	       "  --json               output for programs (import, ls; inspect always)\n"
	       "  -q, --quiet          no progress\n");
}

/* Return: 0, 2 for a mistake, 3 if all is done (--help). */
static int main_options(int argc, char **argv, struct options *o, struct err *e)
{
	int c;

	while ((c = getopt_long(argc, argv, "qh", long_options, NULL)) >= 0) {
		switch (c) {
		case 'n':
			o->name = optarg;
			break;
		case 't':
			o->tar = optarg;
			break;
		case 'd':
			o->dir = optarg;
			break;
		case 'b':
			o->base = optarg;
			break;
		case 'c':
			if (main_config(&o->config, optarg, e))
				return 2;
			break;
		case 'q':
			o->quiet = true;
			break;
		case 'j':
			o->json = true;
			break;
		case 'f':
			o->force = true;
			break;
		case 'J':
			if (strcmp(optarg, "full") && strcmp(optarg, "reduced")) {
				err_set(e, EINVAL, "--jail is full or reduced, not '%s'", optarg);
				return 2;
			}
			tool_set_jail(strcmp(optarg, "full") ? JAIL_REDUCED : JAIL_FULL);
			break;
		case 'h':
			main_help();
			return 3;
		default: /* getopt has said what is wrong */
			return 2;
		}
	}
	return 0;
}

static int main_run(int argc, char **argv, struct err *e)
{
	struct options o = { .name = NULL };
	int rc = main_options(argc, argv, &o, e);

	if (rc || optind == argc) {
		if (!rc)
			rc = main_usage(e,
					"import|build|prepare|ls|inspect|rm (--help tells more)");
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

	if (main_writer(&w, NULL) == 0)
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
	if (argc > 1 && !strcmp(argv[1], "assemble"))
		return assemble_main(argc, argv);
	setlocale(LC_CTYPE, "C.UTF-8");
	/* `msb image` hands over to us under its own name. */
	if (argc && strchr(argv[0], ' '))
		main_program = argv[0];
	return guard_run(main_work, &args, main_clean);
}
