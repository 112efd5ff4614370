/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_VOLUME_SERVE_H
#define MSB_VOLUME_SERVE_H

#include <signal.h>

#include "base/err.h"
#include "volume/share.h"

/**
 * serve_run() - answer what comes over the port's socket
 * @fd:      stream socket, the host's end of `agent.fuse`; not owned
 * @stop:    set by a signal
 * @waiting: signal mask while there is nothing to do
 *
 * Return: 0 when the VM closed it or @stop was set; -EPROTO for what is no message of the
 * volume wire; another negative errno.
 */
int serve_run(int fd, struct share *shares, unsigned n, const volatile sig_atomic_t *stop,
	      const sigset_t *waiting, struct err *e);

#endif
