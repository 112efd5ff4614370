/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_NET_SECRETS_H
#define MSB_NET_SECRETS_H

/*
 * Connections of the guest to hosts that get secrets: values are put into their requests on
 * the way.  See secrets.c for how.
 */

#include <poll.h>
#include <stdbool.h>
#include <sys/socket.h>

#include "base/err.h"
#include "base/log.h"
#include "codec/httpsub.h"
#include "net/pins.h"

#define SECRETS_CONNS 64u /* at once */
#define SECRETS_POLLS (2u * SECRETS_CONNS)

struct secrets_conn;

struct secrets {
	struct secret_list list;
	const struct pins *pins; /* not owned */
	struct secrets_conn *conns[SECRETS_CONNS];
	unsigned n_conns;
	struct pollfd *fds; /* of this round; the owner's */
	uint8_t *room; /* to read into; NULL = there are no secrets */
	struct log_limit log_sent, log_refused;
	uint64_t sent, refused; /* requests with a value; connections that were ended */
};

/*
 * Reads the secrets of @fd and closes it.  To be called before the filter of system calls is on.
 * @s:  zeroed; stays where it is, and is the only one in the process
 * @fd: a file with the text of codec/secret.h, -1 = none
 */
int secrets_init(struct secrets *s, int fd, const struct pins *pins, struct err *e);
void secrets_fini(struct secrets *s);

/* What libslirp calls as connect(2). */
int secrets_connect(int fd, const struct sockaddr *addr, socklen_t len);

/* A connection that libslirp waited for may be there: it is about to be told that it can write. */
void secrets_fd_connected(struct secrets *s, int fd);

/* libslirp's unregister_poll_fd: it is about to close the socket. */
void secrets_fd_closed(struct secrets *s, int fd);

/* Begins a round: entries for the connections. Return: how many, at most SECRETS_POLLS. */
nfds_t secrets_fill(struct secrets *s, struct pollfd *fds);

/* Passes on what came for the entries that secrets_fill() made. */
void secrets_serve(struct secrets *s);

/* A log line with what happened, if there are secrets. */
void secrets_log_summary(const struct secrets *s);

#endif
