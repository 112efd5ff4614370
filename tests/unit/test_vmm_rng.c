/* SPDX-License-Identifier: Apache-2.0 */
#include "unit/test.h"

#include <errno.h>

#include "base/mem.h"
#include "sys/loop.h"
#include "unit/virtio_driver.h"
#include "vmm/memory.h"
#include "vmm/virtio/rng.h"
#include "vmm/virtio/vdev.h"

#define RAM (4u << 20)
#define DATA 0x10000u
#define SIZE 16u

static struct memory ram;
static struct drv_queue dq;
static struct loop *loop;
static struct vdev *rng;
static unsigned raised;

static void count(struct vdev *d)
{
	(void)d;
	raised++;
}

static void start(uint64_t features)
{
	drv_queue_init(&dq, &ram, 0x1000, SIZE);
	assert_true(drv_init(rng, DRV_F_VERSION_1 | features));
	assert_true(drv_queue_attach(rng, 0, &dq));
	drv_ready(rng);
}

static void begin(void)
{
	raised = 0;
	assert_int_equal(memory_create(&ram, RAM, -1, NULL), 0);
	assert_int_equal(loop_create(&loop, NULL), 0);
	assert_int_equal(rng_create(&rng, &ram, loop, NULL), 0);
	rng->raise = count;
	start(0);
}

static void end(void)
{
	rng->ops->destroy(rng);
	loop_destroy(loop);
	memory_destroy(&ram);
}

static bool all_zero(uint64_t gpa, size_t len)
{
	const uint8_t *p = drv_at(&ram, gpa, len);

	for (size_t i = 0; i < len; i++)
		if (p[i])
			return false;
	return true;
}

static void a_request_is_filled(void **state)
{
	const struct drv_seg segs[] = {
		{ .addr = DATA, .len = 64, .write = true },
		{ .addr = DATA + 0x1000, .len = 5000, .write = true },
	};
	uint32_t id, len;
	uint16_t head;

	(void)state;
	begin();
	assert_int_equal(drv_read(rng, DRV_DEVICE_ID), 4);
	head = drv_send(&dq, segs, 2);
	vdev_kick(rng, 0);
	assert_true(drv_used(&dq, &id, &len));
	assert_int_equal(id, head);
	assert_int_equal(len, 5064);
	assert_int_equal(raised, 1);
	/* 32 bytes of a good generator are not all zero, at either end of each buffer. */
	assert_false(all_zero(DATA, 32));
	assert_false(all_zero(DATA + 32, 32));
	assert_false(all_zero(DATA + 0x1000, 32));
	assert_false(all_zero(DATA + 0x1000 + 5000 - 32, 32));
	assert_true(all_zero(DATA + 64, 0x1000 - 64));
	assert_true(all_zero(DATA + 0x1000 + 5000, 4096));
	/* And the next ones are others. */
	memcpy(drv_at(&ram, 0x8000, 64), drv_at(&ram, DATA, 64), 64);
	drv_send(&dq, segs, 1);
	vdev_kick(rng, 0);
	assert_memory_not_equal(drv_at(&ram, 0x8000, 64), drv_at(&ram, DATA, 64), 64);
	end();
}

/* Class 4: overlapping buffers and large ones cost no more than others. */
static void a_request_is_cut_at_64_kib(void **state)
{
	const struct drv_seg one[] = { { .addr = DATA, .len = 2u << 20, .write = true } };
	struct drv_seg many[SIZE];
	uint32_t id, len;

	(void)state;
	begin();
	drv_send(&dq, one, 1);
	vdev_kick(rng, 0);
	assert_true(drv_used(&dq, &id, &len));
	assert_int_equal(len, 65536);
	assert_true(all_zero(DATA + 65536, 65536));
	for (unsigned i = 0; i < SIZE; i++)
		many[i] = (struct drv_seg){ .addr = DATA, .len = 10000, .write = true };
	start(0);
	drv_send(&dq, many, SIZE);
	vdev_kick(rng, 0);
	assert_true(drv_used(&dq, &id, &len));
	assert_int_equal(len, 65536);
	end();
}

/* A turn of the loop serves no more than it should; the rest is not forgotten. */
static void a_greedy_guest_does_not_hold_the_loop(void **state)
{
	const struct drv_seg seg = { .addr = DATA, .len = 40000, .write = true };
	const struct drv_seg byte = { .addr = DATA, .len = 1, .write = true };
	unsigned served = 0, turns = 0;
	uint32_t id, len;

	(void)state;
	begin();
	for (unsigned i = 0; i < SIZE; i++)
		drv_send(&dq, &seg, 1);
	vdev_kick(rng, 0);
	while (drv_used(&dq, &id, &len))
		served++;
	assert_int_equal(served, 2);
	assert_int_equal(raised, 1);
	while (served < SIZE) {
		unsigned before = served;

		assert_int_equal(loop_run_once(loop, 1000), 0);
		while (drv_used(&dq, &id, &len))
			served++;
		assert_true(served - before <= 2);
		turns++;
	}
	assert_true(turns >= SIZE / 2 - 1);
	/* A queue of small ones is a short turn: none is put off. */
	start(0);
	for (unsigned i = 0; i < SIZE; i++)
		drv_send(&dq, &byte, 1);
	vdev_kick(rng, 0);
	for (unsigned i = 0; i < SIZE; i++)
		assert_true(drv_used(&dq, &id, &len));
	end();
}

static void kicks_are_asked_for_with_event_idx(void **state)
{
	const struct drv_seg seg = { .addr = DATA, .len = 8, .write = true };

	(void)state;
	begin();
	start(DRV_F_EVENT_IDX);
	for (unsigned i = 1; i < 40; i++) {
		uint32_t id, len;

		drv_set_used_event(&dq, dq.used_seen);
		drv_send(&dq, &seg, 1);
		vdev_kick(rng, 0);
		assert_int_equal(drv_avail_event(&dq), i);
		assert_true(drv_used(&dq, &id, &len));
		assert_int_equal(raised, i);
	}
	end();
}

static void readable_buffers_and_bad_chains_are_faults(void **state)
{
	const struct drv_seg wrong[] = { { .addr = DATA, .len = 8 } };
	const struct drv_seg mixed[] = { { .addr = DATA, .len = 8 },
					 { .addr = DATA, .len = 8, .write = true } };
	const struct drv_seg outside[] = { { .addr = RAM - 1, .len = 2, .write = true } };
	const struct {
		const struct drv_seg *segs;
		unsigned n;
	} cases[] = { { wrong, 1 }, { mixed, 2 }, { outside, 1 } };

	(void)state;
	begin();
	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
		uint32_t id, len;

		start(0);
		drv_send(&dq, cases[i].segs, cases[i].n);
		vdev_kick(rng, 0);
		assert_true(drv_broken(rng));
		assert_false(drv_used(&dq, &id, &len));
		assert_true(all_zero(DATA, 8));
	}
	end();
}

static void it_has_no_configuration(void **state)
{
	uint8_t b[4] = { 1, 1, 1, 1 };

	(void)state;
	begin();
	vdev_mmio_read(rng, DRV_CONFIG, b, 4);
	vdev_mmio_write(rng, DRV_CONFIG, b, 4);
	assert_int_equal(b[0] | b[1] | b[2] | b[3], 0);
	end();
}

static void a_snapshot_holds_the_queue_alone(void **state)
{
	const struct drv_seg seg = { .addr = DATA, .len = 40000, .write = true };
	struct vdev *copy;
	struct buf blob;
	uint32_t id, len;

	(void)state;
	begin();
	for (unsigned i = 0; i < 4; i++)
		drv_send(&dq, &seg, 1);
	vdev_kick(rng, 0); /* two of them; the others wait for the next turn */
	vdev_drain(rng);
	buf_init(&blob, 0);
	assert_int_equal(vdev_save(rng, &blob), 0);
	assert_int_equal(rng_create(&copy, &ram, loop, NULL), 0);
	assert_int_equal(vdev_load(copy, buf_data(&blob), buf_len(&blob) - 1, NULL), -EINVAL);
	assert_int_equal(vdev_load(copy, buf_data(&blob), buf_len(&blob), NULL), 0);
	vdev_undrain(copy);
	for (unsigned i = 0; i < 4; i++) {
		assert_true(drv_used(&dq, &id, &len));
		assert_int_equal(len, 40000);
	}
	copy->ops->destroy(copy);
	assert_int_equal(buf_append(&blob, "", 1), 0);
	assert_int_equal(rng_create(&copy, &ram, loop, NULL), 0);
	assert_int_equal(vdev_load(copy, buf_data(&blob), buf_len(&blob), NULL), -EINVAL);
	copy->ops->destroy(copy);
	buf_fini(&blob);
	end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_request_is_filled),
		TEST(a_request_is_cut_at_64_kib),
		TEST(a_greedy_guest_does_not_hold_the_loop),
		TEST(kicks_are_asked_for_with_event_idx),
		TEST(readable_buffers_and_bad_chains_are_faults),
		TEST(it_has_no_configuration),
		TEST(a_snapshot_holds_the_queue_alone),
	};

	log_init(2, LOG_ERR, "test");
	return test_run(tests);
}
