/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DOC: Theory of operation
 *
 * Purpose
 *   Finds out what /dev/kvm is worth: does a VM run a kernel's instructions, at the
 *   processor's speed?  Seen: a device that answers every request, whose guests' ring 3
 *   runs natively, and whose ring 0 is interpreted, a thousand times slower, by an
 *   interpreter that does not know all instructions.
 *
 * How it judges
 *   The same loop, byte for byte, is run by ourselves and by the guest, and both are
 *   timed by the processor time of the thread.  Only the ratio counts, so a slow machine
 *   is no slow KVM: with KVM inside an emulated machine both are slow alike.  The figures
 *   are in docs/vmm-start.md.
 *
 * Trust boundary
 *   The guest's code is our own.  KVM, and what is under it, may do anything but write
 *   outside of what it was given: it may hang, lie or return nonsense.
 *
 * States
 *   child: request after request to KVM, then the guest from mark to mark; each step is
 *   noted in memory shared with the parent before it is taken.  A timer of its own
 *   processor time ends it.  parent: waits for the child's end, reads the notes.
 *
 * Failure
 *   A child that could not even be killed (stuck in the kernel) is left behind after
 *   PROBE_WALL_MS; it is killed as soon as the kernel lets go of it, and holds nothing
 *   of ours but /dev/kvm.
 *
 * Limits
 *   x86-64.  Between fork and its end the child makes system calls only.
 */
#include "engine/probe_vm.h"

#include <errno.h>
#include <linux/kvm.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>

#include "base/mem.h"
#include "engine/probe_guest.h"

/*
 * A guest that needs more than this many times our own time for the loop is
 * interpreted.  Measured: 0.5 to 1.1 in an emulated machine with nested SVM (there the
 * first run, all caches cold, takes 2000: hence the best of three), 1490 to 2050 when
 * interpreted.
 */
#define PROBE_RATIO_MAX 40

/*
 * And beyond this there is no doubt.  Between both, a hypervisor below us may have taken
 * the processor away: that time counts as ours.  Seen in an emulated machine on a busy one.
 */
#define PROBE_RATIO_SURE 600

/*
 * The processor time that the guest may take for its next loop, or for what is left after
 * them: a loop at the speed of an interpreter, and some times what the child took up to
 * now, which is a measure of how slow the machine is.  Then the kernel kills the child by
 * SIGPROF.
 */
#define PROBE_RUN_US 5000
#define PROBE_RUN_PER_CREATE 4

/* However busy the machine is, that is the end. */
#define PROBE_WALL_MS 2000

#define PROBE_TSS 0xfffbd000u /* three unused pages, wanted by Intel's virtualization */
#define PROBE_CPUID_MAX 256

const struct probe_guest probe_vm_guest = {
	.start = probe_guest_start,
	.end = probe_guest_end,
	.breakpoint = probe_guest_breakpoint,
	.page_fault = probe_guest_page_fault,
};

/* Shared by parent and child. */
struct probe_notes {
	struct probe_report report;
	uint64_t sums[PROBE_GUEST_LOOPS]; /* the loop's checksums, as the host got them */
};

/* The child's VM. */
struct probe_vm {
	struct probe_notes *notes;
	int kvm, vm, vcpu;
	uint8_t *mem;
	struct kvm_run *run;
	uint32_t xcr0; /* XSAVE components that the guest is to use */
	unsigned loops; /* checksums that came */
	uint64_t loop_ns; /* the last run's time, exit included */
};

bool probe_vm_interpreted(const struct probe_report *r)
{
	return r->guest_loop_ns > PROBE_RATIO_MAX * r->host_loop_ns;
}

bool probe_vm_doubtful(const struct probe_report *r)
{
	return r->timed_out ||
	       (probe_vm_interpreted(r) && r->guest_loop_ns < PROBE_RATIO_SURE * r->host_loop_ns);
}

double probe_vm_mips(const struct probe_report *r)
{
	double insns = (double)PROBE_GUEST_ROUNDS * PROBE_GUEST_LOOP_INSNS;

	return r->guest_loop_ns ? insns * 1000 / (double)r->guest_loop_ns : 0;
}

static uint64_t probe_clock_ns(clockid_t clock)
{
	struct timespec t;

	clock_gettime(clock, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

static uint64_t probe_min(uint64_t a, uint64_t b)
{
	return a && a < b ? a : b;
}

/* ---- child: system calls only ------------------------------------------ */

/* The loop at our own speed, each time with the memory that the last one left. */
static void probe_host_loop(struct probe_notes *n)
{
	uint64_t words[64] = { 0 }, best = 0;

	for (int i = 0; i < PROBE_GUEST_LOOPS; i++) {
		uint64_t from = probe_clock_ns(CLOCK_THREAD_CPUTIME_ID), took;

		n->sums[i] = probe_guest_loop(words, PROBE_GUEST_ROUNDS);
		took = probe_clock_ns(CLOCK_THREAD_CPUTIME_ID) - from;
		best = probe_min(best, took ? took : 1);
	}
	n->report.host_loop_ns = best;
}

static void probe_write64(struct probe_vm *p, uint64_t gpa, uint64_t value)
{
	memcpy(p->mem + gpa, &value, sizeof(value));
}

/* A 64-bit interrupt gate, APM volume 2 §4.8.4. */
static void probe_gate(struct probe_vm *p, unsigned vector, uint64_t handler)
{
	uint64_t at = PROBE_GUEST_IDT + vector * 16;

	probe_write64(p, at,
		      (handler & 0xffff) | (uint64_t)PROBE_GUEST_CS << 16 | 0x8eull << 40 |
			      (handler & 0xffff0000) << 32);
	probe_write64(p, at + 8, handler >> 32);
}

static void probe_fill_memory(struct probe_vm *p, const struct probe_guest *g)
{
	const uint64_t present = 0x3, large = 0x83; /* writable */

	memcpy(p->mem + PROBE_GUEST_CODE, g->start, (size_t)(g->end - g->start));
	probe_write64(p, PROBE_GUEST_PML4, PROBE_GUEST_PDPT | present);
	probe_write64(p, PROBE_GUEST_PDPT, PROBE_GUEST_PD | present);
	probe_write64(p, PROBE_GUEST_PDPT + 3 * 8, PROBE_GUEST_PD_HIGH | present);
	probe_write64(p, PROBE_GUEST_PD, large);
	probe_write64(p, PROBE_GUEST_PD + (PROBE_GUEST_WINDOW >> 21) * 8, PROBE_GUEST_PT | present);
	/* Device registers: uncached (PCD, PWT). */
	probe_write64(p, PROBE_GUEST_PD_HIGH + (PROBE_GUEST_MMIO >> 21 & 511) * 8,
		      PROBE_GUEST_MMIO | large | 0x18);
	probe_write64(p, PROBE_GUEST_PD_HIGH + (PROBE_GUEST_APIC >> 21 & 511) * 8,
		      (PROBE_GUEST_APIC & ~0x1fffffull) | large | 0x18);
	probe_write64(p, PROBE_GUEST_GDT + PROBE_GUEST_CS, 0x00af9b000000ffff);
	probe_write64(p, PROBE_GUEST_GDT + PROBE_GUEST_DS, 0x00cf93000000ffff);
	if (!g->breakpoint)
		return;
	probe_gate(p, 3, PROBE_GUEST_CODE + (uint64_t)(g->breakpoint - g->start));
	probe_gate(p, 14, PROBE_GUEST_CODE + (uint64_t)(g->page_fault - g->start));
}

static void probe_step(struct probe_vm *p, enum probe_step step)
{
	p->notes->report.step = step;
}

static int probe_request(struct probe_vm *p, int fd, unsigned long request, void *arg)
{
	int rc = ioctl(fd, request, arg);

	if (rc < 0)
		p->notes->report.err = errno;
	return rc;
}

static int probe_create(struct probe_vm *p, const struct probe_guest *g)
{
	struct kvm_userspace_memory_region slot = { .memory_size = PROBE_GUEST_BYTES };
	int run_size;

	probe_step(p, PROBE_STEP_CREATE_VM);
	p->vm = probe_request(p, p->kvm, KVM_CREATE_VM, NULL);
	if (p->vm < 0)
		return -1;
	probe_step(p, PROBE_STEP_IRQCHIP);
	if (probe_request(p, p->vm, KVM_SET_TSS_ADDR, (void *)(uintptr_t)PROBE_TSS) < 0 ||
	    probe_request(p, p->vm, KVM_CREATE_IRQCHIP, NULL) < 0)
		return -1;
	probe_step(p, PROBE_STEP_MEMORY);
	p->mem = mmap(NULL, PROBE_GUEST_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
		      -1, 0);
	if (p->mem == MAP_FAILED) {
		p->notes->report.err = errno;
		return -1;
	}
	probe_fill_memory(p, g);
	slot.userspace_addr = (uintptr_t)p->mem;
	if (probe_request(p, p->vm, KVM_SET_USER_MEMORY_REGION, &slot) < 0)
		return -1;
	probe_step(p, PROBE_STEP_VCPU);
	p->vcpu = probe_request(p, p->vm, KVM_CREATE_VCPU, NULL);
	run_size = probe_request(p, p->kvm, KVM_GET_VCPU_MMAP_SIZE, NULL);
	if (p->vcpu < 0 || run_size < 0)
		return -1;
	p->run = mmap(NULL, (size_t)run_size, PROT_READ | PROT_WRITE, MAP_SHARED, p->vcpu, 0);
	if (p->run == MAP_FAILED) {
		p->notes->report.err = errno;
		return -1;
	}
	return 0;
}

/* All that this KVM can do.  Finds out which XSAVE components the guest may use. */
static int probe_set_cpuid(struct probe_vm *p)
{
	union {
		struct kvm_cpuid2 head;
		uint8_t bytes[sizeof(struct kvm_cpuid2) +
			      PROBE_CPUID_MAX * sizeof(struct kvm_cpuid_entry2)];
	} c;
	struct kvm_xcrs xcrs = { .nr_xcrs = 1 };

	probe_step(p, PROBE_STEP_CPUID);
	memset(&c, 0, sizeof(c));
	c.head.nent = PROBE_CPUID_MAX;
	if (probe_request(p, p->kvm, KVM_GET_SUPPORTED_CPUID, &c.head) < 0)
		return -1;
	for (uint32_t i = 0; i < c.head.nent && i < PROBE_CPUID_MAX; i++) {
		const struct kvm_cpuid_entry2 *leaf = &c.head.entries[i];

		if (leaf->function == 0xd && !leaf->index)
			p->xcr0 = leaf->eax & 7; /* x87, SSE, AVX */
	}
	xcrs.xcrs[0].value = p->xcr0;
	if (probe_request(p, p->vcpu, KVM_SET_CPUID2, &c.head) < 0)
		return -1;
	/*
	 * What the guest is going to set itself.  QEMU's emulation of nested SVM (7.2) does
	 * not tell KVM of a guest's XSETBV, so KVM would put the old value back.
	 */
	return probe_request(p, p->vcpu, KVM_SET_XCRS, &xcrs);
}

/* Long mode, ring 0, paging on, interrupts off: APM volume 2 §14.6. */
static int probe_set_registers(struct probe_vm *p)
{
	struct kvm_segment code = { .limit = 0xffffffff,
				    .selector = PROBE_GUEST_CS,
				    .type = 0xb,
				    .present = 1,
				    .s = 1,
				    .l = 1,
				    .g = 1 };
	struct kvm_segment data = { .limit = 0xffffffff,
				    .selector = PROBE_GUEST_DS,
				    .type = 0x3,
				    .present = 1,
				    .s = 1,
				    .db = 1,
				    .g = 1 };
	struct kvm_regs regs = {
		.rip = PROBE_GUEST_CODE, .rsp = PROBE_GUEST_STACK, .rflags = 2, .r15 = p->xcr0
	};
	struct kvm_sregs s;

	probe_step(p, PROBE_STEP_REGISTERS);
	if (probe_request(p, p->vcpu, KVM_GET_SREGS, &s) < 0)
		return -1;
	s.cs = code;
	s.ds = s.es = s.fs = s.gs = s.ss = data;
	s.gdt.base = PROBE_GUEST_GDT;
	s.gdt.limit = PROBE_GUEST_DS + 7;
	s.idt.base = PROBE_GUEST_IDT;
	s.idt.limit = 32 * 16 - 1;
	s.cr3 = PROBE_GUEST_PML4;
	s.cr4 = 1u << 5; /* PAE */
	s.cr0 = 1u << 31 | 1u << 0 | 1u << 4; /* PG, PE, ET */
	s.efer = 1u << 8 | 1u << 10; /* LME, LMA */
	if (probe_request(p, p->vcpu, KVM_SET_SREGS, &s) < 0)
		return -1;
	return probe_request(p, p->vcpu, KVM_SET_REGS, &regs);
}

/* SIGPROF at the end of the guest's time, from now on. */
static int probe_limit(struct probe_vm *p)
{
	uint64_t us = PROBE_RUN_US +
		      PROBE_RUN_PER_CREATE * (probe_clock_ns(CLOCK_THREAD_CPUTIME_ID) / 1000);
	struct itimerval t = { .it_value = { (time_t)(us / 1000000), (suseconds_t)(us % 1000000) } };
	sigset_t prof;

	signal(SIGPROF, SIG_DFL);
	sigemptyset(&prof);
	sigaddset(&prof, SIGPROF);
	if (sigprocmask(SIG_UNBLOCK, &prof, NULL) < 0 || setitimer(ITIMER_PROF, &t, NULL) < 0) {
		p->notes->report.err = errno;
		return -1;
	}
	return 0;
}

/* The guest has run from one mark to the next for @took. Return: goes it on? */
static bool probe_marked(struct probe_vm *p, unsigned mark, uint64_t took)
{
	struct probe_report *r = &p->notes->report;

	if (mark == PROBE_MARK_LOOP)
		r->exit_ns = probe_min(r->exit_ns, took ? took : 1);
	if (mark == PROBE_MARK_LOOP_END) {
		uint64_t loop = took > r->exit_ns ? took - r->exit_ns : 1;

		r->guest_loop_ns = probe_min(r->guest_loop_ns, loop);
		/* It does not hang: it gets time for what is left, by its own speed. */
		if (probe_limit(p) < 0)
			return false;
	}
	r->passed = mark == PROBE_MARK_DONE;
	r->wrong = mark == PROBE_MARK_WRONG;
	if (!r->wrong)
		r->mark = mark;
	/* Interpreted code has nothing more to prove. */
	if (mark == PROBE_MARK_CONTROL && probe_vm_interpreted(r))
		return false;
	return !r->passed && !r->wrong;
}

/* An access that our guest does not make, or with another value. */
static bool probe_wrong(struct probe_vm *p)
{
	p->notes->report.wrong = true;
	return false;
}

static bool probe_port(struct probe_vm *p, uint64_t took)
{
	const struct kvm_run *run = p->run;
	uint32_t value = PROBE_GUEST_ANSWER;
	uint8_t *data = (uint8_t *)p->run + run->io.data_offset;
	bool out = run->io.direction == KVM_EXIT_IO_OUT;
	unsigned size = run->io.count == 1 ? run->io.size : 0;

	if (out && run->io.port == PROBE_GUEST_PORT_MARK && size == 1)
		return probe_marked(p, *data, took);
	if (out && run->io.port == PROBE_GUEST_PORT_SUM && size == 4 &&
	    p->loops < PROBE_GUEST_LOOPS) {
		memcpy(&value, data, sizeof(value));
		return value == (uint32_t)p->notes->sums[p->loops++] || probe_wrong(p);
	}
	if (out || run->io.port != PROBE_GUEST_PORT_ASK || size != 4)
		return probe_wrong(p);
	memcpy(data, &value, sizeof(value));
	return true;
}

static bool probe_mmio(struct probe_vm *p)
{
	struct kvm_run *run = p->run;
	uint64_t at = run->mmio.phys_addr - PROBE_GUEST_MMIO;
	uint32_t value = PROBE_GUEST_ANSWER;

	if (run->mmio.len != 4 || at != (run->mmio.is_write ? 4 : 0))
		return probe_wrong(p);
	if (!run->mmio.is_write) {
		memcpy(run->mmio.data, &value, sizeof(value));
		return true;
	}
	memcpy(&value, run->mmio.data, sizeof(value));
	return value == PROBE_GUEST_ANSWER + 1u || probe_wrong(p);
}

static void probe_note_end(struct probe_vm *p)
{
	struct probe_report *r = &p->notes->report;
	const struct kvm_run *run = p->run;

	r->ended = true;
	r->exit_reason = run->exit_reason;
	if (run->exit_reason == KVM_EXIT_INTERNAL_ERROR)
		r->exit_detail = run->internal.suberror;
	else if (run->exit_reason == KVM_EXIT_FAIL_ENTRY)
		r->exit_detail = (uint32_t)run->fail_entry.hardware_entry_failure_reason;
}

static void probe_run(struct probe_vm *p)
{
	bool more = true;

	probe_step(p, PROBE_STEP_RUN);
	if (probe_limit(p) < 0)
		return;
	while (more) {
		uint64_t from = probe_clock_ns(CLOCK_THREAD_CPUTIME_ID), took;

		if (ioctl(p->vcpu, KVM_RUN, NULL) < 0) {
			if (errno == EINTR || errno == EAGAIN)
				continue;
			p->notes->report.err = errno;
			return;
		}
		took = probe_clock_ns(CLOCK_THREAD_CPUTIME_ID) - from;
		if (p->run->exit_reason == KVM_EXIT_IO) {
			more = probe_port(p, took);
		} else if (p->run->exit_reason == KVM_EXIT_MMIO) {
			more = probe_mmio(p);
		} else {
			probe_note_end(p);
			more = false;
		}
	}
}

static _Noreturn void probe_child(int kvm_fd, const struct probe_guest *g, struct probe_notes *n)
{
	struct probe_vm p = { .notes = n, .kvm = kvm_fd };

	prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
	probe_host_loop(n);
	if (probe_create(&p, g) == 0 && probe_set_cpuid(&p) == 0 && probe_set_registers(&p) == 0)
		probe_run(&p);
	_exit(0);
}

/* ---- parent ------------------------------------------------------------ */

static void probe_reap(pid_t pid, int pidfd, struct probe_report *r)
{
	struct pollfd p = { .fd = pidfd, .events = POLLIN };
	int status = 0;

	for (int i = 0; i < 2; i++) {
		uint64_t end = probe_clock_ns(CLOCK_MONOTONIC) + PROBE_WALL_MS * 1000000ull, now;

		while (!p.revents && (now = probe_clock_ns(CLOCK_MONOTONIC)) < end)
			poll(&p, 1, (int)((end - now) / 1000000) + 1);
		if (p.revents)
			break;
		kill(pid, SIGKILL);
	}
	if (p.revents)
		while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
			;
	r->timed_out = !p.revents || WIFSIGNALED(status);
}

static pid_t probe_fork(int kvm_fd, const struct probe_guest *g, struct probe_notes *n)
{
	sigset_t all, old;
	pid_t pid;

	/* Nobody's handler runs in the child. */
	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, &old);
	pid = fork();
	if (pid == 0)
		probe_child(kvm_fd, g, n);
	sigprocmask(SIG_SETMASK, &old, NULL);
	return pid;
}

int probe_vm_run(int kvm_fd, const struct probe_guest *guest, struct probe_report *out,
		 struct err *e)
{
	uint64_t from = probe_clock_ns(CLOCK_MONOTONIC);
	struct probe_notes *n;
	auto_close int pidfd = -1;
	int rc = 0;
	pid_t pid;

	if (guest->end - guest->start > PROBE_GUEST_CODE_MAX)
		return err_set(e, EINVAL, "probe: the guest's code is too long");
	n = mmap(NULL, sizeof(*n), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (n == MAP_FAILED)
		return err_errno(e, errno, "cannot try out /dev/kvm: memory");
	pid = probe_fork(kvm_fd, guest, n);
	if (pid > 0)
		pidfd = pidfd_open(pid, 0);
	if (pid < 0 || pidfd < 0) {
		rc = err_errno(e, errno, "cannot try out /dev/kvm: start a process");
		if (pid > 0) {
			kill(pid, SIGKILL);
			waitpid(pid, NULL, 0);
		}
	} else {
		probe_reap(pid, pidfd, &n->report);
		n->report.total_ns = probe_clock_ns(CLOCK_MONOTONIC) - from;
		*out = n->report;
	}
	munmap(n, sizeof(*n));
	return rc;
}
