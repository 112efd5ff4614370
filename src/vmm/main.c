/* SPDX-License-Identifier: Apache-2.0 */
/*
 * msb-vmm: one virtual machine on KVM.
 *
 * Started by the supervisor in a jail (docs/vmm.md) with all that it may touch as open
 * descriptors.  Whatever ends the machine ends the process, with a status that tells the
 * kind of the end and, unless the guest wanted it, a line on stderr that tells the reason:
 *
 *   0  the guest asked for a reset: it rebooted, powered off or panicked
 *   1  the host failed: a file, memory, a KVM call
 *   2  the command line is wrong
 *   3  the guest crashed: triple fault
 *   4  this host's KVM cannot run the guest's code
 */
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "vmm/boot.h"
#include "vmm/confine.h"
#include "vmm/devices.h"
#include "vmm/options.h"
#include "vmm/vm.h"

#define MAIN_STATUS_USAGE 2

/* A connection that the other side closed is an error of a write, not a signal. */
static void main_ignore_sigpipe(void)
{
	struct sigaction ignore = { .sa_handler = SIG_IGN };

	sigaction(SIGPIPE, &ignore, NULL);
}

/* The machine, complete and with its threads, but paused. */
static int main_prepare(struct vm *vm, const struct options *o, struct err *e)
{
	const struct boot_config boot = {
		.kernel_fd = o->kernel_fd,
		.initramfs_fd = o->initramfs_fd,
		.cmdline = o->cmdline,
	};
	int rc;

	if ((rc = devices_create(vm, o, e)) || (rc = vm_map_memory(vm, o->restore_memory_fd, e)) ||
	    (rc = vm_create_vcpus(vm, e)) || (rc = boot_load(vm, &boot, e)))
		return rc;
	close(o->kernel_fd);
	if (o->initramfs_fd >= 0)
		close(o->initramfs_fd);
	return vm_start(vm, e);
}

static int main_run(const struct options *o, struct err *e)
{
	const struct vm_config cfg = {
		.name = o->name,
		.kvm_fd = o->kvm_fd,
		.n_cpus = o->cpus,
		.memory_bytes = o->memory_bytes,
		.seccomp_log = o->seccomp_log,
	};
	static struct vm vm; /* large, and there is one */
	int status = vm_create(&vm, &cfg, e);

	if (status)
		return status;
	status = main_prepare(&vm, o, e);
	/* Nothing from the guest has been read yet. */
	if (!status)
		status = vmm_confine_io(o->seccomp_log, e);
	if (!status) {
		vm_resume(&vm);
		status = loop_run(vm.loop);
		if (status < 0)
			err_errno(e, -status, "event loop");
		else if (status != VM_END_RESET)
			log_err("event=ended reason=\"%s\"", vm.end_reason);
	}
	vm_destroy(&vm);
	return status;
}

int main(int argc, char **argv)
{
	struct err e = ERR_INIT;
	struct options o;
	char ident[64];
	int status;

	if (options_parse(argc, argv, &o, &e)) {
		fprintf(stderr, "msb-vmm: %s\n%s", err_text(&e), options_usage);
		return MAIN_STATUS_USAGE;
	}
	snprintf(ident, sizeof(ident), "vmm/%s", o.name);
	log_init(STDERR_FILENO, o.level, ident);
	/* Threads allocate next to nothing: an arena of address space for each is waste. */
	mallopt(M_ARENA_MAX, 1);
	main_ignore_sigpipe();
	status = main_run(&o, &e);
	if (status < 0) {
		log_err("event=failed reason=\"%s\"", err_text(&e));
		return VM_END_HOST;
	}
	return status;
}
