/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_NET_POLICY_H
#define MSB_NET_POLICY_H

/*
 * What a sandbox may send, and what may come in: the verdict on each Ethernet frame of
 * its guest, on each name that it asks for, and on each client of a published port.
 *
 * Pure: bytes in, verdict out.  Addresses and ports are in host byte order.
 */

#include <netinet/in.h>

#include "codec/netcontrol.h"
#include "codec/netrule.h"
#include "net/packet.h"
#include "net/pins.h"

/* The sandbox's network: every sandbox has the same, each behind its own NAT. */
#define NET_GUEST_IP 0x0a00020fu /* 10.0.2.15/24 */
#define NET_GATEWAY_IP 0x0a000202u /* 10.0.2.2: router and DNS server */
#define NET_HOST_IP 0x0a000204u /* 10.0.2.4: the host's loopback */
#define NET_PREFIX_IP 0x0a000200u
#define NET_PREFIX_MASK 0xffffff00u

/*
 * The network of the sandbox's group, a part of it: member N is 10.0.2.128 + N, and the
 * guest's own place there is another name for NET_GUEST_IP (group.c).
 */
#define NET_GROUP_IP 0x0a000280u /* 10.0.2.128/25 */
#define NET_GROUP_MASK 0xffffff80u

/* And NETADDR_GUEST6_PREFIX/64, where the host has a way to the IPv6 internet. */
extern const struct netaddr net_guest_ip6, net_gateway_ip6;

#define NET_DNS_PORT 53
#define NET_DOT_PORT 853 /* DNS over TLS, and over QUIC */

#define NET_HOST_ADDRS_MAX 256

enum net_scope {
	NET_SCOPE_NONE, /* nothing */
	NET_SCOPE_GROUP, /* the other members of its group */
	NET_SCOPE_PUBLIC, /* the internet: globally routable addresses, DNS at the gateway */
	NET_SCOPE_ANY, /* everything unicast, the host too, but no metadata service */
};

/* "none", "group", "public", "any". Return: 0, or -EINVAL. */
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
	NET_REASON_ETHERTYPE, /* neither ARP, IPv4 nor, where the guest has it, IPv6 */
	NET_REASON_SPOOFED, /* not the guest's own MAC or IP address as source */
	NET_REASON_BROADCAST, /* broadcast or multicast: there is nobody else */
	NET_REASON_ICMP, /* ICMP other than an echo request */
	NET_REASON_RATE, /* more connections in a second than the limit: it asks again */
	/* denied */
	NET_REASON_SCOPE, /* scope none, or not of the group */
	NET_REASON_PROTOCOL, /* neither TCP, UDP nor ICMP */
	NET_REASON_OPTIONS, /* IP options and extension headers, such as source routes */
	NET_REASON_FRAGMENT,
	NET_REASON_METADATA, /* a cloud's metadata service */
	NET_REASON_LOOPBACK,
	NET_REASON_PRIVATE,
	NET_REASON_LINK_LOCAL,
	NET_REASON_SPECIAL, /* reserved by IANA for something else */
	NET_REASON_HOST, /* an address of the host itself */
	NET_REASON_GATEWAY, /* our own addresses, but not a service they offer */
	NET_REASON_RULE, /* a rule says so: net_flow.rule */
	NET_REASON_DEFAULT, /* no rule matches, and the default is to deny */
	NET_REASON_RESOLVER, /* another DNS server, while rules have names in them */
	NET_REASON_CONNECTIONS, /* more at once than the limit */
	NET_REASON_REBINDING, /* a name that leads where names may not lead */
	NET_REASON_ABSENT, /* an address of the group that no member has now */
	/* for the guest */
	NET_REASON_UNASKED, /* a datagram from where it sent none */
	NET_REASON_CUT, /* what was allowed when it began, under other rules */
	NET_REASONS,
};

const char *net_reason_name(enum net_reason r);

/* Who else is in the group, by number; "" = nobody. */
struct net_members {
	char names[NETGROUP_MEMBERS_MAX + 1][NETGROUP_NAME_SIZE];
};

struct net_policy {
	enum net_scope scope;
	/* There is no stack behind it: what is neither DNS nor the group's is shut. */
	bool closed;
	const struct net_members *members; /* not owned; NULL = it is in no group */
	bool ipv6; /* the guest has it; else frames of it are dropped */
	uint8_t guest_mac[6];
	struct netpolicy rules;
	const struct pins *pins; /* not owned; NULL = none */
	struct netaddr host_addrs[NET_HOST_ADDRS_MAX];
	size_t n_host_addrs;
	/* More addresses than that: what cannot be told from the host is shut. */
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

/* The first part of it: all but the destination. */
enum net_verdict net_policy_headers(const struct net_policy *p, const uint8_t *frame, size_t len,
				    struct net_flow *flow, enum net_reason *why);

/* Is there a destination to judge when that passed? ARP and its like in IPv6 have none. */
static inline bool net_policy_has_destination(const struct net_flow *f)
{
	return f->version != 0 && !f->neighbour;
}

/* Is it a question to the gateway's DNS server? */
static inline bool net_policy_is_dns(const struct net_flow *f)
{
	return netaddr_is_v4(&f->dst) && netaddr_low32(&f->dst) == NET_GATEWAY_IP &&
	       f->dport == NET_DNS_PORT && (f->proto == IPPROTO_TCP || f->proto == IPPROTO_UDP);
}

/*
 * The second, which speaks of the destination: dst, dport and proto of @flow, and its rule.
 * Return: NET_REASON_NONE = open.
 */
enum net_reason net_policy_destination(const struct net_policy *p, struct net_flow *flow);

/**
 * net_policy_ingress() - may a client use a published port, or a member any port?
 * @peer:  its address, as the host sees it; of a member, the one in the group
 * @proto: IPPROTO_TCP or IPPROTO_UDP
 * @port:  the port in the guest
 * @rule:  which rule decided, from 1; 0 = none
 *
 * To be called for each connection, and for the first datagram of each UDP peer.
 * Return: NET_REASON_NONE, NET_REASON_RULE or NET_REASON_DEFAULT.
 */
enum net_reason net_policy_ingress(const struct net_policy *p, const struct netaddr *peer,
				   uint8_t proto, uint16_t port, unsigned *rule);

/**
 * net_policy_name() - may the guest learn what a name stands for?
 * @name: lower case, without the last dot
 *
 * It may when some connection to it could be allowed: a rule with the name, a rule for any
 * or public, or the default says so.  Rules with addresses do not speak of names.
 */
enum net_reason net_policy_name(const struct net_policy *p, const char *name, unsigned *rule);

/*
 * May an answer say that a name stands for @addr?  Public addresses: yes, each connection is
 * judged later.  The others only if a rule or the scope opens some port of them: otherwise a
 * stranger's name would lead into the private network (rebinding).
 */
bool net_policy_answer(const struct net_policy *p, const struct netaddr *addr);

/* Is it an address of the group's network, whether or not a member has it? */
static inline bool net_policy_in_group(const struct net_policy *p, const struct netaddr *a)
{
	return p->members && netaddr_is_v4(a) &&
	       (netaddr_low32(a) & NET_GROUP_MASK) == NET_GROUP_IP;
}

/* Has the scope or a rule anything that the guest may send, besides questions for names? */
static inline bool net_policy_open(enum net_scope scope, const struct netpolicy *rules)
{
	return scope != NET_SCOPE_NONE || netpolicy_opens(rules, NETRULE_OUT);
}

#endif
