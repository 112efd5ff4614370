/* SPDX-License-Identifier: Apache-2.0 */
#include "server/images.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "sys/child.h"
#include "sys/parts.h"

#define IMAGES_LINE_MAX 600u /* of a line of msb-image, for the client */

/* One image being made. */
struct image_job {
	struct images *images;
	struct list link;
	struct list waits;
	struct child child;
	struct loop_watch watch;
	struct loop_watch output_watch;
	int output_fd; /* what it prints */
	char line[IMAGES_LINE_MAX], last[IMAGES_LINE_MAX]; /* that is read, and the one before */
	size_t line_len;
	const char *verb; /* of msb-image: "build" or "pull" */
	bool ended; /* it ends, or was told to: nobody joins it any more */
	char *what; /* recipe or name */
};

void images_init(struct images *im, struct loop *l, const char *home, const char *jail, bool pull)
{
	im->pull = pull;
	im->loop = l;
	im->home = home;
	im->jail = jail;
	list_init(&im->jobs);
}

static void image_job_leave(struct image_wait *w)
{
	list_remove(&w->link);
	w->job = NULL;
}

static void image_job_destroy(struct image_job *j)
{
	while (!list_empty(&j->waits))
		image_job_leave(list_entry(j->waits.next, struct image_wait, link));
	list_remove(&j->link);
	loop_watch_remove(&j->watch);
	loop_watch_remove(&j->output_watch);
	child_kill(&j->child);
	close_fd(&j->output_fd);
	free(j->what);
	free(j);
}

void images_fini(struct images *im)
{
	list_for_each (pos, tmp, &im->jobs)
		image_job_destroy(list_entry(pos, struct image_job, link));
}

/* A line is complete; what it says is what is being done, or, at the end, what went wrong. */
static void image_job_line(struct image_job *j)
{
	j->line[j->line_len] = '\0';
	if (!j->line_len)
		return;
	memcpy(j->last, j->line, j->line_len + 1);
	j->line_len = 0;
	/* Who is told may not wait any more after it; nobody else goes. */
	list_for_each (pos, tmp, &j->waits) {
		struct image_wait *w = list_entry(pos, struct image_wait, link);

		if (w->progress)
			w->progress(w, j->last);
	}
}

/* Takes what it printed. Return: was there something? */
static bool image_job_read(struct image_job *j)
{
	char text[1024];
	ssize_t n = read(j->output_fd, text, sizeof(text));

	if (n <= 0 && (n == 0 || errno != EAGAIN))
		loop_watch_remove(&j->output_watch);
	for (ssize_t i = 0; i < n; i++) {
		if (text[i] == '\n')
			image_job_line(j);
		else if (j->line_len < sizeof(j->line) - 1) /* of a longer one, the beginning */
			j->line[j->line_len++] = text[i];
	}
	return n > 0;
}

static void image_job_output(struct loop_watch *w, uint32_t events)
{
	(void)events;
	image_job_read(container_of(w, struct image_job, output_watch));
}

static void image_job_done(struct loop_watch *w, uint32_t events)
{
	struct image_job *j = container_of(w, struct image_job, watch);
	struct err e = ERR_INIT;
	int status = 0;

	(void)events;
	loop_watch_remove(w);
	child_reap(&j->child, &status);
	while (image_job_read(j))
		;
	image_job_line(j);
	if (status) {
		const char *name = strrchr(j->what, '/');

		if (!strcmp(j->verb, "pull"))
			err_set(&e, EIO, "the image could not be pulled: %s", j->last);
		else
			err_set(&e, EIO,
				"the image could not be put together from the recipe %s: %s",
				name ? name + 1 : j->what, j->last);
	}
	log_info("event=image-%s what=%s status=%d", j->verb, j->what, status);
	/* Who is told may find that the image is gone again, and ask for another job. */
	j->ended = true;
	while (!list_empty(&j->waits)) {
		struct image_wait *wait = list_entry(j->waits.next, struct image_wait, link);

		image_job_leave(wait);
		wait->done(wait, status ? &e : NULL);
	}
	image_job_destroy(j);
}

/* msb-image needs the user's environment: proxies, TMPDIR, HOME. */
static int image_job_spawn(struct image_job *j, struct err *e)
{
	auto_free char *program = NULL;
	auto_close int theirs = -1;
	int rc = parts_path("msb-image", &program, e), p[2];

	if (rc)
		return rc;
	if (pipe2(p, O_CLOEXEC) < 0)
		return err_errno(e, errno, "pipe");
	j->output_fd = p[0];
	theirs = p[1];
	fcntl(j->output_fd, F_SETFL, O_NONBLOCK);
	char *argv[] = {
		(char *)"msb-image",
		(char *)j->verb,
		(char *)"--jail",
		(char *)j->images->jail,
		j->what,
		strcmp(j->verb, "pull") ? NULL : (char *)"--public-only",
		NULL,
	};
	const struct child_fd fds[] = { { theirs, STDERR_FILENO } };
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
	if (!rc)
		rc = loop_watch_add(j->images->loop, &j->output_watch, j->output_fd, EPOLLIN);
	return rc ? err_errno(e, -rc, "watch msb-image") : 0;
}

static int image_job_join(struct images *im, const char *verb, const char *what,
			  struct image_wait *w, struct err *e)
{
	struct image_job *j = NULL;
	int rc;

	list_for_each (pos, tmp, &im->jobs) {
		struct image_job *is = list_entry(pos, struct image_job, link);

		if (!is->ended && !strcmp(is->what, what))
			j = is;
	}
	if (!j) {
		j = calloc(1, sizeof(*j));
		if (!j)
			return err_errno(e, ENOMEM, "image");
		j->images = im;
		j->output_fd = -1;
		j->child = (struct child)CHILD_INIT;
		list_init(&j->waits);
		loop_watch_init(&j->watch, image_job_done);
		loop_watch_init(&j->output_watch, image_job_output);
		list_append(&im->jobs, &j->link);
		j->verb = verb;
		j->what = strdup(what);
		rc = j->what ? image_job_spawn(j, e) : err_errno(e, ENOMEM, "image");
		if (rc) {
			image_job_destroy(j);
			return rc;
		}
		log_info("event=image-%s what=%s", verb, what);
	}
	list_append(&j->waits, &w->link);
	w->job = j;
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
	w->job = NULL;
	if (rc)
		return rc;
	rc = store_resolve(s, name, &img, &missing);
	store_close(s);
	if (!rc && !stat(img->rootfs, &st)) {
		store_touch(img);
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
	if (recipe_find(recipes, name, &recipe) == 0)
		return image_job_join(im, "build", recipe, w, e);
	if (!im->pull)
		return err_set(
			e, ENOENT,
			"image '%s' is not in the store, there is no recipe for it, and this "
			"server asks no registry (--pull never): see `msb image ls`",
			name);
	return image_job_join(im, "pull", name, w, e);
}

void images_forget(struct image_wait *w)
{
	struct image_job *j = w->job;

	if (!j)
		return;
	image_job_leave(w);
	if (strcmp(j->verb, "pull") || j->ended || !list_empty(&j->waits))
		return;
	/* It is destroyed when its process is gone. */
	j->ended = true;
	log_info("event=image-pull-abandoned what=%s", j->what);
	pidfd_send_signal(j->child.pidfd, SIGTERM, NULL, 0); /* it cleans up */
}
