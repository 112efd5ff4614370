/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_SYS_INIT_H
#define MSB_SYS_INIT_H

/*
 * The first process of a container: orphans become its children, and stay as zombies
 * until it waits for them.  A program that waits for particular children only should not
 * have that place; it forks, and leaves the place to its parent.
 */

#include <stdbool.h>

#include "base/err.h"

/* Are we it? */
bool init_is_first(void);

/**
 * init_split() - fork, and be the container's first process in the parent
 *
 * Return: 0 in the child, which goes on with the descriptors, the signal mask and the
 * environment as they were (LISTEN_PID, if it named the parent, names the child).  1 in
 * the parent, when the child has ended: *@status is what to exit with, 128 + the signal if
 * one killed it.  The parent keeps no descriptor but the standard ones, and passes on
 * SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2.  Or a negative errno.
 *
 * To be called before there are threads.
 */
int init_split(int *status, struct err *e);

#endif
