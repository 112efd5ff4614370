/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/kvm_jail.h"

/* Descriptors: 3 a device, one a queue, one a CPU, and what the VM is made of. */
#define KVM_JAIL_FDS 128
#define KVM_JAIL_THREADS 4 /* I/O, disks, and two to spare; besides one a CPU */

void kvm_jail_init(struct kvm_jail *j, enum jail_mode mode, const char *program, unsigned cpus,
		   uint64_t max_file_bytes)
{
	j->program = (struct jail_bind){
		.source = program,
		.target = KVM_JAIL_PROGRAM,
		.exec = true,
	};
	j->jail = (struct jail){
		.mode = mode,
		.binds = &j->program,
		.n_binds = 1,
		.max_file_bytes = max_file_bytes,
		.max_fds = KVM_JAIL_FDS,
		.max_processes = KVM_JAIL_THREADS + cpus,
	};
}

const char *kvm_jail_path(const struct kvm_jail *j)
{
	return j->jail.mode == JAIL_FULL ? KVM_JAIL_PROGRAM : j->program.source;
}

struct child_spec kvm_jail_spec(const struct kvm_jail *j)
{
	return (struct child_spec){
		.path = kvm_jail_path(j),
		.jail = &j->jail,
		.new_session = true,
		.die_with_parent = true,
	};
}
