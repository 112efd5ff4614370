/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_AGENT_PROC_H
#define MSB_AGENT_PROC_H

/*
 * DOC: Children of the agent
 *
 * Each is started in a cgroup of its own, so that it can be killed with everything
 * that it started, whatever sessions and process groups those made.  Where there is
 * no cgroup2 its session is what is killed.  Processes that outlive the child stay
 * in the cgroup, which is removed when it is found empty.
 */

#include <stdbool.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/types.h>

#include "agent/agent.h"

struct proc {
	struct list node; /* in agent->procs while it runs */
	pid_t pid; /* 0 = not started, or reaped */
	pid_t session; /* its pid, also after it was reaped */
	unsigned cgroup; /* number; 0 = none */
	uint64_t started_ns; /* CLOCK_MONOTONIC */
	bool command; /* the sandbox's own (EXEC_COMMAND) */
	void (*exited)(struct proc *p, int status, const struct rusage *ru);
};

void proc_init(struct proc *p, void (*exited)(struct proc *, int, const struct rusage *));

/**
 * proc_fork() - as fork()
 * @own_group: start it in a cgroup of its own
 *
 * Return: the pid in the parent, 0 in the child, or a negative errno.  The child is a
 * session leader with default signal actions and an empty mask; of the parent's
 * descriptors it still has all (close-on-exec).
 */
pid_t proc_fork(struct agent *a, struct proc *p, bool own_group, struct err *e);

/* A signal to the process, or (@group) to its process group. -ESRCH when it is gone. */
int proc_signal(struct proc *p, int sig, bool group);

/*
 * The polite end of everything: SIGTERM to all processes, but @sig to the sandbox's own
 * commands, and nothing to the rest of their sessions, which they end as they see fit (a server that
 * takes SIGQUIT for "finish what you do" has workers that take SIGTERM for "now").
 */
void proc_terminate(struct agent *a, int sig);

/* SIGKILL to the process and everything that it started. */
void proc_kill_all(struct agent *a, struct proc *p);

/* Gives the cgroup back.  Call it once, after the process was reaped. */
void proc_release(struct agent *a, struct proc *p);

/* SIGCHLD: reaps whatever has ended and calls exited(). */
void proc_reap(struct agent *a);

#endif
