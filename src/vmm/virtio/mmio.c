/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DOC: Theory of operation
 *
 * Purpose
 *   The register window of a virtio-mmio device, version 2: what a driver reads and
 *   writes there becomes calls and fields of struct vdev.
 *
 * Spec
 *   virtio 1.2 §4.2.2 (registers), §4.2.3 (order of use).
 *
 * Trust boundary
 *   Called for any offset below or above the window's end and any width.  A control
 *   register answers to an aligned access of 4 bytes only (§4.2.2.2), the configuration
 *   space to what lies in it as a whole; all else reads as zero and writes to nowhere.
 *   Reads from memory (below) may have any width, and give the bytes that are there.
 *
 *     write                                 counts only
 *     DriverFeatures                        in DRIVER, before FEATURES_OK
 *     QueueNum, QueueDesc/Driver/Device     before the queue is ready and before DRIVER_OK
 *     QueueReady = 1                        after FEATURES_OK, before DRIVER_OK; a queue that
 *                                           vq_enable() refuses is the guest's fault
 *     QueueReady = 0                        before DRIVER_OK: in-flight requests use the
 *                                           queue, so a running device is to be reset
 *     Status                                as vdev_set_status() says
 *
 *   The queue selector may have any value; a queue that is not there has size 0 and takes
 *   no write.
 *
 * Threads and locks
 *   vCPU threads.  The two interrupt registers, which a driver uses for every interrupt,
 *   take no lock; all others take the device's.
 *
 * The window in memory
 *   A machine gives the guest the page that it reads there as memory, read-only, so that
 *   a read takes no exit: a driver reads InterruptStatus at every interrupt.  Writes still
 *   arrive here, and after each one, and whatever else changes a register, the page is
 *   brought up to date.  It holds nothing but registers.  InterruptStatus lives in it.
 *   A field of the configuration changes as one word; no device changes two at once.
 *
 *   InterruptACK of a queue's interrupt alone does not arrive either: KVM takes it.  So
 *   the status keeps saying that a queue may have something, until a configuration's
 *   interrupt is acknowledged with it or the device is reset.  A driver that looks at its
 *   queues when there is nothing finds nothing (§2.7.7.1: it has to handle spurious notifications).
 *
 * QueueNotify
 *   Never arrives here for a queue that exists: KVM turns that into an ioeventfd, and the
 *   I/O thread calls vdev_kick().  What arrives names no queue, and is dropped.
 *
 * Not implemented
 *   The legacy layout (version 1), RING_RESET, shared memory regions (none exists: length
 *   and base read as -1, §4.2.2).
 */
#include "vmm/virtio/vdev.h"

#include <endian.h>
#include <string.h>

#include "base/checked.h"
#include "codec/le.h"

#define MMIO_MAGIC_VALUE 0x000u
#define MMIO_VERSION 0x004u
#define MMIO_DEVICE_ID 0x008u
#define MMIO_VENDOR_ID 0x00cu
#define MMIO_DEVICE_FEATURES 0x010u
#define MMIO_DEVICE_FEATURES_SEL 0x014u
#define MMIO_DRIVER_FEATURES 0x020u
#define MMIO_DRIVER_FEATURES_SEL 0x024u
#define MMIO_QUEUE_SEL 0x030u
#define MMIO_QUEUE_NUM_MAX 0x034u
#define MMIO_QUEUE_NUM 0x038u
#define MMIO_QUEUE_READY 0x044u
#define MMIO_STATUS 0x070u
#define MMIO_QUEUE_DESC_LOW 0x080u
#define MMIO_QUEUE_DESC_HIGH 0x084u
#define MMIO_QUEUE_DRIVER_LOW 0x090u
#define MMIO_QUEUE_DRIVER_HIGH 0x094u
#define MMIO_QUEUE_DEVICE_LOW 0x0a0u
#define MMIO_QUEUE_DEVICE_HIGH 0x0a4u
#define MMIO_SHM_LEN_LOW 0x0b0u
#define MMIO_SHM_LEN_HIGH 0x0b4u
#define MMIO_SHM_BASE_LOW 0x0b8u
#define MMIO_SHM_BASE_HIGH 0x0bcu
#define MMIO_CONFIG_GENERATION 0x0fcu
#define MMIO_CONFIG 0x100u

#define MMIO_MAGIC 0x74726976u /* "virt" */
#define MMIO_VENDOR 0x3142534du /* "MSB1" */

/* The queue that QueueSel names, or NULL. */
static struct vq *mmio_queue(struct vdev *d)
{
	return d->queue_sel < d->n_queues ? &d->queues[d->queue_sel] : NULL;
}

static uint32_t mmio_read_register(struct vdev *d, uint32_t reg)
{
	const struct vq *q = mmio_queue(d);

	switch (reg) {
	case MMIO_MAGIC_VALUE:
		return MMIO_MAGIC;
	case MMIO_VERSION:
		return 2;
	case MMIO_DEVICE_ID:
		return d->ops->id;
	case MMIO_VENDOR_ID:
		return MMIO_VENDOR;
	case MMIO_DEVICE_FEATURES:
		if (d->device_features_sel > 1)
			return 0;
		return (uint32_t)(d->features_offered >> 32 * d->device_features_sel);
	case MMIO_QUEUE_NUM_MAX:
		return q ? d->ops->queue_size_max : 0;
	case MMIO_QUEUE_READY:
		return q && q->enabled;
	case MMIO_STATUS:
		return d->status;
	case MMIO_SHM_LEN_LOW:
	case MMIO_SHM_LEN_HIGH:
	case MMIO_SHM_BASE_LOW:
	case MMIO_SHM_BASE_HIGH:
		return UINT32_MAX;
	case MMIO_CONFIG_GENERATION:
		return d->config_generation;
	default:
		return 0;
	}
}

static void mmio_write_features(struct vdev *d, uint32_t v)
{
	unsigned shift;

	if ((d->status & (VDEV_S_DRIVER | VDEV_S_FEATURES_OK)) != VDEV_S_DRIVER ||
	    d->driver_features_sel > 1) {
		vdev_refuse(d, "features written outside DRIVER, or beyond 64 bits");
		return;
	}
	shift = 32 * d->driver_features_sel;
	d->features &= ~((uint64_t)UINT32_MAX << shift);
	d->features |= (uint64_t)v << shift;
}

static void mmio_set_half(uint64_t *at, uint32_t v, bool high)
{
	*at = high ? (*at & UINT32_MAX) | (uint64_t)v << 32 : (*at & ~(uint64_t)UINT32_MAX) | v;
}

/* Where the selected queue is, and how large. */
static void mmio_write_queue(struct vdev *d, uint32_t reg, uint32_t v)
{
	struct vq *q = mmio_queue(d);

	if (!q || q->enabled || (d->status & VDEV_S_DRIVER_OK)) {
		vdev_refuse(d, "queue configured when it is ready, running or absent");
		return;
	}
	switch (reg) {
	case MMIO_QUEUE_NUM:
		/* A size that does not fit becomes one that vq_enable() refuses. */
		q->size = v > UINT16_MAX ? 0 : (uint16_t)v;
		break;
	case MMIO_QUEUE_DESC_LOW:
	case MMIO_QUEUE_DESC_HIGH:
		mmio_set_half(&q->desc, v, reg == MMIO_QUEUE_DESC_HIGH);
		break;
	case MMIO_QUEUE_DRIVER_LOW:
	case MMIO_QUEUE_DRIVER_HIGH:
		mmio_set_half(&q->avail, v, reg == MMIO_QUEUE_DRIVER_HIGH);
		break;
	default:
		mmio_set_half(&q->used, v, reg == MMIO_QUEUE_DEVICE_HIGH);
		break;
	}
}

static void mmio_write_ready(struct vdev *d, uint32_t v)
{
	const uint8_t states = VDEV_S_FEATURES_OK | VDEV_S_DRIVER_OK | VDEV_S_NEEDS_RESET;
	struct vq *q = mmio_queue(d);

	if (!q || v > 1 || (d->status & states) != VDEV_S_FEATURES_OK) {
		vdev_refuse(d, "QueueReady written outside FEATURES_OK, or of no queue");
		return;
	}
	if (!v)
		q->enabled = false; /* nothing was popped yet: the positions are still zero */
	else if (!q->enabled && vq_enable(q, d->ops->queue_size_max))
		vdev_fault(d, "queue of a size, alignment or place that cannot be");
}

static void mmio_write_register(struct vdev *d, uint32_t reg, uint32_t v)
{
	switch (reg) {
	case MMIO_DEVICE_FEATURES_SEL:
		d->device_features_sel = v;
		break;
	case MMIO_DRIVER_FEATURES_SEL:
		d->driver_features_sel = v;
		break;
	case MMIO_DRIVER_FEATURES:
		mmio_write_features(d, v);
		break;
	case MMIO_QUEUE_SEL:
		d->queue_sel = v;
		break;
	case MMIO_QUEUE_NUM:
	case MMIO_QUEUE_DESC_LOW:
	case MMIO_QUEUE_DESC_HIGH:
	case MMIO_QUEUE_DRIVER_LOW:
	case MMIO_QUEUE_DRIVER_HIGH:
	case MMIO_QUEUE_DEVICE_LOW:
	case MMIO_QUEUE_DEVICE_HIGH:
		mmio_write_queue(d, reg, v);
		break;
	case MMIO_QUEUE_READY:
		mmio_write_ready(d, v);
		break;
	case MMIO_STATUS:
		vdev_set_status(d, v);
		break;
	default:
		vdev_refuse(d, "write to a register that takes none");
		break;
	}
}

/* Release: who reads a new generation, or status, finds what it stands for. */
static void mmio_publish_word(struct vdev *d, uint32_t off, uint32_t v)
{
	atomic_store_explicit((atomic_uint *)(d->window + off), htole32(v), memory_order_release);
}

void vdev_mmio_publish(struct vdev *d)
{
	if (!d->window)
		return;
	for (uint32_t off = 0; off < MMIO_CONFIG; off += 4)
		if (off != VDEV_MMIO_INTERRUPT_STATUS)
			mmio_publish_word(d, off, mmio_read_register(d, off));
	for (uint32_t off = 0; off < d->ops->config_size; off += 4) {
		uint8_t word[4] = { 0 };

		d->ops->config_read(d, off, word, (uint32_t)min_u64(4, d->ops->config_size - off));
		mmio_publish_word(d, MMIO_CONFIG + off, le_get32(word));
	}
}

void vdev_use_window(struct vdev *d, uint8_t *page)
{
	pthread_mutex_lock(&d->lock);
	d->window = page;
	d->isr = (atomic_uint *)(page + VDEV_MMIO_INTERRUPT_STATUS);
	vdev_mmio_publish(d);
	pthread_mutex_unlock(&d->lock);
}

void vdev_mmio_read(struct vdev *d, uint64_t off, uint8_t *to, uint32_t len)
{
	memset(to, 0, len);
	if (off >= MMIO_CONFIG) {
		uint64_t at = off - MMIO_CONFIG;

		if (!len || !checked_range(at, len, d->ops->config_size))
			return;
		pthread_mutex_lock(&d->lock);
		d->ops->config_read(d, (uint32_t)at, to, len);
		pthread_mutex_unlock(&d->lock);
		return;
	}
	if (len != 4 || off % 4)
		return;
	/* Acquire: what the bit stands for was written before it was set. */
	if (off == VDEV_MMIO_INTERRUPT_STATUS) {
		le_put32(to, atomic_load_explicit(d->isr, memory_order_acquire));
		return;
	}
	pthread_mutex_lock(&d->lock);
	le_put32(to, mmio_read_register(d, (uint32_t)off));
	pthread_mutex_unlock(&d->lock);
}

void vdev_mmio_write(struct vdev *d, uint64_t off, const uint8_t *from, uint32_t len)
{
	if (off >= MMIO_CONFIG) {
		uint64_t at = off - MMIO_CONFIG;

		if (!len || !checked_range(at, len, d->ops->config_size) || !d->ops->config_write)
			return;
		pthread_mutex_lock(&d->lock);
		d->ops->config_write(d, (uint32_t)at, from, len);
		vdev_mmio_publish(d);
		pthread_mutex_unlock(&d->lock);
		return;
	}
	if (len != 4 || off % 4)
		return;
	if (off == VDEV_MMIO_INTERRUPT_ACK) {
		atomic_fetch_and(d->isr, ~le_get32(from));
		return;
	}
	pthread_mutex_lock(&d->lock);
	mmio_write_register(d, (uint32_t)off, le_get32(from));
	vdev_mmio_publish(d);
	pthread_mutex_unlock(&d->lock);
}
