/* SPDX-License-Identifier: Apache-2.0 */
#include "net/flows.h"

#include <netinet/in.h>

#include "net/wire.h"

struct flow_ends {
	const struct netaddr *remote;
	uint16_t port, remote_port;
	uint8_t proto;
};

static struct flow_ends flows_ends(const struct net_flow *f, bool from_guest)
{
	struct flow_ends e = { .proto = f->proto };

	e.remote = from_guest ? &f->dst : &f->src;
	/* A ping has its identifier in the same place both ways. */
	if (f->proto == IPPROTO_TCP || f->proto == IPPROTO_UDP) {
		e.port = from_guest ? f->sport : f->dport;
		e.remote_port = from_guest ? f->dport : f->sport;
	} else {
		e.port = f->sport;
	}
	return e;
}

static uint32_t flows_hash(const struct flows *t, const struct flow_ends *e)
{
	uint32_t h = t->key ^ e->proto, word;

	h = (h ^ ((uint32_t)e->port << 16 | e->remote_port)) * 0x9e3779b1u;
	for (unsigned i = 0; i < 16; i += 4) {
		memcpy(&word, e->remote->b + i, 4);
		h = (h ^ word ^ h >> 15) * 0x85ebca6bu;
	}
	return (h ^ h >> 16) & (t->n_buckets - 1);
}

static bool flows_is(const struct flow *w, const struct flow_ends *e)
{
	return w->port == e->port && w->remote_port == e->remote_port && w->proto == e->proto &&
	       netaddr_equal(&w->remote, e->remote);
}

static bool flows_alive(const struct flows *t, const struct flow *w)
{
	if (w->proto != IPPROTO_TCP || !w->answered)
		return t->now_ms - w->used_ms < FLOWS_DATAGRAM_MS;
	return !w->closing || t->now_ms - w->used_ms < FLOWS_CLOSING_MS;
}

/* ---- lists ----------------------------------------------------------------- */

static void flows_unlink_use(struct flows *t, struct flow *w)
{
	if (w->older >= 0)
		t->flows[w->older].newer = w->newer;
	else
		t->oldest = w->newer;
	if (w->newer >= 0)
		t->flows[w->newer].older = w->older;
	else
		t->newest = w->older;
}

static void flows_link_use(struct flows *t, struct flow *w)
{
	int32_t i = (int32_t)(w - t->flows);

	w->older = t->newest;
	w->newer = -1;
	if (t->newest >= 0)
		t->flows[t->newest].newer = i;
	else
		t->oldest = i;
	t->newest = i;
	w->used_ms = t->now_ms;
}

void flows_init(struct flows *t, uint32_t key, struct flow *flows, unsigned max, int32_t *buckets,
		unsigned n_buckets)
{
	*t = (struct flows){
		.key = key,
		.max = max,
		.n_buckets = n_buckets,
		.oldest = -1,
		.newest = -1,
		.buckets = buckets,
		.flows = flows,
	};
	for (unsigned i = 0; i < n_buckets; i++)
		t->buckets[i] = -1;
	for (unsigned i = 0; i < max; i++)
		t->flows[i].next = i + 1 < max ? (int32_t)i + 1 : -1;
}

void flows_remove(struct flows *t, struct flow *w)
{
	const struct flow_ends e = { &w->remote, w->port, w->remote_port, w->proto };
	int32_t *at = &t->buckets[flows_hash(t, &e)], i = (int32_t)(w - t->flows);

	while (*at != i)
		at = &t->flows[*at].next;
	*at = w->next;
	flows_unlink_use(t, w);
	w->next = t->free;
	t->free = i;
	t->n--;
}

static struct flow *flows_lookup(struct flows *t, const struct flow_ends *e)
{
	for (int32_t i = t->buckets[flows_hash(t, e)]; i >= 0; i = t->flows[i].next)
		if (flows_is(&t->flows[i], e))
			return &t->flows[i];
	return NULL;
}

/* ---- what happens to them ---------------------------------------------------- */

static void flows_follow(struct flow *w, const struct net_flow *f, bool from_guest)
{
	if (f->proto != IPPROTO_TCP)
		return;
	w->answered |= !from_guest;
	if (from_guest) {
		w->seq = f->tcp_seq + f->payload_len + !!(f->tcp_flags & WIRE_TCP_SYN) +
			 !!(f->tcp_flags & WIRE_TCP_FIN);
		if (f->tcp_flags & WIRE_TCP_ACK)
			w->ack = f->tcp_ack;
	}
	if (f->tcp_flags & WIRE_TCP_FIN)
		*(from_guest ? &w->fin_guest : &w->fin_remote) = true;
	if (f->tcp_flags & WIRE_TCP_RST || (w->fin_guest && w->fin_remote))
		w->closing = true;
}

struct flow *flows_find(struct flows *t, const struct net_flow *f, bool from_guest)
{
	const struct flow_ends e = flows_ends(f, from_guest);
	struct flow *w = flows_lookup(t, &e);

	if (!w)
		return NULL;
	if (!flows_alive(t, w)) {
		flows_remove(t, w);
		return NULL;
	}
	flows_unlink_use(t, w);
	flows_link_use(t, w);
	flows_follow(w, f, from_guest);
	return w;
}

void flows_add(struct flows *t, const struct net_flow *f, bool from_guest)
{
	const struct flow_ends e = flows_ends(f, from_guest);
	struct flow *w = flows_lookup(t, &e);
	int32_t *bucket;

	if (w)
		flows_remove(t, w);
	if (t->free < 0)
		flows_remove(t, &t->flows[t->oldest]);
	w = &t->flows[t->free];
	t->free = w->next;
	bucket = &t->buckets[flows_hash(t, &e)];
	*w = (struct flow){
		.remote = *e.remote,
		.port = e.port,
		.remote_port = e.remote_port,
		.proto = f->proto,
		.next = *bucket,
	};
	*bucket = (int32_t)(w - t->flows);
	flows_link_use(t, w);
	flows_follow(w, f, from_guest);
	t->n++;
}

struct flow *flows_next(struct flows *t, int32_t *at)
{
	/* From the oldest on, so that a caller may remove what it was given. */
	int32_t i = *at == -1 ? t->oldest : *at;

	while (i >= 0) {
		struct flow *w = &t->flows[i];

		i = w->newer;
		if (flows_alive(t, w)) {
			*at = i >= 0 ? i : -2;
			return w;
		}
	}
	*at = -2;
	return NULL;
}
