/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/image_find.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/mem.h"
#include "cli/cli.h"
#include "codec/sandboxfile.h"
#include "sys/child.h"
#include "sys/parts.h"

int image_pull_parse(const char *s, enum image_pull *out)
{
	static const char *const names[] = {
		[IMAGE_PULL_MISSING] = "missing", [IMAGE_PULL_ALWAYS] = "always", [IMAGE_PULL_NEVER] = "never"
	};

	for (unsigned i = 0; i < ARRAY_SIZE(names); i++)
		if (!strcmp(s, names[i])) {
			*out = (enum image_pull)i;
			return 0;
		}
	return -EINVAL;
}

/* -ENOENT: there is none. -ENODATA: it is there without its root image (cleaned up). */
static int image_lookup(struct store *s, const char *name, struct image **out, struct err *e)
{
	struct image *img = NULL;
	struct stat st;
	int rc = store_resolve(s, name, &img, e);

	if (rc)
		return rc;
	if (stat(img->rootfs, &st) < 0) {
		image_free(img);
		return err_set(e, ENODATA, "image %s has no root image", name);
	}
	store_touch(img);
	*out = img;
	return 0;
}

/* It needs the user's environment: proxies, TMPDIR, HOME, where passwords are. */
int image_program(char *const *argv, int in, int out, struct err *e)
{
	auto_free char *program = NULL;
	struct child child = CHILD_INIT;
	int status = 0, rc = parts_path("msb-image", &program, e);
	struct child_fd fds[3] = { { STDERR_FILENO, STDERR_FILENO } };
	struct child_spec spec = {
		.path = program,
		.argv = argv,
		.envp = environ,
		.fds = fds,
		.n_fds = 1,
		.die_with_parent = true,
	};
	char how[80];

	if (rc)
		return rc;
	if (in >= 0)
		fds[spec.n_fds++] = (struct child_fd){ in, STDIN_FILENO };
	if (out >= 0)
		fds[spec.n_fds++] = (struct child_fd){ out, STDOUT_FILENO };
	rc = child_spawn(&spec, &child, e);
	if (rc)
		return rc;
	rc = child_reap(&child, &status);
	if (rc)
		return err_errno(e, -rc, "msb-image");
	/* One that was killed could not tell. */
	if (!WIFEXITED(status)) {
		child_status_text(status, how, sizeof(how));
		return err_set(e, EIO, "msb-image %s", how);
	}
	return status ? err_set(e, CLI_TOLD, "msb-image failed") : 0;
}

static int image_make(const struct image_find *f, const char *verb, const char *what, struct err *e)
{
	char *argv[] = { (char *)"msb image",
			 (char *)verb,
			 (char *)"--jail",
			 (char *)f->jail,
			 (char *)what,
			 f->quiet ? (char *)"--quiet" : NULL,
			 NULL };

	return image_program(argv, -1, STDERR_FILENO, e);
}

/* Is it the result of a Sandboxfile's build?  No registry has it. */
static bool image_is_built(const char *name)
{
	return !strncmp(name, SANDBOXFILE_RESULT, strlen(SANDBOXFILE_RESULT));
}

/* Makes an image that is not there, or (@why -ENODATA) the root image of one that is. */
static int image_make_missing(const struct image_find *f, const char *name, int why, struct err *e)
{
	auto_free char *recipes = NULL;
	auto_free char *recipe = NULL;
	int rc;

	if (why == -ENOENT && image_is_built(name))
		return err_set(e, ENOENT,
			       "the image of build '%.*s' is not there, or the build has changed "
			       "since: make it with `msb build`",
			       (int)strcspn(name + strlen(SANDBOXFILE_RESULT), ":"),
			       name + strlen(SANDBOXFILE_RESULT));
	/* The layers are here: nobody has to be asked. */
	if (f->pull == IMAGE_PULL_NEVER && why == -ENODATA)
		return image_make(f, "prepare", name, e);
	if (f->pull == IMAGE_PULL_NEVER)
		return err_set(e, ENOENT, "image '%s' is not in the store (--pull never)", name);
	rc = parts_path("recipes", &recipes, e);
	if (rc)
		return rc;
	if (recipe_find(recipes, name, &recipe) == 0) {
		if (!f->quiet)
			cli_notice("image %s is not in the store: building it from its recipe",
				   name);
		rc = image_make(f, "build", recipe, e);
	} else if (why == -ENODATA) {
		rc = image_make(f, "prepare", name, e);
	} else {
		if (!f->quiet)
			cli_notice("image %s is not in the store: pulling it", name);
		rc = image_make(f, "pull", name, e);
	}
	return rc;
}

int image_find(const struct image_find *f, const char *name, struct image **out, struct err *e)
{
	struct err missing = ERR_INIT;
	struct store *s;
	int rc = 0;

	if (f->pull == IMAGE_PULL_ALWAYS && !image_is_built(name))
		rc = image_make(f, "pull", name, e);
	if (!rc)
		rc = store_open(f->home, &s, e);
	if (rc)
		return rc;
	rc = image_lookup(s, name, out, &missing);
	if (rc == -ENOENT || rc == -ENODATA) {
		rc = image_make_missing(f, name, rc, e);
		/* A store that was not there is opened as an empty one. */
		store_close(s);
		if (!rc)
			rc = store_open(f->home, &s, e);
		if (rc)
			return rc;
		rc = image_lookup(s, name, out, e);
	} else if (rc) {
		err_set(e, missing.code, "%s", err_text(&missing));
	}
	store_close(s);
	return rc;
}
