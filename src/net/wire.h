/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_NET_WIRE_H
#define MSB_NET_WIRE_H

/* Header sizes, numbers and byte order of what is on the wire. */

#include <stdint.h>

#define WIRE_ETHERTYPE_IPV4 0x0800
#define WIRE_ETHERTYPE_ARP 0x0806
#define WIRE_ETHERTYPE_IPV6 0x86dd

#define WIRE_ARP_LEN 28u /* RFC 826 with Ethernet and IPv4 addresses */
#define WIRE_IP_LEN 20u /* without options */
#define WIRE_IPV6_LEN 40u
#define WIRE_TCP_LEN 20u
#define WIRE_UDP_LEN 8u
#define WIRE_ICMP_LEN 8u
#define WIRE_NEIGHBOUR_LEN 24u /* RFC 4861 without options */

#define WIRE_ICMP_UNREACHABLE 3 /* RFC 792 */
#define WIRE_ICMP_PROHIBITED 13 /* administratively, RFC 1812 §5.2.7.1 */
#define WIRE_ICMP_ECHO 8
#define WIRE_ICMP_ECHO_REPLY 0

#define WIRE_ICMP6_UNREACHABLE 1 /* RFC 4443 */
#define WIRE_ICMP6_PROHIBITED 1 /* administratively */
#define WIRE_ICMP6_ECHO 128
#define WIRE_ICMP6_ECHO_REPLY 129
#define WIRE_ICMP6_SOLICIT 135 /* RFC 4861: neighbour solicitation and advertisement */
#define WIRE_ICMP6_ADVERT 136

#define WIRE_TCP_FIN 0x01
#define WIRE_TCP_SYN 0x02
#define WIRE_TCP_RST 0x04
#define WIRE_TCP_PSH 0x08
#define WIRE_TCP_ACK 0x10

static inline uint16_t wire_get16(const uint8_t *p)
{
	return (uint16_t)(p[0] << 8 | p[1]);
}

static inline uint32_t wire_get32(const uint8_t *p)
{
	return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static inline void wire_put16(uint8_t *p, unsigned v)
{
	p[0] = (uint8_t)(v >> 8);
	p[1] = (uint8_t)v;
}

static inline void wire_put32(uint8_t *p, uint32_t v)
{
	wire_put16(p, v >> 16);
	wire_put16(p + 2, v & 0xffff);
}

#endif
