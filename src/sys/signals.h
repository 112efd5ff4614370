/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_SYS_SIGNALS_H
#define MSB_SYS_SIGNALS_H

/* Signals as events of the loop. */

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

#endif
