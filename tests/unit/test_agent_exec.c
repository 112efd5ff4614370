/* SPDX-License-Identifier: Apache-2.0 */
/* The link, EXEC and what they stand on, with real processes of this host. */
#include "unit/agent_client.h"

#include <errno.h>
#include <poll.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "agent/spawn.h"
#include "agent/user.h"

static const char *const default_env[] = { "PATH=/usr/bin:/bin", NULL };

struct opts {
	uint32_t flags;
	uint64_t timeout_ms;
	const char *cwd, *user;
	const char *const *env, *const *rlimits;
};

static struct call *start(struct client *x, struct opts o, const char *const *argv)
{
	struct buf a = BUF_INIT, v = BUF_INIT, r = BUF_INIT;
	struct call *c = client_open(x);
	struct frame_exec req = {
		.flags = o.flags,
		.timeout_ms = o.timeout_ms,
		.rows = 24,
		.cols = 80,
		.cwd = frame_str_of(o.cwd ? o.cwd : ""),
		.user = frame_str_of(o.user ? o.user : ""),
		.argv = client_list(&a, argv),
		.env = client_list(&v, o.env ? o.env : default_env),
		.rlimits = client_list(&r, o.rlimits),
	};

	client_send(x, c->channel, FRAME_EXEC, 0, &req);
	buf_fini(&a);
	buf_fini(&v);
	buf_fini(&r);
	return c;
}

#define ARGV(...) ((const char *const[]){ __VA_ARGS__, NULL })
#define SH(script) ARGV("sh", "-c", script)

static struct call *run(struct client *x, struct opts o, const char *const *argv)
{
	struct call *c = start(x, o, argv);

	client_finish(x, c);
	return c;
}

static void streams_and_status_come_back_exactly(void **state)
{
	struct client x;
	struct call *c;

	(void)state;
	client_begin(&x);
	c = run(&x, (struct opts){ 0 }, SH("printf 'a\\nb'; printf 'e\\0f' >&2; exit 7"));
	assert_int_equal(c->last, FRAME_EXEC_EXIT);
	assert_true(c->started);
	assert_string_equal(client_text(&c->out), "a\nb");
	assert_int_equal(buf_len(&c->err), 3);
	assert_memory_equal(buf_data(&c->err), "e\0f", 3);
	assert_int_equal(c->exit.reason, EXIT_EXITED);
	assert_int_equal(c->exit.status, 7);
	assert_true(c->exit.wall_ns > 0);
	c = run(&x, (struct opts){ 0 }, SH("kill -SEGV $$"));
	assert_int_equal(c->exit.reason, EXIT_SIGNALED);
	assert_int_equal(c->exit.status, SIGSEGV);
	client_end(&x);
}

/* Any bytes, more than every window and pipe on the way. */
static void a_large_stream_passes_unchanged(void **state)
{
	enum { SIZE = 3000000 };
	auto_free uint8_t *data = malloc(SIZE);
	struct client x;
	struct call *c;

	(void)state;
	for (size_t i = 0; i < SIZE; i++)
		data[i] = (uint8_t)(i * 2654435761u >> 13);
	client_begin(&x);
	c = start(&x, (struct opts){ .flags = EXEC_STDIN }, ARGV("cat"));
	c->data = data;
	c->data_len = SIZE;
	c->eof = true;
	client_finish(&x, c);
	assert_int_equal(c->exit.status, 0);
	assert_int_equal(buf_len(&c->out), SIZE);
	assert_memory_equal(buf_data(&c->out), data, SIZE);
	client_end(&x);
}

static void a_reader_that_stops_holds_up_its_own_stream_only(void **state)
{
	struct frame_credit credit;
	struct client x;
	struct call *slow, *c;

	(void)state;
	client_begin(&x);
	slow = start(&x, (struct opts){ 0 }, ARGV("head", "-c", "1000000", "/dev/zero"));
	slow->no_credit = true;
	client_await_output(&x, slow, FRAME_WINDOW);
	c = run(&x, (struct opts){ 0 }, SH("echo other"));
	assert_string_equal(client_text(&c->out), "other\n");
	assert_int_equal(buf_len(&slow->out), FRAME_WINDOW);
	assert_int_equal(slow->last, 0);
	/* The rest comes after the process ended, and before EXEC_EXIT. */
	slow->no_credit = false;
	credit.bytes = slow->owed[STREAM_OUT];
	client_send(&x, slow->channel, FRAME_CREDIT, STREAM_OUT, &credit);
	client_finish(&x, slow);
	assert_int_equal(buf_len(&slow->out), 1000000);
	assert_int_equal(slow->exit.status, 0);
	client_end(&x);
}

static void output_is_complete_before_the_exit(void **state)
{
	struct client x;

	(void)state;
	client_begin(&x);
	for (int i = 0; i < 20; i++) {
		struct call *c =
			run(&x, (struct opts){ 0 }, ARGV("head", "-c", "100000", "/dev/zero"));

		assert_int_equal(buf_len(&c->out), 100000);
		client_release(c);
	}
	client_end(&x);
}

static void failures_say_what_and_why(void **state)
{
	const struct {
		struct opts o;
		const char *argv[3];
		uint32_t code;
		const char *text;
	} cases[] = {
		{ { 0 },
		  { "no-such-program" },
		  ENOENT,
		  "no-such-program: not found in PATH (/usr/bin:/bin)" },
		{ { 0 }, { "/no/such" }, ENOENT, "/no/such" },
		{ { 0 }, { "/etc" }, EACCES, "/etc: is a directory" },
		{ { 0 }, { "/etc/passwd" }, EACCES, "/etc/passwd" },
		{ { 0 }, { "" }, ENOENT, "empty" },
		{ { 0 }, { NULL }, EINVAL, "no program" },
		{ { .user = "nobody-here" }, { "true" }, EINVAL, "unknown user 'nobody-here'" },
		{ { .user = "0:nogroup-here" }, { "true" }, EINVAL, "unknown group 'nogroup-here'" },
		{ { .cwd = "/no/dir" }, { "true" }, ENOENT, "working directory /no/dir" },
		{ { .cwd = "relative" }, { "true" }, EINVAL, "absolute" },
		{ { .rlimits = ARGV("nofiles=1:2") }, { "true" }, EINVAL, "'nofiles=1:2'" },
		{ { .rlimits = ARGV("nofile=3:2") }, { "true" }, EINVAL, "'nofile=3:2'" },
	};
	struct client x;

	(void)state;
	client_begin(&x);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct call *c = run(&x, cases[i].o, (const char *const *)cases[i].argv);

		assert_int_equal(c->last, FRAME_ERROR);
		assert_int_equal(c->code, cases[i].code);
		assert_non_null(strstr(c->text, cases[i].text));
		assert_false(c->started);
		client_release(c);
	}
	client_end(&x);
}

static void a_script_without_its_interpreter_is_named(void **state)
{
	char path[] = "/tmp/msb-test-exec-XXXXXX";
	struct client x;
	struct call *c;
	int fd = mkstemp(path);

	(void)state;
	assert_true(fd >= 0);
	assert_int_equal(dprintf(fd, "#!/no/interpreter\n"), 18);
	assert_int_equal(fchmod(fd, 0755), 0);
	close(fd);
	client_begin(&x);
	c = run(&x, (struct opts){ 0 }, ARGV(path));
	assert_int_equal(c->code, ENOENT);
	assert_non_null(strstr(c->text, "interpreter"));
	unlink(path);
	client_end(&x);
}

static void the_process_gets_what_the_request_says(void **state)
{
	struct client x;
	struct call *c;

	(void)state;
	client_begin(&x);
	c = run(&x,
		(struct opts){ .cwd = "/tmp",
			       .env = ARGV("PATH=/usr/bin:/bin", "A=b c"),
			       .rlimits = ARGV("nofile=100:200", "core=0:unlimited") },
		SH("pwd; echo \"$A\"; echo $HOME; ulimit -Sn; ulimit -Hn; cat; "
		   "ls /proc/self/fd; awk '/^Sig(Blk|Ign)/ {print $2}' /proc/self/status |"
		   "sed s/0000000180000000/0000000000000000/"));
	/*
	 * Descriptors 0 to 2, and ls's own; no signal blocked, none ignored, but for 32 and 33,
	 * which we may have inherited and the host's C library keeps for itself.
	 */
	assert_string_equal(client_text(&c->out), "/tmp\nb c\n/root\n100\n200\n0\n1\n2\n3\n"
						  "0000000000000000\n0000000000000000\n");
	assert_string_equal(client_text(&c->err), "");
	c = run(&x, (struct opts){ .user = "12345:54321", .cwd = "/root" },
		SH("id -u; id -g; id -G; echo $HOME; pwd"));
	assert_string_equal(client_text(&c->out), "12345\n54321\n54321\n/\n/root\n");
	c = run(&x, (struct opts){ .env = ARGV("X=1") }, SH("echo $PATH"));
	assert_string_equal(client_text(&c->out),
			    "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n");
	client_end(&x);
}

static void a_terminal_is_one(void **state)
{
	struct frame_exec_resize size = { .rows = 33, .cols = 99 };
	struct client x;
	struct call *c;

	(void)state;
	client_begin(&x);
	c = start(&x, (struct opts){ .flags = EXEC_TTY | EXEC_STDIN },
		  SH("stty -echo; stty size; test -t 0 -a -t 1 -a -t 2 && echo $TERM; read line; "
		     "stty size; "
		     "echo got $line; cat; echo end"));
	client_await_output(&x, c, strlen("24 80\r\nxterm\r\n"));
	client_send(&x, c->channel, FRAME_EXEC_RESIZE, 0, &size);
	c->data = (const uint8_t *)"one\ntwo";
	c->data_len = 7;
	c->eof = true; /* cat sees an end of file, after an unfinished line */
	client_finish(&x, c);
	assert_string_equal(client_text(&c->out),
			    "24 80\r\nxterm\r\n33 99\r\ngot one\r\ntwoend\r\n");
	assert_int_equal(c->exit.status, 0);
	client_end(&x);
}

static void signals_reach_the_process_or_its_group(void **state)
{
	struct frame_exec_signal sig = { .signal = SIGTERM };
	struct client x;
	struct call *c;

	(void)state;
	client_begin(&x);
	c = start(&x, (struct opts){ 0 },
		  SH("trap 'echo term; exit 3' TERM; echo ready; while :; do sleep 0.01; done"));
	client_await_output(&x, c, 6);
	client_send(&x, c->channel, FRAME_EXEC_SIGNAL, 0, &sig);
	client_finish(&x, c);
	assert_string_equal(client_text(&c->out), "ready\nterm\n");
	assert_int_equal(c->exit.status, 3);
	/* On a terminal: the group in the foreground, as Ctrl-C does. */
	c = start(&x, (struct opts){ .flags = EXEC_TTY },
		  SH("trap 'exit 5' INT; echo ready; while :; do sleep 0.01; done"));
	client_await_output(&x, c, 7);
	sig = (struct frame_exec_signal){ .signal = SIGINT, .group = 1 };
	client_send(&x, c->channel, FRAME_EXEC_SIGNAL, 0, &sig);
	client_finish(&x, c);
	assert_int_equal(c->exit.status, 5);
	client_end(&x);
}

static int pidfd_of(const char *text)
{
	return (int)syscall(SYS_pidfd_open, (pid_t)atoi(text), 0);
}

/* Becomes readable when the process is gone. */
static bool is_killed(int pidfd)
{
	struct pollfd p = { .fd = pidfd, .events = POLLIN };
	bool gone = poll(&p, 1, 10000) == 1;

	close(pidfd);
	return gone;
}

static void a_timeout_kills_everything(void **state)
{
	struct client x;
	struct call *c;
	int pidfd;

	(void)state;
	client_begin(&x);
	c = start(&x, (struct opts){ .timeout_ms = 300 }, SH("sleep 1000 & echo $!; wait"));
	client_await_output(&x, c, 2);
	pidfd = pidfd_of(client_text(&c->out));
	assert_true(pidfd >= 0);
	client_finish(&x, c);
	assert_int_equal(c->exit.reason, EXIT_TIMEOUT);
	assert_true(is_killed(pidfd));
	client_end(&x);
}

static void a_background_process_does_not_delay_the_exit(void **state)
{
	struct client x;
	struct call *c;
	int pidfd;

	(void)state;
	client_begin(&x);
	c = run(&x, (struct opts){ 0 }, SH("sleep 1000 & echo $!"));
	assert_int_equal(c->exit.status, 0);
	pidfd = pidfd_of(client_text(&c->out));
	assert_true(pidfd >= 0);
	/* It lives on, holding the pipes. */
	assert_int_equal(syscall(SYS_pidfd_send_signal, pidfd, SIGKILL, NULL, 0), 0);
	assert_true(is_killed(pidfd));
	client_end(&x);
}

static void close_and_a_lost_link_kill(void **state)
{
	struct client x;
	struct call *c;
	int pidfd;

	(void)state;
	client_begin(&x);
	c = start(&x, (struct opts){ 0 }, SH("sleep 1000 & echo $!; wait"));
	client_await_output(&x, c, 2);
	pidfd = pidfd_of(client_text(&c->out));
	client_send(&x, c->channel, FRAME_CLOSE, 0, NULL);
	client_finish(&x, c);
	assert_int_equal(c->last, FRAME_EXEC_EXIT);
	assert_int_equal(c->exit.status, SIGKILL);
	assert_true(is_killed(pidfd));
	c = start(&x, (struct opts){ 0 }, SH("sleep 1000 & echo $!; wait"));
	client_await_output(&x, c, 2);
	pidfd = pidfd_of(client_text(&c->out));
	client_end(&x);
	assert_true(is_killed(pidfd));
}

static void a_new_hello_starts_afresh(void **state)
{
	struct client x;
	struct call *c;

	(void)state;
	client_begin(&x);
	c = start(&x, (struct opts){ 0 }, SH("echo ready; exec sleep 1000"));
	client_await_output(&x, c, 6);
	client_release(c);
	client_hello(&x, FRAME_VERSION);
	assert_true(x.synced);
	/* The old channel's number is free, and nothing more came on it. */
	x.next_channel = 0;
	c = run(&x, (struct opts){ 0 }, SH("echo new"));
	assert_string_equal(client_text(&c->out), "new\n");
	client_end(&x);
}

static void nothing_is_served_without_a_hello(void **state)
{
	static const uint8_t junk[] =
		"\x03\x00\x00\x00 partial frame of before, MSBWIRE1 and so on";
	struct client x;
	struct call *c;

	(void)state;
	client_connect(&x);
	assert_int_equal(buf_append(&x.out, junk, sizeof(junk)), 0);
	c = start(&x, (struct opts){ 0 }, SH("echo too early"));
	client_release(c);
	client_hello(&x, 99);
	assert_int_equal(x.link_error, EPROTONOSUPPORT);
	client_hello(&x, FRAME_VERSION);
	assert_true(x.synced);
	x.agent.configured = false;
	c = run(&x, (struct opts){ 0 }, SH("echo too early"));
	assert_int_equal(c->code, EAGAIN);
	assert_non_null(strstr(c->text, "not configured"));
	client_end(&x);
}

static int refuse_configuration(struct agent *a, const struct frame_configure *c, struct err *e)
{
	(void)a;
	(void)c;
	return err_set(e, ENOSPC, "the disk is full");
}

/* The host sends both at once, and believes nothing that comes before the answer to its HELLO. */
static void a_configuration_is_refused_after_the_hello(void **state)
{
	static const struct agent_platform platform = { .configure = refuse_configuration };
	struct frame_configure configure = { .hostname = frame_str_of("box") };
	struct frame_hello hello = { .version = FRAME_VERSION,
				     .version_min = FRAME_VERSION,
				     .link = LINK_CTL,
				     .generation = 42 };
	struct client x;

	(void)state;
	client_connect(&x);
	x.agent.configured = false;
	x.agent.platform = &platform;
	memcpy(hello.magic, FRAME_MAGIC, FRAME_MAGIC_SIZE);
	client_send(&x, 0, FRAME_HELLO, 0, &hello);
	client_send(&x, 0, FRAME_CONFIGURE, 0, &configure);
	x.wait_link = true;
	client_run(&x);
	assert_true(x.synced);
	if (!x.link_error) {
		x.synced = false;
		x.wait_link = true;
		client_run(&x);
	}
	assert_int_equal(x.link_error, ENOSPC);
	client_end(&x);
}

static void a_peer_that_breaks_the_rules_is_cut_off(void **state)
{
	auto_free uint8_t *data = calloc(1, FRAME_DATA_MAX);
	struct frame_credit credit = { .bytes = UINT32_MAX };
	struct client x;
	struct call *c;

	(void)state;
	client_begin(&x);
	/* More than the window: the channel ends. */
	c = start(&x, (struct opts){ .flags = EXEC_STDIN }, ARGV("sleep", "1000"));
	for (int i = 0; i < 64; i++)
		assert_int_equal(frame_encode_raw(&x.out, c->channel, FRAME_DATA, STREAM_IN, data,
						  FRAME_DATA_MAX),
				 0);
	client_finish(&x, c);
	assert_int_equal(c->exit.status, SIGKILL);
	/* A window without bound: the same. */
	c = start(&x, (struct opts){ 0 }, ARGV("sleep", "1000"));
	client_send(&x, c->channel, FRAME_CREDIT, STREAM_OUT, &credit);
	client_finish(&x, c);
	assert_int_equal(c->exit.status, SIGKILL);
	/* A channel that is in use: the link ends. */
	c = start(&x, (struct opts){ 0 }, ARGV("sleep", "1000"));
	x.next_channel--;
	client_release(c);
	c = start(&x, (struct opts){ 0 }, ARGV("sleep", "1000"));
	x.synced = false;
	x.wait_link = true;
	client_run(&x);
	assert_int_equal(x.link_error, EPROTO);
	client_release(c);
	client_hello(&x, FRAME_VERSION);
	assert_true(x.synced);
	client_end(&x);
}

static void users_are_found_as_in_containers(void **state)
{
	static const char passwd[] = "root:x:0:0:root:/root:/bin/sh\nbroken line\n:::\n"
				     "ann:x:1000:1001:Ann:/home/ann:/bin/sh\n"
				     "7:x:2000:2000::/seven:/bin/sh\nnohome:x:3000:3000";
	static const char group[] = "root:x:0:\nstaff:x:50:bob,ann\nother:x:51:annabel\n"
				    "wheel:x:10:ann";
	struct user_ident u;
	struct err e = ERR_INIT;

	(void)state;
#define RESOLVE(spec) \
	user_resolve(spec, passwd, sizeof(passwd) - 1, group, sizeof(group) - 1, &u, &e)
	assert_int_equal(RESOLVE(""), 0);
	assert_int_equal(u.uid, 0);
	assert_string_equal(u.home, "/root");
	assert_int_equal(RESOLVE("ann"), 0);
	assert_int_equal(u.uid, 1000);
	assert_int_equal(u.gid, 1001);
	assert_int_equal(u.n_groups, 3);
	assert_int_equal(u.groups[1], 50);
	assert_int_equal(u.groups[2], 10);
	assert_int_equal(RESOLVE("1000"), 0);
	assert_string_equal(u.name, "ann");
	assert_int_equal(RESOLVE("ann:staff"), 0);
	assert_int_equal(u.gid, 50);
	assert_int_equal(u.n_groups, 1);
	/* A name made of digits wins over the number. */
	assert_int_equal(RESOLVE("7"), 0);
	assert_int_equal(u.uid, 2000);
	assert_int_equal(RESOLVE("4242"), 0);
	assert_int_equal(u.uid, 4242);
	assert_int_equal(u.gid, 0);
	assert_string_equal(u.home, "/");
	assert_int_equal(RESOLVE("nohome"), 0);
	assert_string_equal(u.home, "/");
	assert_int_equal(user_resolve("root", NULL, 0, NULL, 0, &u, &e), 0);
	assert_int_equal(u.uid, 0);
	/* (uid_t)-1 would leave the user as it is. */
	assert_int_equal(RESOLVE("4294967295"), -EINVAL);
	err_clear(&e);
	assert_int_equal(RESOLVE("bob"), -EINVAL);
	err_clear(&e);
	assert_int_equal(RESOLVE("ann:"), -EINVAL);
	err_clear(&e);
	assert_int_equal(RESOLVE(":staff"), -EINVAL);
}

static void limits_are_parsed_strictly(void **state)
{
	static const char *const bad[] = { "",
					   "nofile",
					   "nofile=",
					   "nofile=1",
					   "nofile=1:",
					   "nofile=:1",
					   "nofile=1:x",
					   "nofile=1:2 ",
					   "=1:2",
					   "nofile=-1:2",
					   "no=1:2",
					   "nofile=2:1",
					   "nofile=99999999999999999999:1" };
	uint64_t soft, hard;
	int resource;

	(void)state;
	assert_int_equal(spawn_parse_rlimit("nofile=1:unlimited", &resource, &soft, &hard, NULL), 0);
	assert_int_equal(soft, 1);
	assert_true(hard == UINT64_MAX);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_int_equal(spawn_parse_rlimit(bad[i], &resource, &soft, &hard, NULL), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(streams_and_status_come_back_exactly),
		TEST(a_large_stream_passes_unchanged),
		TEST(a_reader_that_stops_holds_up_its_own_stream_only),
		TEST(output_is_complete_before_the_exit),
		TEST(failures_say_what_and_why),
		TEST(a_script_without_its_interpreter_is_named),
		TEST(the_process_gets_what_the_request_says),
		TEST(a_terminal_is_one),
		TEST(signals_reach_the_process_or_its_group),
		TEST(a_timeout_kills_everything),
		TEST(a_background_process_does_not_delay_the_exit),
		TEST(close_and_a_lost_link_kill),
		TEST(a_new_hello_starts_afresh),
		TEST(nothing_is_served_without_a_hello),
		TEST(a_configuration_is_refused_after_the_hello),
		TEST(a_peer_that_breaks_the_rules_is_cut_off),
		TEST(users_are_found_as_in_containers),
		TEST(limits_are_parsed_strictly),
	};

	return test_run(tests);
}
