/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_NET_GROUP_H
#define MSB_NET_GROUP_H

/*
 * DOC: Theory of operation
 *
 * Purpose
 *   The private network of a group of sandboxes.  Each pair of members has a socket between
 *   its two msb-net processes, and a message on it is an Ethernet frame.  No process stands
 *   between them, and nothing of theirs is shared.
 *
 * Addresses
 *   Every guest is 10.0.2.15 to itself.  Member N is 10.0.2.128 + N to the others: the sender's
 *   msb-net puts that in the place of the guest's own address, the receiver's does the reverse.
 *   So a frame on a socket has the addresses of the two members whose socket it is, or it is
 *   dropped: a member cannot speak in the name of another.
 *
 * Who is at the other end
 *   The supervisors say (sandbox/membership.c): a socket comes with the member's number and name, on
 *   the control descriptor.  What msb-net sends is never asked who it is.
 *
 * Policy
 *   At both ends.  What the guest sends is judged by gate_judge() as anything else; what comes
 *   from a member passes if the guest asked for it, if it belongs to what was let in before, or if
 *   net_policy_ingress() lets it in.  TCP that is not let in is reset.
 *
 * Trust boundary
 *   A member's msb-net may be taken over by its guest.  Its frames are read by net_packet_read()
 *   and have to be TCP, UDP or an echo, whole, between the two.  It can fill its own socket and
 *   its own table of flows; the guest's frames buffer is shared by turns (GROUP_BATCH frames of
 *   each).  What a member does not take is kept up to GROUP_OUT_MAX and then lost, as on any
 *   network: nobody waits for it.
 *
 * States of a member
 *   present from group_add() until its socket is closed; then connections with it are reset, and
 *   its name and address stand for nobody.
 */

#include <poll.h>

#include "base/buf.h"
#include "net/gate.h"

#define GROUP_FLOWS 512u /* that a member may begin; beyond it the one idle longest is forgotten */
#define GROUP_BUCKETS 256u
#define GROUP_OUT_MAX (1024u * 1024u)
#define GROUP_BATCH 16u

struct group_peer {
	int fd; /* SOCK_SEQPACKET */
	struct netaddr addr;
	struct buf out; /* frames, each behind its length */
	int poll; /* its place among the descriptors; -1 = not polled */
	struct flows in; /* what it began */
	struct flow flow_room[GROUP_FLOWS];
	int32_t flow_buckets[GROUP_BUCKETS];
};

struct group {
	/* Of the owner. */
	struct gate *gate;
	bool (*full)(void *ctx); /* is the guest behind? @ctx: the gate's */

	unsigned number; /* 0 = the sandbox is in no group */
	uint32_t key;
	struct net_members members; /* [0] is the sandbox's own name */
	struct group_peer *peers[NETGROUP_MEMBERS_MAX + 1]; /* by number */
	unsigned n, turn;
	uint64_t lost;
	uint8_t *room; /* a frame */
};

/* @g: zeroed, with the owner's members set. @number: the sandbox's own, @name: its own. */
int group_init(struct group *g, unsigned number, const char *name, uint32_t key, struct err *e);
void group_fini(struct group *g);

/* Takes over @fd, also on failure. One who had the number before is gone. */
int group_add(struct group *g, const struct netmember *m, int fd, struct err *e);

/* A frame of the guest that passed the policy and goes to the group's network. */
void group_send(struct group *g, const uint8_t *frame, const struct net_flow *f);

/* gate.answers: does a frame of the guest belong to what a member began? */
bool group_answers(struct group *g, const struct net_flow *f);

/* Other rules: what members may no longer reach is cut. */
void group_recheck(struct group *g);

/* Adds what is waited for to @fds, NETGROUP_MEMBERS_MAX at most. Return: how many. */
nfds_t group_fill(struct group *g, struct pollfd *fds);
void group_serve(struct group *g, const struct pollfd *fds);

#endif
