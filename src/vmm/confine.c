/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DOC: Theory of operation
 *
 * Purpose
 *   What each thread of msb-vmm may ask of the kernel once a guest runs.  The jail around
 *   the process (sys/jail.h) is there before; this is the inner wall, and the narrower one.
 *
 * Trust boundary
 *   After these calls the threads handle what the guest sends, and are assumed to be
 *   taken over by it sooner or later.
 *
 * States
 *   Stage 1, parent (engine/kvm.c): opens /dev/kvm, disks, sockets, snapshot files.
 *     Should: hand over each as a descriptor, put the process in a jail whose root holds
 *     the program alone.
 *     Mustn't: hand over a directory, or a descriptor that the VM does not need.
 *   Stage 2, main(): makes the machine in KVM, maps memory, loads kernel or snapshot.
 *     Should: do all that needs other calls than those below, start all threads.
 *     Mustn't: let the guest run, or read what a guest wrote but a checked snapshot.
 *   Stage 3, each thread: confines itself, vmm_confine_vcpu() and vmm_confine_disk() as
 *   the first thing, vmm_confine_io() as the last one before the guest's first instruction.
 *     Should: be left with what a running machine needs, its snapshot and its end.
 *     Mustn't: be able to get a descriptor, a thread, a process, a namespace, executable
 *     memory, or a machine's new part in KVM.
 *   No thread starts after stage 3, and none of them runs without a list.
 *
 * Failure
 *   A call that is not listed kills the process, as a crash of the VM: the supervisor sees
 *   SIGSYS, the kernel's log has the number.  To extend a list: --seccomp-log lets
 *   everything pass and the kernel log it (dmesg: type=1326, syscall=N).
 *
 * Limits
 *   A filter sees numbers, not what a pointer points to; which descriptor is meant, it
 *   sees, but the numbers are not known beforehand.  So, for example, ioctl() is bound to
 *   its request, not to the descriptor.  musl's abort() names a thread without a process
 *   (tkill), which no rule can bind to our own: a broken assertion, whose message comes
 *   first, ends by SIGSYS too.
 */
#include "vmm/confine.h"

#include <assert.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <linux/kvm.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/mem.h"
#include "sys/jail.h"

#define LOW32 0xffffffffull
#define ALL64 UINT64_MAX

/* The operation of a futex without its flags; the others wait with priorities or requeue. */
#define CONFINE_FUTEX (LOW32 & ~(uint64_t)(FUTEX_PRIVATE_FLAG | FUTEX_CLOCK_REALTIME))

/* An ioctl of KVM that may be made. */
#define KVM(request, why) \
	{ \
		SYS_ioctl, why, 1, LOW32, KVM_##request \
	}

/* Of every thread: locks, the log, the end. */
#define CONFINE_COMMON \
	{ SYS_futex, "wait for a lock or condition", 1, CONFINE_FUTEX, FUTEX_WAIT }, \
		{ SYS_futex, "as FUTEX_WAIT, conditions", 1, CONFINE_FUTEX, FUTEX_WAIT_BITSET }, \
		{ SYS_futex, "musl: wake who waits, the others on a lock", 1, CONFINE_FUTEX, \
		  FUTEX_REQUEUE }, \
		{ SYS_futex, "wake who waits", 1, CONFINE_FUTEX, FUTEX_WAKE }, \
		{ SYS_write, "ring an eventfd; the log" }, \
		{ SYS_clock_gettime, "time, where the vDSO has none" }, \
		{ SYS_restart_syscall, "a wait goes on after a stop" }, \
		{ SYS_rt_sigprocmask, "libc: send a signal, end a thread" }, \
		{ SYS_rt_sigreturn, "return from a handler" }, \
		{ SYS_getpid, "libc: the target of a signal" }, \
		{ SYS_gettid, "libc: the target of abort()" }, \
		{ SYS_tgkill, "kick a CPU; abort()", 0, LOW32, CONFINE_OWN_PID }, \
		{ SYS_rt_sigaction, "abort()", 0, LOW32, SIGABRT }, \
		{ SYS_writev, "libc: its last words" }, \
		{ SYS_madvise, "free(); the balloon", 2, LOW32, MADV_DONTNEED }, \
		{ SYS_madvise, "musl: free()", 2, LOW32, MADV_FREE }, { SYS_munmap, "free()" }, \
		{ SYS_brk, "malloc() and free()" }, \
		{ SYS_mmap, "malloc(): private memory", 2, LOW32 & ~3ull, 0 }, \
		{ SYS_mremap, "realloc()" }, \
		{ SYS_mprotect, "malloc(): no code", 2, LOW32 & ~3ull, 0 }, \
		{ SYS_exit, "end of the thread" }, \
	{ \
		SYS_exit_group, "end of the process" \
	}

/* Stands for the number of this process, which is not known before it runs. */
#define CONFINE_OWN_PID 0x7fffffff

static const struct jail_syscall confine_io[] = {
	CONFINE_COMMON,

	/* The loop and its sources. */
	{ SYS_epoll_wait, "the loop" },
	{ SYS_epoll_pwait, "(epoll_wait)" },
	{ SYS_epoll_ctl, "what the loop waits for" },
	{ SYS_read, "eventfds" },
	{ SYS_recvmsg, "console, ports, control socket" },
	{ SYS_sendmsg, "console, ports, network" },
	{ SYS_recvfrom, "network", 4, ALL64, 0 },
	{ SYS_sendto, "control socket", 4, ALL64, 0 },
	{ SYS_close, "descriptors that came with a request; the end" },

	/* Devices. */
	{ SYS_getrandom, "the entropy device" },
	{ SYS_preadv2, "disks: what is in the page cache" },
	{ SYS_preadv, "(preadv2)" },

	/* A snapshot's files, which come by the control socket. */
	{ SYS_pwrite64, "write them" },
	{ SYS_ftruncate, "set their size" },
	{ SYS_fcntl, "may they be written", 1, LOW32, F_GETFL },
	{ SYS_fcntl, "are they sealed", 1, LOW32, F_GET_SEALS },
	{ SYS_newfstatat, "fstat(): their kind", 3, LOW32, AT_EMPTY_PATH },
	{ SYS_fstat, "(newfstatat)" },
	{ SYS_fsync, "keep them" },
	{ SYS_fdatasync, "keep them" },

	/* A snapshot's state. */
	KVM(CHECK_EXTENSION, "the size of a CPU's state"),
	KVM(GET_MSR_INDEX_LIST, "which MSRs there are"),
	KVM(GET_IRQCHIP, "snapshot"),
	KVM(GET_CLOCK, "snapshot"),
	KVM(GET_MP_STATE, "snapshot"),
	KVM(GET_REGS, "snapshot"),
	KVM(GET_SREGS, "snapshot"),
	KVM(GET_XSAVE, "snapshot"),
	KVM(GET_XSAVE2, "snapshot"),
	KVM(GET_XCRS, "snapshot"),
	KVM(GET_DEBUGREGS, "snapshot"),
	KVM(GET_LAPIC, "snapshot"),
	KVM(GET_TSC_KHZ, "snapshot"),
	KVM(GET_CPUID2, "snapshot"),
	KVM(GET_MSRS, "snapshot"),
	KVM(GET_VCPU_EVENTS, "snapshot"),
	KVM(KVMCLOCK_CTRL, "tell the guest that it was stopped"),
	{ JAIL_SYSCALL_END },
};

static const struct jail_syscall confine_vcpu[] = {
	CONFINE_COMMON,
	KVM(RUN, "run the guest"),
	{ SYS_epoll_ctl, "a device that was reset is not waited for" },
	{ JAIL_SYSCALL_END },
};

static const struct jail_syscall confine_disk[] = {
	CONFINE_COMMON,
	{ SYS_preadv2, "read" },
	{ SYS_preadv, "(preadv2)" },
	{ SYS_pwritev2, "write" },
	{ SYS_pwritev, "(pwritev2)" },
	{ SYS_fdatasync, "flush" },
	{ SYS_fallocate, "discard" },
	{ JAIL_SYSCALL_END },
};

#define CONFINE_MAX 80

static_assert(ARRAY_SIZE(confine_io) <= CONFINE_MAX, "CONFINE_MAX");

static int confine_thread(const struct jail_syscall *list, size_t n, bool log_only, struct err *e)
{
	struct jail_syscall own[CONFINE_MAX];

	memcpy(own, list, n * sizeof(own[0]));
	for (size_t i = 0; i < n; i++)
		if (own[i].nr == SYS_tgkill)
			own[i].value = (uint64_t)getpid();
	return jail_seccomp_thread(own, log_only, e);
}

int vmm_confine_io(bool log_only, struct err *e)
{
	return confine_thread(confine_io, ARRAY_SIZE(confine_io), log_only, e);
}

int vmm_confine_vcpu(bool log_only, struct err *e)
{
	return confine_thread(confine_vcpu, ARRAY_SIZE(confine_vcpu), log_only, e);
}

int vmm_confine_disk(bool log_only, struct err *e)
{
	return confine_thread(confine_disk, ARRAY_SIZE(confine_disk), log_only, e);
}
