/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_SYS_JAIL_H
#define MSB_SYS_JAIL_H

/*
 * DOC: The jail of a process that handles what a guest, an image or a network sent
 *
 * A jail is described by plain data and put on between fork and exec, by
 * child_spawn().  The process then has its own user, mount, pid, ipc and uts
 * namespaces (and network, unless it is the one that talks to the network), a root
 * that holds only what is listed, no capabilities but those listed, no_new_privs,
 * resource limits, and only the descriptors it was given.  It is the same as root
 * and as an ordinary user.  The seccomp list, which depends on what the program
 * does, is installed by the program itself with jail_seccomp().
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

enum jail_mode {
	JAIL_FULL, /* namespaces, empty root, capabilities, limits */
	JAIL_REDUCED, /* where user namespaces are refused: no_new_privs, limits, seccomp */
};

/* A host file or directory that appears, read-only, nosuid, nodev, in the jail's root. */
struct jail_bind {
	const char *source; /* absolute host path; symbolic links are followed */
	const char *target; /* absolute path in the jail */
	bool exec; /* programs may be run and libraries mapped from it */
	bool optional; /* absent on the host is no error */
};

struct jail {
	enum jail_mode mode;
	bool host_network; /* keep the host's network namespace */
	bool proc; /* a /proc of its own pid namespace */
	const struct jail_bind *binds;
	size_t n_binds;
	const char *const *dirs; /* empty directories to make in the root */
	size_t n_dirs;
	uint64_t keep_caps; /* bit mask (1 << CAP_*) left, inside its user namespace only */
	uint64_t max_file_bytes; /* RLIMIT_FSIZE; 0 = none may be written */
	unsigned max_fds; /* RLIMIT_NOFILE */
	unsigned max_processes; /* RLIMIT_NPROC-like bound, threads included; 0 = no limit */
};

/* One allowed system call and why; the list ends with reason NULL. */
struct jail_syscall {
	const char *name;
	const char *reason;
};

/*
 * Installs the calling process's seccomp list: what is not on it kills the process
 * (@log_only: is logged instead, for development).  No way back.
 */
int jail_seccomp(const struct jail_syscall *allowed, bool log_only, struct err *e);

/*
 * Can JAIL_FULL be had here?  Tries it (in a throw-away child).  Return: 0, or a
 * negative errno with the reason and what to do (for example which sysctl).
 */
int jail_probe(struct err *e);

#endif
