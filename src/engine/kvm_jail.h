/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_ENGINE_KVM_JAIL_H
#define MSB_ENGINE_KVM_JAIL_H

/* The jail of msb-vmm: one description for the engine, its tests and benches. */

#include <stdint.h>

#include "sys/child.h"
#include "sys/jail.h"

#define KVM_JAIL_PROGRAM "/bin/msb-vmm" /* the program's path in a full jail */

/* Stays where it is while the jail is used: @jail points into it and to the program's path. */
struct kvm_jail {
	struct jail jail;
	struct jail_bind program;
};

/**
 * kvm_jail_init() - a root that holds the static @program and nothing else
 * @program:        absolute host path, kept
 * @cpus:           virtual CPUs, each of which is a thread
 * @max_file_bytes: of the largest file that it may write
 */
void kvm_jail_init(struct kvm_jail *j, enum jail_mode mode, const char *program, unsigned cpus,
		   uint64_t max_file_bytes);

/* How to start msb-vmm in @j, but for its arguments and descriptors; points into @j. */
struct child_spec kvm_jail_spec(const struct kvm_jail *j);

/* What to execute: in the jail, or on the host if it is a reduced one. */
const char *kvm_jail_path(const struct kvm_jail *j);

#endif
