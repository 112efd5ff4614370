/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_TESTS_UNIT_VIRTIO_DRIVER_H
#define MSB_TESTS_UNIT_VIRTIO_DRIVER_H

/*
 * The driver's side of virtio for the tests of devices: rings built in a guest memory
 * that no guest runs in, and the register handshake of virtio-mmio.
 *
 *   struct memory m;                 memory_create(&m, 1 << 20, -1, NULL)
 *   struct drv_queue dq;             drv_queue_init(&dq, &m, 0x1000, 8)
 *   drv_queue_bind(&dq, &vq);        a bare struct vq, or
 *   drv_init(d, features); drv_queue_attach(d, 0, &dq); drv_ready(d);
 *   drv_send(&dq, segs, n);          offers a chain, returns its head
 *   drv_used(&dq, &id, &len);        takes the next used entry
 *
 * Values go straight into the rings and nothing is checked: a test can write any
 * nonsense that a hostile driver could.
 */

#include <assert.h>
#include <endian.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "vmm/memory.h"
#include "vmm/virtio/vdev.h"
#include "vmm/virtio/vq.h"

#define DRV_NEXT 1u
#define DRV_WRITE 2u
#define DRV_INDIRECT 4u

struct drv_queue {
	const struct memory *memory;
	uint16_t size;
	uint64_t desc, avail, used; /* guest physical */
	uint64_t end; /* first byte after the rings */
	uint16_t avail_idx, used_seen;
	uint16_t next_desc; /* where drv_send() takes descriptors from */
};

struct drv_seg {
	uint64_t addr;
	uint32_t len;
	bool write; /* by the device */
};

/* Host address of guest memory that a test put there itself. */
static inline void *drv_at(const struct memory *m, uint64_t gpa, uint64_t len)
{
	void *p = memory_at(m, gpa, len);

	if (!p)
		__builtin_trap(); /* the test's own mistake */
	return p;
}

static inline void drv_put16(const struct memory *m, uint64_t gpa, unsigned v)
{
	uint16_t le = htole16((uint16_t)v);

	memcpy(drv_at(m, gpa, 2), &le, 2);
}

static inline void drv_put32(const struct memory *m, uint64_t gpa, uint32_t v)
{
	v = htole32(v);
	memcpy(drv_at(m, gpa, 4), &v, 4);
}

static inline uint16_t drv_get16(const struct memory *m, uint64_t gpa)
{
	uint16_t v;

	memcpy(&v, drv_at(m, gpa, 2), 2);
	return le16toh(v);
}

static inline uint32_t drv_get32(const struct memory *m, uint64_t gpa)
{
	uint32_t v;

	memcpy(&v, drv_at(m, gpa, 4), 4);
	return le32toh(v);
}

/* Lays a queue out at @base: descriptors, available ring, used ring. */
static inline void drv_queue_init(struct drv_queue *dq, const struct memory *m, uint64_t base,
				  uint16_t size)
{
	*dq = (struct drv_queue){ .memory = m, .size = size, .desc = base };
	dq->avail = base + 16ull * size;
	dq->used = (dq->avail + 6 + 2ull * size + 3) & ~3ull;
	dq->end = dq->used + 6 + 8ull * size;
	memset(drv_at(m, base, dq->end - base), 0, dq->end - base);
}

/* Gives the queue's place to a struct vq, without registers. */
static inline int drv_queue_bind(const struct drv_queue *dq, struct vq *q)
{
	vq_init(q, dq->memory);
	q->size = dq->size;
	q->desc = dq->desc;
	q->avail = dq->avail;
	q->used = dq->used;
	return vq_enable(q, VQ_SIZE_MAX);
}

/* A descriptor in the table at @table: the queue's own, or an indirect one. */
static inline void drv_desc(const struct memory *m, uint64_t table, unsigned index, uint64_t addr,
			    uint32_t len, unsigned flags, unsigned next)
{
	uint64_t at = table + 16ull * index;

	drv_put32(m, at, (uint32_t)addr);
	drv_put32(m, at + 4, (uint32_t)(addr >> 32));
	drv_put32(m, at + 8, len);
	drv_put16(m, at + 12, flags);
	drv_put16(m, at + 14, next);
}

/* Makes the chain that starts at descriptor @head available. */
static inline void drv_offer(struct drv_queue *dq, unsigned head)
{
	drv_put16(dq->memory, dq->avail + 4 + 2ull * (dq->avail_idx % dq->size), head);
	__atomic_thread_fence(__ATOMIC_RELEASE);
	drv_put16(dq->memory, dq->avail + 2, ++dq->avail_idx);
}

/* Offers @n segments as one chain of direct descriptors.  Return: its head. */
static inline uint16_t drv_send(struct drv_queue *dq, const struct drv_seg *segs, unsigned n)
{
	uint16_t head = dq->next_desc;

	for (unsigned i = 0; i < n; i++) {
		unsigned at = (head + i) % dq->size;

		drv_desc(dq->memory, dq->desc, at, segs[i].addr, segs[i].len,
			 (segs[i].write ? DRV_WRITE : 0) | (i + 1 < n ? DRV_NEXT : 0),
			 (at + 1) % dq->size);
	}
	dq->next_desc = (uint16_t)((head + n) % dq->size);
	drv_offer(dq, head);
	return head;
}

/* Takes the next used entry.  Return: was there one? */
static inline bool drv_used(struct drv_queue *dq, uint32_t *id, uint32_t *len)
{
	uint64_t at = dq->used + 4 + 8ull * (dq->used_seen % dq->size);

	if (drv_get16(dq->memory, dq->used + 2) == dq->used_seen)
		return false;
	__atomic_thread_fence(__ATOMIC_ACQUIRE);
	*id = drv_get32(dq->memory, at);
	*len = drv_get32(dq->memory, at + 4);
	dq->used_seen++;
	return true;
}

/* What the driver wants to hear of, and what the device does (EVENT_IDX). */
static inline void drv_set_used_event(const struct drv_queue *dq, unsigned v)
{
	drv_put16(dq->memory, dq->avail + 4 + 2ull * dq->size, v);
}

static inline uint16_t drv_avail_event(const struct drv_queue *dq)
{
	return drv_get16(dq->memory, dq->used + 4 + 8ull * dq->size);
}

/* Registers of virtio-mmio (virtio 1.2 §4.2.2). */
#define DRV_MAGIC 0x000u
#define DRV_VERSION 0x004u
#define DRV_DEVICE_ID 0x008u
#define DRV_DEVICE_FEATURES 0x010u
#define DRV_DEVICE_FEATURES_SEL 0x014u
#define DRV_DRIVER_FEATURES 0x020u
#define DRV_DRIVER_FEATURES_SEL 0x024u
#define DRV_QUEUE_SEL 0x030u
#define DRV_QUEUE_SIZE_MAX 0x034u
#define DRV_QUEUE_SIZE 0x038u
#define DRV_QUEUE_READY 0x044u
#define DRV_QUEUE_NOTIFY 0x050u
#define DRV_INTERRUPT_STATUS 0x060u
#define DRV_INTERRUPT_ACK 0x064u
#define DRV_STATUS 0x070u
#define DRV_QUEUE_DESC 0x080u
#define DRV_QUEUE_AVAIL 0x090u
#define DRV_QUEUE_USED 0x0a0u
#define DRV_CONFIG_GENERATION 0x0fcu
#define DRV_CONFIG 0x100u

/* Device status (§2.1). */
#define DRV_S_ACKNOWLEDGE 1u
#define DRV_S_DRIVER 2u
#define DRV_S_DRIVER_OK 4u
#define DRV_S_FEATURES_OK 8u
#define DRV_S_NEEDS_RESET 64u
#define DRV_S_FAILED 128u

#define DRV_F_INDIRECT_DESC (1ull << 28)
#define DRV_F_EVENT_IDX (1ull << 29)
#define DRV_F_VERSION_1 (1ull << 32)

static inline uint32_t drv_read(struct vdev *d, unsigned reg)
{
	uint8_t b[4];

	vdev_mmio_read(d, reg, b, 4);
	/*
	 * What an exit reads is what the guest reads without one.  The interrupt status is the
	 * same word in both, and may have changed between them.
	 */
	assert(!d->window || reg == DRV_INTERRUPT_STATUS || !memcmp(b, d->window + reg, 4));
	return (uint32_t)b[0] | (uint32_t)b[1] << 8 | (uint32_t)b[2] << 16 | (uint32_t)b[3] << 24;
}

static inline void drv_write(struct vdev *d, unsigned reg, uint32_t v)
{
	uint8_t b[4] = { (uint8_t)v, (uint8_t)(v >> 8), (uint8_t)(v >> 16), (uint8_t)(v >> 24) };

	vdev_mmio_write(d, reg, b, 4);
}

static inline void drv_write64(struct vdev *d, unsigned reg, uint64_t v)
{
	drv_write(d, reg, (uint32_t)v);
	drv_write(d, reg + 4, (uint32_t)(v >> 32));
}

/* Steps 1 to 6 of §3.1.1.  Return: did the device take the features? */
static inline bool drv_init(struct vdev *d, uint64_t features)
{
	drv_write(d, DRV_STATUS, 0);
	drv_write(d, DRV_STATUS, DRV_S_ACKNOWLEDGE);
	drv_write(d, DRV_STATUS, DRV_S_ACKNOWLEDGE | DRV_S_DRIVER);
	for (uint32_t half = 0; half < 2; half++) {
		drv_write(d, DRV_DRIVER_FEATURES_SEL, half);
		drv_write(d, DRV_DRIVER_FEATURES, (uint32_t)(features >> 32 * half));
	}
	drv_write(d, DRV_STATUS, DRV_S_ACKNOWLEDGE | DRV_S_DRIVER | DRV_S_FEATURES_OK);
	return drv_read(d, DRV_STATUS) & DRV_S_FEATURES_OK;
}

/* Step 7: tells the device where queue @n is.  Return: is it ready? */
static inline bool drv_queue_attach(struct vdev *d, uint32_t n, const struct drv_queue *dq)
{
	drv_write(d, DRV_QUEUE_SEL, n);
	drv_write(d, DRV_QUEUE_SIZE, dq->size);
	drv_write64(d, DRV_QUEUE_DESC, dq->desc);
	drv_write64(d, DRV_QUEUE_AVAIL, dq->avail);
	drv_write64(d, DRV_QUEUE_USED, dq->used);
	drv_write(d, DRV_QUEUE_READY, 1);
	return drv_read(d, DRV_QUEUE_READY) == 1;
}

/* Step 8. */
static inline void drv_ready(struct vdev *d)
{
	drv_write(d, DRV_STATUS,
		  DRV_S_ACKNOWLEDGE | DRV_S_DRIVER | DRV_S_FEATURES_OK | DRV_S_DRIVER_OK);
}

static inline bool drv_broken(struct vdev *d)
{
	return drv_read(d, DRV_STATUS) & DRV_S_NEEDS_RESET;
}

#endif
