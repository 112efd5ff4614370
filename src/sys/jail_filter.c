/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DOC: Theory of operation
 *
 * Purpose
 *   The system calls that no jailed program of ours has any use for, refused
 *   before it starts.  It is the floor under the list that each program installs
 *   for itself (jail_seccomp(), QEMU's -sandbox): it also holds for the code that
 *   runs before that list, for programs that are not ours, and in a reduced jail.
 *
 * Spec
 *   seccomp(2), filter mode: classic BPF over struct seccomp_data.
 *
 * Failure
 *   A refused call fails with EPERM, as without the privilege for it, so that a
 *   program that only tries its luck goes on.  clone3 fails with ENOSYS, because
 *   its flags are in memory where a filter cannot look; C libraries then use clone.
 *   Another architecture's call kills: its numbers would mean other things.
 */
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <errno.h>

#include "base/mem.h"
#include "sys/jail_internal.h"

#if defined(__x86_64__)
#define JAIL_AUDIT_ARCH AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define JAIL_AUDIT_ARCH AUDIT_ARCH_AARCH64
#else
#error "jail_filter.c: name the audit architecture of this machine"
#endif

#define JAIL_X32_BIT 0x40000000u

#define JAIL_CLONE_NEW \
	(CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | \
	 CLONE_NEWCGROUP)

#define LOAD(field) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, field))
#define RETURN(action) BPF_STMT(BPF_RET | BPF_K, (action))
#define FAIL(code) RETURN(SECCOMP_RET_ERRNO | (code))
/* The next instruction runs only if the loaded number is @nr. */
#define IF_CALL(nr) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (nr), 0, 1)
#define REFUSE(name) IF_CALL(__NR_##name), FAIL(EPERM)

/* The kernel remembers calls that always pass, so the length costs nothing. */
static struct sock_filter jail_floor[] = {
	LOAD(arch),
	BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, JAIL_AUDIT_ARCH, 1, 0),
	RETURN(SECCOMP_RET_KILL_PROCESS),
	LOAD(nr),
	BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, JAIL_X32_BIT, 0, 1),
	RETURN(SECCOMP_RET_KILL_PROCESS),

	/* New namespaces: a new user namespace would bring all capabilities back. */
	REFUSE(unshare),
	REFUSE(setns),
	IF_CALL(__NR_clone3),
	FAIL(ENOSYS),

	/* Mounts. */
	REFUSE(mount),
	REFUSE(umount2),
	REFUSE(pivot_root),
	REFUSE(open_tree),
	REFUSE(move_mount),
	REFUSE(fsopen),
	REFUSE(fspick),
	REFUSE(fsconfig),
	REFUSE(fsmount),
	REFUSE(mount_setattr),
	REFUSE(swapon),
	REFUSE(swapoff),
	REFUSE(quotactl),

	/* Other processes' memory and descriptors. */
	REFUSE(ptrace),
	REFUSE(process_vm_readv),
	REFUSE(process_vm_writev),
	REFUSE(process_madvise),
	REFUSE(pidfd_getfd),
	REFUSE(kcmp),

	/* Large parts of the kernel with a history of holes, of no use here. */
	REFUSE(bpf),
	REFUSE(perf_event_open),
	REFUSE(userfaultfd),
	REFUSE(io_uring_setup),
	REFUSE(io_uring_enter),
	REFUSE(io_uring_register),
	REFUSE(add_key),
	REFUSE(request_key),
	REFUSE(keyctl),
	REFUSE(fanotify_init),

	/* Files past their folders' permissions. */
	REFUSE(name_to_handle_at),
	REFUSE(open_by_handle_at),

	/* The machine itself. */
	REFUSE(init_module),
	REFUSE(finit_module),
	REFUSE(delete_module),
	REFUSE(kexec_load),
	REFUSE(reboot),
	REFUSE(settimeofday),
	REFUSE(clock_settime),
	REFUSE(clock_adjtime),
	REFUSE(adjtimex),
	REFUSE(acct),
	REFUSE(syslog),
	REFUSE(sethostname),
	REFUSE(setdomainname),
	REFUSE(vhangup),

	/* fork with new namespaces; the flags are the first argument on both machines. */
	BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_clone, 0, 3),
	LOAD(args[0]),
	BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, JAIL_CLONE_NEW, 0, 1),
	FAIL(EPERM),
	RETURN(SECCOMP_RET_ALLOW),
};

int jail_filter_install(void)
{
	struct sock_fprog prog = {
		.len = (unsigned short)ARRAY_SIZE(jail_floor),
		.filter = jail_floor,
	};

	return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog, 0, 0);
}
