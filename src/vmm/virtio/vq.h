/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_VMM_VIRTIO_VQ_H
#define MSB_VMM_VIRTIO_VQ_H

/*
 * The split virtqueue (virtio 1.2 §2.7), device side: the only reader and writer of
 * rings.  vq.c tells how it works and what it refuses.
 *
 * A device sees chains: copied, bounded, readable segments before writable ones.  The
 * segments point into guest memory, whose bytes may change at any time: a device copies
 * a header once (vq_chain_read()) and decides by the copy.
 *
 * A malformed ring is the guest's fault: -EINVAL, after which the device is to be
 * marked broken (vdev_fault()); no `struct err`, nothing for a person at the host.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "vmm/memory.h"

#define VQ_SIZE_MAX 256u

struct vq {
	const struct memory *memory; /* not owned */
	/* Set by the driver through the transport, checked by vq_enable(). */
	uint16_t size;
	uint64_t desc, avail, used; /* guest physical */
	bool enabled;
	/* Negotiated features. */
	bool indirect; /* VIRTIO_F_INDIRECT_DESC */
	bool event_idx; /* VIRTIO_F_EVENT_IDX */
	/* Ring positions: free-running, modulo 2^16. */
	uint16_t next_avail, next_used;
	uint16_t signalled_used; /* next_used at the last vq_wants_interrupt() */
	/* Host addresses of the three areas, set by vq_enable(). */
	uint8_t *desc_host, *avail_host, *used_host;
};

/*
 * One chain, as copied: @n_read readable segments, then @n_write writable ones, none of
 * them empty.  The head names the chain to the driver and nothing else: a hostile driver
 * offers the same head twice, so it is no index for a device's own table.
 */
struct vq_chain {
	uint16_t head;
	unsigned n_read, n_write;
	uint32_t read_bytes, write_bytes;
	struct iovec iov[VQ_SIZE_MAX];
};

void vq_init(struct vq *q, const struct memory *memory);

/* Back to the state after vq_init(). */
void vq_reset(struct vq *q);

/**
 * vq_enable() - the driver says that the queue is ready (QueueReady = 1)
 * @size_max: the device's limit, at most VQ_SIZE_MAX
 *
 * Checks size, alignment and place of the three areas (§2.7, §2.7.1).  The ring positions
 * stay: zero after vq_reset(), or those of a snapshot.
 * Return: 0, or -EINVAL: the queue stays disabled.
 */
int vq_enable(struct vq *q, uint16_t size_max);

/**
 * vq_pop() - take the next available chain
 *
 * At most q->size chains are in flight (popped and not pushed) at a time.  @out is large:
 * a device keeps one and uses it again.
 * Return: 1 and *@out; 0 if there is none; -EINVAL if the ring or the chain is
 * malformed (the classes are listed in vq.c).
 */
int vq_pop(struct vq *q, struct vq_chain *out);

/* Puts the chain that was the last popped back: the next vq_pop() returns it again. */
void vq_unpop(struct vq *q);

/**
 * vq_push() - return a chain to the driver
 * @head:    of the chain
 * @written: bytes written into its writable segments, from their start (§2.7.8)
 */
void vq_push(struct vq *q, uint16_t head, uint32_t written);

/* The same for @n chains that the driver must see all at once: parts of one packet. */
struct vq_used {
	uint16_t head;
	uint32_t written;
};
void vq_push_many(struct vq *q, const struct vq_used *used, unsigned n);

/*
 * Has the driver to be interrupted for what was pushed since the last call (§2.7.7)?  To
 * be asked after each batch, by vdev_interrupt_queue().
 */
bool vq_wants_interrupt(struct vq *q);

/**
 * vq_notify_off() / vq_notify_on() - whether the driver should kick (§2.7.10)
 *
 * vq_notify_on() returns true if chains have become available meanwhile: the caller
 * goes on popping instead of waiting for a kick that never comes.  With EVENT_IDX it is
 * what asks for the next kick: without it there is none.
 *
 *   do {
 *           vq_notify_off(q);
 *           while ((rc = vq_pop(q, &chain)) > 0)
 *                   …
 *   } while (rc == 0 && vq_notify_on(q));
 */
void vq_notify_off(struct vq *q);
bool vq_notify_on(struct vq *q);

/*
 * vq_notify_on() for a device that found @n chains available, put them back, and can do
 * nothing without more: asks for a kick at the next one after them.
 */
bool vq_notify_on_beyond(struct vq *q, uint16_t n);

/* Copies from the readable segments, starting @off bytes in. Return: bytes copied. */
size_t vq_chain_read(const struct vq_chain *c, size_t off, void *to, size_t len);

/* Copies into the writable segments, starting @off bytes in. Return: bytes copied. */
size_t vq_chain_write(const struct vq_chain *c, size_t off, const void *from, size_t len);

/*
 * The part [@off, @off + @len) of the readable (writable) segments as an iovec of at
 * most @max entries, shorter where the chain or @max ends.  Return: entries used.
 */
unsigned vq_chain_slice_read(const struct vq_chain *c, size_t off, size_t len, struct iovec *out,
			     unsigned max);
unsigned vq_chain_slice_write(const struct vq_chain *c, size_t off, size_t len, struct iovec *out,
			      unsigned max);

#endif
