/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_CLI_KEPT_STATS_H
#define MSB_CLI_KEPT_STATS_H

/* What running sandboxes use, as their guests tell it; all are asked at once. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "codec/frame.h"

struct kept_stats {
	int dirfd; /* in: of a sandbox that runs; not owned */
	int state; /* enum sandbox_state, -1 = it could not be connected to */
	int pid; /* of its supervisor; 0 = not known */
	bool valid; /* it has answered: what follows is known */
	double cpu_percent; /* of one CPU, over the last moments */
	struct frame_metrics_reply m;
};

/* Returns when all have answered twice, or after two seconds. */
int kept_stats_read(struct kept_stats *s, size_t n, struct err *e);

#endif
