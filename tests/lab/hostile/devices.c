/* SPDX-License-Identifier: Apache-2.0 */
/* Classes 4 and 9: requests that are well-formed chains, and wrong for the device. */
#include "hostile.h"

enum { BLK_IN = 0, BLK_OUT = 1, BLK_FLUSH = 4, BLK_GET_ID = 8, BLK_DISCARD = 11 };
#define BLK_F_RO (1ul << 5)
#define BLK_F_FLUSH (1ul << 9)
#define BLK_F_DISCARD (1ul << 13)
#define CONSOLE_F_MULTIPORT (1ul << 1)
#define BALLOON_F_REPORTING (1ul << 5)
#define SECTOR 512u

struct blk_header {
	uint32_t type, reserved;
	uint64_t sector;
};

/* Fixed places in the scratch memory. */
#define AT_HEADER SCRATCH
#define AT_STATUS (SCRATCH + 64)
#define AT_RANGES (SCRATCH + 128)
#define AT_DATA (SCRATCH + 4096)

bool queue_writable(const struct device *d, unsigned q)
{
	switch (d->id) {
	case ID_NET:
	case ID_CONSOLE:
		return q % 2 == 0;
	case ID_RNG:
		return true;
	case ID_BALLOON:
		return q >= 2;
	}
	return false;
}

/* ---- disk ---- */

uint8_t blk_request(struct device *d, uint32_t type, uint64_t sector, uint64_t data, uint32_t len,
		    bool to_guest)
{
	volatile struct blk_header *h = (void *)AT_HEADER;
	volatile uint8_t *status = (void *)AT_STATUS;

	h->type = type;
	h->reserved = 0;
	h->sector = sector;
	*status = 0xff;
	q_desc(d, 0, 0, AT_HEADER, sizeof(*h), D_NEXT, len ? 1 : 2);
	q_desc(d, 0, 1, data, len, D_NEXT | (to_guest ? D_WRITE : 0), 2);
	q_desc(d, 0, 2, AT_STATUS, 1, D_WRITE, 0);
	q_offer(d, 0, 0);
	q_kick(d, 0);
	if (!q_wait(d, 0, NULL))
		return 0xff;
	return *status;
}

static uint64_t blk_sectors(struct device *d)
{
	return dev_read(d, R_CONFIG) | (uint64_t)dev_read(d, R_CONFIG + 4) << 32;
}

/* Must be an error, by its status or by the device's. */
static bool blk_fails(struct device *d, uint32_t type, uint64_t sector, uint32_t len, bool to_guest)
{
	if (dev_needs_reset(d) && !dev_start(d, BLK_F_FLUSH | BLK_F_DISCARD | BLK_F_RO))
		return false;
	return blk_request(d, type, sector, AT_DATA, len, to_guest) != 0;
}

static bool run_blk_sectors(struct device *d, unsigned q)
{
	uint64_t end = blk_sectors(d);
	const uint64_t wild[] = { end, end + 1, 1ul << 55, (1ul << 55) - 1, 1ul << 63, ~0ul };

	(void)q;
	for (unsigned i = 0; i < sizeof(wild) / sizeof(wild[0]); i++)
		if (!blk_fails(d, BLK_IN, wild[i], SECTOR, true) ||
		    !blk_fails(d, BLK_OUT, wild[i], SECTOR, false))
			return false;
	return blk_fails(d, BLK_IN, end - 1, 2 * SECTOR, true) &&
	       blk_fails(d, BLK_OUT, end - 1, 2 * SECTOR, false);
}

static bool run_blk_lengths(struct device *d, unsigned q)
{
	(void)q;
	return blk_fails(d, BLK_IN, 0, 1, true) && blk_fails(d, BLK_IN, 0, 513, true) &&
	       blk_fails(d, BLK_OUT, 0, 511, false) && blk_fails(d, BLK_OUT, 0, SECTOR, true) &&
	       blk_fails(d, BLK_IN, 0, SECTOR, false);
}

static bool run_blk_read_only(struct device *d, unsigned q)
{
	(void)q;
	if (!(d->offered & BLK_F_RO))
		return true;
	memset((void *)AT_DATA, 0x66, SECTOR);
	return blk_fails(d, BLK_OUT, 0, SECTOR, false) && blk_fails(d, BLK_DISCARD, 0, 16, false);
}

static bool run_blk_types(struct device *d, unsigned q)
{
	static const uint32_t types[] = { 2, 3, 5, 7, 9, 10, 14, 16, 24, 25, 255, 0x80000001, 0xffffffff };

	(void)q;
	for (unsigned i = 0; i < sizeof(types) / sizeof(types[0]); i++)
		if (!blk_fails(d, types[i], 0, SECTOR, true))
			return false;
	return true;
}

struct range {
	uint64_t sector;
	uint32_t count, flags;
};

static bool run_blk_ranges(struct device *d, unsigned q)
{
	static const struct range wild[] = {
		{ ~0ul, 1, 0 }, { 0, 0xffffffff, 0 }, { 1ul << 55, 8, 0 },
		{ ~0ul - 7, 0xffffffff, 0 }, { 0, 1, 0xfffffffe },
	};

	(void)q;
	for (unsigned i = 0; i < sizeof(wild) / sizeof(wild[0]); i++) {
		if (dev_needs_reset(d) && !dev_start(d, BLK_F_DISCARD))
			return false;
		memcpy((void *)AT_RANGES, &wild[i], sizeof(wild[i]));
		if (!blk_request(d, BLK_DISCARD, 0, AT_RANGES, sizeof(wild[i]), false))
			return false;
	}
	/* Of no whole range, and far too many. */
	return blk_fails(d, BLK_DISCARD, 0, 15, false) && blk_fails(d, BLK_DISCARD, 0, 1 << 20, false);
}

static bool blk_raw(struct device *d, uint32_t header, uint32_t status)
{
	if (dev_needs_reset(d) && !dev_start(d, 0))
		return false;
	q_desc(d, 0, 0, AT_HEADER, header, D_NEXT, 1);
	q_desc(d, 0, 1, AT_STATUS, status, D_WRITE, 0);
	q_offer(d, 0, 0);
	q_kick(d, 0);
	(void)q_wait(d, 0, NULL);
	return true;
}

/* Headers that are cut, and no room for a status. */
static bool run_blk_short(struct device *d, unsigned q)
{
	(void)q;
	memset((void *)AT_HEADER, 0, sizeof(struct blk_header));
	return blk_raw(d, 1, 1) && blk_raw(d, 15, 1) && blk_raw(d, 16, 1) && blk_raw(d, 17, 2);
}

static bool run_blk_id(struct device *d, unsigned q)
{
	(void)q;
	(void)blk_request(d, BLK_GET_ID, 0, AT_DATA, 1, true);
	if (dev_needs_reset(d) && !dev_start(d, 0))
		return false;
	(void)blk_request(d, BLK_GET_ID, ~0ul, AT_DATA, 1 << 20, true);
	return true;
}

const struct attack blk_attacks[] = {
	{ 9, "sectors outside of the disk", BLK_F_FLUSH | BLK_F_RO, ANSWERS, run_blk_sectors },
	{ 9, "writing to a read-only disk", BLK_F_RO | BLK_F_DISCARD, ANSWERS, run_blk_read_only },
	{ 9, "requests that do not exist", 0, ANSWERS, run_blk_types },
	{ 9, "ranges outside of the disk", BLK_F_DISCARD, ANSWERS, run_blk_ranges },
	{ 4, "lengths that are no sectors", 0, ANSWERS, run_blk_lengths },
	{ 4, "headers cut short", 0, SURVIVES, run_blk_short },
	{ 4, "an identity of wrong length", 0, SURVIVES, run_blk_id },
	{ 0, NULL, 0, SURVIVES, NULL },
};

/* ---- network ---- */

static bool net_send(struct device *d, uint32_t len)
{
	if (dev_needs_reset(d) && !dev_start(d, 0))
		return false;
	q_desc(d, 1, 0, AT_DATA, len, 0, 0);
	q_offer(d, 1, 0);
	q_kick(d, 1);
	(void)q_wait(d, 1, NULL);
	return true;
}

static bool run_net_lengths(struct device *d, unsigned q)
{
	static const uint32_t lens[] = { 1, 11, 12, 13, 25, 26, 1527, 65535, 65549, 65550, 1 << 20 };

	(void)q;
	memset((void *)AT_DATA, 0, 4096);
	for (unsigned i = 0; i < sizeof(lens) / sizeof(lens[0]); i++)
		if (!net_send(d, lens[i]))
			return false;
	return true;
}

/* Offloads that were not negotiated, and another sender's address. */
static bool run_net_header(struct device *d, unsigned q)
{
	(void)q;
	memset((void *)AT_DATA, 0xff, 4096);
	return net_send(d, 12 + 60) && net_send(d, 12 + 1514);
}

/* A frame cut into as many buffers as there are. */
static bool run_net_pieces(struct device *d, unsigned q)
{
	(void)q;
	for (unsigned i = 0; i < d->size; i++)
		q_desc(d, 1, i, AT_DATA, 1, i + 1u < d->size ? D_NEXT : 0, (uint16_t)(i + 1));
	q_offer(d, 1, 0);
	q_kick(d, 1);
	(void)q_wait(d, 1, NULL);
	return true;
}

const struct attack net_attacks[] = {
	{ 4, "frames of every length", 0, ANSWERS, run_net_lengths },
	{ 9, "headers and addresses of others", 0, ANSWERS, run_net_header },
	{ 4, "a frame in pieces of a byte", 0, SURVIVES, run_net_pieces },
	{ 0, NULL, 0, SURVIVES, NULL },
};

/* ---- console ---- */

struct console_control {
	uint32_t port;
	uint16_t event, value;
};

static bool console_tell(struct device *d, uint32_t port, uint16_t event, uint16_t value, uint32_t len)
{
	volatile struct console_control *c = (void *)AT_DATA;

	if (dev_needs_reset(d) && !dev_start(d, CONSOLE_F_MULTIPORT))
		return false;
	c->port = port;
	c->event = event;
	c->value = value;
	q_desc(d, 3, 0, AT_DATA, len, 0, 0);
	q_offer(d, 3, 0);
	q_kick(d, 3);
	(void)q_wait(d, 3, NULL);
	return true;
}

static bool run_console_control(struct device *d, unsigned q)
{
	static const uint32_t ports[] = { 0, 1, 2, 30, 31, 32, 65535, 0x7fffffff, 0xffffffff };

	(void)q;
	for (unsigned i = 0; i < sizeof(ports) / sizeof(ports[0]); i++)
		for (uint16_t event = 0; event < 10; event++)
			if (!console_tell(d, ports[i], event, (uint16_t)(event * 7), 8))
				return false;
	return console_tell(d, 0, 0xffff, 0xffff, 8) && console_tell(d, 0, 3, 1, 1) &&
	       console_tell(d, 0, 3, 1, 7) && console_tell(d, 0, 3, 1, 1 << 20);
}

/* Receive buffers of the control queue that no message fits into. */
static bool run_console_small(struct device *d, unsigned q)
{
	(void)q;
	q_desc(d, 2, 0, AT_DATA + 4096, 1, D_WRITE, 0);
	q_offer(d, 2, 0);
	q_kick(d, 2);
	return console_tell(d, 0, 0, 1, 8);
}

const struct attack console_attacks[] = {
	{ 9, "control messages of any kind", CONSOLE_F_MULTIPORT, ANSWERS, run_console_control },
	{ 4, "no room for a control message", CONSOLE_F_MULTIPORT, SURVIVES, run_console_small },
	{ 0, NULL, 0, SURVIVES, NULL },
};

/* ---- entropy ---- */

/* 16 times the same 64 MiB: the answer is short, or it takes a while; it is no flood. */
static bool run_rng_flood(struct device *d, unsigned q)
{
	uint32_t len = 0;

	for (unsigned i = 0; i < d->size; i++)
		q_desc(d, q, i, SCRATCH, SCRATCH_SIZE, D_WRITE | (i + 1u < d->size ? D_NEXT : 0),
		       (uint16_t)(i + 1));
	q_offer(d, q, 0);
	q_kick(d, q);
	return q_wait(d, q, &len) && len > 0 && len <= 1 << 20;
}

const struct attack rng_attacks[] = {
	{ 4, "a gigabyte asked for in one request", 0, ANSWERS, run_rng_flood },
	{ 0, NULL, 0, SURVIVES, NULL },
};

/* ---- balloon ---- */

static bool balloon_give(struct device *d, unsigned q, uint32_t len)
{
	if (dev_needs_reset(d) && !dev_start(d, 0))
		return false;
	q_desc(d, q, 0, AT_DATA, len, 0, 0);
	q_offer(d, q, 0);
	q_kick(d, q);
	return q_wait(d, q, NULL);
}

/* Page numbers behind RAM: refused, or ignored. */
static bool run_balloon_pages(struct device *d, unsigned q)
{
	const uint32_t wild[] = { (uint32_t)(ram_end >> 12), 0xd0000, 0xfee00, 0x7fffffff, 0xffffffff };

	(void)q;
	for (unsigned i = 0; i < sizeof(wild) / sizeof(wild[0]); i++) {
		*(volatile uint32_t *)AT_DATA = wild[i];
		(void)balloon_give(d, 0, 4);
		(void)balloon_give(d, 1, 4);
	}
	return true;
}

static bool run_balloon_lengths(struct device *d, unsigned q)
{
	(void)q;
	memset((void *)AT_DATA, 0, 64);
	(void)balloon_give(d, 0, 1);
	(void)balloon_give(d, 0, 3);
	(void)balloon_give(d, 1, 7);
	return true;
}

/* A quarter of a million times the same page. */
static bool run_balloon_flood(struct device *d, unsigned q)
{
	volatile uint32_t *pages = (void *)AT_DATA;

	(void)q;
	for (unsigned i = 0; i < 1 << 18; i++)
		pages[i] = (uint32_t)((SCRATCH + SCRATCH_SIZE) >> 12);
	return balloon_give(d, 0, 1 << 20);
}

const struct attack balloon_attacks[] = {
	{ 9, "pages that are not RAM", 0, ANSWERS, run_balloon_pages },
	{ 4, "lists of no whole pages", 0, ANSWERS, run_balloon_lengths },
	{ 9, "one page a quarter of a million times", 0, ANSWERS, run_balloon_flood },
	{ 0, NULL, 0, SURVIVES, NULL },
};

/* ---- and politely ---- */

static bool blk_works(struct device *d)
{
	memset((void *)AT_DATA, 0, SECTOR);
	return blk_request(d, BLK_IN, 0, AT_DATA, SECTOR, true) == 0 &&
	       !memcmp((void *)AT_DATA, "hostile!", 8);
}

static bool rng_works(struct device *d)
{
	static const uint8_t zero[32];
	uint32_t len;

	memset((void *)AT_DATA, 0, sizeof(zero));
	q_desc(d, 0, 0, AT_DATA, sizeof(zero), D_WRITE, 0);
	q_offer(d, 0, 0);
	q_kick(d, 0);
	return q_wait(d, 0, &len) && len == sizeof(zero) &&
	       memcmp((void *)AT_DATA, zero, sizeof(zero)) != 0;
}

static bool net_works(struct device *d)
{
	memset((void *)AT_DATA, 0, 12 + 60);
	memset((void *)(AT_DATA + 12), 0xff, 6);
	memcpy((void *)(AT_DATA + 12 + 14), "polite", 6);
	q_desc(d, 1, 0, AT_DATA, 12 + 60, 0, 0);
	q_offer(d, 1, 0);
	q_kick(d, 1);
	return q_wait(d, 1, NULL);
}

static bool balloon_works(struct device *d)
{
	*(volatile uint32_t *)AT_DATA = (uint32_t)((SCRATCH + SCRATCH_SIZE) >> 12);
	return balloon_give(d, 0, 4) && balloon_give(d, 1, 4);
}

static bool console_works(struct device *d)
{
	memcpy((void *)AT_DATA, ".", 1);
	q_desc(d, 1, 0, AT_DATA, 1, 0, 0);
	q_offer(d, 1, 0);
	q_kick(d, 1);
	return q_wait(d, 1, NULL);
}

bool device_works(struct device *d)
{
	switch (d->id) {
	case ID_BLK:
		return blk_works(d);
	case ID_RNG:
		return rng_works(d);
	case ID_NET:
		return net_works(d);
	case ID_BALLOON:
		return balloon_works(d);
	case ID_CONSOLE:
		return console_works(d);
	}
	return false;
}
