/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_ENGINE_PROBE_VM_H
#define MSB_ENGINE_PROBE_VM_H

/* The throw-away VM of the probe: runs a bit of ring-0 code, within a time limit. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

enum probe_step {
	PROBE_STEP_START,
	PROBE_STEP_CREATE_VM,
	PROBE_STEP_IRQCHIP,
	PROBE_STEP_MEMORY,
	PROBE_STEP_VCPU,
	PROBE_STEP_CPUID,
	PROBE_STEP_REGISTERS,
	PROBE_STEP_RUN, /* the guest runs; where it is: mark */
};

/* What came out.  Times are processor time of the thread, nanoseconds, the best of a few. */
struct probe_report {
	enum probe_step step; /* the last one begun */
	unsigned mark; /* PROBE_MARK_*: what the guest did last; 0 = nothing */
	bool passed; /* the guest did everything, with the right results */
	bool wrong; /* it got a wrong result, or we did from it */
	bool timed_out; /* and was killed */
	int err; /* errno of a request to KVM that failed, or 0 */
	bool ended; /* an exit that should not be: */
	uint32_t exit_reason, exit_detail; /* KVM_EXIT_*, its suberror or hardware reason */
	uint64_t host_loop_ns; /* the loop, run by ourselves; 0 = not measured yet */
	uint64_t guest_loop_ns; /* the loop in the guest, without the exit; 0 likewise */
	uint64_t exit_ns; /* an exit that does nothing */
	uint64_t total_ns; /* wall clock, everything */
};

/* Guest code, put at PROBE_GUEST_CODE and entered at its first byte; tests have others. */
struct probe_guest {
	const uint8_t *start, *end; /* at most PROBE_GUEST_CODE_MAX bytes */
	const uint8_t *breakpoint, *page_fault; /* its exception handlers */
};

extern const struct probe_guest probe_vm_guest;

/* Is the guest's code interpreted, by what was measured?  False if it was not. */
bool probe_vm_interpreted(const struct probe_report *r);

/*
 * Could it be the machine that was slow, not KVM?  An interpreter is slower by orders of
 * magnitude than a processor that somebody else was using; a hang can be either.
 */
bool probe_vm_doubtful(const struct probe_report *r);

/* Millions of instructions a second in the guest, by what was measured; 0 = unknown. */
double probe_vm_mips(const struct probe_report *r);

/**
 * probe_vm_run() - run @guest in a VM of @kvm_fd
 * @kvm_fd: /dev/kvm; stays the caller's
 *
 * The VM lives in a child process that is gone on return, whatever the guest does.
 * Return: 0 and *@out, which tells how it went; a negative errno if there could be no
 * trial at all (no process, no memory).
 */
int probe_vm_run(int kvm_fd, const struct probe_guest *guest, struct probe_report *out,
		 struct err *e);

#endif
