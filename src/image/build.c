/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DOC: An image from a recipe
 *
 * Steps, each in the recipe's temporary folder of the store, which goes away at the
 * end whatever happens:
 *
 *   apt        lists, dependencies, download          (apt.c)
 *   dpkg-deb   each .deb to a tar, into a pipe
 *   assembler  those tars to base.tar, jailed         (assemble.c)
 *   post       base.tar unpacked; byte code and the cache of shared libraries are made
 *              with the image's own programs, jailed  (post.c)
 *   assembler  base.tar and what post made to the layer, gzip
 *   import     layer to blob and root image           (import.c)
 *
 * No maintainer script runs and no root rights are needed.  The versions of the
 * packages go into the labels; the same versions give the same layer.
 */
#include "image/build.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "codec/recipe.h"
#include "image/apt.h"
#include "image/assemble.h"
#include "image/post.h"
#include "image/progress.h"
#include "image/tool.h"

#define LABEL_RECIPE "dev.microsandbox.recipe"
#define LABEL_PACKAGES "dev.microsandbox.packages"

struct build {
	struct store_writer *w;
	struct recipe recipe;
	char *text; /* of the recipe */
	char name[REFERENCE_MAX];
	struct store_temp dir;
	char *path; /* of dir */
	struct apt apt;
};

static int build_load(const char *path, char **text, struct recipe *r, struct err *e)
{
	auto_close int fd = open(path, O_RDONLY | O_CLOEXEC);
	auto_free char *p = malloc(RECIPE_TEXT_MAX + 2);
	size_t n = 0;
	ssize_t k = 0;
	int rc;

	if (!p)
		return err_errno(e, ENOMEM, "read the recipe");
	if (fd < 0)
		return err_errno(e, errno, "open the recipe %s", path);
	while (n <= RECIPE_TEXT_MAX && (k = read(fd, p + n, RECIPE_TEXT_MAX + 1 - n)) > 0)
		n += (size_t)k;
	if (k < 0)
		return err_errno(e, errno, "read the recipe %s", path);
	p[n] = '\0';
	rc = recipe_parse(p, n, r, e);
	if (rc)
		err_wrap(e, "recipe %s", path);
	else
		*text = take_ptr(&p);
	return rc;
}

/* dpkg-deb writes the package's tar into the assembler's pipe. */
static int build_feed_package(const struct apt_package *p, int to, struct err *e)
{
	char *argv[] = { (char *)"dpkg-deb", (char *)"--fsys-tarfile", p->file, NULL };
	const struct child_fd fds[] = { { to, 1 }, { STDERR_FILENO, 2 } };
	const struct tool t = { "dpkg-deb", "dpkg", argv, fds, ARRAY_SIZE(fds) };
	struct child child = CHILD_INIT;
	int status, rc = tool_spawn(&t, &child, e);

	if (!rc)
		rc = child_reap(&child, &status);
	if (!rc && status) {
		char text[128];

		child_status_text(status, text, sizeof(text));
		rc = err_set(e, EIO, "package %s cannot be unpacked: dpkg-deb %s", p->name, text);
	}
	return rc;
}

/* Copies a file into a pipe. */
static int build_feed_file(int from, int to, struct err *e)
{
	char buf[65536];
	off_t at = 0;

	for (;;) {
		ssize_t n = pread(from, buf, sizeof(buf), at), done = 0;

		if (n < 0)
			return err_errno(e, errno, "read a part of the layer");
		if (!n)
			return 0;
		while (done < n) {
			ssize_t k = write(to, buf + done, (size_t)(n - done));

			if (k < 0 && errno != EINTR)
				return err_errno(e, errno, "hand a part of the layer over");
			done += k > 0 ? k : 0;
		}
		at += n;
	}
}

/*
 * Runs the assembler over what @feed writes.  If it fails, its own reason counts,
 * not the broken pipe that it left.
 */
static int build_assemble(struct build *b, int out, bool gzip, const char *recipe,
			  int (*feed)(struct build *b, void *arg, int to, struct err *e), void *arg,
			  struct err *e)
{
	struct err feed_error = ERR_INIT;
	auto_close int rd = -1, wr = -1;
	struct child child = CHILD_INIT;
	int fds[2], report, rc, fed;

	if (pipe2(fds, O_CLOEXEC) < 0)
		return err_errno(e, errno, "start the assembler: pipe");
	rd = fds[0];
	wr = fds[1];
	/* A larger pipe: dpkg-deb and the assembler run side by side. */
	(void)fcntl(wr, F_SETPIPE_SZ, 1 << 20);
	const struct assemble_job job = { .in = rd, .out = out, .recipe = recipe, .gzip = gzip };

	rc = assemble_start(&job, &child, &report, e);
	if (rc)
		return rc;
	close_fd(&rd);
	fed = feed(b, arg, wr, &feed_error);
	close_fd(&wr);
	rc = assemble_finish(&child, report, e);
	if (!rc && fed)
		rc = err_set(e, feed_error.code, "%s", err_text(&feed_error));
	return rc;
}

static int build_feed_packages(struct build *b, void *arg, int to, struct err *e)
{
	int rc = 0;

	(void)arg;
	for (size_t i = 0; !rc && i < b->apt.n; i++) {
		progress_percent(100.0 * (double)i / (double)b->apt.n);
		rc = build_feed_package(&b->apt.packages[i], to, e);
	}
	return rc;
}

struct build_parts {
	int fds[3];
	size_t n;
};

static int build_feed_parts(struct build *b, void *arg, int to, struct err *e)
{
	const struct build_parts *p = arg;
	int rc = 0;

	(void)b;
	for (size_t i = 0; !rc && i < p->n; i++)
		rc = build_feed_file(p->fds[i], to, e);
	return rc;
}

static int build_open(const struct build *b, const char *name, int *out, struct err *e)
{
	*out = openat(b->dir.fd, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
	return *out < 0 ? err_errno(e, errno, "make %s/%s", b->path, name) : 0;
}

/* Packages to the layer, in @layer. */
static int build_layer(struct build *b, struct store_temp *layer, struct err *e)
{
	auto_close int base = -1, extra = -1;
	struct build_parts parts = { .n = 1 };
	int rc = build_open(b, "base.tar", &base, e);

	if (rc)
		return rc;
	progress_step("%s: unpacking %zu packages", b->name, b->apt.n);
	rc = build_assemble(b, base, false, b->text, build_feed_packages, NULL, e);
	if (!rc && (b->recipe.bytecode_python || b->recipe.ld_cache)) {
		rc = build_open(b, "extra.tar", &extra, e);
		if (!rc)
			rc = post_run(&b->recipe, b->path, base, extra, e);
		parts.fds[parts.n++] = extra;
	}
	if (rc)
		return rc;
	progress_step("%s: writing the layer", b->name);
	parts.fds[0] = base;
	return build_assemble(b, layer->fd, true, NULL, build_feed_parts, &parts, e);
}

static int build_labels(struct build *b, struct err *e)
{
	struct image_config *c = &b->recipe.config;
	auto_free char *packages = NULL;
	auto_free char *label = NULL;
	size_t size = 1;

	for (size_t i = 0; i < b->apt.n; i++)
		size += strlen(b->apt.packages[i].name) + strlen(b->apt.packages[i].version) + 2;
	packages = calloc(size, 1);
	if (!packages)
		return err_errno(e, ENOMEM, "label the image");
	for (size_t i = 0, n = 0; i < b->apt.n; i++)
		n += (size_t)snprintf(packages + n, size - n, "%s%s=%s", i ? " " : "",
				      b->apt.packages[i].name, b->apt.packages[i].version);
	if (asprintf(&label, LABEL_PACKAGES "=%s", packages) < 0)
		label = NULL;
	if (!label || strlist_add(&c->labels, label))
		return err_errno(e, ENOMEM, "label the image");
	snprintf(label, strlen(label), LABEL_RECIPE "=%s", b->recipe.name);
	if (strlist_add(&c->labels, label))
		return err_errno(e, ENOMEM, "label the image");
	return 0;
}

static int build_run(struct build *b, struct err *e)
{
	struct store_temp layer = STORE_TEMP_INIT;
	struct import_result res;
	int rc;

	progress_step("%s: asking for the lists of packages", b->name);
	rc = apt_update(b->path, e);
	if (!rc)
		rc = apt_resolve(b->path, b->recipe.packages, b->recipe.omit, &b->apt, e);
	if (rc)
		return rc;
	progress_step("%s: fetching %zu packages", b->name, b->apt.n);
	rc = apt_download(&b->apt, e);
	if (!rc)
		rc = store_temp_file(b->w, &layer, e);
	if (!rc)
		rc = build_layer(b, &layer, e);
	if (!rc)
		rc = build_labels(b, e);
	if (!rc)
		rc = import_layer(b->w, &layer, &b->recipe.config, b->name, &res, e);
	store_temp_fini(&layer);
	return rc;
}

/* Is the image there, or can its root image be written again from its layer? */
static bool build_present(struct build *b)
{
	struct image *img;
	bool there;
	int fd;

	if (store_resolve(store_writer_store(b->w), b->name, &img, NULL))
		return false;
	there = rootimage_open(img->rootfs, &fd, NULL) == 0;
	image_free(img);
	if (there)
		close(fd);
	return there || import_prepare(b->w, b->name, false, NULL) == 0;
}

static void build_waiting(const char *recipe)
{
	progress_step("waiting for another build of %s", recipe);
}

int build_recipe(struct store_writer *w, const char *path, const char *name, bool force,
		 char *built, bool *was_there, struct err *e)
{
	struct build b = { .w = w, .dir = STORE_TEMP_INIT };
	auto_close int lock = -1;
	int rc = build_load(path, &b.text, &b.recipe, e);

	if (rc)
		return rc;
	if (name)
		snprintf(b.name, sizeof(b.name), "%s", name);
	else
		snprintf(b.name, sizeof(b.name), "microsandbox/%s:latest", b.recipe.name);
	rc = store_lock_recipe(w, b.recipe.name, build_waiting, &lock, e);
	*was_there = !rc && !force && build_present(&b);
	if (!rc && !*was_there) {
		rc = store_temp_dir(w, &b.dir, e);
		if (!rc && !(b.path = store_temp_path(&b.dir)))
			rc = err_errno(e, ENOMEM, "build the recipe");
		if (!rc)
			rc = build_run(&b, e);
		if (rc)
			err_wrap(e, "recipe %s", b.recipe.name);
		store_temp_fini(&b.dir);
	}
	progress_end();
	if (!rc)
		snprintf(built, REFERENCE_MAX, "%s", b.name);
	apt_fini(&b.apt);
	recipe_fini(&b.recipe);
	free(b.path);
	free(b.text);
	return rc;
}
