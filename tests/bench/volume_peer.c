/* SPDX-License-Identifier: Apache-2.0 */
/*
 * volume_peer: measures a directory from inside a machine (tests/bench/bench_virtiofs.py)
 *
 *	volume_peer DIR		in a sandbox that has a volume there
 *	/init			PID 1 of a machine with a virtio-fs of tag "bench"; loads /modules
 *
 * One line of input is one measurement, one line of output its result, "result SECONDS":
 *
 *	write N		N MiB into a new file, with fsync
 *	read N		the same file, nothing of it being cached
 *	make N		N files of 1000 bytes
 *	look N		each opened, read and closed, nothing being cached
 *	remove N	all of them
 *	memory N	N MiB into a file of a tmpfs and out of it again: how fast is this machine?
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#define PIECE (1u << 20)
#define SMALL 1000

static char piece[PIECE];

static void __attribute__((noreturn)) die(const char *what)
{
	printf("error %s: %s\n", what, strerror(errno));
	fflush(stdout);
	_exit(1);
}

static int must_open(const char *name, int flags)
{
	int fd = open(name, flags | O_CLOEXEC, 0644);

	if (fd < 0)
		die(name);
	return fd;
}

static void drop_caches(void)
{
	int fd = must_open("/proc/sys/vm/drop_caches", O_WRONLY);

	sync();
	if (write(fd, "3", 1) != 1)
		die("drop_caches");
	close(fd);
}

static void write_big(unsigned mib)
{
	int fd = must_open("big", O_CREAT | O_TRUNC | O_WRONLY);

	while (mib--)
		if (write(fd, piece, PIECE) != PIECE)
			die("write");
	if (fsync(fd))
		die("fsync");
	close(fd);
}

static void read_big(unsigned mib)
{
	int fd = must_open("big", O_RDONLY);
	uint64_t n = 0;
	ssize_t got;

	while ((got = read(fd, piece, PIECE)) > 0)
		n += (uint64_t)got;
	if (n != (uint64_t)mib * PIECE)
		die("read");
	close(fd);
}

static void small_files(const char *what, unsigned n)
{
	char name[32];

	for (unsigned i = 0; i < n; i++) {
		int fd;

		snprintf(name, sizeof(name), "small/%u", i);
		if (!strcmp(what, "remove")) {
			if (unlink(name))
				die(name);
			continue;
		}
		fd = must_open(name,
			       !strcmp(what, "make") ? O_CREAT | O_TRUNC | O_WRONLY : O_RDONLY);
		if ((!strcmp(what, "make") ? write(fd, piece, SMALL) : read(fd, piece, SMALL)) !=
		    SMALL)
			die(name);
		close(fd);
	}
}

static void memory(unsigned mib)
{
	int fd = must_open("/scratch/big", O_CREAT | O_RDWR);

	for (unsigned i = 0; i < mib; i++)
		if (pwrite(fd, piece, PIECE, (i % 32) * (off_t)PIECE) != PIECE ||
		    pread(fd, piece, PIECE, (i % 32) * (off_t)PIECE) != PIECE)
			die("/scratch");
	close(fd);
}

static double measure(const char *what, unsigned n)
{
	struct timespec from, to;

	if (!strcmp(what, "read") || !strcmp(what, "look"))
		drop_caches();
	clock_gettime(CLOCK_MONOTONIC, &from);
	if (!strcmp(what, "write"))
		write_big(n);
	else if (!strcmp(what, "read"))
		read_big(n);
	else if (!strcmp(what, "memory"))
		memory(n);
	else
		small_files(what, n);
	clock_gettime(CLOCK_MONOTONIC, &to);
	return (double)(to.tv_sec - from.tv_sec) + (double)(to.tv_nsec - from.tv_nsec) / 1e9;
}

static void load_modules(void)
{
	struct dirent **names;
	char path[300];
	int n = scandir("/modules", &names, NULL, alphasort);

	for (int i = 0; i < n; i++) {
		int fd;

		if (names[i]->d_name[0] == '.')
			continue;
		snprintf(path, sizeof(path), "/modules/%s", names[i]->d_name);
		fd = must_open(path, O_RDONLY);
		if (syscall(SYS_finit_module, fd, "", 0) && errno != EEXIST)
			die(path);
		close(fd);
	}
}

static void become_init(void)
{
	struct termios t;
	int fd;

	mkdir("/proc", 0755);
	mkdir("/v", 0755);
	mkdir("/scratch", 0755);
	load_modules();
	mount("dev", "/dev", "devtmpfs", 0, NULL);
	/* The port is found a moment after its driver. */
	while ((fd = open("/dev/hvc0", O_RDWR)) < 0)
		usleep(1000);
	for (int i = 0; i < 3; i++)
		dup2(fd, i);
	if (!tcgetattr(0, &t)) {
		cfmakeraw(&t);
		tcsetattr(0, TCSANOW, &t);
	}
	if (mount("proc", "/proc", "proc", 0, NULL))
		die("mount /proc");
	if (mount("scratch", "/scratch", "tmpfs", 0, NULL))
		die("mount /scratch");
	if (mount("bench", "/v", "virtiofs", 0, NULL))
		die("mount the virtio-fs (does this kernel have it?)");
}

int main(int argc, char **argv)
{
	char line[64], what[16];
	unsigned n;

	if (getpid() == 1)
		become_init();
	if (chdir(getpid() == 1 ? "/v" : argc > 1 ? argv[1] : "."))
		die("chdir");
	for (size_t i = 0; i < sizeof(piece); i++)
		piece[i] = (char)(i * 2654435761u >> 13);
	mkdir("small", 0755);
	printf("ready\n");
	fflush(stdout);
	while (fgets(line, sizeof(line), stdin)) {
		if (sscanf(line, "%15s %u", what, &n) != 2)
			die("what?");
		printf("result %.6f\n", measure(what, n));
		fflush(stdout);
	}
	return 0;
}
