/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_NET_BUILD_H
#define MSB_NET_BUILD_H

/* Frames of our own. Specs: RFC 791, RFC 8200, RFC 768, RFC 9293, RFC 1071. */

#include "codec/netaddr.h"

/* The gateway's MAC as the stack answers it to ARP. */
extern const uint8_t net_gateway_mac[6];

/* The most bytes before the payload. */
#define NET_BUILD_UDP (14u + 40u + 8u)
#define NET_BUILD_TCP (14u + 40u + 20u + 4u)

/* The Internet checksum: adds @n bytes to @sum; folds it. */
uint32_t net_sum_add(const uint8_t *p, size_t n, uint32_t sum);
uint16_t net_sum_fold(uint32_t sum);

/* A checksum's new value when @from among what it covers becomes @to: RFC 1624. */
uint16_t net_sum_replace(uint16_t sum, uint32_t from, uint32_t to);

/* Between whom, both of the same family. */
struct net_ends {
	const uint8_t *guest_mac;
	bool from_guest; /* else to it */
	struct netaddr src, dst;
};

/* Ethernet's and IP's header, for @payload bytes behind them. Return: where those go. */
uint8_t *net_build_ip(uint8_t *out, const struct net_ends *e, uint8_t proto, size_t payload);

/* The checksum of @len bytes behind a header of net_build_ip(), and the pseudo header. */
uint16_t net_build_sum(const struct net_ends *e, uint8_t proto, const uint8_t *p, size_t len);

/* @out: NET_BUILD_UDP + @len bytes. Return: how many of them are used. */
size_t net_build_udp(uint8_t *out, const struct net_ends *e, uint16_t sport, uint16_t dport,
		     const void *data, size_t len);

struct net_segment {
	uint16_t sport, dport;
	uint32_t seq, ack;
	uint8_t flags;
	uint16_t window;
	uint16_t mss; /* 0 = no option */
	const void *data;
	size_t len;
};

/* @out: NET_BUILD_TCP + the data. Return: how much of it is used. */
size_t net_build_tcp(uint8_t *out, const struct net_ends *e, const struct net_segment *s);

#endif
