/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/proc.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <dirent.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "base/log.h"
#include "base/mem.h"

#define PROC_CGROUP_NAME_SIZE 24

void proc_init(struct proc *p, void (*exited)(struct proc *, int, const struct rusage *))
{
	*p = (struct proc){ .exited = exited };
	list_init(&p->node);
}

static void proc_cgroup_name(unsigned n, char name[PROC_CGROUP_NAME_SIZE])
{
	snprintf(name, PROC_CGROUP_NAME_SIZE, "msb-%u", n);
}

/* Return: an O_PATH descriptor of a new cgroup, or -1: go on without. */
static int proc_cgroup_make(struct agent *a, unsigned *number)
{
	char name[PROC_CGROUP_NAME_SIZE];
	int fd;

	if (a->cgroup_fd < 0)
		return -1;
	if (!++a->next_cgroup)
		a->next_cgroup = 1;
	proc_cgroup_name(a->next_cgroup, name);
	if (mkdirat(a->cgroup_fd, name, 0755))
		return -1;
	fd = openat(a->cgroup_fd, name, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0) {
		unlinkat(a->cgroup_fd, name, AT_REMOVEDIR);
		return -1;
	}
	*number = a->next_cgroup;
	return fd;
}

static bool proc_cgroup_remove(struct agent *a, unsigned n)
{
	char name[PROC_CGROUP_NAME_SIZE];

	proc_cgroup_name(n, name);
	return !unlinkat(a->cgroup_fd, name, AT_REMOVEDIR) || errno != EBUSY;
}

static void proc_child_signals(void)
{
	struct sigaction dfl = { .sa_handler = SIG_DFL };
	sigset_t none;

	for (int i = 1; i < NSIG; i++)
		sigaction(i, &dfl, NULL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

pid_t proc_fork(struct agent *a, struct proc *p, bool own_group, struct err *e)
{
	struct clone_args args = { .exit_signal = SIGCHLD };
	unsigned number = 0;
	auto_close int cgroup = own_group ? proc_cgroup_make(a, &number) : -1;
	long pid;

	if (cgroup >= 0) {
		args.flags = CLONE_INTO_CGROUP;
		args.cgroup = (uint64_t)cgroup;
	}
	/* Moving a running process instead would wait for a grace period of the kernel's. */
	pid = syscall(SYS_clone3, &args, sizeof(args));
	if (!pid) {
		setsid();
		proc_child_signals();
		return 0;
	}
	if (pid < 0) {
		int code = errno;

		if (number)
			proc_cgroup_remove(a, number);
		return err_errno(e, code, "cannot start a process");
	}
	p->pid = p->session = (pid_t)pid;
	p->cgroup = number;
	p->started_ns = loop_now_ns();
	list_append(&a->procs, &p->node);
	return (pid_t)pid;
}

int proc_signal(struct proc *p, int sig, bool group)
{
	if (p->pid <= 0)
		return -ESRCH;
	return kill(group ? -p->pid : p->pid, sig) ? -errno : 0;
}

static bool proc_is_of_command(const struct agent *a, pid_t session)
{
	list_for_each (i, tmp, &a->procs) {
		const struct proc *p = list_entry(i, struct proc, node);

		if (p->command && p->session == session)
			return true;
	}
	return false;
}

void proc_terminate(struct agent *a, int sig)
{
	auto_close int fd = openat(a->proc_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *d;

	if (!dir) {
		kill(-1, SIGTERM);
		return;
	}
	take_fd(&fd);
	while ((d = readdir(dir))) {
		pid_t pid = (pid_t)strtol(d->d_name, NULL, 10);

		if (pid > 1 && !proc_is_of_command(a, getsid(pid)))
			kill(pid, SIGTERM);
	}
	closedir(dir);
	list_for_each (i, tmp, &a->procs) {
		struct proc *p = list_entry(i, struct proc, node);

		if (p->command)
			proc_signal(p, sig, false);
	}
}

/* Without cgroups: every process of the session, found in /proc. */
static void proc_kill_session(struct agent *a, pid_t session)
{
	auto_close int fd = openat(a->proc_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct dirent *d;
	DIR *dir;

	kill(-session, SIGKILL);
	dir = fd < 0 ? NULL : fdopendir(fd);
	if (!dir)
		return;
	take_fd(&fd);
	while ((d = readdir(dir))) {
		pid_t pid = (pid_t)strtol(d->d_name, NULL, 10);

		if (pid > 1 && getsid(pid) == session)
			kill(pid, SIGKILL);
	}
	closedir(dir);
}

void proc_kill_all(struct agent *a, struct proc *p)
{
	char path[PROC_CGROUP_NAME_SIZE + 16];
	char name[PROC_CGROUP_NAME_SIZE];

	if (p->cgroup) {
		auto_close int fd = -1;

		proc_cgroup_name(p->cgroup, name);
		snprintf(path, sizeof(path), "%s/cgroup.kill", name);
		fd = openat(a->cgroup_fd, path, O_WRONLY | O_CLOEXEC);
		if (fd >= 0 && write(fd, "1", 1) == 1)
			return;
	}
	if (p->pid > 0)
		kill(p->pid, SIGKILL);
	if (p->session > 0)
		proc_kill_session(a, p->session);
}

/*
 * Processes that outlived theirs (a server started in the background) keep a cgroup
 * alive.  A few numbers are remembered and tried again each time another one ends.
 */
void proc_release(struct agent *a, struct proc *p)
{
	if (!p->cgroup)
		return;
	for (unsigned i = 0; i < 4; i++) {
		unsigned *slot = &a->old_cgroups[a->next_old++ % AGENT_OLD_CGROUPS];

		if (*slot && proc_cgroup_remove(a, *slot))
			*slot = 0;
	}
	if (!proc_cgroup_remove(a, p->cgroup)) {
		for (unsigned i = 0; i < AGENT_OLD_CGROUPS; i++) {
			if (a->old_cgroups[i])
				continue;
			a->old_cgroups[i] = p->cgroup;
			break;
		}
	}
	p->cgroup = 0;
}

void proc_reap(struct agent *a)
{
	struct rusage ru;
	int status;
	pid_t pid;

	while ((pid = wait4(-1, &status, WNOHANG, &ru)) > 0) {
		list_for_each (i, tmp, &a->procs) {
			struct proc *p = list_entry(i, struct proc, node);

			if (p->pid != pid)
				continue;
			list_remove(&p->node);
			p->pid = 0;
			p->exited(p, status, &ru);
			break;
		}
	}
}
