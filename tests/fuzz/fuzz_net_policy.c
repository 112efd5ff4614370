/* SPDX-License-Identifier: Apache-2.0 */
/* One frame of the guest, judged under every scope, and the answer to it. */
#include <assert.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "net/policy.h"
#include "net/reply.h"
#include "net/wire.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static enum net_verdict judge(struct net_policy *p, enum net_scope scope, const uint8_t *frame,
			      size_t len)
{
	uint8_t reply[NET_REPLY_MAX];
	struct net_flow flow;
	enum net_reason why;
	enum net_verdict v;
	size_t n;

	p->scope = scope;
	v = net_policy_check(p, frame, len, &flow, &why);
	assert(why < NET_REASONS);
	assert((v == NET_PASS) == (why == NET_REASON_NONE));
	if (v == NET_DENY) {
		n = net_reply_build(frame, &flow, reply);
		assert(n == 0 || (n >= 54 && n <= sizeof(reply)));
		assert(n == 0 || !memcmp(reply, p->guest_mac, 6));
	}
	/* What passes as IPv4 is what its headers said, and goes where it may. */
	if (v == NET_PASS && wire_get16(frame + 12) == WIRE_ETHERTYPE_IPV4) {
		uint32_t dst = netaddr_low32(&flow.dst);

		assert(netaddr_low32(&flow.src) == NET_GUEST_IP && flow.transport);
		assert((size_t)NET_ETH_HEADER + flow.ip_total <= len);
		assert((size_t)flow.payload + flow.payload_len <= flow.ip_total);
		assert(scope != NET_SCOPE_NONE || p->rules.n_rules || net_policy_is_dns(&flow));
		if (p->closed)
			assert(net_policy_is_dns(&flow) || dst == NET_GROUP_IP + 3);
		assert(dst >> 24 != 127 && dst >> 24 != 0 && dst < 0xe0000000);
		assert(netaddr_kind(&flow.dst) != NETADDR_METADATA);
		if (scope == NET_SCOPE_PUBLIC && !p->rules.n_rules)
			assert(dst == NET_GATEWAY_IP || netaddr_kind(&flow.dst) == NETADDR_PUBLIC);
	}
	if (v == NET_PASS && wire_get16(frame + 12) == WIRE_ETHERTYPE_IPV6) {
		assert(p->ipv6 && flow.transport && !flow.options && !flow.fragment);
		assert((size_t)NET_ETH_HEADER + flow.ip_total <= len);
		assert(!netaddr_is_v4(&flow.src) && !netaddr_is_v4(&flow.dst));
		if (!flow.neighbour) {
			assert(netaddr_equal(&flow.src, &net_guest_ip6));
			assert(netaddr_kind(&flow.dst) == NETADDR_PUBLIC ||
			       netaddr_kind(&flow.dst) == NETADDR_PRIVATE ||
			       netaddr_kind(&flow.dst) == NETADDR_SPECIAL);
		}
	}
	return v;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct net_policy p = {
		.ipv6 = size & 1,
		.guest_mac = { 2, 0, 0, 0, 0, 0x0f },
		.host_addrs = { netaddr_v4(0xc6336407) },
		.n_host_addrs = 1,
	};
	static const struct net_members members = { .names = { "me", "", "", "db" } };
	static const char rules[] = "deny tcp any:25; allow 0.0.0.0/0; allow any";
	enum net_verdict public, any;

	public = judge(&p, NET_SCOPE_PUBLIC, data, size);
	any = judge(&p, NET_SCOPE_ANY, data, size);
	assert(public != NET_PASS || any == NET_PASS);
	judge(&p, NET_SCOPE_NONE, data, size);
	p.members = &members;
	p.closed = true;
	judge(&p, NET_SCOPE_GROUP, data, size);
	p.members = NULL;
	p.closed = false;
	if (netpolicy_parse(rules, sizeof(rules) - 1, &p.rules, NULL))
		abort();
	/* These rules open what scope any opens, but for a port. */
	assert(judge(&p, NET_SCOPE_NONE, data, size) != NET_PASS || any == NET_PASS);
	return 0;
}
