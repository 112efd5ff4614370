/* SPDX-License-Identifier: Apache-2.0 */
#include "unit/test.h"

#include <errno.h>
#include <sys/mman.h>

#include "base/mem.h"
#include "sys/loop.h"
#include "unit/virtio_driver.h"
#include "vmm/memory.h"
#include "vmm/virtio/balloon.h"
#include "vmm/virtio/vdev.h"

#define PAGE 4096u
#define RAM (128u << 20)
#define LIST 0x10000u
#define FREE (16u << 20) /* pages that the guest does not use */
#define SIZE 16u
#define CONFIG_TARGET DRV_CONFIG
#define CONFIG_ACTUAL (DRV_CONFIG + 4)
#define F_OOM (1ull << 2)
#define F_REPORTING (1ull << 5)

static struct memory ram;
static struct drv_queue inflate, deflate, report;
static struct loop *loop;
static struct vdev *balloon;
static unsigned raised;

static void count(struct vdev *d)
{
	(void)d;
	raised++;
}

/* @reports: the number that the driver believes the queue of reports has. */
static void start(uint64_t features, unsigned reports)
{
	drv_queue_init(&inflate, &ram, 0x1000, SIZE);
	drv_queue_init(&deflate, &ram, 0x2000, SIZE);
	drv_queue_init(&report, &ram, 0x3000, SIZE);
	assert_true(drv_init(balloon, DRV_F_VERSION_1 | F_OOM | features));
	assert_true(drv_queue_attach(balloon, 0, &inflate));
	assert_true(drv_queue_attach(balloon, 1, &deflate));
	assert_true(drv_queue_attach(balloon, reports, &report));
	drv_ready(balloon);
}

static void begin_on(int fd)
{
	raised = 0;
	assert_int_equal(memory_create(&ram, RAM, fd, NULL), 0);
	assert_int_equal(loop_create(&loop, NULL), 0);
	assert_int_equal(balloon_create(&balloon, &ram, loop, NULL), 0);
	balloon->raise = count;
	start(F_REPORTING, 4);
}

static void begin(void)
{
	begin_on(-1);
}

static void end(void)
{
	balloon->ops->destroy(balloon);
	loop_destroy(loop);
	memory_destroy(&ram);
}

static void touch(uint64_t gpa, uint64_t len)
{
	memset(drv_at(&ram, gpa, len), 0x5a, len);
}

static bool present(uint64_t gpa)
{
	unsigned char v;

	assert_int_equal(mincore(drv_at(&ram, gpa, PAGE), PAGE, &v), 0);
	return v & 1;
}

static unsigned count_present(uint64_t gpa, uint64_t len)
{
	unsigned n = 0;

	for (uint64_t at = gpa; at < gpa + len; at += PAGE)
		n += present(at);
	return n;
}

static void list(unsigned i, uint64_t gpa)
{
	drv_put32(&ram, LIST + 4 * i, (uint32_t)(gpa / PAGE));
}

static bool send(struct drv_queue *dq, unsigned n, uint64_t addr, uint32_t len, bool write)
{
	const struct drv_seg seg = { .addr = addr, .len = len, .write = write };
	uint32_t id, got;

	drv_send(dq, &seg, 1);
	vdev_kick(balloon, n);
	return drv_used(dq, &id, &got);
}

static void inflated_pages_are_given_back(void **state)
{
	(void)state;
	begin();
	touch(FREE, 16 * PAGE);
	/* A run upwards, a run downwards, one alone, one twice. */
	list(0, FREE);
	list(1, FREE + PAGE);
	list(2, FREE + 7 * PAGE);
	list(3, FREE + 6 * PAGE);
	list(4, FREE + 5 * PAGE);
	list(5, FREE + 12 * PAGE);
	list(6, FREE + 12 * PAGE);
	assert_true(send(&inflate, 0, LIST, 28, false));
	assert_int_equal(raised, 1);
	for (unsigned i = 0; i < 16; i++) {
		bool gone = i <= 1 || (i >= 5 && i <= 7) || i == 12;
		uint8_t first = *(uint8_t *)drv_at(&ram, FREE + i * PAGE, 1);

		assert_int_equal(first, gone ? 0 : 0x5a);
	}
	/* Deflating asks for nothing: a touched page is there. */
	assert_true(send(&deflate, 1, LIST, 28, false));
	touch(FREE, PAGE);
	assert_true(present(FREE));
	end();
}

static void reported_pages_are_given_back(void **state)
{
	const struct drv_seg segs[] = {
		{ .addr = FREE, .len = 2u << 20, .write = true },
		{ .addr = FREE + (4u << 20), .len = 1u << 20, .write = true },
	};
	uint32_t id, len;

	(void)state;
	/* At the number of the specification, and at Linux's. */
	for (unsigned n = 2; n <= 4; n += 2) {
		begin();
		start(F_REPORTING, n);
		touch(FREE, 8u << 20);
		drv_send(&report, segs, 2);
		vdev_kick(balloon, n);
		assert_true(drv_used(&report, &id, &len));
		assert_int_equal(len, 0);
		assert_int_equal(count_present(FREE, 8u << 20), 5 * 256);
		assert_false(present(FREE + (2u << 20) - PAGE));
		assert_true(present(FREE + (2u << 20)));
		assert_true(present(FREE + (4u << 20) - PAGE));
		assert_false(present(FREE + (4u << 20)));
		end();
	}
}

/* Bytes around whole pages may be in use: they stay. */
static void parts_of_pages_stay(void **state)
{
	(void)state;
	begin();
	touch(FREE, 4 * PAGE);
	assert_true(send(&report, 4, FREE + 1, 2 * PAGE, true)); /* one page in it */
	assert_int_equal(*(uint8_t *)drv_at(&ram, FREE, 1), 0x5a);
	assert_int_equal(*(uint8_t *)drv_at(&ram, FREE + PAGE, 1), 0);
	assert_int_equal(*(uint8_t *)drv_at(&ram, FREE + 2 * PAGE, 1), 0x5a);
	assert_true(send(&report, 4, FREE + 2 * PAGE + 1, PAGE - 1, true));
	assert_true(send(&report, 4, FREE + 2 * PAGE, PAGE - 1, true));
	assert_int_equal(*(uint8_t *)drv_at(&ram, FREE + 2 * PAGE, 1), 0x5a);
	end();
}

/* What the guest had written is gone; the memory file of the template stays as it was. */
static void a_memory_file_is_not_touched(void **state)
{
	int fd = memfd_create("ram", MFD_CLOEXEC);
	char c = 'T';

	(void)state;
	assert_int_equal(ftruncate(fd, RAM), 0);
	assert_int_equal(pwrite(fd, &c, 1, FREE), 1);
	begin_on(fd);
	assert_int_equal(*(char *)drv_at(&ram, FREE, 1), 'T');
	touch(FREE, PAGE);
	assert_true(send(&report, 4, FREE, PAGE, true));
	assert_int_equal(*(char *)drv_at(&ram, FREE, 1), 'T');
	assert_int_equal(pread(fd, &c, 1, FREE), 1);
	assert_int_equal(c, 'T');
	end();
	close(fd);
}

/* Class 2 and 4, for page numbers. */
static void hostile_requests_are_faults(void **state)
{
	static const uint64_t bad[] = { RAM, RAM + PAGE, MEMORY_HOLE_START, 0xfffffffffffull };

	(void)state;
	begin();
	for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
		start(F_REPORTING, 4);
		list(0, FREE);
		list(1, bad[i]);
		assert_false(send(&inflate, 0, LIST, 8, false));
		assert_true(drv_broken(balloon));
	}
	/* The last page is a page. */
	start(F_REPORTING, 4);
	list(0, RAM - PAGE);
	assert_true(send(&inflate, 0, LIST, 4, false));
	/* Half a number; directions. */
	assert_false(send(&inflate, 0, LIST, 6, false));
	assert_true(drv_broken(balloon));
	start(F_REPORTING, 4);
	assert_false(send(&inflate, 0, LIST, 4, true));
	assert_true(drv_broken(balloon));
	start(F_REPORTING, 4);
	assert_false(send(&deflate, 1, LIST, 4, true));
	assert_true(drv_broken(balloon));
	start(F_REPORTING, 4);
	assert_false(send(&report, 4, FREE, PAGE, false));
	assert_true(drv_broken(balloon));
	/* A report without the feature. */
	start(0, 4);
	touch(FREE, PAGE);
	assert_false(send(&report, 4, FREE, PAGE, true));
	assert_true(drv_broken(balloon));
	assert_true(present(FREE));
	end();
}

/* Long requests take several turns of the loop, and are used only when all is done. */
static void long_requests_take_turns(void **state)
{
	unsigned left, turns = 0;
	uint32_t id, len;

	(void)state;
	begin();
	touch(FREE, 96u << 20);
	assert_false(send(&report, 4, FREE, 96u << 20, true));
	left = count_present(FREE, 96u << 20);
	assert_true(left > 0 && left < 24576);
	while (!drv_used(&report, &id, &len)) {
		unsigned now;

		assert_int_equal(loop_run_once(loop, 1000), 0);
		now = count_present(FREE, 96u << 20);
		assert_true(now < left);
		assert_true(left - now <= 8192);
		left = now;
		turns++;
	}
	assert_int_equal(left, 0);
	assert_true(turns >= 2);
	/* Single pages, each a call of its own: a turn has 256 of them. */
	touch(FREE, 1000 * 2 * PAGE);
	for (unsigned i = 0; i < 1000; i++)
		list(i, FREE + (uint64_t)i * 2 * PAGE);
	assert_false(send(&inflate, 0, LIST, 4000, false));
	assert_int_equal(count_present(FREE, 1000 * 2 * PAGE), 2000 - 256);
	while (!drv_used(&inflate, &id, &len))
		assert_int_equal(loop_run_once(loop, 1000), 0);
	assert_int_equal(count_present(FREE, 1000 * 2 * PAGE), 1000);
	end();
}

/* A reset in the middle of a request: the next driver's first one is done from its start. */
static void a_reset_forgets_half_a_request(void **state)
{
	(void)state;
	begin();
	for (unsigned i = 0; i < 1000; i++)
		list(i, FREE + (uint64_t)i * 2 * PAGE);
	assert_false(send(&inflate, 0, LIST, 4000, false));
	start(F_REPORTING, 4);
	touch(FREE, 4 * PAGE);
	assert_true(send(&inflate, 0, LIST, 8, false));
	assert_false(present(FREE));
	assert_false(present(FREE + 2 * PAGE));
	end();
}

static void the_target_is_the_hosts(void **state)
{
	uint32_t generation;
	struct err e = ERR_INIT;
	uint8_t b[4] = { 9, 9, 9, 9 };

	(void)state;
	begin();
	generation = drv_read(balloon, DRV_CONFIG_GENERATION);
	assert_int_equal(balloon_set_target(balloon, (64u << 20) + 1, &e), 0);
	assert_int_equal(drv_read(balloon, CONFIG_TARGET), (64u << 20) / PAGE);
	assert_int_not_equal(drv_read(balloon, DRV_CONFIG_GENERATION), generation);
	assert_int_equal(raised, 1);
	assert_int_equal(drv_read(balloon, DRV_INTERRUPT_STATUS), VDEV_ISR_CONFIG);
	vdev_mmio_write(balloon, CONFIG_TARGET, b, 4);
	vdev_mmio_write(balloon, CONFIG_TARGET + 2, b, 4);
	assert_int_equal(drv_read(balloon, CONFIG_TARGET), (64u << 20) / PAGE);
	assert_int_equal(balloon_set_target(balloon, RAM, NULL), 0);
	assert_int_equal(balloon_set_target(balloon, (uint64_t)RAM + 1, &e), -ERANGE);
	assert_int_equal(e.code, ERANGE);
	assert_int_equal(balloon_set_target(balloon, UINT64_MAX, NULL), -ERANGE);
	/* actual is what the guest says, to the largest number there is. */
	assert_int_equal(balloon_actual(balloon), 0);
	drv_write(balloon, CONFIG_ACTUAL, UINT32_MAX);
	assert_true(balloon_actual(balloon) == (uint64_t)UINT32_MAX * PAGE);
	drv_write(balloon, DRV_STATUS, 0);
	assert_int_equal(balloon_actual(balloon), 0);
	assert_int_equal(drv_read(balloon, CONFIG_TARGET), RAM / PAGE);
	end();
}

static void a_snapshot_has_target_and_half_requests(void **state)
{
	struct vdev *b;
	struct buf blob;
	uint32_t id, len;
	uint8_t *p;

	(void)state;
	begin();
	balloon_set_target(balloon, 16u << 20, NULL);
	drv_write(balloon, CONFIG_ACTUAL, 7);
	touch(FREE, 2000 * PAGE);
	for (unsigned i = 0; i < 1000; i++)
		list(i, FREE + (uint64_t)i * 2 * PAGE);
	assert_false(send(&inflate, 0, LIST, 4000, false));
	vdev_drain(balloon);
	buf_init(&blob, 0);
	assert_int_equal(vdev_save(balloon, &blob), 0);

	assert_int_equal(balloon_create(&b, &ram, loop, NULL), 0);
	assert_int_equal(vdev_load(b, buf_data(&blob), buf_len(&blob), NULL), 0);
	assert_int_equal(drv_read(b, CONFIG_TARGET), (16u << 20) / PAGE);
	assert_int_equal(balloon_actual(b), 7 * PAGE);
	vdev_undrain(b);
	while (!drv_used(&inflate, &id, &len))
		assert_int_equal(loop_run_once(loop, 1000), 0);
	assert_int_equal(count_present(FREE, 2000 * PAGE), 1000);
	b->ops->destroy(b);

	/* A target beyond the RAM could not have been set. */
	p = (uint8_t *)buf_data(&blob) + buf_len(&blob) - 8;
	p[3] = 1;
	assert_int_equal(balloon_create(&b, &ram, loop, NULL), 0);
	assert_int_equal(vdev_load(b, buf_data(&blob), buf_len(&blob), NULL), -EINVAL);
	assert_int_equal(vdev_load(b, buf_data(&blob), buf_len(&blob) - 1, NULL), -EINVAL);
	b->ops->destroy(b);
	buf_fini(&blob);
	end();
}

/* RAM beyond the hole is another slot: neither runs nor reports go from one to the other. */
static void both_slots_of_ram_are_known(void **state)
{
	const uint64_t high = MEMORY_HOLE_END;

	(void)state;
	begin();
	ram.slots[0].size = RAM / 2;
	ram.slots[1] = (struct memory_slot){
		.gpa = high,
		.size = RAM / 2,
		.host = ram.slots[0].host + RAM / 2,
	};
	ram.n_slots = 2;
	touch(RAM / 2 - 2 * PAGE, 2 * PAGE);
	touch(high, 4 * PAGE);
	list(0, RAM / 2 - PAGE);
	list(1, high);
	list(2, high + PAGE);
	assert_true(send(&inflate, 0, LIST, 12, false));
	assert_true(present(RAM / 2 - 2 * PAGE));
	assert_false(present(RAM / 2 - PAGE));
	assert_int_equal(count_present(high, 4 * PAGE), 2);
	assert_true(send(&report, 4, high + 2 * PAGE, PAGE, true));
	assert_int_equal(count_present(high, 4 * PAGE), 1);
	assert_true(send(&report, 4, RAM / 2 - 2 * PAGE, 2 * PAGE, true));
	assert_int_equal(count_present(RAM / 2 - 2 * PAGE, 2 * PAGE), 0);
	assert_true(present(high + 3 * PAGE));
	/* The page after the first slot is no page, whatever is next in the host. */
	list(0, RAM / 2 - PAGE);
	list(1, RAM / 2);
	assert_false(send(&inflate, 0, LIST, 8, false));
	assert_true(drv_broken(balloon));
	end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(inflated_pages_are_given_back),
		TEST(reported_pages_are_given_back),
		TEST(parts_of_pages_stay),
		TEST(a_memory_file_is_not_touched),
		TEST(hostile_requests_are_faults),
		TEST(long_requests_take_turns),
		TEST(a_reset_forgets_half_a_request),
		TEST(the_target_is_the_hosts),
		TEST(a_snapshot_has_target_and_half_requests),
		TEST(both_slots_of_ram_are_known),
	};

	log_init(2, LOG_ERR, "test");
	return test_run(tests);
}
