/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_SANDBOX_NETCTL_H
#define MSB_SANDBOX_NETCTL_H

/*
 * DOC: Between ctl.sock and msb-net's control descriptor
 *
 * A client asks for the state of the network, or gives it other rules (NET_GET, NET_SET).
 * Rules are read here first, so that what is wrong never leaves the supervisor; msb-net takes
 * all of them or none.  What it took is written to config.json, so that a sandbox that starts
 * again there has them.
 *
 * Trust boundary: a guest may have taken msb-net over.  Its answers are read by
 * codec/netcontrol.h, and belong to the one message that is on its way; the rules that a
 * client is shown are those that were given to it, not what it says.
 *
 * Members of the sandbox's group come to msb-net the same way (membership.h).
 *
 * Failure: one that does not answer within NETCTL_TIMEOUT_MS has its clients told so.  Its
 * answer still ends the message when it comes.
 */

#include "codec/netcontrol.h"
#include "sandbox/relay.h"

struct supervisor;

#define NETCTL_TIMEOUT_MS 15000u

struct netctl {
	struct supervisor *sandbox;
	int fd; /* owned; -1 = there is no msb-net */
	struct loop_watch watch;
	struct loop_timer timer;
	struct list jobs; /* the first one is on its way */
	bool silent; /* for too long already */
};

void netctl_init(struct netctl *n, struct supervisor *s);
void netctl_fini(struct netctl *n);

/* Makes the two ends of the descriptor; *@theirs is msb-net's, and the caller's. */
int netctl_open(struct netctl *n, int *theirs, struct err *e);

/* Tells msb-net of a member of the group, whose connection is @fd; also before it is opened. */
void netctl_member(struct netctl *n, const struct netmember *m, int fd);

/* relay_ops.on_call */
void netctl_call(struct netctl *n, struct relay_call *call, const struct frame *f);

#endif
