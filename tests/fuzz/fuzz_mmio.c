/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every virtio device, under a driver that writes its registers and its memory as it
 * likes.  The input chooses the device, perhaps a proper start, and is then a script of
 * register accesses, kicks, writes to RAM, turns of the loop, and snapshots.
 *
 * RAM is two slots, each an allocation of its own, so that a sanitizer sees a byte read or
 * written beside it.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "base/mem.h"
#include "sys/loop.h"
#include "unit/virtio_driver.h"
#include "vmm/virtio/balloon.h"
#include "vmm/virtio/rng.h"
#include "vmm/virtio/vdev.h"

#define SLOT 65536u
#define QUEUE_BASE 0x1000u
#define QUEUE_STEP 0x1000u
#define QUEUE_SIZE 16u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct input {
	const uint8_t *p;
	size_t left;
};

static uint64_t input_get(struct input *in, unsigned bytes)
{
	uint64_t v = 0;

	for (unsigned i = 0; i < bytes && in->left; i++, in->left--)
		v |= (uint64_t)*in->p++ << 8 * i;
	return v;
}

static const uint8_t *input_bytes(struct input *in, size_t *len)
{
	const uint8_t *p = in->p;

	*len = min_u64(*len, in->left);
	in->p += *len;
	in->left -= *len;
	return p;
}

/* An address in either slot, or a bit beside. */
static uint64_t input_address(struct input *in)
{
	uint64_t v = input_get(in, 3);

	return (v & 0x800000 ? MEMORY_HOLE_END : 0) + (v & 0x1ffff);
}

static struct memory ram;
static struct loop *loop;

static int (*const makers[])(struct vdev **, const struct memory *, struct loop *, struct err *) = {
	rng_create,
	balloon_create,
};

static void setup(void)
{
	for (unsigned i = 0; i < 2; i++) {
		if (!ram.slots[i].host && posix_memalign((void **)&ram.slots[i].host, 4096, SLOT))
			abort();
		ram.slots[i].size = SLOT;
		memset(ram.slots[i].host, 0, SLOT);
	}
	ram.slots[1].gpa = MEMORY_HOLE_END;
	ram.n_slots = 2;
	ram.bytes = 2 * SLOT;
	if (!loop && loop_create(&loop, NULL))
		abort();
	log_set_level(LOG_ERR);
}

static struct vdev *make(unsigned which)
{
	struct vdev *d;

	if (makers[which](&d, &ram, loop, NULL))
		abort();
	return d;
}

/* What holds for a device whatever its driver did. */
static void check(const struct vdev *d)
{
	assert(!(atomic_load(&d->isr) & ~3u));
	assert(!(d->status & ~0xcfu));
	if (d->status & VDEV_S_FEATURES_OK)
		assert(!(d->features & ~d->features_offered) && vdev_has(d, VDEV_F_VERSION_1));
	for (unsigned i = 0; i < d->n_queues; i++) {
		const struct vq *q = &d->queues[i];

		if (!q->enabled)
			continue;
		assert(d->status & VDEV_S_FEATURES_OK);
		assert(q->size && q->size <= d->ops->queue_size_max);
		assert((uint16_t)(q->next_avail - q->next_used) <= q->size);
	}
}

/* A device that a correct driver has started, with its queues at QUEUE_BASE and after. */
static void start(struct vdev *d, struct drv_queue *dq, uint64_t features)
{
	if (!drv_init(d, (features & d->features_offered) | DRV_F_VERSION_1))
		abort();
	for (unsigned i = 0; i < d->n_queues; i++) {
		uint16_t size = (uint16_t)min_u64(QUEUE_SIZE, d->ops->queue_size_max);

		drv_queue_init(&dq[i], &ram, QUEUE_BASE + i * QUEUE_STEP, size);
		if (!drv_queue_attach(d, i, &dq[i]))
			abort();
	}
	drv_ready(d);
}

/* One chain, of a few segments, in the next descriptors of a queue that start() laid out. */
static void offer(struct drv_queue *dq, struct input *in)
{
	unsigned n = (unsigned)input_get(in, 1) % 4 + 1;
	struct drv_seg segs[4];

	for (unsigned i = 0; i < n; i++) {
		segs[i].addr = input_address(in);
		segs[i].len = (uint32_t)input_get(in, 3);
		segs[i].write = segs[i].len & 0x800000;
		segs[i].len &= 0x1ffff;
	}
	drv_send(dq, segs, n);
}

/* A state that was saved can be loaded, and is the same then. */
static void snapshot(struct vdev *d, unsigned which)
{
	struct vdev *copy = make(which);
	struct buf first, second;

	buf_init(&first, 0);
	buf_init(&second, 0);
	vdev_drain(d);
	if (vdev_save(d, &first) || vdev_load(copy, buf_data(&first), buf_len(&first), NULL) ||
	    vdev_save(copy, &second))
		abort();
	assert(buf_len(&first) == buf_len(&second));
	assert(!memcmp(buf_data(&first), buf_data(&second), buf_len(&first)));
	copy->ops->destroy(copy);
	vdev_undrain(d);
	buf_fini(&first);
	buf_fini(&second);
}

/* A device that goes on from a state that nobody saved. */
static struct vdev *load(struct vdev *d, unsigned which, struct input *in)
{
	struct vdev *fresh = make(which);
	size_t len = input_get(in, 2);
	const uint8_t *p = input_bytes(in, &len);

	if (vdev_load(fresh, p, len, NULL)) {
		check(fresh);
		assert(!fresh->status);
		fresh->ops->destroy(fresh);
		return d;
	}
	d->ops->destroy(d);
	vdev_undrain(fresh);
	return fresh;
}

static void access_register(struct vdev *d, struct input *in, bool write)
{
	uint64_t off = input_get(in, 2);
	size_t len = input_get(in, 1) % 17;
	uint8_t b[16];
	const uint8_t *p;

	off = off & 0x8000 ? UINT64_MAX - (off & 0xff) : off & 0x1fff;
	if (write) {
		p = input_bytes(in, &len);
		vdev_mmio_write(d, off, p, (uint32_t)len);
	} else {
		vdev_mmio_read(d, off, b, (uint32_t)len);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct drv_queue dq[VDEV_QUEUES_MAX];
	struct input in = { data, size };
	unsigned which;
	struct vdev *d;

	setup();
	memset(dq, 0, sizeof(dq));
	which = (unsigned)input_get(&in, 1) % ARRAY_SIZE(makers);
	d = make(which);
	if (input_get(&in, 1) & 1)
		start(d, dq, input_get(&in, 8));
	for (unsigned i = 0; i < 1024 && in.left; i++) {
		unsigned op = (unsigned)input_get(&in, 1), n;
		const uint8_t *p;
		uint64_t at;
		size_t len;

		switch (op % 11) {
		case 0:
			access_register(d, &in, false);
			break;
		case 1:
			access_register(d, &in, true);
			break;
		case 2:
			at = input_get(&in, 1) % 64 * 4;
			drv_write(d, (unsigned)at, (uint32_t)input_get(&in, 4));
			break;
		case 3:
			vdev_kick(d, (unsigned)input_get(&in, 1));
			break;
		case 4:
			at = input_address(&in);
			len = input_get(&in, 1);
			p = input_bytes(&in, &len);
			if (memory_at(&ram, at, len))
				memcpy(memory_at(&ram, at, len), p, len);
			break;
		case 5:
		case 6:
			n = (unsigned)input_get(&in, 1) % d->n_queues;
			if (!dq[n].size)
				break;
			offer(&dq[n], &in);
			if (op % 11 == 6)
				vdev_kick(d, n);
			break;
		case 7:
			loop_run_once(loop, 0);
			break;
		case 8:
			snapshot(d, which);
			break;
		case 9:
			d = load(d, which, &in);
			break;
		default:
			start(d, dq, input_get(&in, 8));
			break;
		}
		check(d);
	}
	drv_write(d, DRV_STATUS, 0);
	assert(!d->status && !d->queues[0].enabled);
	d->ops->destroy(d);
	return 0;
}
