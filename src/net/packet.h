/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_NET_PACKET_H
#define MSB_NET_PACKET_H

/*
 * What an Ethernet frame carries, read with its bounds; nothing is judged here.
 *
 * Specs: RFC 826 (ARP), RFC 791 (IPv4), RFC 8200 (IPv6), RFC 9293 (TCP), RFC 768 (UDP),
 * RFC 792 and 4443 (ICMP).
 */

#include "codec/netaddr.h"

#define NET_ETH_HEADER 14u
#define NET_MTU 65520u /* the largest that libslirp takes */
#define NET_FRAME_MAX (NET_ETH_HEADER + NET_MTU)

enum net_packet {
	NET_PACKET_MALFORMED, /* shorter than its headers say, or not what they say */
	NET_PACKET_OTHER, /* neither ARP, IPv4 nor IPv6 */
	NET_PACKET_ARP,
	NET_PACKET_IP,
};

enum net_fragment { NET_FRAGMENT_NONE, NET_FRAGMENT_FIRST, NET_FRAGMENT_LATER };

/* Numbers are in host byte order. */
struct net_flow {
	struct netaddr src, dst; /* of ARP: the sender's, and none */
	uint16_t sport, dport; /* TCP and UDP; ICMP echo: the identifier, and 0 */
	uint8_t version; /* 4 or 6; 0 = no IP header was accepted */
	uint8_t proto; /* IPPROTO_* */
	uint8_t tcp_flags, icmp_type, hops;
	uint32_t tcp_seq, tcp_ack;
	uint16_t tcp_window;
	uint16_t ip_header; /* its length */
	uint16_t ip_total; /* header and payload; all of it is inside the frame */
	uint16_t payload; /* where TCP's or UDP's data starts, from the IP header */
	uint16_t payload_len;
	bool options; /* IPv4 options or IPv6 extension headers */
	enum net_fragment fragment;
	bool neighbour; /* IPv6's neighbour discovery, RFC 4861, in its right form */
	bool transport; /* the TCP, UDP or ICMP header was accepted */
	unsigned rule; /* which rule decided, from 1; 0 = none */
};

/* Reads a frame of any length. @f is cleared first and filled as far as it could be read. */
enum net_packet net_packet_read(const uint8_t *frame, size_t len, struct net_flow *f);

#endif
