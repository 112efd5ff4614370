/* SPDX-License-Identifier: Apache-2.0 */
#include "unit/test.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "cli/cli.h"
#include "cli/kept_rows.h"
#include "cli/log_view.h"
#include "cli/session.h"
#include "codec/logline.h"
#include "codec/sandbox_config.h"
#include "sandbox/linelog.h"
#include "sys/tree.h"

/* The table that main.c has in the real program. */
const struct cli_command cli_commands[] = { { .name = NULL } };

const struct cli_command *cli_find_command(const char *name)
{
	(void)name;
	return NULL;
}

enum { OPT_NAME, OPT_SWITCH, OPT_TWO };

static const struct cli_opt opts[] = {
	[OPT_NAME] = { "name", "alias", "n", "VALUE", "" },
	[OPT_SWITCH] = { "switch", NULL, "s", NULL, "" },
	[OPT_TWO] = { "two", NULL, "xy", "VALUE", "" },
	{ NULL },
};

static const struct cli_command cmd = { .name = "test", .args = "", .summary = "", .opts = opts };

/* Usage errors go to stderr; the tests keep it quiet. */
static int quiet_next(struct cli_args *a)
{
	int saved = dup(2), null = open("/dev/null", O_WRONLY), opt;

	dup2(null, 2);
	opt = cli_args_next(a);
	fflush(stderr);
	dup2(saved, 2);
	close(saved);
	close(null);
	return opt;
}

static void options_and_words_may_mix(void **state)
{
	char *argv[] = { "test", "one", "--name=v", "-s", "two",    "-nshort", "--alias", "w",
			 "-y",   "z",   "-",        "--", "--name", "-s",      NULL };
	struct cli_args a;

	(void)state;
	cli_args_init(&a, &cmd, (int)ARRAY_SIZE(argv) - 1, argv);
	assert_int_equal(cli_args_next(&a), OPT_NAME);
	assert_string_equal(a.value, "v");
	assert_int_equal(cli_args_next(&a), OPT_SWITCH);
	assert_null(a.value);
	assert_int_equal(cli_args_next(&a), OPT_NAME);
	assert_string_equal(a.value, "short");
	assert_int_equal(cli_args_next(&a), OPT_NAME);
	assert_string_equal(a.value, "w");
	assert_int_equal(cli_args_next(&a), OPT_TWO);
	assert_string_equal(a.value, "z");
	assert_int_equal(cli_args_next(&a), CLI_OPT_END);
	assert_int_equal(a.n_words, 3);
	assert_string_equal(a.words[0], "one");
	assert_string_equal(a.words[1], "two");
	assert_string_equal(a.words[2], "-");
	assert_int_equal(a.n_rest, 2);
	assert_string_equal(a.rest[0], "--name");
	assert_string_equal(a.rest[1], "-s");
	assert_null(a.rest[2]);
}

static void short_options_may_be_joined(void **state)
{
	char *argv[] = { "test", "-ssnvalue", NULL };
	struct cli_args a;

	(void)state;
	cli_args_init(&a, &cmd, 2, argv);
	assert_int_equal(cli_args_next(&a), OPT_SWITCH);
	assert_int_equal(cli_args_next(&a), OPT_SWITCH);
	assert_int_equal(cli_args_next(&a), OPT_NAME);
	assert_string_equal(a.value, "value");
	assert_int_equal(cli_args_next(&a), CLI_OPT_END);
	assert_null(a.rest);
}

static void wrong_options_are_refused(void **state)
{
	static const char *const bad[] = { "--nosuch",   "-q",    "--name", "-n",
					   "--switch=1", "--nam", "-sq" };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		char *argv[] = { "test", (char *)bad[i], NULL };
		struct cli_args a;
		int opt;

		cli_args_init(&a, &cmd, 2, argv);
		while ((opt = quiet_next(&a)) >= 0)
			;
		assert_int_equal(opt, CLI_OPT_BAD);
	}
}

static void sizes_have_units(void **state)
{
	static const char *const bad[] = { "",    "-1",           "1x",   "x",
					   "1e3", "0x10",         "1 G",  "inf",
					   "nan", "99999999999T", "9e99", "1G1" };
	uint64_t v;

	(void)state;
	assert_int_equal(cli_parse_memory("512", &v), 0);
	assert_int_equal(v, 512ull << 20);
	assert_int_equal(cli_parse_memory("1.5G", &v), 0);
	assert_int_equal(v, 3ull << 29);
	assert_int_equal(cli_parse_memory("64mib", &v), 0);
	assert_int_equal(v, 64ull << 20);
	assert_int_equal(cli_parse_memory("4096k", &v), 0);
	assert_int_equal(v, 4ull << 20);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_int_equal(cli_parse_memory(bad[i], &v), -EINVAL);
}

static void durations_have_units(void **state)
{
	uint64_t v;

	(void)state;
	assert_int_equal(cli_parse_duration("90", &v), 0);
	assert_int_equal(v, 90000);
	assert_int_equal(cli_parse_duration("1.5s", &v), 0);
	assert_int_equal(v, 1500);
	assert_int_equal(cli_parse_duration("250ms", &v), 0);
	assert_int_equal(v, 250);
	assert_int_equal(cli_parse_duration("2h", &v), 0);
	assert_int_equal(v, 7200000);
	assert_int_equal(cli_parse_duration("soon", &v), -EINVAL);
	assert_int_equal(cli_parse_duration("-1", &v), -EINVAL);
}

static void numbers_are_bounded(void **state)
{
	uint64_t v = 7;

	(void)state;
	assert_int_equal(cli_parse_uint("16", 16, &v), 0);
	assert_int_equal(v, 16);
	assert_int_equal(cli_parse_uint("17", 16, &v), -EINVAL);
	assert_int_equal(cli_parse_uint("+1", 16, &v), -EINVAL);
	assert_int_equal(cli_parse_uint(" 1", 16, &v), -EINVAL);
	assert_int_equal(cli_parse_uint("", 16, &v), -EINVAL);
	assert_int_equal(cli_parse_uint("99999999999999999999", UINT64_MAX, &v), -EINVAL);
	assert_int_equal(v, 16);
}

static json_int_t number(const json_t *o, const char *key)
{
	return json_integer_value(json_object_get(o, key));
}

static void a_guest_may_send_any_numbers(void **state)
{
	struct kept_stats stats = {
		.state = SANDBOX_READY,
		.valid = true,
		.m = { .mem_total = 5,
		       .mem_available = 6,
		       .net_rx_bytes = UINT64_MAX,
		       .net_tx_bytes = 7 },
	};
	const struct kept_row row = { .name = "a", .running = true, .stats = &stats };
	json_t *j = kept_row_json(&row);

	(void)state;
	assert_non_null(j);
	assert_int_equal(number(j, "memory_bytes"), 0);
	assert_int_equal(number(j, "net_rx_bytes"), INT64_MAX);
	assert_int_equal(number(j, "net_tx_bytes"), 7);
	json_decref(j);
}

static void one_of_a_set_is_taken_as_it_stands_there(void **state)
{
	const char *v = "mine";

	(void)state;
	assert_int_equal(cli_one_of(&cmd, "jail", "Reduced", cli_jails, &v), 0);
	assert_string_equal(v, "reduced");
	assert_int_equal(cli_one_of(&cmd, "jail", "reduce", cli_jails, &v), CLI_USAGE);
	assert_string_equal(v, "reduced");
}

/* What a log that is followed is written to is full. */
static void a_log_that_cannot_be_shown_is_an_error(void **state)
{
	const struct log_view_opts all = { .tail = LOG_VIEW_ALL };
	const struct logline line = { .text = "text", .len = 4 };
	char dir[] = "/tmp/msb-test-cli-XXXXXX";
	int dirfd, logs, out, fd, full, rc;
	struct buf b = BUF_INIT;
	struct log_view v;

	(void)state;
	assert_non_null(mkdtemp(dir));
	dirfd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_int_equal(mkdirat(dirfd, SANDBOX_LOG_DIR, 0700), 0);
	logs = openat(dirfd, SANDBOX_LOG_DIR, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_int_equal(log_view_init(&v, dirfd, &all, NULL), 0);
	assert_int_equal(log_view_first(&v, NULL), 0);
	assert_int_equal(logline_format(&line, &b), 0);
	fd = openat(logs, LINELOG_FILE, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	assert_int_equal(write(fd, buf_data(&b), buf_len(&b)), buf_len(&b));
	fflush(stdout);
	out = dup(STDOUT_FILENO);
	full = open("/dev/full", O_WRONLY | O_CLOEXEC);
	dup2(full, STDOUT_FILENO);
	rc = log_view_more(&v);
	dup2(out, STDOUT_FILENO);
	clearerr(stdout);
	assert_int_equal(rc, -ENOSPC);
	log_view_fini(&v);
	buf_fini(&b);
	for (size_t i = 0; i < 5; i++)
		close((const int[]){ dirfd, logs, out, fd, full }[i]);
	assert_int_equal(tree_remove(AT_FDCWD, dir), 0);
}

/* Of a process that has no descriptors left. */
static void session_ends_where_nothing_can_be_opened(void **state)
{
	const struct frame_exec exec = { .timeout_ms = 0 };
	struct session_spec spec = { .exec = &exec, .what = "test", .quiet = true };
	struct rlimit old, tight;
	int pair[2];

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	spec.fd = pair[0];
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
	tight = old;
	tight.rlim_cur = 0;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &tight), 0);
	assert_int_equal(session_run(&spec), CLI_FAILED);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
	assert_int_equal(fcntl(pair[0], F_GETFD), -1);
	close(pair[1]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(options_and_words_may_mix),
		TEST(short_options_may_be_joined),
		TEST(wrong_options_are_refused),
		TEST(sizes_have_units),
		TEST(durations_have_units),
		TEST(numbers_are_bounded),
		TEST(a_log_that_cannot_be_shown_is_an_error),
		TEST(one_of_a_set_is_taken_as_it_stands_there),
		TEST(a_guest_may_send_any_numbers),
		TEST(session_ends_where_nothing_can_be_opened),
	};

	return test_run(tests);
}
