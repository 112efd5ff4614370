/* SPDX-License-Identifier: Apache-2.0 */
/* Classes 2 to 6: what a driver can write into the rings of any device. */
#include "hostile.h"

#define ADDR_TOP 0xfffffffffffff000ul

static uint16_t dir(const struct device *d, unsigned q)
{
	return queue_writable(d, q) ? D_WRITE : 0;
}

static bool one(struct device *d, unsigned q, uint64_t addr, uint32_t len, uint16_t flags,
		uint16_t next)
{
	q_desc(d, q, 0, addr, len, flags, next);
	q_offer(d, q, 0);
	q_kick(d, q);
	return true;
}

static bool run_overflow(struct device *d, unsigned q)
{
	return one(d, q, ADDR_TOP, 0x2000, dir(d, q), 0);
}

static bool run_past_end(struct device *d, unsigned q)
{
	return one(d, q, ram_end - 16, 17, dir(d, q), 0);
}

static bool run_behind_end(struct device *d, unsigned q)
{
	return one(d, q, ram_end, 16, dir(d, q), 0);
}

static bool run_hole(struct device *d, unsigned q)
{
	return one(d, q, d->base, 16, dir(d, q), 0);
}

static bool run_huge(struct device *d, unsigned q)
{
	return one(d, q, SCRATCH, 0xffffffff, dir(d, q), 0);
}

static bool run_index_ahead(struct device *d, unsigned q)
{
	d->avail_idx[q] = d->size;
	return one(d, q, SCRATCH, 16, dir(d, q), 0);
}

static bool run_index_back(struct device *d, unsigned q)
{
	d->avail_idx[q] = 0xfffe;
	return one(d, q, SCRATCH, 16, dir(d, q), 0);
}

static bool run_head(struct device *d, unsigned q)
{
	q_offer(d, q, d->size);
	q_kick(d, q);
	return true;
}

static bool run_head_top(struct device *d, unsigned q)
{
	q_offer(d, q, 0xffff);
	q_kick(d, q);
	return true;
}

static bool run_next(struct device *d, unsigned q)
{
	return one(d, q, SCRATCH, 16, dir(d, q) | D_NEXT, d->size);
}

static bool run_loop_self(struct device *d, unsigned q)
{
	return one(d, q, SCRATCH, 16, dir(d, q) | D_NEXT, 0);
}

static bool run_loop(struct device *d, unsigned q)
{
	q_desc(d, q, 1, SCRATCH + 64, 16, dir(d, q) | D_NEXT, 0);
	return one(d, q, SCRATCH, 16, dir(d, q) | D_NEXT, 1);
}

/* 16 buffers of 256 MiB are 4 GiB; every one of them lies in RAM. */
static bool run_total(struct device *d, unsigned q)
{
	for (unsigned i = 1; i < d->size; i++)
		q_desc(d, q, i, SCRATCH, 0x10000000, dir(d, q) | (i + 1u < d->size ? D_NEXT : 0),
		       (uint16_t)(i + 1));
	return one(d, q, SCRATCH, 0x10000000, dir(d, q) | D_NEXT, 1);
}

static bool run_empty(struct device *d, unsigned q)
{
	return one(d, q, SCRATCH, 0, dir(d, q), 0);
}

static bool run_order(struct device *d, unsigned q)
{
	q_desc(d, q, 1, SCRATCH + 4096, 16, 0, 0);
	return one(d, q, SCRATCH, 16, D_WRITE | D_NEXT, 1);
}

static bool run_direction(struct device *d, unsigned q)
{
	return one(d, q, SCRATCH, 64, dir(d, q) ^ D_WRITE, 0);
}

static bool run_one_byte(struct device *d, unsigned q)
{
	return one(d, q, SCRATCH, 1, dir(d, q), 0);
}

/* The rings themselves as a buffer: a guest can only spoil its own. */
static bool run_rings(struct device *d, unsigned q)
{
	return one(d, q, (uintptr_t)&d->rings[q], sizeof(d->rings[q]), dir(d, q), 0);
}

/* Every head is the same chain, which is wrong 16 times over. */
static bool run_same_head(struct device *d, unsigned q)
{
	q_desc(d, q, 0, SCRATCH, 64, dir(d, q), 0);
	for (unsigned i = 0; i < d->size; i++)
		q_offer(d, q, 0);
	q_kick(d, q);
	return true;
}

static bool table(struct device *d, unsigned q, uint64_t addr, uint32_t len, uint16_t flags)
{
	return one(d, q, addr, len, D_INDIRECT | flags, 0);
}

/* A good table of one entry, in the scratch memory. */
static volatile struct desc *good_table(struct device *d, unsigned q)
{
	volatile struct desc *t = (void *)SCRATCH;

	t[0].addr = SCRATCH + 4096;
	t[0].len = 16;
	t[0].flags = dir(d, q);
	t[0].next = 0;
	return t;
}

static bool run_indirect(struct device *d, unsigned q)
{
	good_table(d, q);
	return table(d, q, SCRATCH, 16, 0);
}

static bool run_indirect_next(struct device *d, unsigned q)
{
	good_table(d, q);
	q_desc(d, q, 1, SCRATCH + 8192, 16, dir(d, q), 0);
	return one(d, q, SCRATCH, 16, D_INDIRECT | D_NEXT, 1);
}

static bool run_indirect_nested(struct device *d, unsigned q)
{
	volatile struct desc *t = good_table(d, q);

	t[0].addr = SCRATCH;
	t[0].flags = D_INDIRECT;
	return table(d, q, SCRATCH, 16, 0);
}

static bool run_indirect_none(struct device *d, unsigned q)
{
	return table(d, q, SCRATCH, 0, 0);
}

static bool run_indirect_odd(struct device *d, unsigned q)
{
	good_table(d, q);
	return table(d, q, SCRATCH, 17, 0);
}

static bool run_indirect_outside(struct device *d, unsigned q)
{
	return table(d, q, ram_end - 16, 32, 0);
}

static bool run_indirect_overflow(struct device *d, unsigned q)
{
	return table(d, q, ADDR_TOP, 0xfffffff0, 0);
}

static bool run_indirect_next_out(struct device *d, unsigned q)
{
	volatile struct desc *t = good_table(d, q);

	t[0].flags |= D_NEXT;
	t[0].next = 1;
	return table(d, q, SCRATCH, 16, 0);
}

static bool run_indirect_loop(struct device *d, unsigned q)
{
	volatile struct desc *t = good_table(d, q);

	t[0].flags |= D_NEXT;
	return table(d, q, SCRATCH, 16, 0);
}

/* The device reads while we write: whatever it sees, it must have seen once. */
static bool run_race(struct device *d, unsigned q)
{
	static const uint64_t addrs[] = { SCRATCH, ADDR_TOP, 0xd0000000ul, SCRATCH + 8 };
	static const uint32_t lens[] = { 16, 0xffffffff, 0, 64 };
	volatile struct ring *r = &d->rings[q];

	for (unsigned round = 0; round < 40; round++) {
		q_desc(d, q, 0, SCRATCH, 16, dir(d, q) | D_NEXT, 1);
		q_desc(d, q, 1, SCRATCH + 64, 64, dir(d, q), 0);
		q_offer(d, q, 0);
		q_kick(d, q);
		for (unsigned i = 0; i < 3000; i++) {
			r->desc[0].addr = addrs[i % 4];
			r->desc[0].len = lens[(i >> 2) % 4];
			r->desc[1].len = lens[i % 4];
			r->desc[0].next = (uint16_t)(i % 3 ? 1 : i);
			r->desc[1].flags = (uint16_t)(i % 8);
			r->avail.ring[i % d->size] = (uint16_t)(i % 64 ? 0 : i);
		}
		if (dev_needs_reset(d) && !dev_start(d, F_INDIRECT))
			return false;
	}
	return true;
}

const struct attack ring_attacks[] = {
	{ 2, "address + length overflows", 0, BREAKS, run_overflow },
	{ 2, "buffer ends a byte behind RAM", 0, BREAKS, run_past_end },
	{ 2, "buffer begins behind RAM", 0, BREAKS, run_behind_end },
	{ 2, "buffer in a device's registers", 0, BREAKS, run_hole },
	{ 2, "buffer of 4 GiB", 0, BREAKS, run_huge },
	{ 3, "index ahead of the queue", 0, BREAKS, run_index_ahead },
	{ 3, "index goes back", 0, BREAKS, run_index_back },
	{ 3, "head is the queue's size", 0, BREAKS, run_head },
	{ 3, "head is 65535", 0, BREAKS, run_head_top },
	{ 3, "next is the queue's size", 0, BREAKS, run_next },
	{ 3, "chain of itself", 0, BREAKS, run_loop_self },
	{ 3, "chain is a loop", 0, BREAKS, run_loop },
	{ 3, "chain of 4 GiB in all", 0, BREAKS, run_total },
	{ 4, "empty buffer", 0, BREAKS, run_empty },
	{ 4, "readable behind writable", 0, BREAKS, run_order },
	{ 4, "buffer of the wrong direction", 0, SURVIVES, run_direction },
	{ 4, "buffer of one byte", 0, SURVIVES, run_one_byte },
	{ 4, "buffer over its own rings", 0, SURVIVES, run_rings },
	{ 4, "one chain 16 times at once", 0, SURVIVES, run_same_head },
	{ 5, "indirect, not negotiated", 0, BREAKS, run_indirect },
	{ 5, "indirect with NEXT", F_INDIRECT, BREAKS, run_indirect_next },
	{ 5, "indirect in indirect", F_INDIRECT, BREAKS, run_indirect_nested },
	{ 5, "table of length 0", F_INDIRECT, BREAKS, run_indirect_none },
	{ 5, "table of 17 bytes", F_INDIRECT, BREAKS, run_indirect_odd },
	{ 5, "table past RAM", F_INDIRECT, BREAKS, run_indirect_outside },
	{ 5, "table overflows", F_INDIRECT, BREAKS, run_indirect_overflow },
	{ 5, "next outside of the table", F_INDIRECT, BREAKS, run_indirect_next_out },
	{ 5, "loop in the table", F_INDIRECT, BREAKS, run_indirect_loop },
	{ 6, "descriptors change while they are read", F_INDIRECT, SURVIVES, run_race },
	{ 0, NULL, 0, SURVIVES, NULL },
};
