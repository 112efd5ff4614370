/* SPDX-License-Identifier: Apache-2.0 */
#include "net/policy.h"

#include <errno.h>
#include <netinet/in.h>
#include <string.h>

#include "base/mem.h"
#include "net/wire.h"

enum net_group {
	NET_GROUP_PUBLIC,
	NET_GROUP_METADATA,
	NET_GROUP_LOOPBACK,
	NET_GROUP_PRIVATE,
	NET_GROUP_LINK_LOCAL,
	NET_GROUP_SPECIAL, /* odd, but a private network may use it */
	NET_GROUP_NOWHERE, /* no unicast address at all */
	NET_GROUP_CAST, /* broadcast and multicast */
};

struct net_range {
	uint32_t first;
	unsigned prefix;
	enum net_group group;
};

/*
 * The first match counts; what is not here is public.  The documentation ranges
 * (192.0.2.0/24, 198.51.100.0/24, 203.0.113.0/24) are left in: they lead nowhere,
 * and test networks use them as a stand-in for the internet.
 */
static const struct net_range net_ranges[] = {
	/* Metadata services hand out credentials of the machine. */
	{ 0xa9fea9fe, 32, NET_GROUP_METADATA }, /* 169.254.169.254: most clouds */
	{ 0xa9feaa02, 32, NET_GROUP_METADATA }, /* 169.254.170.2: AWS containers */
	{ 0xa9feaa17, 32, NET_GROUP_METADATA }, /* 169.254.170.23: AWS pods */
	{ 0x646464c8, 32, NET_GROUP_METADATA }, /* 100.100.100.200: Alibaba */
	{ 0xa83f8110, 32, NET_GROUP_METADATA }, /* 168.63.129.16: Azure, a public address */
	{ 0xc00000c0, 32, NET_GROUP_METADATA }, /* 192.0.0.192: Oracle */
	{ 0x00000000, 8, NET_GROUP_NOWHERE }, /* connecting to 0.0.0.0 reaches the host */
	{ 0x0a000000, 8, NET_GROUP_PRIVATE },
	{ 0x64400000, 10, NET_GROUP_PRIVATE }, /* 100.64/10: between a provider and its NAT */
	{ 0x7f000000, 8, NET_GROUP_LOOPBACK },
	{ 0xa9fe0000, 16, NET_GROUP_LINK_LOCAL },
	{ 0xac100000, 12, NET_GROUP_PRIVATE },
	{ 0xc0000000, 24, NET_GROUP_SPECIAL }, /* protocol assignments */
	{ 0xc0a80000, 16, NET_GROUP_PRIVATE },
	{ 0xc6120000, 15, NET_GROUP_SPECIAL }, /* 198.18/15: benchmarks */
	{ 0xe0000000, 4, NET_GROUP_CAST },
	{ 0xffffffff, 32, NET_GROUP_CAST },
	{ 0xf0000000, 4, NET_GROUP_NOWHERE },
};

static enum net_group net_group_of(uint32_t addr)
{
	for (size_t i = 0; i < ARRAY_SIZE(net_ranges); i++)
		if ((addr ^ net_ranges[i].first) >> (32 - net_ranges[i].prefix) == 0)
			return net_ranges[i].group;
	return NET_GROUP_PUBLIC;
}

bool net_policy_is_public(uint32_t addr)
{
	return net_group_of(addr) == NET_GROUP_PUBLIC;
}

static const char *const net_scope_names[] = {
	[NET_SCOPE_NONE] = "none",
	[NET_SCOPE_PUBLIC] = "public",
	[NET_SCOPE_ANY] = "any",
};

int net_scope_parse(const char *s, enum net_scope *out)
{
	for (size_t i = 0; i < ARRAY_SIZE(net_scope_names); i++) {
		if (strcmp(s, net_scope_names[i]))
			continue;
		*out = (enum net_scope)i;
		return 0;
	}
	return -EINVAL;
}

const char *net_scope_name(enum net_scope scope)
{
	return net_scope_names[scope];
}

const char *net_reason_name(enum net_reason r)
{
	static const char *const names[NET_REASONS] = {
		[NET_REASON_NONE] = "none",           [NET_REASON_MALFORMED] = "malformed",
		[NET_REASON_ETHERTYPE] = "ethertype", [NET_REASON_SPOOFED] = "spoofed",
		[NET_REASON_BROADCAST] = "broadcast", [NET_REASON_ICMP] = "icmp",
		[NET_REASON_SCOPE] = "scope",         [NET_REASON_PROTOCOL] = "protocol",
		[NET_REASON_OPTIONS] = "options",     [NET_REASON_FRAGMENT] = "fragment",
		[NET_REASON_METADATA] = "metadata",   [NET_REASON_LOOPBACK] = "loopback",
		[NET_REASON_PRIVATE] = "private",     [NET_REASON_LINK_LOCAL] = "link-local",
		[NET_REASON_SPECIAL] = "special",     [NET_REASON_HOST] = "host",
		[NET_REASON_GATEWAY] = "gateway",
	};

	return names[r];
}

/* ---- destinations ---------------------------------------------------- */

static bool net_is_host(const struct net_policy *p, uint32_t addr)
{
	for (size_t i = 0; i < p->n_host_addrs; i++)
		if (p->host_addrs[i] == addr)
			return true;
	return p->host_addrs_incomplete;
}

/* Our own network: the few services that the gateway offers. */
static enum net_reason net_check_own(const struct net_policy *p, const struct net_flow *f)
{
	if (f->dst == NET_GATEWAY_IP) {
		if (f->proto == IPPROTO_ICMP || f->dport == 53)
			return NET_REASON_NONE;
		return NET_REASON_GATEWAY;
	}
	if (f->dst == NET_HOST_IP && p->scope == NET_SCOPE_ANY) {
		/* The stack has a TFTP server of its own there, which nobody asked for. */
		if (f->proto == IPPROTO_UDP && f->dport == 69)
			return NET_REASON_GATEWAY;
		return NET_REASON_NONE;
	}
	return f->dst == NET_HOST_IP ? NET_REASON_HOST : NET_REASON_GATEWAY;
}

/* Is @f's destination within the scope? */
static enum net_reason net_check_dst(const struct net_policy *p, const struct net_flow *f)
{
	if (p->scope == NET_SCOPE_NONE)
		return NET_REASON_SCOPE;
	if ((f->dst & NET_PREFIX_MASK) == NET_PREFIX_IP)
		return net_check_own(p, f);

	switch (net_group_of(f->dst)) {
	case NET_GROUP_METADATA:
		return NET_REASON_METADATA;
	case NET_GROUP_LOOPBACK:
		return NET_REASON_LOOPBACK;
	case NET_GROUP_NOWHERE:
	case NET_GROUP_CAST:
		return NET_REASON_SPECIAL;
	case NET_GROUP_PRIVATE:
		return p->scope == NET_SCOPE_ANY ? NET_REASON_NONE : NET_REASON_PRIVATE;
	case NET_GROUP_LINK_LOCAL:
		return p->scope == NET_SCOPE_ANY ? NET_REASON_NONE : NET_REASON_LINK_LOCAL;
	case NET_GROUP_SPECIAL:
		return p->scope == NET_SCOPE_ANY ? NET_REASON_NONE : NET_REASON_SPECIAL;
	case NET_GROUP_PUBLIC:
		break;
	}
	/* A service that listens on the host's public address is the host's all the same. */
	if (p->scope == NET_SCOPE_PUBLIC && net_is_host(p, f->dst))
		return NET_REASON_HOST;
	return NET_REASON_NONE;
}

/* ---- headers --------------------------------------------------------- */

static enum net_verdict net_drop(enum net_reason *why, enum net_reason r)
{
	*why = r;
	return NET_DROP;
}

static enum net_verdict net_deny(enum net_reason *why, enum net_reason r)
{
	*why = r;
	return NET_DENY;
}

static enum net_verdict net_check_arp(const struct net_policy *p, const uint8_t *a, size_t len,
				      enum net_reason *why)
{
	uint32_t sender;

	/* Ethernet, IPv4, 6- and 4-byte addresses; request or reply. */
	if (len < WIRE_ARP_LEN || wire_get16(a) != 1 || wire_get16(a + 2) != WIRE_ETHERTYPE_IPV4 ||
	    a[4] != 6 || a[5] != 4 || wire_get16(a + 6) < 1 || wire_get16(a + 6) > 2)
		return net_drop(why, NET_REASON_MALFORMED);
	sender = wire_get32(a + 14);
	/* 0.0.0.0: a probe whether the address is taken, RFC 5227. */
	if (memcmp(a + 8, p->guest_mac, 6) || (sender != NET_GUEST_IP && sender != 0))
		return net_drop(why, NET_REASON_SPOOFED);
	return NET_PASS;
}

/* @t: @len bytes behind the IP header. Return: does the header fit and make sense? */
static bool net_read_transport(struct net_flow *f, const uint8_t *t, size_t len)
{
	size_t header;

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
		break;
	case IPPROTO_UDP:
		if (len < WIRE_UDP_LEN || wire_get16(t + 4) < WIRE_UDP_LEN ||
		    wire_get16(t + 4) > len)
			return false;
		break;
	default:
		return len >= WIRE_ICMP_LEN;
	}
	f->sport = wire_get16(t);
	f->dport = wire_get16(t + 2);
	return f->sport != 0 && f->dport != 0;
}

/* Header and lengths of an IPv4 packet in @len bytes at @ip. */
static bool net_read_ip(struct net_flow *f, const uint8_t *ip, size_t len)
{
	size_t header, total;

	if (len < WIRE_IP_LEN || ip[0] >> 4 != 4)
		return false;
	header = (size_t)(ip[0] & 15) * 4;
	total = wire_get16(ip + 2);
	/* More bytes than the packet has are Ethernet's padding. */
	if (header < WIRE_IP_LEN || total < header || total > len)
		return false;
	f->ip_header = (uint16_t)header;
	f->ip_total = (uint16_t)total;
	f->proto = ip[9];
	f->src = wire_get32(ip + 12);
	f->dst = wire_get32(ip + 16);
	return true;
}

static enum net_verdict net_check_ip(const struct net_policy *p, const uint8_t *ip, size_t len,
				     struct net_flow *f, enum net_reason *why)
{
	unsigned fragment;

	if (!net_read_ip(f, ip, len)) {
		*f = (struct net_flow){ .src = 0 };
		return net_drop(why, NET_REASON_MALFORMED);
	}
	if (f->src != NET_GUEST_IP)
		return net_drop(why, NET_REASON_SPOOFED);
	if (net_group_of(f->dst) == NET_GROUP_CAST || f->dst == (NET_PREFIX_IP | 0xff))
		return net_drop(why, NET_REASON_BROADCAST);
	if (f->ip_header != WIRE_IP_LEN)
		return net_deny(why, NET_REASON_OPTIONS);
	if (f->proto != IPPROTO_TCP && f->proto != IPPROTO_UDP && f->proto != IPPROTO_ICMP)
		return net_deny(why, NET_REASON_PROTOCOL);
	/*
	 * Fragments never pass: only the first shows its ports, and reassembly is
	 * the stack's memory in the guest's hands.  At our MTU nothing but the very
	 * largest datagrams needs them.
	 */
	fragment = wire_get16(ip + 6) & 0x3fffu; /* more-fragments bit and offset */
	if (fragment & 0x1fffu)
		return net_drop(why, NET_REASON_FRAGMENT);
	if (fragment)
		return net_deny(why, NET_REASON_FRAGMENT);
	if (!net_read_transport(f, ip + f->ip_header, (size_t)(f->ip_total - f->ip_header)))
		return net_drop(why, NET_REASON_MALFORMED);
	f->transport = true;
	if (f->proto == IPPROTO_ICMP && ip[f->ip_header] != WIRE_ICMP_ECHO)
		return net_drop(why, NET_REASON_ICMP);
	*why = net_check_dst(p, f);
	return *why == NET_REASON_NONE ? NET_PASS : NET_DENY;
}

enum net_verdict net_policy_check(const struct net_policy *p, const uint8_t *frame, size_t len,
				  struct net_flow *flow, enum net_reason *why)
{
	*flow = (struct net_flow){ .src = 0 };
	*why = NET_REASON_NONE;
	if (len < NET_ETH_HEADER || len > NET_FRAME_MAX)
		return net_drop(why, NET_REASON_MALFORMED);
	if (memcmp(frame + 6, p->guest_mac, 6))
		return net_drop(why, NET_REASON_SPOOFED);
	switch (wire_get16(frame + 12)) {
	case WIRE_ETHERTYPE_ARP:
		return net_check_arp(p, frame + NET_ETH_HEADER, len - NET_ETH_HEADER, why);
	case WIRE_ETHERTYPE_IPV4:
		return net_check_ip(p, frame + NET_ETH_HEADER, len - NET_ETH_HEADER, flow, why);
	default:
		return net_drop(why, NET_REASON_ETHERTYPE);
	}
}
