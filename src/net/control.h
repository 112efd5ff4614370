/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_NET_CONTROL_H
#define MSB_NET_CONTROL_H

/* The supervisor's messages to a running msb-net: see codec/netrule.h and codec/netcontrol.h. */

#include "net/frames.h"
#include "net/group.h"

struct control {
	int fd; /* SOCK_SEQPACKET, -1 = none; not owned */
	struct gate *gate; /* not owned */
	/* The stack keeps the host's loopback shut on its own: no rule may promise it. */
	bool loopback_locked;
	const struct frames *frames; /* not owned: what was lost */
	struct group *group; /* not owned */
};

/* To be called when fd is readable; reads one message and answers it. */
void control_serve(struct control *c);

#endif
