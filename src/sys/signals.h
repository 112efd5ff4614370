/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_SYS_SIGNALS_H
#define MSB_SYS_SIGNALS_H

/* Signals as events of the loop; and, for programs with a poll() of their own, as a flag. */

#include <signal.h>
#include <stddef.h>

#include "sys/loop.h"

/*
 * From now on @signals come as reads of a signalfd that @w watches; SIGPIPE is ignored.
 * Also those that we inherited as ignored: whoever asks us to end is heard.
 * Return: the descriptor, which the caller owns, or a negative errno.
 */
int signals_watch(struct loop *l, struct loop_watch *w, const int *signals, size_t n, struct err *e);

/* The next signal, or 0. */
int signals_next(int fd);

/*
 * The number of "SIGINT", "INT", "2", "SIGRTMIN+3"; 0 = there is no such signal.  As Linux and
 * Docker number them.
 */
unsigned signals_number(const char *name);

/*
 * From now on SIGTERM and SIGINT set the flag that is returned, and are blocked but where
 * @while_waiting is in force (ppoll()).  SIGPIPE and SIGXFSZ are ignored: a peer that is gone, and
 * a write past the limit of a file, are errors of the call.
 */
const volatile sig_atomic_t *signals_stop_flag(sigset_t *while_waiting);

#endif
