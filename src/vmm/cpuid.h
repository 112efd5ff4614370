/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_VMM_CPUID_H
#define MSB_VMM_CPUID_H

/*
 * What the guest's CPUs say of themselves: what KVM offers, less what a sandbox has no
 * use for, with a topology of our own: one socket, a core per CPU, a thread per core.
 */

#include <linux/kvm.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

#define CPUID_ENTRIES_MAX 256u /* KVM's own limit */

/* Has the layout of struct kvm_cpuid2, and room. */
struct cpuid {
	uint32_t n, padding;
	struct kvm_cpuid_entry2 entries[CPUID_ENTRIES_MAX];
};

/* What this host's KVM offers. */
int cpuid_read(int kvm_fd, struct cpuid *out, struct err *e);

/**
 * cpuid_filter() - from what KVM offers to what our guests see; the same for all CPUs
 * @n_cpus:       1 to 16
 * @tsc_deadline: KVM's local APIC timer has the TSC deadline mode
 *
 * Pure.
 */
void cpuid_filter(struct cpuid *c, unsigned n_cpus, bool tsc_deadline);

/* Puts the APIC id @cpu where a CPU tells its own.  Pure. */
void cpuid_set_apic_id(struct cpuid *c, unsigned cpu);

/* The entry for a leaf (and subleaf, where the leaf has them), or NULL. */
struct kvm_cpuid_entry2 *cpuid_find(struct cpuid *c, uint32_t leaf, uint32_t subleaf);

/* Gives it to a vCPU (KVM_SET_CPUID2). */
int cpuid_apply(int vcpu_fd, const struct cpuid *c, struct err *e);

#endif
