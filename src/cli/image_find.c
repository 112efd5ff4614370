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

/* An image without its root image (cleaned up, damaged) counts as absent. */
static int image_lookup(struct store *s, const char *name, struct image **out, struct err *e)
{
	struct image *img = NULL;
	struct stat st;
	int rc = store_resolve(s, name, &img, e);

	if (rc)
		return rc;
	if (stat(img->rootfs, &st) < 0) {
		image_free(img);
		return err_set(e, ENOENT, "image %s has no root image", name);
	}
	*out = img;
	return 0;
}

/* msb-image needs the user's environment: proxies, TMPDIR, HOME. */
static int image_build(const char *recipe, bool quiet, const char *jail, struct err *e)
{
	auto_free char *program = NULL;
	struct child child = CHILD_INIT;
	int status, rc = parts_path("msb-image", &program, e);
	char *argv[] = { (char *)"msb-image",
			 (char *)"build",
			 (char *)"--jail",
			 (char *)jail,
			 (char *)recipe,
			 quiet ? (char *)"--quiet" : NULL,
			 NULL };
	const struct child_fd fds[] = { { STDERR_FILENO, STDOUT_FILENO },
					{ STDERR_FILENO, STDERR_FILENO } };
	const struct child_spec spec = {
		.path = program,
		.argv = argv,
		.envp = environ,
		.fds = fds,
		.n_fds = ARRAY_SIZE(fds),
		.die_with_parent = true,
	};

	if (!rc)
		rc = child_spawn(&spec, &child, e);
	if (!rc)
		rc = child_reap(&child, &status);
	if (rc)
		return rc;
	if (status)
		return err_set(e, EIO,
			       "the image could not be put together from the recipe %s (see above)",
			       recipe);
	return 0;
}

int image_find(const char *home, const char *name, bool quiet, const char *jail, struct image **out,
	       struct err *e)
{
	auto_free char *recipes = NULL;
	auto_free char *recipe = NULL;
	struct err missing = ERR_INIT;
	struct store *s;
	int rc = store_open(home, &s, e);

	if (rc)
		return rc;
	rc = image_lookup(s, name, out, &missing);
	if (rc != -ENOENT) {
		store_close(s);
		return rc ? err_set(e, missing.code, "%s", err_text(&missing)) : 0;
	}
	if (!strncmp(name, SANDBOXFILE_RESULT, strlen(SANDBOXFILE_RESULT))) {
		store_close(s);
		return err_set(e, ENOENT,
			       "the image of build '%.*s' is not there, or the build has changed "
			       "since: make it with `msb build`",
			       (int)strcspn(name + strlen(SANDBOXFILE_RESULT), ":"),
			       name + strlen(SANDBOXFILE_RESULT));
	}
	rc = parts_path("recipes", &recipes, e);
	if (!rc && recipe_find(recipes, name, &recipe))
		rc = err_set(e, ENOENT,
			     "image '%s' is not in the store, and there is no recipe for it: "
			     "import one with `msb image import`, or see `msb image ls`",
			     name);
	if (!rc && !quiet)
		cli_notice("image %s is not in the store: building it from its recipe", name);
	if (!rc)
		rc = image_build(recipe, quiet, jail, e);
	if (!rc)
		rc = image_lookup(s, name, out, e);
	store_close(s);
	return rc;
}
