/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_VMM_VCPU_H
#define MSB_VMM_VCPU_H

/*
 * One virtual CPU and its thread.  vcpu.c tells how threads, pauses and ends go
 * together; the registers before the first instruction are boot.c's or a snapshot's.
 */

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "base/err.h"

struct vm;
struct kvm_run;

struct vcpu {
	struct vm *vm; /* not owned */
	unsigned id; /* also its APIC id */
	int fd; /* owned; its ioctls other than KVM_RUN are for the I/O thread, while paused */
	struct kvm_run *run; /* owned: mapping of run_bytes */
	size_t run_bytes;
	pthread_t thread;
	pid_t tid; /* of the thread, once it runs; under vm->lock */
	bool started; /* thread is valid and not joined */
};

/**
 * vcpu_create() - the CPU in KVM: descriptor and shared page; no registers, no thread
 *
 * CPUID is the caller's business: cpuid_set() for a boot, the snapshot's otherwise.
 */
int vcpu_create(struct vcpu *c, struct vm *vm, unsigned id, struct err *e);

/* Once, before the first vcpu_start(): the signal that interrupts KVM_RUN. */
int vcpu_prepare_signals(struct err *e);

/* Starts the thread; it confines itself and waits parked until vm_resume(). */
int vcpu_start(struct vcpu *c, struct err *e);

/* Makes KVM_RUN return soon, or not even begin.  Any thread; vm->lock is held. */
void vcpu_kick(struct vcpu *c);

/* The thread has to end by itself (vm_end()): waits for it. */
void vcpu_join(struct vcpu *c);

/* After vcpu_join().  Harmless on a CPU that was not created (fd = -1). */
void vcpu_destroy(struct vcpu *c);

#endif
