/* SPDX-License-Identifier: Apache-2.0 */
/* msb-image import, build, prepare; and what all commands share. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "image/build.h"
#include "image/cmd.h"
#include "image/import.h"
#include "sys/parts.h"

const char *cmd_program = "msb-image";

int cmd_usage(struct err *e, const char *text)
{
	err_set(e, EINVAL, "usage: %s %s", cmd_program, text);
	return 2;
}

int cmd_writer(struct store_writer **out, struct err *e)
{
	auto_free char *home = NULL;
	int rc = parts_home(&home, e);

	return rc ? rc : store_writer_open(home, out, e);
}

int cmd_store(struct store **out, struct err *e)
{
	auto_free char *home = NULL;
	int rc = parts_home(&home, e);

	return rc ? rc : store_open(home, out, e);
}

int cmd_full_name(const char *name, char to[REFERENCE_MAX], struct err *e)
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
static void cmd_note_dropped(const struct import_result *res)
{
	if (res->xattrs_dropped)
		fprintf(stderr,
			"note: %u extended attributes or access control lists that ext4 "
			"does not know were left out\n",
			res->xattrs_dropped);
	if (res->sockets_dropped)
		fprintf(stderr, "note: %u sockets were left out\n", res->sockets_dropped);
}

int cmd_import(struct cmd_options *o, int argc, char **argv, struct err *e)
{
	struct import_result res;
	struct store_writer *w;
	char name[REFERENCE_MAX];
	auto_close int fd = -1;
	int rc;

	(void)argv;
	if (argc || !o->name || !o->tar == !o->dir || (o->base && !o->tar))
		return cmd_usage(e, "import --name NAME[:TAG] (--tar FILE|- [--base IMAGE] | "
				    "--dir DIR) [--config KEY=VALUE]...");
	rc = cmd_full_name(o->name, name, e);
	if (rc)
		return rc;
	if (o->tar) {
		fd = strcmp(o->tar, "-") ? open(o->tar, O_RDONLY | O_CLOEXEC) : dup(STDIN_FILENO);
		if (fd < 0)
			return err_errno(e, errno, "open %s", o->tar);
	}
	rc = cmd_writer(&w, e);
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
	cmd_note_dropped(&res);
	if (o->json)
		printf("{\"name\":\"%s\",\"digest\":\"%s\",\"layer_bytes\":%llu,"
		       "\"rootfs_bytes\":%llu,\"inodes\":%u}\n",
		       name, res.digest, (unsigned long long)res.layer_bytes,
		       (unsigned long long)res.rootfs_bytes, res.inodes);
	else
		printf("%s %s\n", name, res.digest);
	return 0;
}

static int cmd_print_built(struct store_writer *w, const char *name, bool was_there, struct err *e)
{
	struct image *img;
	int rc = store_resolve(store_writer_store(w), name, &img, e);

	if (rc)
		return rc;
	cmd_print_json(json_pack("{s:s, s:s, s:I, s:b}", "name", name, "digest", img->digest,
				 "stored_bytes", (json_int_t)img->size, "built", !was_there));
	image_free(img);
	return 0;
}

int cmd_build(struct cmd_options *o, int argc, char **argv, struct err *e)
{
	char name[REFERENCE_MAX], built[REFERENCE_MAX];
	auto_free char *dir = NULL;
	auto_free char *path = NULL;
	struct store_writer *w;
	bool was_there;
	int rc;

	if (argc != 1)
		return cmd_usage(e, "build [--name NAME[:TAG]] [--force] [--json] RECIPE|FILE");
	rc = o->name ? cmd_full_name(o->name, name, e) : 0;
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
		rc = cmd_writer(&w, e);
	if (rc)
		return rc;
	rc = build_recipe(w, path ? path : argv[0], o->name ? name : NULL, o->force, built,
			  &was_there, e);
	if (!rc && o->json)
		rc = cmd_print_built(w, built, was_there, e);
	store_writer_close(w);
	if (!rc && !o->json)
		printf("%s\n", built);
	return rc;
}

int cmd_prepare(struct cmd_options *o, int argc, char **argv, struct err *e)
{
	struct store_writer *w;
	int rc;

	if (argc != 1)
		return cmd_usage(e, "prepare [--force] IMAGE");
	rc = cmd_writer(&w, e);
	if (rc)
		return rc;
	rc = import_prepare(w, argv[0], o->force, e);
	store_writer_close(w);
	return rc;
}
