/* SPDX-License-Identifier: Apache-2.0 */
#include "net/arp.h"

#include <string.h>

#include "net/build.h"
#include "net/wire.h"

#define ARP_REQUEST 1
#define ARP_REPLY 2

static bool arp_is_ours(const struct net_policy *p, uint32_t addr)
{
	const struct netaddr a = netaddr_v4(addr);

	if (addr == NET_GUEST_IP || (addr & NET_PREFIX_MASK) != NET_PREFIX_IP)
		return false;
	return p->closed || net_policy_in_group(p, &a);
}

size_t net_arp_build(const struct net_policy *p, const uint8_t *frame, uint8_t out[NET_ARP_FRAME])
{
	const uint8_t *ask = frame + NET_ETH_HEADER;
	uint8_t *arp = out + NET_ETH_HEADER;

	if (wire_get16(ask + 6) != ARP_REQUEST || !arp_is_ours(p, wire_get32(ask + 24)))
		return 0;
	memcpy(out, frame + 6, 6);
	memcpy(out + 6, net_gateway_mac, 6);
	wire_put16(out + 12, WIRE_ETHERTYPE_ARP);
	memcpy(arp, ask, 6); /* Ethernet, IPv4 and their lengths */
	wire_put16(arp + 6, ARP_REPLY);
	memcpy(arp + 8, net_gateway_mac, 6);
	memcpy(arp + 14, ask + 24, 4);
	memcpy(arp + 18, ask + 8, 10);
	return NET_ARP_FRAME;
}
