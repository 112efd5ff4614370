/* SPDX-License-Identifier: Apache-2.0 */
/*
 * disk-probe: reads a disk from beginning to end and tells how long that took
 *
 *   disk-probe FILE    on the machine itself
 *   as PID 1           /dev/vda, past the guest's page cache and through it; then the
 *                      machine ends
 *
 * Prints "disk: KIND bytes=N ns=N" for each pass.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

/* A read of 1 MiB is one request; of 4 MiB, several that overlap. */
#define PROBE_CHUNK (1u << 20)
#define PROBE_CHUNK_LARGE (4u << 20)
#define PROBE_PASSES 3

static long long probe_now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000ll + t.tv_nsec;
}

/* @chunk: bytes of a read; @out: where the result goes, a descriptor. */
static void probe_read(const char *path, int flags, size_t chunk, const char *kind, int out)
{
	void *buf = NULL;
	int fd = open(path, O_RDONLY | O_CLOEXEC | flags);
	long long bytes = 0, start;
	ssize_t n;

	if (fd < 0 || posix_memalign(&buf, 4096, chunk)) {
		dprintf(out, "disk: %s cannot be opened\n", kind);
		return;
	}
	memset(buf, 1, chunk); /* its page faults are not the disk's */
	start = probe_now_ns();
	while ((n = read(fd, buf, chunk)) > 0)
		bytes += n;
	dprintf(out, "disk: %s bytes=%lld ns=%lld\n", kind, bytes, probe_now_ns() - start);
	if (getpid() == 1) /* outside it is to stay in the page cache, as the VMM finds it */
		(void)posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
	close(fd);
	free(buf);
}

int main(int argc, char **argv)
{
	int out;

	if (getpid() != 1) {
		for (int i = 0; argc == 2 && i < PROBE_PASSES; i++) {
			probe_read(argv[1], 0, PROBE_CHUNK, "outer", STDOUT_FILENO);
			probe_read(argv[1], 0, PROBE_CHUNK_LARGE, "outer_large", STDOUT_FILENO);
		}
		return argc == 2 ? 0 : 2;
	}
	mount("none", "/dev", "devtmpfs", 0, NULL);
	out = open("/dev/hvc0", O_RDWR | O_CLOEXEC | O_NOCTTY);
	for (int i = 0; i < PROBE_PASSES; i++) {
		probe_read("/dev/vda", O_DIRECT, PROBE_CHUNK, "direct", out);
		probe_read("/dev/vda", O_DIRECT, PROBE_CHUNK_LARGE, "direct_large", out);
		probe_read("/dev/vda", 0, PROBE_CHUNK, "cached", out);
	}
	tcdrain(out);
	reboot(RB_AUTOBOOT);
	return 1;
}
