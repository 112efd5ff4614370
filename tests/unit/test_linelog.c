/* SPDX-License-Identifier: Apache-2.0 */
/* What a sandbox's own command prints: whole lines with their time, in bounded files. */
#include "unit/test.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/mem.h"
#include "codec/box_command.h"
#include "codec/box_state.h"
#include "codec/logline.h"
#include "sandbox/linelog.h"
#include "sys/file.h"
#include "sys/tree.h"

struct fixture {
	struct linelog log;
	char dir[64];
	int dirfd;
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	test_setup(state);
	assert_non_null(f);
	snprintf(f->dir, sizeof(f->dir), "/tmp/msb-test-linelog-XXXXXX");
	assert_non_null(mkdtemp(f->dir));
	f->dirfd = open(f->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_int_equal(linelog_init(&f->log, f->dirfd, NULL), 0);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	linelog_fini(&f->log);
	close_fd(&f->dirfd);
	assert_int_equal(tree_remove(AT_FDCWD, f->dir), 0);
	free(f);
	return test_teardown(state);
}

/* The file's lines as "out F text|err P text|". */
static char *lines_of(struct fixture *f, const char *name)
{
	static char all[65536];
	char *text, *p, *end;
	struct logline l;
	size_t len, n = 0;

	assert_int_equal(file_read_at(f->dirfd, name, 1 << 20, &text, &len, NULL), 0);
	all[0] = '\0';
	for (p = text; (end = memchr(p, '\n', len - (size_t)(p - text))); p = end + 1) {
		if (logline_parse(p, (size_t)(end - p), &l)) {
			n += (size_t)snprintf(all + n, sizeof(all) - n, "?|");
			continue;
		}
		n += (size_t)snprintf(all + n, sizeof(all) - n, "%s %c %.*s|",
				      l.err ? "err" : "out", l.partial ? 'P' : 'F', (int)l.len,
				      l.text);
	}
	assert_int_equal(p - text, len);
	free(text);
	return all;
}

static void add(struct fixture *f, bool err, const char *text)
{
	linelog_add(&f->log, err, text, strlen(text));
}

static void lines_of_two_streams_do_not_mix(void **state)
{
	struct fixture *f = *state;

	add(f, false, "on");
	add(f, true, "an err");
	add(f, false, "e\n\ntwo\nth");
	add(f, true, "or\n");
	linelog_end(&f->log, false);
	linelog_end(&f->log, true);
	assert_string_equal(lines_of(f, LINELOG_FILE),
			    "out F one|out F |out F two|err F an error|out P th|");
}

static void a_long_line_comes_in_pieces(void **state)
{
	struct fixture *f = *state;
	static char text[LOGLINE_TEXT_MAX + 2];
	char *all;

	memset(text, 'x', LOGLINE_TEXT_MAX + 1);
	add(f, false, text);
	add(f, false, "y\n");
	/* Exactly the maximum is one line. */
	text[LOGLINE_TEXT_MAX] = '\n';
	add(f, false, text);
	all = lines_of(f, LINELOG_FILE);
	assert_memory_equal(all, "out P xxx", 9);
	assert_memory_equal(all + 6 + LOGLINE_TEXT_MAX, "|out F xy|out F xxx", 19);
	assert_int_equal(strlen(all), 6 + LOGLINE_TEXT_MAX + 1 + 9 + 6 + LOGLINE_TEXT_MAX + 1);
}

static void a_torn_line_does_not_take_the_next_one_along(void **state)
{
	struct fixture *f = *state;
	auto_close int fd = openat(f->dirfd, LINELOG_FILE, O_WRONLY | O_APPEND | O_CLOEXEC);

	add(f, false, "one\n");
	linelog_fini(&f->log);
	assert_int_equal(write(fd, "2026-01-01T00:0", 15), 15);
	assert_int_equal(linelog_init(&f->log, f->dirfd, NULL), 0);
	add(f, false, "two\n");
	assert_string_equal(lines_of(f, LINELOG_FILE), "out F one|?|out F two|");
}

static void the_file_is_rotated_between_lines(void **state)
{
	struct fixture *f = *state;

	f->log.max = 2 * (LOGLINE_HEAD + 6);
	add(f, false, "line1\nline2\nline3\n");
	assert_string_equal(lines_of(f, LINELOG_OLD), "out F line1|out F line2|");
	assert_string_equal(lines_of(f, LINELOG_FILE), "out F line3|");
	add(f, true, "line4\nline5\n");
	assert_string_equal(lines_of(f, LINELOG_OLD), "out F line3|err F line4|");
}

static void a_link_in_its_place_is_refused(void **state)
{
	struct fixture *f = *state;
	struct linelog other;
	struct err e = ERR_INIT;

	assert_int_equal(unlinkat(f->dirfd, LINELOG_FILE, 0), 0);
	assert_int_equal(symlinkat("elsewhere", f->dirfd, LINELOG_FILE), 0);
	assert_int_equal(linelog_init(&other, f->dirfd, &e), -ELOOP);
	linelog_fini(&other);
}

static void times_are_read_as_they_are_written(void **state)
{
	static const int64_t times[] = {
		0, 1, 999999, 1000000, 951782400000000, 1795880645123456, 253402300799999999
	};
	static const char *const bad[] = {
		"",
		"2026-11-28",
		"2026-13-28T00:00:00Z",
		"2026-02-30T00:00:00Z",
		"2026-11-28T24:00:00Z",
		"2026-11-28T00:00:00",
		"2026-11-28T00:00:00+01:00",
		"2026-11-28T00:00:00.Z",
		"2026-11-28T00:00:00.1234567Z",
		"1969-12-31T23:59:59Z",
		"2026-11-28 00:00:00Z",
		"2026-11-28T00:00:0xZ",
	};
	char text[28];
	int64_t t;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(times); i++) {
		assert_int_equal(logline_format_time(times[i], text), 0);
		assert_int_equal(logline_parse_time(text, strlen(text), &t), 0);
		assert_int_equal(t, times[i]);
	}
	assert_int_equal(logline_parse_time("2026-11-28T15:04:05.5Z", 22, &t), 0);
	assert_int_equal(t % 1000000, 500000);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		if (!logline_parse_time(bad[i], strlen(bad[i]), &t))
			fail_msg("'%s' was taken for a time", bad[i]);
	assert_int_equal(logline_format_time(-1, text), -EINVAL);
	assert_int_equal(logline_format_time(253402300800000000, text), -EINVAL);
}

static void a_state_is_read_as_it_was_written(void **state)
{
	struct box_state s = { .started_us = 5,
			       .ended_us = 7,
			       .has_exit = true,
			       .exit_code = 130,
			       .clean = true,
			       .reason = "its command ended",
			       .engine = "tcg",
			       .isolation = "emulated" };
	struct box_state back;
	char *text;

	(void)state;
	assert_int_equal(box_state_format(&s, &text, NULL), 0);
	assert_int_equal(box_state_parse(text, strlen(text), &back, NULL), 0);
	free(text);
	assert_int_equal(back.started_us, 5);
	assert_int_equal(back.ready_us, 0);
	assert_int_equal(back.ended_us, 7);
	assert_true(back.has_exit && back.clean);
	assert_int_equal(back.exit_code, 130);
	assert_string_equal(back.reason, s.reason);
	assert_string_equal(back.isolation, "emulated");
}

static void a_wrong_state_is_refused(void **state)
{
	static const char *const bad[] = {
		"",
		"[]",
		"{}",
		"{\"reason\":\"\",\"engine\":\"a name that is far too long\",\"isolation\":\"\"}",
		"{\"reason\":\"\",\"engine\":\"\",\"isolation\":\"\",\"started_us\":-1,\"ready_"
		"us\":0,"
		"\"ended_us\":0}",
		"{\"reason\":\"\",\"engine\":\"\",\"isolation\":\"\",\"started_us\":0,\"ready_us\":"
		"0,"
		"\"ended_us\":0,\"exit_code\":256}",
	};
	struct box_state s;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct err e = ERR_INIT;

		assert_int_equal(box_state_parse(bad[i], strlen(bad[i]), &s, &e), -EINVAL);
		assert_true(e.msg[0]);
	}
}

static void a_command_is_read_as_it_was_written(void **state)
{
	char *argv[] = { (char *)"sh", (char *)"-c", (char *)"echo \"é\n\"", NULL };
	char *env[] = { (char *)"A=1", NULL };
	struct box_command c = { .argv = argv, .env = env, .cwd = (char *)"/srv" }, back;
	char *text;

	(void)state;
	assert_int_equal(box_command_format(&c, &text, NULL), 0);
	assert_int_equal(box_command_parse(text, strlen(text), &back, NULL), 0);
	free(text);
	assert_string_equal(back.argv[2], argv[2]);
	assert_null(back.argv[3]);
	assert_string_equal(back.env[0], "A=1");
	assert_string_equal(back.cwd, "/srv");
	assert_string_equal(back.user, "");
	box_command_fini(&back);
}

static void a_wrong_command_is_refused(void **state)
{
	static const char *const bad[] = {
		"{}",
		"{\"argv\":[],\"env\":[],\"cwd\":\"\",\"user\":\"\"}",
		"{\"argv\":[1],\"env\":[],\"cwd\":\"\",\"user\":\"\"}",
		"{\"argv\":[\"a\\u0000b\"],\"env\":[],\"cwd\":\"\",\"user\":\"\"}",
		"{\"argv\":[\"a\"],\"env\":{},\"cwd\":\"\",\"user\":\"\"}",
		"{\"argv\":[\"a\"],\"env\":[],\"cwd\":1,\"user\":\"\"}",
	};
	char *argv[] = { (char *)"\xff", NULL };
	struct box_command c = { .argv = argv };
	char *text;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct err e = ERR_INIT;

		assert_int_equal(box_command_parse(bad[i], strlen(bad[i]), &c, &e), -EINVAL);
		assert_true(e.msg[0]);
	}
	assert_int_equal(box_command_format(&c, &text, NULL), -EINVAL);
}

#define LOG_TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		LOG_TEST(lines_of_two_streams_do_not_mix),
		LOG_TEST(a_long_line_comes_in_pieces),
		LOG_TEST(a_torn_line_does_not_take_the_next_one_along),
		LOG_TEST(the_file_is_rotated_between_lines),
		LOG_TEST(a_link_in_its_place_is_refused),
		TEST(times_are_read_as_they_are_written),
		TEST(a_state_is_read_as_it_was_written),
		TEST(a_wrong_state_is_refused),
		TEST(a_command_is_read_as_it_was_written),
		TEST(a_wrong_command_is_refused),
	};

	return test_run(tests);
}
