/* SPDX-License-Identifier: Apache-2.0 */
#include "net/packet.h"

#include <netinet/in.h>

#include "net/wire.h"

static bool packet_arp(const uint8_t *a, size_t len, struct net_flow *f)
{
	/* Ethernet, IPv4, 6- and 4-byte addresses; request or reply. */
	if (len < WIRE_ARP_LEN || wire_get16(a) != 1 || wire_get16(a + 2) != WIRE_ETHERTYPE_IPV4 ||
	    a[4] != 6 || a[5] != 4 || wire_get16(a + 6) < 1 || wire_get16(a + 6) > 2)
		return false;
	f->src = netaddr_v4(wire_get32(a + 14));
	return true;
}

/* @t: @len bytes behind the IP header. Return: does the header fit and make sense? */
static bool packet_transport(struct net_flow *f, const uint8_t *t, size_t len)
{
	size_t header, end = len;

	switch (f->proto) {
	case IPPROTO_TCP:
		if (len < WIRE_TCP_LEN)
			return false;
		header = (size_t)(t[12] >> 4) * 4;
		if (header < WIRE_TCP_LEN || header > len)
			return false;
		f->tcp_seq = wire_get32(t + 4);
		f->tcp_ack = wire_get32(t + 8);
		f->tcp_flags = t[13];
		f->tcp_window = wire_get16(t + 14);
		break;
	case IPPROTO_UDP:
		header = WIRE_UDP_LEN;
		if (len < header || wire_get16(t + 4) < header || wire_get16(t + 4) > len)
			return false;
		end = wire_get16(t + 4);
		break;
	default:
		if (len < WIRE_ICMP_LEN)
			return false;
		f->icmp_type = t[0];
		f->sport = wire_get16(t + 4);
		return true;
	}
	f->sport = wire_get16(t);
	f->dport = wire_get16(t + 2);
	f->payload = (uint16_t)(f->ip_header + header);
	f->payload_len = (uint16_t)(end - header);
	return f->sport != 0 && f->dport != 0;
}

static bool packet_ipv4(struct net_flow *f, const uint8_t *ip, size_t len)
{
	size_t header, total;
	unsigned fragment;

	if (len < WIRE_IP_LEN || ip[0] >> 4 != 4)
		return false;
	header = (size_t)(ip[0] & 15) * 4;
	total = wire_get16(ip + 2);
	/* More bytes than the packet has are Ethernet's padding. */
	if (header < WIRE_IP_LEN || total < header || total > len)
		return false;
	f->version = 4;
	f->ip_header = (uint16_t)header;
	f->ip_total = (uint16_t)total;
	f->hops = ip[8];
	f->proto = ip[9];
	f->src = netaddr_v4(wire_get32(ip + 12));
	f->dst = netaddr_v4(wire_get32(ip + 16));
	f->options = header != WIRE_IP_LEN;
	fragment = wire_get16(ip + 6) & 0x3fffu; /* more-fragments bit and offset */
	if (fragment)
		f->fragment = fragment & 0x1fffu ? NET_FRAGMENT_LATER : NET_FRAGMENT_FIRST;
	return true;
}

static bool packet_ipv6(struct net_flow *f, const uint8_t *ip, size_t len)
{
	size_t total;

	if (len < WIRE_IPV6_LEN || ip[0] >> 4 != 6)
		return false;
	total = WIRE_IPV6_LEN + wire_get16(ip + 4);
	if (total > len || total > NET_MTU)
		return false;
	f->version = 6;
	f->ip_header = WIRE_IPV6_LEN;
	f->ip_total = (uint16_t)total;
	f->proto = ip[6];
	f->hops = ip[7];
	memcpy(f->src.b, ip + 8, 16);
	memcpy(f->dst.b, ip + 24, 16);
	/* On the wire such an address is not the IPv4 that it is for us: RFC 4038 §4.2. */
	if (netaddr_is_v4(&f->src) || netaddr_is_v4(&f->dst))
		return false;
	switch (f->proto) {
	case IPPROTO_FRAGMENT:
		if (total < WIRE_IPV6_LEN + 8)
			return false;
		f->fragment = wire_get16(ip + WIRE_IPV6_LEN + 2) & 0xfff8 ? NET_FRAGMENT_LATER
									  : NET_FRAGMENT_FIRST;
		return true;
	case IPPROTO_HOPOPTS:
	case IPPROTO_ROUTING:
	case IPPROTO_DSTOPTS:
	case IPPROTO_AH:
	case IPPROTO_MH:
		f->options = true;
		return true;
	default:
		return true;
	}
}

/* Code 0, and of this link: nothing that was forwarded still has all hops. RFC 4861 §7.1. */
static bool packet_neighbour(const struct net_flow *f, const uint8_t *icmp)
{
	return (f->icmp_type == WIRE_ICMP6_SOLICIT || f->icmp_type == WIRE_ICMP6_ADVERT) &&
	       icmp[1] == 0 && f->hops == 255 && f->ip_total >= f->ip_header + WIRE_NEIGHBOUR_LEN;
}

static bool packet_known(const struct net_flow *f)
{
	return f->proto == IPPROTO_TCP || f->proto == IPPROTO_UDP ||
	       f->proto == (f->version == 4 ? IPPROTO_ICMP : IPPROTO_ICMPV6);
}

enum net_packet net_packet_read(const uint8_t *frame, size_t len, struct net_flow *f)
{
	const uint8_t *ip = frame + NET_ETH_HEADER;
	bool ok;

	*f = (struct net_flow){ .version = 0 };
	if (len < NET_ETH_HEADER || len > NET_FRAME_MAX)
		return NET_PACKET_MALFORMED;
	len -= NET_ETH_HEADER;
	switch (wire_get16(frame + 12)) {
	case WIRE_ETHERTYPE_ARP:
		return packet_arp(ip, len, f) ? NET_PACKET_ARP : NET_PACKET_MALFORMED;
	case WIRE_ETHERTYPE_IPV4:
		ok = packet_ipv4(f, ip, len);
		break;
	case WIRE_ETHERTYPE_IPV6:
		ok = packet_ipv6(f, ip, len);
		break;
	default:
		return NET_PACKET_OTHER;
	}
	if (!ok) {
		*f = (struct net_flow){ .version = 0 };
		return NET_PACKET_MALFORMED;
	}
	if (!f->options && !f->fragment && packet_known(f))
		f->transport = packet_transport(f, ip + f->ip_header,
						(size_t)(f->ip_total - f->ip_header));
	if (f->transport && f->proto == IPPROTO_ICMPV6)
		f->neighbour = packet_neighbour(f, ip + f->ip_header);
	return NET_PACKET_IP;
}
