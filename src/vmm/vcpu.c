/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DOC: Theory of operation
 *
 * Purpose: a thread per virtual CPU that alternates between KVM_RUN and what the guest
 * left it for.
 *
 * Trust boundary: everything in struct kvm_run is KVM's word about what a hostile guest
 * did; addresses and data in it are the guest's.  bus.c answers for them.
 *
 * Threads and locks: the thread calls KVM_RUN and nothing else of its CPU.  Its registers
 * are read and written by the I/O thread while it is parked.  vm->lock guards state and
 * parked; it is never held over KVM_RUN or an access to a device.
 *
 * States: parked (waiting on vm->changed) <-> in the run loop -> ended.
 *
 * Pausing: KVM finishes the exit before (stores what a read returned, steps over the
 * instruction) only when KVM_RUN is called again.  So a pause never stops the loop
 * between an exit and the next KVM_RUN: it sets immediate_exit and sends a signal, and
 * the loop looks for a change of state only where KVM_RUN said EINTR, that is when
 * nothing is half done.  The order there (clear immediate_exit, then read the state,
 * against: write the state, then set immediate_exit) is what makes a kick impossible
 * to miss.  The signal alone could come just before KVM_RUN and be lost; its handler
 * sets immediate_exit too, but the kicker does already.
 *
 * Failure: what KVM cannot go on with ends the machine (vm_end()) with a reason; the
 * process never ends here.
 */
#include "vmm/vcpu.h"

#include <assert.h>
#include <errno.h>
#include <linux/kvm.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/mem.h"
#include "vmm/bus.h"
#include "vmm/confine.h"
#include "vmm/trace.h"
#include "vmm/vm.h"

#define VCPU_KICK_SIGNAL SIGUSR1
/* A vCPU's deepest call is an error message of a device; address space, not memory. */
#define VCPU_STACK_BYTES (128u << 10)

static void vcpu_on_kick(int sig)
{
	(void)sig; /* that KVM_RUN returns is all that is wanted */
}

int vcpu_prepare_signals(struct err *e)
{
	struct sigaction sa = { .sa_handler = vcpu_on_kick };

	if (sigaction(VCPU_KICK_SIGNAL, &sa, NULL) < 0)
		return err_errno(e, errno, "sigaction");
	return 0;
}

int vcpu_create(struct vcpu *c, struct vm *vm, unsigned id, struct err *e)
{
	void *run;
	int fd = ioctl(vm->vm_fd, KVM_CREATE_VCPU, (unsigned long)id);

	if (fd < 0)
		return err_errno(e, errno, "KVM_CREATE_VCPU %u", id);
	run = mmap(NULL, vm->vcpu_run_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (run == MAP_FAILED) {
		int code = errno;

		close(fd);
		return err_errno(e, code, "vCPU %u: map its shared page", id);
	}
	*c = (struct vcpu){
		.vm = vm,
		.id = id,
		.fd = fd,
		.run = run,
		.run_bytes = vm->vcpu_run_bytes,
	};
	return 0;
}

static void vcpu_internal_error(struct vcpu *c)
{
	const struct kvm_run *run = c->run;
	char code[64] = "";
	unsigned n = 0;

	/* The instruction, where KVM tells it (KVM_INTERNAL_ERROR_EMULATION_FLAG_…). */
	if (run->internal.suberror == KVM_INTERNAL_ERROR_EMULATION &&
	    run->emulation_failure.ndata >= 3 &&
	    run->emulation_failure.flags & KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES) {
		n = run->emulation_failure.insn_size;
		if (n > sizeof(run->emulation_failure.insn_bytes))
			n = sizeof(run->emulation_failure.insn_bytes);
	}
	for (unsigned i = 0; i < n; i++)
		snprintf(code + 3 * i, sizeof(code) - 3 * i, " %02x",
			 run->emulation_failure.insn_bytes[i]);
	vm_end(c->vm, VM_END_KVM,
	       "this host's KVM cannot run the guest's code (vCPU %u: KVM_EXIT_INTERNAL_ERROR "
	       "%u%s%s); "
	       "see `msb doctor`",
	       c->id, run->internal.suberror, n ? ", instruction" : "", code);
}

/* Handles the exit. Return: does this CPU go on? */
static bool vcpu_handle_exit(struct vcpu *c)
{
	struct kvm_run *run = c->run;

	switch (run->exit_reason) {
	case KVM_EXIT_IO:
		/* KVM's own bound; it keeps @data within the shared pages. */
		assert(run->io.data_offset + (uint64_t)run->io.size * run->io.count <= c->run_bytes);
		return bus_pio(c->vm, run->io.port, (uint8_t *)run + run->io.data_offset,
			       run->io.size, run->io.count, run->io.direction == KVM_EXIT_IO_OUT);
	case KVM_EXIT_MMIO:
		assert(run->mmio.len <= sizeof(run->mmio.data));
		bus_mmio(c->vm, run->mmio.phys_addr, run->mmio.data, run->mmio.len,
			 run->mmio.is_write);
		return true;
	case KVM_EXIT_INTR:
	case KVM_EXIT_IRQ_WINDOW_OPEN:
		return true;
	case KVM_EXIT_SHUTDOWN:
		vm_end(c->vm, VM_END_CRASH, "the guest crashed: triple fault on CPU %u", c->id);
		return false;
	case KVM_EXIT_SYSTEM_EVENT:
		vm_end(c->vm,
		       run->system_event.type == KVM_SYSTEM_EVENT_CRASH ? VM_END_CRASH
									: VM_END_RESET,
		       "%s",
		       run->system_event.type == KVM_SYSTEM_EVENT_CRASH ? "the guest crashed" : "");
		return false;
	case KVM_EXIT_INTERNAL_ERROR:
		vcpu_internal_error(c);
		return false;
	case KVM_EXIT_FAIL_ENTRY:
		vm_end(c->vm, VM_END_KVM,
		       "this host's KVM cannot enter the guest (vCPU %u: KVM_EXIT_FAIL_ENTRY, "
		       "hardware reason 0x%llx); see `msb doctor`",
		       c->id, (unsigned long long)run->fail_entry.hardware_entry_failure_reason);
		return false;
	default:
		vm_end(c->vm, VM_END_KVM, "vCPU %u: KVM exit %u, which msb-vmm does not know",
		       c->id, run->exit_reason);
		return false;
	}
}

/*
 * KVM_RUN said EINTR: no exit is half done.  Parks while the machine is paused.
 * Return: does this CPU go on?
 */
static bool vcpu_interrupted(struct vcpu *c)
{
	struct vm *vm = c->vm;
	bool go;

	pthread_mutex_lock(&vm->lock);
	__atomic_store_n(&c->run->immediate_exit, 0, __ATOMIC_RELAXED); /* the lock orders it */
	if (vm->state == VM_PAUSED) {
		vm->parked++;
		pthread_cond_broadcast(&vm->changed);
		while (vm->state == VM_PAUSED)
			pthread_cond_wait(&vm->changed, &vm->lock);
		vm->parked--;
		pthread_cond_broadcast(&vm->changed);
	}
	go = vm->state == VM_RUNNING;
	pthread_mutex_unlock(&vm->lock);
	return go;
}

static void vcpu_run_failed(struct vcpu *c, int code)
{
	switch (code) {
	case EFAULT:
		vm_end(c->vm, VM_END_HOST,
		       "vCPU %u: guest memory cannot be reached: was the snapshot's memory file "
		       "changed, or is the host out of memory?",
		       c->id);
		break;
	case ENOMEM:
		vm_end(c->vm, VM_END_HOST, "vCPU %u: the host is out of memory", c->id);
		break;
	default:
		vm_end(c->vm, VM_END_HOST, "vCPU %u: KVM_RUN: %s", c->id, strerror(code));
	}
}

static void *vcpu_thread(void *arg)
{
	struct vcpu *c = arg;
	struct err e = ERR_INIT;
	bool go;

	/* Who kicks before that finds the state changed, when it parks. */
	pthread_mutex_lock(&c->vm->lock);
	c->tid = gettid();
	pthread_mutex_unlock(&c->vm->lock);
	if (vmm_confine_vcpu(c->vm->cfg.seccomp_log, &e)) {
		vm_end(c->vm, VM_END_HOST, "vCPU %u: %s", c->id, err_text(&e));
		return NULL;
	}
	go = vcpu_interrupted(c);
	trace_point(TRACE_RUN, c->id);
	while (go) {
		if (!ioctl(c->fd, KVM_RUN, 0))
			go = vcpu_handle_exit(c);
		else if (errno == EINTR)
			go = vcpu_interrupted(c);
		else if (errno != EAGAIN) { /* EAGAIN: a CPU that waited for its INIT got it */
			vcpu_run_failed(c, errno);
			go = false;
		}
	}
	return NULL;
}

int vcpu_start(struct vcpu *c, struct err *e)
{
	pthread_attr_t attr;
	int rc;

	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, VCPU_STACK_BYTES);
	rc = pthread_create(&c->thread, &attr, vcpu_thread, c);
	pthread_attr_destroy(&attr);
	if (rc)
		return err_errno(e, rc, "thread of vCPU %u", c->id);
	c->started = true;
	return 0;
}

void vcpu_kick(struct vcpu *c)
{
	if (!c->started)
		return;
	__atomic_store_n(&c->run->immediate_exit, 1, __ATOMIC_RELAXED);
	/* Not pthread_kill(): musl's names the thread alone, which a seccomp list cannot bind. */
	if (c->tid)
		syscall(SYS_tgkill, getpid(), c->tid, VCPU_KICK_SIGNAL);
}

void vcpu_join(struct vcpu *c)
{
	if (c->started)
		pthread_join(c->thread, NULL);
	c->started = false;
}

void vcpu_destroy(struct vcpu *c)
{
	if (c->run)
		munmap(c->run, c->run_bytes);
	c->run = NULL;
	close_fd(&c->fd);
}
