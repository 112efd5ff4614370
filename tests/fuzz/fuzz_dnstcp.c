/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The gateway's TCP under a hostile guest: any segments on a few ports, answers early,
 * late or never, and time that passes.  Its bounds hold after each step.
 */
#include <assert.h>
#include <netinet/in.h>
#include <stdlib.h>

#include "fuzz/input.h"
#include "net/build.h"
#include "net/dnstcp.h"
#include "net/policy.h"
#include "net/wire.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const uint8_t mac[6] = { 2, 0, 0, 0, 0, 15 };
static uint8_t room[NET_FRAME_MAX], frame[70000];
static struct dnstcp t;
static struct {
	unsigned conn;
	uint32_t serial;
} waiting[16];
static unsigned n_waiting;

static void send_frame(void *ctx, const uint8_t *f, size_t len)
{
	struct net_flow flow;

	(void)ctx;
	assert(net_packet_read(f, len, &flow) == NET_PACKET_IP && flow.transport);
	assert(flow.sport == NET_DNS_PORT);
}

static void ask(void *ctx, unsigned conn, uint32_t serial, const uint8_t *msg, size_t len)
{
	(void)ctx;
	assert(conn < DNSTCP_CONNS && len <= DNSTCP_RX_MAX - 2);
	if (len && msg[0] & 1)
		dnstcp_answer(&t, conn, serial, msg, msg[0] & 2 ? len : 0);
	else if (n_waiting < 16) {
		waiting[n_waiting].conn = conn;
		waiting[n_waiting++].serial = serial;
	}
}

static uint32_t not_random(void *ctx)
{
	(void)ctx;
	return 100;
}

static const struct dnstcp_ops ops = { .send = send_frame, .ask = ask, .random = not_random };

static void segment(struct fuzz_input *in)
{
	const struct net_ends e = {
		.guest_mac = mac,
		.from_guest = true,
		.src = netaddr_v4(NET_GUEST_IP),
		.dst = netaddr_v4(NET_GATEWAY_IP),
	};
	struct net_segment s = {
		.sport = (uint16_t)(1 + fuzz_get(in, 1) % 20),
		.dport = NET_DNS_PORT,
		.flags = (uint8_t)fuzz_get(in, 1),
		.window = (uint16_t)fuzz_get(in, 2),
		.len = fuzz_get(in, 2) % 3000,
	};
	struct net_flow f;
	size_t n;

	/* Around where the connection is, so that something comes of it. */
	for (unsigned i = 0; i < DNSTCP_CONNS; i++)
		if (t.conns[i].state != DNSTCP_FREE && t.conns[i].port == s.sport) {
			s.seq = t.conns[i].rcv_nxt;
			s.ack = t.conns[i].snd_nxt;
		}
	s.seq += (uint32_t)(int8_t)fuzz_get(in, 1);
	s.ack += (uint32_t)(int8_t)fuzz_get(in, 1);
	s.mss = s.flags & WIRE_TCP_SYN ? (uint16_t)fuzz_get(in, 2) : 0;
	s.data = fuzz_bytes(in, &s.len);
	n = net_build_tcp(frame, &e, &s);
	/* Options as they come. */
	if (s.mss && in->left && in->p[0] & 1)
		frame[14 + 20 + 20 + 1] = in->p[0];
	if (net_packet_read(frame, n, &f) == NET_PACKET_IP && f.transport)
		dnstcp_input(&t, frame, &f);
}

static void check(void)
{
	for (unsigned i = 0; i < DNSTCP_CONNS; i++) {
		const struct dnstcp_conn *c = &t.conns[i];

		if (c->state == DNSTCP_FREE)
			continue;
		assert(c->rx_len <= DNSTCP_RX_MAX && c->asked <= DNSTCP_ASKED_MAX);
		assert(buf_len(&c->tx) <= DNSTCP_TX_MAX && !c->asking);
		assert(c->snd_nxt - c->snd_una <= buf_len(&c->tx) + 1);
		assert(c->fin_received || !c->fin_sent);
		for (unsigned k = 0; k < i; k++)
			assert(t.conns[k].state == DNSTCP_FREE || t.conns[k].port != c->port);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input in = { data, size };

	dnstcp_init(&t, &ops, mac, room);
	n_waiting = 0;
	while (in.left) {
		unsigned op = (unsigned)fuzz_get(&in, 1);

		switch (op & 7) {
		case 0:
			if (n_waiting) {
				n_waiting--;
				dnstcp_answer(&t, waiting[n_waiting].conn,
					      waiting[n_waiting].serial, frame, fuzz_get(&in, 2));
			}
			break;
		case 1:
			t.now_ms += fuzz_get(&in, 2);
			dnstcp_tick(&t);
			assert(dnstcp_deadline(&t) > t.now_ms);
			break;
		default:
			segment(&in);
		}
		check();
	}
	dnstcp_fini(&t);
	return 0;
}
