/* SPDX-License-Identifier: Apache-2.0 */
#include "net/policy.h"

#include <errno.h>
#include <netinet/in.h>
#include <string.h>

#include "base/mem.h"
#include "net/wire.h"

const struct netaddr net_guest_ip6 = NETADDR_GUEST6_ADDR;
const struct netaddr net_gateway_ip6 = NETADDR_GUEST6_GATEWAY;

static const char *const net_scope_names[] = {
	[NET_SCOPE_NONE] = "none",
	[NET_SCOPE_GROUP] = "group",
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
		[NET_REASON_NONE] = "none",
		[NET_REASON_MALFORMED] = "malformed",
		[NET_REASON_ETHERTYPE] = "ethertype",
		[NET_REASON_SPOOFED] = "spoofed",
		[NET_REASON_BROADCAST] = "broadcast",
		[NET_REASON_ICMP] = "icmp",
		[NET_REASON_SCOPE] = "scope",
		[NET_REASON_PROTOCOL] = "protocol",
		[NET_REASON_OPTIONS] = "options",
		[NET_REASON_FRAGMENT] = "fragment",
		[NET_REASON_METADATA] = "metadata",
		[NET_REASON_LOOPBACK] = "loopback",
		[NET_REASON_PRIVATE] = "private",
		[NET_REASON_LINK_LOCAL] = "link-local",
		[NET_REASON_SPECIAL] = "special",
		[NET_REASON_HOST] = "host",
		[NET_REASON_GATEWAY] = "gateway",
		[NET_REASON_RULE] = "rule",
		[NET_REASON_DEFAULT] = "default",
		[NET_REASON_RESOLVER] = "resolver",
		[NET_REASON_CONNECTIONS] = "connections",
		[NET_REASON_RATE] = "rate",
		[NET_REASON_REBINDING] = "rebinding",
		[NET_REASON_ABSENT] = "absent",
		[NET_REASON_UNASKED] = "unasked",
		[NET_REASON_CUT] = "cut",
	};

	return names[r];
}

/* ---- places ------------------------------------------------------------ */

/* What is known of an address, found out once for all rules. */
struct net_place {
	struct netaddr addr, v4;
	enum netaddr_kind kind;
	bool nat64; /* v4 is where a translator would lead it */
	bool alias; /* NET_HOST_IP: the host's loopback */
	bool host; /* an address of the host's own, or not to be told from one */
	bool group; /* of the group's network */
	const char *member; /* who has it; NULL = nobody */
};

static bool net_is_host(const struct net_policy *p, const struct netaddr *addr)
{
	for (size_t i = 0; i < p->n_host_addrs; i++)
		if (netaddr_equal(&p->host_addrs[i], addr))
			return true;
	return p->host_addrs_incomplete;
}

static struct net_place net_place(const struct net_policy *p, const struct netaddr *addr)
{
	struct net_place d = { .addr = *addr, .kind = netaddr_kind(addr) };

	d.nat64 = netaddr_nat64(addr, &d.v4);
	d.alias = netaddr_is_v4(addr) && netaddr_low32(addr) == NET_HOST_IP;
	d.group = net_policy_in_group(p, addr);
	if (d.group) {
		const uint32_t number = netaddr_low32(addr) - NET_GROUP_IP;

		if (number && number <= NETGROUP_MEMBERS_MAX && p->members->names[number][0])
			d.member = p->members->names[number];
		return d;
	}
	d.host = net_is_host(p, addr) || (d.nat64 && net_is_host(p, &d.v4));
	return d;
}

/* Is this an address that nothing but a group or the address itself may open? */
static bool net_is_guarded(const struct net_place *d)
{
	return d->kind == NETADDR_METADATA || d->alias || d->host;
}

static bool net_group_matches(const struct netrule *r, const struct net_place *d)
{
	if (d->group)
		return r->group == NETRULE_GROUP_ANY || r->group == NETRULE_GROUP_MEMBERS;
	switch (r->group) {
	case NETRULE_GROUP_ANY:
		return !r->allow || d->kind != NETADDR_METADATA;
	case NETRULE_GROUP_PUBLIC:
		return d->kind == NETADDR_PUBLIC && !d->host;
	case NETRULE_GROUP_PRIVATE:
		return d->kind == NETADDR_PRIVATE && !d->host && !d->alias;
	case NETRULE_GROUP_LOOPBACK:
		return d->alias;
	case NETRULE_GROUP_LINK_LOCAL:
		return d->kind == NETADDR_LINK_LOCAL && !d->host;
	case NETRULE_GROUP_METADATA:
		return d->kind == NETADDR_METADATA;
	case NETRULE_GROUP_HOST:
		return d->alias || d->host;
	case NETRULE_GROUP_MEMBERS:
		break;
	}
	return false;
}

/* Is one of the names that lead to @d among the rule's? */
static bool net_name_matches(const struct net_policy *p, const struct netrule *r,
			     const struct net_place *d)
{
	const char *name;
	size_t at = 0;

	if (d->group)
		return d->member && netrule_matches_name(r, d->member);
	/* Whoever answers for a name may not open anything but the internet with it. */
	if (!p->pins || (r->allow && (d->kind != NETADDR_PUBLIC || d->host)))
		return false;
	while ((name = pins_next(p->pins, &d->addr, &at)))
		if (netrule_matches_name(r, name))
			return true;
	return false;
}

static bool net_target_matches(const struct net_policy *p, const struct netrule *r,
			       const struct net_place *d)
{
	switch (r->target) {
	case NETRULE_NAME:
	case NETRULE_SUFFIX:
		return net_name_matches(p, r, d);
	case NETRULE_GROUP:
		return net_group_matches(r, d);
	case NETRULE_NET:
		break;
	}
	/* 0.0.0.0/0 happens to cover them; who wants them says so. */
	if (r->allow && r->bits < 128 && net_is_guarded(d))
		return false;
	return netrule_matches_addr(r, &d->addr) || (d->nat64 && netrule_matches_addr(r, &d->v4));
}

/* ---- destinations ------------------------------------------------------ */

static enum netrule_proto net_rule_proto(uint8_t proto)
{
	switch (proto) {
	case IPPROTO_TCP:
		return NETRULE_TCP;
	case IPPROTO_UDP:
		return NETRULE_UDP;
	default:
		return NETRULE_ICMP;
	}
}

/* Where no rule decides and no default is given. */
static enum net_reason net_check_scope(const struct net_policy *p, const struct net_place *d)
{
	if (p->scope == NET_SCOPE_NONE)
		return NET_REASON_SCOPE;
	if (d->group)
		return NET_REASON_NONE;
	if (p->scope == NET_SCOPE_GROUP)
		return NET_REASON_SCOPE;
	if (d->kind == NETADDR_METADATA)
		return NET_REASON_METADATA;
	if (p->scope == NET_SCOPE_ANY)
		return NET_REASON_NONE;
	if (d->alias)
		return NET_REASON_HOST;
	switch (d->kind) {
	case NETADDR_PRIVATE:
		return NET_REASON_PRIVATE;
	case NETADDR_LINK_LOCAL:
		return NET_REASON_LINK_LOCAL;
	case NETADDR_PUBLIC:
		/* A service that listens on the host's public address is the host's all the same. */
		return d->host ? NET_REASON_HOST : NET_REASON_NONE;
	default:
		return NET_REASON_SPECIAL;
	}
}

static enum net_reason net_check_default(const struct net_policy *p, const struct net_place *d)
{
	switch (p->rules.out) {
	case NETPOLICY_ALLOW:
		return d->kind == NETADDR_METADATA ? NET_REASON_METADATA : NET_REASON_NONE;
	case NETPOLICY_DENY:
		return NET_REASON_DEFAULT;
	case NETPOLICY_SCOPE:
		break;
	}
	return net_check_scope(p, d);
}

/* What is shut whatever the rules say. */
static enum net_reason net_check_never(const struct net_place *d)
{
	switch (d->kind) {
	case NETADDR_LOOPBACK:
		return NET_REASON_LOOPBACK;
	case NETADDR_NOWHERE:
	case NETADDR_CAST:
		return NET_REASON_SPECIAL;
	case NETADDR_LINK_LOCAL:
		/* In IPv6 it says nothing without an interface, and the guest names none. */
		return netaddr_is_v4(&d->addr) ? NET_REASON_NONE : NET_REASON_LINK_LOCAL;
	default:
		return NET_REASON_NONE;
	}
}

/* Our own network: the few services that the gateway offers. */
static enum net_reason net_check_own(const struct net_policy *p, const struct net_flow *f)
{
	if (p->closed)
		return net_policy_is_dns(f) ? NET_REASON_NONE : NET_REASON_SCOPE;
	if (!netaddr_is_v4(&f->dst))
		return f->proto == IPPROTO_ICMPV6 && netaddr_equal(&f->dst, &net_gateway_ip6)
			       ? NET_REASON_NONE
			       : NET_REASON_GATEWAY;
	if (netaddr_low32(&f->dst) == NET_HOST_IP) {
		/* The stack has a TFTP server of its own there, which nobody asked for. */
		return f->proto == IPPROTO_UDP && f->dport == 69 ? NET_REASON_GATEWAY
								 : NET_REASON_NONE;
	}
	if (netaddr_low32(&f->dst) == NET_GATEWAY_IP &&
	    (f->proto == IPPROTO_ICMP || f->dport == NET_DNS_PORT))
		return NET_REASON_NONE;
	return NET_REASON_GATEWAY;
}

static bool net_is_own(const struct netaddr *a)
{
	if (netaddr_is_v4(a))
		return (netaddr_low32(a) & NET_PREFIX_MASK) == NET_PREFIX_IP;
	return netaddr_in(a, &net_guest_ip6, NETADDR_GUEST6_BITS);
}

enum net_reason net_policy_destination(const struct net_policy *p, struct net_flow *f)
{
	const enum netrule_proto proto = net_rule_proto(f->proto);
	const struct net_place d = net_place(p, &f->dst);
	enum net_reason why;

	f->rule = 0;
	/* A name is answered with why not, and the log tells which it was. */
	if (!net_policy_open(p->scope, &p->rules))
		return net_policy_is_dns(f) ? NET_REASON_NONE : NET_REASON_SCOPE;
	if (d.group)
		why = d.member ? NET_REASON_NONE : NET_REASON_ABSENT;
	else
		why = net_is_own(&f->dst) ? net_check_own(p, f) : net_check_never(&d);
	if (why != NET_REASON_NONE || (net_is_own(&f->dst) && !d.alias && !d.group))
		return why;
	/* The stack cannot carry a ping over IPv6 beyond the gateway. */
	if (f->proto == IPPROTO_ICMPV6)
		return NET_REASON_PROTOCOL;
	/* Whoever is told by somebody else what a name stands for goes round the rules. */
	if ((f->dport == NET_DNS_PORT || f->dport == NET_DOT_PORT) && proto != NETRULE_ICMP &&
	    !d.group && netpolicy_has_names(&p->rules))
		return NET_REASON_RESOLVER;
	for (unsigned i = 0; i < p->rules.n_rules; i++) {
		const struct netrule *r = &p->rules.rules[i];

		if (r->dir != NETRULE_OUT || !netrule_matches_port(r, proto, f->dport) ||
		    !net_target_matches(p, r, &d))
			continue;
		f->rule = i + 1;
		return r->allow ? NET_REASON_NONE : NET_REASON_RULE;
	}
	return net_check_default(p, &d);
}

enum net_reason net_policy_ingress(const struct net_policy *p, const struct netaddr *peer,
				   uint8_t proto, uint16_t port, unsigned *rule)
{
	struct net_place d = net_place(p, peer);

	/* A client on the host itself. */
	d.alias |= d.kind == NETADDR_LOOPBACK;
	*rule = 0;
	for (unsigned i = 0; i < p->rules.n_rules; i++) {
		const struct netrule *r = &p->rules.rules[i];

		if (r->dir != NETRULE_IN || !netrule_matches_port(r, net_rule_proto(proto), port))
			continue;
		if (r->target == NETRULE_GROUP  ? !net_group_matches(r, &d)
		    : r->target == NETRULE_NAME ? !net_name_matches(p, r, &d)
						: !netrule_matches_addr(r, peer))
			continue;
		*rule = i + 1;
		return r->allow ? NET_REASON_NONE : NET_REASON_RULE;
	}
	return p->rules.in == NETPOLICY_DENY ? NET_REASON_DEFAULT : NET_REASON_NONE;
}

/* ---- names ------------------------------------------------------------- */

/* What a rule says of a name: 1 = yes, -1 = no, 0 = nothing. */
static int net_rule_name(const struct netrule *r, const char *name)
{
	bool matches;

	if (r->dir != NETRULE_OUT)
		return 0;
	switch (r->target) {
	case NETRULE_NAME:
	case NETRULE_SUFFIX:
		matches = netrule_matches_name(r, name);
		break;
	case NETRULE_GROUP:
		matches = r->group == NETRULE_GROUP_ANY ||
			  (r->group == NETRULE_GROUP_PUBLIC && r->allow);
		break;
	default:
		matches = false;
		break;
	}
	if (!matches)
		return 0;
	if (r->allow)
		return 1;
	/* A port that is denied leaves the others. */
	return netrule_is_whole(r) ? -1 : 0;
}

enum net_reason net_policy_name(const struct net_policy *p, const char *name, unsigned *rule)
{
	for (unsigned i = 0; i < p->rules.n_rules; i++) {
		int says = net_rule_name(&p->rules.rules[i], name);

		if (!says)
			continue;
		*rule = i + 1;
		return says > 0 ? NET_REASON_NONE : NET_REASON_RULE;
	}
	*rule = 0;
	if (p->rules.out == NETPOLICY_DENY)
		return NET_REASON_DEFAULT;
	return p->rules.out == NETPOLICY_SCOPE && p->scope <= NET_SCOPE_GROUP ? NET_REASON_SCOPE
									      : NET_REASON_NONE;
}

bool net_policy_answer(const struct net_policy *p, const struct netaddr *addr)
{
	const struct net_place d = net_place(p, addr);

	if (net_is_own(addr) || net_check_never(&d) != NET_REASON_NONE)
		return false;
	if (d.kind == NETADDR_PUBLIC && !d.host)
		return true;
	for (unsigned i = 0; i < p->rules.n_rules; i++) {
		const struct netrule *r = &p->rules.rules[i];

		if (r->dir != NETRULE_OUT || r->target == NETRULE_NAME ||
		    r->target == NETRULE_SUFFIX || !net_target_matches(p, r, &d))
			continue;
		if (r->allow)
			return true;
		if (netrule_is_whole(r))
			return false;
	}
	return net_check_default(p, &d) == NET_REASON_NONE;
}

/* ---- frames ------------------------------------------------------------ */

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

static enum net_verdict net_check_arp(const struct net_policy *p, const uint8_t *a,
				      const struct net_flow *f, enum net_reason *why)
{
	uint32_t sender = netaddr_low32(&f->src);

	/* 0.0.0.0: a probe whether the address is taken, RFC 5227. */
	if (memcmp(a + 8, p->guest_mac, 6) || (sender != NET_GUEST_IP && sender != 0))
		return net_drop(why, NET_REASON_SPOOFED);
	return NET_PASS;
}

/* IPv6's neighbour discovery, in place of ARP: among the guest, the gateway and nobody else. */
static bool net_is_neighbour(const struct net_flow *f)
{
	static const struct netaddr solicited = { { 0xff, 0x02, [11] = 1, 0xff } }, none;
	const bool probe = netaddr_equal(&f->src, &none) && f->icmp_type == WIRE_ICMP6_SOLICIT;

	if (!f->neighbour)
		return false;
	if (!probe && !netaddr_equal(&f->src, &net_guest_ip6) &&
	    netaddr_kind(&f->src) != NETADDR_LINK_LOCAL)
		return false;
	return net_is_own(&f->dst) || netaddr_kind(&f->dst) == NETADDR_LINK_LOCAL ||
	       netaddr_in(&f->dst, &solicited, 104);
}

static bool net_is_guest(const struct net_flow *f)
{
	return f->version == 4 ? netaddr_low32(&f->src) == NET_GUEST_IP
			       : netaddr_equal(&f->src, &net_guest_ip6);
}

static bool net_is_cast(const struct net_flow *f)
{
	return netaddr_kind(&f->dst) == NETADDR_CAST ||
	       (f->version == 4 && netaddr_low32(&f->dst) == (NET_PREFIX_IP | 0xff));
}

static enum net_verdict net_check_ip(const struct net_policy *p, const struct net_flow *f,
				     enum net_reason *why)
{
	const uint8_t icmp = f->version == 4 ? IPPROTO_ICMP : IPPROTO_ICMPV6;

	if (f->version == 6 && net_is_neighbour(f))
		return NET_PASS;
	/* A guest's kernel looks for routers and groups before it has an address. */
	if (f->version == 6 && net_is_cast(f))
		return net_drop(why, NET_REASON_BROADCAST);
	if (!net_is_guest(f))
		return net_drop(why, NET_REASON_SPOOFED);
	if (net_is_cast(f))
		return net_drop(why, NET_REASON_BROADCAST);
	if (f->options)
		return net_deny(why, NET_REASON_OPTIONS);
	/*
	 * Fragments never pass: only the first shows its ports, and reassembly is
	 * the stack's memory in the guest's hands.  At our MTU nothing but the very
	 * largest datagrams needs them.
	 */
	if (f->fragment == NET_FRAGMENT_LATER)
		return net_drop(why, NET_REASON_FRAGMENT);
	if (f->fragment)
		return net_deny(why, NET_REASON_FRAGMENT);
	if (!f->transport &&
	    (f->proto == IPPROTO_TCP || f->proto == IPPROTO_UDP || f->proto == icmp))
		return net_drop(why, NET_REASON_MALFORMED);
	if (!f->transport)
		return net_deny(why, NET_REASON_PROTOCOL);
	/* Members of the group ping, too, and are answered. */
	if (f->proto == icmp && f->version == 4 && f->icmp_type == WIRE_ICMP_ECHO_REPLY &&
	    net_policy_in_group(p, &f->dst))
		return NET_PASS;
	if (f->proto == icmp &&
	    (f->icmp_type != (f->version == 4 ? WIRE_ICMP_ECHO : WIRE_ICMP6_ECHO)))
		return net_drop(why, NET_REASON_ICMP);
	return NET_PASS;
}

enum net_verdict net_policy_headers(const struct net_policy *p, const uint8_t *frame, size_t len,
				    struct net_flow *flow, enum net_reason *why)
{
	enum net_packet kind = net_packet_read(frame, len, flow);

	*why = NET_REASON_NONE;
	if (len < NET_ETH_HEADER || len > NET_FRAME_MAX)
		return net_drop(why, NET_REASON_MALFORMED);
	if (memcmp(frame + 6, p->guest_mac, 6))
		return net_drop(why, NET_REASON_SPOOFED);
	switch (kind) {
	case NET_PACKET_ARP:
		return net_check_arp(p, frame + NET_ETH_HEADER, flow, why);
	case NET_PACKET_IP:
		if (flow->version == 4 || p->ipv6)
			return net_check_ip(p, flow, why);
		return net_drop(why, NET_REASON_ETHERTYPE);
	case NET_PACKET_OTHER:
		return net_drop(why, NET_REASON_ETHERTYPE);
	case NET_PACKET_MALFORMED:
		break;
	}
	return net_drop(why, NET_REASON_MALFORMED);
}

enum net_verdict net_policy_check(const struct net_policy *p, const uint8_t *frame, size_t len,
				  struct net_flow *flow, enum net_reason *why)
{
	enum net_verdict v = net_policy_headers(p, frame, len, flow, why);

	if (v != NET_PASS || !net_policy_has_destination(flow))
		return v;
	*why = net_policy_destination(p, flow);
	return *why == NET_REASON_NONE ? NET_PASS : NET_DENY;
}
