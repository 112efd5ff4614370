/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_VMM_STATE_VCPU_H
#define MSB_VMM_STATE_VCPU_H

/* The state of one paused vCPU, out of KVM and back into it. */

#include <linux/kvm.h>
#include <stdint.h>

#include "base/err.h"
#include "codec/snapshot.h"
#include "vmm/cpuid.h"
#include "vmm/vm.h"

#define STATE_MSRS_MAX 1024u

/* Which MSRs a vCPU is asked for, in the order in which they are put back. */
struct state_msr_list {
	unsigned n;
	uint32_t index[STATE_MSRS_MAX];
};

struct state_vcpu {
	struct kvm_mp_state mp_state;
	struct kvm_regs regs;
	struct kvm_sregs sregs;
	struct kvm_xcrs xcrs;
	struct kvm_debugregs debugregs;
	struct kvm_lapic_state lapic;
	struct kvm_vcpu_events events;
	uint8_t tsc_khz[4];
	struct cpuid cpuid;
	unsigned n_msrs;
	struct kvm_msr_entry msrs[STATE_MSRS_MAX];
	uint32_t xsave_bytes;
	uint8_t xsave[];
};

/* The MSRs that this host's KVM knows. */
int state_msr_list(int kvm_fd, struct state_msr_list *out, struct err *e);

/* Size of a vCPU's FPU registers in this VM. */
int state_xsave_bytes(int vm_fd, uint32_t *out, struct err *e);

/**
 * state_vcpu_save() - read everything of a vCPU
 * @out:   free() it
 * @parts: SNAPSHOT_CPU_PARTS parts, which point into *@out
 */
int state_vcpu_save(struct vcpu *c, const struct state_msr_list *list, struct state_vcpu **out,
		    struct snapshot_part *parts, struct err *e);

/* Puts the @parts of snapshot_decode() into a vCPU that has not run yet. */
int state_vcpu_load(struct vcpu *c, const struct snapshot_part *parts, struct err *e);

#endif
