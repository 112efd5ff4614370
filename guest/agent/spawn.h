/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_AGENT_SPAWN_H
#define MSB_AGENT_SPAWN_H

/*
 * DOC: From fork to exec
 *
 * Everything that touches a path of the image happens here, in the child: passwd, the
 * working directory, the search in PATH, exec itself.  A hanging file system hangs
 * that child and nothing else.  What fails is written, as struct err, to a
 * close-on-exec pipe; an end of file on it means that exec succeeded.
 */

#include <stdbool.h>
#include <stddef.h>

#include "agent/agent.h"

struct spawn_fd {
	int from, to;
};

struct spawn {
	char **argv; /* NULL-terminated; argv[0] is looked up in PATH if it has no '/' */
	const char *const *programs; /* tried in order instead of argv[0]; or NULL */
	const char *what; /* of programs: "Python interpreter" */
	char **envp; /* NULL-terminated; room for SPAWN_ENV_EXTRA more */
	size_t n_env;
	char *cwd; /* "" = "/" */
	char *user;
	struct frame_list rlimits;
	const struct spawn_fd *fds; /* 0-2 that are not listed become /dev/null */
	size_t n_fds;
	bool tty; /* fd 0 becomes the controlling terminal */
	char *memory; /* holds all of the above strings */
	char **vectors; /* holds argv and envp */
};

#define SPAWN_ENV_EXTRA 4

/*
 * Copies a request's strings.  The lists were validated by frame_decode(); their total
 * is bounded by the frame.
 */
int spawn_init(struct spawn *s, struct frame_list argv, struct frame_list env,
	       const struct frame_str *cwd, const struct frame_str *user, struct err *e);
void spawn_fini(struct spawn *s);

/* A pipe for the report; both ends close-on-exec, the read end does not block. */
int spawn_report_pipe(int fds[2], struct err *e);

/* In the child, after proc_fork(). */
void spawn_exec(const struct agent *a, struct spawn *s, int report_fd) __attribute__((noreturn));

/*
 * In the parent, when @fd is readable or the child is gone.
 * Return: 1 = exec succeeded, 0 = not known yet, or the child's negative errno.
 */
int spawn_report_read(int fd, struct err *e);

/* "nofile=1024:4096". Pure. */
int spawn_parse_rlimit(const char *text, int *resource, uint64_t *soft, uint64_t *hard,
		       struct err *e);

#endif
