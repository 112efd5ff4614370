/* SPDX-License-Identifier: Apache-2.0 */
/* The disk under a hostile driver: its file keeps its size, and a read-only one its bytes. */
#include <fcntl.h>
#include <linux/virtio_blk.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "fuzz/device.h"
#include "vmm/virtio/blk.h"
#include "vmm/virtio/disk_worker.h"

#define DISK_BYTES 65536u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct disk_worker *worker;
/* In memory, where reads always need the worker, and on a disk, where they may not. */
static int disks[2] = { -1, -1 };
static int disk;
static bool readonly;

static struct vdev *make(struct fuzz_input *in)
{
	struct blk_config c = { .name = "blk", .serial = "upper", .readonly = readonly };
	struct vdev *d;
	char path[64];

	(void)in;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", disk);
	c.fd = open(path, (readonly ? O_RDONLY : O_RDWR) | O_CLOEXEC);
	if (c.fd < 0 || blk_create(&d, &c, &fuzz_ram, fuzz_loop, worker, NULL))
		abort();
	return d;
}

static void unmake(void)
{
}

/* The host's end of a disk is its file; somebody cuts it, and makes it whole again. */
static void host(struct fuzz_input *in)
{
	if (ftruncate(disk, fuzz_get(in, 1) & 1 ? DISK_BYTES : DISK_BYTES / 2))
		abort();
}

static void check(struct vdev *d)
{
	static uint8_t bytes[DISK_BYTES];
	struct stat st;
	ssize_t n;

	if (fstat(disk, &st))
		abort();
	assert(st.st_size <= DISK_BYTES);
	if (!readonly)
		return;
	n = pread(disk, bytes, sizeof(bytes), 0);
	for (ssize_t i = 0; i < n; i++)
		assert(!bytes[i]);
	(void)d;
}

static uint32_t request(struct fuzz_input *in, unsigned q, uint8_t *to, uint32_t room)
{
	static const uint32_t types[] = {
		VIRTIO_BLK_T_IN,     VIRTIO_BLK_T_OUT,     VIRTIO_BLK_T_FLUSH,
		VIRTIO_BLK_T_GET_ID, VIRTIO_BLK_T_DISCARD, VIRTIO_BLK_T_WRITE_ZEROES,
		VIRTIO_BLK_T_IN,     VIRTIO_BLK_T_OUT,
	};
	const uint32_t kind = (uint32_t)fuzz_get(in, 1);
	const uint32_t type = kind & 0x80 ? kind & 0x1f : types[kind % ARRAY_SIZE(types)];
	const struct virtio_blk_outhdr h = {
		.type = htole32(type),
		.sector = htole64(fuzz_get(in, 1)),
	};
	const struct virtio_blk_discard_write_zeroes range = {
		.sector = htole64(fuzz_get(in, 1)),
		.num_sectors = htole32((uint32_t)fuzz_get(in, 1)),
		.flags = htole32((uint32_t)fuzz_get(in, 1) & 3),
	};

	(void)q;
	(void)room;
	memcpy(to, &h, sizeof(h));
	memcpy(to + sizeof(h), &range, sizeof(range));
	return type >= VIRTIO_BLK_T_DISCARD ? sizeof(h) + sizeof(range) : sizeof(h);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct fuzz_device fd = {
		.make = make,
		.unmake = unmake,
		.host = host,
		.check = check,
		.request = request,
		.features = UINT64_MAX,
	};

	if (!size)
		return 0;
	if (!fuzz_loop) {
		disks[0] = memfd_create("disk", MFD_CLOEXEC);
		disks[1] = open("/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
		if (disks[0] < 0 || disks[1] < 0 || loop_create(&fuzz_loop, NULL) ||
		    disk_worker_create(&worker, fuzz_loop, NULL))
			abort();
	}
	disk = disks[data[0] >> 1 & 1];
	if (ftruncate(disk, 0) || ftruncate(disk, DISK_BYTES))
		abort();
	readonly = data[0] & 1;
	fuzz_device_run(&fd, data + 1, size - 1);
	return 0;
}
