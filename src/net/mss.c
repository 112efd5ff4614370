/* SPDX-License-Identifier: Apache-2.0 */
#include "net/mss.h"

#include <netinet/in.h>

#include "net/policy.h"
#include "net/wire.h"

#define MSS_OPTION_END 0
#define MSS_OPTION_NOP 1
#define MSS_OPTION 2 /* RFC 9293 §3.7.1; 4 bytes with its kind and length */
#define MSS_OPTION_LEN 4u

/* RFC 1624: a checksum after 16 bits under it have changed. */
static uint16_t mss_update_sum(uint16_t sum, uint16_t from, uint16_t to)
{
	uint32_t s = (uint16_t)~sum + (uint32_t)(uint16_t)~from + to;

	s = (s & 0xffff) + (s >> 16);
	return (uint16_t) ~((s & 0xffff) + (s >> 16));
}

/* The offer in the options of @tcp, a header of @len bytes; NULL = none. */
static uint8_t *mss_find(uint8_t *tcp, size_t len)
{
	size_t at = WIRE_TCP_LEN;

	while (at < len && tcp[at] != MSS_OPTION_END) {
		if (tcp[at] == MSS_OPTION_NOP) {
			at++;
			continue;
		}
		if (at + 1 == len || tcp[at + 1] < 2 || tcp[at + 1] > len - at)
			return NULL;
		if (tcp[at] == MSS_OPTION)
			return tcp[at + 1] == MSS_OPTION_LEN ? tcp + at + 2 : NULL;
		at += tcp[at + 1];
	}
	return NULL;
}

void mss_raise(uint8_t *frame, size_t len)
{
	uint8_t *ip = frame + NET_ETH_HEADER, *tcp = ip + WIRE_IP_LEN, *offer;
	size_t header;
	uint16_t was;

	if (len < NET_ETH_HEADER + WIRE_IP_LEN + WIRE_TCP_LEN ||
	    wire_get16(frame + 12) != WIRE_ETHERTYPE_IPV4 || ip[0] != 0x45 ||
	    ip[9] != IPPROTO_TCP || !(tcp[13] & WIRE_TCP_SYN))
		return;
	header = (size_t)(tcp[12] >> 4) * 4;
	if (header < WIRE_TCP_LEN || header > len - NET_ETH_HEADER - WIRE_IP_LEN)
		return;
	offer = mss_find(tcp, header);
	/* The sum is of 16-bit words, and an option may begin at an odd place. */
	if (!offer || (size_t)(offer - tcp) % 2 || (was = wire_get16(offer)) >= MSS_FROM_GUEST)
		return;
	wire_put16(offer, MSS_FROM_GUEST);
	wire_put16(tcp + 16, mss_update_sum(wire_get16(tcp + 16), was, MSS_FROM_GUEST));
}
