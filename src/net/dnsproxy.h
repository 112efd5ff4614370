/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_NET_DNSPROXY_H
#define MSB_NET_DNSPROXY_H

/* The gateway's DNS server: the policy's names, the host's resolvers, the pins. */

#include <poll.h>

#include "base/err.h"
#include "codec/dns.h"
#include "codec/resolvconf.h"
#include "net/dnstcp.h"
#include "net/netlog.h"

#define DNSPROXY_ASKS 256u /* questions that wait for a resolver; a socket each */
#define DNSPROXY_TRY_MS 2000u
#define DNSPROXY_TRIES 5u /* over all resolvers */
#define DNSPROXY_UDP_SIZE 1232u /* what we take in a datagram: more would be fragmented */

/* Where a question came from, and its answer goes. */
struct dnsproxy_origin {
	bool tcp;
	uint16_t port; /* UDP: the guest's */
	unsigned conn; /* TCP: see dnstcp.h */
	uint32_t serial;
};

struct dnsproxy_ask {
	int fd; /* -1 = free */
	uint16_t id;
	bool tcp, sent; /* how the resolver is asked; has it been sent */
	int poll; /* its place among the descriptors; -1 = none yet */
	unsigned tries;
	uint64_t until_ms; /* end of this try */
	struct dnsproxy_origin from;
	struct dns_query q;
	uint8_t length[2]; /* TCP: of the answer */
	uint8_t *answer; /* TCP: as much as has come */
	size_t have; /* of length and answer together */
};

struct dnsproxy {
	/* Of the owner. */
	const struct net_policy *policy;
	struct pins *pins;
	struct netlog *log;
	void (*send)(void *ctx, const uint8_t *frame, size_t len); /* to the guest */
	void *ctx;
	uint8_t guest_mac[6];
	bool ipv6; /* the guest has it */
	bool closed; /* nobody is asked: there is no way to */

	uint64_t now_ms; /* kept up to date by dnsproxy_clock() */
	struct resolvconf servers;
	uint64_t look_ms; /* when to look for new ones */
	int64_t seen[3]; /* resolv.conf: inode, time and size when it was read */
	struct dnstcp tcp;
	struct dnstcp_ops tcp_ops;
	struct dnsproxy_ask asks[DNSPROXY_ASKS];
	unsigned n_asks;
	uint8_t *room; /* for a frame, a resolver's answer and the guest's */
};

/* @p: zeroed, with the owner's members set. */
int dnsproxy_init(struct dnsproxy *p, struct err *e);
void dnsproxy_fini(struct dnsproxy *p);

/* Also does what is due at @now_ms. */
void dnsproxy_clock(struct dnsproxy *p, uint64_t now_ms);

/* A frame of the guest to the gateway's port 53, accepted by net_policy_check(). */
void dnsproxy_frame(struct dnsproxy *p, const uint8_t *frame, const struct net_flow *f);

/* Adds what is waited for to @fds, DNSPROXY_ASKS at most. Return: how many. */
nfds_t dnsproxy_fill(struct dnsproxy *p, struct pollfd *fds);
void dnsproxy_serve(struct dnsproxy *p, const struct pollfd *fds);

/* When dnsproxy_clock() has something to do; UINT64_MAX = nothing. */
uint64_t dnsproxy_deadline(const struct dnsproxy *p);

#endif
