/* SPDX-License-Identifier: Apache-2.0 */
#include "server/quota.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "server/box.h"

#define QUOTA_SECOND_NS 1000000000u

struct quota_key {
	struct list link;
	char id[TOKEN_ID_SIZE];
	struct quota_bucket bucket;
};

uint64_t quota_bucket_take(struct quota_bucket *b, uint32_t rate, uint64_t now_ns)
{
	uint64_t each = rate < QUOTA_SECOND_NS ? QUOTA_SECOND_NS / rate : 1;
	uint64_t full_at = b->full_at_ns > now_ns ? b->full_at_ns : now_ns;
	uint64_t used = full_at - now_ns + each; /* with this one */

	/* What is left over of the division is not held against anybody. */
	if (used > each * rate)
		return used - each * rate;
	b->full_at_ns = full_at + each;
	return 0;
}

void quotas_init(struct quotas *q)
{
	for (size_t i = 0; i < QUOTA_CHAINS; i++)
		list_init(&q->chains[i]);
}

static void quota_forget(struct quota_key *k)
{
	list_remove(&k->link);
	free(k);
}

void quotas_fini(struct quotas *q)
{
	for (size_t i = 0; i < QUOTA_CHAINS; i++)
		list_for_each (pos, tmp, &q->chains[i])
			quota_forget(list_entry(pos, struct quota_key, link));
}

static struct list *quota_chain(struct quotas *q, const char *id)
{
	unsigned h = 5381;

	while (*id)
		h = h * 33 + (unsigned char)*id++;
	return &q->chains[h % QUOTA_CHAINS];
}

/* A bucket that is full again is as good as none: so the table stays small. */
static struct quota_key *quota_find(struct quotas *q, const char *id, uint64_t now_ns)
{
	struct list *chain = quota_chain(q, id);
	struct quota_key *found = NULL;

	list_for_each (pos, tmp, chain) {
		struct quota_key *k = list_entry(pos, struct quota_key, link);

		if (!strcmp(k->id, id))
			found = k;
		else if (k->bucket.full_at_ns <= now_ns)
			quota_forget(k);
	}
	if (found)
		return found;
	found = calloc(1, sizeof(*found));
	if (!found)
		return NULL;
	snprintf(found->id, sizeof(found->id), "%s", id);
	list_append(chain, &found->link);
	return found;
}

unsigned quota_take_request(struct quotas *q, const struct principal *who, uint64_t now_ns)
{
	struct quota_key *k;
	uint64_t wait;

	if (!who->limits.rate)
		return 0;
	k = quota_find(q, who->key, now_ns);
	if (!k)
		return 1; /* out of memory */
	wait = quota_bucket_take(&k->bucket, who->limits.rate, now_ns);
	return (unsigned)((wait + QUOTA_SECOND_NS - 1) / QUOTA_SECOND_NS);
}

static int quota_exceeded(json_t **data, const char *what, uint32_t limit, struct err *e)
{
	*data = json_pack("{s:s, s:I}", "limit", what, "max", (json_int_t)limit);
	if (!strcmp(what, "sandboxes"))
		return err_set(e, EDQUOT, "this key may have %u sandboxes at once: stop some",
			       limit);
	return err_set(e, EDQUOT,
		       "this key's sandboxes may have %u MiB of memory together: stop some, or ask "
		       "for less",
		       limit);
}

int quota_check_sandbox(const struct server *s, const struct principal *who, uint64_t memory_mib,
			json_t **data, struct err *e)
{
	const struct token_limits *l = &who->limits;
	uint64_t memory = memory_mib;
	unsigned n = 0;

	if (!l->sandboxes && !l->memory_mib)
		return 0;
	for (const struct list *pos = s->boxes.next; pos != &s->boxes; pos = pos->next) {
		const struct box *b = list_entry(pos, struct box, link);

		if (strcmp(b->key, who->key))
			continue;
		n++;
		memory += b->memory_mib;
	}
	if (l->sandboxes && n >= l->sandboxes)
		return quota_exceeded(data, "sandboxes", l->sandboxes, e);
	if (l->memory_mib && memory > l->memory_mib)
		return quota_exceeded(data, "memory", l->memory_mib, e);
	return 0;
}
