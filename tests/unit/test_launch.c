/* SPDX-License-Identifier: Apache-2.0 */
/* What a sandbox leaves on disk: swept up when nobody holds it, and never more than that. */
#include "unit/test.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "lib/launch.h"
#include "sys/file.h"
#include "sys/tree.h"

struct fixture {
	char home[64];
	int fd;
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	test_setup(state);
	assert_non_null(f);
	snprintf(f->home, sizeof(f->home), "/tmp/msb-test-launch-XXXXXX");
	assert_non_null(mkdtemp(f->home));
	f->fd = open(f->home, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_true(f->fd >= 0);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	close_fd(&f->fd);
	assert_int_equal(tree_remove(AT_FDCWD, f->home), 0);
	assert_int_equal(access(f->home, F_OK), -1);
	free(f);
	return test_teardown(state);
}

static void make_dir(struct fixture *f, const char *path)
{
	assert_int_equal(mkdirat(f->fd, path, 0700), 0);
}

static void make_file(struct fixture *f, const char *path)
{
	int fd = openat(f->fd, path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, "content", 7), 7);
	close(fd);
}

static bool exists(struct fixture *f, const char *path)
{
	struct stat st;

	return !fstatat(f->fd, path, &st, AT_SYMLINK_NOFOLLOW);
}

/* ---- launch_sweep ---------------------------------------------------------------- */

static void only_what_nobody_holds_is_swept(void **state)
{
	struct fixture *f = *state;
	int lock;

	make_dir(f, "run");
	make_dir(f, "run/dead");
	make_dir(f, "run/dead/logs");
	make_file(f, "run/dead/logs/console.log");
	make_file(f, "run/dead/config.json");
	make_dir(f, "run/alive");
	make_file(f, "run/alive/config.json");
	lock = openat(f->fd, "run/alive", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_int_equal(flock(lock, LOCK_EX | LOCK_NB), 0);

	assert_int_equal(launch_sweep(f->home), 1);
	assert_false(exists(f, "run/dead"));
	assert_true(exists(f, "run/alive/config.json"));
	assert_int_equal(launch_sweep(f->home), 0);
	/* Its supervisor dies, and the lock with it. */
	close(lock);
	assert_int_equal(launch_sweep(f->home), 1);
	assert_false(exists(f, "run/alive"));
	assert_true(exists(f, "run"));
}

static void the_sweep_follows_no_symbolic_link(void **state)
{
	struct fixture *f = *state;

	make_dir(f, "run");
	make_dir(f, "precious");
	make_file(f, "precious/file");
	assert_int_equal(symlinkat("../precious", f->fd, "run/link"), 0);
	make_dir(f, "run/dead");
	assert_int_equal(symlinkat("../../precious", f->fd, "run/dead/link"), 0);
	assert_int_equal(symlinkat("/", f->fd, "run/dead/root"), 0);

	assert_int_equal(launch_sweep(f->home), 1);
	assert_false(exists(f, "run/dead"));
	assert_true(exists(f, "run/link"));
	assert_true(exists(f, "precious/file"));
}

static void the_sweep_leaves_files_and_hidden_names(void **state)
{
	struct fixture *f = *state;

	make_dir(f, "run");
	make_file(f, "run/file");
	make_dir(f, "run/.hidden");
	assert_int_equal(mkfifoat(f->fd, "run/fifo", 0600), 0);
	assert_int_equal(launch_sweep(f->home), 0);
	assert_true(exists(f, "run/file") && exists(f, "run/.hidden") && exists(f, "run/fifo"));
}

static void a_home_without_sandboxes_is_fine(void **state)
{
	struct fixture *f = *state;
	char path[96];

	assert_int_equal(launch_sweep(f->home), 0);
	snprintf(path, sizeof(path), "%s/absent", f->home);
	assert_int_equal(launch_sweep(path), 0);
	assert_false(exists(f, "absent"));
}

/* ---- sandboxes with a name ---------------------------------------------------------- */

static void a_name_is_claimed_once(void **state)
{
	struct fixture *f = *state;
	struct err e = ERR_INIT;
	int fd, again = -1;

	assert_int_equal(launch_claim(f->home, "box", &fd, NULL), 0);
	assert_true(exists(f, "box"));
	assert_int_equal(launch_claim(f->home, "box", &again, &e), -EBUSY);
	assert_non_null(strstr(err_text(&e), "box is running already"));
	assert_int_equal(again, -1);
	assert_int_equal(launch_remove(f->home, "box"), -EBUSY);
	assert_int_equal(mkdirat(fd, "run", 0700), 0);
	close(fd);
	/* What the dead one left is gone before the next begins. */
	assert_int_equal(launch_claim(f->home, "box", &fd, NULL), 0);
	assert_false(exists(f, "box/run"));
	close(fd);
	assert_int_equal(launch_remove(f->home, "box"), 0);
	assert_false(exists(f, "box"));
	assert_int_equal(launch_remove(f->home, "box"), 0);
}

static void a_claim_follows_no_symbolic_link(void **state)
{
	struct fixture *f = *state;
	int fd = -1;

	make_dir(f, "precious");
	make_file(f, "precious/file");
	assert_int_equal(symlinkat("precious", f->fd, "box"), 0);
	assert_true(launch_claim(f->home, "box", &fd, NULL) < 0);
	assert_int_equal(fd, -1);
	assert_true(exists(f, "precious/file"));
}

struct found {
	unsigned n;
	char name[16];
};

static void note_found(void *ctx, const char *name, int dirfd)
{
	struct found *found = ctx;
	struct stat st;

	found->n++;
	snprintf(found->name, sizeof(found->name), "%s", name);
	assert_int_equal(fstatat(dirfd, "mark", &st, 0), 0);
}

static void the_living_are_found_and_the_dead_removed(void **state)
{
	struct fixture *f = *state;
	struct found found = { 0 };
	int fd;

	make_dir(f, "dead");
	make_file(f, "dead/config.json");
	make_file(f, "file");
	assert_int_equal(launch_claim(f->home, "alive", &fd, NULL), 0);
	make_file(f, "alive/mark");
	launch_each(f->home, note_found, &found);
	assert_int_equal(found.n, 1);
	assert_string_equal(found.name, "alive");
	assert_false(exists(f, "dead"));
	assert_true(exists(f, "file"));
	close(fd);
	launch_each(f->home, note_found, &found);
	assert_int_equal(found.n, 1);
	assert_false(exists(f, "alive"));
	launch_each("/nonexistent", note_found, &found);
}

/* ---- tree_remove ----------------------------------------------------------------- */

static void a_tree_goes_and_its_links_are_not_followed(void **state)
{
	struct fixture *f = *state;

	make_dir(f, "keep");
	make_file(f, "keep/file");
	make_dir(f, "tree");
	make_dir(f, "tree/.a");
	make_dir(f, "tree/.a/b");
	make_file(f, "tree/.a/b/file");
	assert_int_equal(symlinkat("../keep", f->fd, "tree/up"), 0);
	assert_int_equal(symlinkat("nowhere", f->fd, "tree/.a/broken"), 0);
	assert_int_equal(mkfifoat(f->fd, "tree/fifo", 0600), 0);
	assert_int_equal(tree_remove(f->fd, "tree"), 0);
	assert_false(exists(f, "tree"));
	assert_true(exists(f, "keep/file"));

	assert_int_equal(symlinkat("keep", f->fd, "link"), 0);
	assert_int_equal(tree_remove(f->fd, "link"), 0);
	assert_false(exists(f, "link"));
	assert_true(exists(f, "keep/file"));
}

static void a_missing_tree_is_no_error(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(tree_remove(f->fd, "absent"), 0);
	make_file(f, "file");
	assert_int_equal(tree_remove(f->fd, "file/below"), -ENOTDIR);
	assert_int_equal(tree_remove(f->fd, "file"), 0);
	assert_false(exists(f, "file"));
}

/* ---- small files ----------------------------------------------------------------- */

static void a_file_is_replaced_whole(void **state)
{
	struct fixture *f = *state;
	struct stat st;
	char *text;
	size_t len;
	int old;

	assert_int_equal(file_write_at(f->fd, "c", "old text", 8, 0640, false, NULL), 0);
	old = openat(f->fd, "c", O_RDONLY | O_CLOEXEC);
	assert_int_equal(file_write_at(f->fd, "c", "a\0b", 3, 0600, true, NULL), 0);
	assert_int_equal(file_read_at(f->fd, "c", 3, &text, &len, NULL), 0);
	assert_int_equal(len, 3);
	assert_memory_equal(text, "a\0b\0", 4);
	free(text);
	/* Who had the old one open reads it to its end. */
	assert_int_equal(fstat(old, &st), 0);
	assert_int_equal(st.st_size, 8);
	close(old);
	assert_int_equal(fstatat(f->fd, "c", &st, 0), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	assert_false(exists(f, "c.tmp"));

	assert_int_equal(file_write_at(f->fd, "c", NULL, 0, 0600, false, NULL), 0);
	assert_int_equal(file_read_at(f->fd, "c", 0, &text, &len, NULL), 0);
	assert_int_equal(len, 0);
	assert_string_equal(text, "");
	free(text);
}

static void what_is_no_regular_file_is_not_read(void **state)
{
	struct fixture *f = *state;
	struct err e = ERR_INIT;
	char *text = NULL;
	size_t len;

	make_file(f, "file");
	make_dir(f, "dir");
	assert_int_equal(symlinkat("file", f->fd, "link"), 0);
	assert_int_equal(mkfifoat(f->fd, "fifo", 0600), 0);
	assert_int_equal(file_read_at(f->fd, "link", 100, &text, &len, NULL), -ELOOP);
	assert_int_equal(file_read_at(f->fd, "dir", 100, &text, &len, NULL), -EINVAL);
	assert_int_equal(file_read_at(f->fd, "absent", 100, &text, &len, NULL), -ENOENT);
	assert_int_equal(file_read_at(f->fd, "file", 6, &text, &len, NULL), -EFBIG);
	/* Nobody writes into it: this must not wait. */
	assert_int_equal(file_read_at(f->fd, "fifo", 100, &text, &len, &e), -EINVAL);
	assert_non_null(strstr(err_text(&e), "fifo is not a regular file"));
	assert_null(text);
}

/* Whatever lies where the new file is put together: nobody waits for it or writes into it. */
static void a_planted_temporary_file_does_no_harm(void **state)
{
	struct fixture *f = *state;
	struct stat st;
	char *text;
	size_t len;

	make_file(f, "victim");
	assert_int_equal(mkfifoat(f->fd, "a.tmp", 0600), 0);
	assert_int_equal(file_write_at(f->fd, "a", "new", 3, 0600, false, NULL), 0);
	assert_int_equal(symlinkat("victim", f->fd, "a.tmp"), 0);
	assert_int_equal(file_write_at(f->fd, "a", "newer", 5, 0600, false, NULL), 0);
	assert_int_equal(fstatat(f->fd, "a", &st, AT_SYMLINK_NOFOLLOW), 0);
	assert_true(S_ISREG(st.st_mode));
	assert_int_equal(file_read_at(f->fd, "victim", 100, &text, &len, NULL), 0);
	assert_string_equal(text, "content");
	free(text);
	/* One that a killed writer left, with a mode of its own. */
	make_file(f, "a.tmp");
	assert_int_equal(fchmodat(f->fd, "a.tmp", 0666, 0), 0);
	assert_int_equal(file_write_at(f->fd, "a", "x", 1, 0600, false, NULL), 0);
	assert_int_equal(fstatat(f->fd, "a", &st, AT_SYMLINK_NOFOLLOW), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	assert_int_equal(st.st_size, 1);
}

static void a_link_or_fifo_in_the_files_place_is_replaced(void **state)
{
	struct fixture *f = *state;
	char *text;
	size_t len;

	make_file(f, "victim");
	assert_int_equal(symlinkat("victim", f->fd, "link"), 0);
	assert_int_equal(mkfifoat(f->fd, "fifo", 0600), 0);
	assert_int_equal(file_write_at(f->fd, "link", "new", 3, 0600, false, NULL), 0);
	assert_int_equal(file_write_at(f->fd, "fifo", "new", 3, 0600, false, NULL), 0);
	assert_int_equal(file_read_at(f->fd, "fifo", 3, &text, &len, NULL), 0);
	free(text);
	assert_int_equal(file_read_at(f->fd, "victim", 7, &text, &len, NULL), 0);
	assert_string_equal(text, "content");
	free(text);
}

static void a_failed_write_leaves_the_old_file(void **state)
{
	struct fixture *f = *state;
	char name[300];

	make_dir(f, "dir");
	make_file(f, "dir/inside");
	assert_int_equal(file_write_at(f->fd, "dir", "x", 1, 0600, false, NULL), -EISDIR);
	assert_true(exists(f, "dir/inside"));
	assert_false(exists(f, "dir.tmp"));
	memset(name, 'n', sizeof(name) - 1);
	name[sizeof(name) - 1] = '\0';
	assert_int_equal(file_write_at(f->fd, name, "x", 1, 0600, false, NULL), -ENAMETOOLONG);
}

#define LAUNCH_TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		LAUNCH_TEST(only_what_nobody_holds_is_swept),
		LAUNCH_TEST(the_sweep_follows_no_symbolic_link),
		LAUNCH_TEST(the_sweep_leaves_files_and_hidden_names),
		LAUNCH_TEST(a_home_without_sandboxes_is_fine),
		LAUNCH_TEST(a_name_is_claimed_once),
		LAUNCH_TEST(a_claim_follows_no_symbolic_link),
		LAUNCH_TEST(the_living_are_found_and_the_dead_removed),
		LAUNCH_TEST(a_tree_goes_and_its_links_are_not_followed),
		LAUNCH_TEST(a_missing_tree_is_no_error),
		LAUNCH_TEST(a_file_is_replaced_whole),
		LAUNCH_TEST(what_is_no_regular_file_is_not_read),
		LAUNCH_TEST(a_planted_temporary_file_does_no_harm),
		LAUNCH_TEST(a_link_or_fifo_in_the_files_place_is_replaced),
		LAUNCH_TEST(a_failed_write_leaves_the_old_file),
	};

	return test_run(tests);
}
