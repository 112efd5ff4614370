/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_NET_GATE_H
#define MSB_NET_GATE_H

/*
 * What stands between the guest and the stack: each frame is judged by the policy or
 * belongs to a flow that was; the rules may change while it stands.
 */

#include "net/bucket.h"
#include "net/flows.h"
#include "net/netlog.h"
#include "net/wire.h"

struct gate {
	struct net_policy policy;
	struct pins pins;
	struct flows flows;
	struct flow flow_room[FLOWS_MAX];
	int32_t flow_buckets[FLOWS_BUCKETS];
	struct netlog log;
	struct bucket limits[NETLIMIT_CONNECTIONS]; /* of rules.limits, but for the last */
	unsigned version; /* of the rules: how often they changed */
	/* Of the owner: a frame to the guest, and one to the stack as if the guest had sent it. */
	void (*to_guest)(void *ctx, const uint8_t *frame, size_t len);
	void (*to_stack)(void *ctx, const uint8_t *frame, size_t len);
	/* Does the frame belong to what a member of the group began?  NULL = there is none. */
	bool (*answers)(void *ctx, const struct net_flow *f);
	void *ctx;
};

/* @g: zeroed, with the owner's members and policy.scope, .guest_mac and .rules set. */
void gate_init(struct gate *g, uint32_t key);

/* The owner's clock: any that does not jump. */
void gate_clock(struct gate *g, uint64_t now_ms);

/* As net_policy_check(), for a frame of the guest; a flow that was allowed goes on. */
enum net_verdict gate_judge(struct gate *g, const uint8_t *frame, size_t len, struct net_flow *flow,
			    enum net_reason *why);

/* Logs, counts and answers what gate_judge() did not let pass. */
void gate_refuse(struct gate *g, const uint8_t *frame, const struct net_flow *flow,
		 enum net_verdict verdict, enum net_reason why);

/*
 * May the guest have this frame of the stack?  Datagrams and pings only from where it sent
 * some: the stack's sockets are open to anybody.
 */
bool gate_admit(struct gate *g, const uint8_t *frame, size_t len);

/*
 * How long the guest's frames, or the stack's for it, have to wait for their limits, in
 * milliseconds; 0 = not.  Each frame that passes counts, also one that makes a debt.
 */
uint64_t gate_wait_out(struct gate *g);
uint64_t gate_wait_in(struct gate *g);

/* Other rules: what is no longer allowed is cut at once. */
void gate_set_rules(struct gate *g, const struct netpolicy *rules);

/* The host's addresses have changed: what is no longer allowed is cut. */
void gate_recheck(struct gate *g);

/* Tells both ends that a connection is over; the frame for the other one goes to_stack(). */
void gate_reset(struct gate *g, const struct flow *w);

/* Ends all of @t with @remote, who is gone: the guest is told, nobody else is. */
void gate_forget(struct gate *g, struct flows *t, const struct netaddr *remote);

/* As gate_admit(), for a frame of a member: is it an answer to what the guest began? */
bool gate_knows(struct gate *g, const struct net_flow *f);

/* Counts a frame for the guest that gate_admit() has not seen. */
void gate_count_in(struct gate *g, size_t len);

/* Is it the segment that opens a connection?  Everything else belongs to one. */
static inline bool gate_is_syn(const struct net_flow *f)
{
	return f->proto == IPPROTO_TCP &&
	       (f->tcp_flags & (WIRE_TCP_SYN | WIRE_TCP_ACK)) == WIRE_TCP_SYN;
}

#endif
