/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_NET_REPLY_H
#define MSB_NET_REPLY_H

/* The answer to a denied frame, so that a program fails at once instead of waiting. */

#include "net/policy.h"

/* Ethernet, IP, ICMP, the denied packet's IP header (IPv4 has up to 60 bytes) and 8 more. */
#define NET_REPLY_MAX (14 + 40 + 8 + 60 + 8)

/**
 * net_reply_build() - a TCP reset, or ICMP "communication administratively prohibited"
 * @frame: a frame that net_policy_check() denied, with the @flow it gave
 * @out:   the answer, addressed to the guest
 *
 * Return: its length; 0 if the frame gets none (a reset, for example).
 */
size_t net_reply_build(const uint8_t *frame, const struct net_flow *flow,
		       uint8_t out[NET_REPLY_MAX]);

#endif
