/* SPDX-License-Identifier: Apache-2.0 */
#include "net/build.h"

#include <netinet/in.h>
#include <string.h>

#include "net/packet.h"
#include "net/wire.h"

const uint8_t net_gateway_mac[6] = { 0x52, 0x55, 0x0a, 0x00, 0x02, 0x02 };

uint32_t net_sum_add(const uint8_t *p, size_t n, uint32_t sum)
{
	for (; n > 1; p += 2, n -= 2)
		sum += wire_get16(p);
	return n ? sum + (uint32_t)(p[0] << 8) : sum;
}

uint16_t net_sum_fold(uint32_t sum)
{
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)~sum;
}

uint16_t net_sum_replace(uint16_t sum, uint32_t from, uint32_t to)
{
	const uint32_t out = (~from >> 16 & 0xffff) + (~from & 0xffff);

	return net_sum_fold((uint16_t)~sum + out + (to >> 16) + (to & 0xffff));
}

static uint8_t *net_build_ipv4(uint8_t *ip, const struct net_ends *e, uint8_t proto, size_t payload)
{
	memset(ip, 0, WIRE_IP_LEN);
	ip[0] = 0x45;
	wire_put16(ip + 2, (unsigned)(WIRE_IP_LEN + payload));
	ip[8] = 64;
	ip[9] = proto;
	wire_put32(ip + 12, netaddr_low32(&e->src));
	wire_put32(ip + 16, netaddr_low32(&e->dst));
	wire_put16(ip + 10, net_sum_fold(net_sum_add(ip, WIRE_IP_LEN, 0)));
	return ip + WIRE_IP_LEN;
}

static uint8_t *net_build_ipv6(uint8_t *ip, const struct net_ends *e, uint8_t proto, size_t payload)
{
	memset(ip, 0, WIRE_IPV6_LEN);
	ip[0] = 0x60;
	wire_put16(ip + 4, (unsigned)payload);
	ip[6] = proto;
	ip[7] = 64;
	memcpy(ip + 8, e->src.b, 16);
	memcpy(ip + 24, e->dst.b, 16);
	return ip + WIRE_IPV6_LEN;
}

uint8_t *net_build_ip(uint8_t *out, const struct net_ends *e, uint8_t proto, size_t payload)
{
	const bool v4 = netaddr_is_v4(&e->src);

	memcpy(out, e->from_guest ? net_gateway_mac : e->guest_mac, 6);
	memcpy(out + 6, e->from_guest ? e->guest_mac : net_gateway_mac, 6);
	wire_put16(out + 12, v4 ? WIRE_ETHERTYPE_IPV4 : WIRE_ETHERTYPE_IPV6);
	return v4 ? net_build_ipv4(out + NET_ETH_HEADER, e, proto, payload)
		  : net_build_ipv6(out + NET_ETH_HEADER, e, proto, payload);
}

uint16_t net_build_sum(const struct net_ends *e, uint8_t proto, const uint8_t *p, size_t len)
{
	/* IPv4's addresses are the last 4 bytes of ours. */
	const size_t skip = netaddr_is_v4(&e->src) ? 12 : 0;
	uint32_t sum = (uint32_t)(proto + len);

	sum = net_sum_add(e->src.b + skip, 16 - skip, sum);
	sum = net_sum_add(e->dst.b + skip, 16 - skip, sum);
	return net_sum_fold(net_sum_add(p, len, sum));
}

size_t net_build_udp(uint8_t *out, const struct net_ends *e, uint16_t sport, uint16_t dport,
		     const void *data, size_t len)
{
	uint8_t *udp = net_build_ip(out, e, IPPROTO_UDP, WIRE_UDP_LEN + len);
	uint16_t sum;

	wire_put16(udp, sport);
	wire_put16(udp + 2, dport);
	wire_put16(udp + 4, (unsigned)(WIRE_UDP_LEN + len));
	wire_put16(udp + 6, 0);
	memcpy(udp + WIRE_UDP_LEN, data, len);
	sum = net_build_sum(e, IPPROTO_UDP, udp, WIRE_UDP_LEN + len);
	/* 0 would say that there is none. */
	wire_put16(udp + 6, sum ? sum : 0xffff);
	return (size_t)(udp - out) + WIRE_UDP_LEN + len;
}

size_t net_build_tcp(uint8_t *out, const struct net_ends *e, const struct net_segment *s)
{
	const size_t header = WIRE_TCP_LEN + (s->mss ? 4 : 0);
	uint8_t *tcp = net_build_ip(out, e, IPPROTO_TCP, header + s->len);

	wire_put16(tcp, s->sport);
	wire_put16(tcp + 2, s->dport);
	wire_put32(tcp + 4, s->seq);
	wire_put32(tcp + 8, s->ack);
	tcp[12] = (uint8_t)(header / 4 << 4);
	tcp[13] = s->flags;
	wire_put16(tcp + 14, s->window);
	wire_put32(tcp + 16, 0);
	if (s->mss) {
		wire_put16(tcp + 20, 0x0204);
		wire_put16(tcp + 22, s->mss);
	}
	if (s->len)
		memcpy(tcp + header, s->data, s->len);
	wire_put16(tcp + 16, net_build_sum(e, IPPROTO_TCP, tcp, header + s->len));
	return (size_t)(tcp - out) + header + s->len;
}
