/* SPDX-License-Identifier: Apache-2.0 */
/* The frame socket, the host's addresses and the system calls of msb-net. */
#include "unit/test.h"

#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "net/confine.h"
#include "net/frames.h"
#include "net/hostaddr.h"
#include "net/wire.h"

/* A sanitizer's run-time has signal handlers, system calls and files of its own. */
#ifdef __SANITIZE_ADDRESS__
#define SANITIZED true
#else
#define SANITIZED false
#endif

static void pair(int sv[2])
{
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv), 0);
}

/* Frames in one write, byte by byte, and cut everywhere else. */
static void test_receive(void **state)
{
	static const size_t sizes[] = { 0, 1, 14, 1514, 65534, FRAMES_WIRE_MAX };
	static uint8_t stream[6 * 4 + 65534 + FRAMES_WIRE_MAX + 2000];
	static const size_t steps[] = { 1, 3, 4, 1000, 70000 };
	size_t len = 0;

	(void)state;
	for (size_t i = 0; i < 6; i++) {
		wire_put32(stream + len, (uint32_t)sizes[i]);
		memset(stream + len + 4, (int)i + 1, sizes[i]);
		len += 4 + sizes[i];
	}
	for (size_t s = 0; s < 5; s++) {
		struct frames f;
		size_t at = 0, n_frames = 0, n;
		const uint8_t *frame;
		int sv[2];

		pair(sv);
		assert_int_equal(frames_init(&f, sv[0], NULL), 0);
		while (at < len) {
			size_t part = len - at < steps[s] ? len - at : steps[s];
			ssize_t w = send(sv[1], stream + at, part, MSG_DONTWAIT);

			assert_true(w > 0);
			at += (size_t)w;
			assert_int_equal(frames_receive(&f), 1);
			while (frames_next(&f, &frame, &n) == 1) {
				assert_int_equal(n, sizes[n_frames]);
				for (size_t k = 0; k < n; k++)
					assert_int_equal(frame[k], n_frames + 1);
				n_frames++;
			}
		}
		assert_int_equal(n_frames, 6);
		assert_int_equal(frames_receive(&f), 0);
		close(sv[1]);
		assert_int_equal(frames_receive(&f), -ENODATA);
		close(sv[0]);
		frames_fini(&f);
	}
}

static void test_impossible_length(void **state)
{
	static const uint32_t lengths[] = { FRAMES_WIRE_MAX + 1, 0x80000000, 0xffffffff };
	const uint8_t *frame;
	size_t n;

	(void)state;
	for (size_t i = 0; i < 3; i++) {
		struct frames f;
		uint8_t head[4];
		int sv[2];

		pair(sv);
		frames_init(&f, sv[0], NULL);
		wire_put32(head, lengths[i]);
		assert_int_equal(write(sv[1], head, 4), 4);
		assert_int_equal(frames_receive(&f), 1);
		assert_int_equal(frames_next(&f, &frame, &n), -EPROTO);
		frames_fini(&f);
		close(sv[0]);
		close(sv[1]);
	}
}

/* A VM that does not read: the queue fills, then whole frames are lost, none is torn. */
static void test_send_bounded(void **state)
{
	static uint8_t frame[9000], got[FRAMES_OUT_MAX * 2];
	unsigned sent = 0, arrived = 0;
	size_t have = 0, at = 0;
	struct frames f;
	ssize_t n;
	int sv[2];

	(void)state;
	pair(sv);
	frames_init(&f, sv[0], NULL);
	while (!f.dropped) {
		wire_put32(frame, sent++);
		assert_int_equal(frames_send(&f, frame, sizeof(frame)), 0);
		assert_true(buf_len(&f.out) <= FRAMES_OUT_MAX);
	}
	assert_true(frames_full(&f));
	sent--; /* the last one was lost */
	do {
		assert_int_equal(frames_flush(&f), 0);
		while ((n = recv(sv[1], got + have, sizeof(got) - have, MSG_DONTWAIT)) > 0)
			have += (size_t)n;
	} while (buf_len(&f.out));
	while (at < have) {
		assert_int_equal(wire_get32(got + at), sizeof(frame));
		assert_int_equal(wire_get32(got + at + 4), arrived++);
		at += 4 + sizeof(frame);
	}
	assert_int_equal(arrived, sent);
	assert_int_equal(at, have);
	assert_false(frames_full(&f));

	close(sv[1]);
	assert_int_equal(frames_send(&f, frame, 100), -EPIPE);
	frames_fini(&f);
	close(sv[0]);
}

/* The kernel's list; which addresses this machine has is not ours to know. */
static void test_host_addresses(void **state)
{
	struct net_policy p = { .scope = NET_SCOPE_PUBLIC, .n_host_addrs = 99 };
	struct hostaddr h;
	struct err e = ERR_INIT;

	(void)state;
	if (hostaddr_init(&h, &p, &e) < 0)
		fail_msg("%s", err_text(&e));
	assert_true(p.n_host_addrs < 99);
	assert_false(p.host_addrs_incomplete);
	for (size_t i = 0; i < p.n_host_addrs; i++)
		assert_int_not_equal(netaddr_kind(&p.host_addrs[i]), NETADDR_LOOPBACK);
	/* Nothing new: nothing happens, and it does not wait. */
	assert_int_equal(hostaddr_update(&h, &p, &e), 0);
	hostaddr_fini(&h);
}

/* ---- system calls ---------------------------------------------------- */

static void try_exec(void)
{
	execl("/bin/true", "true", NULL);
}

static void try_fork(void)
{
	fork();
}

static void try_netlink_socket(void)
{
	socket(AF_NETLINK, SOCK_RAW, 0);
}

static void try_packet_socket(void)
{
	socket(AF_PACKET, SOCK_RAW, 0);
}

static void try_unix_socket(void)
{
	socket(AF_UNIX, SOCK_STREAM, 0);
}

static void try_write_file(void)
{
	openat(AT_FDCWD, "/tmp/x", O_WRONLY);
}

static void try_code(void)
{
	syscall(SYS_mmap, NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC,
		MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}

static void try_mprotect(void)
{
	mprotect(NULL, 0, PROT_EXEC);
}

static void try_listen(void)
{
	listen(0, 1);
}

static void try_kill(void)
{
	kill(1, 0);
}

static void try_unlink(void)
{
	unlink("/tmp/x");
}

static void try_ioctl(void)
{
	ioctl(0, 0x5412 /* TIOCSTI */, "x");
}

/* Return: the signal that ended a confined process in @fn, 0 if it survived. */
static int confined(void (*fn)(void))
{
	pid_t pid = fork();
	int status;

	if (pid == 0) {
		if (jail_seccomp(net_syscalls, false, NULL) < 0)
			_exit(1);
		fn();
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	if (WIFEXITED(status))
		assert_int_equal(WEXITSTATUS(status), 0);
	return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

static void do_its_work(void)
{
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	void *p = malloc(1 << 20);

	fcntl(fd, F_SETFL, O_NONBLOCK);
	close(fd);
	fd = open("/etc/resolv.conf", O_RDONLY | O_CLOEXEC);
	close(fd);
	free(p);
	/* A link-local resolver's interface, and an id for a question. */
	struct ifreq ifr = { .ifr_name = "lo" };
	uint32_t id;

	fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (ioctl(fd, SIOCGIFINDEX, &ifr))
		_exit(1);
	close(fd);
	fd = socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	close(fd);
	if (getrandom(&id, sizeof(id), 0) != sizeof(id))
		_exit(2);
	/* What a library tries is refused without harm. */
	if (isatty(0))
		_exit(3);
}

static void test_confined(void **state)
{
	static void (*const forbidden[])(void) = {
		try_unix_socket,   try_exec,       try_fork,   try_netlink_socket,
		try_packet_socket, try_write_file, try_code,   try_mprotect,
		try_listen,        try_kill,       try_unlink, try_ioctl,
	};

	(void)state;
	if (SANITIZED)
		skip();
	assert_int_equal(confined(do_its_work), 0);
	for (size_t i = 0; i < sizeof(forbidden) / sizeof(forbidden[0]); i++)
		if (confined(forbidden[i]) != SIGSYS)
			fail_msg("forbidden call %zu was possible", i);
}

static void test_each_call_has_a_reason(void **state)
{
	(void)state;
	for (const struct jail_syscall *c = net_syscalls; c->nr != JAIL_SYSCALL_END; c++)
		assert_true(c->reason && strlen(c->reason) > 3);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_receive),      TEST(test_impossible_length),
		TEST(test_send_bounded), TEST(test_host_addresses),
		TEST(test_confined),     TEST(test_each_call_has_a_reason),
	};

	return test_run(tests);
}
