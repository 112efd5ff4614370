/* SPDX-License-Identifier: Apache-2.0 */
#include "guest.h"

static struct ring guest_rings[GUEST_DEVICES_MAX][GUEST_QUEUES_MAX];

void *memcpy(void *to, const void *from, size_t n)
{
	for (size_t i = 0; i < n; i++)
		((volatile uint8_t *)to)[i] = ((const uint8_t *)from)[i];
	return to;
}

void *memset(void *to, int c, size_t n)
{
	for (size_t i = 0; i < n; i++)
		((volatile uint8_t *)to)[i] = (uint8_t)c;
	return to;
}

int memcmp(const void *a, const void *b, size_t n)
{
	const uint8_t *x = a, *y = b;

	for (size_t i = 0; i < n; i++)
		if (x[i] != y[i])
			return x[i] - y[i];
	return 0;
}

uint64_t guest_ticks(void)
{
	uint32_t low, high;

	asm volatile("rdtsc" : "=a"(low), "=d"(high));
	return low | (uint64_t)high << 32;
}

void guest_out8(uint16_t port, uint8_t value)
{
	asm volatile("outb %0, %1" : : "a"(value), "Nd"(port));
}

void guest_end(void)
{
	guest_out8(0x64, 0xfe);
	for (;;)
		asm volatile("cli; hlt");
}

static void guest_barrier(void)
{
	asm volatile("mfence" : : : "memory");
}

uint32_t dev_read(const struct device *d, unsigned reg)
{
	return *(volatile uint32_t *)(d->base + reg);
}

void dev_write(const struct device *d, unsigned reg, uint32_t value)
{
	*(volatile uint32_t *)(d->base + reg) = value;
}

void dev_write64(const struct device *d, unsigned reg, uint64_t value)
{
	dev_write(d, reg, (uint32_t)value);
	dev_write(d, reg + 4, (uint32_t)(value >> 32));
}

bool dev_find(struct device *d, unsigned index)
{
	static const char *const names[] = { "?", "net", "blk", "console", "rng", "balloon" };

	memset(d, 0, sizeof(*d));
	d->index = index;
	d->base = GUEST_MMIO_BASE + index * GUEST_MMIO_SIZE;
	d->rings = guest_rings[index];
	if (dev_read(d, R_MAGIC) != 0x74726976 || dev_read(d, R_VERSION) != 2)
		return false;
	d->id = dev_read(d, R_DEVICE_ID);
	d->name = d->id < 6 ? names[d->id] : names[0];
	return d->id != 0;
}

bool dev_reset(struct device *d)
{
	uint64_t end = guest_ticks() + GUEST_PATIENCE;

	dev_write(d, R_STATUS, 0);
	while (dev_read(d, R_STATUS))
		if (guest_ticks() > end)
			return false;
	memset(d->avail_idx, 0, sizeof(d->avail_idx));
	memset(d->used_idx, 0, sizeof(d->used_idx));
	for (unsigned q = 0; q < GUEST_QUEUES_MAX; q++)
		memset((void *)&d->rings[q], 0, sizeof(d->rings[q]));
	return true;
}

bool dev_negotiate(struct device *d, uint64_t features)
{
	dev_write(d, R_STATUS, S_ACKNOWLEDGE);
	dev_write(d, R_STATUS, S_ACKNOWLEDGE | S_DRIVER);
	d->offered = 0;
	for (unsigned i = 0; i < 2; i++) {
		dev_write(d, R_DEVICE_FEATURES_SEL, i);
		d->offered |= (uint64_t)dev_read(d, R_DEVICE_FEATURES) << 32 * i;
	}
	d->features = (features | F_VERSION_1) & d->offered;
	for (unsigned i = 0; i < 2; i++) {
		dev_write(d, R_DRIVER_FEATURES_SEL, i);
		dev_write(d, R_DRIVER_FEATURES, (uint32_t)(d->features >> 32 * i));
	}
	dev_write(d, R_STATUS, S_ACKNOWLEDGE | S_DRIVER | S_FEATURES_OK);
	return dev_read(d, R_STATUS) & S_FEATURES_OK;
}

bool dev_queue(struct device *d, unsigned q, uint32_t size, uint64_t desc, uint64_t avail,
	       uint64_t used)
{
	dev_write(d, R_QUEUE_SEL, q);
	dev_write(d, R_QUEUE_NUM, size);
	dev_write64(d, R_QUEUE_DESC, desc);
	dev_write64(d, R_QUEUE_DRIVER, avail);
	dev_write64(d, R_QUEUE_DEVICE, used);
	dev_write(d, R_QUEUE_READY, 1);
	return dev_read(d, R_QUEUE_READY) == 1;
}

bool dev_queue_plain(struct device *d, unsigned q)
{
	volatile struct ring *r = &d->rings[q];

	return dev_queue(d, q, d->size, (uintptr_t)r->desc, (uintptr_t)&r->avail,
			 (uintptr_t)&r->used);
}

bool dev_start(struct device *d, uint64_t features)
{
	if (!dev_reset(d) || !dev_negotiate(d, features))
		return false;
	d->n_queues = 0;
	d->size = GUEST_QUEUE_SIZE;
	for (unsigned q = 0; q < GUEST_QUEUES_MAX; q++) {
		uint32_t max;

		dev_write(d, R_QUEUE_SEL, q);
		max = dev_read(d, R_QUEUE_NUM_MAX);
		if (!max)
			break;
		if (max < d->size)
			d->size = (uint16_t)max;
		if (!dev_queue_plain(d, q))
			return false;
		d->n_queues++;
	}
	dev_write(d, R_STATUS, S_ACKNOWLEDGE | S_DRIVER | S_FEATURES_OK | S_DRIVER_OK);
	return !dev_needs_reset(d);
}

bool dev_needs_reset(const struct device *d)
{
	return dev_read(d, R_STATUS) & S_NEEDS_RESET;
}

void q_desc(struct device *d, unsigned q, unsigned i, uint64_t addr, uint32_t len, uint16_t flags,
	    uint16_t next)
{
	volatile struct desc *t = &d->rings[q].desc[i];

	t->addr = addr;
	t->len = len;
	t->flags = flags;
	t->next = next;
}

void q_offer(struct device *d, unsigned q, uint16_t head)
{
	volatile struct ring *r = &d->rings[q];

	r->avail.ring[d->avail_idx[q]++ % d->size] = head;
	guest_barrier();
	r->avail.idx = d->avail_idx[q];
	guest_barrier();
}

void q_kick(struct device *d, unsigned q)
{
	dev_write(d, R_QUEUE_NOTIFY, q);
}

bool q_wait(struct device *d, unsigned q, uint32_t *len)
{
	volatile struct ring *r = &d->rings[q];
	uint64_t end = guest_ticks() + GUEST_PATIENCE;

	for (unsigned spins = 1; r->used.idx == d->used_idx[q]; spins++) {
		asm volatile("pause");
		/* A look at the status is an exit of the VM. */
		if (spins % 65536 == 0 && (dev_needs_reset(d) || guest_ticks() > end))
			return false;
	}
	guest_barrier();
	if (len)
		*len = r->used.ring[d->used_idx[q] % d->size].len;
	d->used_idx[q]++;
	dev_write(d, R_INTERRUPT_ACK, dev_read(d, R_INTERRUPT_STATUS));
	return true;
}
