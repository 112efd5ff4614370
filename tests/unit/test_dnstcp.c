/* SPDX-License-Identifier: Apache-2.0 */
/* The gateway's little TCP, with a guest that is played by the test. */
#include "unit/test.h"

#include <netinet/in.h>
#include <stdlib.h>

#include "net/build.h"
#include "net/dnstcp.h"
#include "net/policy.h"
#include "net/wire.h"

#define ISS 5000u /* the guest's first number */
#define OURS 9000u /* the server's */

static const uint8_t mac[6] = { 2, 0, 0, 0, 0, 15 };

static struct dnstcp t;
static uint8_t room[NET_FRAME_MAX];

/* What was sent to the guest, and asked. */
static struct net_flow sent[64];
static uint8_t data[64][64];
static unsigned n_sent, n_asked;
static char asked[64];
static unsigned asked_conn;
static uint32_t asked_serial;
static bool answer_at_once;

static void send_frame(void *ctx, const uint8_t *frame, size_t len)
{
	const uint8_t *ip = frame + 14;
	uint32_t sum;

	(void)ctx;
	assert_true(n_sent < 64);
	assert_int_equal(net_packet_read(frame, len, &sent[n_sent]), NET_PACKET_IP);
	assert_true(sent[n_sent].transport);
	/* Both checksums are right. */
	assert_int_equal(net_sum_fold(net_sum_add(ip, 20, 0)), 0);
	sum = net_sum_add(ip + 12, 8, (uint32_t)(6 + len - 34));
	assert_int_equal(net_sum_fold(net_sum_add(ip + 20, len - 34, sum)), 0);
	memcpy(data[n_sent], ip + sent[n_sent].payload,
	       sent[n_sent].payload_len < 64 ? sent[n_sent].payload_len : 64);
	n_sent++;
}

static void ask(void *ctx, unsigned conn, uint32_t serial, const uint8_t *msg, size_t len)
{
	(void)ctx;
	assert_true(len < sizeof(asked));
	memcpy(asked, msg, len);
	asked[len] = '\0';
	asked_conn = conn;
	asked_serial = serial;
	n_asked++;
	if (answer_at_once)
		dnstcp_answer(&t, conn, serial, msg, len);
}

static uint32_t not_random(void *ctx)
{
	(void)ctx;
	return OURS;
}

static const struct dnstcp_ops ops = { .send = send_frame, .ask = ask, .random = not_random };

/* A segment of the guest; numbers are counted from ISS and OURS. */
static void guest(uint16_t port, uint8_t flags, uint32_t seq, uint32_t ack, uint16_t window,
		  const void *bytes, size_t len)
{
	uint8_t frame[3000];
	const struct net_ends e = {
		.guest_mac = mac,
		.from_guest = true,
		.src = netaddr_v4(NET_GUEST_IP),
		.dst = netaddr_v4(NET_GATEWAY_IP),
	};
	struct net_segment s = {
		.sport = port,
		.dport = 53,
		.seq = ISS + seq,
		.ack = OURS + ack,
		.flags = flags,
		.window = window,
		.mss = flags & WIRE_TCP_SYN ? 1460 : 0,
		.data = bytes,
		.len = len,
	};
	struct net_flow f;
	size_t n = net_build_tcp(frame, &e, &s);

	n_sent = 0;
	assert_int_equal(net_packet_read(frame, n, &f), NET_PACKET_IP);
	dnstcp_input(&t, frame, &f);
}

static void reset(void)
{
	dnstcp_fini(&t);
	dnstcp_init(&t, &ops, mac, room);
	t.now_ms = 1000;
	n_sent = n_asked = 0;
	answer_at_once = false;
}

static void expect(unsigned i, uint8_t flags, uint32_t seq, uint32_t ack, size_t len)
{
	assert_true(i < n_sent);
	assert_int_equal(sent[i].tcp_flags, flags);
	assert_int_equal(sent[i].tcp_seq - OURS, seq);
	assert_int_equal(sent[i].tcp_ack - ISS, ack);
	assert_int_equal(sent[i].payload_len, len);
}

#define SYN WIRE_TCP_SYN
#define ACK WIRE_TCP_ACK
#define FIN WIRE_TCP_FIN
#define RST WIRE_TCP_RST
#define PSH WIRE_TCP_PSH

static void open_conn(uint16_t port, uint16_t window)
{
	guest(port, SYN, 0, 0, window, NULL, 0);
	assert_int_equal(n_sent, 1);
	expect(0, SYN | ACK, 0, 1, 0);
	guest(port, ACK, 1, 1, window, NULL, 0);
	assert_int_equal(n_sent, 0);
}

static void test_a_conversation(void **state)
{
	(void)state;
	reset();
	open_conn(4000, 60000);
	assert_int_equal(sent[0].tcp_window, DNSTCP_RX_MAX);
	guest(4000, ACK | PSH, 1, 1, 60000, "\0\5hello", 7);
	assert_int_equal(n_asked, 1);
	assert_string_equal(asked, "hello");
	expect(0, ACK, 1, 8, 0);
	n_sent = 0;
	dnstcp_answer(&t, asked_conn, asked_serial, (const uint8_t *)"world!", 6);
	expect(0, ACK | PSH, 1, 8, 8);
	assert_memory_equal(data[0], "\0\6world!", 8);
	/* The guest closes; so do we, and its last ACK ends it. */
	guest(4000, FIN | ACK, 8, 9, 60000, NULL, 0);
	expect(0, ACK, 9, 9, 0);
	expect(1, FIN | ACK, 9, 9, 0);
	guest(4000, ACK, 9, 10, 60000, NULL, 0);
	assert_int_equal(t.conns[0].state, DNSTCP_FREE);
	assert_true(dnstcp_deadline(&t) == UINT64_MAX);
	/* Whoever goes on after that is told that there is nothing. */
	guest(4000, ACK, 9, 10, 60000, NULL, 0);
	expect(0, RST, 10, (uint32_t)-ISS, 0);
}

/* Several in one segment, one in several, the same twice, and one that comes too early. */
static void test_pieces(void **state)
{
	(void)state;
	reset();
	answer_at_once = true;
	open_conn(4000, 60000);
	guest(4000, ACK, 1, 1, 60000, "\0\1a\0\1b\0\3c", 9);
	assert_int_equal(n_asked, 2);
	guest(4000, ACK, 1, 1, 60000, "\0\1a\0\1b\0\3c", 9);
	assert_int_equal(n_asked, 2);
	expect(0, ACK, 7, 10, 0);
	guest(4000, ACK, 11, 7, 60000, "e", 1);
	expect(0, ACK, 7, 10, 0);
	guest(4000, ACK, 10, 7, 60000, "de", 2);
	assert_int_equal(n_asked, 3);
	assert_string_equal(asked, "cde");
	/* The FIN behind questions that are answered at once. */
	guest(4000, ACK | FIN, 12, 12, 60000, "\0\1f\0\1g", 6);
	assert_int_equal(n_asked, 5);
	assert_int_equal(sent[n_sent - 1].tcp_flags, FIN | ACK);
	assert_int_equal(sent[n_sent - 1].tcp_seq - OURS, 18);
}

static void test_repetitions(void **state)
{
	uint64_t due;

	(void)state;
	reset();
	answer_at_once = true;
	open_conn(4000, 60000);
	guest(4000, ACK, 1, 1, 60000, "\0\1a", 3);
	/* Not taken: again, each time later, and in the end given up. */
	for (unsigned i = 0; i < DNSTCP_RETRIES; i++) {
		due = dnstcp_deadline(&t);
		assert_true(due > t.now_ms);
		t.conns[0].idle_ms = UINT64_MAX;
		t.now_ms = due;
		n_sent = 0;
		dnstcp_tick(&t);
		assert_int_equal(n_sent, 1);
		expect(0, ACK | PSH, 1, 4, 3);
	}
	t.now_ms = dnstcp_deadline(&t);
	n_sent = 0;
	dnstcp_tick(&t);
	expect(0, RST | ACK, 4, 4, 0);
	assert_int_equal(t.conns[0].state, DNSTCP_FREE);
	/* So is a handshake that is not finished. */
	guest(4001, SYN, 0, 0, 60000, NULL, 0);
	guest(4001, SYN, 0, 0, 60000, NULL, 0);
	expect(0, SYN | ACK, 0, 1, 0);
	for (unsigned i = 0; i <= DNSTCP_RETRIES + 1 && t.conns[0].state; i++) {
		t.now_ms = dnstcp_deadline(&t);
		dnstcp_tick(&t);
	}
	assert_int_equal(t.conns[0].state, DNSTCP_FREE);
}

static void test_windows(void **state)
{
	(void)state;
	reset();
	answer_at_once = true;
	open_conn(4000, 4);
	guest(4000, ACK, 1, 1, 4, "\0\6abcdef", 8);
	expect(0, ACK | PSH, 1, 9, 4);
	assert_int_equal(n_sent, 2);
	/* The window is closed, then asked with a byte, and opens. */
	guest(4000, ACK, 9, 5, 0, NULL, 0);
	assert_int_equal(n_sent, 0);
	t.now_ms = dnstcp_deadline(&t);
	dnstcp_tick(&t);
	expect(0, ACK | PSH, 5, 9, 1);
	guest(4000, ACK, 9, 5, 100, NULL, 0);
	assert_int_equal(n_sent, 1);
	expect(0, ACK | PSH, 6, 9, 3);
	/* Segments are no larger than the guest takes. */
	reset();
	open_conn(4000, 65535);
	guest(4000, ACK, 1, 1, 65535, "\0\1a", 3);
	n_sent = 0;
	dnstcp_answer(&t, asked_conn, asked_serial, room, 3000);
	assert_int_equal(n_sent, 3);
	expect(0, ACK | PSH, 1, 4, 1460);
	expect(2, ACK | PSH, 2921, 4, 82);
}

static void test_what_is_too_much(void **state)
{
	static uint8_t big[2500];

	(void)state;
	reset();
	/* A length that no question has. */
	open_conn(4000, 60000);
	guest(4000, ACK, 1, 1, 60000, "\xff\xff", 2);
	assert_int_equal(sent[n_sent - 1].tcp_flags, RST | ACK);
	assert_int_equal(t.conns[0].state, DNSTCP_FREE);
	/* More questions than may wait: the rest is asked when one is answered. */
	open_conn(4001, 60000);
	for (unsigned i = 0; i < 20; i++)
		memcpy(big + 3 * i, "\0\1q", 3);
	guest(4001, ACK, 1, 1, 60000, big, 60);
	assert_int_equal(n_asked, DNSTCP_ASKED_MAX);
	expect(0, ACK, 1, 61, 0);
	assert_int_equal(sent[0].tcp_window, DNSTCP_RX_MAX - 12);
	dnstcp_answer(&t, asked_conn, asked_serial, big, 1);
	assert_int_equal(n_asked, DNSTCP_ASKED_MAX + 1);
	/* More than the buffer holds: what does not fit is not acknowledged. */
	reset();
	open_conn(4002, 60000);
	memset(big, 0, sizeof(big));
	wire_put16(big, DNSTCP_RX_MAX - 2);
	guest(4002, ACK, 1, 1, 60000, big, 1400);
	t.ops = &ops;
	assert_int_equal(n_asked, 0);
	expect(0, ACK, 1, 1401, 0);
	/* An asker that does not read. */
	reset();
	open_conn(4003, 0);
	for (unsigned i = 0; i < 10 && t.conns[0].state; i++) {
		guest(4003, ACK, 1 + 3 * i, 1, 0, "\0\1q", 3);
		n_sent = 0;
		dnstcp_answer(&t, asked_conn, asked_serial, room, 60000);
	}
	assert_int_equal(t.conns[0].state, DNSTCP_FREE);
	assert_int_equal(sent[0].tcp_flags, RST | ACK);
}

static void test_places(void **state)
{
	(void)state;
	reset();
	for (uint16_t i = 0; i < DNSTCP_CONNS; i++, t.now_ms++)
		open_conn((uint16_t)(4000 + i), 60000);
	/* The oldest gives way. */
	guest(5000, SYN, 0, 0, 60000, NULL, 0);
	assert_int_equal(n_sent, 2);
	assert_int_equal(sent[0].dport, 4000);
	assert_int_equal(sent[0].tcp_flags, RST | ACK);
	assert_int_equal(sent[1].dport, 5000);
	/* An answer to a connection that was there before is for nobody. */
	guest(4001, ACK, 1, 1, 60000, "\0\1q", 3);
	guest(4001, RST, 4, 1, 0, NULL, 0);
	guest(4001, SYN, 100, 0, 60000, NULL, 0);
	n_sent = 0;
	dnstcp_answer(&t, asked_conn, asked_serial, room, 3);
	assert_int_equal(n_sent, 0);
	/* A reset out of place ends nothing. */
	guest(4002, RST, 77, 1, 0, NULL, 0);
	assert_int_equal(t.conns[2].state, DNSTCP_OPEN);
	guest(4002, RST, 1, 1, 0, NULL, 0);
	assert_int_equal(t.conns[2].state, DNSTCP_FREE);
	/* All the others end when nothing happens. */
	t.now_ms += 2 * DNSTCP_IDLE_MS;
	n_sent = 0;
	dnstcp_tick(&t);
	assert_true(dnstcp_deadline(&t) == UINT64_MAX);
	assert_int_equal(n_sent, DNSTCP_CONNS - 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_a_conversation), TEST(test_pieces),           TEST(test_repetitions),
		TEST(test_windows),        TEST(test_what_is_too_much), TEST(test_places),
	};
	int rc;

	dnstcp_init(&t, &ops, mac, room);
	rc = test_run(tests);
	dnstcp_fini(&t);
	return rc;
}
