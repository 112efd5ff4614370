/* SPDX-License-Identifier: Apache-2.0 */
/* Classes 1, 7 and 8: queues in the wrong place, registers, and the order of things. */
#include "hostile.h"

/* Negotiated afresh, queue @q at these places: the device must not take it. */
static bool refused(struct device *d, unsigned q, uint32_t size, uint64_t desc, uint64_t avail,
		    uint64_t used)
{
	if (!dev_reset(d) || !dev_negotiate(d, 0))
		return false;
	if (dev_queue(d, q, size, desc, avail, used))
		return false;
	/* It may be broken now; if not, starting it must do no harm. */
	dev_write(d, R_STATUS, S_ACKNOWLEDGE | S_DRIVER | S_FEATURES_OK | S_DRIVER_OK);
	q_kick(d, q);
	return true;
}

static bool run_sizes(struct device *d, unsigned q)
{
	static const uint32_t sizes[] = { 0, 3, 17, 257, 512, 32768, 65535, 65536, 0xffffffff };
	volatile struct ring *r = &d->rings[q];

	for (unsigned i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
		if (!refused(d, q, sizes[i], (uintptr_t)r->desc, (uintptr_t)&r->avail,
			     (uintptr_t)&r->used))
			return false;
	return true;
}

static bool run_places(struct device *d, unsigned q)
{
	volatile struct ring *r = &d->rings[q];
	uint64_t desc = (uintptr_t)r->desc, avail = (uintptr_t)&r->avail, used = (uintptr_t)&r->used;
	uint32_t n = d->size;
	const uint64_t places[][3] = {
		{ desc + 8, avail, used }, /* misaligned: 16, 2, 4 */
		{ desc, avail + 1, used },
		{ desc, avail, used + 2 },
		{ ram_end, avail, used }, /* behind RAM */
		{ desc, ram_end, used },
		{ desc, avail, ram_end },
		{ ram_end - 16 * n + 16, avail, used }, /* a part of it */
		{ desc, ram_end - 2 * n - 2, used },
		{ desc, avail, ram_end - 8 * n },
		{ 0xfffffffffffffff0ul, avail, used }, /* overflow */
		{ desc, 0xfffffffffffffffeul, used },
		{ desc, avail, 0xfffffffffffffffcul },
		{ GUEST_MMIO_BASE, avail, used }, /* a device's registers */
		{ desc, avail, 0xfee00000ul }, /* the interrupt controller */
	};

	for (unsigned i = 0; i < sizeof(places) / sizeof(places[0]); i++)
		if (!refused(d, q, n, places[i][0], places[i][1], places[i][2]))
			return false;
	return true;
}

/* Off by one in the other direction: the very end of RAM is RAM. */
static bool run_last_bytes(struct device *d, unsigned q)
{
	uint64_t used = ram_end - (6 + 8 * GUEST_QUEUE_SIZE);

	return dev_reset(d) && dev_negotiate(d, 0) &&
	       dev_queue(d, q, d->size, ram_end - 4096, ram_end - 2048,
			 ((used + 8 * (GUEST_QUEUE_SIZE - d->size)) & ~3ul));
}

static void poke(uintptr_t at, unsigned width, uint64_t value)
{
	switch (width) {
	case 1:
		*(volatile uint8_t *)at = (uint8_t)value;
		break;
	case 2:
		*(volatile uint16_t *)at = (uint16_t)value;
		break;
	case 4:
		*(volatile uint32_t *)at = (uint32_t)value;
		break;
	default:
		*(volatile uint64_t *)at = value;
	}
}

static uint64_t peek(uintptr_t at, unsigned width)
{
	switch (width) {
	case 1:
		return *(volatile uint8_t *)at;
	case 2:
		return *(volatile uint16_t *)at;
	case 4:
		return *(volatile uint32_t *)at;
	}
	return *(volatile uint64_t *)at;
}

/* Every register with every width, aligned and not, and the end of the window. */
static bool run_widths(struct device *d, unsigned q)
{
	(void)q;
	for (unsigned width = 1; width <= 8; width *= 2) {
		for (unsigned off = 0; off < 0x120; off += 4) {
			(void)peek(d->base + off, width);
			(void)peek(d->base + off + 1, width);
			poke(d->base + off + 2, width, 0xa5a5a5a5a5a5a5a5ul);
			if (off != R_STATUS)
				poke(d->base + off, width, 0xfffffffffffffffful);
		}
		(void)peek(d->base + GUEST_MMIO_SIZE - width, width);
		poke(d->base + GUEST_MMIO_SIZE - width, width, 0);
	}
	/* Across the end, into the next device's window or none. */
	(void)peek(d->base + GUEST_MMIO_SIZE - 1, 4);
	(void)peek(d->base + GUEST_MMIO_SIZE - 4, 8);
	return true;
}

/* Unaligned string instructions: KVM splits them as it likes. */
static bool run_string(struct device *d, unsigned q)
{
	uintptr_t from = d->base + 1, to = SCRATCH;
	size_t n = 300;

	(void)q;
	asm volatile("rep movsb" : "+S"(from), "+D"(to), "+c"(n) : : "memory");
	from = SCRATCH;
	to = d->base + R_CONFIG + 3;
	n = 100;
	asm volatile("rep movsb" : "+S"(from), "+D"(to), "+c"(n) : : "memory");
	return true;
}

static bool run_config(struct device *d, unsigned q)
{
	(void)q;
	for (unsigned off = R_CONFIG; off + 8 <= GUEST_MMIO_SIZE; off += 60) {
		(void)peek(d->base + off, 4);
		(void)peek(d->base + off + 3, 8);
		poke(d->base + off, 8, ~0ul);
		poke(d->base + off, 1, 1);
	}
	return true;
}

static bool run_selectors(struct device *d, unsigned q)
{
	static const uint32_t wild[] = { 1, 4, 15, 16, 17, 255, 65535, 65536, 0x80000000, 0xffffffff };

	for (unsigned i = 0; i < sizeof(wild) / sizeof(wild[0]); i++) {
		dev_write(d, R_QUEUE_SEL, wild[i] + d->n_queues * 64);
		(void)dev_read(d, R_QUEUE_NUM_MAX);
		dev_write(d, R_QUEUE_NUM, 16);
		dev_write64(d, R_QUEUE_DESC, SCRATCH);
		dev_write64(d, R_QUEUE_DRIVER, SCRATCH + 4096);
		dev_write64(d, R_QUEUE_DEVICE, SCRATCH + 8192);
		dev_write(d, R_QUEUE_READY, 1);
		dev_write(d, R_DEVICE_FEATURES_SEL, wild[i]);
		(void)dev_read(d, R_DEVICE_FEATURES);
		dev_write(d, R_DRIVER_FEATURES_SEL, wild[i]);
		dev_write(d, R_DRIVER_FEATURES, 0xffffffff);
		dev_write(d, R_QUEUE_NOTIFY, wild[i]);
		poke(d->base + R_QUEUE_NOTIFY, 8, (uint64_t)wild[i] << 32 | q);
		poke(d->base + R_QUEUE_NOTIFY, 2, q);
		poke(d->base + R_QUEUE_NOTIFY, 1, q);
		dev_write(d, R_INTERRUPT_ACK, wild[i]);
	}
	return true;
}

static bool run_status_down(struct device *d, unsigned q)
{
	static const uint32_t steps[] = { S_ACKNOWLEDGE, S_DRIVER_OK, S_FEATURES_OK, 128, 0xff,
					  0xffffff00, 0x100 };

	for (unsigned i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
		if (!dev_start(d, 0))
			return false;
		dev_write(d, R_STATUS, steps[i]);
		q_kick(d, q);
	}
	return true;
}

/* A running device goes on with the queues that it was started with. */
static bool run_move_queue(struct device *d, unsigned q)
{
	dev_write(d, R_QUEUE_SEL, q);
	dev_write(d, R_QUEUE_NUM, 4);
	dev_write64(d, R_QUEUE_DESC, SCRATCH);
	dev_write64(d, R_QUEUE_DRIVER, ram_end);
	dev_write64(d, R_QUEUE_DEVICE, 0xfffffffffffffff0ul);
	dev_write(d, R_QUEUE_READY, 1);
	return device_works(d);
}

static bool run_late_features(struct device *d, unsigned q)
{
	(void)q;
	dev_write(d, R_DRIVER_FEATURES_SEL, 0);
	dev_write(d, R_DRIVER_FEATURES, 0xffffffff);
	return device_works(d);
}

/* FEATURES_OK must not stay when a feature was accepted that was never offered. */
static bool run_all_features(struct device *d, unsigned q)
{
	(void)q;
	dev_reset(d);
	dev_write(d, R_STATUS, S_ACKNOWLEDGE | S_DRIVER);
	for (unsigned i = 0; i < 2; i++) {
		dev_write(d, R_DRIVER_FEATURES_SEL, i);
		dev_write(d, R_DRIVER_FEATURES, 0xffffffff);
	}
	dev_write(d, R_STATUS, S_ACKNOWLEDGE | S_DRIVER | S_FEATURES_OK);
	return !(dev_read(d, R_STATUS) & S_FEATURES_OK);
}

static bool run_no_negotiation(struct device *d, unsigned q)
{
	dev_reset(d);
	dev_queue_plain(d, q);
	dev_write(d, R_STATUS, S_DRIVER_OK);
	q_desc(d, q, 0, SCRATCH, 16, 0, 0);
	q_offer(d, q, 0);
	q_kick(d, q);
	return true;
}

/* Kicked and reset at once, with the whole queue in flight. */
static bool run_reset_in_flight(struct device *d, unsigned q)
{
	for (unsigned round = 0; round < 20; round++) {
		if (!dev_start(d, 0))
			return false;
		q_desc(d, q, 0, SCRATCH, 65536, queue_writable(d, q) ? D_WRITE : 0, 0);
		for (unsigned i = 0; i < d->size; i++)
			q_offer(d, q, 0);
		q_kick(d, q);
		if (!dev_reset(d))
			return false;
	}
	return true;
}

const struct attack register_attacks[] = {
	{ 1, "sizes that no queue has", 0, ANSWERS, run_sizes },
	{ 1, "rings where none can be", 0, ANSWERS, run_places },
	{ 1, "rings at the very end of RAM are good", 0, ANSWERS, run_last_bytes },
	{ 7, "every width at every register", 0, SURVIVES, run_widths },
	{ 7, "string instructions over the registers", 0, SURVIVES, run_string },
	{ 7, "configuration beyond its end", 0, SURVIVES, run_config },
	{ 7, "queues and features that do not exist", 0, SURVIVES, run_selectors },
	{ 8, "status bits taken back", 0, SURVIVES, run_status_down },
	{ 8, "a running queue is moved", 0, ANSWERS, run_move_queue },
	{ 8, "features after the negotiation", 0, ANSWERS, run_late_features },
	{ 8, "features that were not offered", 0, ANSWERS, run_all_features },
	{ 8, "started without negotiation", 0, SURVIVES, run_no_negotiation },
	{ 8, "reset with all in flight", 0, SURVIVES, run_reset_in_flight },
	{ 0, NULL, 0, SURVIVES, NULL },
};
