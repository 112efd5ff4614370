/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_NET_DNSTCP_H
#define MSB_NET_DNSTCP_H

/*
 * DNS over TCP as the gateway offers it: just as much TCP as questions and answers of a
 * guest need, and no socket of the host's.
 */

#include <stdbool.h>

#include "base/buf.h"
#include "net/packet.h"

#define DNSTCP_CONNS 16u
#define DNSTCP_ASKED_MAX 16u /* questions of a connection that wait for their answer */
#define DNSTCP_RX_MAX 2048u /* a question with its length; more of them wait their turn */
#define DNSTCP_TX_MAX (256u * 1024u) /* answers that the guest has not taken */
#define DNSTCP_IDLE_MS 15000u
#define DNSTCP_RTO_MS 500u /* until the first repetition; then twice as long each time */
#define DNSTCP_RETRIES 5u

enum dnstcp_state { DNSTCP_FREE, DNSTCP_OPENING, DNSTCP_OPEN };

struct dnstcp_conn {
	enum dnstcp_state state;
	uint16_t port; /* the guest's */
	uint16_t mss, window; /* the guest's */
	uint32_t serial; /* tells this connection from the next one in its place */
	uint32_t rcv_nxt; /* of the guest's stream */
	uint32_t snd_una, snd_nxt; /* of ours: taken; sent */
	uint8_t rx[DNSTCP_RX_MAX];
	size_t rx_len;
	struct buf tx; /* starts at snd_una */
	unsigned asked;
	bool asking; /* dnstcp_ask() is at work */
	bool fin_received, fin_sent; /* the second only after the first */
	unsigned retries;
	uint64_t repeat_ms; /* when what was sent is sent again; 0 = nothing to */
	uint64_t idle_ms; /* when nothing has happened for too long */
};

struct dnstcp_ops {
	/* A frame for the guest. */
	void (*send)(void *ctx, const uint8_t *frame, size_t len);
	/* A whole question; dnstcp_answer() with the same @conn and @serial is the answer. */
	void (*ask)(void *ctx, unsigned conn, uint32_t serial, const uint8_t *msg, size_t len);
	uint32_t (*random)(void *ctx);
	void *ctx;
};

struct dnstcp {
	const struct dnstcp_ops *ops; /* not owned */
	uint8_t guest_mac[6];
	uint64_t now_ms; /* kept up to date by the owner */
	uint32_t serial;
	struct dnstcp_conn conns[DNSTCP_CONNS];
	uint8_t *frame; /* NET_FRAME_MAX bytes to build in; not owned */
};

void dnstcp_init(struct dnstcp *t, const struct dnstcp_ops *ops, const uint8_t guest_mac[6],
		 uint8_t *frame);
void dnstcp_fini(struct dnstcp *t);

/* A segment of the guest to the gateway's port 53, accepted by net_policy_check(). */
void dnstcp_input(struct dnstcp *t, const uint8_t *frame, const struct net_flow *f);

/* The answer to a question of ask(); @len 0: there will be none. */
void dnstcp_answer(struct dnstcp *t, unsigned conn, uint32_t serial, const uint8_t *msg, size_t len);

/* When dnstcp_tick() is to be called; UINT64_MAX = never. */
uint64_t dnstcp_deadline(const struct dnstcp *t);
void dnstcp_tick(struct dnstcp *t);

#endif
