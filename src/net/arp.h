/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_NET_ARP_H
#define MSB_NET_ARP_H

/* ARP in the sandbox's own network, for addresses that no stack answers for. Spec: RFC 826. */

#include "net/policy.h"

#define NET_ARP_FRAME (NET_ETH_HEADER + 28u)

/**
 * net_arp_build() - the answer to the guest's question who has an address
 * @p:     with closed set all of the network is answered for, else the group's part of it
 * @frame: ARP that net_policy_headers() passed
 *
 * Addresses that nobody has are answered for as well: what is sent there is then refused at
 * once, where a question without an answer would take seconds.
 *
 * Return: its length; 0: it is not ours to answer.
 */
size_t net_arp_build(const struct net_policy *p, const uint8_t *frame, uint8_t out[NET_ARP_FRAME]);

#endif
