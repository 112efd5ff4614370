/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_VMM_VIRTIO_VDEV_H
#define MSB_VMM_VIRTIO_VDEV_H

/*
 * DOC: A virtio device
 *
 * Purpose
 *   What all devices have in common: status, features, queues, interrupt, snapshot
 *   (vdev.c), and the register window of virtio-mmio through which a driver reaches them
 *   (mmio.c; virtio 1.2 §2.1-§2.5, §3.1, §4.2).  A device embeds struct vdev, and gives a
 *   table of operations.
 *
 * Threads and locks
 *   Both the I/O thread and the vCPU threads hold vdev->lock while they are in a device:
 *   every operation is called with it held, and never waits for anything but the device's
 *   own worker.  Interrupt status is atomic and needs no lock, because the driver reads it
 *   for each interrupt.
 *
 *     I/O thread    kick, drain, undrain, save, load, destroy, and what the loop calls
 *     vCPU threads  start, stop, config_read, config_write: the driver wrote a register
 *
 *   The loop belongs to the I/O thread.  An operation that runs on a vCPU thread may use
 *   loop_watch_add() and loop_watch_set(), which are no more than system calls; it removes
 *   no watch and sets no timer.
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
#include "base/log.h"
#include "sys/loop.h"
#include "vmm/memory.h"
#include "vmm/virtio/vq.h"

#define VDEV_QUEUES_MAX 16u

/* Device status (virtio 1.2 §2.1). */
#define VDEV_S_ACKNOWLEDGE 1u
#define VDEV_S_DRIVER 2u
#define VDEV_S_DRIVER_OK 4u
#define VDEV_S_FEATURES_OK 8u
#define VDEV_S_NEEDS_RESET 64u
#define VDEV_S_FAILED 128u

/* Feature bits that are not a device's own (§6). */
#define VDEV_F_INDIRECT_DESC (1ull << 28)
#define VDEV_F_EVENT_IDX (1ull << 29)
#define VDEV_F_VERSION_1 (1ull << 32)

/* Interrupt status bits (§4.2.2). */
#define VDEV_ISR_QUEUE 1u
#define VDEV_ISR_CONFIG 2u

struct vdev;

struct vdev_ops {
	const char *name; /* for the log: "blk", "console", … */
	uint32_t id; /* device type, virtio 1.2 §5 */
	unsigned n_queues; /* the most that an instance has */
	uint16_t queue_size_max;
	uint32_t config_size; /* bytes of the device's configuration space */

	/*
	 * Bytes [off, off + len) of the configuration; the range was checked.  NULL if
	 * there is none.
	 */
	void (*config_read)(struct vdev *d, uint32_t off, void *to, uint32_t len);
	/* May be NULL: the configuration is read-only, writes are ignored. */
	void (*config_write)(struct vdev *d, uint32_t off, const void *from, uint32_t len);

	/* DRIVER_OK was set: features are final.  May be NULL.  The driver kicks later. */
	void (*start)(struct vdev *d);
	/*
	 * Reset of a device that was started or loaded (or whose load failed): forget all
	 * requests.  On return nothing uses guest memory or a queue any more.  Called
	 * before the queues are cleared.  May be NULL, if a kick leaves nothing behind.
	 */
	void (*stop)(struct vdev *d);
	/* The driver kicked queue @q, which is enabled.  The device is live. */
	void (*kick)(struct vdev *d, unsigned q);

	/*
	 * For a snapshot; all may be NULL.  drain: finish what is in flight, start nothing
	 * new (the vCPUs are stopped).  undrain: go on with what the host side has; every
	 * queue is kicked afterwards.  save appends the private state; load gets exactly
	 * that back, from a hostile hand: 0 or -EINVAL.  Status, features and queues are
	 * vdev.c's business: they are in place, checked, when load is called, and start is
	 * not.  A device is loaded drained.
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
	atomic_uint *isr; /* interrupt status: own_isr, or in the window */
	atomic_uint own_isr;
	uint8_t *window; /* what the driver reads without an exit; not owned; NULL = none */
	uint32_t config_generation;
	struct vq queues[VDEV_QUEUES_MAX];

	struct loop_timer again; /* vdev_kick_later(): fires in the next turn of the loop */
	uint32_t again_queues; /* a bit each */

	/* Raises the device's interrupt line; set by the machine (an irqfd) or a test. */
	void (*raise)(struct vdev *d);
	int irq_fd; /* eventfd for the usual raise function; -1 = none */
	char name[32]; /* "blk.image", for the log */
	struct log_limit log_limit;
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

/*
 * Kicks @q again after the loop has served everybody else (I/O thread, lock held): how a
 * device ends a long run of work, so that one busy queue does not hold the thread.
 */
void vdev_kick_later(struct vdev *d, unsigned q);

/* Does the device work: DRIVER_OK, no fault, not drained? */
bool vdev_live(const struct vdev *d);

/* Was @feature (a mask of one bit) accepted by the driver? */
static inline bool vdev_has(const struct vdev *d, uint64_t feature)
{
	return (d->features & feature) != 0;
}

/* Interrupts the driver if it wants to hear of what was pushed to @q. */
void vdev_interrupt_queue(struct vdev *d, struct vq *q);

/* The configuration changed (§2.5): new generation, interrupt. */
void vdev_interrupt_config(struct vdev *d);

/*
 * The guest broke the rules: NEEDS_RESET and a configuration interrupt (§2.1.1), one
 * rate-limited line in the log.  The device does nothing until it is reset.
 */
void vdev_fault(struct vdev *d, const char *what);

/* The driver wrote to the status register (mmio.c; lock held).  0 is a reset (§2.1.2). */
void vdev_set_status(struct vdev *d, uint32_t status);

/* A register write that has no effect because it breaks a rule: a debug line (lock held). */
void vdev_refuse(struct vdev *d, const char *what);

/* The virtio-mmio register window, 4096 bytes (§4.2.2).  Any offset and length is fine. */
#define VDEV_MMIO_SIZE 0x1000u
#define VDEV_MMIO_QUEUE_NOTIFY 0x050u
#define VDEV_MMIO_INTERRUPT_STATUS 0x060u
#define VDEV_MMIO_INTERRUPT_ACK 0x064u
void vdev_mmio_read(struct vdev *d, uint64_t off, uint8_t *to, uint32_t len);
void vdev_mmio_write(struct vdev *d, uint64_t off, const uint8_t *from, uint32_t len);

/**
 * vdev_use_window() - answer the driver's reads from memory
 * @page: VDEV_MMIO_SIZE bytes, zero, aligned to 4, which outlive the device; the guest gets
 *        them at the device's address, to read
 *
 * From then on they hold what vdev_mmio_read() gives, at every moment.  Before the device
 * is used.
 */
void vdev_use_window(struct vdev *d, uint8_t *page);

/* Brings the window up to date after a change of anything but the interrupt status (lock held). */
void vdev_mmio_publish(struct vdev *d);

/**
 * vdev_drain() / vdev_undrain() - around a snapshot, while no vCPU runs (I/O thread)
 *
 * A drained device has nothing in flight and starts nothing; kicks are left lying.
 * vdev_undrain() looks at every queue, and raises an interrupt again that the driver has
 * not acknowledged: the line may have been raised after KVM's state was saved.
 */
void vdev_drain(struct vdev *d);
void vdev_undrain(struct vdev *d);

/* Appends the state of a drained device to @out.  Return: 0 or a negative errno. */
int vdev_save(struct vdev *d, struct buf *out);

/**
 * vdev_load() - the state of vdev_save() into a device just made the same way
 * @data: all of it, hostile: each queue passes the checks of vq_enable() again
 *
 * The device is drained afterwards.  On failure it is as after a reset.
 */
int vdev_load(struct vdev *d, const uint8_t *data, size_t len, struct err *e);

#endif
