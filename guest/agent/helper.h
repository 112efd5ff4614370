/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_AGENT_HELPER_H
#define MSB_AGENT_HELPER_H

/*
 * DOC: Helpers
 *
 * A helper is a child that runs code of the agent's own, for work that may take long or
 * hang: whatever touches a path of the guest's.  It answers with one struct, written to
 * its result pipe just before it ends and read when it was reaped.
 *
 * The result is not trusted: root in the guest may have traced the helper.
 *
 * A helper is as safe from the OOM killer as the agent is, so what it allocates must be
 * bounded.
 */

#include <stddef.h>
#include <sys/types.h>

#include "agent/proc.h"

#define HELPER_RESULT_MAX 16384 /* an empty pipe takes that at once */

/**
 * helper_fork() - as proc_fork(), in the agent's cgroup
 * @keep:      descriptors that the child goes on with, renumbered there in place (-1 is
 *             left alone); it has no others but 0-2 and the result's
 * @n_keep:    at most 8
 * @result_fd: in the parent the end to read, which does not block; in the child the end
 *             to write.  Owned by the caller
 */
pid_t helper_fork(struct agent *a, struct proc *p, int *const keep[], size_t n_keep, int *result_fd,
		  struct err *e);

/* In the child: the answer, and the end. */
void helper_exit(int result_fd, const void *result, size_t n) __attribute__((noreturn));

/* In the parent, after the child was reaped with @status. Return: 0, or -EIO. */
int helper_result(int result_fd, int status, void *result, size_t n, struct err *e);

/* A pipe for data: our end does not block, both are close-on-exec. */
int helper_pipe(int *ours, int *theirs, bool we_read, struct err *e);

#endif
