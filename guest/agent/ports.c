/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DOC: Theory of operation
 *
 * Purpose
 *   The agent's virtio-console ports have names; which device node each is, is known
 *   only after the driver and the host have talked.  The kernel sends a uevent for
 *   each name, and so nothing here waits or guesses: look, and look again at an event.
 */
#include "agent/boot.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/netlink.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "agent/volumes.h"
#include "base/log.h"
#include "base/mem.h"

#define PORTS_CLASS "/sys/class/virtio-ports"
#define PORTS_UEVENT_GROUP 1
#define PORTS_FUSE "agent.fuse" /* only where there are volumes */

static const struct {
	const char *name;
	enum frame_link kind;
} ports_wanted[] = {
	{ "agent.ctl", LINK_CTL },
	{ "agent.bulk", LINK_BULK },
};

struct ports {
	struct agent *agent;
	struct loop_watch uevents;
	int fd;
	bool open[ARRAY_SIZE(ports_wanted)];
	bool fuse;
};

static struct ports ports_state;

/* Reads the one-line attribute @path below @dir_fd. Return: its length without newline. */
static ssize_t ports_read_name(int dir_fd, const char *path, char *to, size_t size)
{
	auto_close int fd = openat(dir_fd, path, O_RDONLY | O_CLOEXEC);
	ssize_t n;

	if (fd < 0)
		return -errno;
	n = read(fd, to, size - 1);
	if (n < 0)
		return -errno;
	to[n] = '\0';
	to[strcspn(to, "\n")] = '\0';
	return (ssize_t)strlen(to);
}

static void ports_try(struct ports *p, int class_fd, const char *node)
{
	char path[300], name[64];
	struct err e = ERR_INIT;
	int fd;

	if (snprintf(path, sizeof(path), "%s/name", node) >= (int)sizeof(path) ||
	    ports_read_name(class_fd, path, name, sizeof(name)) <= 0)
		return;
	if (!p->fuse && !strcmp(name, PORTS_FUSE)) {
		fd = openat(p->agent->dev_fd, node, O_RDWR | O_NONBLOCK | O_CLOEXEC);
		if (fd < 0) {
			log_err("event=port_open name=%s: %m", name);
			return;
		}
		p->fuse = true;
		volumes_port(p->agent, fd);
		return;
	}
	for (size_t i = 0; i < ARRAY_SIZE(ports_wanted); i++) {
		if (p->open[i] || strcmp(name, ports_wanted[i].name))
			continue;
		fd = openat(p->agent->dev_fd, node, O_RDWR | O_NONBLOCK | O_CLOEXEC);
		if (fd < 0) {
			log_err("event=port_open name=%s: %m", name);
			return;
		}
		p->open[i] = true;
		if (link_create(p->agent, ports_wanted[i].kind, fd, &e))
			log_err("event=port_link name=%s reason=\"%s\"", name, err_text(&e));
	}
}

/* Return: are all ports open, as far as is known? */
static bool ports_scan(struct ports *p)
{
	DIR *dir = opendir(PORTS_CLASS);
	struct dirent *d;
	bool all = true;

	if (!dir)
		return false;
	while ((d = readdir(dir)))
		if (d->d_name[0] != '.')
			ports_try(p, dirfd(dir), d->d_name);
	closedir(dir);
	for (size_t i = 0; i < ARRAY_SIZE(ports_wanted); i++)
		all &= p->open[i];
	return all && !volumes_want_port(p->agent);
}

static void ports_event(struct loop_watch *w, uint32_t events)
{
	struct ports *p = container_of(w, struct ports, uevents);
	char trash[8192];

	(void)events;
	/* What the event says is in sysfs too. ENOBUFS (some were lost) is as good. */
	while (recv(p->fd, trash, sizeof(trash), MSG_DONTWAIT) >= 0 || errno == ENOBUFS)
		;
	if (ports_scan(p)) {
		loop_watch_remove(w);
		close_fd(&p->fd);
	}
}

int ports_start(struct agent *a, struct err *e)
{
	struct sockaddr_nl addr = { .nl_family = AF_NETLINK, .nl_groups = PORTS_UEVENT_GROUP };
	struct ports *p = &ports_state;
	int rc;

	p->agent = a;
	loop_watch_init(&p->uevents, ports_event);
	/* Listening before looking: no event is missed. */
	p->fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_KOBJECT_UEVENT);
	if (p->fd < 0 || bind(p->fd, (struct sockaddr *)&addr, sizeof(addr)))
		return err_errno(e, errno, "uevent socket");
	rc = loop_watch_add(a->loop, &p->uevents, p->fd, EPOLLIN);
	if (rc)
		return err_errno(e, -rc, "uevent socket");
	if (ports_scan(p)) {
		loop_watch_remove(&p->uevents);
		close_fd(&p->fd);
	}
	return 0;
}
