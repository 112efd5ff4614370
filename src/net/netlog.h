/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_NET_NETLOG_H
#define MSB_NET_NETLOG_H

/* What a sandbox was denied: a line each, within a budget, and counted without one. */

#include "base/log.h"
#include "codec/netcontrol.h"
#include "net/policy.h"

#define NETLOG_LINES 20u /* a second */

struct netlog {
	const struct net_policy *policy; /* not owned */
	uint64_t passed, reasons[NET_REASONS]; /* frames of the guest, and names */
	struct log_limit limit;
};

void netlog_init(struct netlog *l, const struct net_policy *policy);

/* An attempt to reach @f's destination; a TCP connection is one, however many segments. */
void netlog_denied(struct netlog *l, const struct net_flow *f, enum net_reason why);

/* An exchange that other rules, or an address that the host now has, put an end to. */
void netlog_cut(struct netlog *l, const struct net_flow *f, enum net_reason why);

/* A client of a published port, which is @port in the guest. */
void netlog_client(struct netlog *l, const struct netaddr *peer, uint8_t proto, uint16_t port,
		   enum net_reason why, unsigned rule);

/* A question for @name, "" for the root, of an RFC 1035 @type. */
void netlog_name(struct netlog *l, const char *name, unsigned type, enum net_reason why,
		 unsigned rule);

/* A name whose answer led to @addr, which it may not. */
void netlog_rebinding(struct netlog *l, const char *name, const struct netaddr *addr);

/* All counters, those of reasons that are not zero; @lost as below. */
void netlog_counters(const struct netlog *l, uint64_t lost, struct netcounters *out);

/* One line with all counters; @lost: frames for a VM that did not read. */
void netlog_summary(const struct netlog *l, uint64_t lost);

#endif
