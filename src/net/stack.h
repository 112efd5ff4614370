/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_NET_STACK_H
#define MSB_NET_STACK_H

/* The TCP/IP stack between the guest's frames and the host's sockets. */

#include <signal.h>

#include "base/err.h"
#include "net/policy.h"
#include "net/ports.h"

struct stack;

struct stack_config {
	int frames_fd; /* connected stream socket, see net/frames.h; not owned */
	enum net_scope scope;
	/*
	 * Nothing is open to the outside, now and later: no stack is made, no socket, and nothing
	 * of the host is looked at.
	 */
	bool closed;
	unsigned group; /* the sandbox's number in its group; 0 = none */
	const char *name; /* its name there */
	bool ipv6; /* the host has a way to the IPv6 internet */
	struct netpolicy rules;
	uint8_t guest_mac[6];
	int control_fd; /* see net/control.h; -1 = none; not owned */
	int secrets_fd; /* see net/secrets.h; -1 = none; stack_create() closes it */
	uint32_t key; /* random */
	struct ports_config ports[PORTS_MAX]; /* published; stack_create() takes the descriptors */
	size_t n_ports;
};

int stack_create(struct stack **out, const struct stack_config *cfg, struct err *e);
void stack_destroy(struct stack *s);

/**
 * stack_run() - serve the guest
 * @stop: becomes non-zero in a signal handler when the process is to end
 * @mask: signals to let in while waiting, see ppoll(2); the others stay blocked
 *
 * Return: 0 when the VM closed its end or @stop was set, or a negative errno.
 */
int stack_run(struct stack *s, const volatile sig_atomic_t *stop, const sigset_t *mask,
	      struct err *e);

/* One log line with what happened since the start. */
void stack_log_summary(const struct stack *s);

#endif
