/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_TESTS_FUZZ_DEVICE_H
#define MSB_TESTS_FUZZ_DEVICE_H

/*
 * A hostile driver for the fuzz targets of single devices: its queues are set up as they
 * should be, so that the input reaches the device's own requests; what it puts into them
 * is a script.  RAM is two slots, each an allocation of its own, so that a sanitizer sees
 * a byte read or written beside it.
 *
 * A target gives a struct fuzz_device and calls fuzz_device_run().
 */

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/checked.h"
#include "base/log.h"
#include "base/mem.h"
#include "fuzz/input.h"
#include "sys/loop.h"
#include "unit/virtio_driver.h"
#include "vmm/virtio/vdev.h"

#define FUZZ_SLOT 65536u
#define FUZZ_QUEUE_BASE 0x1000u
#define FUZZ_QUEUE_STEP 0x400u
#define FUZZ_QUEUE_SIZE 16u
#define FUZZ_QUEUES 8u
#define FUZZ_STEPS 300u
#define FUZZ_SEGMENTS 8u

struct fuzz_device {
	/* A new device, and the host's ends of it. */
	struct vdev *(*make)(struct fuzz_input *in);
	/* Closes the host's ends; the device may still be there. */
	void (*unmake)(void);
	/* Something happens at the host's end. */
	void (*host)(struct fuzz_input *in);
	/* What has to hold whenever the device is not broken; also reads what it sent. */
	void (*check)(struct vdev *d);
	/* The start of a request: a proper one for queue @q.  Return: its length. */
	uint32_t (*request)(struct fuzz_input *in, unsigned q, uint8_t *to, uint32_t room);
	uint64_t features; /* that the driver may accept; those offered are looked up */
};

static struct memory fuzz_ram;
static struct loop *fuzz_loop;
static struct drv_queue fuzz_dq[FUZZ_QUEUES];
static bool fuzz_tampered; /* the device comes from a snapshot that was changed */

/* An address in either slot, or a bit beside. */
static inline uint64_t fuzz_address(struct fuzz_input *in)
{
	uint64_t v = fuzz_get(in, 3);

	return (v & 0x800000 ? MEMORY_HOLE_END : 0) + (v & 0x1ffff);
}

/* Any length, or one that is likely to be right: some sectors, or a page. */
static inline uint32_t fuzz_length(struct fuzz_input *in)
{
	const uint32_t v = (uint32_t)fuzz_get(in, 1);

	if (v & 0x80)
		return (v & 0x7f) << 8 | (uint32_t)fuzz_get(in, 1);
	return v & 0x40 ? v & 0x3f : v * 512;
}

static inline void fuzz_ram_clear(void)
{
	for (unsigned i = 0; i < 2; i++) {
		struct memory_slot *s = &fuzz_ram.slots[i];

		if (!s->host && posix_memalign((void **)&s->host, 4096, FUZZ_SLOT))
			abort();
		s->size = FUZZ_SLOT;
		s->gpa = i ? MEMORY_HOLE_END : 0;
		memset(s->host, 0, FUZZ_SLOT);
	}
	fuzz_ram.n_slots = 2;
	fuzz_ram.bytes = 2 * FUZZ_SLOT;
}

static inline void fuzz_attach(const struct fuzz_device *fd, struct vdev *d, uint64_t mask)
{
	const uint64_t ring = DRV_F_INDIRECT_DESC | DRV_F_EVENT_IDX;

	if (!drv_init(d, DRV_F_VERSION_1 | ((fd->features | ring) & d->features_offered & mask)))
		abort();
	for (unsigned i = 0; i < d->n_queues && i < FUZZ_QUEUES; i++) {
		drv_queue_init(&fuzz_dq[i], &fuzz_ram, FUZZ_QUEUE_BASE + FUZZ_QUEUE_STEP * i,
			       FUZZ_QUEUE_SIZE);
		if (!drv_queue_attach(d, i, &fuzz_dq[i]))
			abort();
	}
	drv_ready(d);
}

/*
 * Offers a chain: perhaps a request of the device's kind at its start, then segments from
 * the input.
 */
static inline void fuzz_offer(const struct fuzz_device *fd, struct fuzz_input *in, unsigned q)
{
	struct drv_seg segs[FUZZ_SEGMENTS + 1];
	const unsigned mode = (unsigned)fuzz_get(in, 1);
	unsigned n = 0, more = mode % FUZZ_SEGMENTS;

	if (mode & 0x80) {
		const uint64_t gpa = 0x4000 + 64 * (fuzz_get(in, 1) & 31);
		const uint32_t len = fd->request(in, q, drv_at(&fuzz_ram, gpa, 64), 64);

		if (len)
			segs[n++] = (struct drv_seg){ .addr = gpa, .len = len };
	}
	for (; more; more--) {
		segs[n].addr = fuzz_address(in);
		segs[n].len = fuzz_length(in);
		/* Mostly in the order that is asked for. */
		segs[n].write = mode & 0x40 ? fuzz_get(in, 1) & 1 : mode >> 4 & 1;
		n++;
	}
	if (mode & 0x20)
		segs[n++] = (struct drv_seg){ .addr = 0x5000, .len = 1, .write = true };
	if (n)
		drv_send(&fuzz_dq[q], segs, n);
}

static inline void fuzz_poke(struct fuzz_input *in)
{
	const uint64_t gpa = fuzz_address(in);
	size_t len = fuzz_get(in, 1);
	const uint8_t *from = fuzz_bytes(in, &len);
	void *to = memory_at(&fuzz_ram, gpa, len);

	if (to && len)
		memcpy(to, from, len);
}

/* Through a snapshot into a new device. */
static inline void fuzz_snapshot(const struct fuzz_device *fd, struct fuzz_input *in,
				 struct vdev **d)
{
	struct buf blob = BUF_INIT;
	struct vdev *copy;
	uint8_t *bytes;
	size_t at, len;
	int rc;

	vdev_drain(*d);
	if (vdev_save(*d, &blob))
		abort();
	fd->unmake();
	(*d)->ops->destroy(*d);
	copy = fd->make(in);
	len = buf_len(&blob);
	bytes = malloc(len);
	assert(bytes);
	memcpy(bytes, buf_data(&blob), len);
	/* Every other time a hostile hand was on it: its positions may lie then. */
	if (fuzz_get(in, 1) & 1) {
		fuzz_tampered = true;
		at = fuzz_get(in, 2) % len;
		bytes[at] ^= (uint8_t)fuzz_get(in, 1);
	}
	rc = vdev_load(copy, bytes, len, NULL);
	assert(rc == 0 || rc == -EINVAL);
	if (rc)
		fuzz_attach(fd, copy, fuzz_get(in, 8));
	else
		vdev_undrain(copy);
	free(bytes);
	buf_fini(&blob);
	*d = copy;
}

static inline void fuzz_step(const struct fuzz_device *fd, struct fuzz_input *in, struct vdev **d)
{
	const unsigned op = (unsigned)fuzz_get(in, 1);
	const unsigned n_queues = (unsigned)min_u64((*d)->n_queues, FUZZ_QUEUES);
	const unsigned q = (op >> 4) % n_queues;

	switch (op & 15) {
	case 0:
	case 1:
	case 2:
	case 3:
		fuzz_offer(fd, in, q);
		break;
	case 4:
	case 5:
	case 6:
		vdev_kick(*d, q);
		break;
	case 7:
	case 8:
		if (loop_run_once(fuzz_loop, 0))
			abort();
		break;
	case 9:
	case 10:
		fd->host(in);
		break;
	case 11:
		fuzz_poke(in);
		break;
	case 12:
		/* Chains that were used before, or never, once more. */
		drv_put16(&fuzz_ram, fuzz_dq[q].avail + 2,
			  fuzz_dq[q].avail_idx += (uint16_t)(op >> 4 & 3));
		break;
	case 13:
		fuzz_attach(fd, *d, fuzz_get(in, 8));
		break;
	case 14:
		fuzz_snapshot(fd, in, d);
		break;
	default:
		vdev_drain(*d);
		vdev_undrain(*d);
		break;
	}
}

static inline void fuzz_device_run(const struct fuzz_device *fd, const uint8_t *data, size_t size)
{
	struct fuzz_input in = { data, size };
	struct vdev *d;

	log_set_level(LOG_ERR);
	fuzz_ram_clear();
	fuzz_tampered = false;
	d = fd->make(&in);
	fuzz_attach(fd, d, fuzz_get(&in, 8));
	for (unsigned i = 0; i < FUZZ_STEPS && in.left; i++) {
		fuzz_step(fd, &in, &d);
		if (vdev_live(d) && !fuzz_tampered)
			fd->check(d);
	}
	vdev_drain(d);
	fd->unmake();
	d->ops->destroy(d);
}

#endif
