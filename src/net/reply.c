/* SPDX-License-Identifier: Apache-2.0 */
#include "net/reply.h"

#include <netinet/in.h>
#include <string.h>

#include "net/wire.h"

/* The gateway's MAC as the stack answers it to ARP. */
static const uint8_t net_gateway_mac[6] = { 0x52, 0x55, 0x0a, 0x00, 0x02, 0x02 };

static uint32_t reply_sum(const uint8_t *p, size_t n, uint32_t sum)
{
	for (; n > 1; p += 2, n -= 2)
		sum += wire_get16(p);
	return n ? sum + (uint32_t)(p[0] << 8) : sum;
}

/* RFC 1071. */
static uint16_t reply_fold(uint32_t sum)
{
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)~sum;
}

static void reply_headers(uint8_t *out, const uint8_t *frame, uint8_t proto, uint32_t src,
			  size_t payload)
{
	uint8_t *ip = out + NET_ETH_HEADER;

	memset(out, 0, NET_ETH_HEADER + WIRE_IP_LEN);
	memcpy(out, frame + 6, 6); /* to whom it came from: the guest, checked by the policy */
	memcpy(out + 6, net_gateway_mac, 6);
	wire_put16(out + 12, WIRE_ETHERTYPE_IPV4);
	ip[0] = 0x45;
	wire_put16(ip + 2, (unsigned)(WIRE_IP_LEN + payload));
	ip[8] = 64;
	ip[9] = proto;
	wire_put32(ip + 12, src);
	wire_put32(ip + 16, NET_GUEST_IP);
	wire_put16(ip + 10, reply_fold(reply_sum(ip, WIRE_IP_LEN, 0)));
}

/* RFC 9293 §3.5.2: the reset of a connection that does not exist. */
static size_t reply_reset(const uint8_t *frame, const struct net_flow *f, uint8_t *out)
{
	uint8_t *ip = out + NET_ETH_HEADER, *tcp = ip + WIRE_IP_LEN;
	const uint8_t *in = frame + NET_ETH_HEADER + f->ip_header;
	uint32_t len;

	if (f->tcp_flags & WIRE_TCP_RST)
		return 0;
	reply_headers(out, frame, IPPROTO_TCP, f->dst, WIRE_TCP_LEN);
	memset(tcp, 0, WIRE_TCP_LEN);
	wire_put16(tcp, f->dport);
	wire_put16(tcp + 2, f->sport);
	tcp[12] = (WIRE_TCP_LEN / 4) << 4;
	if (f->tcp_flags & WIRE_TCP_ACK) {
		wire_put32(tcp + 4, f->tcp_ack);
		tcp[13] = WIRE_TCP_RST;
	} else {
		len = (uint32_t)(f->ip_total - f->ip_header) - (uint32_t)(in[12] >> 4) * 4;
		len += (f->tcp_flags & WIRE_TCP_SYN ? 1u : 0u) +
		       (f->tcp_flags & WIRE_TCP_FIN ? 1u : 0u);
		wire_put32(tcp + 8, f->tcp_seq + len);
		tcp[13] = WIRE_TCP_RST | WIRE_TCP_ACK;
	}
	/* Pseudo header: addresses, protocol, length. */
	wire_put16(tcp + 16,
		   reply_fold(reply_sum(tcp, WIRE_TCP_LEN,
					reply_sum(ip + 12, 8, IPPROTO_TCP + WIRE_TCP_LEN))));
	return NET_ETH_HEADER + WIRE_IP_LEN + WIRE_TCP_LEN;
}

/* RFC 792: the answer quotes the IP header and the first 8 bytes behind it. */
static size_t reply_prohibited(const uint8_t *frame, const struct net_flow *f, uint8_t *out)
{
	uint8_t *icmp = out + NET_ETH_HEADER + WIRE_IP_LEN;
	size_t quote = (size_t)f->ip_header + 8;

	if (quote > f->ip_total)
		quote = f->ip_total;
	reply_headers(out, frame, IPPROTO_ICMP, NET_GATEWAY_IP, WIRE_ICMP_LEN + quote);
	memset(icmp, 0, WIRE_ICMP_LEN);
	icmp[0] = WIRE_ICMP_UNREACHABLE;
	icmp[1] = WIRE_ICMP_PROHIBITED;
	memcpy(icmp + WIRE_ICMP_LEN, frame + NET_ETH_HEADER, quote);
	wire_put16(icmp + 2, reply_fold(reply_sum(icmp, WIRE_ICMP_LEN + quote, 0)));
	return NET_ETH_HEADER + WIRE_IP_LEN + WIRE_ICMP_LEN + quote;
}

size_t net_reply_build(const uint8_t *frame, const struct net_flow *flow, uint8_t out[NET_REPLY_MAX])
{
	if (flow->proto == IPPROTO_TCP && flow->transport)
		return reply_reset(frame, flow, out);
	/* RFC 1122 §3.2.2: no error about what may be an error itself. */
	if (flow->proto == IPPROTO_ICMP && !flow->transport)
		return 0;
	return reply_prohibited(frame, flow, out);
}
