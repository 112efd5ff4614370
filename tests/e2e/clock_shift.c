/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A clock that a test moves on.  Preloaded into the server, so that what takes minutes takes
 * none, and nothing in the server knows: CLOCK_MONOTONIC is what it is plus the seconds that
 * the file $CLOCK_SHIFT holds (a little-endian double), and who waits in epoll_wait() wakes up
 * by that clock.  What the server starts has the real one.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define SLICE_MS 10

static const volatile double *shift;

__attribute__((constructor)) static void begin(void)
{
	const char *path = getenv("CLOCK_SHIFT");
	int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
	void *p = fd < 0 ? MAP_FAILED : mmap(NULL, sizeof(*shift), PROT_READ, MAP_SHARED, fd, 0);

	if (p == MAP_FAILED)
		abort();
	shift = p;
	close(fd);
	unsetenv("LD_PRELOAD");
	unsetenv("CLOCK_SHIFT");
}

int clock_gettime(clockid_t clock, struct timespec *t)
{
	long rc = syscall(SYS_clock_gettime, clock, t);

	if (!rc && clock == CLOCK_MONOTONIC && shift) {
		long long ns = t->tv_nsec + (long long)(*shift * 1e9);

		t->tv_sec += ns / 1000000000;
		t->tv_nsec = ns % 1000000000;
	}
	return (int)rc;
}

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

int epoll_wait(int fd, struct epoll_event *events, int max, int timeout)
{
	double end = now() + timeout / 1e3;

	if (timeout < 0)
		return epoll_pwait(fd, events, max, -1, NULL);
	for (;;) {
		double left = (end - now()) * 1e3;
		int ms = left <= 0 ? 0 : left < SLICE_MS ? (int)left + 1 : SLICE_MS;
		int n = epoll_pwait(fd, events, max, ms, NULL);

		if (n || left <= 0)
			return n;
	}
}
