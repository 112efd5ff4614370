/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_SYS_JAIL_H
#define MSB_SYS_JAIL_H

/*
 * DOC: The jail of a process that handles what a guest, an image or a network sent
 *
 * A jail is described by plain data and put on between fork and exec, by
 * child_spawn().  The process then has its own user, mount, pid, ipc, uts and
 * cgroup namespaces (and network, unless it is the one that talks to the network),
 * a root that holds only what is listed, no capabilities but those listed,
 * no_new_privs, resource limits, a filter that refuses the system calls which no
 * jailed program needs (jail_filter.c), and only the descriptors it was given.  It
 * is the same as root and as an ordinary user.  The full seccomp list, which depends
 * on what the program does, is installed by the program itself with jail_seccomp().
 *
 * What the author of a jailed program has to know:
 *
 *  - Who it is outside: an ordinary user's jail has that user's id; root's has an
 *    id of its own (JAIL_OUTSIDE_ID_BASE + its pid, or nobody where a container
 *    maps no such id), so that it owns no file of the host.  Inside, it is
 *    JAIL_INSIDE_ID (but see same_ids).  A bound file must therefore be readable by everybody when
 *    root starts the jail; the folders above it need not be.
 *  - It is process 1 of its pid namespace: a signal sent to it has no effect unless
 *    it has a handler, SIGKILL from outside excepted; when it ends, its children
 *    end too.
 *  - It has no /dev, and no /proc unless the jail says so.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

/* The one user and group id that exists inside a full jail. */
#define JAIL_INSIDE_ID 1000

/*
 * Outside ids of root's jails: above everything that distributions hand out
 * (subordinate ids and container ranges end below 0x70000000), below 2^31.
 */
#define JAIL_OUTSIDE_ID_BASE 0x71000000u

#define JAIL_BINDS_MAX 128

enum jail_mode {
	JAIL_FULL, /* namespaces, empty root, capabilities, limits */
	JAIL_REDUCED, /* where those are refused: no capabilities, no_new_privs, limits, filter */
};

/*
 * A host file or directory that appears in the jail's root, nosuid, nodev, and read-only
 * unless it says otherwise.
 */
struct jail_bind {
	const char *source; /* absolute host path; symbolic links are followed, but see no_links */
	const char *target; /* absolute path in the jail, without "." and ".." */
	bool exec; /* programs may be run and libraries mapped from it */
	bool optional; /* absent on the host is no error */
	bool writable;
	bool no_links; /* the source is taken as it is: a symbolic link in it is an error */
};

struct jail {
	enum jail_mode mode;
	bool host_network; /* keep the host's network namespace */
	/*
	 * Started by root: the process is root inside, and all ids are what they are outside,
	 * so that it can serve files of any owner; keep_caps says which of root's powers over
	 * files it has.  Started by an ordinary user: no difference.
	 */
	bool same_ids;
	bool proc; /* a /proc of its own pid namespace, processes only, read-only */
	const struct jail_bind *binds; /* at most JAIL_BINDS_MAX */
	size_t n_binds;
	const char *const *dirs; /* empty directories to make in the root */
	size_t n_dirs;
	uint64_t keep_caps; /* bit mask (1 << CAP_*) left, inside its user namespace only */
	uint64_t max_file_bytes; /* RLIMIT_FSIZE; 0 = none may be written, UINT64_MAX = no limit */
	unsigned max_fds; /* RLIMIT_NOFILE; 0 = as the parent's */
	unsigned max_processes; /* threads included; 0 = no limit; needs the full jail */
};

/* One system call that may be made, and why. */
struct jail_syscall {
	int nr; /* SYS_*; JAIL_SYSCALL_END ends a list */
	const char *reason;
	/* Applies only where (argument @arg & @mask) == @value; mask 0 = always. */
	unsigned arg;
	uint64_t mask, value;
	/* Not 0: the call fails with this errno, for libraries that merely try it. */
	unsigned fail;
};

#define JAIL_SYSCALL_END -1
#define JAIL_SYSCALLS_MAX 128

/**
 * jail_seccomp() - install the calling process's seccomp list, for all its threads
 * @allowed:  what it still needs; of several entries for one call the first that applies
 *            counts; everything else kills the process
 * @log_only: development: what is not on the list is logged by the kernel instead
 *
 * Also makes the process undumpable: nobody of the same user may trace it.  No way back.
 */
int jail_seccomp(const struct jail_syscall *allowed, bool log_only, struct err *e);

/* As jail_seccomp(), for the calling thread alone. */
int jail_seccomp_thread(const struct jail_syscall *allowed, bool log_only, struct err *e);

/**
 * jail_probe() - can JAIL_FULL be had here?
 *
 * Tries it, in a throw-away child.  Return: 0, or a negative errno with the reason
 * and what to do (for example which sysctl).
 */
int jail_probe(struct err *e);

#endif
