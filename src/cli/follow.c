/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/follow.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/inotify.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "base/mem.h"
#include "lib/client.h"
#include "lib/keep.h"

/* A change of its logs, and its supervisor's end, are events; nothing is looked for. */
static int follow_watch(struct follow_box *b, struct err *e)
{
	char path[40];
	int conn = -1;

	b->inotify = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", b->view.dirfd);
	if (b->inotify < 0 ||
	    (b->view.dirfd >= 0 &&
	     inotify_add_watch(b->inotify, path, IN_MODIFY | IN_CREATE | IN_MOVED_TO) < 0))
		return err_errno(e, errno, "cannot watch the log of %s", b->name);
	if (!keep_connect(b->dirfd, &conn, NULL)) {
		client_supervisor(conn, &b->pidfd, NULL);
		close(conn);
	}
	return 0;
}

static int follow_init(struct follow_box *boxes, size_t n, struct err *e)
{
	int rc;

	for (size_t i = 0; i < n; i++) {
		struct follow_box *b = &boxes[i];

		if ((rc = log_view_init(&b->view, b->dirfd, &b->opts, e)) ||
		    (rc = follow_watch(b, e)) || (rc = log_view_first(&b->view, e)))
			return rc;
		b->over = b->pidfd < 0;
	}
	return 0;
}

static int follow_turn(struct follow_box *b, const struct pollfd *changed,
		       const struct pollfd *ended)
{
	char events[4096];

	if (changed->revents)
		while (read(b->inotify, events, sizeof(events)) > 0)
			;
	/* First its end is seen, then read what it left. */
	b->over = ended->revents != 0;
	return changed->revents || b->over ? log_view_more(&b->view) : 0;
}

static int follow_loop(struct follow_box *boxes, size_t n, int signal_fd, struct pollfd *p)
{
	struct signalfd_siginfo si;
	int rc;

	for (;;) {
		bool any = false;

		for (size_t i = 0; i < n; i++) {
			any = any || !boxes[i].over;
			p[2 * i] =
				(struct pollfd){ boxes[i].over ? -1 : boxes[i].inotify, POLLIN, 0 };
			p[2 * i + 1] =
				(struct pollfd){ boxes[i].over ? -1 : boxes[i].pidfd, POLLIN, 0 };
		}
		if (!any)
			return 0;
		p[2 * n] = (struct pollfd){ signal_fd, POLLIN, 0 };
		if (poll(p, 2 * n + 1, -1) < 0 && errno != EINTR)
			return -errno;
		if (p[2 * n].revents && read(signal_fd, &si, sizeof(si)) == sizeof(si))
			return (int)si.ssi_signo;
		for (size_t i = 0; i < n; i++)
			if (!boxes[i].over &&
			    (rc = follow_turn(&boxes[i], &p[2 * i], &p[2 * i + 1])))
				return rc;
	}
}

int follow_run(struct follow_box *boxes, size_t n, struct err *e)
{
	auto_free struct pollfd *p = calloc(2 * n + 1, sizeof(*p));
	auto_close int signal_fd = -1;
	sigset_t set, old;
	int rc;

	for (size_t i = 0; i < n; i++) {
		boxes[i].inotify = boxes[i].pidfd = -1;
		boxes[i].view = (struct log_view){ .fd = -1, .dirfd = -1 };
		boxes[i].over = false;
	}
	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGHUP);
	sigprocmask(SIG_BLOCK, &set, &old);
	signal(SIGPIPE, SIG_IGN);
	signal_fd = signalfd(-1, &set, SFD_CLOEXEC);
	rc = !p              ? err_errno(e, ENOMEM, "cannot follow the log")
	     : signal_fd < 0 ? err_errno(e, errno, "cannot follow the log")
			     : follow_init(boxes, n, e);
	if (!rc) {
		rc = follow_loop(boxes, n, signal_fd, p);
		if (rc < 0)
			err_errno(e, -rc, "cannot follow the log");
	}
	for (size_t i = 0; i < n; i++) {
		log_view_end(&boxes[i].view);
		log_view_fini(&boxes[i].view);
		close_fd(&boxes[i].inotify);
		close_fd(&boxes[i].pidfd);
	}
	sigprocmask(SIG_SETMASK, &old, NULL);
	return rc;
}
