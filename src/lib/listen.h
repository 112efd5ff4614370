/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_LIB_LISTEN_H
#define MSB_LIB_LISTEN_H

/*
 * The host's side of published ports: sockets that are bound before anything of a sandbox is
 * started, so that a port in use is one clear error.  They are handed down to msb-net, which
 * binds nothing itself.
 */

#include "base/err.h"
#include "codec/publish.h"

/**
 * listen_open() - bind all ports of @l
 * @fds: on success l->n descriptors, in the order of the list; a TCP one listens already
 *
 * Host ports that were 0 are filled in.  Return: 0; on failure nothing stays open.
 */
int listen_open(struct publish_list *l, int fds[PUBLISH_MAX], struct err *e);

void listen_close(int *fds, size_t n);

#endif
