/* SPDX-License-Identifier: Apache-2.0 */
#include "server/images.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "sys/child.h"
#include "sys/parts.h"

#define IMAGES_ERROR_TAIL 600u /* of what msb-image said, for the client */

/* One recipe being made. */
struct image_job {
	struct images *images;
	struct list link;
	struct list waits;
	struct child child;
	struct loop_watch watch;
	int output_fd; /* memory file with what it prints */
	char *recipe;
};

void images_init(struct images *im, struct loop *l, const char *home)
{
	im->loop = l;
	im->home = home;
	list_init(&im->jobs);
}

static void image_job_destroy(struct image_job *j)
{
	list_remove(&j->link);
	loop_watch_remove(&j->watch);
	child_kill(&j->child);
	close_fd(&j->output_fd);
	free(j->recipe);
	free(j);
}

void images_fini(struct images *im)
{
	list_for_each (pos, tmp, &im->jobs)
		image_job_destroy(list_entry(pos, struct image_job, link));
}

/* The last line that it printed. */
static void image_job_last_words(struct image_job *j, char *to, size_t size)
{
	off_t end = lseek(j->output_fd, 0, SEEK_END);
	off_t from = end > (off_t)size - 1 ? end - (off_t)size + 1 : 0;
	ssize_t n = pread(j->output_fd, to, size - 1, from);
	char *nl;

	to[n > 0 ? n : 0] = '\0';
	while (n > 0 && to[n - 1] == '\n')
		to[--n] = '\0';
	nl = strrchr(to, '\n');
	if (nl)
		memmove(to, nl + 1, strlen(nl));
}

static void image_job_done(struct loop_watch *w, uint32_t events)
{
	struct image_job *j = container_of(w, struct image_job, watch);
	char words[IMAGES_ERROR_TAIL] = "";
	struct err e = ERR_INIT;
	int status = 0;

	(void)events;
	loop_watch_remove(w);
	child_reap(&j->child, &status);
	if (status) {
		image_job_last_words(j, words, sizeof(words));
		err_set(&e, EIO, "the image could not be put together from the recipe %s: %s",
			strrchr(j->recipe, '/') ? strrchr(j->recipe, '/') + 1 : j->recipe, words);
	}
	log_info("event=image-built recipe=%s status=%d", j->recipe, status);
	while (!list_empty(&j->waits)) {
		struct image_wait *wait = list_entry(j->waits.next, struct image_wait, link);

		list_remove(&wait->link);
		wait->done(wait, status ? &e : NULL);
	}
	image_job_destroy(j);
}

/* msb-image needs the user's environment: proxies, TMPDIR, HOME. */
static int image_job_spawn(struct image_job *j, struct err *e)
{
	auto_free char *program = NULL;
	int rc = parts_path("msb-image", &program, e);

	if (rc)
		return rc;
	j->output_fd = memfd_create("msb-image", MFD_CLOEXEC);
	if (j->output_fd < 0)
		return err_errno(e, errno, "memfd_create");
	char *argv[] = { (char *)"msb-image", (char *)"build", (char *)"--quiet", j->recipe, NULL };
	const struct child_fd fds[] = { { j->output_fd, STDERR_FILENO } };
	const struct child_spec spec = {
		.path = program,
		.argv = argv,
		.envp = environ,
		.fds = fds,
		.n_fds = ARRAY_SIZE(fds),
		.new_session = true,
		.die_with_parent = true,
	};
	rc = child_spawn(&spec, &j->child, e);
	if (rc)
		return rc;
	rc = loop_watch_add(j->images->loop, &j->watch, j->child.pidfd, EPOLLIN);
	return rc ? err_errno(e, -rc, "watch msb-image") : 0;
}

static int image_job_join(struct images *im, const char *recipe, struct image_wait *w, struct err *e)
{
	struct image_job *j = NULL;
	int rc;

	list_for_each (pos, tmp, &im->jobs)
		if (!strcmp(list_entry(pos, struct image_job, link)->recipe, recipe))
			j = list_entry(pos, struct image_job, link);
	if (!j) {
		j = calloc(1, sizeof(*j));
		if (!j)
			return err_errno(e, ENOMEM, "image");
		j->images = im;
		j->output_fd = -1;
		j->child = (struct child)CHILD_INIT;
		list_init(&j->waits);
		loop_watch_init(&j->watch, image_job_done);
		list_append(&im->jobs, &j->link);
		j->recipe = strdup(recipe);
		rc = j->recipe ? image_job_spawn(j, e) : err_errno(e, ENOMEM, "image");
		if (rc) {
			image_job_destroy(j);
			return rc;
		}
		log_info("event=image-build recipe=%s", recipe);
	}
	list_append(&j->waits, &w->link);
	return -EINPROGRESS;
}

int images_find(struct images *im, const char *name, struct image_wait *w, struct image **out,
		struct err *e)
{
	auto_free char *recipes = NULL;
	auto_free char *recipe = NULL;
	struct err missing = ERR_INIT;
	struct image *img = NULL;
	struct store *s;
	struct stat st;
	int rc = store_open(im->home, &s, e);

	list_init(&w->link);
	if (rc)
		return rc;
	rc = store_resolve(s, name, &img, &missing);
	store_close(s);
	if (!rc && !stat(img->rootfs, &st)) {
		*out = img;
		return 0;
	}
	if (!rc) /* without its root image it is as good as absent */
		image_free(img);
	if (rc && rc != -ENOENT)
		return err_set(e, missing.code, "%s", err_text(&missing));
	rc = parts_path("recipes", &recipes, e);
	if (rc)
		return rc;
	if (recipe_find(recipes, name, &recipe))
		return err_set(e, ENOENT,
			       "image '%s' is not in the store, and there is no recipe for it: "
			       "import one with `msb image import`, or see `msb image ls`",
			       name);
	return image_job_join(im, recipe, w, e);
}

void images_forget(struct image_wait *w)
{
	if (w->link.next)
		list_remove(&w->link);
}
