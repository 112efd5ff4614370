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
 *   seccomp(2), filter mode; the program is made by jail_seccomp.c.
 *
 * Failure
 *   A refused call fails with EPERM, as without the privilege for it, so that a
 *   program that only tries its luck goes on.  clone3 fails with ENOSYS, because
 *   its flags are in memory where a filter cannot look; C libraries then use clone.
 *   Another architecture's call kills: its numbers would mean other things.
 */
#include <errno.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <sys/syscall.h>

#include "sys/jail_internal.h"

#define JAIL_CLONE_NEW \
	(CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | \
	 CLONE_NEWCGROUP)

#define REFUSE(name, why) \
	{ \
		SYS_##name, why, .fail = EPERM \
	}

/* What is not on the list passes. */
static const struct jail_syscall jail_floor[] = {
	/* New namespaces: a new user namespace would bring all capabilities back. */
	REFUSE(unshare, "new namespaces"),
	REFUSE(setns, "new namespaces"),
	{ SYS_clone3, "its flags cannot be seen", .fail = ENOSYS },
	{ SYS_clone, "fork", 0, JAIL_CLONE_NEW, 0 },
	{ SYS_clone, "fork with new namespaces", .fail = EPERM },

	/* Mounts. */
	REFUSE(mount, "mounts"),
	REFUSE(umount2, "mounts"),
	REFUSE(pivot_root, "mounts"),
	REFUSE(open_tree, "mounts"),
	REFUSE(move_mount, "mounts"),
	REFUSE(fsopen, "mounts"),
	REFUSE(fspick, "mounts"),
	REFUSE(fsconfig, "mounts"),
	REFUSE(fsmount, "mounts"),
	REFUSE(mount_setattr, "mounts"),
	REFUSE(swapon, "mounts"),
	REFUSE(swapoff, "mounts"),
	REFUSE(quotactl, "mounts"),

	/* Other processes' memory and descriptors. */
	REFUSE(ptrace, "other processes"),
	REFUSE(process_vm_readv, "other processes"),
	REFUSE(process_vm_writev, "other processes"),
	REFUSE(process_madvise, "other processes"),
	REFUSE(pidfd_getfd, "other processes"),
	REFUSE(kcmp, "other processes"),

	/* Large parts of the kernel with a history of holes, of no use here. */
	REFUSE(bpf, "attack surface"),
	REFUSE(perf_event_open, "attack surface"),
	REFUSE(userfaultfd, "attack surface"),
	REFUSE(io_uring_setup, "attack surface"),
	REFUSE(io_uring_enter, "attack surface"),
	REFUSE(io_uring_register, "attack surface"),
	REFUSE(add_key, "attack surface"),
	REFUSE(request_key, "attack surface"),
	REFUSE(keyctl, "attack surface"),
	REFUSE(fanotify_init, "attack surface"),

	/* Files past their folders' permissions. */
	REFUSE(name_to_handle_at, "files past permissions"),
	REFUSE(open_by_handle_at, "files past permissions"),

	/* The machine itself. */
	REFUSE(init_module, "the machine itself"),
	REFUSE(finit_module, "the machine itself"),
	REFUSE(delete_module, "the machine itself"),
	REFUSE(kexec_load, "the machine itself"),
	REFUSE(reboot, "the machine itself"),
	REFUSE(settimeofday, "the machine itself"),
	REFUSE(clock_settime, "the machine itself"),
	REFUSE(clock_adjtime, "the machine itself"),
	REFUSE(adjtimex, "the machine itself"),
	REFUSE(acct, "the machine itself"),
	REFUSE(syslog, "the machine itself"),
	REFUSE(sethostname, "the machine itself"),
	REFUSE(setdomainname, "the machine itself"),
	REFUSE(vhangup, "the machine itself"),
	{ JAIL_SYSCALL_END },
};

int jail_filter_install(void)
{
	return jail_filter_load(jail_floor, SECCOMP_RET_ALLOW, 0, NULL);
}
