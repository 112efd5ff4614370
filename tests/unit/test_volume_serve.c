/* SPDX-License-Identifier: Apache-2.0 */
/* The file server's loop, behind a socket as the VM has it. */
#include "unit/test.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "base/mem.h"
#include "codec/volume_wire.h"
#include "volume/host.h"
#include "volume/serve.h"

#define HANG_MS 60000 /* only a hang gets there */

static struct fixture {
	char path[64];
	int fd; /* the VM's end */
	pid_t server;
	uint64_t fh;
	uint8_t in[2 * VOLUME_BODY_MAX];
	size_t end;
} fx = { .fd = -1 };

static void serve(int fd)
{
	static const volatile sig_atomic_t stop;
	const struct share_options o = { .path = fx.path };
	static struct share share;
	struct budget budget;
	struct err e = ERR_INIT;
	sigset_t mask;

	sigemptyset(&mask);
	host_set_fd_dir("/proc/self/fd");
	budget_init(&budget, 64);
	_exit(share_init(&share, 0, &o, &budget, &e) || serve_run(fd, &share, 1, &stop, &mask, &e));
}

static void add(uint8_t *to, size_t *at, uint32_t opcode, uint64_t unique, const void *args,
		size_t n)
{
	struct fuse_in_header h = {
		.len = (uint32_t)(sizeof(h) + n), .opcode = opcode, .unique = unique, .nodeid = 1
	};

	volume_wire_put(to + *at, (struct volume_wire){ h.len, 0, VOLUME_WIRE_FUSE });
	memcpy(to + *at + VOLUME_WIRE_HEADER, &h, sizeof(h));
	memcpy(to + *at + VOLUME_WIRE_HEADER + sizeof(h), args, n);
	*at += VOLUME_WIRE_HEADER + h.len;
}

/* Takes all that is there at once, when no more can come, until a whole answer is there. */
static struct fuse_out_header answer(uint8_t *body, size_t room)
{
	struct fuse_out_header h;
	struct volume_wire w;

	for (;;) {
		struct pollfd p = { .fd = fx.fd, .events = POLLIN };
		ssize_t n;

		w = volume_wire_get(fx.in);
		if (fx.end >= VOLUME_WIRE_HEADER && fx.end >= VOLUME_WIRE_HEADER + w.length)
			break;
		assert_int_equal(poll(&p, 1, HANG_MS), 1);
		/* It has nothing to do, or no room for what it would send. */
		test_wait_until_it_waits(fx.server);
		n = recv(fx.fd, fx.in + fx.end, sizeof(fx.in) - fx.end, 0);
		assert_true(n > 0);
		fx.end += (size_t)n;
	}
	memcpy(&h, fx.in + VOLUME_WIRE_HEADER, sizeof(h));
	assert_int_equal(h.len, w.length);
	if (body)
		memcpy(body, fx.in + VOLUME_WIRE_HEADER + sizeof(h),
		       w.length - sizeof(h) < room ? w.length - sizeof(h) : room);
	fx.end -= VOLUME_WIRE_HEADER + w.length;
	memmove(fx.in, fx.in + VOLUME_WIRE_HEADER + w.length, fx.end);
	return h;
}

static int start(void **state)
{
	struct fuse_open_in open = { .flags = O_RDONLY };
	struct fuse_open_out opened;
	uint8_t msg[256];
	int fds[2], fd, size = 200 << 10;
	size_t n = 0;

	(void)state;
	snprintf(fx.path, sizeof(fx.path), "/tmp/msb-serve-XXXXXX");
	fd = mkstemp(fx.path);
	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, VOLUME_WRITE_MAX), 0);
	close(fd);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
	/* The kernel doubles it: some more than the server holds back at most. */
	assert_int_equal(setsockopt(fds[1], SOL_SOCKET, SO_SNDBUF, &size, sizeof(size)), 0);
	fx.server = fork();
	if (!fx.server) {
		close(fds[0]);
		serve(fds[1]);
	}
	assert_true(fx.server > 0);
	close(fds[1]);
	fx.fd = fds[0];
	add(msg, &n, FUSE_OPEN, 2, &open, sizeof(open));
	assert_int_equal(send(fx.fd, msg, n, 0), n);
	assert_int_equal(answer((uint8_t *)&opened, sizeof(opened)).error, 0);
	fx.fh = opened.fh;
	return 0;
}

static int stop(void **state)
{
	int status;

	(void)state;
	close_fd(&fx.fd);
	assert_int_equal(waitpid(fx.server, &status, 0), fx.server);
	assert_int_equal(status, 0);
	unlink(fx.path);
	return 0;
}

/*
 * A request that has to wait until the long answer before it was taken: whatever is left of
 * that when the socket has room again, the request is not forgotten.
 */
static void requests_behind_long_answers(void **state)
{
	(void)state;
	for (uint32_t size = 256u << 10; size <= VOLUME_WRITE_MAX; size += 12u << 10) {
		struct fuse_read_in big = { .fh = fx.fh, .size = size },
				    small = { .fh = fx.fh, .size = 16 };
		uint8_t msg[256];
		size_t n = 0;

		add(msg, &n, FUSE_READ, 4, &big, sizeof(big));
		add(msg, &n, FUSE_READ, 6, &small, sizeof(small));
		assert_int_equal(send(fx.fd, msg, n, 0), n);
		assert_int_equal(answer(NULL, 0).len, sizeof(struct fuse_out_header) + size);
		assert_int_equal(answer(NULL, 0).unique, 6);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(requests_behind_long_answers),
	};

	return cmocka_run_group_tests(tests, start, stop);
}
