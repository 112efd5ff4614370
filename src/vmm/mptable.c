/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Purpose: one bus (ISA), one IOAPIC, all of its 24 lines connected one to one, edge
 * triggered and active high, which is what KVM's irqfd produces.  ISA because a kernel
 * takes "conforms to the bus" there for exactly that.
 *
 * Everything in the table is little-endian.  Its structures are packed by their layout:
 * all fields are aligned as they are.
 */
#include "vmm/mptable.h"

#include <assert.h>
#include <string.h>

#define MPTABLE_SPEC 4 /* revision 1.4 */
#define MPTABLE_LAPIC_VERSION 0x14
#define MPTABLE_IOAPIC_VERSION 0x11

struct mptable_pointer { /* §4.1 */
	char signature[4]; /* "_MP_" */
	uint32_t table; /* physical address */
	uint8_t length; /* in units of 16 bytes */
	uint8_t spec, checksum;
	uint8_t feature[5]; /* 0: there is a table, no PIC mode */
};

struct mptable_header { /* §4.2 */
	char signature[4]; /* "PCMP" */
	uint16_t length; /* of header and entries */
	uint8_t spec, checksum;
	char oem[8], product[12];
	uint32_t oem_table;
	uint16_t oem_size, entries;
	uint32_t lapic;
	uint16_t extended_length;
	uint8_t extended_checksum, reserved;
};

enum { MPTABLE_CPU, MPTABLE_BUS, MPTABLE_IOAPIC, MPTABLE_IO_INTERRUPT, MPTABLE_LOCAL_INTERRUPT };

struct mptable_cpu { /* §4.3.1 */
	uint8_t type, apic_id, apic_version, flags; /* 1 = usable, 2 = boot processor */
	uint32_t signature, features;
	uint32_t reserved[2];
};

struct mptable_bus { /* §4.3.2 */
	uint8_t type, id;
	char name[6];
};

struct mptable_ioapic { /* §4.3.3 */
	uint8_t type, id, version, flags; /* 1 = usable */
	uint32_t address;
};

/* §4.3.4 and §4.3.5: a line of a bus to a pin of an IOAPIC, or of local APICs. */
struct mptable_interrupt {
	uint8_t type, kind;
	uint16_t flags; /* 0 = polarity and trigger conform to the bus */
	uint8_t bus, line, apic, pin;
};

enum { MPTABLE_INT, MPTABLE_NMI, MPTABLE_SMI, MPTABLE_EXTINT };

_Static_assert(sizeof(struct mptable_pointer) == 16, "MP spec table 4-1");
_Static_assert(sizeof(struct mptable_header) == 44, "MP spec table 4-2");
_Static_assert(sizeof(struct mptable_cpu) == 20, "MP spec table 4-4");
_Static_assert(sizeof(struct mptable_bus) == 8, "MP spec table 4-7");
_Static_assert(sizeof(struct mptable_ioapic) == 8, "MP spec table 4-9");
_Static_assert(sizeof(struct mptable_interrupt) == 8, "MP spec table 4-10");

/* A table under construction. */
struct mptable {
	uint8_t *mem;
	size_t len;
	uint16_t entries;
};

static void mptable_add(struct mptable *t, const void *entry, size_t size)
{
	assert(t->len + size <= MPTABLE_MAX);
	memcpy(t->mem + t->len, entry, size);
	t->len += size;
	t->entries++;
}

/* The value that makes the sum of @len bytes 0. */
static uint8_t mptable_checksum(const void *p, size_t len)
{
	const uint8_t *b = p;
	unsigned sum = 0;

	for (size_t i = 0; i < len; i++)
		sum += b[i];
	return (uint8_t)-sum;
}

static void mptable_add_interrupts(struct mptable *t, uint8_t ioapic)
{
	/* The local pins as after a reset: the PICs at LINT0, NMI at LINT1 of every CPU. */
	static const struct mptable_interrupt local[] = {
		{ .type = MPTABLE_LOCAL_INTERRUPT, .kind = MPTABLE_EXTINT, .apic = 0, .pin = 0 },
		{ .type = MPTABLE_LOCAL_INTERRUPT, .kind = MPTABLE_NMI, .apic = 0xff, .pin = 1 },
	};

	for (uint8_t i = 0; i < MPTABLE_IOAPIC_PINS; i++) {
		struct mptable_interrupt in = {
			.type = MPTABLE_IO_INTERRUPT,
			.kind = MPTABLE_INT,
			.line = i,
			.apic = ioapic,
			.pin = i,
		};

		mptable_add(t, &in, sizeof(in));
	}
	for (size_t i = 0; i < sizeof(local) / sizeof(local[0]); i++)
		mptable_add(t, &local[i], sizeof(local[i]));
}

size_t mptable_write(uint8_t *to, uint32_t gpa, unsigned n_cpus)
{
	struct mptable_pointer pointer = {
		.signature = { '_', 'M', 'P', '_' },
		.table = gpa + (uint32_t)sizeof(pointer),
		.length = sizeof(pointer) / 16,
		.spec = MPTABLE_SPEC,
	};
	struct mptable_header header = {
		.signature = { 'P', 'C', 'M', 'P' },
		.spec = MPTABLE_SPEC,
		.oem = { 'M', 'S', 'B', ' ', ' ', ' ', ' ', ' ' },
		.product = { 'M', 'S', 'B', '-', 'V', 'M', 'M', ' ', ' ', ' ', ' ', ' ' },
		.lapic = MPTABLE_LAPIC_GPA,
	};
	struct mptable_bus bus = { .type = MPTABLE_BUS, .name = { 'I', 'S', 'A', ' ', ' ', ' ' } };
	struct mptable_ioapic ioapic = {
		.type = MPTABLE_IOAPIC,
		.id = (uint8_t)n_cpus, /* distinct from every local APIC's */
		.version = MPTABLE_IOAPIC_VERSION,
		.flags = 1,
		.address = MPTABLE_IOAPIC_GPA,
	};
	struct mptable t = { .mem = to, .len = sizeof(pointer) + sizeof(header) };

	memset(to, 0, MPTABLE_MAX);
	for (uint8_t i = 0; i < n_cpus; i++) {
		struct mptable_cpu cpu = {
			.type = MPTABLE_CPU,
			.apic_id = i,
			.apic_version = MPTABLE_LAPIC_VERSION,
			.flags = i ? 1 : 1 | 2,
			.signature = 0x600, /* family 6; kernels of today read CPUID */
			.features = 0x201, /* FPU, APIC */
		};

		mptable_add(&t, &cpu, sizeof(cpu));
	}
	mptable_add(&t, &bus, sizeof(bus));
	mptable_add(&t, &ioapic, sizeof(ioapic));
	mptable_add_interrupts(&t, ioapic.id);

	pointer.checksum = mptable_checksum(&pointer, sizeof(pointer));
	memcpy(to, &pointer, sizeof(pointer));
	header.length = (uint16_t)(t.len - sizeof(pointer));
	header.entries = t.entries;
	memcpy(to + sizeof(pointer), &header, sizeof(header));
	header.checksum = mptable_checksum(to + sizeof(pointer), header.length);
	memcpy(to + sizeof(pointer), &header, sizeof(header));
	return t.len;
}
