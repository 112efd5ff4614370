/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A split queue whose driver is hostile.  The input is where the queue is, what its memory
 * holds, and a script: what the device does with the queue, and what the driver writes
 * into it between two steps.
 *
 * RAM is two slots of SLOT bytes, each an allocation of its own, so that a sanitizer sees
 * a byte read or written beside it.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "fuzz/input.h"
#include "unit/virtio_driver.h"
#include "vmm/virtio/vq.h"

#define SLOT 16384u
#define SLICES 300u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* An address near the start or the end of a slot, or anywhere: 16 bits say which. */
static uint64_t input_address(struct fuzz_input *in)
{
	uint32_t v = (uint32_t)fuzz_get(in, 2);

	switch (v >> 14) {
	case 0:
		return v;
	case 1:
		return MEMORY_HOLE_END + (v & 0x3fff);
	case 2:
		return UINT64_MAX - (v & 0x3fff);
	default:
		return (uint64_t)(v & 0x3fff) << 20;
	}
}

static struct memory ram;

static void ram_clear(void)
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
}

/* Writes bytes of the input into guest memory, as far as they go. */
static void poke(struct fuzz_input *in, uint64_t gpa, size_t len)
{
	const uint8_t *from = fuzz_bytes(in, &len);
	void *to = memory_at(&ram, gpa, len);

	if (to)
		memcpy(to, from, len);
}

static bool in_ram(const struct iovec *v)
{
	for (unsigned i = 0; i < ram.n_slots; i++)
		if ((uint8_t *)v->iov_base >= ram.slots[i].host &&
		    checked_range((uint64_t)((uint8_t *)v->iov_base - ram.slots[i].host),
				  v->iov_len, SLOT))
			return true;
	return false;
}

static size_t total(const struct iovec *v, unsigned n)
{
	size_t sum = 0;

	for (unsigned i = 0; i < n; i++) {
		assert(v[i].iov_len && in_ram(&v[i]));
		sum += v[i].iov_len;
	}
	return sum;
}

/* What every chain promises; reads and writes all of it. */
static void check_chain(const struct vq *q, const struct vq_chain *c, struct fuzz_input *in)
{
	static uint8_t bytes[VQ_SIZE_MAX * SLOT];
	static struct iovec out[SLICES];
	size_t off = fuzz_get(in, 2), len = fuzz_get(in, 2), want;
	unsigned n = c->n_read + c->n_write;

	assert(c->head < q->size && n && n <= q->size);
	assert(total(c->iov, c->n_read) == c->read_bytes);
	assert(total(c->iov + c->n_read, c->n_write) == c->write_bytes);
	assert(vq_chain_read(c, 0, bytes, sizeof(bytes)) == c->read_bytes);

	want = off < c->read_bytes ? min_u64(len, c->read_bytes - off) : 0;
	assert(vq_chain_read(c, off, bytes, len) == want);
	assert(total(out, vq_chain_slice_read(c, off, len, out, SLICES)) == want);
	want = off < c->write_bytes ? min_u64(len, c->write_bytes - off) : 0;
	assert(total(out, vq_chain_slice_write(c, off, len, out, SLICES)) == want);
	assert(vq_chain_slice_write(c, off, len, out, 1) <= 1);
	/* Last, because it may overwrite the rings: that is the driver's wish. */
	assert(vq_chain_write(c, off, bytes, len) == want);
}

/* The heads of chains that the device has and may return, in any order. */
struct flight {
	uint16_t head[VQ_SIZE_MAX];
	unsigned n;
};

static void step(struct vq *q, struct flight *f, struct fuzz_input *in)
{
	static struct vq_chain c;
	uint16_t before = q->next_avail;
	struct vq_used many[4];
	unsigned n;
	int rc;

	switch (fuzz_get(in, 1) % 9) {
	case 0:
		rc = vq_pop(q, &c);
		assert(rc == 0 || rc == 1 || rc == -EINVAL);
		assert(q->next_avail == (uint16_t)(before + (rc == 1)));
		if (rc != 1)
			break;
		assert(f->n < q->size);
		f->head[f->n++] = c.head;
		check_chain(q, &c, in);
		break;
	case 1:
		n = (unsigned)fuzz_get(in, 1);
		if (!f->n)
			break;
		n %= f->n;
		vq_push(q, f->head[n], (uint32_t)fuzz_get(in, 4));
		f->head[n] = f->head[--f->n];
		break;
	case 2:
		if (f->n) {
			vq_unpop(q);
			f->n--;
		}
		break;
	case 3:
		vq_wants_interrupt(q);
		assert(!vq_wants_interrupt(q)); /* nothing new since */
		break;
	case 4:
		vq_notify_off(q);
		break;
	case 5:
		vq_notify_on_beyond(q, (uint16_t)fuzz_get(in, 1));
		break;
	case 6:
		poke(in, input_address(in), fuzz_get(in, 1));
		break;
	case 7:
		/* The driver offers chains, one after the other. */
		n = drv_get16(&ram, q->avail + 2) + ((unsigned)fuzz_get(in, 1) & 15u);
		drv_put16(&ram, q->avail + 2, n);
		break;
	default:
		for (n = 0; n < 4 && f->n; n++)
			many[n] = (struct vq_used){ f->head[--f->n], n };
		vq_push_many(q, many, n);
		break;
	}
	assert((uint16_t)(q->next_avail - q->next_used) == f->n);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input in = { data, size };
	struct flight flight = { .n = 0 };
	struct drv_queue usual;
	struct vq q;
	uint32_t mode;

	ram_clear();
	vq_init(&q, &ram);
	mode = (uint32_t)fuzz_get(&in, 1);
	q.indirect = mode & 1;
	q.event_idx = mode & 2;
	if (mode & 4) {
		q.size = (uint16_t)fuzz_get(&in, 2);
		q.desc = input_address(&in);
		q.avail = input_address(&in);
		q.used = input_address(&in);
	} else {
		drv_queue_init(&usual, &ram, 0x100, (uint16_t)(1u << (mode >> 4) % 9));
		q.size = usual.size;
		q.desc = usual.desc;
		q.avail = usual.avail;
		q.used = usual.used;
	}
	if (vq_enable(&q, VQ_SIZE_MAX)) {
		assert(!q.enabled);
		return 0;
	}
	if (mode & 8)
		q.next_avail = q.next_used = q.signalled_used = (uint16_t)fuzz_get(&in, 2);
	poke(&in, q.desc, fuzz_get(&in, 2));
	poke(&in, q.avail, fuzz_get(&in, 1));
	/* At most: an input is a script, not a day's work. */
	for (unsigned i = 0; i < 4096 && in.left; i++)
		step(&q, &flight, &in);
	return 0;
}
