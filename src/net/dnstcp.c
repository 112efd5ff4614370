/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DOC: Theory of operation
 *
 * Purpose
 *   DNS answers that do not fit into a datagram are asked for over TCP.  The gateway
 *   answers itself, so the guest's connection ends here and not at a socket.
 *
 * Spec
 *   RFC 9293 without what a server of short messages on a link that loses nothing does
 *   without: no congestion control, no window scaling, no urgent data, and segments out of
 *   order are left for the guest to send again.  RFC 7766 (DNS over TCP).
 *
 * States
 *   free -> opening (SYN came, SYN+ACK went) -> open -> free.  Closing is open with
 *   fin_received or fin_sent: our FIN goes when the guest's came and all is answered, or
 *   after DNSTCP_IDLE_MS.
 *
 * Ownership, trust
 *   The guest is hostile: everything it can make us hold is bounded in dnstcp.h.  Where
 *   all connections are taken, a new one gets the place of the one that is idle longest.
 *
 * Failure
 *   What the guest does not take in DNSTCP_RETRIES repetitions is reset.
 */
#include "net/dnstcp.h"

#include <stdlib.h>

#include "net/build.h"
#include "net/policy.h"
#include "net/wire.h"

#define DNSTCP_MSS_DEFAULT 536u /* RFC 9293 §3.7.1 */
#define DNSTCP_MSS_MAX (NET_MTU - 40u)

static bool dnstcp_before(uint32_t a, uint32_t b)
{
	return (int32_t)(a - b) < 0;
}

/* ---- sending ------------------------------------------------------------- */

static void dnstcp_send(struct dnstcp *t, const struct dnstcp_conn *c, uint8_t flags, uint32_t seq,
			const void *data, size_t len)
{
	const struct net_ends e = {
		.guest_mac = t->guest_mac,
		.src = netaddr_v4(NET_GATEWAY_IP),
		.dst = netaddr_v4(NET_GUEST_IP),
	};
	const struct net_segment s = {
		.sport = NET_DNS_PORT,
		.dport = c->port,
		.seq = seq,
		.ack = c->rcv_nxt,
		.flags = flags,
		.window = (uint16_t)(DNSTCP_RX_MAX - c->rx_len),
		.mss = flags & WIRE_TCP_SYN ? DNSTCP_MSS_MAX : 0,
		.data = data,
		.len = len,
	};

	t->ops->send(t->ops->ctx, t->frame, net_build_tcp(t->frame, &e, &s));
}

static void dnstcp_ack(struct dnstcp *t, const struct dnstcp_conn *c)
{
	dnstcp_send(t, c, WIRE_TCP_ACK, c->snd_nxt, NULL, 0);
}

static void dnstcp_free(struct dnstcp_conn *c)
{
	buf_fini(&c->tx);
	*c = (struct dnstcp_conn){ .state = DNSTCP_FREE };
}

static void dnstcp_abort(struct dnstcp *t, struct dnstcp_conn *c)
{
	dnstcp_send(t, c, WIRE_TCP_RST | WIRE_TCP_ACK, c->snd_nxt, NULL, 0);
	dnstcp_free(c);
}

/* How much of tx has been sent: snd_nxt counts a FIN, too. */
static size_t dnstcp_sent(const struct dnstcp_conn *c)
{
	return (size_t)(c->snd_nxt - c->snd_una) - c->fin_sent;
}

/* Sends what there is, as far as the guest's window goes; the FIN behind it. */
static void dnstcp_push(struct dnstcp *t, struct dnstcp_conn *c)
{
	const size_t have = buf_len(&c->tx);

	if (c->state != DNSTCP_OPEN || c->fin_sent)
		return;
	while (dnstcp_sent(c) < have) {
		size_t at = dnstcp_sent(c), n = have - at, room;

		room = c->window > at ? c->window - at : 0;
		if (n > room)
			n = room;
		if (n > c->mss)
			n = c->mss;
		if (!n)
			break;
		dnstcp_send(t, c, WIRE_TCP_ACK | WIRE_TCP_PSH, c->snd_nxt, buf_data(&c->tx) + at, n);
		c->snd_nxt += (uint32_t)n;
	}
	if (c->fin_received && !c->asked && !c->asking && dnstcp_sent(c) == have) {
		dnstcp_send(t, c, WIRE_TCP_FIN | WIRE_TCP_ACK, c->snd_nxt, NULL, 0);
		c->snd_nxt++;
		c->fin_sent = true;
	}
	if ((have || c->fin_sent) && !c->repeat_ms)
		c->repeat_ms = t->now_ms + DNSTCP_RTO_MS;
}

/* ---- the guest's segments -------------------------------------------------- */

static struct dnstcp_conn *dnstcp_find(struct dnstcp *t, uint16_t port)
{
	for (unsigned i = 0; i < DNSTCP_CONNS; i++)
		if (t->conns[i].state != DNSTCP_FREE && t->conns[i].port == port)
			return &t->conns[i];
	return NULL;
}

static struct dnstcp_conn *dnstcp_place(struct dnstcp *t)
{
	struct dnstcp_conn *oldest = &t->conns[0];

	for (unsigned i = 0; i < DNSTCP_CONNS; i++) {
		if (t->conns[i].state == DNSTCP_FREE)
			return &t->conns[i];
		if (t->conns[i].idle_ms < oldest->idle_ms)
			oldest = &t->conns[i];
	}
	dnstcp_abort(t, oldest);
	return oldest;
}

/* The largest segment that the guest takes, from the options of its SYN. */
static uint16_t dnstcp_mss(const uint8_t *frame, const struct net_flow *f)
{
	const uint8_t *p = frame + NET_ETH_HEADER + f->ip_header + WIRE_TCP_LEN;
	size_t left = (size_t)f->payload - f->ip_header - WIRE_TCP_LEN;
	unsigned mss = DNSTCP_MSS_DEFAULT;

	while (left && *p != 0) {
		if (*p == 1) {
			p++, left--;
			continue;
		}
		if (left < 2 || p[1] < 2 || p[1] > left)
			break;
		if (p[0] == 2 && p[1] == 4)
			mss = wire_get16(p + 2);
		left -= p[1];
		p += p[1];
	}
	if (mss < 88) /* smaller ones only make work */
		mss = 88;
	return (uint16_t)(mss < DNSTCP_MSS_MAX ? mss : DNSTCP_MSS_MAX);
}

static void dnstcp_open(struct dnstcp *t, struct dnstcp_conn *c, const uint8_t *frame,
			const struct net_flow *f)
{
	/* The same SYN once more: the answer once more. */
	if (!c || c->state != DNSTCP_OPENING || c->rcv_nxt != f->tcp_seq + 1) {
		if (c)
			dnstcp_free(c);
		else
			c = dnstcp_place(t);
		*c = (struct dnstcp_conn){
			.state = DNSTCP_OPENING,
			.port = f->sport,
			.serial = ++t->serial,
			.mss = dnstcp_mss(frame, f),
			.rcv_nxt = f->tcp_seq + 1,
			.snd_una = t->ops->random(t->ops->ctx),
		};
		buf_init(&c->tx, DNSTCP_TX_MAX);
		c->snd_nxt = c->snd_una + 1;
		c->repeat_ms = t->now_ms + DNSTCP_RTO_MS;
	}
	c->window = f->tcp_window;
	c->idle_ms = t->now_ms + DNSTCP_IDLE_MS;
	dnstcp_send(t, c, WIRE_TCP_SYN | WIRE_TCP_ACK, c->snd_una, NULL, 0);
}

/* Return: is the connection still there? */
static bool dnstcp_take_ack(struct dnstcp *t, struct dnstcp_conn *c, const struct net_flow *f)
{
	uint32_t n = f->tcp_ack - c->snd_una;

	if (dnstcp_before(c->snd_nxt, f->tcp_ack) || dnstcp_before(f->tcp_ack, c->snd_una))
		return true;
	c->window = f->tcp_window;
	if (!n)
		return true;
	if (c->state == DNSTCP_OPENING) {
		c->state = DNSTCP_OPEN;
		c->snd_una++;
		n--;
	}
	c->retries = 0;
	if (c->fin_sent && f->tcp_ack == c->snd_nxt) {
		/* All is taken, and the guest closed before us. */
		dnstcp_free(c);
		return false;
	}
	buf_consume(&c->tx, n);
	c->snd_una += n;
	c->repeat_ms = c->snd_una == c->snd_nxt ? 0 : t->now_ms + DNSTCP_RTO_MS;
	return true;
}

/* Hands on the questions that are whole. Return: false = the guest breaks the rules. */
static bool dnstcp_ask(struct dnstcp *t, struct dnstcp_conn *c)
{
	size_t at = 0;

	c->asking = true;
	while (c->rx_len - at >= 2 && c->asked < DNSTCP_ASKED_MAX) {
		size_t n = wire_get16(c->rx + at);

		if (n > DNSTCP_RX_MAX - 2)
			return false;
		if (c->rx_len - at - 2 < n)
			break;
		c->asked++;
		t->ops->ask(t->ops->ctx, (unsigned)(c - t->conns), c->serial, c->rx + at + 2, n);
		/* The answer may have come at once, and the connection's end with it. */
		if (c->state != DNSTCP_OPEN)
			return true;
		at += 2 + n;
	}
	c->asking = false;
	memmove(c->rx, c->rx + at, c->rx_len - at);
	c->rx_len -= at;
	return true;
}

static void dnstcp_take_data(struct dnstcp *t, struct dnstcp_conn *c, const uint8_t *frame,
			     const struct net_flow *f)
{
	const uint8_t *data = frame + NET_ETH_HEADER + f->payload;
	size_t n = f->payload_len, room = DNSTCP_RX_MAX - c->rx_len;
	uint32_t serial = c->serial, had = c->rcv_nxt;

	if (!n && !(f->tcp_flags & WIRE_TCP_FIN))
		return;
	/* Only what comes next: anything else is sent again, or was there already. */
	if (f->tcp_seq == c->rcv_nxt && !c->fin_received) {
		if (n > room)
			n = room;
		memcpy(c->rx + c->rx_len, data, n);
		c->rx_len += n;
		c->rcv_nxt += (uint32_t)n;
		if (f->tcp_flags & WIRE_TCP_FIN && n == f->payload_len) {
			c->rcv_nxt++;
			c->fin_received = true;
		}
		if (!dnstcp_ask(t, c)) {
			dnstcp_abort(t, c);
			return;
		}
	}
	if (c->serial != serial || c->state != DNSTCP_OPEN)
		return;
	if (had != c->rcv_nxt)
		c->idle_ms = t->now_ms + DNSTCP_IDLE_MS;
	dnstcp_ack(t, c);
}

void dnstcp_input(struct dnstcp *t, const uint8_t *frame, const struct net_flow *f)
{
	struct dnstcp_conn *c = dnstcp_find(t, f->sport);

	if (f->tcp_flags & WIRE_TCP_RST) {
		/* RFC 5961 §3.2: a reset that is not quite in place ends nothing. */
		if (c && f->tcp_seq == c->rcv_nxt)
			dnstcp_free(c);
		return;
	}
	if (f->tcp_flags & WIRE_TCP_SYN) {
		if (!(f->tcp_flags & WIRE_TCP_ACK))
			dnstcp_open(t, c, frame, f);
		return;
	}
	if (!(f->tcp_flags & WIRE_TCP_ACK))
		return;
	if (!c) {
		const struct dnstcp_conn none = { .port = f->sport, .rx_len = DNSTCP_RX_MAX };

		dnstcp_send(t, &none, WIRE_TCP_RST, f->tcp_ack, NULL, 0);
		return;
	}
	if (!dnstcp_take_ack(t, c, f) || c->state != DNSTCP_OPEN)
		return;
	dnstcp_take_data(t, c, frame, f);
	if (c->state == DNSTCP_OPEN)
		dnstcp_push(t, c);
}

/* ---- answers and time -------------------------------------------------------- */

void dnstcp_answer(struct dnstcp *t, unsigned conn, uint32_t serial, const uint8_t *msg, size_t len)
{
	struct dnstcp_conn *c = &t->conns[conn];
	uint8_t *to;

	if (c->state != DNSTCP_OPEN || c->serial != serial || !c->asked)
		return;
	c->asked--;
	c->idle_ms = t->now_ms + DNSTCP_IDLE_MS;
	if (len && !c->fin_sent) {
		/* One that asks and does not read gets no more. */
		if (len > UINT16_MAX || buf_reserve(&c->tx, 2 + len, &to)) {
			dnstcp_abort(t, c);
			return;
		}
		wire_put16(to, (unsigned)len);
		memcpy(to + 2, msg, len);
		buf_commit(&c->tx, 2 + len);
	}
	/* A question that had to wait for this; while it is asked, the loop there sees to it. */
	if (!c->asking && c->rx_len) {
		size_t had = c->rx_len;

		if (!dnstcp_ask(t, c)) {
			dnstcp_abort(t, c);
			return;
		}
		if (c->state != DNSTCP_OPEN || c->serial != serial)
			return;
		if (c->rx_len < had)
			dnstcp_ack(t, c); /* there is room again */
	}
	dnstcp_push(t, c);
}

uint64_t dnstcp_deadline(const struct dnstcp *t)
{
	uint64_t first = UINT64_MAX;

	for (unsigned i = 0; i < DNSTCP_CONNS; i++) {
		const struct dnstcp_conn *c = &t->conns[i];

		if (c->state == DNSTCP_FREE)
			continue;
		if (c->repeat_ms && c->repeat_ms < first)
			first = c->repeat_ms;
		if (c->idle_ms < first)
			first = c->idle_ms;
	}
	return first;
}

static void dnstcp_repeat(struct dnstcp *t, struct dnstcp_conn *c)
{
	if (c->retries++ == DNSTCP_RETRIES) {
		dnstcp_abort(t, c);
		return;
	}
	if (c->state == DNSTCP_OPENING) {
		dnstcp_send(t, c, WIRE_TCP_SYN | WIRE_TCP_ACK, c->snd_una, NULL, 0);
	} else if (!dnstcp_sent(c) && c->fin_sent) {
		dnstcp_send(t, c, WIRE_TCP_FIN | WIRE_TCP_ACK, c->snd_una, NULL, 0);
	} else {
		/* A byte asks a closed window whether it has opened. */
		size_t n = dnstcp_sent(c) ? dnstcp_sent(c) : 1;

		if (n > c->mss)
			n = c->mss;
		if (c->snd_una == c->snd_nxt)
			c->snd_nxt++;
		dnstcp_send(t, c, WIRE_TCP_ACK | WIRE_TCP_PSH, c->snd_una, buf_data(&c->tx), n);
	}
	c->repeat_ms = t->now_ms + ((uint64_t)DNSTCP_RTO_MS << c->retries);
}

void dnstcp_tick(struct dnstcp *t)
{
	for (unsigned i = 0; i < DNSTCP_CONNS; i++) {
		struct dnstcp_conn *c = &t->conns[i];

		if (c->state == DNSTCP_FREE)
			continue;
		if (t->now_ms >= c->idle_ms)
			dnstcp_abort(t, c);
		else if (c->repeat_ms && t->now_ms >= c->repeat_ms)
			dnstcp_repeat(t, c);
	}
}

/* ---- life ---------------------------------------------------------------------- */

void dnstcp_init(struct dnstcp *t, const struct dnstcp_ops *ops, const uint8_t guest_mac[6],
		 uint8_t *frame)
{
	*t = (struct dnstcp){ .ops = ops, .frame = frame };
	memcpy(t->guest_mac, guest_mac, 6);
}

void dnstcp_fini(struct dnstcp *t)
{
	for (unsigned i = 0; i < DNSTCP_CONNS; i++)
		if (t->conns[i].state != DNSTCP_FREE)
			dnstcp_free(&t->conns[i]);
}
