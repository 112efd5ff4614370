/* SPDX-License-Identifier: Apache-2.0 */
/* Members of a group: two msb-nets' gates with a socket between them, and a hostile third. */
#include "unit/test.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "net/build.h"
#include "net/group.h"
#include "net/wire.h"

static const uint8_t mac[6] = { 2, 0, 0, 0, 0, 15 };

/* One sandbox: its gate, its group, and what its guest got last. */
struct side {
	struct gate gate;
	struct group group;
	bool full;
	unsigned got;
	uint8_t frame[NET_FRAME_MAX];
	size_t len;
	struct net_flow flow;
};

static struct side *web, *db;

static void to_guest(void *ctx, const uint8_t *frame, size_t len)
{
	struct side *s = ctx;

	s->got++;
	memcpy(s->frame, frame, len);
	s->len = len;
	assert_int_equal(net_packet_read(frame, len, &s->flow), NET_PACKET_IP);
}

static void to_stack(void *ctx, const uint8_t *frame, size_t len)
{
	struct side *s = ctx;
	struct net_flow f;

	assert_int_equal(net_packet_read(frame, len, &f), NET_PACKET_IP);
	group_send(&s->group, frame, &f);
}

static bool full(void *ctx)
{
	return ((struct side *)ctx)->full;
}

static bool answers(void *ctx, const struct net_flow *f)
{
	return group_answers(&((struct side *)ctx)->group, f);
}

static struct side *side_new(unsigned number, const char *name)
{
	struct side *s = calloc(1, sizeof(*s));

	assert_non_null(s);
	s->gate.policy.scope = NET_SCOPE_GROUP;
	s->gate.policy.closed = true;
	memcpy(s->gate.policy.guest_mac, mac, 6);
	s->gate.to_guest = to_guest;
	s->gate.to_stack = to_stack;
	s->gate.answers = answers;
	s->gate.ctx = s;
	gate_init(&s->gate, 42);
	gate_clock(&s->gate, 1000);
	s->group.gate = &s->gate;
	s->group.full = full;
	assert_int_equal(group_init(&s->group, number, name, 43, NULL), 0);
	return s;
}

static void side_free(struct side *s)
{
	group_fini(&s->group);
	free(s);
}

static void link_sides(struct side *a, struct side *b)
{
	struct netmember ma = { .number = a->group.number }, mb = { .number = b->group.number };
	int sv[2];

	netmember_set_name(&ma, a->group.members.names[0]);
	netmember_set_name(&mb, b->group.members.names[0]);
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, sv), 0);
	assert_int_equal(group_add(&a->group, &mb, sv[0], NULL), 0);
	assert_int_equal(group_add(&b->group, &ma, sv[1], NULL), 0);
}

static void serve(struct side *s)
{
	struct pollfd fds[NETGROUP_MEMBERS_MAX];
	nfds_t n = group_fill(&s->group, fds);

	assert_true(poll(fds, n, 0) >= 0);
	group_serve(&s->group, fds);
}

static int setup(void **state)
{
	log_set_level(LOG_ERR);
	test_setup(state);
	web = side_new(1, "Web");
	db = side_new(3, "db");
	link_sides(web, db);
	return 0;
}

static int teardown(void **state)
{
	side_free(web);
	side_free(db);
	return test_teardown(state);
}

/* A frame of the guest, or of whoever has @src. */
static size_t build(uint8_t *out, uint8_t proto, uint32_t src, uint32_t dst, uint16_t sport,
		    uint16_t dport, uint8_t flags)
{
	struct net_ends e = { .guest_mac = mac, .from_guest = true };
	struct net_segment s = { .sport = sport, .dport = dport, .flags = flags, .seq = 7 };
	uint8_t *icmp;

	e.src = netaddr_v4(src);
	e.dst = netaddr_v4(dst);
	if (proto == IPPROTO_TCP)
		return net_build_tcp(out, &e, &s);
	if (proto == IPPROTO_UDP)
		return net_build_udp(out, &e, sport, dport, "x", 1);
	icmp = net_build_ip(out, &e, IPPROTO_ICMP, 8);
	memset(icmp, 0, 8);
	icmp[0] = flags;
	wire_put16(icmp + 4, sport);
	wire_put16(icmp + 2, net_sum_fold(net_sum_add(icmp, 8, 0)));
	return NET_ETH_HEADER + WIRE_IP_LEN + 8;
}

static bool checksums_are_right(const uint8_t *frame, const struct net_flow *f)
{
	const uint8_t *ip = frame + NET_ETH_HEADER;
	struct net_ends e = { .src = f->src, .dst = f->dst };
	const size_t n = (size_t)(f->ip_total - f->ip_header);

	if (net_sum_fold(net_sum_add(ip, WIRE_IP_LEN, 0)))
		return false;
	if (f->proto == IPPROTO_ICMP)
		return !net_sum_fold(net_sum_add(ip + f->ip_header, n, 0));
	return !net_build_sum(&e, f->proto, ip + f->ip_header, n);
}

/* The guest of @from sends; what @to's guest gets. Return: did the policy of @from pass it? */
static enum net_reason sends(struct side *from, struct side *to, uint8_t proto, uint16_t sport,
			     uint16_t dport, uint8_t flags)
{
	uint8_t frame[200];
	size_t n = build(frame, proto, NET_GUEST_IP, NET_GROUP_IP + to->group.number, sport, dport,
			 flags);
	enum net_reason why;
	struct net_flow f;

	to->got = 0;
	if (gate_judge(&from->gate, frame, n, &f, &why) == NET_PASS)
		group_send(&from->group, frame, &f);
	serve(to);
	return why;
}

#define TCP IPPROTO_TCP
#define UDP IPPROTO_UDP
#define ICMP IPPROTO_ICMP
#define SYN WIRE_TCP_SYN
#define ACK WIRE_TCP_ACK
#define RST WIRE_TCP_RST
#define OPEN NET_REASON_NONE

static void rules(struct side *s, const char *text)
{
	static struct netpolicy p;

	assert_int_equal(netpolicy_parse(text, strlen(text), &p, NULL), 0);
	gate_set_rules(&s->gate, &p);
	group_recheck(&s->group);
}

static void test_each_is_itself_to_itself(void **state)
{
	static const uint8_t protos[] = { TCP, UDP, ICMP };

	(void)state;
	assert_string_equal(web->group.members.names[0], "web");
	for (size_t i = 0; i < 3; i++) {
		const uint8_t proto = protos[i];

		assert_int_equal(sends(web, db, proto, 4000, 80,
				       proto == TCP ? SYN : WIRE_ICMP_ECHO),
				 OPEN);
		assert_int_equal(db->got, 1);
		assert_int_equal(netaddr_low32(&db->flow.src), NET_GROUP_IP + 1);
		assert_int_equal(netaddr_low32(&db->flow.dst), NET_GUEST_IP);
		assert_memory_equal(db->frame, mac, 6);
		assert_true(checksums_are_right(db->frame, &db->flow));
		assert_int_equal(db->flow.sport, 4000);
		/* And the answer. */
		assert_int_equal(sends(db, web, proto, proto == ICMP ? 4000 : 80, 4000,
				       proto == TCP ? SYN | ACK : WIRE_ICMP_ECHO_REPLY),
				 OPEN);
		assert_int_equal(web->got, 1);
		assert_int_equal(netaddr_low32(&web->flow.src), NET_GROUP_IP + 3);
		assert_int_equal(netaddr_low32(&web->flow.dst), NET_GUEST_IP);
		assert_true(checksums_are_right(web->frame, &web->flow));
	}
}

static void test_both_ends_have_a_say(void **state)
{
	(void)state;
	rules(db, "allow in tcp web.:5432; default in deny; deny group");
	assert_int_equal(sends(web, db, TCP, 4000, 5432, SYN), OPEN);
	assert_int_equal(db->got, 1);
	/* What it may not begin it may answer. */
	assert_int_equal(sends(db, web, TCP, 5432, 4000, SYN | ACK), OPEN);
	assert_int_equal(web->got, 1);
	assert_int_equal(sends(db, web, TCP, 5433, 4000, SYN), NET_REASON_RULE);
	assert_int_equal(sends(db, web, UDP, 5432, 4000, 0), NET_REASON_RULE);
	/* What is not let in is reset, or silent. */
	assert_int_equal(sends(web, db, TCP, 4001, 22, SYN), OPEN);
	assert_int_equal(db->got, 0);
	web->got = 0;
	serve(web);
	assert_int_equal(web->got, 1);
	assert_int_equal(web->flow.tcp_flags, RST | ACK);
	assert_int_equal(web->flow.sport, 22);
	assert_int_equal(sends(web, db, UDP, 4001, 5432, 0), OPEN);
	assert_int_equal(db->got, 0);
	/* The guest's own rules. */
	rules(web, "deny tcp db.:5432");
	serve(db); /* of the connection that this cuts */
	assert_int_equal(db->got, 1);
	assert_true(db->flow.tcp_flags & RST);
	assert_int_equal(sends(web, db, TCP, 4002, 5432, SYN), NET_REASON_RULE);
	assert_int_equal(db->got, 0);
}

static void test_an_answer_to_nothing_is_none(void **state)
{
	(void)state;
	assert_int_equal(sends(web, db, ICMP, 9, 0, WIRE_ICMP_ECHO_REPLY), OPEN);
	assert_int_equal(db->got, 0);
	assert_int_equal(db->gate.log.reasons[NET_REASON_UNASKED], 1);
}

static void test_other_rules_cut(void **state)
{
	(void)state;
	sends(web, db, TCP, 4000, 80, SYN);
	sends(db, web, TCP, 80, 4000, SYN | ACK);
	web->got = db->got = 0;
	rules(db, "deny in tcp web.:80");
	assert_int_equal(db->got, 1);
	assert_true(db->flow.tcp_flags & RST);
	assert_int_equal(db->flow.dport, 80);
	serve(web);
	assert_int_equal(web->got, 1);
	assert_true(web->flow.tcp_flags & RST);
	assert_int_equal(web->flow.dport, 4000);
	/* It is judged anew. */
	assert_int_equal(sends(web, db, TCP, 4000, 80, ACK), OPEN);
	assert_int_equal(db->got, 0);
}

/* What another's msb-net can send that a guest took over. */
static void test_nobody_speaks_for_another(void **state)
{
	const struct netmember evil = { .number = 7, .name = "evil" };
	const struct {
		uint32_t src, dst;
		uint8_t proto, flags;
		bool passes;
	} rows[] = {
		{ NET_GROUP_IP + 7, NET_GROUP_IP + 3, TCP, SYN, true },
		{ NET_GROUP_IP + 1, NET_GROUP_IP + 3, TCP, SYN, false }, /* as web */
		{ NET_GUEST_IP, NET_GROUP_IP + 3, TCP, SYN, false },
		{ NET_GATEWAY_IP, NET_GROUP_IP + 3, UDP, 0, false },
		{ NET_GROUP_IP + 7, NET_GUEST_IP, TCP, SYN, false },
		{ NET_GROUP_IP + 7, NET_GROUP_IP + 1, TCP, SYN, false },
		{ NET_GROUP_IP + 7, NET_GROUP_IP + 3, ICMP, 5, false }, /* a redirect */
	};
	uint8_t frame[200];
	int sv[2];
	size_t n;

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, sv), 0);
	assert_int_equal(group_add(&db->group, &evil, sv[0], NULL), 0);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		n = build(frame, rows[i].proto, rows[i].src, rows[i].dst, 4000, 80, rows[i].flags);
		db->got = 0;
		assert_int_equal(send(sv[1], frame, n, 0), n);
		serve(db);
		assert_int_equal(db->got, rows[i].passes);
	}
	/* Every prefix of a frame, ARP, and one that is larger than any. */
	n = build(frame, TCP, NET_GROUP_IP + 7, NET_GROUP_IP + 3, 4000, 80, SYN);
	db->got = 0;
	for (size_t k = 1; k < n; k++) {
		assert_int_equal(send(sv[1], frame, k, 0), k);
		serve(db);
	}
	wire_put16(frame + 12, WIRE_ETHERTYPE_ARP);
	assert_int_equal(send(sv[1], frame, n, 0), n);
	serve(db);
	{
		static uint8_t huge[NET_FRAME_MAX + 1];

		assert_int_equal(send(sv[1], huge, sizeof(huge), 0), sizeof(huge));
		serve(db);
		assert_int_equal(db->gate.log.reasons[NET_REASON_MALFORMED], 1);
	}
	assert_int_equal(db->got, 0);
	close(sv[1]);
	serve(db);
	assert_string_equal(db->group.members.names[7], "");
	assert_int_equal(db->group.n, 1);
}

static void test_who_is_gone_is_gone(void **state)
{
	uint8_t frame[200];
	size_t n;

	(void)state;
	sends(web, db, TCP, 4000, 80, SYN);
	sends(db, web, TCP, 80, 4000, SYN | ACK);
	sends(web, db, TCP, 4000, 80, ACK);
	group_fini(&db->group);
	web->got = 0;
	serve(web);
	/* Connections end at once, and the address stands for nobody, also not for an old flow. */
	assert_int_equal(web->got, 1);
	assert_true(web->flow.tcp_flags & RST);
	{
		enum net_reason why;
		struct net_flow f;

		n = build(frame, TCP, NET_GUEST_IP, NET_GROUP_IP + 3, 4000, 80, ACK);
		assert_int_equal(gate_judge(&web->gate, frame, n, &f, &why), NET_DENY);
		assert_int_equal(why, NET_REASON_ABSENT);
	}
}

static void test_nobody_waits_for_a_member(void **state)
{
	static uint8_t frame[NET_FRAME_MAX];
	struct net_ends e = { .guest_mac = mac, .from_guest = true };
	static const uint8_t data[60000];
	struct net_flow f;
	unsigned got = 0;
	size_t n;

	(void)state;
	e.src = netaddr_v4(NET_GUEST_IP);
	e.dst = netaddr_v4(NET_GROUP_IP + 3);
	n = net_build_udp(frame, &e, 4000, 80, data, sizeof(data));
	assert_int_equal(net_packet_read(frame, n, &f), NET_PACKET_IP);
	/* More than its socket and its queue hold: the rest is lost. */
	for (int i = 0; i < 60; i++)
		group_send(&web->group, frame, &f);
	assert_true(web->group.lost > 0 && web->group.lost < 60);
	assert_true(buf_len(&web->group.peers[3]->out) <= GROUP_OUT_MAX);
	/* While the guest is behind nothing is read; then all that was kept comes. */
	db->full = true;
	serve(db);
	assert_int_equal(db->got, 0);
	db->full = false;
	for (int i = 0; i < 60; i++) {
		db->got = 0;
		serve(db);
		got += db->got;
		serve(web);
	}
	assert_int_equal(got, 60 - web->group.lost);
	assert_int_equal(buf_len(&web->group.peers[3]->out), 0);
}

static void test_a_member_fills_its_own_table_only(void **state)
{
	uint8_t frame[200];
	enum net_reason why;
	struct net_flow f;
	size_t n;

	(void)state;
	sends(db, web, TCP, 4000, 80, SYN);
	for (unsigned i = 0; i < 3 * GROUP_FLOWS; i++)
		sends(web, db, TCP, (uint16_t)(10000 + i), 80, SYN);
	assert_int_equal(db->group.peers[1]->in.n, GROUP_FLOWS);
	/* What the guest began itself is still known. */
	rules(db, "deny group");
	n = build(frame, TCP, NET_GUEST_IP, NET_GROUP_IP + 1,
		  (uint16_t)(10000 + 3 * GROUP_FLOWS - 1), 80, ACK);
	assert_int_equal(gate_judge(&db->gate, frame, n, &f, &why), NET_DENY);
}

static void test_bad_members(void **state)
{
	struct netmember own = { .number = 3, .name = "db" }, other = { .number = 4, .name = "x" };
	struct err e = ERR_INIT;
	int sv[2];

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, sv), 0);
	assert_int_equal(group_add(&db->group, &other, sv[0], &e), -EINVAL);
	close(sv[1]);
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, sv), 0);
	assert_int_equal(group_add(&db->group, &own, sv[0], &e), -EINVAL);
	close(sv[1]);
	/* Another of the same number: the one before is gone. */
	link_sides(db, web);
	assert_int_equal(db->group.n, 1);
	assert_int_equal(sends(web, db, UDP, 1, 2, 0), OPEN);
	assert_int_equal(db->got, 1);
}

#define GROUP_TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		GROUP_TEST(test_each_is_itself_to_itself),
		GROUP_TEST(test_both_ends_have_a_say),
		GROUP_TEST(test_an_answer_to_nothing_is_none),
		GROUP_TEST(test_other_rules_cut),
		GROUP_TEST(test_nobody_speaks_for_another),
		GROUP_TEST(test_who_is_gone_is_gone),
		GROUP_TEST(test_nobody_waits_for_a_member),
		GROUP_TEST(test_a_member_fills_its_own_table_only),
		GROUP_TEST(test_bad_members),
	};

	return test_run(tests);
}
