/* SPDX-License-Identifier: Apache-2.0 */
#include "unit/test.h"

#include <errno.h>
#include <sched.h>

#include "base/mem.h"
#include "codec/le.h"
#include "sys/loop.h"
#include "unit/virtio_driver.h"
#include "vmm/memory.h"
#include "vmm/virtio/vdev.h"

/*
 * A device that echoes: it gives each chain of queue 0 back with its readable length, and
 * has 6 bytes of configuration, of which the driver may write the last two.
 */
#define ECHO_QUEUES 3u
#define ECHO_SIZE 8u
#define ECHO_F_LOUD (1ull << 5)
#define ECHO_F_HIGH (1ull << 40)
#define FEATURES (DRV_F_VERSION_1 | ECHO_F_LOUD)

struct echo {
	struct vdev vdev;
	_Alignas(4) uint8_t window[VDEV_MMIO_SIZE];
	uint8_t config[6];
	unsigned started, stopped, drains, undrains, raised, kicks[ECHO_QUEUES];
	bool stop_saw_queue;
	uint8_t secret; /* private state */
	unsigned later; /* kicks to put off */
};

static struct echo *echo_of(struct vdev *d)
{
	return container_of(d, struct echo, vdev);
}

static void echo_config_read(struct vdev *d, uint32_t off, void *to, uint32_t len)
{
	memcpy(to, echo_of(d)->config + off, len);
}

static void echo_config_write(struct vdev *d, uint32_t off, const void *from, uint32_t len)
{
	if (off >= 4)
		memcpy(echo_of(d)->config + off, from, len);
}

static void echo_start(struct vdev *d)
{
	echo_of(d)->started++;
}

static void echo_stop(struct vdev *d)
{
	echo_of(d)->stopped++;
	echo_of(d)->stop_saw_queue = d->queues[0].enabled;
}

static void echo_kick(struct vdev *d, unsigned q)
{
	static struct vq_chain c;
	int rc;

	assert_true(pthread_mutex_trylock(&d->lock) == EBUSY);
	echo_of(d)->kicks[q]++;
	if (echo_of(d)->later) {
		echo_of(d)->later--;
		vdev_kick_later(d, q);
		return;
	}
	do {
		vq_notify_off(&d->queues[q]);
		while ((rc = vq_pop(&d->queues[q], &c)) > 0)
			vq_push(&d->queues[q], c.head, c.read_bytes);
	} while (!rc && vq_notify_on(&d->queues[q]));
	if (rc)
		vdev_fault(d, "malformed chain");
	vdev_interrupt_queue(d, &d->queues[q]);
}

static void echo_drain(struct vdev *d)
{
	echo_of(d)->drains++;
}

static void echo_undrain(struct vdev *d)
{
	echo_of(d)->undrains++;
}

static int echo_save(struct vdev *d, struct buf *out)
{
	return buf_append(out, &echo_of(d)->secret, 1);
}

static int echo_load(struct vdev *d, const uint8_t *data, size_t len)
{
	if (len != 1 || *data > 100)
		return -EINVAL;
	echo_of(d)->secret = *data;
	return 0;
}

static const struct vdev_ops echo_ops = {
	.name = "echo",
	.id = 42,
	.n_queues = ECHO_QUEUES,
	.queue_size_max = ECHO_SIZE,
	.config_size = 6,
	.config_read = echo_config_read,
	.config_write = echo_config_write,
	.start = echo_start,
	.stop = echo_stop,
	.kick = echo_kick,
	.drain = echo_drain,
	.undrain = echo_undrain,
	.save = echo_save,
	.load = echo_load,
};

static struct memory ram;
static struct drv_queue dq;
static struct loop *loop;

static void echo_raise(struct vdev *d)
{
	echo_of(d)->raised++;
}

static void begin(struct echo *e)
{
	memset(e, 0, sizeof(*e));
	if (!loop) {
		assert_int_equal(memory_create(&ram, 1 << 16, -1, NULL), 0);
		assert_int_equal(loop_create(&loop, NULL), 0);
		drv_queue_init(&dq, &ram, 0x1000, ECHO_SIZE);
	}
	vdev_init(&e->vdev, &echo_ops, "echo.test", 2, ECHO_F_LOUD | ECHO_F_HIGH, &ram, loop);
	e->vdev.raise = echo_raise;
	vdev_use_window(&e->vdev, e->window);
}

/* With queue 0 attached and DRIVER_OK. */
static void begin_running(struct echo *e)
{
	begin(e);
	drv_queue_init(&dq, &ram, 0x1000, ECHO_SIZE);
	assert_true(drv_init(&e->vdev, FEATURES));
	assert_true(drv_queue_attach(&e->vdev, 0, &dq));
	drv_ready(&e->vdev);
	assert_true(vdev_live(&e->vdev));
}

static void end_one(struct echo *e)
{
	vdev_fini(&e->vdev);
}

static void end(struct echo *e)
{
	end_one(e);
	memory_destroy(&ram);
	loop_destroy(loop);
	loop = NULL;
}

static void send(struct echo *e)
{
	const struct drv_seg seg = { .addr = 0x8000, .len = 5 };

	drv_send(&dq, &seg, 1);
	vdev_kick(&e->vdev, 0);
}

static void a_driver_finds_the_device(void **state)
{
	struct echo e;
	uint64_t features = 0;

	(void)state;
	begin(&e);
	assert_int_equal(drv_read(&e.vdev, DRV_MAGIC), 0x74726976);
	assert_int_equal(drv_read(&e.vdev, DRV_VERSION), 2);
	assert_int_equal(drv_read(&e.vdev, DRV_DEVICE_ID), 42);
	for (unsigned half = 0; half < 3; half++) {
		drv_write(&e.vdev, DRV_DEVICE_FEATURES_SEL, half);
		if (half == 2)
			assert_int_equal(drv_read(&e.vdev, DRV_DEVICE_FEATURES), 0);
		else
			features |= (uint64_t)drv_read(&e.vdev, DRV_DEVICE_FEATURES) << 32 * half;
	}
	assert_int_equal(features, ECHO_F_LOUD | ECHO_F_HIGH | DRV_F_VERSION_1 |
					   DRV_F_INDIRECT_DESC | DRV_F_EVENT_IDX);
	drv_write(&e.vdev, DRV_QUEUE_SEL, 1);
	assert_int_equal(drv_read(&e.vdev, DRV_QUEUE_SIZE_MAX), ECHO_SIZE);
	assert_int_equal(drv_read(&e.vdev, DRV_QUEUE_READY), 0);
	/* No shared memory: length and base are -1. */
	for (unsigned reg = 0xb0; reg <= 0xbc; reg += 4)
		assert_int_equal(drv_read(&e.vdev, reg), UINT32_MAX);
	end(&e);
}

static void requests_are_served_and_interrupt(void **state)
{
	struct echo e;
	uint32_t id, len;

	(void)state;
	begin_running(&e);
	assert_int_equal(e.started, 1);
	send(&e);
	assert_true(drv_used(&dq, &id, &len));
	assert_int_equal(len, 5);
	assert_int_equal(e.raised, 1);
	assert_int_equal(drv_read(&e.vdev, DRV_INTERRUPT_STATUS), VDEV_ISR_QUEUE);
	drv_write(&e.vdev, DRV_INTERRUPT_ACK, VDEV_ISR_CONFIG);
	assert_int_equal(drv_read(&e.vdev, DRV_INTERRUPT_STATUS), VDEV_ISR_QUEUE);
	drv_write(&e.vdev, DRV_INTERRUPT_ACK, UINT32_MAX);
	assert_int_equal(drv_read(&e.vdev, DRV_INTERRUPT_STATUS), 0);
	vdev_kick(&e.vdev, 0); /* spurious */
	assert_int_equal(e.raised, 1);
	end(&e);
}

static void ring_features_reach_the_queues(void **state)
{
	struct echo e;

	(void)state;
	begin(&e);
	assert_true(drv_init(&e.vdev, FEATURES | DRV_F_EVENT_IDX));
	assert_true(e.vdev.queues[1].event_idx);
	assert_false(e.vdev.queues[1].indirect);
	assert_true(drv_init(&e.vdev, FEATURES | DRV_F_INDIRECT_DESC));
	assert_true(e.vdev.queues[0].indirect);
	assert_false(e.vdev.queues[0].event_idx);
	assert_true(vdev_has(&e.vdev, ECHO_F_LOUD));
	assert_false(vdev_has(&e.vdev, ECHO_F_HIGH));
	end(&e);
}

/* Class 8: only features that were offered, with VERSION_1, at the right time. */
static void features_are_negotiated_strictly(void **state)
{
	struct echo e;

	(void)state;
	begin(&e);
	assert_false(drv_init(&e.vdev, ECHO_F_LOUD)); /* a legacy driver */
	assert_int_equal(drv_read(&e.vdev, DRV_STATUS), DRV_S_ACKNOWLEDGE | DRV_S_DRIVER);
	assert_false(drv_init(&e.vdev, FEATURES | 1));
	assert_false(drv_init(&e.vdev, FEATURES | 1ull << 63));
	/* Not refused for good: the driver may think again. */
	drv_write(&e.vdev, DRV_DRIVER_FEATURES_SEL, 1);
	drv_write(&e.vdev, DRV_DRIVER_FEATURES, 1);
	drv_write(&e.vdev, DRV_STATUS, 11);
	assert_int_equal(drv_read(&e.vdev, DRV_STATUS), 11);
	/* Written before DRIVER, after FEATURES_OK, or to a third word: no effect. */
	assert_int_equal(e.vdev.features, FEATURES);
	drv_write(&e.vdev, DRV_DRIVER_FEATURES, 0);
	assert_int_equal(e.vdev.features, FEATURES);
	drv_write(&e.vdev, DRV_STATUS, 0);
	drv_write(&e.vdev, DRV_DRIVER_FEATURES, 1);
	assert_int_equal(e.vdev.features, 0);
	drv_write(&e.vdev, DRV_STATUS, 3);
	drv_write(&e.vdev, DRV_DRIVER_FEATURES_SEL, 2);
	drv_write(&e.vdev, DRV_DRIVER_FEATURES, 1);
	drv_write(&e.vdev, DRV_DRIVER_FEATURES_SEL, UINT32_MAX);
	drv_write(&e.vdev, DRV_DRIVER_FEATURES, 1);
	assert_int_equal(e.vdev.features, 0);
	end(&e);
}

/* Class 8: every status after every other; only the steps of §3.1.1 are taken. */
static void the_status_goes_forward_only(void **state)
{
	static const uint8_t order[] = { 0, 1, 3, 11, 15 };
	struct echo e;

	(void)state;
	begin(&e);
	for (unsigned from = 0; from < ARRAY_SIZE(order); from++) {
		for (uint32_t to = 1; to < 256; to++) {
			uint32_t want = order[from], got;

			drv_write(&e.vdev, DRV_STATUS, 0);
			drv_init(&e.vdev, FEATURES);
			e.vdev.status = order[from];
			for (unsigned i = from + 1; i < ARRAY_SIZE(order); i++)
				if ((to & ~DRV_S_NEEDS_RESET) == order[i])
					want = order[i];
			if (to & DRV_S_FAILED)
				want |= DRV_S_FAILED;
			drv_write(&e.vdev, DRV_STATUS, to);
			got = drv_read(&e.vdev, DRV_STATUS);
			if (got != want)
				fail_msg("%u then %u: %u, not %u", order[from], to, got, want);
		}
		/* Bits that no register has. */
		drv_write(&e.vdev, DRV_STATUS, order[from] | 0x100);
		drv_write(&e.vdev, DRV_STATUS, 0x80000000);
		assert_int_equal(drv_read(&e.vdev, DRV_STATUS) & ~DRV_S_FAILED & ~15u, 0);
	}
	end(&e);
}

static void after_failed_only_a_reset_helps(void **state)
{
	struct echo e;

	(void)state;
	begin_running(&e);
	drv_write(&e.vdev, DRV_STATUS, 15 | DRV_S_FAILED);
	assert_false(vdev_live(&e.vdev));
	send(&e);
	assert_int_equal(e.kicks[0], 0);
	assert_true(drv_init(&e.vdev, FEATURES));
	assert_int_equal(e.stopped, 1);
	end(&e);
}

/* Class 8, and 1 through the registers. */
static void queues_are_configured_in_time(void **state)
{
	struct drv_queue other;
	struct echo e;

	(void)state;
	begin(&e);
	drv_queue_init(&other, &ram, 0x2000, 4);
	/* Before FEATURES_OK the queue may be described, not enabled. */
	drv_write(&e.vdev, DRV_STATUS, 3);
	assert_false(drv_queue_attach(&e.vdev, 0, &dq));
	assert_true(drv_init(&e.vdev, FEATURES));
	assert_true(drv_queue_attach(&e.vdev, 0, &dq));
	/* Ready: nothing changes. */
	drv_queue_attach(&e.vdev, 0, &other);
	assert_int_equal(e.vdev.queues[0].size, ECHO_SIZE);
	assert_int_equal(e.vdev.queues[0].used, dq.used);
	/* Off and on again, elsewhere. */
	drv_write(&e.vdev, DRV_QUEUE_READY, 0);
	assert_int_equal(drv_read(&e.vdev, DRV_QUEUE_READY), 0);
	assert_true(drv_queue_attach(&e.vdev, 0, &other));
	drv_write(&e.vdev, DRV_QUEUE_READY, 2);
	assert_int_equal(drv_read(&e.vdev, DRV_QUEUE_READY), 1);
	/* Running: neither that queue nor another. */
	drv_ready(&e.vdev);
	drv_write(&e.vdev, DRV_QUEUE_READY, 0);
	assert_int_equal(drv_read(&e.vdev, DRV_QUEUE_READY), 1);
	assert_false(drv_queue_attach(&e.vdev, 1, &dq));
	assert_int_equal(e.vdev.queues[1].size, 0);
	assert_false(drv_broken(&e.vdev));
	end(&e);
}

static void an_impossible_queue_is_a_fault(void **state)
{
	static const struct {
		uint32_t size;
		uint64_t desc;
	} cases[] = { { 0, 0x1000 },         { 3, 0x1000 },          { 16, 0x1000 },
		      { 65536 + 8, 0x1000 }, { UINT32_MAX, 0x1000 }, { 8, 0x1001 },
		      { 8, 0x10000 },        { 8, UINT64_MAX - 15 }, { 8, 1ull << 63 | 0x1000 } };
	struct echo e;

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
		begin(&e);
		assert_true(drv_init(&e.vdev, FEATURES));
		drv_write(&e.vdev, DRV_QUEUE_SEL, 0);
		drv_write(&e.vdev, DRV_QUEUE_SIZE, cases[i].size);
		drv_write64(&e.vdev, DRV_QUEUE_DESC, cases[i].desc);
		drv_write64(&e.vdev, DRV_QUEUE_AVAIL, dq.avail);
		drv_write64(&e.vdev, DRV_QUEUE_USED, dq.used);
		drv_write(&e.vdev, DRV_QUEUE_READY, 1);
		if (drv_read(&e.vdev, DRV_QUEUE_READY) || !drv_broken(&e.vdev))
			fail_msg("case %u", i);
		/* DRIVER_OK is refused now, and the interrupt is not for before it. */
		drv_ready(&e.vdev);
		assert_false(vdev_live(&e.vdev));
		assert_int_equal(e.started + e.raised, 0);
		assert_true(drv_init(&e.vdev, FEATURES));
		end_one(&e);
	}
	begin(&e);
	end(&e);
}

/* Class 7. */
static void selectors_out_of_range_select_nothing(void **state)
{
	static const uint32_t sel[] = { 2, 3, 15, 16, 17, 0xffff, 0x10000, UINT32_MAX };
	struct echo e;

	(void)state;
	begin(&e);
	assert_true(drv_init(&e.vdev, FEATURES));
	for (unsigned i = 0; i < ARRAY_SIZE(sel); i++) {
		assert_false(drv_queue_attach(&e.vdev, sel[i], &dq));
		assert_int_equal(drv_read(&e.vdev, DRV_QUEUE_SIZE_MAX), 0);
	}
	drv_queue_attach(&e.vdev, 0, &dq);
	drv_ready(&e.vdev);
	for (unsigned i = 0; i < ARRAY_SIZE(sel); i++)
		vdev_kick(&e.vdev, sel[i]);
	vdev_kick(&e.vdev, 1); /* not enabled */
	drv_write(&e.vdev, DRV_QUEUE_NOTIFY, 0);
	assert_int_equal(e.kicks[0] + e.kicks[1], 0);
	assert_false(drv_broken(&e.vdev));
	end(&e);
}

/* Class 7: any offset, any width; what is not a register reads as zero. */
static void odd_accesses_do_nothing(void **state)
{
	const uint64_t offsets[] = { 0x106,      0x107,      0xfff,          0x1000,
				     UINT32_MAX, 1ull << 32, UINT64_MAX - 3, UINT64_MAX };
	uint8_t b[16], ones[16], before[sizeof(struct echo)];
	struct echo e;

	(void)state;
	begin_running(&e);
	memset(ones, 0xff, sizeof(ones));
	memcpy(before, &e, sizeof(e));
	for (uint64_t off = 0; off < 0x100; off++)
		for (uint32_t len = 0; len <= 16; len++) {
			if (len == 4 && off % 4 == 0)
				continue;
			memset(b, 0xaa, sizeof(b));
			vdev_mmio_write(&e.vdev, off, ones, len);
			vdev_mmio_read(&e.vdev, off, b, len);
			for (uint32_t i = 0; i < sizeof(b); i++)
				assert_int_equal(b[i], i < len ? 0 : 0xaa);
		}
	for (unsigned i = 0; i < ARRAY_SIZE(offsets); i++)
		for (uint32_t len = 0; len <= 16; len++) {
			vdev_mmio_write(&e.vdev, offsets[i], ones, len);
			vdev_mmio_read(&e.vdev, offsets[i], b, len);
			for (uint32_t k = 0; k < len; k++)
				assert_int_equal(b[k], 0);
		}
	assert_memory_equal(before, &e, sizeof(e));
	end(&e);
}

static void the_configuration_is_read_and_written(void **state)
{
	struct echo e;
	uint8_t b[8];

	(void)state;
	begin(&e);
	memcpy(e.config, "abcdef", 6);
	vdev_mmio_read(&e.vdev, DRV_CONFIG + 1, b, 1);
	assert_int_equal(b[0], 'b');
	vdev_mmio_read(&e.vdev, DRV_CONFIG, b, 6);
	assert_memory_equal(b, "abcdef", 6);
	/* A byte too many: nothing of it. */
	vdev_mmio_read(&e.vdev, DRV_CONFIG + 4, b, 4);
	assert_int_equal(b[0], 0);
	vdev_mmio_write(&e.vdev, DRV_CONFIG + 4, (const uint8_t *)"XY", 2);
	vdev_mmio_write(&e.vdev, DRV_CONFIG + 5, (const uint8_t *)"zz", 2);
	vdev_mmio_write(&e.vdev, DRV_CONFIG, (const uint8_t *)"zz", 2);
	assert_memory_equal(e.config, "abcdXY", 6);
	end(&e);
}

static void a_change_of_configuration_is_told(void **state)
{
	struct echo e;
	uint32_t generation;

	(void)state;
	begin(&e);
	generation = drv_read(&e.vdev, DRV_CONFIG_GENERATION);
	vdev_interrupt_config(&e.vdev);
	assert_int_not_equal(drv_read(&e.vdev, DRV_CONFIG_GENERATION), generation);
	assert_int_equal(e.raised, 0); /* nobody listens yet */
	drv_init(&e.vdev, FEATURES);
	drv_ready(&e.vdev);
	vdev_interrupt_config(&e.vdev);
	assert_int_equal(e.raised, 1);
	assert_int_equal(drv_read(&e.vdev, DRV_INTERRUPT_STATUS), VDEV_ISR_CONFIG);
	end(&e);
}

static void a_guest_fault_stops_the_device(void **state)
{
	struct echo e;
	uint32_t id, len;

	(void)state;
	begin_running(&e);
	send(&e);
	drv_used(&dq, &id, &len);
	drv_write(&e.vdev, DRV_INTERRUPT_ACK, 3);
	drv_offer(&dq, 0xffff);
	vdev_kick(&e.vdev, 0);
	assert_true(drv_broken(&e.vdev));
	assert_int_equal(drv_read(&e.vdev, DRV_INTERRUPT_STATUS), VDEV_ISR_CONFIG);
	assert_int_equal(e.raised, 2);
	/* It does nothing more, and the bit cannot be written away. */
	drv_put16(&ram, dq.avail + 2, 1);
	dq.avail_idx = 1;
	send(&e);
	assert_int_equal(e.kicks[0], 2);
	drv_write(&e.vdev, DRV_STATUS, 15);
	assert_true(drv_broken(&e.vdev));
	drv_write(&e.vdev, DRV_STATUS, 15 | DRV_S_FAILED | DRV_S_NEEDS_RESET);
	assert_int_equal(drv_read(&e.vdev, DRV_STATUS), 15 | DRV_S_NEEDS_RESET | DRV_S_FAILED);
	/* A reset, and all is well. */
	drv_queue_init(&dq, &ram, 0x1000, ECHO_SIZE);
	assert_true(drv_init(&e.vdev, FEATURES));
	assert_int_equal(drv_read(&e.vdev, DRV_INTERRUPT_STATUS), 0);
	assert_true(drv_queue_attach(&e.vdev, 0, &dq));
	drv_ready(&e.vdev);
	send(&e);
	assert_true(drv_used(&dq, &id, &len));
	end(&e);
}

static void a_reset_forgets_everything(void **state)
{
	struct echo e;

	(void)state;
	begin_running(&e);
	send(&e);
	drv_write(&e.vdev, DRV_STATUS, 0);
	assert_int_equal(e.stopped, 1);
	assert_true(e.stop_saw_queue);
	assert_int_equal(drv_read(&e.vdev, DRV_STATUS), 0);
	assert_int_equal(drv_read(&e.vdev, DRV_INTERRUPT_STATUS), 0);
	assert_int_equal(drv_read(&e.vdev, DRV_QUEUE_READY), 0);
	assert_int_equal(e.vdev.features, 0);
	assert_int_equal(e.vdev.queues[0].next_avail, 0);
	send(&e);
	assert_int_equal(e.kicks[0], 1);
	drv_write(&e.vdev, DRV_STATUS, 0); /* not running: nothing to stop */
	assert_int_equal(e.stopped, 1);
	end(&e);
}

static void kicks_count_between_driver_ok_and_drain(void **state)
{
	struct echo e;
	uint32_t id, len;

	(void)state;
	begin(&e);
	drv_queue_init(&dq, &ram, 0x1000, ECHO_SIZE);
	assert_true(drv_init(&e.vdev, FEATURES));
	assert_true(drv_queue_attach(&e.vdev, 0, &dq));
	send(&e);
	assert_int_equal(e.kicks[0], 0);
	drv_ready(&e.vdev);
	vdev_kick(&e.vdev, 0);
	assert_int_equal(e.kicks[0], 1);
	assert_true(drv_used(&dq, &id, &len));
	vdev_drain(&e.vdev);
	vdev_drain(&e.vdev);
	assert_int_equal(e.drains, 1);
	send(&e);
	assert_int_equal(e.kicks[0], 1);
	/* The kick was not lost, and the unacknowledged interrupt is raised again. */
	e.raised = 0;
	vdev_undrain(&e.vdev);
	vdev_undrain(&e.vdev);
	assert_int_equal(e.undrains, 1);
	assert_int_equal(e.kicks[0], 2);
	assert_int_equal(e.kicks[1], 0); /* not enabled */
	assert_true(drv_used(&dq, &id, &len));
	assert_int_equal(e.raised, 2);
	end(&e);
}

static void work_can_be_put_off(void **state)
{
	struct echo e;
	uint32_t id, len;

	(void)state;
	begin_running(&e);
	e.later = 2;
	send(&e);
	assert_int_equal(e.kicks[0], 1);
	while (!drv_used(&dq, &id, &len))
		assert_int_equal(loop_run_once(loop, 1000), 0);
	assert_int_equal(e.kicks[0], 3);
	/* A reset forgets it, and so does the end. */
	e.later = 1;
	send(&e);
	drv_write(&e.vdev, DRV_STATUS, 0);
	assert_int_equal(loop_run_once(loop, 1000), 0);
	assert_int_equal(e.kicks[0], 4);
	end(&e);
}

static void save(struct echo *e, struct buf *out)
{
	buf_init(out, 0);
	vdev_drain(&e->vdev);
	assert_int_equal(vdev_save(&e->vdev, out), 0);
}

static void a_snapshot_continues_the_device(void **state)
{
	struct echo a, b;
	uint32_t id, len;
	struct buf blob;

	(void)state;
	begin_running(&a);
	for (unsigned i = 0; i < ECHO_SIZE + 3; i++) {
		send(&a);
		assert_true(drv_used(&dq, &id, &len));
	}
	a.secret = 77;
	vdev_interrupt_config(&a.vdev);
	drv_write(&a.vdev, DRV_QUEUE_SEL, 1);
	vdev_drain(&a.vdev);
	send(&a); /* left lying */
	save(&a, &blob);

	begin(&b);
	assert_int_equal(vdev_load(&b.vdev, buf_data(&blob), buf_len(&blob), NULL), 0);
	assert_int_equal(b.secret, 77);
	assert_int_equal(drv_read(&b.vdev, DRV_STATUS), 15);
	assert_int_equal(drv_read(&b.vdev, DRV_QUEUE_SIZE_MAX), ECHO_SIZE);
	assert_int_equal(b.vdev.queue_sel, 1);
	assert_int_equal(drv_read(&b.vdev, DRV_INTERRUPT_STATUS), 3);
	assert_int_equal(drv_read(&b.vdev, DRV_CONFIG_GENERATION), 1);
	assert_int_equal(b.started, 0);
	vdev_kick(&b.vdev, 0);
	assert_int_equal(b.kicks[0], 0); /* drained until the machine resumes it */
	vdev_undrain(&b.vdev);
	assert_true(drv_used(&dq, &id, &len));
	assert_int_equal(len, 5);
	assert_int_equal(b.raised, 2);
	buf_fini(&blob);
	end_one(&b);
	end(&a);
}

/* Class 10: each field of the state, spoiled. */
static void a_hostile_snapshot_is_refused(void **state)
{
	static const struct {
		unsigned off, bytes;
		uint64_t value;
	} cases[] = {
		{ 0, 4, 43 }, /* another type */
		{ 4, 4, 3 }, /* more queues */
		{ 8, 8, ECHO_F_LOUD }, /* no VERSION_1 */
		{ 8, 8, FEATURES | 1 }, /* not offered */
		{ 16, 4, 4 }, /* DRIVER_OK out of the blue */
		{ 16, 4, 0x10f },
		{ 16, 4, 0x1f },
		{ 16, 4, 3 }, /* a ready queue before FEATURES_OK */
		{ 20, 4, 4 },
		{ 40, 2, 0 },
		{ 40, 2, 3 },
		{ 40, 2, 16 },
		{ 40, 2, 0x8000 },
		{ 42, 2, 2 },
		{ 44, 2, 0x8000 }, /* more in flight than the queue holds */
		{ 46, 2, 0x8000 },
		{ 50, 2, 1 },
		{ 52, 4, 1 },
		{ 56, 8, 0x1001 },
		{ 56, 8, 0x10000 },
		{ 56, 8, UINT64_MAX - 15 },
		{ 64, 8, 0x1081 },
		{ 64, 8, 0xfffe },
		{ 72, 8, 0x1102 },
		{ 72, 8, 1ull << 40 },
		{ 84, 2, 1 }, /* positions of a queue that is off */
		{ 120, 1, 101 }, /* the device's own */
	};
	struct echo a, b;
	struct buf blob;
	uint8_t *p;

	(void)state;
	begin_running(&a);
	send(&a);
	save(&a, &blob);
	assert_int_equal(buf_len(&blob), 121);
	p = malloc(buf_len(&blob) + 1);
	assert_non_null(p);
	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
		struct err err = ERR_INIT;

		memcpy(p, buf_data(&blob), buf_len(&blob));
		le_put(p + cases[i].off, cases[i].value, cases[i].bytes);
		begin(&b);
		if (vdev_load(&b.vdev, p, buf_len(&blob), &err) != -EINVAL || !err.code)
			fail_msg("case %u", i);
		/* As after a reset: it can be used. */
		assert_int_equal(drv_read(&b.vdev, DRV_STATUS), 0);
		assert_true(drv_init(&b.vdev, FEATURES));
		assert_false(b.vdev.queues[0].enabled);
		end_one(&b);
	}
	memcpy(p, buf_data(&blob), buf_len(&blob));
	p[buf_len(&blob)] = 0;
	for (size_t len = 0; len <= buf_len(&blob) + 1; len++) {
		begin(&b);
		assert_int_equal(vdev_load(&b.vdev, p, len, NULL),
				 len == buf_len(&blob) ? 0 : -EINVAL);
		end_one(&b);
	}
	free(p);
	buf_fini(&blob);
	end(&a);
}

/*
 * A driver that starts and resets the device without end, on a thread of its own, while
 * this one serves it: what is pushed belongs to the life in which it was offered.
 */
#define LIVES 2000u

static void *restless_driver(void *arg)
{
	const struct drv_seg seg = { .addr = 0x8000, .len = 5 };
	struct echo *e = arg;

	for (unsigned i = 0; i < LIVES; i++) {
		uint32_t id, len;

		drv_queue_init(&dq, &ram, 0x1000, ECHO_SIZE);
		if (!drv_init(&e->vdev, FEATURES) || !drv_queue_attach(&e->vdev, 0, &dq))
			abort();
		for (unsigned n = 0; n < ECHO_SIZE; n++)
			drv_send(&dq, &seg, 1);
		drv_ready(&e->vdev);
		while (i % 4 == 0 && !drv_read(&e->vdev, DRV_INTERRUPT_STATUS))
			sched_yield();
		drv_write(&e->vdev, DRV_INTERRUPT_ACK, 3);
		drv_write(&e->vdev, DRV_STATUS, 0);
		if (drv_read(&e->vdev, DRV_INTERRUPT_STATUS))
			abort();
		/* After the reset nothing comes any more: all of the queue is used, or none. */
		for (unsigned n = drv_used(&dq, &id, &len) ? 1 : ECHO_SIZE; n < ECHO_SIZE; n++)
			if (!drv_used(&dq, &id, &len))
				abort();
	}
	return NULL;
}

static void registers_and_kicks_come_from_two_threads(void **state)
{
	pthread_t driver;
	struct echo e;

	(void)state;
	begin(&e);
	e.later = LIVES / 2;
	assert_int_equal(pthread_create(&driver, NULL, restless_driver, &e), 0);
	while (pthread_tryjoin_np(driver, NULL) == EBUSY) {
		vdev_kick(&e.vdev, 0);
		vdev_kick(&e.vdev, 1);
		assert_int_equal(loop_run_once(loop, 0), 0);
	}
	assert_int_equal(e.started, LIVES);
	assert_int_equal(e.stopped, LIVES);
	assert_false(drv_broken(&e.vdev));
	end(&e);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_driver_finds_the_device),
		TEST(requests_are_served_and_interrupt),
		TEST(ring_features_reach_the_queues),
		TEST(features_are_negotiated_strictly),
		TEST(the_status_goes_forward_only),
		TEST(after_failed_only_a_reset_helps),
		TEST(queues_are_configured_in_time),
		TEST(an_impossible_queue_is_a_fault),
		TEST(selectors_out_of_range_select_nothing),
		TEST(odd_accesses_do_nothing),
		TEST(the_configuration_is_read_and_written),
		TEST(a_change_of_configuration_is_told),
		TEST(a_guest_fault_stops_the_device),
		TEST(a_reset_forgets_everything),
		TEST(kicks_count_between_driver_ok_and_drain),
		TEST(work_can_be_put_off),
		TEST(a_snapshot_continues_the_device),
		TEST(a_hostile_snapshot_is_refused),
		TEST(registers_and_kicks_come_from_two_threads),
	};

	/* The guest's faults are provoked; their lines are not for the terminal. */
	log_init(2, LOG_ERR, "test");
	return test_run(tests);
}
