/* SPDX-License-Identifier: Apache-2.0 */
/* What an untrusted program prints: bounded on disk, one clean line in an error message. */
#include "unit/test.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "sandbox/taillog.h"
#include "sys/file.h"
#include "sys/tree.h"

struct fixture {
	struct taillog log;
	struct loop *loop;
	char dir[64];
	int dirfd, fd; /* fd: the program's end */
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	int fds[2];

	test_setup(state);
	assert_non_null(f);
	snprintf(f->dir, sizeof(f->dir), "/tmp/msb-test-taillog-XXXXXX");
	assert_non_null(mkdtemp(f->dir));
	f->dirfd = open(f->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_int_equal(loop_create(&f->loop, NULL), 0);
	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	f->fd = fds[1];
	assert_int_equal(fcntl(f->fd, F_SETFL, O_NONBLOCK), 0);
	assert_int_equal(taillog_init(&f->log, f->loop, fds[0], f->dirfd, "console.log", NULL), 0);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	taillog_fini(&f->log);
	loop_destroy(f->loop);
	close_fd(&f->fd);
	close_fd(&f->dirfd);
	assert_int_equal(tree_remove(AT_FDCWD, f->dir), 0);
	free(f);
	return test_teardown(state);
}

static void put(struct fixture *f, const void *p, size_t n)
{
	const uint8_t *at = p;

	while (n) {
		ssize_t k = write(f->fd, at, n);

		if (k > 0) {
			at += k;
			n -= (size_t)k;
		}
		assert_int_equal(loop_run_once(f->loop, 0), 0);
	}
	assert_int_equal(loop_run_once(f->loop, 0), 0);
}

static void assert_lines(struct fixture *f, unsigned lines, const char *want)
{
	char text[256];

	taillog_last_lines(&f->log, lines, text, sizeof(text));
	assert_string_equal(text, want);
}

static off_t size_of(struct fixture *f, const char *name)
{
	struct stat st;

	return fstatat(f->dirfd, name, &st, AT_SYMLINK_NOFOLLOW) ? -1 : st.st_size;
}

static void the_file_has_every_byte(void **state)
{
	static const char bytes[] = "a\0b\033[31mred\xff\r\n";
	struct fixture *f = *state;
	char *text;
	size_t len;

	put(f, bytes, sizeof(bytes));
	assert_int_equal(file_read_at(f->dirfd, "console.log", 100, &text, &len, NULL), 0);
	assert_int_equal(len, sizeof(bytes));
	assert_memory_equal(text, bytes, len);
	free(text);
	assert_int_equal(size_of(f, "console.log.old"), -1);
}

static void last_lines_are_joined(void **state)
{
	struct fixture *f = *state;

	assert_lines(f, 3, "");
	put(f, "\r\n\n", 3);
	assert_lines(f, 3, "");
	put(f, "one\ntwo\r\nthree\n\n", 16);
	assert_lines(f, 0, "");
	assert_lines(f, 1, "three");
	assert_lines(f, 2, "two | three");
	assert_lines(f, 3, "one | two | three");
	assert_lines(f, 9, "one | two | three");
	put(f, "four", 4);
	assert_lines(f, 2, "three | four");
}

/* Empty lines say nothing, so they neither show nor count. */
static void empty_lines_do_not_count(void **state)
{
	struct fixture *f = *state;

	put(f, "panic\n\n\r\n\nend\n", 14);
	assert_lines(f, 1, "end");
	assert_lines(f, 2, "panic | end");
}

static void control_bytes_do_not_reach_the_terminal(void **state)
{
	struct fixture *f = *state;

	put(f, "\033]0;x\a\tb\0c\x7f\x80\xff\b", 14);
	assert_lines(f, 1, "?]0;x??b?c????");
}

static void a_long_line_is_cut_to_the_space(void **state)
{
	struct fixture *f = *state;
	char line[4000], text[32];

	memset(line, 'x', sizeof(line));
	line[2500] = '\n';
	put(f, line, sizeof(line));
	for (size_t size = 1; size <= sizeof(text); size++) {
		memset(text, '~', sizeof(text));
		taillog_last_lines(&f->log, 2, text, size);
		assert_true(strlen(text) < size);
		assert_true(size == sizeof(text) || text[size] == '~');
	}
	assert_int_equal(strlen(text), sizeof(text) - 4);
}

static void only_the_last_bytes_stay_in_memory(void **state)
{
	struct fixture *f = *state;
	char lines[3 * TAILLOG_TAIL];

	/* In one read, and in small ones. */
	for (size_t i = 0; i < sizeof(lines); i++)
		lines[i] = i % 8 == 7 ? '\n' : (char)('a' + i / 8 % 26);
	memcpy(lines + sizeof(lines) - 8, "the end\n", 8);
	put(f, lines, sizeof(lines));
	assert_int_equal(f->log.tail_len, TAILLOG_TAIL);
	assert_lines(f, 1, "the end");
	for (size_t i = 0; i < sizeof(lines); i += 96)
		put(f, lines + i, 96);
	assert_int_equal(f->log.tail_len, TAILLOG_TAIL);
	assert_memory_equal(f->log.tail, lines + sizeof(lines) - TAILLOG_TAIL, TAILLOG_TAIL);
}

static void a_flood_fills_two_files_and_no_more(void **state)
{
	struct fixture *f = *state;
	static char flood[TAILLOG_FILE_MAX / 4 + 1];

	memset(flood, 'x', sizeof(flood));
	put(f, "first\n", 6);
	for (int i = 0; i < 13; i++) {
		put(f, flood, sizeof(flood));
		assert_in_range(size_of(f, "console.log"), 1, TAILLOG_FILE_MAX);
		assert_true(size_of(f, "console.log.old") <= TAILLOG_FILE_MAX);
	}
	assert_true(size_of(f, "console.log.old") > TAILLOG_FILE_MAX / 2);
	put(f, "\nlast\n", 6);
	assert_lines(f, 1, "last");
}

/* A log left by an earlier run counts towards the limit. */
static void an_existing_file_is_appended_to(void **state)
{
	struct fixture *f = *state;
	struct taillog again;
	int fds[2];

	put(f, "before\n", 7);
	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	assert_int_equal(taillog_init(&again, f->loop, fds[0], f->dirfd, "console.log", NULL), 0);
	assert_int_equal(again.written, 7);
	assert_int_equal(write(fds[1], "after\n", 6), 6);
	assert_int_equal(loop_run_once(f->loop, 0), 0);
	assert_int_equal(size_of(f, "console.log"), 13);
	taillog_fini(&again);
	close(fds[1]);
}

static void a_symbolic_link_in_its_place_is_refused(void **state)
{
	struct fixture *f = *state;
	struct taillog other = { .file_fd = -1 };
	struct err e = ERR_INIT;
	int fds[2];

	assert_int_equal(symlinkat("victim", f->dirfd, "vm.log"), 0);
	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	assert_int_equal(taillog_init(&other, f->loop, fds[0], f->dirfd, "vm.log", &e), -ELOOP);
	assert_non_null(strstr(err_text(&e), "vm.log"));
	assert_int_equal(size_of(f, "victim"), -1);
	taillog_fini(&other);
	close(fds[1]);
}

static void what_is_in_the_pipe_is_drained(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(write(f->fd, "last words\n", 11), 11);
	assert_lines(f, 1, "");
	taillog_drain(&f->log);
	assert_lines(f, 1, "last words");
	assert_int_equal(size_of(f, "console.log"), 11);
	/* The program ends: nothing to drain, and no descriptor left. */
	close_fd(&f->fd);
	assert_int_equal(loop_run_once(f->loop, 0), 0);
	assert_false(stream_open(&f->log.stream));
	taillog_drain(&f->log);
	assert_lines(f, 1, "last words");
}

#define LOG_TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		LOG_TEST(the_file_has_every_byte),
		LOG_TEST(last_lines_are_joined),
		LOG_TEST(empty_lines_do_not_count),
		LOG_TEST(control_bytes_do_not_reach_the_terminal),
		LOG_TEST(a_long_line_is_cut_to_the_space),
		LOG_TEST(only_the_last_bytes_stay_in_memory),
		LOG_TEST(a_flood_fills_two_files_and_no_more),
		LOG_TEST(an_existing_file_is_appended_to),
		LOG_TEST(a_symbolic_link_in_its_place_is_refused),
		LOG_TEST(what_is_in_the_pipe_is_drained),
	};

	return test_run(tests);
}
