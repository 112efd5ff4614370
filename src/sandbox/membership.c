/* SPDX-License-Identifier: Apache-2.0 */
#include "sandbox/membership.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "sys/lock.h"

#define MEMBERSHIP_FILE_SIZE (NETGROUP_NAME_SIZE + 12)
#define MEMBERSHIP_LOCK_MS 15000u /* one who joins holds it for some system calls */
#define MEMBERSHIP_TRIES 100 /* a directory that was removed while its lock was waited for */
/* Room in a connection for frames that the other end's msb-net has not read; the kernel's bound. */
#define MEMBERSHIP_SOCKET_BYTES (1 << 20)

static void membership_file(const struct netmember *m, char out[MEMBERSHIP_FILE_SIZE])
{
	snprintf(out, MEMBERSHIP_FILE_SIZE, "%u-%s", m->number, m->name);
}

/* "3-db". Return: is it a member's socket? */
static bool membership_read_file(const char *file, struct netmember *out)
{
	char line[NETCONTROL_MEMBER_MAX];
	const char *dash = strchr(file, '-');
	int n = dash ? snprintf(line, sizeof(line), NETCONTROL_GROUP "%.*s %s\n",
				(int)(dash - file), file, dash + 1)
		     : -1;

	return n > 0 && (size_t)n < sizeof(line) &&
	       !netmember_parse(NETCONTROL_GROUP, line, (size_t)n, out, NULL);
}

static int membership_socket(const struct membership *g, const char *file, struct sockaddr_un *sa)
{
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0),
	    size = MEMBERSHIP_SOCKET_BYTES;

	*sa = (struct sockaddr_un){ .sun_family = AF_UNIX };
	/* Through the descriptor: the path may be longer than sun_path. */
	snprintf(sa->sun_path, sizeof(sa->sun_path), "/proc/self/fd/%d/%s", g->dirfd, file);
	if (fd >= 0)
		setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
	return fd;
}

/* ---- members ---------------------------------------------------------------------------- */

static void membership_member_forget(struct membership_member *m)
{
	if (m->fd < 0)
		return;
	loop_watch_remove(&m->watch);
	close_fd(&m->fd);
	m->who = (struct netmember){ .number = 0 };
}

/* The other end is closed by all that had it. */
static void membership_member_gone(struct loop_watch *w, uint32_t events)
{
	struct membership_member *m = container_of(w, struct membership_member, watch);

	(void)events;
	log_info("event=member-gone name=%s", m->who.name);
	membership_member_forget(m);
}

/* Takes over @fd. */
static void membership_welcome(struct membership *g, const struct netmember *who, int fd)
{
	struct membership_member *m = &g->members[who->number];

	membership_member_forget(m);
	m->fd = fd;
	m->who = *who;
	log_info("event=member name=%s number=%u", who->name, who->number);
	g->on_member(g, who, fd);
	/* EPOLLHUP comes without being asked for; what is to be read is msb-net's. */
	if (loop_watch_add(g->loop, &m->watch, fd, 0))
		membership_member_forget(m);
}

/* ---- connections that others make --------------------------------------------------------- */

static void membership_greeted(struct loop_watch *w, uint32_t events)
{
	struct membership_pending *p = container_of(w, struct membership_pending, watch);
	struct membership *g = p->group;
	char msg[NETCONTROL_MEMBER_MAX];
	struct netmember who;
	struct err e = ERR_INIT;
	ssize_t n = recv(p->fd, msg, sizeof(msg), MSG_DONTWAIT | MSG_TRUNC);

	(void)events;
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	loop_watch_remove(w);
	if (n <= 0 || n > (ssize_t)sizeof(msg) ||
	    netmember_parse(NETCONTROL_GROUP, msg, (size_t)n, &who, &e) ||
	    who.number == g->own.number) {
		log_warn("event=member-refused reason=\"%s\"", n <= 0 ? "gone" : err_text(&e));
		close_fd(&p->fd);
		return;
	}
	membership_welcome(g, &who, take_fd(&p->fd));
}

static void membership_accept(struct loop_watch *w, uint32_t events)
{
	struct membership *g = container_of(w, struct membership, watch);
	int size = MEMBERSHIP_SOCKET_BYTES;
	struct ucred cred;
	socklen_t len = sizeof(cred);
	auto_close int fd = accept4(g->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	(void)events;
	if (fd < 0)
		return;
	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) < 0 ||
	    (cred.uid != geteuid() && cred.uid != 0)) {
		log_warn("event=member-refused uid=%u", cred.uid);
		return;
	}
	setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
	for (unsigned i = 0; i < MEMBERSHIP_PENDING_MAX; i++) {
		struct membership_pending *p = &g->pending[i];

		if (p->fd >= 0)
			continue;
		p->fd = take_fd(&fd);
		if (loop_watch_add(g->loop, &p->watch, p->fd, EPOLLIN))
			close_fd(&p->fd);
		return;
	}
	log_warn("event=member-refused reason=\"too many at once\"");
}

/* ---- joining -------------------------------------------------------------------------------- */

/* Opens and locks the directory, which is made if it is not there. */
static int membership_open(struct membership *g, struct err *e)
{
	struct stat st;
	int rc;

	for (int i = 0; i < MEMBERSHIP_TRIES; i++) {
		if (mkdir(g->path, 0700) < 0 && errno != EEXIST)
			return err_errno(e, errno, "cannot make %s", g->path);
		g->dirfd = open(g->path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		if (g->dirfd < 0 && errno == ENOENT)
			continue;
		if (g->dirfd < 0)
			return err_errno(e, errno, "cannot open %s", g->path);
		rc = lock_wait(g->dirfd, LOCK_EX, MEMBERSHIP_LOCK_MS);
		if (rc == -EBUSY)
			return err_set(e, EBUSY,
				       "another sandbox has been joining %s for over %u s", g->path,
				       MEMBERSHIP_LOCK_MS / 1000);
		if (rc || fstat(g->dirfd, &st) < 0)
			return err_errno(e, rc ? -rc : errno, "cannot lock %s", g->path);
		/* The last member may have removed it meanwhile. */
		if (st.st_nlink)
			return 0;
		close_fd(&g->dirfd);
	}
	return err_set(e, EBUSY, "cannot make %s", g->path);
}

/* Connects to a member. Return: 1; 0: it is dead. */
static int membership_reach(struct membership *g, const char *file, const struct netmember *who,
			    int *out, struct err *e)
{
	struct sockaddr_un sa;
	auto_close int fd = membership_socket(g, file, &sa);

	if (fd < 0)
		return err_errno(e, errno, "group");
	if (connect(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0) {
		if (errno != ECONNREFUSED && errno != ENOENT)
			return err_errno(e, errno, "cannot reach %s in the group", who->name);
		unlinkat(g->dirfd, file, 0);
		return 0;
	}
	*out = take_fd(&fd);
	return 1;
}

/* All who are there: @fds by number, -1 where nobody is. */
static int membership_scan(struct membership *g, int fds[NETGROUP_MEMBERS_MAX + 1], struct err *e)
{
	int scan_fd = openat(g->dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), rc = 0;
	DIR *dir = scan_fd >= 0 ? fdopendir(scan_fd) : NULL;
	struct netmember who;
	struct dirent *d;

	if (!dir) {
		rc = err_errno(e, errno, "cannot read %s", g->path);
		close_fd(&scan_fd);
		return rc;
	}
	while (rc >= 0 && (d = readdir(dir))) {
		if (!membership_read_file(d->d_name, &who) || fds[who.number] >= 0)
			continue;
		rc = membership_reach(g, d->d_name, &who, &fds[who.number], e);
		if (rc <= 0)
			continue;
		if (!strcmp(who.name, g->own.name))
			rc = err_set(e, EEXIST, "there is a sandbox %s in the group already",
				     who.name);
		g->members[who.number].who = who;
	}
	closedir(dir);
	return rc < 0 ? rc : 0;
}

/* Takes a number, and listens. */
static int membership_settle(struct membership *g, const int fds[NETGROUP_MEMBERS_MAX + 1],
			     struct err *e)
{
	char file[MEMBERSHIP_FILE_SIZE];
	struct sockaddr_un sa;

	for (unsigned i = 1; i <= NETGROUP_MEMBERS_MAX && !g->own.number; i++)
		if (fds[i] < 0)
			g->own.number = i;
	if (!g->own.number)
		return err_set(e, ENOSPC, "the group is full (limit %u sandboxes)",
			       NETGROUP_MEMBERS_MAX);
	membership_file(&g->own, file);
	g->listen_fd = membership_socket(g, file, &sa);
	unlinkat(g->dirfd, file, 0);
	if (g->listen_fd < 0 || bind(g->listen_fd, (struct sockaddr *)&sa, sizeof(sa)) < 0 ||
	    listen(g->listen_fd, 4 * NETGROUP_MEMBERS_MAX) < 0)
		return err_errno(e, errno, "cannot make %s/%s", g->path, file);
	return loop_watch_add(g->loop, &g->watch, g->listen_fd, EPOLLIN);
}

/* Greets all who are there. */
static void membership_greet(struct membership *g, int fds[NETGROUP_MEMBERS_MAX + 1])
{
	char msg[NETCONTROL_MEMBER_MAX];
	size_t len = netmember_format(NETCONTROL_GROUP, &g->own, msg);

	for (unsigned i = 1; i <= NETGROUP_MEMBERS_MAX; i++) {
		const struct netmember who = g->members[i].who;

		if (fds[i] < 0)
			continue;
		/* One that is gone by now is found out by whoever reads. */
		if (send(fds[i], msg, len, MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
			continue;
		membership_welcome(g, &who, take_fd(&fds[i]));
	}
}

int membership_join(struct membership *g, struct loop *l, const char *path, const char *name,
		    struct err *e)
{
	int fds[NETGROUP_MEMBERS_MAX + 1], rc;

	for (unsigned i = 0; i <= NETGROUP_MEMBERS_MAX; i++)
		fds[i] = -1;
	if (!netgroup_name_valid(name))
		return err_set(e, EINVAL, "'%s' is no name for a member of a group", name);
	g->loop = l;
	netmember_set_name(&g->own, name);
	g->path = strdup(path);
	if (!g->path)
		return err_errno(e, ENOMEM, "group");
	if (!(rc = membership_open(g, e)) && !(rc = membership_scan(g, fds, e)))
		rc = membership_settle(g, fds, e);
	if (!rc)
		membership_greet(g, fds);
	for (unsigned i = 1; i <= NETGROUP_MEMBERS_MAX; i++)
		close_fd(&fds[i]);
	if (g->dirfd >= 0)
		flock(g->dirfd, LOCK_UN);
	return rc ? err_wrap(e, "group"), rc : 0;
}

void membership_leave(struct membership *g)
{
	char file[MEMBERSHIP_FILE_SIZE];

	/* The name first: who joins must not find a socket of ours that nobody listens on. */
	if (g->listen_fd >= 0) {
		membership_file(&g->own, file);
		unlinkat(g->dirfd, file, 0);
		loop_watch_remove(&g->watch);
	}
	close_fd(&g->listen_fd);
	for (unsigned i = 0; i < MEMBERSHIP_PENDING_MAX; i++) {
		if (g->pending[i].fd >= 0)
			loop_watch_remove(&g->pending[i].watch);
		close_fd(&g->pending[i].fd);
	}
	for (unsigned i = 1; i <= NETGROUP_MEMBERS_MAX; i++)
		membership_member_forget(&g->members[i]);
	/* Of somebody who joins right now the lock is held, or the directory is not empty. */
	if (g->dirfd >= 0 && !flock(g->dirfd, LOCK_EX | LOCK_NB))
		rmdir(g->path);
	close_fd(&g->dirfd);
	free(take_ptr(&g->path));
	g->own.number = 0;
}

void membership_init(struct membership *g)
{
	*g = (struct membership){ .dirfd = -1, .listen_fd = -1 };
	loop_watch_init(&g->watch, membership_accept);
	for (unsigned i = 0; i < MEMBERSHIP_PENDING_MAX; i++) {
		g->pending[i] = (struct membership_pending){ .group = g, .fd = -1 };
		loop_watch_init(&g->pending[i].watch, membership_greeted);
	}
	for (unsigned i = 0; i <= NETGROUP_MEMBERS_MAX; i++) {
		g->members[i] = (struct membership_member){ .group = g, .fd = -1 };
		loop_watch_init(&g->members[i].watch, membership_member_gone);
	}
}
