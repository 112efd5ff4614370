/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DOC: Theory of operation
 *
 * Purpose
 *   Starts our helper programs so that each has exactly what it was given.
 *
 * Trust boundary
 *   Whoever started us may have left odd things behind: blocked or ignored
 *   signals, open descriptors, limits.  None of it reaches the child.
 *
 * States
 *   parent                            child
 *   clone (signals blocked)     --->  all descriptors close-on-exec, default signals
 *   map ids, "go"               --->  jail_begin, wait for "go"  (full jail only)
 *                                     jail_enter, setsid, jail_seal, parent-death
 *                                     signal, descriptors, limits, exec
 *   read: a fault or the end    <---  the socket closes on exec
 *
 *   The child shares nothing but a socket pair with the parent.  Closed without a
 *   message means that exec() succeeded (or that the child was killed before it;
 *   then its pidfd says so soon enough).
 *
 *   A prepared child stops before its descriptors, until child_finish() sends it one message with
 *   its arguments, its descriptors and their numbers.  Meanwhile it holds none of ours,
 *   for it would keep open what the parent closes.  If the parent dies it reads the
 *   end of the socket, and leaves.
 *
 * Ownership
 *   The caller keeps its descriptors and owns the pidfd.
 *
 * Failure
 *   A child that reported a fault has been reaped when child_spawn() returns.
 *
 * Limits
 *   Raw clone(2) instead of fork(3): it makes the namespaces and the pidfd in one
 *   step, and works where a container answers clone3 with ENOSYS.  glibc's fork
 *   handlers do not run, so the child makes system calls only.
 */
#include "sys/child.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "base/mem.h"
#include "sys/jail_internal.h"

#define CHILD_FDS_MAX 160
#define CHILD_FD_LIMIT 1024 /* highest number in the child + 1 */

enum child_kind {
	CHILD_AT_ONCE,
	CHILD_PREPARED, /* arguments and descriptors come later, over the socket */
	CHILD_TRIAL, /* only the jail is wanted, no program */
};

/* What the child needs, made before the fork. */
struct child_start {
	const struct child_spec *spec;
	enum child_kind kind;
	int sock[2]; /* [0] the parent's, [1] the child's end */
	int null_fd;
	int parent_pidfd; /* tells the child that the parent is gone; -1 = not asked for */
};

/* What child_finish() sends; the descriptors come with it, in the same order. */
struct child_order {
	uint32_t n_fds, argc;
	int to[CHILD_FDS_MAX];
	char args[CHILD_ARGS_MAX]; /* argc strings, each with its NUL */
};

static const char *child_stage_text(int stage)
{
	switch ((enum child_stage)stage) {
	case STAGE_SIGNALS:
		return "reset signals";
	case STAGE_SYNC:
		return "hear from the parent";
	case STAGE_NETWORK:
		return "make a network namespace";
	case STAGE_BIND_OPEN:
		return "open to bind";
	case STAGE_BIND_ATTR:
		return "make read-only";
	case STAGE_IDS:
		return "change user and group";
	case STAGE_ROOT_CREATE:
		return "make an empty root";
	case STAGE_ROOT_MOUNT:
		return "mount the empty root";
	case STAGE_ROOT_DIR:
		return "make directory";
	case STAGE_BIND_TARGET:
		return "make mount point";
	case STAGE_BIND_MOUNT:
		return "bind";
	case STAGE_PROC:
		return "mount /proc";
	case STAGE_PIVOT:
		return "move into the new root";
	case STAGE_HOSTNAME:
		return "set host name";
	case STAGE_CAPS:
		return "drop capabilities";
	case STAGE_PRIVS:
		return "set no_new_privs";
	case STAGE_FILTER:
		return "install the system call filter";
	case STAGE_LIMITS:
		return "set limits";
	case STAGE_SESSION:
		return "start a session";
	case STAGE_FDS:
		return "pass descriptor";
	case STAGE_PARENT:
		return "tie it to its parent";
	case STAGE_EXEC:
		return "run";
	case STAGE_NONE:
		break;
	}
	return "start";
}

/* ---- child: between clone and exec, system calls only ------------------ */

static int child_fault(struct child_fault *f, enum child_stage stage, size_t index)
{
	*f = (struct child_fault){ .stage = (int)stage, .err = errno, .index = (int)index };
	return -1;
}

static int child_reset_signals(struct child_fault *f)
{
	struct sigaction dfl = { .sa_handler = SIG_DFL };

	for (int sig = 1; sig < NSIG; sig++) {
		/* EINVAL: SIGKILL, SIGSTOP, and the two that glibc keeps for itself. */
		if (sigaction(sig, &dfl, NULL) < 0 && errno != EINVAL)
			return child_fault(f, STAGE_SIGNALS, 0);
	}
	return 0;
}

/*
 * Everything was made close-on-exec before; dup2() gives the wanted numbers
 * without that flag.  All sources first move above all targets, so that no target
 * overwrites a source that is still needed.
 */
static int child_place_fds(struct child_start *s, const struct child_spec *spec,
			   struct child_fault *f)
{
	int high[CHILD_FDS_MAX], base = 3;
	bool std[3] = { false };

	for (size_t i = 0; i < spec->n_fds; i++)
		if (spec->fds[i].to >= base)
			base = spec->fds[i].to + 1;
	for (size_t i = 0; i < spec->n_fds; i++) {
		high[i] = fcntl(spec->fds[i].from, F_DUPFD_CLOEXEC, base);
		if (high[i] < 0)
			return child_fault(f, STAGE_FDS, i);
	}
	s->null_fd = fcntl(s->null_fd, F_DUPFD_CLOEXEC, base);
	s->sock[1] = fcntl(s->sock[1], F_DUPFD_CLOEXEC, base);
	if (spec->die_with_parent)
		s->parent_pidfd = fcntl(s->parent_pidfd, F_DUPFD_CLOEXEC, base);
	if (s->null_fd < 0 || s->sock[1] < 0 || (spec->die_with_parent && s->parent_pidfd < 0))
		return child_fault(f, STAGE_FDS, spec->n_fds);

	for (size_t i = 0; i < spec->n_fds; i++) {
		if (dup2(high[i], spec->fds[i].to) < 0)
			return child_fault(f, STAGE_FDS, i);
		if (spec->fds[i].to < 3)
			std[spec->fds[i].to] = true;
	}
	for (int fd = 0; fd < 3; fd++)
		if (!std[fd] && dup2(s->null_fd, fd) < 0)
			return child_fault(f, STAGE_FDS, spec->n_fds);
	return 0;
}

static int child_tie_to_parent(const struct child_start *s, struct child_fault *f)
{
	struct pollfd p = { .fd = s->parent_pidfd, .events = POLLIN };

	/* After every change of credentials: each of them would clear it. */
	if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) < 0)
		return child_fault(f, STAGE_PARENT, 0);
	/* The parent that died before that line cannot be seen by getppid(): it is 0 here. */
	if (poll(&p, 1, 0) != 0) {
		errno = ESRCH;
		return child_fault(f, STAGE_PARENT, 0);
	}
	return 0;
}

/* Closes all descriptors but those of @s. */
static int child_close_others(const struct child_start *s)
{
	unsigned next = 3;

	while (true) {
		const int keep[] = { s->sock[1], s->null_fd, s->parent_pidfd };
		unsigned stop = ~0u;

		for (size_t i = 0; i < ARRAY_SIZE(keep); i++)
			if (keep[i] >= 0 && (unsigned)keep[i] >= next && (unsigned)keep[i] < stop)
				stop = (unsigned)keep[i];
		if (stop > next && syscall(SYS_close_range, next, stop - 1, 0) < 0)
			return -1;
		if (stop == ~0u)
			return 0;
		next = stop + 1;
	}
}

/* Waits for what child_finish() sends, and puts it into *@spec, a copy of s->spec. */
static int child_receive(struct child_start *s, struct child_spec *spec)
{
	/* Static: a page of zeros until it is used, and the strings stay for exec(). */
	static struct child_order order;
	static struct child_fd fds[CHILD_FDS_MAX];
	static char *argv[CHILD_ARGS_MAX + 1];
	char control[CMSG_SPACE(sizeof(int) * CHILD_FDS_MAX)] __attribute__((aligned(8)));
	struct iovec iov = { &order, sizeof(order) };
	struct msghdr m = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control,
		.msg_controllen = sizeof(control),
	};
	ssize_t n = recvmsg(s->sock[1], &m, MSG_CMSG_CLOEXEC);
	struct cmsghdr *c = n > 0 ? CMSG_FIRSTHDR(&m) : NULL;
	char *at = order.args;

	errno = n < 0 ? errno : EPROTO;
	if (n <= (ssize_t)offsetof(struct child_order, args) ||
	    m.msg_flags & (MSG_TRUNC | MSG_CTRUNC) || order.n_fds > CHILD_FDS_MAX ||
	    order.argc > CHILD_ARGS_MAX)
		return -1;
	if (order.n_fds && (!c || c->cmsg_type != SCM_RIGHTS ||
			    c->cmsg_len != CMSG_LEN(sizeof(int) * order.n_fds)))
		return -1;
	for (uint32_t i = 0; i < order.n_fds; i++) {
		memcpy(&fds[i].from, CMSG_DATA(c) + i * sizeof(int), sizeof(int));
		fds[i].to = order.to[i];
	}
	for (uint32_t i = 0; i < order.argc; i++) {
		argv[i] = at;
		at += strlen(at) + 1;
	}
	spec->fds = fds;
	spec->n_fds = order.n_fds;
	spec->argv = argv;
	return 0;
}

static int child_make_ready(struct child_start *s, struct child_spec *spec, struct child_fault *f)
{
	const struct jail *j = spec->jail;
	sigset_t none;
	char go;

	close(s->sock[0]);
	if (s->kind == CHILD_PREPARED && child_close_others(s) < 0)
		return child_fault(f, STAGE_FDS, spec->n_fds);
	if (syscall(SYS_close_range, 3, ~0u, CLOSE_RANGE_CLOEXEC) < 0)
		return child_fault(f, STAGE_FDS, spec->n_fds);
	if (child_reset_signals(f) < 0)
		return -1;
	if (j && j->mode == JAIL_FULL) {
		if (jail_begin(j, f) < 0)
			return -1;
		if (read(s->sock[1], &go, 1) != 1)
			return child_fault(f, STAGE_SYNC, 0);
		if (jail_enter(j, f) < 0)
			return -1;
	}
	if (j)
		umask(077);
	if (spec->new_session && setsid() < 0)
		return child_fault(f, STAGE_SESSION, 0);
	if (j && jail_seal(j, f) < 0)
		return -1;
	if (spec->die_with_parent && child_tie_to_parent(s, f) < 0)
		return -1;
	/* Everything before this line is done while the parent does something else. */
	if (s->kind == CHILD_PREPARED && child_receive(s, spec) < 0)
		return child_fault(f, STAGE_SYNC, 0);
	if (child_place_fds(s, spec, f) < 0)
		return -1;
	if (j && jail_set_limits(j, f) < 0)
		return -1;
	sigemptyset(&none);
	if (sigprocmask(SIG_SETMASK, &none, NULL) < 0)
		return child_fault(f, STAGE_SIGNALS, 0);
	return 0;
}

static _Noreturn void child_run(struct child_start *s)
{
	static char *const no_env[] = { NULL };
	struct child_spec spec = *s->spec;
	struct child_fault f = { .stage = STAGE_NONE };

	if (child_make_ready(s, &spec, &f) == 0) {
		if (s->kind == CHILD_TRIAL)
			_exit(0);
		execve(spec.path, spec.argv, spec.envp ? spec.envp : no_env);
		child_fault(&f, STAGE_EXEC, 0);
	}
	/* MSG_NOSIGNAL: a parent that is gone is no reason to die of SIGPIPE. */
	send(s->sock[1], &f, sizeof(f), MSG_NOSIGNAL);
	_exit(127);
}

/* ---- parent ---------------------------------------------------------- */

static int child_check(const struct child_spec *spec, struct err *e)
{
	if (spec->n_fds > CHILD_FDS_MAX)
		return err_set(e, EINVAL, "child: %zu descriptors, at most %d", spec->n_fds,
			       CHILD_FDS_MAX);
	for (size_t i = 0; i < spec->n_fds; i++) {
		const struct child_fd *fd = &spec->fds[i];

		if (fd->to < 0 || fd->to >= CHILD_FD_LIMIT)
			return err_set(e, EINVAL, "child: descriptor number %d", fd->to);
		if (fcntl(fd->from, F_GETFD) < 0)
			return err_set(e, EBADF, "child: descriptor %d is not open", fd->from);
		for (size_t k = 0; k < i; k++)
			if (spec->fds[k].to == fd->to)
				return err_set(e, EINVAL, "child: descriptor number %d twice",
					       fd->to);
	}
	return spec->jail ? jail_check(spec->jail, e) : 0;
}

static const char *child_fault_object(const struct child_spec *spec, const struct child_fault *f)
{
	size_t i = (size_t)f->index;

	switch ((enum child_stage)f->stage) {
	case STAGE_BIND_OPEN:
	case STAGE_BIND_ATTR:
	case STAGE_BIND_TARGET:
	case STAGE_BIND_MOUNT:
		return i < spec->jail->n_binds ? spec->jail->binds[i].source : "";
	case STAGE_ROOT_DIR:
		return i < spec->jail->n_dirs ? spec->jail->dirs[i] : "";
	default:
		return "";
	}
}

static int child_report(const struct child_spec *spec, const struct child_fault *f, struct err *e)
{
	const char *object = child_fault_object(spec, f);
	char what[512];

	if (f->stage == STAGE_EXEC) {
		bool hidden = spec->jail && spec->jail->mode == JAIL_FULL && f->err == ENOENT;

		return err_errno(e, f->err, "cannot run %s%s", spec->path,
				 hidden ? " (it, or the loader it names, is not in its jail)" : "");
	}
	if (f->stage == STAGE_FDS && (size_t)f->index < spec->n_fds)
		snprintf(what, sizeof(what), "pass descriptor %d as %d", spec->fds[f->index].from,
			 spec->fds[f->index].to);
	else
		snprintf(what, sizeof(what), "%s%s%s", child_stage_text(f->stage),
			 object[0] ? " " : "", object);
	if (jail_refused(spec->jail, f))
		return jail_explain(f->err, what, e);
	return err_errno(e, f->err, "%s: cannot %s", spec->path, what);
}

static pid_t child_clone(struct child_start *s, int *pidfd)
{
	unsigned long flags = CLONE_PIDFD | SIGCHLD;
	sigset_t all, old;
	pid_t pid;

	if (s->spec->jail)
		flags |= jail_clone_flags(s->spec->jail);
	/* Our handlers must not run in the child; it unblocks when it has none. */
	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, &old);
	/* The last two arguments swap places between architectures; both are 0. */
	pid = (pid_t)syscall(SYS_clone, flags, NULL, pidfd, NULL, 0);
	if (pid == 0)
		child_run(s);
	if (pid < 0)
		pid = -errno;
	sigprocmask(SIG_SETMASK, &old, NULL);
	return pid;
}

/* Return: 0 = exec() succeeded, else the child's fault as an error. */
static int child_await(int sock, const struct child_spec *spec, struct err *e)
{
	struct child_fault f;
	ssize_t n;

	/* ECONNRESET comes once, before what the child said, if it left something unread. */
	do {
		n = recv(sock, &f, sizeof(f), 0);
	} while (n < 0 && (errno == EINTR || errno == ECONNRESET));
	if (n == 0)
		return 0;
	if (n != (ssize_t)sizeof(f))
		return err_errno(e, n < 0 ? errno : EPROTO, "child: read its report");
	return child_report(spec, &f, e);
}

/* Makes the process, and lets it work.  Return: 0 and *@c, or an error and no process. */
static int child_launch(struct child_start *s, struct child *c, struct err *e)
{
	const struct child_spec *spec = s->spec;
	bool full = spec->jail && spec->jail->mode == JAIL_FULL;
	int rc = 0;

	c->pid = child_clone(s, &c->pidfd);
	close_fd(&s->sock[1]);
	if (c->pid < 0) {
		rc = c->pid;
		*c = (struct child)CHILD_INIT;
		if (full)
			return jail_explain(-rc, "make the namespaces of the jail", e);
		return err_errno(e, -rc, "%s: cannot start a process", spec->path);
	}
	if (full) {
		rc = jail_map_ids(spec->jail, c->pid, e);
		/* If the child is gone already, child_await() finds out. */
		if (rc == 0)
			send(s->sock[0], "g", 1, MSG_NOSIGNAL);
	}
	if (rc)
		child_kill(c);
	return rc;
}

/* As child_launch(), from the beginning; *@sock is the parent's end. */
static int child_begin(const struct child_spec *spec, enum child_kind kind, struct child *c,
		       int *sock, struct err *e)
{
	struct child_start s = { spec, kind, { -1, -1 }, -1, -1 };
	int rc = child_check(spec, e);

	if (rc < 0)
		return rc;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, s.sock) < 0)
		return err_errno(e, errno, "child: socketpair");
	s.null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (s.null_fd < 0) {
		rc = err_errno(e, errno, "child: open /dev/null");
		goto out;
	}
	if (spec->die_with_parent) {
		s.parent_pidfd = pidfd_open(getpid(), 0);
		if (s.parent_pidfd < 0) {
			rc = err_errno(e, errno, "child: pidfd_open");
			goto out;
		}
	}
	rc = child_launch(&s, c, e);
	if (!rc)
		*sock = take_fd(&s.sock[0]);
out:
	close_fd(&s.sock[0]);
	close_fd(&s.sock[1]);
	close_fd(&s.null_fd);
	close_fd(&s.parent_pidfd);
	return rc;
}

static int child_spawn_kind(const struct child_spec *spec, enum child_kind kind, struct child *out,
			    struct err *e)
{
	struct child c = CHILD_INIT;
	auto_close int sock = -1;
	int rc = child_begin(spec, kind, &c, &sock, e);

	if (!rc)
		rc = child_await(sock, spec, e);
	if (rc)
		child_kill(&c);
	else
		*out = c;
	return rc;
}

int child_spawn(const struct child_spec *spec, struct child *out, struct err *e)
{
	return child_spawn_kind(spec, CHILD_AT_ONCE, out, e);
}

int child_prepare(const struct child_spec *spec, struct child_pending *p, struct err *e)
{
	*p = (struct child_pending)CHILD_PENDING_INIT;
	p->spec = spec;
	return child_begin(spec, CHILD_PREPARED, &p->child, &p->sock, e);
}

static int child_send_order(const struct child_pending *p, char *const *argv,
			    const struct child_fd *fds, size_t n_fds, struct err *e)
{
	char control[CMSG_SPACE(sizeof(int) * CHILD_FDS_MAX)] __attribute__((aligned(8))) = { 0 };
	struct child_order order = { .n_fds = (uint32_t)n_fds };
	struct iovec iov = { &order, offsetof(struct child_order, args) };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1 };
	char *at = order.args, *end = order.args + sizeof(order.args);

	for (; argv[order.argc]; order.argc++) {
		size_t n = strlen(argv[order.argc]) + 1;

		if (n > (size_t)(end - at))
			return err_set(e, E2BIG, "%s: arguments of more than %d bytes",
				       p->spec->path, CHILD_ARGS_MAX);
		memcpy(at, argv[order.argc], n);
		at += n;
	}
	iov.iov_len += (size_t)(at - order.args);
	if (n_fds) {
		struct cmsghdr *c = (struct cmsghdr *)control;

		m.msg_control = control;
		m.msg_controllen = CMSG_SPACE(sizeof(int) * n_fds);
		*c = (struct cmsghdr){ .cmsg_len = CMSG_LEN(sizeof(int) * n_fds),
				       .cmsg_level = SOL_SOCKET,
				       .cmsg_type = SCM_RIGHTS };
		for (size_t i = 0; i < n_fds; i++) {
			order.to[i] = fds[i].to;
			memcpy(CMSG_DATA(c) + i * sizeof(int), &fds[i].from, sizeof(int));
		}
	}
	/* A child that is gone has sent why, and child_await() reads it. */
	if (sendmsg(p->sock, &m, MSG_NOSIGNAL) < 0 && errno != EPIPE && errno != ECONNRESET)
		return err_errno(e, errno, "%s: pass its descriptors", p->spec->path);
	return 0;
}

int child_finish(struct child_pending *p, char *const *argv, const struct child_fd *fds,
		 size_t n_fds, struct child *out, struct err *e)
{
	struct child_spec spec = *p->spec;
	int rc;

	spec.argv = argv;
	spec.fds = fds;
	spec.n_fds = n_fds;
	rc = child_check(&spec, e);
	if (!rc)
		rc = child_send_order(p, argv, fds, n_fds, e);
	if (!rc)
		rc = child_await(p->sock, &spec, e);
	if (!rc) {
		*out = p->child;
		p->child = (struct child)CHILD_INIT;
	}
	child_abandon(p);
	return rc;
}

void child_abandon(struct child_pending *p)
{
	child_kill(&p->child);
	close_fd(&p->sock);
}

int child_reap(struct child *c, int *status)
{
	pid_t pid;
	int st = 0;

	if (c->pid <= 0)
		return -ECHILD;
	do {
		pid = waitpid(c->pid, &st, 0);
	} while (pid < 0 && errno == EINTR);
	if (pid < 0)
		return -errno;
	close_fd(&c->pidfd);
	c->pid = -1;
	if (status)
		*status = st;
	return 0;
}

void child_kill(struct child *c)
{
	if (c->pid <= 0)
		return;
	/* By descriptor: the number could be somebody else's once it was reaped. */
	if (c->pidfd >= 0)
		pidfd_send_signal(c->pidfd, SIGKILL, NULL, 0);
	else
		kill(c->pid, SIGKILL);
	if (child_reap(c, NULL) < 0) {
		close_fd(&c->pidfd);
		c->pid = -1;
	}
}

void child_status_text(int status, char *to, size_t size)
{
	if (WIFEXITED(status)) {
		snprintf(to, size, "exited with status %d", WEXITSTATUS(status));
	} else if (WIFSIGNALED(status)) {
		const char *text = sigdescr_np(WTERMSIG(status));

		snprintf(to, size, "was killed by signal %d (%s)", WTERMSIG(status),
			 text ? text : "unknown");
	} else {
		snprintf(to, size, "changed state (0x%x)", (unsigned)status);
	}
}

int jail_probe(struct err *e)
{
	/* One bind, because making and moving mounts is what a policy may refuse. */
	static const struct jail_bind bind = { .source = "/dev/null", .target = "/null" };
	static const struct jail j = { .mode = JAIL_FULL, .binds = &bind, .n_binds = 1 };
	struct child_spec spec = { .path = "jail", .jail = &j, .die_with_parent = true };
	struct child c = CHILD_INIT;
	int rc, status;

	rc = child_spawn_kind(&spec, CHILD_TRIAL, &c, e);
	if (rc < 0)
		return rc;
	rc = child_reap(&c, &status);
	if (rc < 0)
		return err_errno(e, -rc, "jail: wait for the probe");
	if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
		return jail_explain(EPERM, "finish a trial of the jail", e);
	return 0;
}
