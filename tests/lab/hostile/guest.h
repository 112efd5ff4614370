/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HOSTILE_GUEST_H
#define HOSTILE_GUEST_H

/*
 * The bare guest: processor, memory, and a driver for virtio-mmio devices that does what
 * the specification asks (virtio 1.2 §2.7, §4.2), as long as nobody tells it otherwise.
 */

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define GUEST_MMIO_BASE 0xd0000000ul
#define GUEST_MMIO_SIZE 0x1000ul
#define GUEST_DEVICES_MAX 8u
#define GUEST_QUEUES_MAX 4u
#define GUEST_QUEUE_SIZE 16u

/* Registers (§4.2.2). */
enum {
	R_MAGIC = 0x000,
	R_VERSION = 0x004,
	R_DEVICE_ID = 0x008,
	R_DEVICE_FEATURES = 0x010,
	R_DEVICE_FEATURES_SEL = 0x014,
	R_DRIVER_FEATURES = 0x020,
	R_DRIVER_FEATURES_SEL = 0x024,
	R_QUEUE_SEL = 0x030,
	R_QUEUE_NUM_MAX = 0x034,
	R_QUEUE_NUM = 0x038,
	R_QUEUE_READY = 0x044,
	R_QUEUE_NOTIFY = 0x050,
	R_INTERRUPT_STATUS = 0x060,
	R_INTERRUPT_ACK = 0x064,
	R_STATUS = 0x070,
	R_QUEUE_DESC = 0x080,
	R_QUEUE_DRIVER = 0x090,
	R_QUEUE_DEVICE = 0x0a0,
	R_CONFIG_GENERATION = 0x0fc,
	R_CONFIG = 0x100,
};

enum { ID_NET = 1, ID_BLK = 2, ID_CONSOLE = 3, ID_RNG = 4, ID_BALLOON = 5 };
enum { S_ACKNOWLEDGE = 1, S_DRIVER = 2, S_DRIVER_OK = 4, S_FEATURES_OK = 8, S_NEEDS_RESET = 64 };
enum { D_NEXT = 1, D_WRITE = 2, D_INDIRECT = 4 };

#define F_INDIRECT (1ul << 28)
#define F_VERSION_1 (1ul << 32)

struct desc {
	uint64_t addr;
	uint32_t len;
	uint16_t flags, next;
};

/* One virtqueue's memory; no bit of it is private to us. */
struct ring {
	struct desc desc[GUEST_QUEUE_SIZE] __attribute__((aligned(16)));
	struct {
		uint16_t flags, idx, ring[GUEST_QUEUE_SIZE];
	} avail __attribute__((aligned(2)));
	struct {
		uint16_t flags, idx;
		struct {
			uint32_t id, len;
		} ring[GUEST_QUEUE_SIZE];
	} used __attribute__((aligned(4)));
} __attribute__((aligned(4096)));

struct device {
	uintptr_t base;
	unsigned index, id;
	const char *name;
	uint64_t offered, features;
	unsigned n_queues; /* that we use */
	uint16_t size; /* of each */
	volatile struct ring *rings;
	uint16_t avail_idx[GUEST_QUEUES_MAX], used_idx[GUEST_QUEUES_MAX];
};

/* Processor */
uint64_t guest_ticks(void);
void guest_out8(uint16_t port, uint8_t value);
void guest_end(void) __attribute__((noreturn)); /* resets the machine: port 0x64 */
void *memcpy(void *to, const void *from, size_t n);
void *memset(void *to, int c, size_t n);
int memcmp(const void *a, const void *b, size_t n);

/* Registers; the plain ones are 4 bytes wide. */
uint32_t dev_read(const struct device *d, unsigned reg);
void dev_write(const struct device *d, unsigned reg, uint32_t value);
void dev_write64(const struct device *d, unsigned reg, uint64_t value); /* two halves */

/* Life of a device */
bool dev_find(struct device *d, unsigned index);
bool dev_reset(struct device *d); /* false: the status does not become 0 */
bool dev_negotiate(struct device *d, uint64_t features); /* to FEATURES_OK */
/* Sets up one queue; true if the device takes it. */
bool dev_queue(struct device *d, unsigned q, uint32_t size, uint64_t desc, uint64_t avail,
	       uint64_t used);
bool dev_queue_plain(struct device *d, unsigned q);
bool dev_start(struct device *d, uint64_t features); /* reset to DRIVER_OK, all queues */
bool dev_needs_reset(const struct device *d);

/* Queues */
void q_desc(struct device *d, unsigned q, unsigned i, uint64_t addr, uint32_t len, uint16_t flags,
	    uint16_t next);
void q_offer(struct device *d, unsigned q, uint16_t head); /* without a kick */
void q_kick(struct device *d, unsigned q);
/* Waits for the next used element. False: the device broke, or nothing comes. */
bool q_wait(struct device *d, unsigned q, uint32_t *len);

/* Nothing in the lab takes as long. */
#define GUEST_PATIENCE 60000000000ul /* ticks: about 20 s */
/* How long an attack that shows no effect may go on. */
#define GUEST_SHORT_TIME 20000000ul /* ticks: some milliseconds */

#endif
