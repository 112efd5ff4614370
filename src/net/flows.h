/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_NET_FLOWS_H
#define MSB_NET_FLOWS_H

/*
 * What the guest has going: its connections and datagram exchanges that were allowed when
 * they began.  They go on when a pin runs out, are judged again when the rules change,
 * and datagrams from elsewhere do not reach the guest.
 */

#include "net/packet.h"

#define FLOWS_MAX 2048u /* the one that was idle longest gives way; it is judged anew then */
#define FLOWS_BUCKETS 1024u /* a power of two */
#define FLOWS_DATAGRAM_MS 120000u /* UDP, ping, and TCP without an answer: no frame either way */
#define FLOWS_CLOSING_MS 10000u /* TCP behind a reset or both FINs */

struct flow {
	struct netaddr remote;
	uint16_t port, remote_port; /* port: the guest's, or the identifier of a ping */
	uint8_t proto;
	bool answered, fin_guest, fin_remote, closing;
	uint32_t seq, ack; /* TCP: what the guest sends next, what it has taken */
	uint64_t used_ms;
	int32_t next; /* in its bucket, or free; -1 = end */
	int32_t older, newer; /* by use */
};

struct flows {
	uint64_t now_ms; /* kept up to date by the owner */
	uint32_t key; /* random: the guest cannot choose what shares a bucket */
	unsigned n, max, n_buckets;
	int32_t free, oldest, newest;
	int32_t *buckets; /* not owned, as are the flows */
	struct flow *flows;
};

/* @flows, @buckets: room of the owner's. @n_buckets: a power of two. */
void flows_init(struct flows *t, uint32_t key, struct flow *flows, unsigned max, int32_t *buckets,
		unsigned n_buckets);

/*
 * The flow of a frame that the guest sends (@from_guest) or gets; NULL = none that is alive.
 * It counts as used, and TCP's state is followed.
 */
struct flow *flows_find(struct flows *t, const struct net_flow *f, bool from_guest);

/*
 * The flow that a frame begins, of the guest (@from_guest) or for it; an old one with the same
 * ends is forgotten.
 */
void flows_add(struct flows *t, const struct net_flow *f, bool from_guest);

void flows_remove(struct flows *t, struct flow *w);

/*
 * Goes through them, from *@at = -1 on: the next one that is alive; NULL = no more.  The one
 * that was returned may be removed before the next call, others not.
 */
struct flow *flows_next(struct flows *t, int32_t *at);

#endif
