/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_VMM_MPTABLE_H
#define MSB_VMM_MPTABLE_H

/*
 * The MP table: how a kernel without ACPI learns of its CPUs, the IOAPIC and the
 * interrupt lines (Intel MultiProcessor Specification 1.4, May 1997, chapter 4).
 */

#include <stddef.h>
#include <stdint.h>

/* In the last KiB of base memory, one of the places where a kernel looks (§4). */
#define MPTABLE_GPA 0x9fc00ull
#define MPTABLE_MAX 1024u

#define MPTABLE_IOAPIC_GPA 0xfec00000u
#define MPTABLE_LAPIC_GPA 0xfee00000u
#define MPTABLE_IOAPIC_PINS 24u

/**
 * mptable_write() - the floating pointer and the table behind it, for @gpa
 * @to:     MPTABLE_MAX bytes
 * @n_cpus: 1 to 16; their APIC ids are 0 … n_cpus - 1
 *
 * Pure.  Return: bytes used.
 */
size_t mptable_write(uint8_t *to, uint32_t gpa, unsigned n_cpus);

#endif
