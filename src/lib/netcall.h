/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_LIB_NETCALL_H
#define MSB_LIB_NETCALL_H

/*
 * The network of a running sandbox, over its ctl.sock: what it may reach, what it was denied,
 * and other rules.  These wait for the answer; a program with a loop of its own sends
 * FRAME_NET_GET and FRAME_NET_SET with client_open().
 */

#include "codec/frame.h"

struct netcall {
	struct frame_net_state state; /* points into body */
	struct buf body;
};

/**
 * netcall() - ask for the state of the network, or change its rules
 * @dirfd: the sandbox's directory
 * @rules: a policy's text that replaces all rules, as in codec/netrule.h; NULL = only ask
 * @timeout_ms: for the answer; a sandbox that still boots answers when it is up
 * @out: what holds now; netcall_fini() frees it.  Written on success only.
 *
 * Return: 0; -EINVAL if the rules are wrong, or not for this sandbox; -ETIMEDOUT; others.
 */
int netcall(int dirfd, const char *rules, unsigned timeout_ms, struct netcall *out, struct err *e);
void netcall_fini(struct netcall *n);

#endif
