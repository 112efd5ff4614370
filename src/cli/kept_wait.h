/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_CLI_KEPT_WAIT_H
#define MSB_CLI_KEPT_WAIT_H

#include "base/err.h"

/*
 * Waits until the guest of a sandbox that was started is ready, or has been.  @conn: a
 * connection to its supervisor, taken over.  Bounded by the sandbox's boot time-out.
 *
 * Return: 0; a negative errno with the supervisor's reason.
 */
int kept_wait_ready(int conn, struct err *e);

/*
 * Asks the supervisor of a sandbox to shut it down, by a connection to it (taken over).  Does not
 * wait for the end.
 */
int kept_ask_stop(int conn, unsigned grace_ms, struct err *e);

/* SIGKILL to the supervisor that listens in @dirfd, and to no other process. */
int kept_kill(int dirfd, struct err *e);

#endif
