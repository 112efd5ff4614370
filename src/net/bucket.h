/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_NET_BUCKET_H
#define MSB_NET_BUCKET_H

/*
 * A token bucket: so many units a second, and what was saved up in a tenth of one.  It
 * may go into debt, so that what is larger than all that was saved passes, too.
 */

#include <stdbool.h>
#include <stdint.h>

#define BUCKET_BURST_MS 100u

struct bucket {
	uint64_t rate; /* units a second; 0 = no limit */
	int64_t tokens; /* thousandths of a unit */
	uint64_t last_ms;
};

/* Starts full. @rate is at most NETLIMIT_MAX. */
void bucket_init(struct bucket *b, uint64_t rate, uint64_t now_ms);

/* Takes @n units, there or not. */
void bucket_take(struct bucket *b, uint64_t n, uint64_t now_ms);

/* Milliseconds until there is something in it again; 0 = now. */
uint64_t bucket_wait(struct bucket *b, uint64_t now_ms);

#endif
