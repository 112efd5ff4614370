/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_VMM_VIRTIO_VDEV_H
#define MSB_VMM_VIRTIO_VDEV_H

/*
 * DOC: A virtio device
 *
 * Purpose
 *   What all devices have in common: status, features, queues, interrupt (vdev.c),
 *   and the register window of virtio-mmio through which a driver reaches them
 *   (mmio.c; virtio 1.2 §2.1-§2.4, §3.1, §4.2).  A device embeds struct vdev, and
 *   gives a table of operations.
 *
 * Threads and locks
 *   The I/O thread does all work of devices; vCPU threads only touch registers.
 *   Both hold vdev->lock while they do, so every operation of a device is called with
 *   the lock held and never waits for anything but its own worker.  Interrupt status
 *   is atomic, because the driver reads it for each interrupt.
 *
 * States
 *   RESET -> ACKNOWLEDGE -> DRIVER -> FEATURES_OK -> DRIVER_OK; from any of them
 *   NEEDS_RESET (the guest's fault, seen by us) or FAILED (given up by the guest), out of
 *   which only a reset leads.  A device works in DRIVER_OK only.
 *
 * Failure
 *   A guest's fault is vdev_fault(): the device stops, the VM and the host go on.
 */

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "vmm/memory.h"
#include "vmm/virtio/vq.h"

#define VDEV_QUEUES_MAX 16u

/* Interrupt status bits (virtio 1.2 §4.2.2). */
#define VDEV_ISR_QUEUE 1u
#define VDEV_ISR_CONFIG 2u

struct vdev;
struct loop;

struct vdev_ops {
	const char *name; /* for the log: "blk", "console", … */
	uint32_t id; /* device type, virtio 1.2 §5 */
	unsigned n_queues; /* the most that an instance has */
	uint16_t queue_size_max;
	uint32_t config_size; /* bytes of the device's configuration space */

	/* Bytes [off, off + len) of the configuration; the range was checked. */
	void (*config_read)(struct vdev *d, uint32_t off, void *to, uint32_t len);
	/* May be NULL: the configuration is read-only, writes are ignored. */
	void (*config_write)(struct vdev *d, uint32_t off, const void *from, uint32_t len);

	/* DRIVER_OK was set: features are final.  May be NULL. */
	void (*start)(struct vdev *d);
	/*
	 * Reset: forget all requests.  On return nothing uses guest memory or a queue any
	 * more.  Called before the queues are cleared.
	 */
	void (*stop)(struct vdev *d);
	/* The driver kicked queue @q, which is enabled. */
	void (*kick)(struct vdev *d, unsigned q);

	/*
	 * For a snapshot.  drain: finish what is in flight, start nothing new (the vCPUs
	 * are stopped).  undrain: go on, look at every queue.  save appends the private
	 * state; load gets exactly that back, from a hostile hand: 0 or -EINVAL.  Generic
	 * state and queues are vdev.c's business.  All may be NULL.
	 */
	void (*drain)(struct vdev *d);
	void (*undrain)(struct vdev *d);
	int (*save)(struct vdev *d, struct buf *out);
	int (*load)(struct vdev *d, const uint8_t *data, size_t len);

	/* Frees the object that embeds @d.  Threads have been stopped. */
	void (*destroy)(struct vdev *d);
};

struct vdev {
	const struct vdev_ops *ops;
	const struct memory *memory; /* not owned */
	struct loop *loop; /* of the I/O thread; not owned */
	unsigned n_queues; /* of this instance */
	uint64_t features_offered; /* VIRTIO_F_VERSION_1 and the ring's are added by vdev_init() */
	pthread_mutex_t lock;

	uint64_t features; /* accepted by the driver */
	uint32_t device_features_sel, driver_features_sel, queue_sel;
	uint8_t status;
	bool drained;
	atomic_uint isr;
	uint32_t config_generation;
	struct vq queues[VDEV_QUEUES_MAX];

	/* Raises the device's interrupt line; set by the machine (an irqfd) or a test. */
	void (*raise)(struct vdev *d);
	int irq_fd; /* eventfd for the usual raise function; -1 = none */
	char name[32]; /* "blk.image", for the log */
};

/**
 * vdev_init() - the common part of a new device
 * @features: the device's own feature bits
 * @memory, @loop: stay the machine's and outlive the device
 */
void vdev_init(struct vdev *d, const struct vdev_ops *ops, const char *name, unsigned n_queues,
	       uint64_t features, const struct memory *memory, struct loop *loop);
void vdev_fini(struct vdev *d);

/* The driver kicked @q (I/O thread; takes the lock).  Any number is fine. */
void vdev_kick(struct vdev *d, unsigned q);

/* Does the device work: DRIVER_OK, no fault, not drained? */
bool vdev_live(const struct vdev *d);

/* Interrupts the driver if it wants to hear of what was pushed to @q. */
void vdev_interrupt_queue(struct vdev *d, struct vq *q);

/* The configuration changed (§2.5): new generation, interrupt. */
void vdev_interrupt_config(struct vdev *d);

/*
 * The guest broke the rules: NEEDS_RESET and a configuration interrupt (§2.1.1), one
 * rate-limited line in the log.  The device does nothing until it is reset.
 */
void vdev_fault(struct vdev *d, const char *what);

/* The virtio-mmio register window, 4096 bytes (§4.2.2).  Any offset and length is fine. */
#define VDEV_MMIO_SIZE 0x1000u
#define VDEV_MMIO_QUEUE_NOTIFY 0x050u
void vdev_mmio_read(struct vdev *d, uint64_t off, uint8_t *to, uint32_t len);
void vdev_mmio_write(struct vdev *d, uint64_t off, const uint8_t *from, uint32_t len);

/* Snapshot: generic state, queues and the private part, as one run of bytes. */
void vdev_drain(struct vdev *d);
void vdev_undrain(struct vdev *d);
int vdev_save(struct vdev *d, struct buf *out);
int vdev_load(struct vdev *d, const uint8_t *data, size_t len, struct err *e);

#endif
