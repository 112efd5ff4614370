/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_SYS_JAIL_INTERNAL_H
#define MSB_SYS_JAIL_INTERNAL_H

/* What child.c needs of the jail; nobody else includes this. */

#include <linux/audit.h>
#include <linux/filter.h>
#include <sys/types.h>

#include "sys/jail.h"

/* Whose system call numbers a filter knows; another ABI's must not pass. */
#if defined(__x86_64__)
#define JAIL_AUDIT_ARCH AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define JAIL_AUDIT_ARCH AUDIT_ARCH_AARCH64
#else
#error "jail_internal.h: name the audit architecture of this machine"
#endif
#define JAIL_X32_BIT 0x40000000u /* of x86-64's numbers; on others there are none so high */

/* Steps of a start in the child; the name of each is in child_stage_text(). */
enum child_stage {
	STAGE_NONE,
	STAGE_SIGNALS,
	STAGE_SYNC,
	STAGE_NETWORK,
	STAGE_BIND_OPEN,
	STAGE_BIND_ATTR,
	STAGE_IDS,
	STAGE_ROOT_CREATE,
	STAGE_ROOT_MOUNT,
	STAGE_ROOT_DIR,
	STAGE_BIND_TARGET,
	STAGE_BIND_MOUNT,
	STAGE_PROC,
	STAGE_PIVOT,
	STAGE_HOSTNAME,
	STAGE_CAPS,
	STAGE_PRIVS,
	STAGE_FILTER,
	STAGE_LIMITS,
	STAGE_SESSION,
	STAGE_FDS,
	STAGE_PARENT,
	STAGE_EXEC,
};

/* What failed in the child, as it is sent to the parent. */
struct child_fault {
	int stage; /* enum child_stage */
	int err; /* positive errno */
	int index; /* of the bind, directory or descriptor; else 0 */
};

/* Parent, before the fork. */
int jail_check(const struct jail *j, struct err *e);
unsigned long jail_clone_flags(const struct jail *j);

/* Parent: gives child @pid, which is in a new user namespace, its ids. */
int jail_map_ids(const struct jail *j, pid_t pid, struct err *e);

/*
 * Child, while the parent maps the ids: what can be done without one, the network
 * namespace.  It takes longer to make than all others together.  Return: as jail_enter().
 */
int jail_begin(const struct jail *j, struct child_fault *f);

/*
 * Child, after the ids were mapped: the namespaces' contents, the new root.
 * Between fork and exec: system calls only.  Return: 0 or -1 with *f filled.
 */
int jail_enter(const struct jail *j, struct child_fault *f);

/* Instructions of the longest filter: of each entry with its search, and what is before. */
#define JAIL_FILTER_MAX (JAIL_SYSCALLS_MAX * 12 + 8)

/*
 * Builds a filter into @code, JAIL_FILTER_MAX instructions: what it answers to the calls of
 * @list, and @otherwise to all others.  Return: its length, or a negative errno.
 */
int jail_filter_build(const struct jail_syscall *list, uint32_t otherwise, struct sock_filter *code,
		      struct err *e);

/*
 * Installs a filter: @list, and @otherwise (SECCOMP_RET_*) for the calls that are not on it.
 * @flags: of seccomp(2).  System calls only.  Needs no_new_privs.
 */
int jail_filter_load(const struct jail_syscall *list, uint32_t otherwise, unsigned flags,
		     struct err *e);

/* Child: refuses the system calls that no jailed program needs; after no_new_privs. */
int jail_filter_install(void);

/* Child, then: capabilities, no_new_privs, the filter. */
int jail_seal(const struct jail *j, struct child_fault *f);

/* Child, once its descriptors are in place, some of which may have had high numbers. */
int jail_set_limits(const struct jail *j, struct child_fault *f);

/* Parent: is @f the refusal of the jail itself rather than a mistake in its description? */
bool jail_refused(const struct jail *j, const struct child_fault *f);

/*
 * Parent: records that full jails are refused here, by @code at step @what, with
 * the likely reason and what to do.  Return: -@code.
 */
int jail_explain(int code, const char *what, struct err *e);

#endif
