/* SPDX-License-Identifier: Apache-2.0 */
#include "unit/test.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/mem.h"
#include "unit/virtio_driver.h"
#include "vmm/memory.h"
#include "vmm/virtio/vq.h"

/*
 * RAM of two slots that touch in the mapping and not in the guest: [0, 64 KiB) and
 * 64 KiB from 4 GiB on.  The queue is at QUEUE, buffers are taken from DATA.
 */
#define SLOT (64u << 10)
#define HIGH MEMORY_HOLE_END
#define QUEUE 0x1000u
#define TABLE 0x4000u
#define DATA 0x8000u
#define SIZE 8u

static struct memory ram;
static struct drv_queue dq;
static struct vq q;
static struct vq_chain chain;

static void begin_with(uint16_t size)
{
	assert_int_equal(memory_create(&ram, 2 * SLOT, -1, NULL), 0);
	ram.slots[0].size = SLOT;
	ram.slots[1] = (struct memory_slot){
		.gpa = HIGH,
		.size = SLOT,
		.host = ram.slots[0].host + SLOT,
	};
	ram.n_slots = 2;
	drv_queue_init(&dq, &ram, QUEUE, size);
	assert_int_equal(drv_queue_bind(&dq, &q), 0);
}

static void begin(void)
{
	begin_with(SIZE);
}

static void end(void)
{
	memory_destroy(&ram);
}

/* One descriptor, offered; what vq_pop() says to it. */
static int pop_one(uint64_t addr, uint32_t len, unsigned flags, unsigned next)
{
	drv_desc(&ram, dq.desc, 0, addr, len, flags, next);
	drv_offer(&dq, 0);
	return vq_pop(&q, &chain);
}

static int enable(uint16_t size, uint64_t desc, uint64_t avail, uint64_t used, uint16_t max)
{
	struct vq at;

	vq_init(&at, &ram);
	at.size = size;
	at.desc = desc;
	at.avail = avail;
	at.used = used;
	return vq_enable(&at, max);
}

static void a_chain_comes_and_goes(void **state)
{
	const struct drv_seg segs[] = {
		{ .addr = DATA, .len = 16 },
		{ .addr = HIGH + 8, .len = 100 },
		{ .addr = DATA + 0x100, .len = 512, .write = true },
		{ .addr = DATA + 0x400, .len = 1, .write = true },
	};
	uint32_t id, len;
	uint16_t head;

	(void)state;
	begin();
	assert_int_equal(vq_pop(&q, &chain), 0);
	drv_send(&dq, segs, 1);
	head = drv_send(&dq, segs, 4);
	assert_int_equal(vq_pop(&q, &chain), 1);
	assert_int_equal(chain.n_read, 1);
	vq_push(&q, chain.head, 0);
	assert_int_equal(vq_pop(&q, &chain), 1);
	assert_int_equal(chain.head, head);
	assert_int_equal(chain.n_read, 2);
	assert_int_equal(chain.n_write, 2);
	assert_int_equal(chain.read_bytes, 116);
	assert_int_equal(chain.write_bytes, 513);
	assert_ptr_equal(chain.iov[1].iov_base, drv_at(&ram, HIGH + 8, 100));
	assert_int_equal(chain.iov[3].iov_len, 1);
	assert_int_equal(vq_pop(&q, &chain), 0);
	vq_push(&q, head, 513);
	assert_true(drv_used(&dq, &id, &len));
	assert_true(drv_used(&dq, &id, &len));
	assert_int_equal(id, head);
	assert_int_equal(len, 513);
	assert_false(drv_used(&dq, &id, &len));
	end();
}

/* Three times around the 16 bits of the index, a full queue each time. */
static void positions_wrap(void **state)
{
	const struct drv_seg seg = { .addr = DATA, .len = 4, .write = true };
	uint32_t id, len;

	(void)state;
	begin();
	for (unsigned round = 0; round < 3 * 65536 / SIZE; round++) {
		for (unsigned i = 0; i < SIZE; i++)
			drv_send(&dq, &seg, 1);
		for (unsigned i = 0; i < SIZE; i++) {
			assert_int_equal(vq_pop(&q, &chain), 1);
			assert_int_equal(chain.head, i);
		}
		for (unsigned i = SIZE; i--;)
			vq_push(&q, (uint16_t)i, round + i);
		for (unsigned i = SIZE; i--;) {
			assert_true(drv_used(&dq, &id, &len));
			assert_int_equal(id, i);
			assert_int_equal(len, round + i);
		}
	}
	end();
}

static void a_chain_can_be_put_back(void **state)
{
	const struct drv_seg seg = { .addr = DATA, .len = 4 };

	(void)state;
	begin();
	drv_send(&dq, &seg, 1);
	drv_send(&dq, &seg, 1);
	assert_int_equal(vq_pop(&q, &chain), 1);
	assert_int_equal(vq_pop(&q, &chain), 1);
	assert_int_equal(chain.head, 1);
	vq_unpop(&q);
	assert_int_equal(vq_pop(&q, &chain), 1);
	assert_int_equal(chain.head, 1);
	assert_int_equal(vq_pop(&q, &chain), 0);
	end();
}

static void bytes_are_copied_across_segments(void **state)
{
	const struct drv_seg segs[] = {
		{ .addr = DATA, .len = 3 },
		{ .addr = DATA + 16, .len = 5 },
		{ .addr = DATA + 32, .len = 2, .write = true },
		{ .addr = DATA + 48, .len = 6, .write = true },
	};
	char got[16] = { 0 };
	struct iovec iov[4];

	(void)state;
	begin();
	memcpy(drv_at(&ram, DATA, 3), "abc", 3);
	memcpy(drv_at(&ram, DATA + 16, 5), "defgh", 5);
	drv_send(&dq, segs, 4);
	assert_int_equal(vq_pop(&q, &chain), 1);
	assert_int_equal(vq_chain_read(&chain, 0, got, sizeof(got)), 8);
	assert_string_equal(got, "abcdefgh");
	assert_int_equal(vq_chain_read(&chain, 2, got, 3), 3);
	assert_memory_equal(got, "cde", 3);
	assert_int_equal(vq_chain_read(&chain, 3, got, 1), 1);
	assert_int_equal(got[0], 'd');
	assert_int_equal(vq_chain_read(&chain, 8, got, 1), 0);
	assert_int_equal(vq_chain_read(&chain, SIZE_MAX, got, 1), 0);
	assert_int_equal(vq_chain_write(&chain, 1, "0123456789", 10), 7);
	assert_int_equal(*(char *)drv_at(&ram, DATA + 33, 1), '0');
	assert_memory_equal(drv_at(&ram, DATA + 48, 6), "123456", 6);
	assert_memory_equal(drv_at(&ram, DATA, 3), "abc", 3);

	assert_int_equal(vq_chain_slice_read(&chain, 1, 100, iov, 4), 2);
	assert_ptr_equal(iov[0].iov_base, drv_at(&ram, DATA + 1, 2));
	assert_int_equal(iov[0].iov_len, 2);
	assert_int_equal(iov[1].iov_len, 5);
	assert_int_equal(vq_chain_slice_read(&chain, 0, 100, iov, 1), 1);
	assert_int_equal(vq_chain_slice_read(&chain, 0, 4, iov, 4), 2);
	assert_int_equal(iov[1].iov_len, 1);
	assert_int_equal(vq_chain_slice_write(&chain, 2, 6, iov, 4), 1);
	assert_ptr_equal(iov[0].iov_base, drv_at(&ram, DATA + 48, 6));
	assert_int_equal(vq_chain_slice_write(&chain, 8, 1, iov, 4), 0);
	assert_int_equal(vq_chain_slice_write(&chain, 0, 0, iov, 4), 0);
	end();
}

/* Class 1. */
static void rings_are_where_they_may_be(void **state)
{
	const uint64_t last = SLOT; /* end of the first slot */

	(void)state;
	begin();
	assert_int_equal(enable(8, 0, 0x800, 0xc00, 8), 0);
	assert_int_equal(enable(1, 0, 0x800, 0xc00, 256), 0);
	assert_int_equal(enable(0, 0, 0x800, 0xc00, 256), -EINVAL);
	assert_int_equal(enable(3, 0, 0x800, 0xc00, 256), -EINVAL);
	assert_int_equal(enable(16, 0, 0x800, 0xc00, 8), -EINVAL);
	assert_int_equal(enable(512, 0, 0x4000, 0x5000, 256), -EINVAL);
	assert_int_equal(enable(0x8000, 0, 0x800, 0xc00, 256), -EINVAL);
	/* Alignment: 16, 2 and 4. */
	assert_int_equal(enable(8, 8, 0x800, 0xc00, 8), -EINVAL);
	assert_int_equal(enable(8, 0, 0x801, 0xc00, 8), -EINVAL);
	assert_int_equal(enable(8, 0, 0x802, 0xc00, 8), 0);
	assert_int_equal(enable(8, 0, 0x800, 0xc02, 8), -EINVAL);
	assert_int_equal(enable(8, 0, 0x800, 0xc04, 8), 0);
	/* Exactly to the end of RAM, and the least that is possible beyond it. */
	assert_int_equal(enable(8, last - 128, 0, 0x100, 8), 0);
	assert_int_equal(enable(8, last - 112, 0, 0x100, 8), -EINVAL);
	assert_int_equal(enable(8, 0, last - 22, 0x100, 8), 0);
	assert_int_equal(enable(8, 0, last - 20, 0x100, 8), -EINVAL);
	assert_int_equal(enable(1, 0, 0x100, last - 16, 8), 0);
	assert_int_equal(enable(1, 0, 0x100, last - 12, 8), -EINVAL);
	assert_int_equal(enable(8, HIGH + SLOT - 128, HIGH, HIGH + 0x100, 8), 0);
	assert_int_equal(enable(8, HIGH + SLOT - 112, HIGH, HIGH + 0x100, 8), -EINVAL);
	/* The hole, before the second slot, and wrapping addresses. */
	assert_int_equal(enable(8, MEMORY_HOLE_START, 0, 0x100, 8), -EINVAL);
	assert_int_equal(enable(8, 0, HIGH - 2, 0x100, 8), -EINVAL);
	assert_int_equal(enable(8, UINT64_MAX - 15, 0, 0x100, 8), -EINVAL);
	assert_int_equal(enable(8, 0, UINT64_MAX - 1, 0x100, 8), -EINVAL);
	assert_int_equal(enable(8, 0, 0x100, UINT64_MAX - 3, 8), -EINVAL);
	end();
}

static void a_refused_queue_stays_off(void **state)
{
	(void)state;
	begin();
	vq_reset(&q);
	assert_false(q.enabled);
	q.size = 4;
	q.used = 2;
	assert_int_equal(vq_enable(&q, 8), -EINVAL);
	assert_false(q.enabled);
	assert_null(q.desc_host);
	end();
}

/* Class 2. */
static void buffers_are_in_one_slot_of_ram(void **state)
{
	static const struct {
		uint64_t addr;
		uint32_t len;
		int rc;
	} cases[] = {
		{ 0, 1, 1 },
		{ SLOT - 1, 1, 1 },
		{ 0, SLOT, 1 },
		{ HIGH, SLOT, 1 },
		{ HIGH + SLOT - 1, 1, 1 },
		{ SLOT, 1, -EINVAL },
		{ SLOT - 1, 2, -EINVAL }, /* the slots touch in the host only */
		{ 0, SLOT + 1, -EINVAL },
		{ 0, UINT32_MAX, -EINVAL },
		{ MEMORY_HOLE_START, 1, -EINVAL },
		{ HIGH - 1, 1, -EINVAL },
		{ HIGH - 1, 2, -EINVAL },
		{ HIGH + 1, SLOT, -EINVAL },
		{ HIGH + SLOT, 1, -EINVAL },
		{ UINT64_MAX, 1, -EINVAL },
		{ UINT64_MAX - 3, 8, -EINVAL },
		{ UINT64_MAX - UINT32_MAX + 1, UINT32_MAX, -EINVAL },
	};

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
		begin();
		if (pop_one(cases[i].addr, cases[i].len, i % 2 ? DRV_WRITE : 0, 0) != cases[i].rc)
			fail_msg("case %u", i);
		end();
	}
}

/* Class 3: the indexes. */
static void indexes_are_bounded(void **state)
{
	const struct drv_seg seg = { .addr = DATA, .len = 4 };

	(void)state;
	/* More available than the queue has entries: one more, backwards. */
	begin();
	drv_put16(&ram, dq.avail + 2, SIZE + 1);
	assert_int_equal(vq_pop(&q, &chain), -EINVAL);
	drv_put16(&ram, dq.avail + 2, 0xffff);
	assert_int_equal(vq_pop(&q, &chain), -EINVAL);
	end();
	/* A head out of the table. */
	begin();
	drv_offer(&dq, SIZE);
	assert_int_equal(vq_pop(&q, &chain), -EINVAL);
	assert_int_equal(vq_pop(&q, &chain), -EINVAL); /* no progress */
	end();
	begin();
	drv_offer(&dq, 0xffff);
	assert_int_equal(vq_pop(&q, &chain), -EINVAL);
	end();
	/* A full queue in flight, and the driver offers a chain again. */
	begin();
	for (unsigned i = 0; i < SIZE; i++) {
		drv_send(&dq, &seg, 1);
		assert_int_equal(vq_pop(&q, &chain), 1);
	}
	drv_offer(&dq, 0);
	assert_int_equal(vq_pop(&q, &chain), -EINVAL);
	vq_push(&q, 3, 0);
	assert_int_equal(vq_pop(&q, &chain), 1);
	assert_int_equal(chain.head, 0);
	end();
}

/* Class 3: next, loops, length. */
static void chains_are_bounded(void **state)
{
	(void)state;
	begin();
	assert_int_equal(pop_one(DATA, 4, DRV_NEXT, SIZE), -EINVAL);
	end();
	begin();
	assert_int_equal(pop_one(DATA, 4, DRV_NEXT, 0xffff), -EINVAL);
	end();
	/* next counts only with NEXT. */
	begin();
	assert_int_equal(pop_one(DATA, 4, 0, 0xffff), 1);
	end();
	/* A loop of one and of two. */
	begin();
	assert_int_equal(pop_one(DATA, 4, DRV_NEXT, 0), -EINVAL);
	end();
	begin();
	drv_desc(&ram, dq.desc, 1, DATA, 4, DRV_NEXT, 0);
	assert_int_equal(pop_one(DATA, 4, DRV_NEXT, 1), -EINVAL);
	end();
	/* All of the queue in one chain is the most there can be. */
	begin();
	for (unsigned i = 0; i < SIZE; i++)
		drv_desc(&ram, dq.desc, i, DATA, 4, i + 1 < SIZE ? DRV_NEXT : 0, i + 1);
	drv_offer(&dq, 0);
	assert_int_equal(vq_pop(&q, &chain), 1);
	assert_int_equal(chain.n_read, SIZE);
	end();
}

/* Class 3: the sum.  Only a sparse 4 GiB of RAM can hold one buffer that large. */
static void a_chain_has_less_than_4_gib(void **state)
{
	(void)state;
	assert_int_equal(memory_create(&ram, 8ull << 30, -1, NULL), 0);
	drv_queue_init(&dq, &ram, QUEUE, SIZE);
	assert_int_equal(drv_queue_bind(&dq, &q), 0);
	drv_desc(&ram, dq.desc, 1, DATA, 1, DRV_WRITE, 0);
	assert_int_equal(pop_one(HIGH, UINT32_MAX - 1, DRV_NEXT, 1), 1);
	assert_int_equal(chain.read_bytes, UINT32_MAX - 1);
	end();
	assert_int_equal(memory_create(&ram, 8ull << 30, -1, NULL), 0);
	drv_queue_init(&dq, &ram, QUEUE, SIZE);
	assert_int_equal(drv_queue_bind(&dq, &q), 0);
	drv_desc(&ram, dq.desc, 1, DATA, 1, DRV_WRITE, 0);
	assert_int_equal(pop_one(HIGH, UINT32_MAX, DRV_NEXT, 1), -EINVAL);
	end();
}

/* Class 4. */
static void buffers_have_the_right_shape(void **state)
{
	(void)state;
	begin();
	assert_int_equal(pop_one(DATA, 0, 0, 0), -EINVAL);
	end();
	begin();
	drv_desc(&ram, dq.desc, 1, DATA, 0, DRV_WRITE, 0);
	assert_int_equal(pop_one(DATA, 4, DRV_NEXT, 1), -EINVAL);
	end();
	/* Readable after writable. */
	begin();
	drv_desc(&ram, dq.desc, 1, DATA, 4, 0, 0);
	assert_int_equal(pop_one(DATA, 4, DRV_NEXT | DRV_WRITE, 1), -EINVAL);
	end();
	/* Overlapping buffers are the guest's own affair. */
	begin();
	drv_desc(&ram, dq.desc, 1, DATA, SLOT - DATA, DRV_WRITE, 0);
	assert_int_equal(pop_one(DATA, SLOT - DATA, DRV_NEXT | DRV_WRITE, 1), 1);
	assert_int_equal(chain.write_bytes, 2 * (SLOT - DATA));
	end();
	/* Bits without a meaning are ignored. */
	begin();
	assert_int_equal(pop_one(DATA, 4, 0xfff8, 0), 1);
	end();
}

static int pop_indirect(uint64_t addr, uint32_t len, unsigned flags)
{
	q.indirect = true;
	return pop_one(addr, len, flags | DRV_INDIRECT, 1);
}

/* Class 5. */
static void indirect_tables_are_read(void **state)
{
	(void)state;
	/* At an odd address: no alignment is demanded. */
	begin();
	drv_desc(&ram, TABLE + 1, 0, DATA, 4, DRV_NEXT, 2);
	drv_desc(&ram, TABLE + 1, 2, DATA + 8, 5, DRV_WRITE, 0);
	assert_int_equal(pop_indirect(TABLE + 1, 48, 0), 1);
	assert_int_equal(chain.n_read, 1);
	assert_int_equal(chain.n_write, 1);
	assert_int_equal(chain.write_bytes, 5);
	end();
	/* WRITE on the table's descriptor is ignored (§2.7.5.3.2). */
	begin();
	drv_desc(&ram, TABLE, 0, DATA, 4, 0, 0);
	assert_int_equal(pop_indirect(TABLE, 16, DRV_WRITE), 1);
	assert_int_equal(chain.n_read, 1);
	end();
	/* After direct ones, as §2.7.5.3.2 wants. */
	begin();
	q.indirect = true;
	drv_desc(&ram, TABLE, 0, DATA + 8, 6, DRV_WRITE, 0);
	drv_desc(&ram, dq.desc, 0, DATA, 4, DRV_NEXT, 1);
	drv_desc(&ram, dq.desc, 1, TABLE, 16, DRV_INDIRECT, 0);
	drv_offer(&dq, 0);
	assert_int_equal(vq_pop(&q, &chain), 1);
	assert_int_equal(chain.n_read, 1);
	assert_int_equal(chain.n_write, 1);
	end();
	/* A table longer than the queue, of which a short chain is used. */
	begin();
	drv_desc(&ram, TABLE, 0, DATA, 4, DRV_NEXT, 4 * SIZE - 1);
	drv_desc(&ram, TABLE, 4 * SIZE - 1, DATA, 4, 0, 0);
	assert_int_equal(pop_indirect(TABLE, 64 * SIZE, 0), 1);
	assert_int_equal(chain.n_read, 2);
	end();
}

static void indirect_tables_are_bounded(void **state)
{
	(void)state;
	/* Not negotiated. */
	begin();
	drv_desc(&ram, TABLE, 0, DATA, 4, 0, 0);
	assert_int_equal(pop_one(TABLE, 16, DRV_INDIRECT, 0), -EINVAL);
	end();
	/* With NEXT. */
	begin();
	drv_desc(&ram, TABLE, 0, DATA, 4, 0, 0);
	drv_desc(&ram, dq.desc, 1, DATA, 4, 0, 0);
	assert_int_equal(pop_indirect(TABLE, 16, DRV_NEXT), -EINVAL);
	end();
	/* Nested. */
	begin();
	drv_desc(&ram, TABLE, 0, TABLE + 16, 16, DRV_INDIRECT, 0);
	drv_desc(&ram, TABLE, 1, DATA, 4, 0, 0);
	assert_int_equal(pop_indirect(TABLE, 32, 0), -EINVAL);
	end();
	/* Lengths. */
	for (uint32_t len = 0; len <= 40; len++) {
		begin();
		drv_desc(&ram, TABLE, 0, DATA, 4, 0, 0);
		assert_int_equal(pop_indirect(TABLE, len, 0), len && len % 16 == 0 ? 1 : -EINVAL);
		end();
	}
	/* Place: to the very end of RAM, beyond it, in the hole. */
	begin();
	drv_desc(&ram, SLOT - 16, 0, DATA, 4, 0, 0);
	assert_int_equal(pop_indirect(SLOT - 16, 16, 0), 1);
	end();
	begin();
	assert_int_equal(pop_indirect(SLOT - 16, 32, 0), -EINVAL);
	end();
	begin();
	assert_int_equal(pop_indirect(HIGH - 16, 16, 0), -EINVAL);
	end();
	begin();
	assert_int_equal(pop_indirect(UINT64_MAX - 15, 16, 0), -EINVAL);
	end();
	/* next out of the table, a loop in it, a chain longer than the queue. */
	begin();
	drv_desc(&ram, TABLE, 0, DATA, 4, DRV_NEXT, 2);
	assert_int_equal(pop_indirect(TABLE, 32, 0), -EINVAL);
	end();
	begin();
	drv_desc(&ram, TABLE, 0, DATA, 4, DRV_NEXT, 0);
	assert_int_equal(pop_indirect(TABLE, 32, 0), -EINVAL);
	end();
	begin();
	for (unsigned i = 0; i <= SIZE; i++)
		drv_desc(&ram, TABLE, i, DATA, 4, i < SIZE ? DRV_NEXT : 0, i + 1);
	assert_int_equal(pop_indirect(TABLE, 16 * (SIZE + 1), 0), -EINVAL);
	end();
	/* Readable ones in the table after writable ones before it. */
	begin();
	q.indirect = true;
	drv_desc(&ram, TABLE, 0, DATA, 4, 0, 0);
	drv_desc(&ram, dq.desc, 0, DATA, 4, DRV_NEXT | DRV_WRITE, 1);
	drv_desc(&ram, dq.desc, 1, TABLE, 16, DRV_INDIRECT, 0);
	drv_offer(&dq, 0);
	assert_int_equal(vq_pop(&q, &chain), -EINVAL);
	end();
}

/* Class 6: what was popped does not change when the guest changes its memory. */
static void a_chain_is_a_copy(void **state)
{
	const struct drv_seg segs[] = {
		{ .addr = DATA, .len = 4 },
		{ .addr = DATA + 8, .len = 8, .write = true },
	};
	struct vq_chain before;

	(void)state;
	begin();
	drv_send(&dq, segs, 2);
	assert_int_equal(vq_pop(&q, &chain), 1);
	before = chain;
	memset(drv_at(&ram, QUEUE, 16 * SIZE), 0xff, 16 * SIZE);
	assert_memory_equal(&before, &chain, sizeof(chain));
	assert_int_equal(vq_chain_slice_write(&chain, 0, 100, before.iov, 4), 1);
	assert_int_equal(before.iov[0].iov_len, 8);
	end();
}

static void serve(unsigned n)
{
	const struct drv_seg seg = { .addr = DATA, .len = 4 };

	for (unsigned i = 0; i < n; i++) {
		drv_send(&dq, &seg, 1);
		assert_int_equal(vq_pop(&q, &chain), 1);
		vq_push(&q, chain.head, 0);
	}
}

static void interrupts_follow_the_flag(void **state)
{
	(void)state;
	begin();
	assert_false(vq_wants_interrupt(&q));
	serve(1);
	assert_true(vq_wants_interrupt(&q));
	assert_false(vq_wants_interrupt(&q));
	drv_put16(&ram, dq.avail, 1);
	serve(1);
	assert_false(vq_wants_interrupt(&q));
	/* used_event means nothing without EVENT_IDX. */
	drv_put16(&ram, dq.avail, 0);
	drv_set_used_event(&dq, 100);
	serve(1);
	assert_true(vq_wants_interrupt(&q));
	end();
}

static void interrupts_follow_the_event_index(void **state)
{
	(void)state;
	begin();
	q.event_idx = true;
	drv_put16(&ram, dq.avail, 1); /* to be ignored */
	serve(1);
	assert_true(vq_wants_interrupt(&q)); /* entry 0, which used_event = 0 names */
	serve(1);
	assert_false(vq_wants_interrupt(&q));
	drv_set_used_event(&dq, 4);
	serve(2);
	assert_false(vq_wants_interrupt(&q)); /* entries 2 and 3 */
	serve(3);
	assert_true(vq_wants_interrupt(&q)); /* 4 to 6 */
	assert_false(vq_wants_interrupt(&q));
	serve(1);
	assert_false(vq_wants_interrupt(&q));
	/* Around the end of the 16 bits. */
	drv_set_used_event(&dq, 0xffff);
	while (q.next_used != 0xffff) {
		serve(1);
		assert_false(vq_wants_interrupt(&q));
	}
	serve(2);
	assert_true(vq_wants_interrupt(&q));
	end();
}

static void kicks_are_asked_for(void **state)
{
	const struct drv_seg seg = { .addr = DATA, .len = 4 };

	(void)state;
	begin();
	vq_notify_off(&q);
	assert_int_equal(drv_get16(&ram, dq.used), 1);
	assert_false(vq_notify_on(&q));
	assert_int_equal(drv_get16(&ram, dq.used), 0);
	drv_send(&dq, &seg, 1);
	assert_true(vq_notify_on(&q));
	assert_int_equal(vq_pop(&q, &chain), 1);
	assert_false(vq_notify_on(&q));
	end();
	begin();
	q.event_idx = true;
	drv_send(&dq, &seg, 1);
	vq_notify_off(&q);
	assert_int_equal(vq_pop(&q, &chain), 1);
	assert_int_equal(drv_avail_event(&dq), 0);
	assert_false(vq_notify_on(&q));
	assert_int_equal(drv_avail_event(&dq), 1);
	assert_int_equal(drv_get16(&ram, dq.used), 0); /* flags stay 0 with EVENT_IDX */
	end();
}

/* Parts of one packet: nothing of it is used until all of it is there. */
static void buffers_come_together(void **state)
{
	const struct drv_seg seg = { .addr = DATA, .len = 4, .write = true };
	struct vq_used used[3];
	uint32_t id, len;

	(void)state;
	begin();
	q.event_idx = true;
	for (unsigned i = 0; i < 2; i++) {
		drv_send(&dq, &seg, 1);
		assert_int_equal(vq_pop(&q, &chain), 1);
		used[i] = (struct vq_used){ .head = chain.head, .written = 10 + i };
	}
	/* Two are too few: back with them, and a kick at the third. */
	vq_unpop(&q);
	vq_unpop(&q);
	assert_false(vq_notify_on_beyond(&q, 2));
	assert_int_equal(drv_avail_event(&dq), 2);
	drv_send(&dq, &seg, 1);
	assert_true(vq_notify_on_beyond(&q, 2));
	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(vq_pop(&q, &chain), 1);
		used[i] = (struct vq_used){ .head = chain.head, .written = 10 + i };
	}
	assert_false(drv_used(&dq, &id, &len));
	vq_push_many(&q, used, 3);
	for (unsigned i = 0; i < 3; i++) {
		assert_true(drv_used(&dq, &id, &len));
		assert_int_equal(id, i);
		assert_int_equal(len, 10 + i);
	}
	assert_false(drv_used(&dq, &id, &len));
	end();
}

/* The largest queue at the very end of RAM: no entry of it is beyond (a sanitizer looks). */
static void the_largest_queue_works(void **state)
{
	const struct drv_seg seg = { .addr = DATA, .len = 4 };
	uint32_t id, len;

	(void)state;
	begin_with(VQ_SIZE_MAX);
	drv_queue_init(&dq, &ram, (HIGH + SLOT - (dq.end - QUEUE)) & ~15ull, VQ_SIZE_MAX);
	assert_int_equal(drv_queue_bind(&dq, &q), 0);
	q.event_idx = true;
	for (unsigned i = 0; i < 2 * VQ_SIZE_MAX; i++) {
		drv_send(&dq, &seg, 1);
		assert_int_equal(vq_pop(&q, &chain), 1);
		vq_push(&q, chain.head, i);
		vq_wants_interrupt(&q);
		assert_false(vq_notify_on(&q));
		assert_true(drv_used(&dq, &id, &len));
		assert_int_equal(len, i);
	}
	end();
}

/*
 * Driver and device in threads of their own that sleep whenever the other side has nothing
 * for them, and suppress each other's notifications.  Should both sleep, the alarm ends
 * the test.
 */
#define RACE_CHAINS 20000u
#define RACE_ALARM_S 60u

struct race {
	int kick, interrupt; /* eventfds */
	unsigned kicks, interrupts;
	bool event_idx;
};

static uint16_t ring_load(uint64_t gpa)
{
	return le16toh(__atomic_load_n((uint16_t *)drv_at(&ram, gpa, 2), __ATOMIC_ACQUIRE));
}

static void ring_store(uint64_t gpa, unsigned v)
{
	__atomic_store_n((uint16_t *)drv_at(&ram, gpa, 2), htole16((uint16_t)v), __ATOMIC_RELEASE);
}

static void *race_device(void *arg)
{
	static struct vq_chain c;
	struct race *r = arg;
	unsigned done = 0;

	while (done < RACE_CHAINS) {
		eventfd_t n;
		int rc;

		if (eventfd_read(r->kick, &n))
			abort();
		do {
			vq_notify_off(&q);
			while ((rc = vq_pop(&q, &c)) > 0) {
				vq_push(&q, c.head, done++);
				if (vq_wants_interrupt(&q)) {
					r->interrupts++;
					eventfd_write(r->interrupt, 1);
				}
			}
		} while (!rc && vq_notify_on(&q));
		if (rc)
			abort();
	}
	return NULL;
}

/* Puts up to SIZE chains in flight; each wait asks for an interrupt at the next one. */
static void race_driver(struct race *r)
{
	const uint64_t used_event = dq.avail + 4 + 2 * SIZE, avail_event = dq.used + 4 + 8 * SIZE;
	uint16_t offered = 0, seen = 0;
	unsigned sent = 0, got = 0;

	while (got < RACE_CHAINS) {
		uint16_t old = offered, event;
		eventfd_t n;
		bool kick;

		while (sent < RACE_CHAINS && (uint16_t)(offered - seen) < SIZE) {
			ring_store(dq.avail + 4 + 2 * (offered % SIZE), offered % SIZE);
			ring_store(dq.avail + 2, ++offered);
			sent++;
		}
		__atomic_thread_fence(__ATOMIC_SEQ_CST);
		event = ring_load(avail_event);
		kick = r->event_idx ? (uint16_t)(offered - event - 1) < (uint16_t)(offered - old)
				    : offered != old && !ring_load(dq.used);
		if (kick) {
			r->kicks++;
			eventfd_write(r->kick, 1);
		}
		if (ring_load(dq.used + 2) == seen) {
			ring_store(r->event_idx ? used_event : dq.avail, r->event_idx ? seen : 0);
			__atomic_thread_fence(__ATOMIC_SEQ_CST);
			if (ring_load(dq.used + 2) == seen && eventfd_read(r->interrupt, &n))
				abort();
			if (!r->event_idx)
				ring_store(dq.avail, 1);
		}
		while (ring_load(dq.used + 2) != seen) {
			if (drv_get32(&ram, dq.used + 8 + 8ull * (seen % SIZE)) != got++)
				abort();
			seen++;
		}
	}
}

static void two_threads_never_sleep_both(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 2; i++) {
		struct race r = {
			.kick = eventfd(0, EFD_CLOEXEC),
			.interrupt = eventfd(0, EFD_CLOEXEC),
			.event_idx = i,
		};
		pthread_t device;

		begin();
		for (unsigned d = 0; d < SIZE; d++)
			drv_desc(&ram, dq.desc, d, DATA, 4, 0, 0);
		q.event_idx = r.event_idx;
		alarm(RACE_ALARM_S);
		assert_int_equal(pthread_create(&device, NULL, race_device, &r), 0);
		race_driver(&r);
		assert_int_equal(pthread_join(device, NULL), 0);
		alarm(0);
		/* Suppression works: not every chain costs a notification. */
		assert_true(r.kicks < RACE_CHAINS && r.interrupts < RACE_CHAINS);
		close(r.kick);
		close(r.interrupt);
		end();
	}
}

/*
 * The two races of notification suppression, each as one step of driver and device at the
 * same time, over and over: either the driver sees what the device did, or the device sees
 * what the driver wants.  Neither is what happens without the full barriers.
 */
#define LITMUS_ROUNDS 100000u

struct litmus {
	atomic_uint turn[2]; /* rounds that driver and device have reached */
	bool driver_saw, device_saw;
	void (*driver)(struct litmus *l);
	void (*device)(struct litmus *l);
	void (*prepare)(void); /* by the device's thread, while the driver waits */
	void (*warm)(void); /* by the driver's, afterwards */
};

/* Waits until the other thread comes here as well. */
static void litmus_meet(struct litmus *l, unsigned me, unsigned turn)
{
	atomic_store(&l->turn[me], turn);
	for (unsigned spins = 1; atomic_load(&l->turn[!me]) < turn; spins++)
		if (spins % 256 == 0)
			sched_yield(); /* it may need this processor */
}

/* Lets the two start apart by more and less, so that they hit each other in each way. */
static void litmus_lag(unsigned n)
{
	for (volatile unsigned i = 0; i < n; i++)
		;
}

static void *litmus_device(void *arg)
{
	struct litmus *l = arg;

	for (unsigned i = 0; i < LITMUS_ROUNDS; i++) {
		l->prepare();
		litmus_meet(l, 1, 3 * i + 1);
		litmus_meet(l, 1, 3 * i + 2);
		litmus_lag(i % 32);
		l->device(l);
		litmus_meet(l, 1, 3 * i + 3);
		if (!l->device_saw && !l->driver_saw)
			abort();
	}
	return NULL;
}

static void litmus_run(struct litmus *l)
{
	pthread_t device;

	begin();
	for (unsigned d = 0; d < SIZE; d++)
		drv_desc(&ram, dq.desc, d, DATA, 4, 0, 0);
	assert_int_equal(pthread_create(&device, NULL, litmus_device, l), 0);
	for (unsigned i = 0; i < LITMUS_ROUNDS; i++) {
		litmus_meet(l, 0, 3 * i + 1);
		l->warm();
		litmus_meet(l, 0, 3 * i + 2);
		litmus_lag(i / 32 % 32);
		l->driver(l);
		litmus_meet(l, 0, 3 * i + 3);
	}
	assert_int_equal(pthread_join(device, NULL), 0);
	end();
}

/* The device pushes; the driver asks for interrupts, and looks once more. */
static void push_prepare(void)
{
	ring_store(dq.avail, 1);
	drv_offer(&dq, dq.avail_idx % SIZE);
	if (vq_pop(&q, &chain) != 1)
		abort();
}

/*
 * Takes the cache line of the used index, so that the device's store to it has to wait
 * while its load goes ahead: the reordering that the barrier is there against.
 */
static void push_warm(void)
{
	drv_put32(&ram, dq.used + 4 + 8ull * ((dq.avail_idx - 1u) % SIZE), 0);
	ring_load(dq.avail);
}

static void push_device(struct litmus *l)
{
	vq_push(&q, chain.head, 0);
	l->device_saw = vq_wants_interrupt(&q);
}

static void push_driver(struct litmus *l)
{
	uint16_t before = (uint16_t)(dq.avail_idx - 1);

	__atomic_store_n((uint16_t *)drv_at(&ram, dq.avail, 2), 0, __ATOMIC_RELAXED);
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	l->driver_saw = ring_load(dq.used + 2) != before;
}

/* The driver offers; the device asks for kicks, and looks once more. */
static void kick_prepare(void)
{
	while (vq_pop(&q, &chain) > 0)
		vq_push(&q, chain.head, 0);
	vq_notify_off(&q);
}

static void kick_warm(void)
{
	ring_load(dq.used);
}

static void kick_device(struct litmus *l)
{
	l->device_saw = vq_notify_on(&q);
}

static void kick_driver(struct litmus *l)
{
	drv_offer(&dq, dq.avail_idx % SIZE);
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	l->driver_saw = ring_load(dq.used) == 0;
}

static void one_side_sees_the_other(void **state)
{
	(void)state;
	litmus_run(&(struct litmus){ .driver = push_driver,
				     .device = push_device,
				     .prepare = push_prepare,
				     .warm = push_warm });
	litmus_run(&(struct litmus){ .driver = kick_driver,
				     .device = kick_device,
				     .prepare = kick_prepare,
				     .warm = kick_warm });
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_chain_comes_and_goes),
		TEST(positions_wrap),
		TEST(a_chain_can_be_put_back),
		TEST(bytes_are_copied_across_segments),
		TEST(rings_are_where_they_may_be),
		TEST(a_refused_queue_stays_off),
		TEST(buffers_are_in_one_slot_of_ram),
		TEST(indexes_are_bounded),
		TEST(chains_are_bounded),
		TEST(a_chain_has_less_than_4_gib),
		TEST(buffers_have_the_right_shape),
		TEST(indirect_tables_are_read),
		TEST(indirect_tables_are_bounded),
		TEST(a_chain_is_a_copy),
		TEST(interrupts_follow_the_flag),
		TEST(interrupts_follow_the_event_index),
		TEST(kicks_are_asked_for),
		TEST(buffers_come_together),
		TEST(the_largest_queue_works),
		TEST(two_threads_never_sleep_both),
		TEST(one_side_sees_the_other),
	};

	return test_run(tests);
}
