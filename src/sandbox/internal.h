/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_SANDBOX_INTERNAL_H
#define MSB_SANDBOX_INTERNAL_H

/* Shared by the files of the supervisor; nobody else includes it. */

#include "codec/box_state.h"
#include "codec/sandbox_config.h"
#include "engine/engine.h"
#include "sandbox/membership.h"
#include "sandbox/netctl.h"
#include "sandbox/relay.h"
#include "sandbox/taillog.h"

struct supervisor {
	struct loop *loop;
	struct sandbox_config cfg;
	const char *dir_path;
	int dirfd, logdirfd;
	const struct engine_ops *engine;
	struct relay relay;
	bool relay_up;
	struct netctl netctl;
	struct membership group;
	int owner_fd; /* before the relay takes it over */
	int ports_fd; /* the first socket of cfg.ports, before msb-net has them; -1 = none */

	int secrets_fd; /* before msb-net has it; -1 = none */

	struct child vm, net, volume;
	struct loop_watch vm_watch, net_watch, volume_watch, signal_watch, listen_watch;
	int signal_fd, listen_fd;
	struct taillog console, vm_log, net_log, volume_log;
	struct loop_timer boot_timer, stop_timer, linger_timer;
	uint64_t started_ns;
	bool closed; /* nothing is open to the outside, now and later: see net/stack.h */
	bool ipv6; /* and the host has a way to the IPv6 internet */

	enum sandbox_state state;
	int end_code; /* errno of the end, 0 = as asked */
	char end_reason[1024]; /* one line */
	bool ended;
	bool shutting_down; /* the guest was asked to power itself off */

	struct command *command; /* command.c; NULL = none of its own */
	struct box_state state_record; /* of a sandbox that is kept */
};

/* Ends it as if it had been asked for, unless it is ending already. */
void supervisor_end(struct supervisor *s, const char *reason);

/* upper.c: the disk of a sandbox that is kept, locked; made if there is none. */
int upper_open(struct supervisor *s, int *out, struct err *e);

/* command.c: the sandbox's own command, if command.json is there; started when the guest is ready. */
int command_load(struct supervisor *s, struct err *e);
int command_start(struct supervisor *s, struct err *e);
void command_fini(struct supervisor *s);

/* Everything that has to exist before the VM starts, and the VM. */
int supervisor_start_vm(struct supervisor *s, const struct relay_ops *ops, struct err *e);

/* A pipe for what a child prints; *@theirs is the writing end. */
int supervisor_log_pipe(struct supervisor *s, struct taillog *t, const char *name, int *theirs,
			struct err *e);

/* volumes.c: starts the file server if it is needed; *@port_fd is then the VM's end (the caller's). */
int volumes_start(struct supervisor *s, int *port_fd, struct err *e);

/* Is there one that the file server serves? */
bool volumes_any_shared(const struct sandbox_config *cfg);

/* What the agent has to know of the volumes; @b holds the strings. */
int volumes_configure(const struct sandbox_config *cfg, struct frame_configure *c, struct buf *b,
		      struct err *e);

#endif
