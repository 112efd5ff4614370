/* SPDX-License-Identifier: Apache-2.0 */
/*
 * memory-probe: as PID 1 of a guest, what the entropy device and the balloon do for it
 *
 * Prints a line for each step on the console:
 *   rng: NAME HEX       the source of /dev/hwrng, and 32 bytes of it
 *   memory: touched N   N bytes are in use
 *   memory: freed       and are not any more; the kernel reports them to the host in its
 *                       own time
 * then does nothing, until the machine is ended from outside.
 */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <termios.h>
#include <unistd.h>

#define PROBE_BYTES (96u << 20)

/* The first line of a file. */
static void probe_line(const char *path, char *line, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, line, size - 1);

	line[n > 0 ? n : 0] = '\0';
	line[strcspn(line, "\n")] = '\0';
	if (fd >= 0)
		close(fd);
}

static void probe_rng(int out)
{
	unsigned char bytes[32];
	int fd = open("/dev/hwrng", O_RDONLY | O_CLOEXEC);
	char name[64];
	ssize_t n = fd < 0 ? -1 : read(fd, bytes, sizeof(bytes));

	probe_line("/sys/class/misc/hw_random/rng_current", name, sizeof(name));
	dprintf(out, "rng: %s ", name);
	for (ssize_t i = 0; i < n; i++)
		dprintf(out, "%02x", bytes[i]);
	dprintf(out, "\n");
}

static void probe_memory(int out)
{
	char *p =
		mmap(NULL, PROBE_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED) {
		dprintf(out, "memory: none\n");
		return;
	}
	memset(p, 0x5a, PROBE_BYTES);
	dprintf(out, "memory: touched %u\n", PROBE_BYTES);
	tcdrain(out);
	munmap(p, PROBE_BYTES);
	dprintf(out, "memory: freed\n");
	tcdrain(out);
}

int main(void)
{
	int out;

	mount("none", "/dev", "devtmpfs", 0, NULL);
	mkdir("/sys", 0755);
	mount("none", "/sys", "sysfs", 0, NULL);
	out = open("/dev/hvc0", O_RDWR | O_CLOEXEC | O_NOCTTY);
	probe_rng(out);
	probe_memory(out);
	for (;;)
		pause();
}
