/* SPDX-License-Identifier: Apache-2.0 */
#include "net/gate.h"

#include <netinet/in.h>

#include "net/build.h"
#include "net/reply.h"
#include "net/wire.h"

static void gate_set_limits(struct gate *g)
{
	for (unsigned i = 0; i < NETLIMIT_CONNECTIONS; i++)
		bucket_init(&g->limits[i], g->policy.rules.limits[i], g->flows.now_ms);
}

void gate_init(struct gate *g, uint32_t key)
{
	g->policy.pins = &g->pins;
	netlog_init(&g->log, &g->policy);
	flows_init(&g->flows, key, g->flow_room, FLOWS_MAX, g->flow_buckets, FLOWS_BUCKETS);
	gate_set_limits(g);
}

void gate_clock(struct gate *g, uint64_t now_ms)
{
	g->flows.now_ms = g->pins.now_ms = now_ms;
}

/* ---- limits ------------------------------------------------------------------ */

static uint64_t gate_wait(struct gate *g, enum netlimit bytes, enum netlimit packets)
{
	uint64_t a = bucket_wait(&g->limits[bytes], g->flows.now_ms);
	uint64_t b = bucket_wait(&g->limits[packets], g->flows.now_ms);

	return a > b ? a : b;
}

uint64_t gate_wait_out(struct gate *g)
{
	return gate_wait(g, NETLIMIT_OUT_BYTES, NETLIMIT_OUT_PACKETS);
}

uint64_t gate_wait_in(struct gate *g)
{
	return gate_wait(g, NETLIMIT_IN_BYTES, NETLIMIT_IN_PACKETS);
}

static void gate_count(struct gate *g, enum netlimit bytes, enum netlimit packets, size_t len)
{
	bucket_take(&g->limits[bytes], len, g->flows.now_ms);
	bucket_take(&g->limits[packets], 1, g->flows.now_ms);
}

/* TCP connections that are open, or being opened. */
static unsigned gate_connections(struct gate *g)
{
	unsigned n = 0;
	struct flow *w;
	int32_t at = -1;

	while ((w = flows_next(&g->flows, &at)))
		n += w->proto == IPPROTO_TCP && !w->closing;
	return n;
}

/* May another connection begin? */
static enum net_verdict gate_connect(struct gate *g, const struct net_flow *f, enum net_reason *why)
{
	const uint64_t most = g->policy.rules.limits[NETLIMIT_CONNECTIONS];
	struct bucket *b = &g->limits[NETLIMIT_CONNECTS];
	/* The guest repeats what got no answer: that is the same connection. */
	bool again = flows_find(&g->flows, f, true) != NULL;

	if (!again && most && gate_connections(g) >= most) {
		*why = NET_REASON_CONNECTIONS;
		return NET_DENY;
	}
	if (!again && bucket_wait(b, g->flows.now_ms)) {
		*why = NET_REASON_RATE;
		return NET_DROP;
	}
	if (!again)
		bucket_take(b, 1, g->flows.now_ms);
	return NET_PASS;
}

enum net_verdict gate_judge(struct gate *g, const uint8_t *frame, size_t len, struct net_flow *f,
			    enum net_reason *why)
{
	enum net_verdict v = net_policy_headers(&g->policy, frame, len, f, why);

	gate_count(g, NETLIMIT_OUT_BYTES, NETLIMIT_OUT_PACKETS, len);
	if (v != NET_PASS || !net_policy_has_destination(f))
		return v;
	if (g->answers && g->answers(g->ctx, f))
		return NET_PASS;
	/* A new connection from the same port is a new question. */
	if (!gate_is_syn(f) && flows_find(&g->flows, f, true))
		return NET_PASS;
	*why = net_policy_destination(&g->policy, f);
	if (*why != NET_REASON_NONE)
		return NET_DENY;
	/* Segments of no known connection are the stack's to refuse; DNS is not its own. */
	if (net_policy_is_dns(f))
		return NET_PASS;
	if (f->proto == IPPROTO_TCP && !gate_is_syn(f) && !net_policy_in_group(&g->policy, &f->dst))
		return NET_PASS;
	if (gate_is_syn(f))
		v = gate_connect(g, f, why);
	if (v == NET_PASS)
		flows_add(&g->flows, f, true);
	return v;
}

void gate_refuse(struct gate *g, const uint8_t *frame, const struct net_flow *flow,
		 enum net_verdict verdict, enum net_reason why)
{
	uint8_t reply[NET_REPLY_MAX];
	size_t n;

	if (verdict == NET_DROP) {
		g->log.reasons[why]++;
		return;
	}
	netlog_denied(&g->log, flow, why);
	n = net_reply_build(frame, flow, reply);
	if (n)
		g->to_guest(g->ctx, reply, n);
}

/* Is it a datagram or an answer to a ping, which anybody could send? */
static bool gate_is_datagram(const struct net_flow *f)
{
	switch (f->proto) {
	case IPPROTO_UDP:
		return true;
	case IPPROTO_ICMP:
		return f->icmp_type == WIRE_ICMP_ECHO_REPLY;
	case IPPROTO_ICMPV6:
		return f->icmp_type == WIRE_ICMP6_ECHO_REPLY;
	default:
		return false;
	}
}

void gate_count_in(struct gate *g, size_t len)
{
	gate_count(g, NETLIMIT_IN_BYTES, NETLIMIT_IN_PACKETS, len);
}

bool gate_knows(struct gate *g, const struct net_flow *f)
{
	return flows_find(&g->flows, f, false) != NULL;
}

bool gate_admit(struct gate *g, const uint8_t *frame, size_t len)
{
	struct net_flow f;
	bool known;

	gate_count(g, NETLIMIT_IN_BYTES, NETLIMIT_IN_PACKETS, len);
	if (net_packet_read(frame, len, &f) != NET_PACKET_IP || !f.transport)
		return true;
	known = flows_find(&g->flows, &f, false);
	if (known || !gate_is_datagram(&f))
		return true;
	g->log.reasons[NET_REASON_UNASKED]++;
	return false;
}

/* ---- other rules ------------------------------------------------------------ */

/* The segment that ends @w for the guest, or as the guest's for the other end. */
static size_t gate_build_reset(const struct gate *g, const struct flow *w, bool from_guest,
			       uint8_t frame[NET_BUILD_TCP])
{
	const bool v4 = netaddr_is_v4(&w->remote);
	const struct netaddr guest = v4 ? netaddr_v4(NET_GUEST_IP) : net_guest_ip6;
	const struct net_ends e = {
		.guest_mac = g->policy.guest_mac,
		.from_guest = from_guest,
		.src = from_guest ? guest : w->remote,
		.dst = from_guest ? w->remote : guest,
	};
	const struct net_segment s = {
		.sport = from_guest ? w->port : w->remote_port,
		.dport = from_guest ? w->remote_port : w->port,
		.seq = from_guest ? w->seq : w->ack,
		.ack = from_guest ? w->ack : w->seq,
		.flags = WIRE_TCP_RST | WIRE_TCP_ACK,
	};

	return net_build_tcp(frame, &e, &s);
}

void gate_reset(struct gate *g, const struct flow *w)
{
	uint8_t frame[NET_BUILD_TCP];

	g->to_guest(g->ctx, frame, gate_build_reset(g, w, false, frame));
	g->to_stack(g->ctx, frame, gate_build_reset(g, w, true, frame));
}

void gate_forget(struct gate *g, struct flows *t, const struct netaddr *remote)
{
	uint8_t frame[NET_BUILD_TCP];
	struct flow *w;
	int32_t at = -1;

	while ((w = flows_next(t, &at))) {
		if (!netaddr_equal(&w->remote, remote))
			continue;
		if (w->proto == IPPROTO_TCP && !w->closing)
			g->to_guest(g->ctx, frame, gate_build_reset(g, w, false, frame));
		flows_remove(t, w);
	}
}

void gate_recheck(struct gate *g)
{
	struct flow *w;
	int32_t at = -1;

	while ((w = flows_next(&g->flows, &at))) {
		struct net_flow f = {
			.version = netaddr_is_v4(&w->remote) ? 4 : 6,
			.dst = w->remote,
			.sport = w->port,
			.dport = w->remote_port,
			.proto = w->proto,
		};
		enum net_reason why = net_policy_destination(&g->policy, &f);

		if (why == NET_REASON_NONE)
			continue;
		netlog_cut(&g->log, &f, why);
		if (w->proto == IPPROTO_TCP && !w->closing)
			gate_reset(g, w);
		flows_remove(&g->flows, w);
	}
}

void gate_set_rules(struct gate *g, const struct netpolicy *rules)
{
	g->policy.rules = *rules;
	g->version++;
	gate_set_limits(g);
	gate_recheck(g);
}
