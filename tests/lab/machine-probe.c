/* SPDX-License-Identifier: Apache-2.0 */
/*
 * machine-probe: as PID 1 of a guest, tells what machine the kernel sees; then the machine ends
 *
 * Prints "machine: cpus=N memory_kib=N clocksource=NAME" to the console. Each CPU has run
 * something before it counts.
 */
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/sysinfo.h>
#include <termios.h>
#include <unistd.h>

/* How many of the CPUs that are online this process can move to. */
static long probe_cpus(void)
{
	long n = sysconf(_SC_NPROCESSORS_ONLN), ran = 0;

	for (int i = 0; i < n; i++) {
		cpu_set_t one;

		CPU_ZERO(&one);
		CPU_SET(i, &one);
		ran += !sched_setaffinity(0, sizeof(one), &one) && sched_getcpu() == i;
	}
	return ran;
}

int main(void)
{
	static const char source[] = "/sys/devices/system/clocksource/clocksource0/current_clocksource";
	char clock[32] = "?";
	struct sysinfo info;
	long cpus;
	int fd, out;

	mount("none", "/dev", "devtmpfs", 0, NULL);
	mount("none", "/sys", "sysfs", 0, NULL);
	cpus = probe_cpus();
	fd = open(source, O_RDONLY | O_CLOEXEC);
	if (fd >= 0) {
		ssize_t n = read(fd, clock, sizeof(clock) - 1);

		clock[n > 0 ? n - 1 : 0] = '\0';
	}
	sysinfo(&info);
	out = open("/dev/hvc0", O_RDWR | O_CLOEXEC | O_NOCTTY);
	dprintf(out, "machine: cpus=%ld memory_kib=%lu clocksource=%s\n", cpus,
		info.totalram / 1024 * info.mem_unit, clock);
	tcdrain(out);
	reboot(RB_AUTOBOOT);
	return 1;
}
