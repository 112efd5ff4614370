/* SPDX-License-Identifier: Apache-2.0 */
/* The disk, driven by hand: every request right, and wrong in each way. */
#include "unit/test.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/virtio_blk.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/mem.h"
#include "sys/loop.h"
#include "unit/virtio_driver.h"
#include "vmm/virtio/blk.h"
#include "vmm/virtio/disk_worker.h"

#define RAM_SIZE (4u << 20)
#define QUEUE 0x1000u
#define QUEUE_SIZE 256u
#define HEADER 0x8000u /* request headers, 64 bytes apart */
#define STATUS 0xf000u /* status bytes */
#define DATA 0x10000u
#define DISK_BYTES (2u << 20)
#define SECTORS (DISK_BYTES / 512)
#define UNTOUCHED 0xee

#define F(bit) (1ull << (bit))
#define FEATURES \
	(DRV_F_VERSION_1 | F(VIRTIO_BLK_F_FLUSH) | F(VIRTIO_BLK_F_SEG_MAX) | \
	 F(VIRTIO_BLK_F_DISCARD) | F(VIRTIO_BLK_F_WRITE_ZEROES))
#define FEATURES_RO (DRV_F_VERSION_1 | F(VIRTIO_BLK_F_FLUSH) | F(VIRTIO_BLK_F_RO))

static struct memory ram;
static struct loop *loop;
static struct disk_worker *worker;
static struct vdev *disk;
static struct drv_queue dq;
static int disk_fd; /* the test's own */
static unsigned interrupts;

static uint8_t pattern(uint64_t at)
{
	return (uint8_t)((at * 2654435761u) >> 21);
}

static void *at(uint64_t gpa)
{
	return memory_at(&ram, gpa, 1);
}

/*
 * A file of DISK_BYTES with the pattern in it.  In memory, where every read is the
 * worker's, or on a disk, where those of cached data are the I/O thread's.
 */
static int make_file(bool in_memory)
{
	uint8_t *bytes = malloc(DISK_BYTES);
	int fd = in_memory ? memfd_create("disk", MFD_ALLOW_SEALING | MFD_CLOEXEC)
			   : open("/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	assert_non_null(bytes);
	for (size_t i = 0; i < DISK_BYTES; i++)
		bytes[i] = pattern(i);
	assert_int_equal(write(fd, bytes, DISK_BYTES), DISK_BYTES);
	free(bytes);
	return fd;
}

static void count_interrupt(struct vdev *d)
{
	(void)d;
	interrupts++;
}

static void attach(uint64_t features)
{
	drv_queue_init(&dq, &ram, QUEUE, QUEUE_SIZE);
	assert_true(drv_init(disk, features));
	assert_true(drv_queue_attach(disk, 0, &dq));
	drv_ready(disk);
}

static struct vdev *make_disk(int fd, bool readonly)
{
	struct blk_config c = {
		.name = "blk.test",
		.serial = "upper",
		.readonly = readonly,
	};
	struct vdev *d;
	char path[64];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	c.fd = open(path, (readonly ? O_RDONLY : O_RDWR) | O_CLOEXEC);
	assert_true(c.fd >= 0);
	assert_int_equal(blk_create(&d, &c, &ram, loop, worker, NULL), 0);
	d->raise = count_interrupt;
	return d;
}

static void begin_with(int fd, bool readonly, uint64_t features)
{
	disk_fd = fd;
	interrupts = 0;
	assert_int_equal(memory_create(&ram, RAM_SIZE, -1, NULL), 0);
	assert_int_equal(loop_create(&loop, NULL), 0);
	assert_int_equal(disk_worker_create(&worker, loop, NULL), 0);
	disk = make_disk(fd, readonly);
	attach(features);
}

static void begin(void)
{
	begin_with(make_file(true), false, FEATURES);
}

static void end(void)
{
	disk->ops->destroy(disk);
	disk_worker_destroy(worker);
	loop_destroy(loop);
	memory_destroy(&ram);
	close(disk_fd);
}

/* The device's next answer, waited for. */
static uint32_t answer(uint32_t *id)
{
	uint32_t len;

	while (!drv_used(&dq, id, &len))
		assert_int_equal(loop_run_once(loop, 10000), 0);
	return len;
}

static void put_header(uint64_t gpa, uint32_t type, uint64_t sector)
{
	const struct virtio_blk_outhdr h = { .type = htole32(type), .sector = htole64(sector) };

	memcpy(at(gpa), &h, sizeof(h));
}

/* Sends header, @data and a status byte; returns the status. *@written: the used length. */
static int ask(uint32_t type, uint64_t sector, const struct drv_seg *data, unsigned n,
	       uint32_t *written)
{
	struct drv_seg segs[QUEUE_SIZE];
	unsigned used = 0;
	uint32_t id, len;
	uint16_t head;

	put_header(HEADER, type, sector);
	*(uint8_t *)at(STATUS) = UNTOUCHED;
	segs[used++] = (struct drv_seg){ .addr = HEADER, .len = 16 };
	for (unsigned i = 0; i < n; i++)
		segs[used++] = data[i];
	segs[used++] = (struct drv_seg){ .addr = STATUS, .len = 1, .write = true };
	head = drv_send(&dq, segs, used);
	vdev_kick(disk, 0);
	len = answer(&id);
	assert_int_equal(id, head);
	if (written)
		*written = len;
	return *(uint8_t *)at(STATUS);
}

static void assert_pattern(const uint8_t *p, uint64_t from, size_t len)
{
	for (size_t i = 0; i < len; i++)
		assert_int_equal(p[i], pattern(from + i));
}

static void assert_file(uint64_t from, size_t len, int want)
{
	uint8_t byte;

	for (size_t i = 0; i < len; i++) {
		assert_int_equal(pread(disk_fd, &byte, 1, (off_t)(from + i)), 1);
		assert_int_equal(byte, want < 0 ? pattern(from + i) : want);
	}
}

static struct virtio_blk_config config(void)
{
	struct virtio_blk_config c;

	memset(&c, 0, sizeof(c));
	for (unsigned i = 0; i < disk->ops->config_size; i++)
		vdev_mmio_read(disk, DRV_CONFIG + i, (uint8_t *)&c + i, 1);
	return c;
}

/* ---- what works --------------------------------------------------------- */

static void the_configuration_tells_the_disk(void **state)
{
	struct virtio_blk_config c;

	(void)state;
	begin();
	assert_int_equal(drv_read(disk, DRV_DEVICE_ID), 2);
	assert_int_equal(drv_read(disk, DRV_QUEUE_SIZE_MAX), 256);
	c = config();
	assert_int_equal(le64toh(c.capacity), SECTORS);
	assert_int_equal(le32toh(c.seg_max), 254);
	assert_int_equal(le32toh(c.blk_size), 512);
	assert_int_equal(le32toh(c.max_discard_seg), 16);
	assert_int_equal(le32toh(c.max_write_zeroes_seg), 1);
	assert_false(disk->features_offered & F(VIRTIO_BLK_F_RO));
	end();
	begin_with(make_file(true), true, FEATURES_RO);
	c = config();
	assert_int_equal(c.max_discard_seg, 0);
	assert_true(disk->features_offered & F(VIRTIO_BLK_F_RO));
	assert_false(disk->features_offered & F(VIRTIO_BLK_F_DISCARD));
	end();
}

static void check_reads(void)
{
	struct drv_seg many[200];
	struct drv_seg one = { .addr = DATA, .len = 1 << 20, .write = true };
	uint32_t written;

	assert_int_equal(ask(VIRTIO_BLK_T_IN, 3, &one, 1, &written), VIRTIO_BLK_S_OK);
	assert_int_equal(written, (1 << 20) + 1);
	assert_pattern(at(DATA), 3 * 512, 1 << 20);
	assert_int_equal(interrupts, 1);
	/* Segments of odd lengths, the last sector of the disk in the last of them. */
	for (unsigned i = 0; i < 200; i++)
		many[i] = (struct drv_seg){
			.addr = DATA + 0x1000 * i,
			.len = i < 199 ? 500 : 1024 - 199 * 500 % 512,
			.write = true,
		};
	assert_int_equal((199 * 500 + many[199].len) % 512, 0);
	memset(at(DATA), 0, 0x1000 * 200);
	written = (199 * 500 + many[199].len) / 512;
	assert_int_equal(ask(VIRTIO_BLK_T_IN, SECTORS - written, many, 200, NULL), VIRTIO_BLK_S_OK);
	for (unsigned i = 0; i < 200; i++) {
		assert_pattern(at(many[i].addr), DISK_BYTES - written * 512ull + 500ull * i,
			       many[i].len);
		assert_int_equal(*(uint8_t *)at(many[i].addr + many[i].len), 0);
	}
}

static void sectors_are_read(void **state)
{
	(void)state;
	begin();
	check_reads();
	end();
	begin_with(make_file(false), true, FEATURES_RO);
	check_reads();
	end();
}

static void sectors_are_written(void **state)
{
	struct drv_seg data[2] = { { .addr = DATA, .len = 700 },
				   { .addr = DATA + 5000, .len = 324 } };
	uint32_t written;

	(void)state;
	for (int stable = 0; stable < 2; stable++) {
		begin_with(make_file(stable), false,
			   stable ? DRV_F_VERSION_1 : FEATURES); /* no FLUSH: write-through */
		memset(at(DATA), 0x5a, 8192);
		assert_int_equal(ask(VIRTIO_BLK_T_OUT, 8, data, 2, &written), VIRTIO_BLK_S_OK);
		assert_int_equal(written, 1);
		assert_file(8 * 512 - 16, 16, -1);
		assert_file(8 * 512, 1024, 0x5a);
		assert_file(10 * 512, 16, -1);
		assert_int_equal(ask(VIRTIO_BLK_T_FLUSH, 0, NULL, 0, NULL), VIRTIO_BLK_S_OK);
		end();
	}
}

/* Nothing in §2.7.4 says that a request's parts and its descriptors are the same. */
static void framing_is_free(void **state)
{
	const struct drv_seg segs[] = {
		{ .addr = HEADER, .len = 5 },
		{ .addr = HEADER + 5, .len = 11 },
		{ .addr = DATA, .len = 100, .write = true },
		{ .addr = DATA + 100, .len = 413, .write = true }, /* and the status */
	};
	uint32_t id;

	(void)state;
	begin();
	put_header(HEADER, VIRTIO_BLK_T_IN, 7);
	memset(at(DATA), UNTOUCHED, 1024);
	drv_send(&dq, segs, 4);
	vdev_kick(disk, 0);
	assert_int_equal(answer(&id), 513);
	assert_pattern(at(DATA), 7 * 512, 512);
	assert_int_equal(*(uint8_t *)at(DATA + 512), VIRTIO_BLK_S_OK);
	assert_int_equal(*(uint8_t *)at(DATA + 513), UNTOUCHED);
	end();
}

static void the_serial_is_told(void **state)
{
	struct drv_seg id = { .addr = DATA, .len = 20, .write = true };
	uint32_t written;

	(void)state;
	begin();
	memset(at(DATA), UNTOUCHED, 64);
	assert_int_equal(ask(VIRTIO_BLK_T_GET_ID, 0, &id, 1, &written), VIRTIO_BLK_S_OK);
	assert_int_equal(written, 21);
	assert_memory_equal(at(DATA), "upper\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 20);
	id.len = 19;
	assert_int_equal(ask(VIRTIO_BLK_T_GET_ID, 0, &id, 1, NULL), VIRTIO_BLK_S_IOERR);
	id.len = 64;
	assert_int_equal(ask(VIRTIO_BLK_T_GET_ID, 0, &id, 1, &written), VIRTIO_BLK_S_OK);
	assert_int_equal(written, 20);
	assert_int_equal(*(uint8_t *)at(DATA + 20), UNTOUCHED);
	end();
}

static void put_range(unsigned i, uint64_t sector, uint32_t sectors, uint32_t flags)
{
	const struct virtio_blk_discard_write_zeroes r = {
		.sector = htole64(sector),
		.num_sectors = htole32(sectors),
		.flags = htole32(flags),
	};

	memcpy((uint8_t *)at(DATA) + i * sizeof(r), &r, sizeof(r));
}

static void ranges_are_given_back_and_zeroed(void **state)
{
	struct drv_seg data = { .addr = DATA, .len = 32 };
	struct stat before, after;

	(void)state;
	begin();
	assert_int_equal(fstat(disk_fd, &before), 0);
	put_range(0, 1024, 1024, 0);
	put_range(1, 16, 8, 0);
	assert_int_equal(ask(VIRTIO_BLK_T_DISCARD, 0, &data, 1, NULL), VIRTIO_BLK_S_OK);
	assert_int_equal(fstat(disk_fd, &after), 0);
	assert_int_equal(after.st_size, DISK_BYTES);
	assert_true(after.st_blocks <= before.st_blocks - 1024);
	assert_file(1024 * 512, 16, 0);
	assert_file(1024 * 512 - 16, 16, -1);
	assert_file(2048 * 512, 16, -1);
	assert_file(16 * 512, 4096, 0);
	data.len = 16;
	for (unsigned unmap = 0; unmap < 2; unmap++) {
		put_range(0, 101 + 3 * unmap, 2, unmap);
		assert_int_equal(ask(VIRTIO_BLK_T_WRITE_ZEROES, 0, &data, 1, NULL), VIRTIO_BLK_S_OK);
		assert_file((101 + 3 * unmap) * 512, 1024, 0);
		assert_file((103 + 3 * unmap) * 512, 16, -1);
	}
	/* Of nothing: nothing. */
	put_range(0, 0, 0, 0);
	assert_int_equal(ask(VIRTIO_BLK_T_DISCARD, 0, &data, 1, NULL), VIRTIO_BLK_S_OK);
	assert_file(0, 16, -1);
	end();
}

/* More requests at once than there are slots, in the queue before the first kick. */
static void a_full_queue_is_served(void **state)
{
	enum { N = QUEUE_SIZE / 3 };
	bool seen[QUEUE_SIZE] = { false };
	uint32_t id;

	(void)state;
	begin();
	for (unsigned i = 0; i < N; i++) {
		const struct drv_seg segs[] = {
			{ .addr = HEADER + 64 * i, .len = 16 },
			{ .addr = DATA + 4096 * i, .len = 4096, .write = true },
			{ .addr = STATUS + i, .len = 1, .write = true },
		};

		put_header(HEADER + 64 * i, VIRTIO_BLK_T_IN, 8 * i);
		*(uint8_t *)at(STATUS + i) = UNTOUCHED;
		drv_send(&dq, segs, 3);
	}
	vdev_kick(disk, 0);
	for (unsigned i = 0; i < N; i++) {
		assert_int_equal(answer(&id), 4097);
		assert_int_equal(id % 3, 0);
		assert_false(seen[id]);
		seen[id] = true;
		assert_int_equal(*(uint8_t *)at(STATUS + id / 3), VIRTIO_BLK_S_OK);
		assert_pattern(at(DATA + 4096 * (id / 3)), 4096 * (id / 3), 4096);
	}
	assert_false(drv_used(&dq, &id, &id));
	end();
}

/* ---- what does not ------------------------------------------------------ */

static void wrong_requests_are_answered(void **state)
{
	static const struct {
		uint32_t type;
		uint64_t sector;
		struct drv_seg seg;
		int status;
	} cases[] = {
		/* outside the disk, and where the sum wraps */
		{ VIRTIO_BLK_T_IN, SECTORS, { DATA, 512, true }, VIRTIO_BLK_S_IOERR },
		{ VIRTIO_BLK_T_IN, SECTORS - 1, { DATA, 1024, true }, VIRTIO_BLK_S_IOERR },
		{ VIRTIO_BLK_T_IN, UINT64_MAX, { DATA, 512, true }, VIRTIO_BLK_S_IOERR },
		{ VIRTIO_BLK_T_IN, UINT64_MAX / 512 + 1, { DATA, 512, true }, VIRTIO_BLK_S_IOERR },
		{ VIRTIO_BLK_T_OUT, SECTORS, { DATA, 512, false }, VIRTIO_BLK_S_IOERR },
		{ VIRTIO_BLK_T_OUT, UINT64_MAX - 1, { DATA, 1024, false }, VIRTIO_BLK_S_IOERR },
		/* not whole sectors */
		{ VIRTIO_BLK_T_IN, 0, { DATA, 511, true }, VIRTIO_BLK_S_IOERR },
		{ VIRTIO_BLK_T_IN, 0, { DATA, 513, true }, VIRTIO_BLK_S_IOERR },
		{ VIRTIO_BLK_T_OUT, 0, { DATA, 1, false }, VIRTIO_BLK_S_IOERR },
		/* data in the wrong direction */
		{ VIRTIO_BLK_T_IN, 0, { DATA, 512, false }, VIRTIO_BLK_S_IOERR },
		{ VIRTIO_BLK_T_OUT, 0, { DATA, 512, true }, VIRTIO_BLK_S_IOERR },
		/* types that are not, or not ours */
		{ 2, 0, { DATA, 512, true }, VIRTIO_BLK_S_UNSUPP },
		{ 10, 0, { DATA, 512, true }, VIRTIO_BLK_S_UNSUPP },
		{ VIRTIO_BLK_T_SECURE_ERASE, 0, { DATA, 16, false }, VIRTIO_BLK_S_UNSUPP },
		{ 0xffffffff, 0, { DATA, 512, true }, VIRTIO_BLK_S_UNSUPP },
		{ 0x80000000, 0, { DATA, 512, true }, VIRTIO_BLK_S_UNSUPP },
	};

	(void)state;
	begin();
	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
		uint32_t written;

		memset(at(DATA), UNTOUCHED, 2048);
		assert_int_equal(ask(cases[i].type, cases[i].sector, &cases[i].seg, 1, &written),
				 cases[i].status);
		/* The status is not the first writable byte: nothing is claimed. */
		assert_int_equal(written, cases[i].seg.write ? 0 : 1);
		assert_int_equal(*(uint8_t *)at(DATA), UNTOUCHED);
		assert_false(drv_broken(disk));
	}
	/* Nothing at all to transfer. */
	assert_int_equal(ask(VIRTIO_BLK_T_IN, 0, NULL, 0, NULL), VIRTIO_BLK_S_IOERR);
	assert_int_equal(ask(VIRTIO_BLK_T_OUT, 0, NULL, 0, NULL), VIRTIO_BLK_S_IOERR);
	assert_file(0, DISK_BYTES / 64, -1);
	end();
}

static void wrong_ranges_are_answered(void **state)
{
	static const struct {
		uint32_t type, len;
		uint64_t sector;
		uint32_t sectors, flags;
		int status;
	} cases[] = {
		{ VIRTIO_BLK_T_DISCARD, 16, 0, 8, 1, VIRTIO_BLK_S_UNSUPP },
		{ VIRTIO_BLK_T_DISCARD, 16, 0, 8, 2, VIRTIO_BLK_S_UNSUPP },
		{ VIRTIO_BLK_T_WRITE_ZEROES, 16, 0, 8, 2, VIRTIO_BLK_S_UNSUPP },
		{ VIRTIO_BLK_T_DISCARD, 16, SECTORS, 1, 0, VIRTIO_BLK_S_IOERR },
		{ VIRTIO_BLK_T_DISCARD, 16, UINT64_MAX, 2, 0, VIRTIO_BLK_S_IOERR },
		{ VIRTIO_BLK_T_DISCARD, 16, 0, UINT32_MAX, 0, VIRTIO_BLK_S_IOERR },
		{ VIRTIO_BLK_T_WRITE_ZEROES, 16, 0, SECTORS + 1, 0, VIRTIO_BLK_S_IOERR },
		{ VIRTIO_BLK_T_DISCARD, 15, 0, 1, 0, VIRTIO_BLK_S_IOERR },
		{ VIRTIO_BLK_T_DISCARD, 17, 0, 1, 0, VIRTIO_BLK_S_IOERR },
		{ VIRTIO_BLK_T_DISCARD, 17 * 16, 0, 0, 0, VIRTIO_BLK_S_IOERR },
		{ VIRTIO_BLK_T_DISCARD, 1 << 20, 0, 0, 0, VIRTIO_BLK_S_IOERR },
		{ VIRTIO_BLK_T_WRITE_ZEROES, 32, 0, 1, 0, VIRTIO_BLK_S_IOERR },
	};

	(void)state;
	begin();
	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
		const struct drv_seg data = { .addr = DATA, .len = cases[i].len };

		memset(at(DATA), 0, 4096);
		put_range(0, cases[i].sector, cases[i].sectors, cases[i].flags);
		assert_int_equal(ask(cases[i].type, 0, &data, 1, NULL), cases[i].status);
	}
	assert_int_equal(ask(VIRTIO_BLK_T_DISCARD, 0, NULL, 0, NULL), VIRTIO_BLK_S_IOERR);
	assert_file(0, DISK_BYTES / 64, -1);
	end();
	/* Not negotiated. */
	begin_with(make_file(true), false, DRV_F_VERSION_1);
	put_range(0, 0, 8, 0);
	assert_int_equal(ask(VIRTIO_BLK_T_DISCARD, 0, &(struct drv_seg){ DATA, 16, false }, 1, NULL),
			 VIRTIO_BLK_S_UNSUPP);
	assert_int_equal(ask(VIRTIO_BLK_T_WRITE_ZEROES, 0, &(struct drv_seg){ DATA, 16, false }, 1,
			     NULL),
			 VIRTIO_BLK_S_UNSUPP);
	assert_file(0, 4096, -1);
	end();
}

static void a_short_header_is_an_error(void **state)
{
	const struct drv_seg segs[] = { { .addr = HEADER, .len = 15 },
					{ .addr = STATUS, .len = 1, .write = true } };
	const struct drv_seg none = { .addr = STATUS, .len = 1, .write = true };
	uint32_t id;

	(void)state;
	begin();
	put_header(HEADER, VIRTIO_BLK_T_FLUSH, 0);
	*(uint8_t *)at(STATUS) = UNTOUCHED;
	drv_send(&dq, segs, 2);
	vdev_kick(disk, 0);
	assert_int_equal(answer(&id), 1);
	assert_int_equal(*(uint8_t *)at(STATUS), VIRTIO_BLK_S_IOERR);
	*(uint8_t *)at(STATUS) = UNTOUCHED;
	drv_send(&dq, &none, 1);
	vdev_kick(disk, 0);
	assert_int_equal(answer(&id), 1);
	assert_int_equal(*(uint8_t *)at(STATUS), VIRTIO_BLK_S_IOERR);
	assert_false(drv_broken(disk));
	end();
}

static void a_request_without_status_breaks_the_device(void **state)
{
	const struct drv_seg segs[] = { { .addr = HEADER, .len = 16 },
					{ .addr = DATA, .len = 512 } };
	const struct drv_seg data = { .addr = DATA, .len = 512, .write = true };
	uint32_t id, len;

	(void)state;
	begin();
	put_header(HEADER, VIRTIO_BLK_T_OUT, 0);
	drv_send(&dq, segs, 2);
	vdev_kick(disk, 0);
	assert_true(drv_broken(disk));
	/* It does nothing more, until it is reset. */
	put_header(HEADER, VIRTIO_BLK_T_IN, 0);
	vdev_kick(disk, 0);
	assert_false(drv_used(&dq, &id, &len));
	assert_file(0, 512, -1);
	attach(FEATURES);
	assert_int_equal(ask(VIRTIO_BLK_T_IN, 0, &data, 1, NULL), VIRTIO_BLK_S_OK);
	end();
}

static void a_malformed_ring_breaks_the_device(void **state)
{
	(void)state;
	begin();
	drv_desc(&ram, dq.desc, 0, HEADER, 16, DRV_NEXT, 1);
	drv_desc(&ram, dq.desc, 1, DATA, 512, DRV_NEXT, 0); /* a loop */
	drv_offer(&dq, 0);
	vdev_kick(disk, 0);
	assert_true(drv_broken(disk));
	end();
}

/* Requests are in flight when another one breaks the device: they end in silence. */
static void completions_of_a_broken_device_are_dropped(void **state)
{
	const struct drv_seg bad = { .addr = HEADER, .len = 16 };
	uint32_t id, len;

	(void)state;
	begin();
	for (unsigned i = 0; i < 8; i++) {
		const struct drv_seg segs[] = {
			{ .addr = HEADER, .len = 16 },
			{ .addr = DATA, .len = 1 << 20, .write = true },
			{ .addr = STATUS, .len = 1, .write = true },
		};

		put_header(HEADER, VIRTIO_BLK_T_IN, 0);
		drv_send(&dq, segs, 3);
	}
	drv_send(&dq, &bad, 1);
	vdev_kick(disk, 0);
	assert_true(drv_broken(disk));
	vdev_drain(disk);
	vdev_undrain(disk);
	assert_false(drv_used(&dq, &id, &len));
	attach(FEATURES);
	assert_int_equal(ask(VIRTIO_BLK_T_FLUSH, 0, NULL, 0, NULL), VIRTIO_BLK_S_OK);
	end();
}

static void a_readonly_disk_is_not_written(void **state)
{
	const struct drv_seg data = { .addr = DATA, .len = 512 };
	const struct drv_seg range = { .addr = DATA, .len = 16 };

	(void)state;
	begin_with(make_file(true), true, FEATURES_RO);
	assert_int_equal(ask(VIRTIO_BLK_T_OUT, 0, &data, 1, NULL), VIRTIO_BLK_S_IOERR);
	put_range(0, 0, 8, 0);
	assert_int_equal(ask(VIRTIO_BLK_T_DISCARD, 0, &range, 1, NULL), VIRTIO_BLK_S_UNSUPP);
	assert_int_equal(ask(VIRTIO_BLK_T_WRITE_ZEROES, 0, &range, 1, NULL), VIRTIO_BLK_S_UNSUPP);
	assert_int_equal(ask(VIRTIO_BLK_T_FLUSH, 0, NULL, 0, NULL), VIRTIO_BLK_S_OK);
	assert_file(0, 4096, -1);
	/* A driver cannot accept what is not offered. */
	assert_false(drv_init(disk, FEATURES));
	end();
}

static void host_errors_are_told(void **state)
{
	const struct drv_seg in = { .addr = DATA, .len = 512, .write = true };
	const struct drv_seg out = { .addr = DATA, .len = 512 };
	const struct drv_seg range = { .addr = DATA, .len = 16 };
	uint32_t written;

	(void)state;
	begin();
	assert_int_equal(ftruncate(disk_fd, DISK_BYTES / 2), 0);
	assert_int_equal(ask(VIRTIO_BLK_T_IN, SECTORS - 1, &in, 1, &written), VIRTIO_BLK_S_IOERR);
	assert_int_equal(written, 0);
	assert_int_equal(ask(VIRTIO_BLK_T_IN, SECTORS / 2 - 1, &in, 1, NULL), VIRTIO_BLK_S_OK);
	assert_int_equal(fcntl(disk_fd, F_ADD_SEALS, F_SEAL_WRITE), 0);
	assert_int_equal(ask(VIRTIO_BLK_T_OUT, 0, &out, 1, NULL), VIRTIO_BLK_S_IOERR);
	put_range(0, 0, 8, 0);
	assert_int_equal(ask(VIRTIO_BLK_T_DISCARD, 0, &range, 1, NULL), VIRTIO_BLK_S_IOERR);
	assert_int_equal(ask(VIRTIO_BLK_T_WRITE_ZEROES, 0, &range, 1, NULL), VIRTIO_BLK_S_IOERR);
	assert_false(drv_broken(disk));
	end();
}

/* ---- reset, snapshot ---------------------------------------------------- */

static void send_reads(unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		const struct drv_seg segs[] = {
			{ .addr = HEADER, .len = 16 },
			{ .addr = DATA, .len = 1 << 20, .write = true },
			{ .addr = STATUS, .len = 1, .write = true },
		};

		drv_send(&dq, segs, 3);
	}
	put_header(HEADER, VIRTIO_BLK_T_IN, 0);
	vdev_kick(disk, 0);
}

static void a_reset_ends_all_requests(void **state)
{
	const struct drv_seg data = { .addr = DATA, .len = 512, .write = true };

	(void)state;
	begin();
	for (unsigned round = 0; round < 20; round++) {
		send_reads(50);
		drv_write(disk, DRV_STATUS, 0);
		/* From here on the memory is the guest's alone. */
		memset(at(DATA), UNTOUCHED, 1 << 20);
		*(uint8_t *)at(STATUS) = UNTOUCHED;
		for (unsigned i = 0; i < 3; i++)
			assert_int_equal(loop_run_once(loop, 0), 0);
		for (unsigned i = 0; i < 1 << 20; i += 512)
			assert_int_equal(*(uint8_t *)at(DATA + i), UNTOUCHED);
		assert_int_equal(*(uint8_t *)at(STATUS), UNTOUCHED);
		attach(FEATURES);
		assert_int_equal(ask(VIRTIO_BLK_T_IN, 5, &data, 1, NULL), VIRTIO_BLK_S_OK);
		assert_pattern(at(DATA), 5 * 512, 512);
	}
	end();
}

static void a_drained_disk_is_idle(void **state)
{
	uint32_t id, len;
	unsigned got = 0;

	(void)state;
	begin();
	send_reads(80); /* more than slots */
	vdev_drain(disk);
	while (drv_used(&dq, &id, &len))
		got++;
	assert_true(got >= 64);
	assert_true(interrupts > 0);
	/* Nothing is begun now, whatever the loop still has. */
	vdev_kick(disk, 0);
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(loop_run_once(loop, 0), 0);
	assert_false(drv_used(&dq, &id, &len));
	vdev_undrain(disk);
	for (; got < 80; got++)
		assert_int_equal(answer(&id), (1 << 20) + 1);
	end();
}

static void a_restored_disk_goes_on(void **state)
{
	const struct drv_seg data = { .addr = DATA, .len = 4096, .write = true };
	struct buf blob = BUF_INIT;
	struct vdev *old, *other;
	int small;

	(void)state;
	begin();
	assert_int_equal(ask(VIRTIO_BLK_T_IN, 0, &data, 1, NULL), VIRTIO_BLK_S_OK);
	vdev_drain(disk);
	assert_int_equal(vdev_save(disk, &blob), 0);
	old = disk;
	disk = make_disk(disk_fd, false);
	assert_int_equal(vdev_load(disk, buf_data(&blob), buf_len(&blob), NULL), 0);
	vdev_undrain(disk);
	assert_int_equal(ask(VIRTIO_BLK_T_IN, 40, &data, 1, NULL), VIRTIO_BLK_S_OK);
	assert_pattern(at(DATA), 40 * 512, 4096);
	/* A disk of another size is another disk; so is every other state. */
	small = make_file(true);
	assert_int_equal(ftruncate(small, DISK_BYTES - 512), 0);
	other = make_disk(small, false);
	assert_int_equal(vdev_load(other, buf_data(&blob), buf_len(&blob), NULL), -EINVAL);
	other->ops->destroy(other);
	other = make_disk(disk_fd, false);
	assert_int_equal(vdev_load(other, buf_data(&blob), buf_len(&blob) - 1, NULL), -EINVAL);
	other->ops->destroy(other);
	close(small);
	old->ops->destroy(old);
	buf_fini(&blob);
	end();
}

/* ---- creation ----------------------------------------------------------- */

static void only_a_file_of_the_right_mode_is_a_disk(void **state)
{
	struct err e;
	int pipes[2], empty;
	static const char long_serial[] = "123456789012345678901";

	(void)state;
	begin();
	assert_int_equal(pipe(pipes), 0);
	empty = memfd_create("empty", MFD_CLOEXEC);
	assert_true(empty >= 0);
	const struct blk_config cases[] = {
		{ .name = "d", .serial = "s", .fd = pipes[0], .readonly = true },
		{ .name = "d", .serial = "s", .fd = 1023, .readonly = true },
		{ .name = "d", .serial = "s", .fd = disk_fd, .readonly = true }, /* open for writing */
		{ .name = "d", .serial = "s", .fd = empty },
		{ .name = "d", .serial = "", .fd = disk_fd },
		{ .name = "d", .serial = long_serial, .fd = disk_fd },
	};
	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
		struct vdev *d = NULL;

		e = (struct err)ERR_INIT;
		assert_true(blk_create(&d, &cases[i], &ram, loop, worker, &e) < 0);
		assert_null(d);
		assert_true(strlen(e.msg) > 10);
	}
	close(empty);
	close(pipes[0]);
	close(pipes[1]);
	end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(the_configuration_tells_the_disk),
		TEST(sectors_are_read),
		TEST(sectors_are_written),
		TEST(framing_is_free),
		TEST(the_serial_is_told),
		TEST(ranges_are_given_back_and_zeroed),
		TEST(a_full_queue_is_served),
		TEST(wrong_requests_are_answered),
		TEST(wrong_ranges_are_answered),
		TEST(a_short_header_is_an_error),
		TEST(a_request_without_status_breaks_the_device),
		TEST(a_malformed_ring_breaks_the_device),
		TEST(completions_of_a_broken_device_are_dropped),
		TEST(a_readonly_disk_is_not_written),
		TEST(host_errors_are_told),
		TEST(a_reset_ends_all_requests),
		TEST(a_drained_disk_is_idle),
		TEST(a_restored_disk_goes_on),
		TEST(only_a_file_of_the_right_mode_is_a_disk),
	};

	return test_run(tests);
}
