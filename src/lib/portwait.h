/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_LIB_PORTWAIT_H
#define MSB_LIB_PORTWAIT_H

/*
 * Does a program in a sandbox accept connections on a TCP port?  The guest's kernel is asked
 * (/proc/net/tcp), so nothing is connected to and no network is needed: what depends on a
 * sandbox can wait for it.
 */

#include "codec/procnet.h"
#include "lib/client.h"

/* One question. */
struct port_ask {
	/* Set by the owner: called once; @state is an enum procnet_state, or a negative errno. */
	void (*done)(struct port_ask *a, int state);
	/* internal */
	struct client *client;
	struct client_channel channel;
	struct buf text;
	uint16_t port;
	unsigned file;
	int most;
};

/* Asks; a->done comes later, unless this fails. Return: 0, or of client_open(). */
int port_ask_start(struct port_ask *a, struct client *c, uint16_t port);

/* Gives it up, or frees what it holds; a->done does not come any more. */
void port_ask_end(struct port_ask *a);

/**
 * port_wait() - wait until somebody listens
 * @dirfd: the sandbox's directory
 * @port:  of the guest; one on a loopback address alone does not count
 *
 * Asks again and again, at first each PORT_WAIT_MIN_MS: no kernel tells when a socket begins to
 * listen.  Return: 0; -ETIMEDOUT; -EPIPE if the sandbox ended; others.
 */
int port_wait(int dirfd, uint16_t port, uint64_t timeout_ms, struct err *e);

#define PORT_WAIT_MIN_MS 50u
#define PORT_WAIT_MAX_MS 1000u

#endif
