/* SPDX-License-Identifier: Apache-2.0 */
/* Flows that outlive what opened them, what the guest gets, and rules that change. */
#include "unit/test.h"

#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>

#include "net/build.h"
#include "net/gate.h"
#include "net/wire.h"

static const uint8_t mac[6] = { 2, 0, 0, 0, 0, 15 };

static struct gate *g;
static struct net_flow to_guest[8], to_stack[8];
static unsigned n_guest, n_stack;

static void guest(void *ctx, const uint8_t *frame, size_t len)
{
	(void)ctx;
	assert_int_equal(net_packet_read(frame, len, &to_guest[n_guest++ % 8]), NET_PACKET_IP);
}

static void stack(void *ctx, const uint8_t *frame, size_t len)
{
	(void)ctx;
	assert_memory_equal(frame + 6, mac, 6);
	assert_int_equal(net_packet_read(frame, len, &to_stack[n_stack++ % 8]), NET_PACKET_IP);
}

static void rules(struct netpolicy *p, const char *text)
{
	assert_int_equal(netpolicy_parse(text, strlen(text), p, NULL), 0);
}

static int setup(void **state)
{
	(void)state;
	g = calloc(1, sizeof(*g));
	g->policy.scope = NET_SCOPE_PUBLIC;
	memcpy(g->policy.guest_mac, mac, 6);
	g->to_guest = guest;
	g->to_stack = stack;
	gate_init(g, 42);
	gate_clock(g, 1000);
	n_guest = n_stack = 0;
	log_set_level(LOG_ERR);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	free(g);
	return 0;
}

static struct netaddr addr(const char *s)
{
	struct netaddr a;

	assert_int_equal(netaddr_parse(s, &a), 0);
	return a;
}

static size_t build(uint8_t *out, bool from_guest, uint8_t proto, const char *remote, uint16_t port,
		    uint16_t remote_port, uint8_t flags)
{
	struct net_ends e = { .guest_mac = mac, .from_guest = from_guest };
	struct net_segment s = {
		.sport = from_guest ? port : remote_port,
		.dport = from_guest ? remote_port : port,
		.seq = from_guest ? 100 : 900,
		.ack = from_guest ? 901 : 101,
		.flags = flags,
	};

	e.src = from_guest ? netaddr_v4(NET_GUEST_IP) : addr(remote);
	e.dst = from_guest ? addr(remote) : netaddr_v4(NET_GUEST_IP);
	return proto == IPPROTO_TCP ? net_build_tcp(out, &e, &s)
				    : net_build_udp(out, &e, s.sport, s.dport, "x", 1);
}

static enum net_reason sends(uint8_t proto, const char *to, uint16_t port, uint8_t flags)
{
	uint8_t frame[200];
	size_t n = build(frame, true, proto, to, 4000, port, flags);
	enum net_reason why;
	struct net_flow f;
	enum net_verdict v = gate_judge(g, frame, n, &f, &why);

	assert_int_equal(v == NET_PASS, why == NET_REASON_NONE);
	return why;
}

static bool gets(uint8_t proto, const char *from, uint16_t port, uint8_t flags)
{
	uint8_t frame[200];
	size_t n = build(frame, false, proto, from, 4000, port, flags);

	return gate_admit(g, frame, n);
}

#define TCP IPPROTO_TCP
#define UDP IPPROTO_UDP
#define SYN WIRE_TCP_SYN
#define ACK WIRE_TCP_ACK
#define FIN WIRE_TCP_FIN
#define RST WIRE_TCP_RST
#define OPEN NET_REASON_NONE

static void test_connections_outlive_their_pin(void **state)
{
	struct netaddr a = addr("192.0.2.1");

	(void)state;
	rules(&g->policy.rules, "default deny; allow example.org");
	assert_int_equal(sends(TCP, "192.0.2.1", 443, SYN), NET_REASON_DEFAULT);
	assert_int_equal(sends(TCP, "192.0.2.1", 443, ACK), NET_REASON_DEFAULT);
	pins_add(&g->pins, &a, "example.org", 60);
	assert_int_equal(sends(TCP, "192.0.2.1", 443, SYN), OPEN);
	assert_true(gets(TCP, "192.0.2.1", 443, SYN | ACK));
	gate_clock(g, 1000 + 3600000);
	assert_int_equal(sends(TCP, "192.0.2.1", 443, ACK), OPEN);
	/* A new one from the same port is a new question. */
	assert_int_equal(sends(TCP, "192.0.2.1", 443, SYN), NET_REASON_DEFAULT);
	/* So is what comes long after the end. */
	assert_int_equal(sends(TCP, "192.0.2.1", 443, FIN | ACK), OPEN);
	assert_true(gets(TCP, "192.0.2.1", 443, FIN | ACK));
	assert_int_equal(sends(TCP, "192.0.2.1", 443, ACK), OPEN);
	gate_clock(g, 1000 + 3600000 + FLOWS_CLOSING_MS);
	assert_int_equal(sends(TCP, "192.0.2.1", 443, ACK), NET_REASON_DEFAULT);
	assert_int_equal(g->flows.n, 0);
}

static void test_datagrams_come_from_where_they_went(void **state)
{
	(void)state;
	assert_false(gets(UDP, "192.0.2.1", 53, 0));
	assert_int_equal(sends(UDP, "192.0.2.1", 53, 0), OPEN);
	assert_true(gets(UDP, "192.0.2.1", 53, 0));
	assert_false(gets(UDP, "192.0.2.1", 54, 0));
	assert_false(gets(UDP, "192.0.2.2", 53, 0));
	gate_clock(g, g->flows.now_ms + FLOWS_DATAGRAM_MS);
	assert_false(gets(UDP, "192.0.2.1", 53, 0));
	assert_int_equal(g->log.reasons[NET_REASON_UNASKED], 4);
	/* The stack's own segments need no such thing. */
	assert_true(gets(TCP, "192.0.2.1", 80, RST));
}

static void test_other_rules_cut(void **state)
{
	struct netpolicy p;

	(void)state;
	assert_int_equal(sends(TCP, "192.0.2.1", 80, SYN), OPEN);
	assert_int_equal(sends(TCP, "192.0.2.1", 80, ACK), OPEN);
	assert_int_equal(sends(TCP, "192.0.2.2", 80, SYN), OPEN);
	assert_int_equal(sends(UDP, "192.0.2.1", 9, 0), OPEN);
	rules(&p, "deny 192.0.2.1");
	gate_set_rules(g, &p);
	assert_int_equal(g->flows.n, 1);
	assert_int_equal(g->log.reasons[NET_REASON_CUT], 2);
	/* Both ends of the connection are told, each with the number that it expects. */
	assert_int_equal(n_guest, 1);
	assert_int_equal(to_guest[0].tcp_flags, RST | ACK);
	assert_int_equal(to_guest[0].tcp_seq, 901);
	assert_int_equal(to_guest[0].dport, 4000);
	assert_int_equal(n_stack, 1);
	assert_int_equal(to_stack[0].tcp_flags, RST | ACK);
	assert_int_equal(to_stack[0].tcp_seq, 100);
	assert_int_equal(to_stack[0].dport, 80);
	assert_int_equal(netaddr_low32(&to_stack[0].dst), 0xc0000201);
	assert_int_equal(sends(TCP, "192.0.2.1", 80, ACK), NET_REASON_RULE);
	assert_false(gets(UDP, "192.0.2.1", 9, 0));
	assert_int_equal(sends(TCP, "192.0.2.2", 80, ACK), OPEN);
	/* The same when the host gets an address that the guest talks to. */
	g->policy.host_addrs[g->policy.n_host_addrs++] = addr("192.0.2.2");
	gate_recheck(g);
	assert_int_equal(g->flows.n, 0);
}

static void test_as_many_as_there_is_room_for(void **state)
{
	(void)state;
	for (unsigned i = 0; i < FLOWS_MAX + 10; i++) {
		char to[32];

		snprintf(to, sizeof(to), "9.0.%u.%u", i >> 8, i & 255);
		gate_clock(g, 1000 + i);
		assert_int_equal(sends(UDP, to, 9, 0), OPEN);
		assert_true(gets(UDP, "9.0.0.0", 9, 0)); /* always in use */
	}
	assert_int_equal(g->flows.n, FLOWS_MAX);
	assert_true(gets(UDP, "9.0.0.0", 9, 0));
	assert_false(gets(UDP, "9.0.0.1", 9, 0)); /* idle for longest */
	assert_true(gets(UDP, "9.0.0.200", 9, 0));
	/* All of them are found and can go. */
	rules(&g->policy.rules, "deny any");
	gate_recheck(g);
	assert_int_equal(g->flows.n, 0);
	assert_int_equal(g->flows.oldest, -1);
	assert_int_equal(g->flows.newest, -1);
	rules(&g->policy.rules, "");
	for (unsigned i = 0; i < FLOWS_MAX; i++) {
		char to[32];

		snprintf(to, sizeof(to), "9.1.%u.%u", i >> 8, i & 255);
		assert_int_equal(sends(UDP, to, 9, 0), OPEN);
	}
	assert_int_equal(g->flows.n, FLOWS_MAX);
	assert_true(gets(UDP, "9.1.0.0", 9, 0));
}

static void test_buckets(void **state)
{
	struct bucket b;

	(void)state;
	bucket_init(&b, 0, 5);
	bucket_take(&b, 1000000, 5);
	assert_int_equal(bucket_wait(&b, 5), 0);
	/* 1000 a second, 100 saved up; what is larger makes a debt. */
	bucket_init(&b, 1000, 5);
	bucket_take(&b, 99, 5);
	assert_int_equal(bucket_wait(&b, 5), 0);
	bucket_take(&b, 501, 5);
	assert_int_equal(bucket_wait(&b, 5), 501);
	assert_int_equal(bucket_wait(&b, 505), 1);
	assert_int_equal(bucket_wait(&b, 506), 0);
	/* No more than that is saved, however long it takes; nor is less than one. */
	assert_int_equal(bucket_wait(&b, 1000000000), 0);
	bucket_take(&b, 100, 1000000000);
	assert_int_equal(bucket_wait(&b, 1000000000), 1);
	bucket_init(&b, 1, 0);
	assert_int_equal(bucket_wait(&b, 0), 0);
	bucket_take(&b, 1, 0);
	assert_int_equal(bucket_wait(&b, 0), 1);
	/* The largest rate and a long sleep do not overflow. */
	bucket_init(&b, NETLIMIT_MAX, 0);
	bucket_take(&b, 70000, UINT64_MAX / 2);
	assert_int_equal(bucket_wait(&b, UINT64_MAX / 2), 0);
}

static void test_limits(void **state)
{
	struct netpolicy p;

	(void)state;
	rules(&p, "limit connections 2; limit out-packets 1000; limit in-bytes 1K");
	gate_set_rules(g, &p);
	assert_int_equal(sends(TCP, "192.0.2.1", 1, SYN), OPEN);
	assert_int_equal(sends(TCP, "192.0.2.1", 2, SYN), OPEN);
	assert_int_equal(sends(TCP, "192.0.2.1", 2, SYN), OPEN); /* the same once more */
	assert_int_equal(sends(TCP, "192.0.2.1", 3, SYN), NET_REASON_CONNECTIONS);
	assert_int_equal(sends(UDP, "192.0.2.1", 3, 0), OPEN);
	assert_true(gets(TCP, "192.0.2.1", 2, RST));
	assert_int_equal(sends(TCP, "192.0.2.1", 3, SYN), OPEN);
	assert_int_equal(gate_wait_out(g), 0);
	for (unsigned i = 0; i < 100; i++)
		sends(UDP, "192.0.2.1", 9, 0);
	assert_true(gate_wait_out(g) > 0);
	assert_int_equal(gate_wait_in(g), 0);
	gets(TCP, "192.0.2.1", 3, ACK);
	gets(TCP, "192.0.2.1", 3, ACK);
	assert_true(gate_wait_in(g) > 0);
	/* A connection that nobody answers does not count for ever. */
	gate_clock(g, g->flows.now_ms + FLOWS_DATAGRAM_MS);
	assert_int_equal(sends(TCP, "192.0.2.1", 4, SYN), OPEN);
	rules(&p, "limit connects 1");
	gate_set_rules(g, &p);
	assert_int_equal(sends(TCP, "192.0.2.1", 10, SYN), OPEN);
	assert_int_equal(sends(TCP, "192.0.2.1", 11, SYN), NET_REASON_RATE);
	gate_clock(g, g->flows.now_ms + 1001);
	assert_int_equal(sends(TCP, "192.0.2.1", 11, SYN), OPEN);
}

static void test_messages(void **state)
{
	static const char good[] = "policy 1\ndefault out deny\nallow any:80\n";
	struct netpolicy p;
	struct err e = ERR_INIT;

	(void)state;
	assert_int_equal(netpolicy_parse_message(good, strlen(good), &p, NULL), 0);
	assert_int_equal(p.n_rules, 1);
	assert_int_equal(p.out, NETPOLICY_DENY);
	assert_int_equal(netpolicy_parse_message(good, 9, &p, NULL), 0);
	assert_int_equal(p.n_rules, 0);
	assert_true(netpolicy_parse_message(good, 8, &p, &e) < 0);
	assert_true(netpolicy_parse_message("policy 2\n", 9, &p, NULL) < 0);
	assert_true(netpolicy_parse_message("", 0, &p, NULL) < 0);
	rules(&p, "allow 10.0.0.0/8; allow public; allow a.example; deny host; allow in any");
	assert_false(netpolicy_opens_loopback(&p));
	rules(&p, "allow host:80");
	assert_true(netpolicy_opens_loopback(&p));
	rules(&p, "allow 10.0.2.4");
	assert_true(netpolicy_opens_loopback(&p));
	rules(&p, "default allow");
	assert_true(netpolicy_opens_loopback(&p));
	assert_false(netpolicy_opens_metadata(&p));
	rules(&p,
	      "allow any; allow 169.254.0.0/16; deny metadata; allow in metadata; allow 9.9.9.9");
	assert_false(netpolicy_opens_metadata(&p));
	rules(&p, "allow tcp metadata:80");
	assert_true(netpolicy_opens_metadata(&p));
	rules(&p, "allow fd00:ec2::254");
	assert_true(netpolicy_opens_metadata(&p));
}

int main(void)
{
#define GATE(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
	const struct CMUnitTest tests[] = {
		GATE(test_connections_outlive_their_pin),
		GATE(test_datagrams_come_from_where_they_went),
		GATE(test_other_rules_cut),
		GATE(test_as_many_as_there_is_room_for),
		GATE(test_buckets),
		GATE(test_limits),
		GATE(test_messages),
	};

	return test_run(tests);
}
