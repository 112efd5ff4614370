/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_SERVER_SYSTEMD_H
#define MSB_SERVER_SYSTEMD_H

/*
 * Socket activation and readiness, as systemd's manual pages sd_listen_fds(3) and
 * sd_notify(3) describe them; no library of it is needed.
 */

#include "base/err.h"

#define SYSTEMD_FDS_MAX 4

/*
 * Takes the listening sockets that we were started with; a process of ours never inherits
 * them.  Return: how many, 0 if there are none, or a negative errno.
 */
int systemd_sockets(int fds[SYSTEMD_FDS_MAX], struct err *e);

/* Tells the service manager, if there is one. */
void systemd_notify(const char *state);

#endif
