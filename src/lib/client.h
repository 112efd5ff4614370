/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_LIB_CLIENT_H
#define MSB_LIB_CLIENT_H

/*
 * A client of a sandbox's ctl.sock: the host side of the agent wire, on an event loop.
 *
 * Requests may be sent at once, without waiting for the sandbox to be ready: the
 * supervisor holds them until its guest is up.  All callbacks come from the loop.
 */

#include "codec/frame.h"
#include "sys/loop.h"
#include "sys/stream.h"

struct client;

struct client_ops {
	/* The sandbox's state changed (also told once after connecting). */
	void (*on_state)(struct client *c, const struct frame_sandbox_state *s);
	/* The connection is gone; every channel with it. @reason is one line. */
	void (*on_closed)(struct client *c, const char *reason);
};

struct client {
	struct stream stream;
	const struct client_ops *ops;
	struct list channels;
	uint32_t next_number;
	bool closed;
};

/* One request and its answers; embedded by its owner. */
struct client_channel {
	struct client *client; /* NULL = not open */
	uint32_t number;
	struct list link;
	/* For the last message of the channel it is already closed and may be freed. */
	void (*on_frame)(struct client_channel *ch, const struct frame *f);
};

/* Takes over @fd (also on failure) and sends the hello. */
int client_init(struct client *c, struct loop *l, int fd, const struct client_ops *ops,
		struct err *e);
void client_fini(struct client *c);

/*
 * Connects to the ctl.sock in the sandbox's directory @dirfd; never waits.  *@out is a
 * descriptor for client_init().
 */
int client_connect(int dirfd, int *out, struct err *e);

/* A pidfd of the supervisor at the other end of @fd: readable when it has ended. */
int client_supervisor(int fd, int *pidfd, struct err *e);

/* Opens a channel by sending a request. -EMSGSIZE: the request is too large. */
int client_open(struct client *c, struct client_channel *ch, uint16_t type, const void *msg);

/* Sends a further message on an open channel; ignored if it has ended. */
int client_send(struct client_channel *ch, uint16_t type, uint16_t flags, const void *msg);

/* Sends DATA on STREAM_IN, at most FRAME_DATA_MAX bytes; the caller minds the window. */
int client_send_data(struct client_channel *ch, const void *p, size_t n);

/* Gives @bytes of a stream's window back. */
int client_credit(struct client_channel *ch, uint16_t stream, uint32_t bytes);

/* Abandons the channel: what runs on it is killed, no further callback comes. */
void client_close(struct client_channel *ch);

/* Holds a sandbox that is kept, or lets it go; its state is told again then. */
void client_hold(struct client *c, bool hold);

/* Asks for the end of the sandbox. */
void client_stop(struct client *c, uint32_t grace_ms);

#endif
