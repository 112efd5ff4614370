/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_SANDBOX_RELAY_H
#define MSB_SANDBOX_RELAY_H

/*
 * DOC: Between the clients of ctl.sock and the guest's agent
 *
 * Both sides speak the agent wire (codec/frame.h).  Clients choose channel numbers of
 * their own; the relay gives each channel a number on the agent's link and translates.
 * Bodies pass as they are: the ends check them.
 *
 * Trust boundary: the agent's side is the guest and may send anything; a client is a
 * process of the same user, but may be broken.  So the relay accounts for every window
 * itself, on both sides: the bytes waiting in it for somebody slow are bounded by what
 * that somebody granted.  A guest that breaks the protocol ends the sandbox (on_fault);
 * a client that does is disconnected.
 *
 * States of a link: unsynced (bytes are discarded until HELLO_ACK with our generation),
 * synced, configured.  States of a channel: open; closing (its client
 * closed it or is gone: what still comes is dropped, until the last message frees it).
 */

#include "codec/frame.h"
#include "sys/loop.h"
#include "sys/stream.h"

struct relay;
struct relay_call;

struct relay_ops {
	/* The guest broke the protocol or its link is gone; the sandbox cannot go on. */
	void (*on_fault)(struct relay *r, const char *reason);
	/* The agent mounted everything and takes requests. */
	void (*on_configured)(struct relay *r, const struct frame_configured *c);
	/* The agent refused to start: its reason. */
	void (*on_refused)(struct relay *r, const struct frame_error *err);
	/* A client asked for the end of the sandbox. */
	void (*on_stop)(struct relay *r, uint32_t grace_ms);
	/* The owner's connection is gone. */
	void (*on_owner_gone)(struct relay *r);
	/*
	 * A request to the supervisor itself (NET_GET, NET_SET): @call is to be answered, once, at
	 * any later time.  NULL: such requests are refused.
	 */
	void (*on_call)(struct relay *r, struct relay_call *call, const struct frame *f);
	/* A client let go (SANDBOX_HOLD), or is gone and had not; see relay_held(). */
	void (*on_let_go)(struct relay *r);
};

struct agent_link {
	struct relay *relay;
	struct stream stream;
	enum frame_link id;
	bool synced;
	uint64_t generation;
	size_t discarded; /* bytes thrown away while unsynced */
	struct channel *channels[FRAME_CHANNELS_MAX]; /* number - 1 */
};

struct relay {
	struct loop *loop;
	const struct relay_ops *ops;
	struct agent_link ctl, bulk;
	struct list clients;
	unsigned n_clients;
	struct list calls; /* not answered yet */
	unsigned n_calls;
	bool ready; /* configured: clients' requests pass */
	bool fault;
	struct frame_sandbox_state state; /* sent to each new client; strings not owned */
};

/* Takes over both descriptors; sends HELLO on each and @configure after it on ctl. */
int relay_init(struct relay *r, struct loop *l, const struct relay_ops *ops, int ctl_fd,
	       int bulk_fd, const struct frame_configure *configure, struct err *e);
void relay_fini(struct relay *r);

/* Takes over a client's connected socket (also on failure, where it is closed). */
int relay_add_client(struct relay *r, int fd, bool owner, struct err *e);

/* Does a client hold the sandbox: its owner, or one that sent SANDBOX_HOLD? */
bool relay_held(const struct relay *r);

/* Sets the state and tells every client. The strings must stay valid. */
void relay_set_state(struct relay *r, const struct frame_sandbox_state *s);

/* From now on clients' requests are passed to the agent. */
void relay_set_ready(struct relay *r);

/* Asks the agent to end the machine. */
void relay_shutdown(struct relay *r, uint32_t grace_ms);

/* Answer a call, which is gone then; nobody hears it if the client is gone. */
void relay_answer(struct relay_call *call, uint16_t type, const void *msg);
void relay_refuse(struct relay_call *call, int code, const char *message);

/* Has every client taken all that was queued for it (or gone)? */
bool relay_drained(const struct relay *r);

#endif
