/* SPDX-License-Identifier: Apache-2.0 */
/* Supervisors that find each other in a group's directory, and what they say there. */
#include "unit/test.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "codec/netcontrol.h"
#include "codec/procnet.h"
#include "sandbox/membership.h"

struct member {
	struct membership group;
	unsigned n;
	char names[8][NETGROUP_NAME_SIZE];
	int fds[8];
};

static struct loop *loop;
static char home[64], dir[96];
static struct member *m[4];

static void on_member(struct membership *g, const struct netmember *who, int fd)
{
	struct member *x = container_of(g, struct member, group);

	assert_true(x->n < 8);
	snprintf(x->names[x->n], NETGROUP_NAME_SIZE, "%s", who->name);
	x->fds[x->n++] = fd;
}

static struct member *member_new(void)
{
	struct member *x = calloc(1, sizeof(*x));

	assert_non_null(x);
	membership_init(&x->group);
	x->group.on_member = on_member;
	return x;
}

static void turn(void)
{
	for (int i = 0; i < 8; i++)
		assert_int_equal(loop_run_once(loop, 0), 0);
}

static int setup(void **state)
{
	test_setup(state);
	log_init(-1, LOG_ERR, "test");
	snprintf(home, sizeof(home), "/tmp/msb-group-XXXXXX");
	assert_non_null(mkdtemp(home));
	snprintf(dir, sizeof(dir), "%s/web", home);
	assert_int_equal(loop_create(&loop, NULL), 0);
	for (int i = 0; i < 4; i++)
		m[i] = member_new();
	return 0;
}

static int teardown(void **state)
{
	for (int i = 0; i < 4; i++) {
		membership_leave(&m[i]->group);
		free(m[i]);
	}
	loop_destroy(loop);
	/* Nothing of the group is left. */
	assert_int_equal(rmdir(home), 0);
	return test_teardown(state);
}

static void test_members_find_each_other(void **state)
{
	char byte = 'x', got;

	(void)state;
	assert_int_equal(membership_join(&m[0]->group, loop, dir, "A", NULL), 0);
	assert_int_equal(membership_join(&m[1]->group, loop, dir, "b", NULL), 0);
	assert_int_equal(m[1]->n, 1);
	assert_string_equal(m[1]->names[0], "a");
	/* What is sent before the other one has looked is not lost. */
	assert_int_equal(send(m[1]->fds[0], &byte, 1, 0), 1);
	turn();
	assert_int_equal(m[0]->n, 1);
	assert_string_equal(m[0]->names[0], "b");
	assert_int_equal(recv(m[0]->fds[0], &got, 1, MSG_DONTWAIT), 1);
	assert_int_equal(got, 'x');
	assert_int_equal(membership_join(&m[2]->group, loop, dir, "c", NULL), 0);
	turn();
	assert_int_equal(m[2]->n, 2);
	assert_int_equal(m[0]->n, 2);
	assert_int_equal(m[0]->group.own.number, 1);
	assert_int_equal(m[2]->group.own.number, 3);
	/* One goes, another takes its number. */
	membership_leave(&m[1]->group);
	turn();
	assert_int_equal(m[0]->group.members[2].fd, -1);
	assert_int_equal(membership_join(&m[3]->group, loop, dir, "b", NULL), 0);
	assert_int_equal(m[3]->group.own.number, 2);
	turn();
	assert_string_equal(m[0]->group.members[2].who.name, "b");
}

static void test_a_name_is_taken_once(void **state)
{
	struct err e = ERR_INIT;

	(void)state;
	assert_int_equal(membership_join(&m[0]->group, loop, dir, "db", NULL), 0);
	assert_int_equal(membership_join(&m[1]->group, loop, dir, "DB", &e), -EEXIST);
	assert_string_equal(err_text(&e), "group: there is a sandbox db in the group already");
	assert_int_equal(membership_join(&m[2]->group, loop, dir, "no.name", &e), -EINVAL);
	turn();
	assert_int_equal(m[0]->n, 0);
}

static void test_the_dead_leave_their_place(void **state)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	char path[160];
	int fd;

	(void)state;
	assert_int_equal(mkdir(dir, 0700), 0);
	snprintf(path, sizeof(path), "%s/1-db", dir);
	snprintf(sa.sun_path, sizeof(sa.sun_path), "%s", path);
	fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
	close(fd);
	assert_int_equal(membership_join(&m[0]->group, loop, dir, "db", NULL), 0);
	assert_int_equal(m[0]->group.own.number, 1);
	assert_int_equal(m[0]->n, 0);
}

static void test_who_does_not_greet_is_nobody(void **state)
{
	static const char *const bad[] = { "group 1\n0 x\n", "group 1\n1 self\n", "member 1\n2 x\n",
					   "group 1\n2 UP\n", "x" };
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	char byte;

	(void)state;
	assert_int_equal(membership_join(&m[0]->group, loop, dir, "self", NULL), 0);
	snprintf(sa.sun_path, sizeof(sa.sun_path), "%.80s/1-self", dir);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

		assert_int_equal(connect(fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
		turn();
		assert_true(send(fd, bad[i], strlen(bad[i]), MSG_NOSIGNAL) > 0);
		turn();
		assert_int_equal(recv(fd, &byte, 1, 0), 0);
		close(fd);
	}
	assert_int_equal(m[0]->n, 0);
}

static void test_counters(void **state)
{
	struct netcounters c = { .n = 0 }, back;
	char text[NETCONTROL_ANSWER_MAX] = NETCONTROL_OK;
	int n;

	(void)state;
	for (unsigned i = 0; i < NETCOUNTERS_MAX; i++)
		assert_int_equal(netcounters_add(&c, i ? "link-local" : "passed", i * 1000), 0);
	assert_int_equal(netcounters_add(&c, "more", 1), -ENOSPC);
	n = netcounters_format(&c, text + 3, sizeof(text) - 3);
	assert_true(n > 0);
	assert_int_equal(netcounters_parse(text, (size_t)n + 3, &back), 0);
	assert_int_equal(back.n, NETCOUNTERS_MAX);
	assert_int_equal(netcounters_get(&back, "link-local"), 1000);
	assert_int_equal(netcounters_get(&back, "nothing"), 0);
	assert_int_equal(netcounters_format(&c, text, 20), -ENOSPC);
	assert_int_equal(netcounters_parse("ok\na -1\n", 8, &back), -EPROTO);
	assert_int_equal(netcounters_parse("error x\n", 8, &back), -EPROTO);
}

static void test_listens(void **state)
{
	static const struct {
		const char *line;
		enum procnet_state want;
	} rows[] = {
		{ "   0: 00000000:1F90 00000000:0000 0A 0", PROCNET_OPEN },
		{ "   0: 0F02000A:1F90 00000000:0000 0A 0", PROCNET_OPEN },
		{ "  10: 0100007F:1F90 00000000:0000 0A 0", PROCNET_LOCAL },
		{ "   0: 00000000:1F91 00000000:0000 0A 0", PROCNET_SHUT },
		{ "   0: 00000000:1F90 00000000:0000 01 0", PROCNET_SHUT },
		{ "   0: 00000000000000000000000000000000:1F90 "
		  "00000000000000000000000000000000:0000 0A",
		  PROCNET_OPEN },
		{ "   0: 00000000000000000000000001000000:1F90 "
		  "00000000000000000000000000000000:0000 0A",
		  PROCNET_LOCAL },
		{ "   0: 0000000000000000FFFF00000100007F:1F90 "
		  "00000000000000000000000000000000:0000 0A",
		  PROCNET_LOCAL },
		{ "   0: 0000000:1F90 00000000:0000 0A", PROCNET_SHUT },
		{ "", PROCNET_SHUT },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		assert_int_equal(procnet_listens(rows[i].line, strlen(rows[i].line), 8080),
				 rows[i].want);
}

#define JOIN_TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		JOIN_TEST(test_members_find_each_other),
		JOIN_TEST(test_a_name_is_taken_once),
		JOIN_TEST(test_the_dead_leave_their_place),
		JOIN_TEST(test_who_does_not_greet_is_nobody),
		TEST(test_counters),
		TEST(test_listens),
	};

	return test_run(tests);
}
