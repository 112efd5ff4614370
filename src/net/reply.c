/* SPDX-License-Identifier: Apache-2.0 */
#include "net/reply.h"

#include <netinet/in.h>
#include <string.h>

#include "net/build.h"
#include "net/wire.h"

/* RFC 9293 §3.5.2: the reset of a connection that does not exist. */
static size_t reply_reset(const struct net_ends *e, const struct net_flow *f, uint8_t *out)
{
	struct net_segment s = {
		.sport = f->dport,
		.dport = f->sport,
		.flags = WIRE_TCP_RST,
	};

	if (f->tcp_flags & WIRE_TCP_RST)
		return 0;
	if (f->tcp_flags & WIRE_TCP_ACK) {
		s.seq = f->tcp_ack;
	} else {
		s.ack = f->tcp_seq + f->payload_len + !!(f->tcp_flags & WIRE_TCP_SYN) +
			!!(f->tcp_flags & WIRE_TCP_FIN);
		s.flags |= WIRE_TCP_ACK;
	}
	return net_build_tcp(out, e, &s);
}

/* RFC 792 and 4443 §3.1: the answer quotes the IP header and the first 8 bytes behind it. */
static size_t reply_prohibited(const struct net_ends *e, const uint8_t *frame,
			       const struct net_flow *f, uint8_t *out)
{
	const bool v4 = f->version == 4;
	const uint8_t proto = v4 ? IPPROTO_ICMP : IPPROTO_ICMPV6;
	size_t quote = (size_t)f->ip_header + 8;
	uint8_t *icmp;
	uint16_t sum;

	if (quote > f->ip_total)
		quote = f->ip_total;
	icmp = net_build_ip(out, e, proto, WIRE_ICMP_LEN + quote);
	memset(icmp, 0, WIRE_ICMP_LEN);
	icmp[0] = v4 ? WIRE_ICMP_UNREACHABLE : WIRE_ICMP6_UNREACHABLE;
	icmp[1] = v4 ? WIRE_ICMP_PROHIBITED : WIRE_ICMP6_PROHIBITED;
	memcpy(icmp + WIRE_ICMP_LEN, frame + NET_ETH_HEADER, quote);
	sum = v4 ? net_sum_fold(net_sum_add(icmp, WIRE_ICMP_LEN + quote, 0))
		 : net_build_sum(e, proto, icmp, WIRE_ICMP_LEN + quote);
	wire_put16(icmp + 2, sum);
	return (size_t)(icmp - out) + WIRE_ICMP_LEN + quote;
}

size_t net_reply_build(const uint8_t *frame, const struct net_flow *flow, uint8_t out[NET_REPLY_MAX])
{
	/* To whom it came from: the guest, checked by the policy. */
	struct net_ends e = { .guest_mac = frame + 6, .src = flow->dst, .dst = flow->src };

	if (flow->proto == IPPROTO_TCP && flow->transport)
		return reply_reset(&e, flow, out);
	/* RFC 1122 §3.2.2: no error about what may be an error itself. */
	if ((flow->proto == IPPROTO_ICMP || flow->proto == IPPROTO_ICMPV6) && !flow->transport)
		return 0;
	e.src = flow->version == 4 ? netaddr_v4(NET_GATEWAY_IP) : net_gateway_ip6;
	return reply_prohibited(&e, frame, flow, out);
}
