/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hostile-init: a PID 1 that behaves as a hostile guest would, in place of our agent
 *
 * MODE 1 floods the console, MODE 2 sends garbage on the agent's port, until nobody takes
 * any more.
 */
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

/* Opens the virtio port of that name; it may take its driver a while to find it. */
static int init_open_port(const char *want)
{
	char path[400], name[64];

	for (;;) {
		DIR *d = opendir("/sys/class/virtio-ports");
		struct dirent *e;

		while (d && (e = readdir(d))) {
			FILE *f;

			snprintf(path, sizeof(path), "/sys/class/virtio-ports/%s/name", e->d_name);
			f = fopen(path, "r");
			if (!f)
				continue;
			name[0] = '\0';
			if (fgets(name, sizeof(name), f))
				name[strcspn(name, "\n")] = '\0';
			fclose(f);
			if (!strcmp(name, want)) {
				snprintf(path, sizeof(path), "/dev/%s", e->d_name);
				closedir(d);
				return open(path, O_RDWR);
			}
		}
		if (d)
			closedir(d);
	}
}

int main(void)
{
	static char junk[1 << 16];
	int fd;

	mount("dev", "/dev", "devtmpfs", 0, NULL);
	mount("sys", "/sys", "sysfs", 0, NULL);
	memset(junk, MODE == 1 ? 'A' : 0xff, sizeof(junk));
	fd = MODE == 1 ? open("/dev/hvc0", O_RDWR) : init_open_port("agent.ctl");
	while (write(fd, junk, sizeof(junk)) >= 0)
		;
	for (;;)
		pause();
}
