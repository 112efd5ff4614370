/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_TESTS_UNIT_TEST_H
#define MSB_TESTS_UNIT_TEST_H

/*
 * cmocka, and what every unit test wants besides: a check that a test leaves no
 * descriptor open.  Use TEST(fn) in the group's table and test_run() to run it.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dirent.h>
#include <stdio.h>
#include <string.h>
#include <sys/types.h>

static inline int test_count_fds(void)
{
	DIR *d = opendir("/proc/self/fd");
	int n = 0;

	assert_non_null(d);
	while (readdir(d))
		n++;
	closedir(d);
	return n;
}

/* Until the process is not at work: it waits for something, or has ended. */
static inline void test_wait_until_it_waits(pid_t pid)
{
	char path[64], line[256], *state;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	do {
		f = fopen(path, "re");
		assert_non_null(f);
		assert_non_null(fgets(line, sizeof(line), f));
		fclose(f);
		state = strrchr(line, ')');
		assert_non_null(state);
	} while (state[2] == 'R' || state[2] == 'D');
}

static int test_fds_before;

static inline int test_setup(void **state)
{
	(void)state;
	test_fds_before = test_count_fds();
	return 0;
}

static inline int test_teardown(void **state)
{
	int now = test_count_fds();

	(void)state;
	if (now != test_fds_before) {
		print_error("descriptors leaked: %d\n", now - test_fds_before);
		return -1;
	}
	return 0;
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, test_setup, test_teardown)
#define test_run(tests) cmocka_run_group_tests(tests, NULL, NULL)

#endif
