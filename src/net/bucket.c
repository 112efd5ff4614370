/* SPDX-License-Identifier: Apache-2.0 */
#include "net/bucket.h"

static int64_t bucket_most(const struct bucket *b)
{
	const int64_t saved = (int64_t)(b->rate * BUCKET_BURST_MS);

	/* One unit at least, or nothing would ever pass. */
	return saved < 1000 ? 1000 : saved;
}

static void bucket_fill(struct bucket *b, uint64_t now_ms)
{
	uint64_t ms = now_ms - b->last_ms;

	/* More than an hour fills any debt that a frame can make. */
	if (ms > 3600000)
		ms = 3600000;
	b->last_ms = now_ms;
	b->tokens += (int64_t)(b->rate * ms);
	if (b->tokens > bucket_most(b))
		b->tokens = bucket_most(b);
}

void bucket_init(struct bucket *b, uint64_t rate, uint64_t now_ms)
{
	*b = (struct bucket){ .rate = rate, .last_ms = now_ms };
	b->tokens = bucket_most(b);
}

void bucket_take(struct bucket *b, uint64_t n, uint64_t now_ms)
{
	if (!b->rate)
		return;
	bucket_fill(b, now_ms);
	b->tokens -= (int64_t)n * 1000;
}

uint64_t bucket_wait(struct bucket *b, uint64_t now_ms)
{
	if (!b->rate)
		return 0;
	bucket_fill(b, now_ms);
	if (b->tokens > 0)
		return 0;
	return (uint64_t)-b->tokens / b->rate + 1;
}
