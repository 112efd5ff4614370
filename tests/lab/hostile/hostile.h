/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HOSTILE_H
#define HOSTILE_H

/* The attacks, and what they share. */

#include "guest.h"

/* Memory that nothing of ours lies in: 16 MiB to 24 MiB. */
#define SCRATCH 0x1000000ul
#define SCRATCH_SIZE 0x800000ul

extern uint64_t ram_end;

/* What has to come of an attack, before the device is reset. */
enum outcome {
	BREAKS, /* the device asks for a reset (virtio 1.2 §2.1.1) */
	ANSWERS, /* the attack itself saw what it had to: run() says so */
	SURVIVES, /* either; what counts is that a reset brings it back */
};

struct attack {
	unsigned class; /* of hostile input: main.c lists them */
	const char *name;
	uint64_t features; /* to negotiate besides VERSION_1 */
	enum outcome outcome;
	/* The device is started. Returns false if it saw what must not be. */
	bool (*run)(struct device *d, unsigned q);
};

/* Is it a queue that the device looks at, and do its buffers begin writable? */
bool queue_writable(const struct device *d, unsigned q);

/* Any queue, then the devices by themselves; each ends with a name of NULL. */
extern const struct attack ring_attacks[], register_attacks[];
extern const struct attack blk_attacks[], net_attacks[], console_attacks[], rng_attacks[],
	balloon_attacks[];

/* Does the device do its work, asked for politely? It has been started. */
bool device_works(struct device *d);

/* One disk request; returns the status byte, 0xff if none came. */
uint8_t blk_request(struct device *d, uint32_t type, uint64_t sector, uint64_t data, uint32_t len,
		    bool to_guest);

#endif
