/* SPDX-License-Identifier: Apache-2.0 */
/* Verdicts on frames, and the answers to denied ones. */
#include "unit/test.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>

#include "net/policy.h"
#include "net/arp.h"
#include "net/reply.h"
#include "net/wire.h"

#define A(a, b, c, d) ((uint32_t)(a) << 24 | (b) << 16 | (c) << 8 | (d))

static const uint8_t guest_mac[6] = { 2, 0, 0, 0, 0, 0x0f };

static struct net_policy policy(enum net_scope scope)
{
	struct net_policy p = { .scope = scope };

	memcpy(p.guest_mac, guest_mac, 6);
	return p;
}

struct frame {
	uint8_t b[128];
	size_t len;
};

/* An IPv4 frame from the guest; @payload bytes of transport follow as zeros. */
static struct frame ip_frame(uint8_t proto, uint32_t dst, size_t payload)
{
	struct frame f = { .len = 14 + 20 + payload };
	uint8_t *ip = f.b + 14;

	memcpy(f.b + 6, guest_mac, 6);
	wire_put16(f.b + 12, 0x0800);
	ip[0] = 0x45;
	wire_put16(ip + 2, (unsigned)(20 + payload));
	ip[8] = 64;
	ip[9] = proto;
	wire_put32(ip + 12, NET_GUEST_IP);
	wire_put32(ip + 16, dst);
	return f;
}

static struct frame tcp_frame(uint32_t dst, uint16_t port, uint8_t flags)
{
	struct frame f = ip_frame(IPPROTO_TCP, dst, 20);
	uint8_t *t = f.b + 34;

	wire_put16(t, 4444);
	wire_put16(t + 2, port);
	wire_put32(t + 4, 1000);
	wire_put32(t + 8, 2000);
	t[12] = 0x50;
	t[13] = flags;
	return f;
}

static struct frame udp_frame(uint32_t dst, uint16_t port)
{
	struct frame f = ip_frame(IPPROTO_UDP, dst, 8);

	wire_put16(f.b + 34, 5555);
	wire_put16(f.b + 36, port);
	wire_put16(f.b + 38, 8);
	return f;
}

static struct frame icmp_frame(uint32_t dst, uint8_t type)
{
	struct frame f = ip_frame(IPPROTO_ICMP, dst, 8);

	f.b[34] = type;
	return f;
}

static struct frame arp_frame(uint32_t target)
{
	struct frame f = { .len = 14 + 28 };
	uint8_t *a = f.b + 14;

	memset(f.b, 0xff, 6);
	memcpy(f.b + 6, guest_mac, 6);
	wire_put16(f.b + 12, 0x0806);
	wire_put16(a, 1);
	wire_put16(a + 2, 0x0800);
	a[4] = 6;
	a[5] = 4;
	wire_put16(a + 6, 1);
	memcpy(a + 8, guest_mac, 6);
	wire_put32(a + 14, NET_GUEST_IP);
	wire_put32(a + 24, target);
	return f;
}

static void expect(const struct net_policy *p, const struct frame *f, enum net_verdict want,
		   enum net_reason why)
{
	struct net_flow flow;
	enum net_reason got_why;
	enum net_verdict got = net_policy_check(p, f->b, f->len, &flow, &got_why);

	if (got != want || got_why != why)
		fail_msg("verdict %d %s, not %d %s", (int)got, net_reason_name(got_why), (int)want,
			 net_reason_name(why));
}

static void test_scopes(void **state)
{
	/* What each scope says to TCP, UDP and ping; NONE = open. */
	static const struct {
		uint32_t dst;
		enum net_reason public, any;
	} rows[] = {
		{ A(1, 1, 1, 1), NET_REASON_NONE, NET_REASON_NONE },
		{ A(9, 255, 255, 255), NET_REASON_NONE, NET_REASON_NONE },
		{ A(10, 0, 0, 0), NET_REASON_PRIVATE, NET_REASON_NONE },
		{ A(10, 255, 255, 255), NET_REASON_PRIVATE, NET_REASON_NONE },
		{ A(11, 0, 0, 0), NET_REASON_NONE, NET_REASON_NONE },
		{ A(100, 63, 255, 255), NET_REASON_NONE, NET_REASON_NONE },
		{ A(100, 64, 0, 0), NET_REASON_PRIVATE, NET_REASON_NONE },
		{ A(100, 127, 255, 255), NET_REASON_PRIVATE, NET_REASON_NONE },
		{ A(100, 128, 0, 0), NET_REASON_NONE, NET_REASON_NONE },
		{ A(172, 15, 255, 255), NET_REASON_NONE, NET_REASON_NONE },
		{ A(172, 16, 0, 0), NET_REASON_PRIVATE, NET_REASON_NONE },
		{ A(172, 31, 255, 255), NET_REASON_PRIVATE, NET_REASON_NONE },
		{ A(172, 32, 0, 0), NET_REASON_NONE, NET_REASON_NONE },
		{ A(192, 167, 255, 255), NET_REASON_NONE, NET_REASON_NONE },
		{ A(192, 168, 0, 0), NET_REASON_PRIVATE, NET_REASON_NONE },
		{ A(192, 168, 255, 255), NET_REASON_PRIVATE, NET_REASON_NONE },
		{ A(192, 169, 0, 0), NET_REASON_NONE, NET_REASON_NONE },
		{ A(169, 254, 0, 0), NET_REASON_LINK_LOCAL, NET_REASON_NONE },
		{ A(169, 254, 255, 255), NET_REASON_LINK_LOCAL, NET_REASON_NONE },
		{ A(169, 255, 0, 0), NET_REASON_NONE, NET_REASON_NONE },
		{ A(169, 254, 169, 254), NET_REASON_METADATA, NET_REASON_METADATA },
		{ A(169, 254, 170, 2), NET_REASON_METADATA, NET_REASON_METADATA },
		{ A(168, 63, 129, 16), NET_REASON_METADATA, NET_REASON_METADATA },
		{ A(100, 100, 100, 200), NET_REASON_METADATA, NET_REASON_METADATA },
		{ A(192, 0, 0, 192), NET_REASON_METADATA, NET_REASON_METADATA },
		{ A(192, 0, 0, 1), NET_REASON_SPECIAL, NET_REASON_NONE },
		{ A(192, 0, 1, 0), NET_REASON_NONE, NET_REASON_NONE },
		{ A(198, 17, 255, 255), NET_REASON_NONE, NET_REASON_NONE },
		{ A(198, 18, 0, 0), NET_REASON_SPECIAL, NET_REASON_NONE },
		{ A(198, 19, 255, 255), NET_REASON_SPECIAL, NET_REASON_NONE },
		{ A(198, 20, 0, 0), NET_REASON_NONE, NET_REASON_NONE },
		{ A(198, 51, 100, 7), NET_REASON_NONE, NET_REASON_NONE },
		{ A(127, 0, 0, 1), NET_REASON_LOOPBACK, NET_REASON_LOOPBACK },
		{ A(127, 255, 255, 255), NET_REASON_LOOPBACK, NET_REASON_LOOPBACK },
		{ A(0, 0, 0, 0), NET_REASON_SPECIAL, NET_REASON_SPECIAL },
		{ A(0, 255, 255, 255), NET_REASON_SPECIAL, NET_REASON_SPECIAL },
		{ A(223, 255, 255, 255), NET_REASON_NONE, NET_REASON_NONE },
		{ A(240, 0, 0, 0), NET_REASON_SPECIAL, NET_REASON_SPECIAL },
		{ A(255, 255, 255, 254), NET_REASON_SPECIAL, NET_REASON_SPECIAL },
		{ A(10, 0, 2, 4), NET_REASON_HOST, NET_REASON_NONE },
		{ A(10, 0, 2, 9), NET_REASON_GATEWAY, NET_REASON_GATEWAY },
		{ A(10, 0, 2, 15), NET_REASON_GATEWAY, NET_REASON_GATEWAY },
		{ A(10, 0, 1, 255), NET_REASON_PRIVATE, NET_REASON_NONE },
		{ A(10, 0, 3, 0), NET_REASON_PRIVATE, NET_REASON_NONE },
	};
	const struct net_policy none = policy(NET_SCOPE_NONE), any = policy(NET_SCOPE_ANY);
	const struct net_policy public = policy(NET_SCOPE_PUBLIC);

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		const struct frame frames[] = {
			tcp_frame(rows[i].dst, 80, WIRE_TCP_SYN),
			tcp_frame(rows[i].dst, 80, WIRE_TCP_ACK),
			udp_frame(rows[i].dst, 53),
			icmp_frame(rows[i].dst, WIRE_ICMP_ECHO),
		};

		for (size_t k = 0; k < 4; k++) {
			expect(&public, &frames[k], rows[i].public ? NET_DENY : NET_PASS,
			       rows[i].public);
			expect(&any, &frames[k], rows[i].any ? NET_DENY : NET_PASS, rows[i].any);
			expect(&none, &frames[k], NET_DENY, NET_REASON_SCOPE);
		}
	}
}

static void test_own_network(void **state)
{
	const struct net_policy none = policy(NET_SCOPE_NONE), any = policy(NET_SCOPE_ANY);
	const struct net_policy public = policy(NET_SCOPE_PUBLIC);
	struct frame f;

	(void)state;
	f = udp_frame(NET_GATEWAY_IP, 53);
	expect(&public, &f, NET_PASS, NET_REASON_NONE);
	expect(&any, &f, NET_PASS, NET_REASON_NONE);
	/* The answer is that there is no such name, and which it was is in the log. */
	expect(&none, &f, NET_PASS, NET_REASON_NONE);
	f = tcp_frame(NET_GATEWAY_IP, 53, WIRE_TCP_SYN);
	expect(&public, &f, NET_PASS, NET_REASON_NONE);
	f = icmp_frame(NET_GATEWAY_IP, WIRE_ICMP_ECHO);
	expect(&public, &f, NET_PASS, NET_REASON_NONE);
	f = tcp_frame(NET_GATEWAY_IP, 80, WIRE_TCP_SYN);
	expect(&public, &f, NET_DENY, NET_REASON_GATEWAY);
	expect(&any, &f, NET_DENY, NET_REASON_GATEWAY);
	f = udp_frame(NET_GATEWAY_IP, 69);
	expect(&any, &f, NET_DENY, NET_REASON_GATEWAY);
	f = udp_frame(NET_HOST_IP, 69); /* the stack's own TFTP server */
	expect(&any, &f, NET_DENY, NET_REASON_GATEWAY);
	f = tcp_frame(NET_HOST_IP, 69, WIRE_TCP_SYN);
	expect(&any, &f, NET_PASS, NET_REASON_NONE);
}

/* Without a stack nothing of our own network is there, but DNS. */
static void test_closed(void **state)
{
	static struct net_members members = { .names = { "me", "", "", "db" } };
	struct net_policy p = policy(NET_SCOPE_GROUP);
	const struct {
		uint32_t dst;
		enum net_reason why;
	} rows[] = {
		{ NET_GROUP_IP + 3, NET_REASON_NONE },
		{ NET_GROUP_IP + 1, NET_REASON_ABSENT },
		{ NET_GROUP_IP, NET_REASON_ABSENT },
		{ NET_GROUP_IP + 126, NET_REASON_ABSENT },
		{ NET_GATEWAY_IP, NET_REASON_SCOPE },
		{ NET_HOST_IP, NET_REASON_SCOPE },
		{ A(10, 0, 2, 9), NET_REASON_SCOPE },
		{ A(1, 1, 1, 1), NET_REASON_SCOPE },
		{ A(10, 1, 2, 3), NET_REASON_SCOPE },
		{ A(169, 254, 169, 254), NET_REASON_SCOPE },
		{ A(127, 0, 0, 1), NET_REASON_LOOPBACK },
	};
	struct frame f;

	(void)state;
	p.closed = true;
	p.members = &members;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		const enum net_verdict v = rows[i].why ? NET_DENY : NET_PASS;

		f = tcp_frame(rows[i].dst, 80, WIRE_TCP_SYN);
		expect(&p, &f, v, rows[i].why);
		f = udp_frame(rows[i].dst, 80);
		expect(&p, &f, v, rows[i].why);
		f = icmp_frame(rows[i].dst, WIRE_ICMP_ECHO);
		expect(&p, &f, v, rows[i].why);
	}
	f = udp_frame(NET_GATEWAY_IP, 53);
	expect(&p, &f, NET_PASS, NET_REASON_NONE);
	/* Members are answered when they ping, others do not get that far. */
	f = icmp_frame(NET_GROUP_IP + 3, WIRE_ICMP_ECHO_REPLY);
	expect(&p, &f, NET_PASS, NET_REASON_NONE);
	f = icmp_frame(A(1, 1, 1, 1), WIRE_ICMP_ECHO_REPLY);
	expect(&p, &f, NET_DROP, NET_REASON_ICMP);
	/* Whoever is in no group has no neighbours. */
	p.members = NULL;
	p.closed = false;
	p.scope = NET_SCOPE_ANY;
	f = tcp_frame(NET_GROUP_IP + 3, 80, WIRE_TCP_SYN);
	expect(&p, &f, NET_DENY, NET_REASON_GATEWAY);
}

static void test_arp(void **state)
{
	static struct net_members members;
	struct net_policy p = policy(NET_SCOPE_NONE);
	const struct {
		uint32_t asked;
		bool closed, group;
	} rows[] = {
		{ NET_GATEWAY_IP, true, false },  { A(10, 0, 2, 77), true, false },
		{ NET_GROUP_IP + 5, true, true }, { NET_GUEST_IP, false, false },
		{ A(10, 0, 3, 2), false, false },
	};
	uint8_t out[NET_ARP_FRAME];

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct frame f = arp_frame(rows[i].asked);

		p.closed = true;
		p.members = NULL;
		assert_int_equal(net_arp_build(&p, f.b, out), rows[i].closed ? NET_ARP_FRAME : 0);
		if (rows[i].closed) {
			assert_memory_equal(out, guest_mac, 6);
			assert_int_equal(wire_get16(out + 20), 2);
			assert_memory_equal(out + 22, out + 6, 6); /* who has it */
			assert_int_equal(wire_get32(out + 28), rows[i].asked);
			assert_memory_equal(out + 32, guest_mac, 6);
			assert_int_equal(wire_get32(out + 38), NET_GUEST_IP);
		}
		/* A reply is no question. */
		wire_put16(f.b + 20, 2);
		assert_int_equal(net_arp_build(&p, f.b, out), 0);
		wire_put16(f.b + 20, 1);
		p.closed = false;
		p.members = &members;
		assert_int_equal(net_arp_build(&p, f.b, out), rows[i].group ? NET_ARP_FRAME : 0);
	}
}

static void test_host_addresses(void **state)
{
	struct net_policy p = policy(NET_SCOPE_PUBLIC);
	struct frame host = tcp_frame(A(203, 0, 113, 5), 22, WIRE_TCP_SYN);
	struct frame other = tcp_frame(A(203, 0, 113, 6), 22, WIRE_TCP_SYN);

	(void)state;
	expect(&p, &host, NET_PASS, NET_REASON_NONE);
	p.host_addrs[0] = netaddr_v4(A(192, 0, 2, 1));
	p.host_addrs[1] = netaddr_v4(A(203, 0, 113, 5));
	p.n_host_addrs = 2;
	expect(&p, &host, NET_DENY, NET_REASON_HOST);
	expect(&p, &other, NET_PASS, NET_REASON_NONE);
	p.host_addrs_incomplete = true;
	expect(&p, &other, NET_DENY, NET_REASON_HOST);
	p.scope = NET_SCOPE_ANY;
	expect(&p, &host, NET_PASS, NET_REASON_NONE);
}

static void test_spoofed(void **state)
{
	const struct net_policy p = policy(NET_SCOPE_ANY);
	struct frame f;

	(void)state;
	f = udp_frame(A(1, 1, 1, 1), 53);
	f.b[11] ^= 1; /* MAC */
	expect(&p, &f, NET_DROP, NET_REASON_SPOOFED);
	f = udp_frame(A(1, 1, 1, 1), 53);
	wire_put32(f.b + 26, A(10, 0, 2, 16));
	expect(&p, &f, NET_DROP, NET_REASON_SPOOFED);
	f = arp_frame(NET_GATEWAY_IP);
	expect(&p, &f, NET_PASS, NET_REASON_NONE);
	wire_put32(f.b + 28, 0); /* a probe */
	expect(&p, &f, NET_PASS, NET_REASON_NONE);
	wire_put32(f.b + 28, NET_GATEWAY_IP); /* "I am the gateway" */
	expect(&p, &f, NET_DROP, NET_REASON_SPOOFED);
	f = arp_frame(NET_GATEWAY_IP);
	f.b[14 + 8] ^= 1; /* MAC inside */
	expect(&p, &f, NET_DROP, NET_REASON_SPOOFED);
}

static void test_kinds(void **state)
{
	const struct net_policy p = policy(NET_SCOPE_ANY);
	static const uint8_t protos[] = { 0, 2, 4, 41, 47, 50, 58, 132, 255 };
	static const uint8_t icmp[] = { 0, 3, 4, 5, 9, 10, 11, 13, 17, 255 };
	struct frame f;

	(void)state;
	for (size_t i = 0; i < sizeof(protos); i++) {
		f = ip_frame(protos[i], A(1, 1, 1, 1), 40);
		expect(&p, &f, NET_DENY, NET_REASON_PROTOCOL);
	}
	for (size_t i = 0; i < sizeof(icmp); i++) {
		f = icmp_frame(A(1, 1, 1, 1), icmp[i]);
		expect(&p, &f, NET_DROP, NET_REASON_ICMP);
	}
	f = udp_frame(A(255, 255, 255, 255), 67);
	expect(&p, &f, NET_DROP, NET_REASON_BROADCAST);
	f = udp_frame(A(10, 0, 2, 255), 137);
	expect(&p, &f, NET_DROP, NET_REASON_BROADCAST);
	f = udp_frame(A(224, 0, 0, 251), 5353);
	expect(&p, &f, NET_DROP, NET_REASON_BROADCAST);
	f = udp_frame(A(1, 1, 1, 1), 53);
	wire_put16(f.b + 12, 0x86dd); /* IPv6, and IPv4 inside */
	expect(&p, &f, NET_DROP, NET_REASON_MALFORMED);
	wire_put16(f.b + 12, 0x8100); /* VLAN */
	expect(&p, &f, NET_DROP, NET_REASON_ETHERTYPE);
	f = udp_frame(A(1, 1, 1, 1), 53);
	f.b[14] = 0x46; /* an option, in the room of the ports */
	expect(&p, &f, NET_DENY, NET_REASON_OPTIONS);
}

static void test_fragments(void **state)
{
	const struct net_policy p = policy(NET_SCOPE_ANY);
	struct frame f = udp_frame(A(1, 1, 1, 1), 53);

	(void)state;
	wire_put16(f.b + 20, 0x4000); /* don't fragment: an ordinary packet */
	expect(&p, &f, NET_PASS, NET_REASON_NONE);
	wire_put16(f.b + 20, 0x2000); /* the first of several */
	expect(&p, &f, NET_DENY, NET_REASON_FRAGMENT);
	wire_put16(f.b + 20, 0x2001);
	expect(&p, &f, NET_DROP, NET_REASON_FRAGMENT);
	wire_put16(f.b + 20, 0x0001); /* the last one */
	expect(&p, &f, NET_DROP, NET_REASON_FRAGMENT);
	wire_put16(f.b + 20, 0x1fff);
	expect(&p, &f, NET_DROP, NET_REASON_FRAGMENT);
}

/* Each frame cut at each length: never a pass, never a read past the end. */
static void test_truncated(void **state)
{
	const struct net_policy p = policy(NET_SCOPE_ANY);
	const struct frame frames[] = {
		tcp_frame(A(1, 1, 1, 1), 80, WIRE_TCP_SYN),
		udp_frame(A(1, 1, 1, 1), 53),
		icmp_frame(A(1, 1, 1, 1), WIRE_ICMP_ECHO),
		arp_frame(NET_GATEWAY_IP),
	};

	(void)state;
	for (size_t i = 0; i < sizeof(frames) / sizeof(frames[0]); i++) {
		for (size_t n = 0; n < frames[i].len; n++) {
			uint8_t *exact = malloc(n ? n : 1);
			struct net_flow flow;
			enum net_reason why;

			memcpy(exact, frames[i].b, n);
			assert_int_equal(net_policy_check(&p, exact, n, &flow, &why), NET_DROP);
			assert_int_equal(why, NET_REASON_MALFORMED);
			assert_int_equal(flow.version, 0);
			free(exact);
		}
	}
}

static void test_malformed(void **state)
{
	const struct net_policy p = policy(NET_SCOPE_ANY);
	/* Offsets are into the IP packet. */
	static const struct {
		uint8_t proto;
		unsigned at, value; /* one byte */
	} rows[] = {
		{ IPPROTO_UDP, 0, 0x65 }, /* version 6 */
		{ IPPROTO_UDP, 0, 0x44 }, /* header of 16 bytes */
		{ IPPROTO_UDP, 0, 0x4f }, /* header longer than the packet */
		{ IPPROTO_UDP, 3, 19 }, /* total shorter than the header */
		{ IPPROTO_UDP, 3, 29 }, /* total longer than the frame */
		{ IPPROTO_UDP, 2, 255 },   { IPPROTO_UDP, 3, 27 }, /* cuts the UDP header */
		{ IPPROTO_UDP, 25, 7 }, /* UDP length below its header */
		{ IPPROTO_UDP, 25, 9 }, /* above what there is */
		{ IPPROTO_TCP, 32, 0x40 }, /* TCP header of 16 bytes */
		{ IPPROTO_TCP, 32, 0x60 }, /* longer than the segment */
		{ IPPROTO_TCP, 32, 0xf0 },
	};
	struct frame f;

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		f = rows[i].proto == IPPROTO_UDP ? udp_frame(A(1, 1, 1, 1), 53)
						 : tcp_frame(A(1, 1, 1, 1), 80, WIRE_TCP_SYN);
		f.b[14 + rows[i].at] = (uint8_t)rows[i].value;
		expect(&p, &f, NET_DROP, NET_REASON_MALFORMED);
	}
	f = udp_frame(A(1, 1, 1, 1), 0); /* port 0 */
	expect(&p, &f, NET_DROP, NET_REASON_MALFORMED);
	/* Padding behind the packet, as Ethernet's minimum makes it. */
	f = udp_frame(A(1, 1, 1, 1), 53);
	f.len = 60;
	expect(&p, &f, NET_PASS, NET_REASON_NONE);
	/* ARP for other hardware. */
	f = arp_frame(NET_GATEWAY_IP);
	f.b[15] = 6;
	expect(&p, &f, NET_DROP, NET_REASON_MALFORMED);
	f = arp_frame(NET_GATEWAY_IP);
	f.b[21] = 3; /* RARP's request */
	expect(&p, &f, NET_DROP, NET_REASON_MALFORMED);
}

static void test_largest_frame(void **state)
{
	const struct net_policy p = policy(NET_SCOPE_ANY);
	struct frame small = udp_frame(A(1, 1, 1, 1), 53);
	uint8_t *big = calloc(1, NET_FRAME_MAX + 1);
	struct net_flow flow;
	enum net_reason why;

	(void)state;
	memcpy(big, small.b, small.len);
	wire_put16(big + 16, NET_MTU);
	assert_int_equal(net_policy_check(&p, big, NET_FRAME_MAX, &flow, &why), NET_PASS);
	assert_int_equal(net_policy_check(&p, big, NET_FRAME_MAX + 1, &flow, &why), NET_DROP);
	free(big);
}

static void test_scope_names(void **state)
{
	enum net_scope s;

	(void)state;
	for (int i = NET_SCOPE_NONE; i <= NET_SCOPE_ANY; i++) {
		assert_int_equal(net_scope_parse(net_scope_name((enum net_scope)i), &s), 0);
		assert_int_equal(s, i);
	}
	assert_int_equal(net_scope_parse("local", &s), -EINVAL);
	assert_int_equal(net_scope_parse("", &s), -EINVAL);
	for (int i = 0; i < NET_REASONS; i++)
		assert_non_null(net_reason_name((enum net_reason)i));
}

/* ---- answers --------------------------------------------------------- */

/* RFC 1071: over data that includes a right checksum the sum is 0xffff. */
static uint32_t sum16(const uint8_t *p, size_t n, uint32_t sum)
{
	for (size_t i = 0; i < n; i++)
		sum += i % 2 ? p[i] : (uint32_t)p[i] << 8;
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return sum;
}

static size_t answer(const struct frame *f, uint8_t out[NET_REPLY_MAX])
{
	const struct net_policy p = policy(NET_SCOPE_NONE);
	struct net_flow flow;
	enum net_reason why;
	size_t n;

	assert_int_equal(net_policy_check(&p, f->b, f->len, &flow, &why), NET_DENY);
	n = net_reply_build(f->b, &flow, out);
	if (!n)
		return 0;
	assert_memory_equal(out, guest_mac, 6);
	assert_int_equal(wire_get16(out + 12), 0x0800);
	assert_int_equal(sum16(out + 14, 20, 0), 0xffff);
	assert_int_equal(wire_get16(out + 16), n - 14);
	assert_int_equal(wire_get32(out + 30), NET_GUEST_IP);
	return n;
}

static void test_reset(void **state)
{
	uint8_t out[NET_REPLY_MAX];
	struct frame f = tcp_frame(A(10, 1, 2, 3), 80, WIRE_TCP_SYN);

	(void)state;
	assert_int_equal(answer(&f, out), 54);
	assert_int_equal(wire_get32(out + 26), A(10, 1, 2, 3)); /* as if from there */
	assert_int_equal(wire_get16(out + 34), 80);
	assert_int_equal(wire_get16(out + 36), 4444);
	assert_int_equal(wire_get32(out + 38), 0);
	assert_int_equal(wire_get32(out + 42), 1001); /* SYN counts as one */
	assert_int_equal(out[47], WIRE_TCP_RST | WIRE_TCP_ACK);
	assert_int_equal(sum16(out + 34, 20, sum16(out + 26, 8, IPPROTO_TCP + 20)), 0xffff);

	/* With an ACK the reset takes its number. */
	f = tcp_frame(A(10, 1, 2, 3), 80, WIRE_TCP_ACK);
	assert_int_equal(answer(&f, out), 54);
	assert_int_equal(wire_get32(out + 38), 2000);
	assert_int_equal(out[47], WIRE_TCP_RST);

	f = tcp_frame(A(10, 1, 2, 3), 80, WIRE_TCP_RST);
	assert_int_equal(answer(&f, out), 0);
}

static void test_prohibited(void **state)
{
	uint8_t out[NET_REPLY_MAX];
	struct frame f = udp_frame(A(10, 1, 2, 3), 80);

	(void)state;
	assert_int_equal(answer(&f, out), 14 + 20 + 8 + 28);
	assert_int_equal(out[34], 3);
	assert_int_equal(out[35], 13);
	assert_int_equal(wire_get32(out + 26), NET_GATEWAY_IP);
	assert_memory_equal(out + 42, f.b + 14, 28);
	assert_int_equal(sum16(out + 34, 8 + 28, 0), 0xffff);

	f = icmp_frame(A(10, 1, 2, 3), WIRE_ICMP_ECHO);
	assert_int_equal(answer(&f, out), 14 + 20 + 8 + 28);
	/* The quote is no longer than the packet: a protocol without 8 bytes of payload. */
	f = ip_frame(47, A(10, 1, 2, 3), 3);
	assert_int_equal(answer(&f, out), 14 + 20 + 8 + 23);
	/* 60 bytes of IP header: the longest quote. */
	f = ip_frame(17, A(10, 1, 2, 3), 60);
	f.b[14] = 0x4f;
	assert_int_equal(answer(&f, out), NET_REPLY_MAX - 20);
	/* ICMP whose type is hidden behind options may be an error: no answer. */
	f.b[14 + 9] = IPPROTO_ICMP;
	assert_int_equal(answer(&f, out), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_scopes),      TEST(test_own_network), TEST(test_host_addresses),
		TEST(test_spoofed),     TEST(test_kinds),       TEST(test_fragments),
		TEST(test_truncated),   TEST(test_malformed),   TEST(test_largest_frame),
		TEST(test_scope_names), TEST(test_reset),       TEST(test_prohibited),
		TEST(test_closed),      TEST(test_arp),
	};

	return test_run(tests);
}
