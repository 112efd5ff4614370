/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/boot.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/random.h>
#include <sched.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>

#include "agent/dirs.h"
#include "agent/volumes.h"
#include "base/log.h"
#include "base/mem.h"

struct boot_mount {
	const char *type, *target, *options;
	unsigned long flags;
	bool optional; /* a kernel of the user's own may lack it */
};

/* As in a container, but on the machine's own kernel: nothing is hidden or read-only. */
static const struct boot_mount boot_mounts[] = {
	{ "devtmpfs", "/dev", "mode=0755", MS_NOSUID, false },
	{ "proc", "/proc", NULL, MS_NOSUID | MS_NODEV | MS_NOEXEC, false },
	{ "sysfs", "/sys", NULL, MS_NOSUID | MS_NODEV | MS_NOEXEC, false },
	{ "cgroup2", "/sys/fs/cgroup", "nsdelegate", MS_NOSUID | MS_NODEV | MS_NOEXEC, true },
	{ "devpts", "/dev/pts", "gid=5,mode=0620,ptmxmode=0666", MS_NOSUID | MS_NOEXEC, false },
	{ "tmpfs", "/dev/shm", "mode=1777", MS_NOSUID | MS_NODEV, true },
	{ "mqueue", "/dev/mqueue", NULL, MS_NOSUID | MS_NODEV | MS_NOEXEC, true },
};

static const struct {
	const char *target, *path;
} boot_links[] = {
	{ "/proc/self/fd", "/dev/fd" },
	{ "/proc/self/fd/0", "/dev/stdin" },
	{ "/proc/self/fd/1", "/dev/stdout" },
	{ "/proc/self/fd/2", "/dev/stderr" },
};

static const struct {
	const char *path, *text;
} boot_settings[] = {
	/* The modules that a root in the guest would load can only come from the guest. */
	{ "/proc/sys/kernel/modules_disabled", "1" },
	/* When memory runs out, anything but the agent; spawn.c gives children 0. */
	{ "/proc/self/oom_score_adj", "-1000" },
	/* As in containers: ping and low ports without privileges. */
	{ "/proc/sys/net/ipv4/ping_group_range", "0 2147483647" },
	{ "/proc/sys/net/ipv4/ip_unprivileged_port_start", "0" },
};

int boot_write_file(const char *path, const char *text)
{
	auto_close int fd = open(path, O_WRONLY | O_CLOEXEC);

	if (fd < 0)
		return -errno;
	return write(fd, text, strlen(text)) < 0 ? -errno : 0;
}

/* The kernel opens no console for init if the device is not there yet. */
static void boot_standard_fds(void)
{
	int fd;

	do
		fd = open("/dev/null", O_RDWR);
	while (fd >= 0 && fd < 3);
	if (fd >= 3)
		close(fd);
}

static void boot_log(void)
{
	int fd = open("/dev/kmsg", O_WRONLY | O_CLOEXEC);

	log_init(fd >= 0 ? fd : STDERR_FILENO, LOG_WARN, "agent");
}

int boot_early(struct err *e)
{
	struct sched_param priority = { .sched_priority = 1 };

	for (size_t i = 0; i < ARRAY_SIZE(boot_mounts); i++) {
		const struct boot_mount *m = &boot_mounts[i];

		if (mkdir(m->target, 0755) && errno != EEXIST && !m->optional)
			return err_errno(e, errno, "mkdir %s", m->target);
		if (mount(m->type, m->target, m->type, m->flags, m->options) && !m->optional)
			return err_errno(e, errno, "mount %s", m->target);
	}
	boot_standard_fds();
	boot_log();
	umask(0);
	for (size_t i = 0; i < ARRAY_SIZE(boot_links); i++)
		if (symlink(boot_links[i].target, boot_links[i].path) && errno != EEXIST)
			log_warn("event=symlink path=%s: %m", boot_links[i].path);
	/* devpts's own ptmx carries its mode; the device node would be root's only. */
	unlink("/dev/ptmx");
	if (symlink("pts/ptmx", "/dev/ptmx"))
		log_warn("event=symlink path=/dev/ptmx: %m");
	for (size_t i = 0; i < ARRAY_SIZE(boot_settings); i++) {
		int rc = boot_write_file(boot_settings[i].path, boot_settings[i].text);

		if (rc && rc != -ENOENT)
			log_warn("event=setting path=%s rc=%d", boot_settings[i].path, rc);
	}
	/*
	 * Ahead of everything else, so that a fork bomb does not keep the agent from killing
	 * it.  Children start as ordinary processes.  syscall(): musl's function refuses.
	 */
	if (syscall(SYS_sched_setscheduler, 0, SCHED_RR | SCHED_RESET_ON_FORK, &priority))
		log_warn("event=priority: %m");
	return 0;
}

int boot_open(struct agent *a, struct err *e)
{
	a->dev_fd = open("/dev", O_PATH | O_DIRECTORY | O_CLOEXEC);
	/* Rootless container tools open these; a driver that is absent has no node. */
	if ((fchmodat(a->dev_fd, "fuse", 0666, 0) < 0 ||
	     fchmodat(a->dev_fd, "net/tun", 0666, 0) < 0) &&
	    errno != ENOENT)
		log_warn("event=device-mode error=\"%m\"");
	a->pts_fd = open("/dev/pts", O_PATH | O_DIRECTORY | O_CLOEXEC);
	a->proc_fd = open("/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	/* Without cgroup2 this is an empty directory of sysfs, where mkdir fails. */
	a->cgroup_fd = open("/sys/fs/cgroup", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (a->dev_fd < 0 || a->pts_fd < 0 || a->proc_fd < 0)
		return err_errno(e, errno, "open /dev, /dev/pts, /proc");
	return 0;
}

int boot_set_clock(uint64_t realtime_ns, struct err *e)
{
	struct timespec ts = {
		.tv_sec = (time_t)(realtime_ns / 1000000000u),
		.tv_nsec = (long)(realtime_ns % 1000000000u),
	};

	if (clock_settime(CLOCK_REALTIME, &ts))
		return err_errno(e, errno, "set the wall clock");
	return 0;
}

int boot_seed(uint64_t realtime_ns, const uint8_t *entropy, size_t n, struct err *e)
{
	auto_close int fd = -1;
	union {
		struct rand_pool_info info;
		uint8_t room[sizeof(struct rand_pool_info) + FRAME_ENTROPY_SIZE];
	} pool;

	if (n != FRAME_ENTROPY_SIZE)
		return err_set(e, EINVAL, "entropy: %zu bytes", n);
	if (realtime_ns && boot_set_clock(realtime_ns, e))
		return -e->code;
	fd = open("/dev/urandom", O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return err_errno(e, errno, "/dev/urandom");
	pool.info.entropy_count = FRAME_ENTROPY_SIZE * 8;
	pool.info.buf_size = FRAME_ENTROPY_SIZE;
	memcpy(pool.info.buf, entropy, FRAME_ENTROPY_SIZE);
	/* The second call makes the pool's new content count at once. */
	if (ioctl(fd, RNDADDENTROPY, &pool.info) || ioctl(fd, RNDRESEEDCRNG, 0))
		return err_errno(e, errno, "add entropy");
	explicit_bzero(&pool, sizeof(pool));
	return 0;
}

int boot_configure(struct agent *a, const struct frame_configure *c, struct err *e)
{
	int rc;

	if (c->stop_signal > 64)
		return err_set(e, EPROTO, "CONFIGURE: no signal has the number %u", c->stop_signal);
	a->stop_signal = c->stop_signal;
	rc = root_mount(a, c, e);
	if (!rc) {
		/* Before the volumes: nothing is made in what the user has mounted. */
		dirs_configure(c);
		rc = net_configure(c, e);
	}
	/* Last: it goes on when the others are done. */
	return rc ? rc : volumes_configure(a, c, e);
}
