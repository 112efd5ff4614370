/* SPDX-License-Identifier: Apache-2.0 */
#include "net/netlog.h"

#include <netinet/in.h>
#include <stdio.h>

#include "base/mem.h"
#include "net/wire.h"

void netlog_init(struct netlog *l, const struct net_policy *policy)
{
	*l = (struct netlog){ .policy = policy, .limit = LOG_LIMIT(NETLOG_LINES, 1000) };
}

static const char *netlog_proto(uint8_t proto)
{
	switch (proto) {
	case IPPROTO_TCP:
		return "tcp";
	case IPPROTO_UDP:
		return "udp";
	case IPPROTO_ICMP:
	case IPPROTO_ICMPV6:
		return "icmp";
	default:
		return "other";
	}
}

static void netlog_line(struct netlog *l, const char *event, const struct net_flow *f,
			enum net_reason why)
{
	const char *name = NULL;
	char text[NETADDR_TEXT];
	size_t at = 0;
	unsigned held;

	if (!log_limit_pass(&l->limit, &held))
		return;
	if (l->policy->pins)
		name = pins_next(l->policy->pins, &f->dst, &at);
	log_warn("event=%s scope=%s reason=%s rule=%u proto=%s number=%u dst=%s port=%u name=%s "
		 "held_back=%u",
		 event, net_scope_name(l->policy->scope), net_reason_name(why), f->rule,
		 netlog_proto(f->proto), f->proto, netaddr_format(&f->dst, text), f->dport,
		 name ? name : "-", held);
}

void netlog_denied(struct netlog *l, const struct net_flow *f, enum net_reason why)
{
	l->reasons[why]++;
	if (f->proto != IPPROTO_TCP || !f->transport || f->tcp_flags & WIRE_TCP_SYN)
		netlog_line(l, "denied", f, why);
}

void netlog_cut(struct netlog *l, const struct net_flow *f, enum net_reason why)
{
	l->reasons[NET_REASON_CUT]++;
	netlog_line(l, "cut", f, why);
}

void netlog_client(struct netlog *l, const struct netaddr *peer, uint8_t proto, uint16_t port,
		   enum net_reason why, unsigned rule)
{
	char text[NETADDR_TEXT];
	unsigned held;

	l->reasons[why]++;
	if (log_limit_pass(&l->limit, &held))
		log_warn("event=denied direction=in reason=%s rule=%u proto=%s src=%s port=%u "
			 "held_back=%u",
			 net_reason_name(why), rule, netlog_proto(proto),
			 netaddr_format(peer, text), port, held);
}

void netlog_name(struct netlog *l, const char *name, unsigned type, enum net_reason why,
		 unsigned rule)
{
	unsigned held;

	l->reasons[why]++;
	if (log_limit_pass(&l->limit, &held))
		log_warn("event=denied scope=%s reason=%s rule=%u proto=dns type=%u name=%s "
			 "held_back=%u",
			 net_scope_name(l->policy->scope), net_reason_name(why), rule, type,
			 *name ? name : ".", held);
}

void netlog_rebinding(struct netlog *l, const char *name, const struct netaddr *addr)
{
	char text[NETADDR_TEXT];
	unsigned held;

	l->reasons[NET_REASON_REBINDING]++;
	if (log_limit_pass(&l->limit, &held))
		log_warn("event=denied scope=%s reason=%s rule=0 proto=dns dst=%s name=%s "
			 "held_back=%u",
			 net_scope_name(l->policy->scope), net_reason_name(NET_REASON_REBINDING),
			 netaddr_format(addr, text), *name ? name : ".", held);
}

void netlog_counters(const struct netlog *l, uint64_t lost, struct netcounters *out)
{
	_Static_assert(NET_REASONS + 2 <= NETCOUNTERS_MAX, "a place for each counter");

	*out = (struct netcounters){ .n = 0 };
	netcounters_add(out, "passed", l->passed);
	netcounters_add(out, "lost", lost);
	for (int r = NET_REASON_NONE + 1; r < NET_REASONS; r++)
		if (l->reasons[r])
			netcounters_add(out, net_reason_name((enum net_reason)r), l->reasons[r]);
}

void netlog_summary(const struct netlog *l, uint64_t lost)
{
	char text[NETCOUNTERS_MAX * (NETCOUNTER_NAME_MAX + 24)] = "";
	struct netcounters c;
	size_t n = 0;

	netlog_counters(l, lost, &c);
	for (unsigned i = 0; i < c.n; i++)
		n += (size_t)snprintf(text + n, sizeof(text) - n, " %s=%llu", c.v[i].name,
				      (unsigned long long)c.v[i].value);
	log_info("event=summary%s", text);
}
