/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_VMM_TRACE_H
#define MSB_VMM_TRACE_H

/*
 * Milestones of a start, for tests/bench/bench_vmm.py and for tests that have to know when
 * the guest runs: --trace-fd N gets a struct trace_stamp at each.  Off, one costs a
 * comparison.
 */

#include <stdint.h>

enum trace_point {
	TRACE_MAIN, /* main() begins */
	TRACE_VM, /* VM and interrupt controllers are made */
	TRACE_DEVICES, /* the devices are there, with doorbells and interrupt lines */
	TRACE_MAPPED, /* guest memory is mapped */
	TRACE_MEMORY, /* and given to KVM: the memslot ioctl */
	TRACE_VCPUS, /* the CPUs are made */
	TRACE_LOADED, /* the kernel is loaded, or the snapshot's state */
	TRACE_THREADS, /* all threads are started */
	TRACE_CONFINED, /* the I/O thread has its seccomp list */
	TRACE_RUN, /* a CPU is about to call KVM_RUN for the first time */
};

struct trace_stamp {
	uint32_t point; /* enum trace_point */
	uint32_t cpu; /* TRACE_RUN: which; else 0 */
	uint64_t ns; /* CLOCK_MONOTONIC */
};

extern int trace_fd; /* -1 = off */

void trace_write(enum trace_point point, uint32_t cpu);

static inline void trace_point(enum trace_point point, uint32_t cpu)
{
	if (__builtin_expect(trace_fd >= 0, 0))
		trace_write(point, cpu);
}

#endif
