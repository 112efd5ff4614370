/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_AGENT_AGENT_H
#define MSB_AGENT_AGENT_H

/*
 * The agent's core: links, channels and what they share.  It runs as PID 1 of the
 * guest and, in the unit tests, as an ordinary process: what only PID 1 of a
 * virtual machine can do is behind struct agent_platform.
 */

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/list.h"
#include "codec/frame.h"
#include "sys/loop.h"

struct agent;

#define AGENT_OLD_CGROUPS 64

/* What the machine can do.  Any of these may be NULL: then the request is refused. */
struct agent_platform {
	/* Wall clock and entropy of a HELLO.  A failure keeps the link shut. */
	int (*seed)(uint64_t realtime_ns, const uint8_t *entropy, size_t n, struct err *e);
	int (*set_clock)(uint64_t realtime_ns, struct err *e);
	/*
	 * Mounts, names, network.  On success fills in the descriptors of struct agent.
	 * Return: 0; 1: agent_configured() will be called; or a negative errno.
	 */
	int (*configure)(struct agent *a, const struct frame_configure *c, struct err *e);
	void (*shutdown)(struct agent *a, uint32_t grace_ms);
};

struct agent {
	struct loop *loop;
	const struct agent_platform *platform;
	const char *build; /* version string for HELLO_ACK */
	bool configured;
	struct link *configuring; /* CONFIGURE came over it and is not answered yet */
	bool stopping; /* SHUTDOWN was seen: nothing new is started */
	bool ended; /* agent_run() returns */

	/*
	 * Directories of the kernel's own file systems, opened before user code ran.
	 * Paths would lead wherever the user mounted something.  -1 = not there.
	 */
	int dev_fd, pts_fd, proc_fd, cgroup_fd;
	int disk_fd; /* root of the upper's file system, for METRICS */

	struct list links;
	struct list deferred; /* struct deferred */
	struct list procs; /* struct proc: children that somebody waits for */
	void (*reaped)(struct agent *a); /* after children were reaped; or NULL */
	struct loop_watch sigchld;
	int sigchld_fd;
	unsigned next_cgroup;
	unsigned old_cgroups[AGENT_OLD_CGROUPS], next_old; /* see proc_release() */
	struct list interps; /* struct interp: interpreters of REPL_RUN */
	size_t repl_code_bytes; /* code that waits to be run, of all calls */
	pid_t pump_pid; /* of the volumes (volumes.c); 0 = there is none */
	unsigned stop_signal; /* of the sandbox's own command, at SHUTDOWN; 0 = SIGTERM */
};

/**
 * agent_init() - prepare the core; blocks SIGCHLD for good
 * The directory descriptors start at -1; the caller sets those it has.
 */
int agent_init(struct agent *a, const struct agent_platform *platform, const char *build,
	       struct err *e);
/* Ends all links and gives everything back.  Children are killed, not waited for. */
void agent_fini(struct agent *a);

/* Serves until @a->ended is set. Return: 0, or a negative errno of the loop. */
int agent_run(struct agent *a);

/*
 * Work for the end of the current turn of the loop, when no callback is running: the
 * place to free what callbacks may still be using.  Queueing twice is harmless.
 */
struct deferred {
	struct list link;
	void (*fn)(struct deferred *d);
};

void agent_defer(struct agent *a, struct deferred *d);

struct link;

/*
 * One request of the host and its streams.  Embedded in the object that serves the
 * request; that object is freed by itself, never by the link.
 */
struct channel {
	struct list node; /* in link->channels */
	struct link *link; /* NULL: the link is gone or the last message was sent */
	uint32_t id;
	const struct channel_ops *ops;
};

struct channel_ops {
	/* DATA, EOF, CREDIT, EXEC_RESIZE, EXEC_SIGNAL. Return: 0, or a negative errno: abandon. */
	int (*frame)(struct channel *c, const struct frame *f);
	/* The host gave up (CLOSE) or broke the rules: stop, then send the last message. */
	void (*close)(struct channel *c);
	/* The link is gone: c->link is NULL already; stop and free. */
	void (*lost)(struct channel *c);
};

/* Appends a message to the link's queue. Harmless without a link. */
void channel_send(struct channel *c, uint16_t type, uint16_t flags, const void *msg);

/* As channel_send(), and the channel's number is free again: c->link becomes NULL. */
void channel_finish(struct channel *c, uint16_t type, const void *msg);

/* Ends the channel with FRAME_ERROR. */
void channel_fail(struct channel *c, const struct err *e);

struct link {
	struct list node; /* in agent->links */
	struct agent *agent;
	enum frame_link kind;
	int fd; /* owned */
	struct loop_watch watch;
	bool open; /* the host side is connected, as far as the kernel told */
	bool synced; /* a HELLO was seen on this connection */
	bool broken; /* something did not fit: reset at the next turn of the loop */
	bool paused; /* not reading: too much waits in out */
	struct buf in, out;
	struct list channels;
	unsigned n_channels;
	struct list waiting; /* struct waiter: wait for room in out */
};

struct waiter {
	struct list link;
	void (*resume)(struct waiter *w);
};

/* Serves @fd (taken, also on failure). */
int link_create(struct agent *a, enum frame_link kind, int fd, struct err *e);
void link_destroy(struct link *l);

/* Appends a frame of channel 0, or an error for a channel that was never opened. */
void link_send(struct link *l, uint32_t channel, uint16_t type, const void *msg);
void link_send_error(struct link *l, uint32_t channel, const struct err *e);

/* Forgets everything of this connection; the next HELLO starts afresh. */
void link_reset(struct link *l);

/* Writes what the port takes. */
void link_flush(struct link *l);

/* May a stream append another chunk? */
bool link_has_room(const struct link *l);

/* Registers a channel for a request that was just received. */
void link_open(struct link *l, struct channel *c, uint32_t id, const struct channel_ops *ops);

/* One complete frame of a synced link (agent.c). */
void agent_frame(struct link *l, const struct frame *f);

/* A CONFIGURE that took longer is done (agent.c); @e: it failed, else NULL. */
void agent_configured(struct agent *a, const struct err *e);

/* A HELLO (agent.c). Return: 0 = the link is synced. */
int agent_hello(struct link *l, const struct frame *f);

#endif
