/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_VMM_MEMORY_H
#define MSB_VMM_MEMORY_H

/*
 * DOC: Guest memory
 *
 * Purpose
 *   The guest's RAM as the VMM sees it: one private mapping, cut into at most two
 *   slots by the hole below 4 GiB that holds the device registers.  The only way
 *   from a guest physical address to a host pointer.
 *
 * Trust boundary
 *   Guest physical addresses and lengths come from the guest.  memory_at() refuses
 *   whatever does not lie in one slot as a whole.  The bytes behind the pointer may
 *   change at any time: what is checked has to be copied first.
 *
 * Ownership
 *   The mapping is MAP_PRIVATE | MAP_NORESERVE, anonymous or over a memory file of a
 *   snapshot, which is never written to.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

/* Device registers, the IOAPIC and the local APICs live in [3 GiB, 4 GiB). */
#define MEMORY_HOLE_START 0xc0000000ull
#define MEMORY_HOLE_END 0x100000000ull
#define MEMORY_SLOTS_MAX 2

struct memory_slot {
	uint64_t gpa;
	uint64_t size; /* bytes, a multiple of 4096 */
	uint8_t *host;
};

struct memory {
	struct memory_slot slots[MEMORY_SLOTS_MAX];
	unsigned n_slots;
	uint64_t bytes; /* of all slots; slot 1 follows slot 0 in the mapping and the file */
	uint8_t *reserved; /* address space around the mapping */
	uint64_t reserved_bytes;
};

/**
 * memory_create() - map the guest's RAM
 * @bytes: a multiple of 4096
 * @fd:    memory file of a snapshot, at least @bytes long, or -1 for fresh memory;
 *         stays the caller's and may be closed at once
 *
 * Return: 0, or a negative errno with its reason.
 */
int memory_create(struct memory *m, uint64_t bytes, int fd, struct err *e);
void memory_destroy(struct memory *m);

/* Host address of [@gpa, @gpa + @len), or NULL if that is not inside one slot. */
void *memory_at(const struct memory *m, uint64_t gpa, uint64_t len);

/*
 * Gives the pages of [@gpa, @gpa + @len) back to the host (MADV_DONTNEED); they read
 * as zero, or as the snapshot's, afterwards.  Return: 0, -EINVAL for a range that is
 * not page-aligned or not RAM, or what madvise() says.
 */
int memory_discard(const struct memory *m, uint64_t gpa, uint64_t len);

#endif
