/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_AGENT_VOLUMES_H
#define MSB_AGENT_VOLUMES_H

#include "agent/agent.h"

/**
 * volumes_configure() - mount the volumes of a CONFIGURE
 *
 * Return: 0: there are none; 1: it is under way, and agent_configured() will be called;
 * or a negative errno.
 */
int volumes_configure(struct agent *a, const struct frame_configure *c, struct err *e);

/* The port agent.fuse is there (@fd, taken). */
void volumes_port(struct agent *a, int fd);

/* Is that port still to come, as far as is known? */
bool volumes_want_port(const struct agent *a);

/* Ends the pump, and with it every wait for a volume. */
void volumes_stop(struct agent *a);

/* ---- the pump (volume_pump.c), in a process of its own --------------------- */

#define PUMP_VOLUMES_MAX 32u

/* Who owns what in each volume, as the image's passwd says. */
struct pump_ids {
	uint32_t uids[PUMP_VOLUMES_MAX], gids[PUMP_VOLUMES_MAX];
};

struct pump {
	int port;
	int log_fd;
	int ids_fd; /* pipe: struct pump_ids; the pump waits for it */
	int devices[PUMP_VOLUMES_MAX]; /* /dev/fuse of each volume */
	unsigned n;
	uint32_t timeout_ms;
};

/* Moves messages until the port or the server is gone. */
void pump_run(struct pump *p) __attribute__((noreturn));

#endif
