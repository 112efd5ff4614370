/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_SERVER_QUOTA_H
#define MSB_SERVER_QUOTA_H

/*
 * Limits of single keys.  They are claims of the key (codec/token.h), so there is nothing
 * to configure here, and they hold for all who use the same key.
 *
 * Sandboxes and memory are counted over the sandboxes that the key started and that still
 * run, also those that an earlier server left: server.json has the key's id.  Requests
 * are a token bucket that holds what the key may send in one second.
 */

#include "base/err.h"
#include "base/list.h"
#include "server/rpc.h"

/* ---- a bucket ----------------------------------------------------------------------- */

/*
 * The bucket as one point in time (GCRA, ITU-T I.371): when it will be full again.
 * Starts as zero: full.
 */
struct quota_bucket {
	uint64_t full_at_ns;
};

/*
 * Takes one of @rate a second, of at most @rate at once.
 * Return: 0, or after how many nanoseconds there will be one.
 */
uint64_t quota_bucket_take(struct quota_bucket *b, uint32_t rate, uint64_t now_ns);

/* ---- keys ----------------------------------------------------------------------------- */

#define QUOTA_CHAINS 256u

/* The buckets of keys that sent something lately. */
struct quotas {
	struct list chains[QUOTA_CHAINS];
};

void quotas_init(struct quotas *q);
void quotas_fini(struct quotas *q);

/* May @who send a request now?  Return: 0, or after how many seconds, at least 1. */
unsigned quota_take_request(struct quotas *q, const struct principal *who, uint64_t now_ns);

/*
 * May @who start a sandbox with so much memory?  Return: 0; -EDQUOT with the limit in
 * *@data, to be freed.
 */
int quota_check_sandbox(const struct server *s, const struct principal *who, uint64_t memory_mib,
			json_t **data, struct err *e);

#endif
