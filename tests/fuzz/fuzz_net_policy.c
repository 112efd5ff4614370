/* SPDX-License-Identifier: Apache-2.0 */
/* One frame of the guest, judged under every scope, and the answer to it. */
#include <assert.h>
#include <netinet/in.h>
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
		assert(flow.src == NET_GUEST_IP && flow.transport);
		assert((size_t)NET_ETH_HEADER + flow.ip_total <= len);
		assert(scope != NET_SCOPE_NONE);
		assert(flow.dst >> 24 != 127 && flow.dst >> 24 != 0 && flow.dst < 0xe0000000);
		assert(flow.dst != 0xa9fea9fe);
		if (scope == NET_SCOPE_PUBLIC)
			assert(flow.dst == NET_GATEWAY_IP || net_policy_is_public(flow.dst));
	}
	return v;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct net_policy p = {
		.guest_mac = { 2, 0, 0, 0, 0, 0x0f },
		.host_addrs = { 0xc6336407 },
		.n_host_addrs = 1,
	};
	enum net_verdict public, any;

	judge(&p, NET_SCOPE_NONE, data, size);
	public = judge(&p, NET_SCOPE_PUBLIC, data, size);
	any = judge(&p, NET_SCOPE_ANY, data, size);
	assert(public != NET_PASS || any == NET_PASS);
	return 0;
}
