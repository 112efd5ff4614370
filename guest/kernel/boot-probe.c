/* SPDX-License-Identifier: Apache-2.0 */
/*
 * boot-probe: the whole user space of a kernel that is measured (tools/measure-kernel)
 *
 * DOC: Theory of operation
 *
 * Purpose
 *   As PID 1 of the kernel: writes how long the kernel has run and how many CPUs it
 *   has, "probe: uptime_us=N cpus=N", to the console and ends the machine.
 *   On the host: prints the frequency of the time-stamp counter in kHz, which QEMU's tcg
 *   hands to the guest as it is, and which the guest cannot measure on a busy machine.
 *
 * States
 *   The time is taken before anything else.  The virtio console is ready only after its
 *   driver has talked to the host, which may be later than the start of PID 1; the
 *   kernel's log says when, and reading it blocks until then.
 *
 * Limits
 *   Uses no system call that an option group of the kernel could take away.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>
#include <x86intrin.h>

static void probe_wait_for_console(void)
{
	char record[8192];
	int fd = open("/dev/kmsg", O_RDONLY | O_CLOEXEC);
	ssize_t n;

	if (fd < 0)
		return;
	/* EPIPE: a record was overwritten before it was read; the next one is there. */
	while ((n = read(fd, record, sizeof(record) - 1)) > 0 || (n < 0 && errno == EPIPE)) {
		if (n < 0)
			continue;
		record[n] = '\0';
		if (strstr(record, "console [hvc0] enabled"))
			break;
	}
	close(fd);
}

static long long probe_now_ns(clockid_t clock)
{
	struct timespec t = { 0 };

	clock_gettime(clock, &t);
	return t.tv_sec * 1000000000ll + t.tv_nsec;
}

/*
 * probe_tsc() - one reading of the counter and of the clock, of the same instant
 *
 * Of a few tries the one that was interrupted least.
 */
static void probe_tsc(unsigned long long *tsc, long long *ns)
{
	unsigned long long best = ~0ull;

	for (int i = 0; i < 16; i++) {
		unsigned long long before = __rdtsc();
		long long now = probe_now_ns(CLOCK_MONOTONIC_RAW);
		unsigned long long took = __rdtsc() - before;

		if (took < best) {
			best = took;
			*tsc = before + took / 2;
			*ns = now;
		}
	}
}

static int probe_print_tsc_khz(void)
{
	unsigned long long tsc[2] = { 0 };
	long long ns[2] = { 0 };

	/* 50 ms apart: a microsecond of error in a reading is 20 ppm, a bad crystal's worth. */
	probe_tsc(&tsc[0], &ns[0]);
	do
		probe_tsc(&tsc[1], &ns[1]);
	while (ns[1] - ns[0] < 50000000);
	printf("%llu\n", (tsc[1] - tsc[0]) * 1000000 / (unsigned long long)(ns[1] - ns[0]));
	return 0;
}

int main(void)
{
	long long up_us = probe_now_ns(CLOCK_BOOTTIME) / 1000;
	int fd;

	if (getpid() != 1)
		return probe_print_tsc_khz();
	mount("none", "/dev", "devtmpfs", 0, NULL);
	mount("none", "/sys", "sysfs", 0, NULL);
	probe_wait_for_console();
	fd = open("/dev/console", O_WRONLY | O_CLOEXEC);
	if (fd >= 0) {
		dprintf(fd, "probe: uptime_us=%lld cpus=%ld\n", up_us,
			sysconf(_SC_NPROCESSORS_ONLN));
		tcdrain(fd);
	}
	reboot(RB_AUTOBOOT);
	return 1;
}
