/* SPDX-License-Identifier: Apache-2.0 */
/* Images that sandboxes wait for, with a program of our own in the place of msb-image. */
#include "unit/test.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "base/mem.h"
#include "server/images.h"
#include "sys/file.h"
#include "sys/parts.h"
#include "sys/tree.h"

#define TURN_MS 10000 /* only what hangs takes so long */

static char dir[] = "/tmp/msb-test-images-XXXXXX";

/* In place of those in sys/parts.c: the parts are in the test's own directory. */
int parts_path(const char *name, char **out, struct err *e)
{
	(void)e;
	return asprintf(out, "%s/%s", dir, name) < 0 ? -ENOMEM : 0;
}

int parts_self(char **out, struct err *e)
{
	return parts_path("msb", out, e);
}

int parts_home(char **out, struct err *e)
{
	return parts_path("home", out, e);
}

/*
 * Says what it is asked for, and waits; the second time, or for a name with "nothing", ends.  It
 * never puts anything into the store.
 */
static const char program[] = "#!/bin/sh\n"
			      "echo \"$@\" >>\"${0%/*}/log\"\n"
			      "echo begun >&2\n"
			      "case $(wc -l <\"${0%/*}/log\")$4 in\n"
			      "1*nothing*) exit 0 ;;\n"
			      "*nothing*) echo failed >&2; exit 1 ;;\n"
			      "esac\n"
			      "exec sleep 1000\n";

struct fixture {
	struct loop *loop;
	struct images images;
	char *home;
};

struct waiter {
	struct image_wait w;
	struct fixture *f;
	const char *again; /* looked for again when it is done */
	unsigned n_progress, n_done, n_failed;
};

static void waiter_done(struct image_wait *w, const struct err *e)
{
	struct waiter *x = container_of(w, struct waiter, w);
	struct image *image;
	struct err why = ERR_INIT;

	x->n_done++;
	x->n_failed += e != NULL;
	assert_true(x->n_done < 3);
	if (!e && x->again)
		assert_int_equal(images_find(&x->f->images, x->again, w, &image, &why),
				 -EINPROGRESS);
}

static void waiter_progress(struct image_wait *w, const char *what)
{
	(void)what;
	container_of(w, struct waiter, w)->n_progress++;
}

static struct waiter waiter(struct fixture *f)
{
	return (struct waiter){ .w = { .done = waiter_done, .progress = waiter_progress }, .f = f };
}

static void find(struct waiter *x, const char *name)
{
	struct image *image;
	struct err e = ERR_INIT;

	assert_int_equal(images_find(&x->f->images, name, &x->w, &image, &e), -EINPROGRESS);
}

static void turn(struct fixture *f)
{
	assert_true(loop_run_once(f->loop, TURN_MS) >= 0);
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	char path[sizeof(dir) + 16];
	struct err e = ERR_INIT;

	strcpy(dir + sizeof(dir) - 7, "XXXXXX");
	assert_non_null(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/msb-image", dir);
	assert_int_equal(file_write_at(AT_FDCWD, path, program, sizeof(program) - 1, 0700, false,
				       &e),
			 0);
	snprintf(path, sizeof(path), "%s/recipes", dir);
	assert_int_equal(mkdir(path, 0700), 0);
	assert_int_equal(parts_home(&f->home, &e), 0);
	assert_int_equal(mkdir(f->home, 0700), 0);
	assert_int_equal(loop_create(&f->loop, &e), 0);
	images_init(&f->images, f->loop, f->home, "full", true);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	images_fini(&f->images);
	loop_destroy(f->loop);
	assert_int_equal(tree_remove(AT_FDCWD, dir), 0);
	free(f->home);
	free(f);
	return 0;
}

static void a_pull_ends_with_the_last_who_waits(void **state)
{
	struct fixture *f = *state;
	struct waiter a = waiter(f), b = waiter(f), late = waiter(f);

	find(&a, "registry.example/slow:1");
	find(&b, "registry.example/slow:1");
	while (!a.n_progress)
		turn(f);
	images_forget(&a.w);
	images_forget(&a.w); /* harmless */
	assert_false(list_empty(&f->images.jobs));
	images_forget(&b.w);
	/* Who comes now has nothing to do with the one that ends. */
	find(&late, "registry.example/slow:1");
	while (!late.n_progress || f->images.jobs.next->next != &f->images.jobs)
		turn(f);
	images_forget(&late.w);
	while (!list_empty(&f->images.jobs))
		turn(f);
	assert_int_equal(a.n_done + b.n_done + late.n_done, 0);
}

static void an_image_that_is_gone_again_is_asked_for_again(void **state)
{
	struct fixture *f = *state;
	struct waiter a = waiter(f);

	a.again = "registry.example/nothing:1";
	find(&a, a.again);
	while (!list_empty(&f->images.jobs))
		turn(f);
	assert_int_equal(a.n_done, 2);
	assert_int_equal(a.n_failed, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(a_pull_ends_with_the_last_who_waits, setup,
						teardown),
		cmocka_unit_test_setup_teardown(an_image_that_is_gone_again_is_asked_for_again,
						setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
