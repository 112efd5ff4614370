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
#include "vmm/control.h"
#include "vmm/devices.h"
#include "vmm/options.h"
#include "vmm/snapshot.h"
#include "vmm/trace.h"
#include "vmm/virtio/disk_worker.h"
#include "vmm/vm.h"

#define MAIN_STATUS_USAGE 2

/*
 * A connection that the other side closed, and a file that may not become larger, are
 * errors of a write, not signals.
 */
static void main_ignore_signals(void)
{
	struct sigaction ignore = { .sa_handler = SIG_IGN };

	sigaction(SIGPIPE, &ignore, NULL);
	sigaction(SIGXFSZ, &ignore, NULL);
}

/* Memory and CPUs of a machine that starts with a kernel. */
static int main_boot(struct vm *vm, struct boot *boot, const struct options *o, struct err *e)
{
	int rc;

	if ((rc = vm_use_memory(vm, &boot->memory, e)) || (rc = vm_create_vcpus(vm, e)) ||
	    (rc = boot_finish(boot, vm, e)))
		return rc;
	close(o->kernel_fd);
	if (o->initramfs_fd >= 0)
		close(o->initramfs_fd);
	return 0;
}

/* Memory, CPUs and devices of a machine that goes on where a snapshot was taken. */
static int main_restore(struct vm *vm, const struct options *o, struct err *e)
{
	struct snapshot_source src = { .bytes = NULL };
	struct memory memory;
	int rc;

	if (!(rc = snapshot_open(&src, o->restore_state_fd, o->restore_memory_fd, e)) &&
	    !(rc = memory_create(&memory, o->memory_bytes, o->restore_memory_fd, e)) &&
	    !(rc = vm_use_memory(vm, &memory, e)) && !(rc = vm_create_vcpus(vm, e)))
		rc = snapshot_load(vm, &src, e);
	snapshot_close(&src);
	close(o->restore_state_fd);
	close(o->restore_memory_fd);
	return rc;
}

/* The machine, complete and with its threads, but paused. */
static int main_prepare(struct vm *vm, struct boot *boot, const struct options *o, struct err *e)
{
	int rc = devices_create(vm, o, e);

	trace_point(TRACE_DEVICES, 0);
	if (!rc)
		rc = o->restore_state_fd >= 0 ? main_restore(vm, o, e) : main_boot(vm, boot, o, e);
	trace_point(TRACE_LOADED, 0);
	if (!rc)
		rc = vm_start(vm, e);
	trace_point(TRACE_THREADS, 0);
	return rc;
}

/* Runs the machine to its end, and tells the supervisor why it ended or did not start. */
static int main_serve(struct vm *vm, struct boot *boot, const struct options *o, struct err *e)
{
	struct control *control = NULL;
	int status = 0;

	if (o->control_fd >= 0)
		status = control_create(&control, vm, o->control_fd, e);
	if (!status)
		status = main_prepare(vm, boot, o, e);
	/* Nothing from the guest has been read yet. */
	if (!status && vm->disk_worker)
		status = disk_worker_await_confined(vm->disk_worker, e);
	if (!status)
		status = vmm_confine_io(o->seccomp_log, e);
	trace_point(TRACE_CONFINED, 0);
	if (status)
		goto out;
	/* Sets the devices of a restored machine going; those of a new one go already. */
	snapshot_thaw(vm);
	status = loop_run(vm->loop);
	if (status < 0)
		err_errno(e, -status, "event loop");
	else if (status != VM_END_RESET)
		log_err("event=ended reason=\"%s\"", vm->end_reason);
out:
	if (status < 0)
		vm_end(vm, VM_END_HOST, "%s", err_text(e));
	if (control)
		control_send_ended(control);
	control_destroy(control);
	return status;
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
	const struct boot_config kernel = {
		.kernel_fd = o->kernel_fd,
		.initramfs_fd = o->initramfs_fd,
		.cmdline = o->cmdline,
	};
	static struct vm vm; /* large, and there is one */
	struct boot boot = { .started = false };
	int status = 0;

	if (o->kernel_fd >= 0)
		status = boot_begin(&boot, &kernel, o->memory_bytes, e);
	if (!status)
		status = vm_create(&vm, &cfg, e);
	if (!status) {
		trace_point(TRACE_VM, 0);
		status = main_serve(&vm, &boot, o, e);
		vm_destroy(&vm);
	}
	boot_fini(&boot);
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
	trace_fd = o.trace_fd;
	trace_point(TRACE_MAIN, 0);
	snprintf(ident, sizeof(ident), "vmm/%s", o.name);
	log_init(STDERR_FILENO, o.level, ident);
#ifdef M_ARENA_MAX
	/* glibc.  Threads allocate next to nothing: an arena for each is waste. */
	mallopt(M_ARENA_MAX, 1);
#endif
	main_ignore_signals();
	status = main_run(&o, &e);
	if (status < 0) {
		log_err("event=failed reason=\"%s\"", err_text(&e));
		return VM_END_HOST;
	}
	return status;
}
