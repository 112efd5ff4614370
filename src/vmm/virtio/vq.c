/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DOC: Theory of operation
 *
 * Purpose
 *   The device's side of a split virtqueue: takes chains of buffers from the driver's
 *   available ring, gives them back through the used ring.
 *
 * Spec
 *   virtio 1.2 §2.7: descriptors §2.7.5, indirect ones §2.7.5.3, available ring §2.7.6,
 *   used ring §2.7.8, notification suppression with and without EVENT_IDX §2.7.7 and
 *   §2.7.10.  Little-endian, as any modern device.
 *
 * Trust boundary
 *   Everything in guest memory is hostile and may change between two loads.  So each
 *   index and each descriptor is loaded exactly once into a local, checked there, and
 *   never looked at again in guest memory.  What is refused, by the classes that are
 *   known to break devices:
 *
 *    1 place of the rings   vq_enable(): size 0, not a power of two or too large; an area
 *                           misaligned, or not wholly inside one slot of RAM
 *    2 buffers              memory_at(): address + length overflow, a hole, two slots
 *    3 indexes and chains   more available than the queue holds, more in flight than the
 *                           queue holds, head or next out of the table, a loop, a chain
 *                           longer than the queue, more than 2^32 - 1 bytes in all
 *    4 buffers' shape       length 0, readable after writable.  (Which directions and
 *                           lengths a request needs, the device checks on the copy.)
 *    5 indirect tables      not negotiated, nested, together with NEXT, length 0 or not
 *                           of whole descriptors.  No alignment is demanded of a table.
 *    6 changed after check  each value is copied once
 *
 *   The classes 7 and 8 are about registers (mmio.c, vdev.c), 9 is the devices' own, and
 *   10, hostile snapshots, vdev_load() meets with the checks of class 1.
 *
 *   Buffers may overlap each other and the rings: the guest then spoils its own data,
 *   which it can do without us.  Nothing is allocated by a length found here.
 *
 * Threads and locks
 *   None of its own: the caller holds the device's lock.  The driver runs on other
 *   processors at the same time, hence the barriers.
 *
 * Failure
 *   -EINVAL is the guest's fault.  The position does not move, so that a queue whose
 *   device was not stopped answers the same again.
 *
 * Limits
 *   Queues of at most VQ_SIZE_MAX entries; at most as many chains in flight, and as many
 *   segments in a chain, as the queue has entries.
 *
 * Not implemented
 *   The legacy layout; packed queues (two percent at best); IN_ORDER; RING_RESET.
 */
#include "vmm/virtio/vq.h"

#include <assert.h>
#include <endian.h>
#include <errno.h>
#include <stdatomic.h>
#include <string.h>

#include "base/checked.h"
#include "vmm/memory.h"

/* §2.7.5 */
#define VQ_DESC_F_NEXT 1u
#define VQ_DESC_F_WRITE 2u
#define VQ_DESC_F_INDIRECT 4u
#define VQ_DESC_SIZE 16u
/* §2.7.6 and §2.7.8: flags, idx, ring[], then the other side's event index. */
#define VQ_RING_FLAGS 0u
#define VQ_RING_IDX 2u
#define VQ_RING_ENTRIES 4u
#define VQ_AVAIL_ENTRY 2u
#define VQ_USED_ENTRY 8u
#define VQ_AVAIL_F_NO_INTERRUPT 1u
#define VQ_USED_F_NO_NOTIFY 1u

struct vq_desc {
	uint64_t addr;
	uint32_t len;
	uint16_t flags, next;
};

/*
 * Ring fields are naturally aligned (vq_enable() saw to it) and shared with the driver:
 * every access is one atomic load or store, so that the compiler neither repeats nor
 * splits it.
 */
static uint16_t vq_load16(const uint8_t *p)
{
	return le16toh(__atomic_load_n((const uint16_t *)(const void *)p, __ATOMIC_RELAXED));
}

static void vq_store16(uint8_t *p, uint16_t v)
{
	__atomic_store_n((uint16_t *)(void *)p, htole16(v), __ATOMIC_RELAXED);
}

/* The event index that closes a ring: used_event after available, avail_event after used. */
static uint8_t *vq_used_event(const struct vq *q)
{
	return q->avail_host + VQ_RING_ENTRIES + VQ_AVAIL_ENTRY * q->size;
}

static uint8_t *vq_avail_event(const struct vq *q)
{
	return q->used_host + VQ_RING_ENTRIES + VQ_USED_ENTRY * q->size;
}

void vq_init(struct vq *q, const struct memory *memory)
{
	*q = (struct vq){ .memory = memory };
}

void vq_reset(struct vq *q)
{
	vq_init(q, q->memory);
}

/* Host address of a ring area, NULL if it is misaligned or not in RAM as a whole. */
static uint8_t *vq_area(const struct vq *q, uint64_t gpa, uint64_t len, uint64_t align)
{
	return gpa % align ? NULL : memory_at(q->memory, gpa, len);
}

int vq_enable(struct vq *q, uint16_t size_max)
{
	uint8_t *desc, *avail, *used;

	assert(size_max <= VQ_SIZE_MAX);
	if (!q->size || q->size > size_max || (q->size & (q->size - 1)))
		return -EINVAL;
	/* The event indexes are part of the areas whether negotiated or not (§2.7). */
	desc = vq_area(q, q->desc, (uint64_t)VQ_DESC_SIZE * q->size, 16);
	avail = vq_area(q, q->avail, 6 + (uint64_t)VQ_AVAIL_ENTRY * q->size, 2);
	used = vq_area(q, q->used, 6 + (uint64_t)VQ_USED_ENTRY * q->size, 4);
	if (!desc || !avail || !used)
		return -EINVAL;
	q->desc_host = desc;
	q->avail_host = avail;
	q->used_host = used;
	q->enabled = true;
	return 0;
}

/*
 * The one copy of a descriptor.  Tables of indirect descriptors may be misaligned, so
 * this is no atomic load; the empty asm makes the compiler forget where the two words
 * came from, so that it cannot load them a second time after a check.
 */
static struct vq_desc vq_desc_copy(const uint8_t *table, unsigned index)
{
	uint64_t word[2];

	memcpy(word, table + (size_t)index * VQ_DESC_SIZE, sizeof(word));
	__asm__ volatile("" : "+r"(word[0]), "+r"(word[1]));
	word[1] = le64toh(word[1]);
	return (struct vq_desc){
		.addr = le64toh(word[0]),
		.len = (uint32_t)word[1],
		.flags = (uint16_t)(word[1] >> 32),
		.next = (uint16_t)(word[1] >> 48),
	};
}

/* Adds the buffer of @d to the chain. */
static int vq_chain_add(const struct vq *q, struct vq_chain *c, const struct vq_desc *d)
{
	unsigned n = c->n_read + c->n_write;
	uint32_t total;
	void *host;

	/* This is also what ends a loop. */
	if (n >= q->size || !d->len)
		return -EINVAL;
	if (!checked_add(c->read_bytes, c->write_bytes, &total) ||
	    !checked_add(total, d->len, &total))
		return -EINVAL;
	host = memory_at(q->memory, d->addr, d->len);
	if (!host)
		return -EINVAL;
	if (d->flags & VQ_DESC_F_WRITE) {
		c->n_write++;
		c->write_bytes += d->len;
	} else if (c->n_write) {
		return -EINVAL; /* §2.7.4.2: readable ones first */
	} else {
		c->n_read++;
		c->read_bytes += d->len;
	}
	c->iov[n] = (struct iovec){ .iov_base = host, .iov_len = d->len };
	return 0;
}

/* Follows a chain in @table from @index; *@indirect gets the table that it ends in. */
static int vq_walk(const struct vq *q, struct vq_chain *c, const uint8_t *table, unsigned entries,
		   unsigned index, struct vq_desc *indirect)
{
	for (;;) {
		struct vq_desc d;
		int rc;

		if (index >= entries)
			return -EINVAL;
		d = vq_desc_copy(table, index);
		if (d.flags & VQ_DESC_F_INDIRECT) {
			/* §2.7.5.3.1: negotiated, not nested, the last of the chain. */
			if (!indirect || !q->indirect || (d.flags & VQ_DESC_F_NEXT))
				return -EINVAL;
			*indirect = d;
			return 0;
		}
		rc = vq_chain_add(q, c, &d);
		if (rc)
			return rc;
		if (!(d.flags & VQ_DESC_F_NEXT))
			return 0;
		index = d.next;
	}
}

int vq_pop(struct vq *q, struct vq_chain *out)
{
	struct vq_desc indirect = { .len = 0, .flags = 0 };
	const uint8_t *table;
	uint16_t head, ready;
	int rc;

	assert(q->enabled);
	/*
	 * Acquire: the driver wrote entry and descriptors before the index (§2.7.13.3), so
	 * they may only be loaded after it.
	 */
	ready = vq_load16(q->avail_host + VQ_RING_IDX);
	atomic_thread_fence(memory_order_acquire);
	ready = (uint16_t)(ready - q->next_avail);
	if (!ready)
		return 0;
	if (ready > q->size || (uint16_t)(q->next_avail - q->next_used) >= q->size)
		return -EINVAL;
	head = vq_load16(q->avail_host + VQ_RING_ENTRIES +
			 VQ_AVAIL_ENTRY * (q->next_avail & (q->size - 1u)));
	out->head = head;
	out->n_read = out->n_write = 0;
	out->read_bytes = out->write_bytes = 0;
	rc = vq_walk(q, out, q->desc_host, q->size, head, &indirect);
	if (!rc && (indirect.flags & VQ_DESC_F_INDIRECT)) {
		if (!indirect.len || indirect.len % VQ_DESC_SIZE)
			return -EINVAL;
		table = memory_at(q->memory, indirect.addr, indirect.len);
		if (!table)
			return -EINVAL;
		rc = vq_walk(q, out, table, indirect.len / VQ_DESC_SIZE, 0, NULL);
	}
	if (rc)
		return rc;
	q->next_avail++;
	return 1;
}

void vq_unpop(struct vq *q)
{
	assert(q->next_avail != q->next_used);
	q->next_avail--;
}

void vq_push(struct vq *q, uint16_t head, uint32_t written)
{
	vq_push_many(q, &(struct vq_used){ .head = head, .written = written }, 1);
}

void vq_push_many(struct vq *q, const struct vq_used *used, unsigned n)
{
	assert(q->enabled && (uint16_t)(q->next_avail - q->next_used) >= n);
	for (unsigned i = 0; i < n; i++) {
		uint8_t *entry =
			q->used_host + VQ_RING_ENTRIES +
			(size_t)VQ_USED_ENTRY * ((uint16_t)(q->next_used + i) & (q->size - 1u));

		assert(used[i].head < q->size);
		__atomic_store_n((uint32_t *)(void *)entry, htole32(used[i].head), __ATOMIC_RELAXED);
		__atomic_store_n((uint32_t *)(void *)(entry + 4), htole32(used[i].written),
				 __ATOMIC_RELAXED);
	}
	q->next_used = (uint16_t)(q->next_used + n);
	/*
	 * Release: the driver that sees the index has to see the entries, and what the device
	 * wrote into the buffers.
	 */
	__atomic_store_n((uint16_t *)(void *)(q->used_host + VQ_RING_IDX), htole16(q->next_used),
			 __ATOMIC_RELEASE);
}

bool vq_wants_interrupt(struct vq *q)
{
	uint16_t pushed = (uint16_t)(q->next_used - q->signalled_used);
	uint16_t event;

	if (!pushed)
		return false;
	q->signalled_used = q->next_used;
	/*
	 * Full barrier, since a store (our index) is ordered against a load (the driver's
	 * wish): the driver writes its wish and then looks at our index, we do the
	 * opposite, and one of the two must see the other's store.  Otherwise both sleep.
	 */
	atomic_thread_fence(memory_order_seq_cst);
	if (!q->event_idx)
		return !(vq_load16(q->avail_host + VQ_RING_FLAGS) & VQ_AVAIL_F_NO_INTERRUPT);
	/* Was the entry number used_event among those pushed since the last time? */
	event = vq_load16(vq_used_event(q));
	return (uint16_t)(q->next_used - 1 - event) < pushed;
}

void vq_notify_off(struct vq *q)
{
	/* With EVENT_IDX the old avail_event is behind already: nothing to do. */
	if (!q->event_idx)
		vq_store16(q->used_host + VQ_RING_FLAGS, VQ_USED_F_NO_NOTIFY);
}

bool vq_notify_on(struct vq *q)
{
	return vq_notify_on_beyond(q, 0);
}

bool vq_notify_on_beyond(struct vq *q, uint16_t n)
{
	uint16_t known = (uint16_t)(q->next_avail + n);

	if (q->event_idx)
		vq_store16(vq_avail_event(q), known);
	else
		vq_store16(q->used_host + VQ_RING_FLAGS, 0);
	/* Full barrier: our wish before the look at the index; see vq_wants_interrupt(). */
	atomic_thread_fence(memory_order_seq_cst);
	return vq_load16(q->avail_host + VQ_RING_IDX) != known;
}

/* [@off, @off + @len) of @n segments, as at most @max entries of @out. */
static unsigned vq_slice(const struct iovec *iov, unsigned n, size_t off, size_t len,
			 struct iovec *out, unsigned max)
{
	unsigned used = 0;

	for (unsigned i = 0; i < n && used < max && len; i++) {
		size_t part;

		if (off >= iov[i].iov_len) {
			off -= iov[i].iov_len;
			continue;
		}
		part = min_u64(iov[i].iov_len - off, len);
		out[used++] = (struct iovec){
			.iov_base = (uint8_t *)iov[i].iov_base + off,
			.iov_len = part,
		};
		len -= part;
		off = 0;
	}
	return used;
}

/* Copies @len bytes between @host and the segments, from @off on.  Return: bytes copied. */
static size_t vq_copy(const struct iovec *iov, unsigned n, size_t off, uint8_t *host, size_t len,
		      bool to_guest)
{
	size_t done = 0;

	for (unsigned i = 0; i < n && done < len; i++) {
		uint8_t *guest;
		size_t part;

		if (off >= iov[i].iov_len) {
			off -= iov[i].iov_len;
			continue;
		}
		guest = (uint8_t *)iov[i].iov_base + off;
		part = min_u64(iov[i].iov_len - off, len - done);
		if (to_guest)
			memcpy(guest, host + done, part);
		else
			memcpy(host + done, guest, part);
		done += part;
		off = 0;
	}
	return done;
}

size_t vq_chain_read(const struct vq_chain *c, size_t off, void *to, size_t len)
{
	return vq_copy(c->iov, c->n_read, off, to, len, false);
}

size_t vq_chain_write(const struct vq_chain *c, size_t off, const void *from, size_t len)
{
	/* Only read from, in this direction. */
	return vq_copy(c->iov + c->n_read, c->n_write, off, (uint8_t *)(uintptr_t)from, len, true);
}

unsigned vq_chain_slice_read(const struct vq_chain *c, size_t off, size_t len, struct iovec *out,
			     unsigned max)
{
	return vq_slice(c->iov, c->n_read, off, len, out, max);
}

unsigned vq_chain_slice_write(const struct vq_chain *c, size_t off, size_t len, struct iovec *out,
			      unsigned max)
{
	return vq_slice(c->iov + c->n_read, c->n_write, off, len, out, max);
}
