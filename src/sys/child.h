/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_SYS_CHILD_H
#define MSB_SYS_CHILD_H

/* Starting helper processes: no shell, no inherited descriptor, a jail if asked for. */

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "base/err.h"
#include "sys/jail.h"

struct child_fd {
	int from; /* the parent's descriptor; stays open in the parent */
	int to; /* its number in the child */
};

struct child_spec {
	const char *path; /* the program; absolute, in the jail's root if jailed */
	char *const *argv;
	char *const *envp; /* NULL = an empty environment */
	const struct child_fd *fds; /* every other descriptor is closed; 0-2 become /dev/null */
	size_t n_fds;
	const struct jail *jail; /* NULL = none */
	bool new_session; /* setsid(): no signals from the terminal */
	bool die_with_parent; /* SIGKILL when the parent's thread ends */
};

struct child {
	pid_t pid;
	int pidfd; /* readable when it has ended; owned */
};

#define CHILD_INIT \
	{ \
		.pid = -1, .pidfd = -1 \
	}

/**
 * child_spawn() - start a program
 *
 * Signals are unblocked and set to their default action in the child, also those
 * that were inherited as ignored.  Returns only after exec() succeeded or failed:
 * a failure of any step (namespace, mount, exec, …) is returned here with its
 * reason, and nothing is left behind.
 */
int child_spawn(const struct child_spec *spec, struct child *out, struct err *e);

#define CHILD_ARGS_MAX 8192 /* bytes of all arguments that child_finish() passes */

/* A child in its jail that waits for its arguments and descriptors. */
struct child_pending {
	struct child child;
	int sock; /* owned */
	const struct child_spec *spec;
};

#define CHILD_PENDING_INIT \
	{ \
		.child = CHILD_INIT, .sock = -1 \
	}

/**
 * child_prepare() - begin to start a program whose arguments and descriptors are not known yet
 * @spec: without argv and fds; it and all that it points to stay until the child is finished
 *        or abandoned
 *
 * Returns at once, so that the jail is made while the caller does something else.  What
 * fails in the child is told by child_finish().  The child holds no descriptor of ours.
 */
int child_prepare(const struct child_spec *spec, struct child_pending *p, struct err *e);

/**
 * child_finish() - give a prepared child its arguments and descriptors, and run the program
 *
 * Otherwise as child_spawn().  @p is used up, also by a failure.
 */
int child_finish(struct child_pending *p, char *const *argv, const struct child_fd *fds,
		 size_t n_fds, struct child *out, struct err *e);

/* Ends a prepared child that is not needed.  Harmless on CHILD_PENDING_INIT. */
void child_abandon(struct child_pending *p);

/* Reaps an ended child (blocks if it has not). *status as of waitpid(). Closes pidfd. */
int child_reap(struct child *c, int *status);

/* SIGKILL, reap, close.  Harmless on CHILD_INIT. */
void child_kill(struct child *c);

/* "exited with status 3", "was killed by signal 11 (Segmentation fault)" */
void child_status_text(int status, char *to, size_t size);

#endif
