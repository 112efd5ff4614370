/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_NET_POLICY_H
#define MSB_NET_POLICY_H

/*
 * What a sandbox may send: the verdict on each Ethernet frame of its guest.
 *
 * Pure: bytes in, verdict out.  Addresses and ports are in host byte order.
 * Specs: RFC 826 (ARP), RFC 791 (IPv4), RFC 9293 (TCP), RFC 768 (UDP), RFC 792 (ICMP),
 * RFC 6890 and the IANA IPv4 special-purpose address registry.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The sandbox's network: every sandbox has the same, each behind its own NAT. */
#define NET_GUEST_IP 0x0a00020fu /* 10.0.2.15/24 */
#define NET_GATEWAY_IP 0x0a000202u /* 10.0.2.2: router and DNS server */
#define NET_HOST_IP 0x0a000204u /* 10.0.2.4: the host, scope "any" only */
#define NET_PREFIX_IP 0x0a000200u
#define NET_PREFIX_MASK 0xffffff00u

#define NET_ETH_HEADER 14u
#define NET_MTU 65520u /* the largest that libslirp takes */
#define NET_FRAME_MAX (NET_ETH_HEADER + NET_MTU)

#define NET_HOST_ADDRS_MAX 256

enum net_scope {
	NET_SCOPE_NONE, /* nothing */
	NET_SCOPE_PUBLIC, /* the internet: globally routable addresses, DNS at the gateway */
	NET_SCOPE_ANY, /* everything unicast, the host too, but no metadata service */
};

/* "none", "public", "any". Return: 0, or -EINVAL. */
int net_scope_parse(const char *s, enum net_scope *out);
const char *net_scope_name(enum net_scope scope);

enum net_verdict {
	NET_PASS,
	NET_DROP, /* malformed or mere chatter: no answer, only counted */
	NET_DENY, /* an attempt to reach what it may not: answered, logged, counted */
};

enum net_reason {
	NET_REASON_NONE,
	/* dropped */
	NET_REASON_MALFORMED, /* shorter than its headers say, or not what they say */
	NET_REASON_ETHERTYPE, /* neither ARP nor IPv4 */
	NET_REASON_SPOOFED, /* not the guest's own MAC or IP address as source */
	NET_REASON_BROADCAST, /* broadcast or multicast: there is nobody else */
	NET_REASON_ICMP, /* ICMP other than an echo request */
	/* denied */
	NET_REASON_SCOPE, /* scope none */
	NET_REASON_PROTOCOL, /* neither TCP, UDP nor ICMP */
	NET_REASON_OPTIONS, /* IP options, such as source routes */
	NET_REASON_FRAGMENT,
	NET_REASON_METADATA, /* a cloud's metadata service */
	NET_REASON_LOOPBACK,
	NET_REASON_PRIVATE,
	NET_REASON_LINK_LOCAL,
	NET_REASON_SPECIAL, /* reserved by IANA for something else */
	NET_REASON_HOST, /* an address of the host itself */
	NET_REASON_GATEWAY, /* our own addresses, but not a service they offer */
	NET_REASONS,
};

const char *net_reason_name(enum net_reason r);

/* What was read from an IPv4 frame; valid as far as the verdict's reason allows. */
struct net_flow {
	uint32_t src, dst; /* 0 if no IPv4 header was accepted */
	uint16_t sport, dport; /* TCP and UDP */
	uint8_t proto; /* IPPROTO_* */
	uint8_t tcp_flags;
	uint32_t tcp_seq, tcp_ack;
	uint16_t ip_header; /* its length */
	uint16_t ip_total; /* header and payload; all of it is inside the frame */
	bool transport; /* the TCP, UDP or ICMP header was accepted */
};

struct net_policy {
	enum net_scope scope;
	uint8_t guest_mac[6];
	uint32_t host_addrs[NET_HOST_ADDRS_MAX];
	size_t n_host_addrs;
	/* More addresses than that: public denies what it cannot tell from the host. */
	bool host_addrs_incomplete;
};

/**
 * net_policy_check() - may the guest send this frame?
 * @frame, @len: as it came, of any length
 * @flow: filled as far as the frame could be read; cleared first
 * @why:  NET_REASON_NONE on NET_PASS
 */
enum net_verdict net_policy_check(const struct net_policy *p, const uint8_t *frame, size_t len,
				  struct net_flow *flow, enum net_reason *why);

/* Would scope public let an address pass if the host did not own it? */
bool net_policy_is_public(uint32_t addr);

#endif
