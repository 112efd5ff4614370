/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DOC: Theory of operation
 *
 * Purpose: run a sandbox's VM on KVM, with our own VMM (src/vmm, docs/vmm.md).
 *
 * Trust boundary: msb-vmm answers for every device of a hostile guest and may be taken
 * over by it.  So it runs in a full jail (sys/jail.h) whose root holds its program and
 * nothing else: it is static, and everything that it uses, /dev/kvm, kernel and
 * initramfs included, is a descriptor that was open before it started.  It denies itself
 * system calls as well (vmm/confine.h).
 *
 * Failure: what msb-vmm prints goes to log_fd: a reason, if the guest did not end by
 * itself.  Its exit status tells the kind of the end (vmm/main.c).
 */
#include "engine/kvm.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/utsname.h>

#include "base/mem.h"
#include "codec/snapshot.h"
#include "engine/args.h"
#include "engine/kvm_jail.h"
#include "engine/kvm_control.h"
#include "engine/probe.h"
#include "sys/parts.h"

#define KVM_DEVICE "/dev/kvm"

/*
 * hvc0 takes the boot log.  Without ACPI a power-off only halts, so the agent reboots;
 * reboot=k does it by the reset line of the keyboard controller, which cannot be mistaken
 * for a crash, as a triple fault can.  The TSC's frequency comes with kvm-clock, and with
 * it loops per jiffy; the local APIC's timer has a known one where there is no TSC
 * deadline.  Without proactive compaction an idle guest has no timer, and its VM no
 * wake-up.
 */
static const char kvm_cmdline[] = "console=hvc0 quiet reboot=k panic=-1 random.trust_cpu=on "
				  "no_timer_check lapic_timer_khz=1000000 dummy.numdummies=0 "
				  "sysctl.vm.compaction_proactiveness=0";

static int kvm_open(const char *path, const char *what, int *out, struct err *e)
{
	*out = open(path, O_RDONLY | O_CLOEXEC);
	return *out < 0 ? err_errno(e, errno, "%s %s", what, path) : 0;
}

static void kvm_add_devices(struct engine_args *a, const struct engine_vm_desc *d)
{
	for (unsigned i = 0; i < d->n_disks; i++) {
		engine_arg(a, "--disk");
		engine_arg(a, "fd=%d,serial=%s%s", engine_arg_fd(a, d->disks[i].fd),
			   d->disks[i].serial, d->disks[i].readonly ? ",readonly" : "");
	}
	engine_arg(a, "--console-fd");
	engine_arg(a, "%d", engine_arg_fd(a, d->console_fd));
	for (int i = 0; i < ENGINE_PORT_COUNT; i++) {
		if (d->port_fds[i] < 0)
			continue;
		engine_arg(a, "--port");
		engine_arg(a, "fd=%d,name=%s", engine_arg_fd(a, d->port_fds[i]),
			   engine_port_names[i]);
	}
	if (d->net_fd >= 0) {
		engine_arg(a, "--net");
		engine_arg(a, "fd=%d,mac=" ENGINE_NET_MAC, engine_arg_fd(a, d->net_fd));
	}
}

/*
 * The largest file that msb-vmm may write: a disk, or a snapshot if it can be asked for one.
 */
static uint64_t kvm_file_limit(const struct engine_vm_desc *d, uint64_t disk_bytes)
{
	uint64_t memory = d->memory_bytes + SNAPSHOT_TRAILER_SIZE;

	return d->control_fd >= 0 && memory > disk_bytes ? memory : disk_bytes;
}

/* msb-vmm's jail; what its parts point to is in here. */
struct engine_cell {
	char *program;
	struct kvm_jail jail;
	struct child_spec spec;
	struct child_pending pending;
};

static void kvm_abandon(struct engine_cell *c)
{
	child_abandon(&c->pending);
	free(c->program);
	free(c);
}

static int kvm_prepare(const struct engine_vm_desc *d, uint64_t disk_bytes,
		       struct engine_cell **out, struct err *e)
{
	struct engine_cell *c = calloc(1, sizeof(*c));
	int rc;

	if (!c)
		return err_set(e, ENOMEM, "msb-vmm's jail");
	c->pending = (struct child_pending)CHILD_PENDING_INIT;
	rc = parts_path("msb-vmm", &c->program, e);
	if (!rc) {
		kvm_jail_init(&c->jail, d->jail, c->program, d->cpus, kvm_file_limit(d, disk_bytes));
		c->spec = kvm_jail_spec(&c->jail);
		rc = child_prepare(&c->spec, &c->pending, e);
	}
	if (rc) {
		kvm_abandon(c);
		return err_wrap(e, "cannot make the jail of msb-vmm");
	}
	*out = c;
	return 0;
}

/* What a VM begins with: a kernel. */
static void kvm_add_kernel(struct engine_args *a, int kernel_fd, int initramfs_fd)
{
	engine_arg(a, "--kernel-fd");
	engine_arg(a, "%d", engine_arg_fd(a, kernel_fd));
	engine_arg(a, "--initramfs-fd");
	engine_arg(a, "%d", engine_arg_fd(a, initramfs_fd));
	engine_arg(a, "--cmdline");
	engine_arg(a, "%s", kvm_cmdline);
}

/* Or a snapshot. */
static void kvm_add_snapshot(struct engine_args *a, const struct engine_snapshot *from)
{
	engine_arg(a, "--restore-state-fd");
	engine_arg(a, "%d", engine_arg_fd(a, from->state_fd));
	engine_arg(a, "--restore-memory-fd");
	engine_arg(a, "%d", engine_arg_fd(a, from->memory_fd));
}

/* Everything else. */
static void kvm_add_machine(struct engine_args *a, const struct engine_vm_desc *d, int kvm_fd)
{
	engine_arg(a, "--name");
	engine_arg(a, "%s", d->name);
	engine_arg(a, "--kvm-fd");
	engine_arg(a, "%d", engine_arg_fd(a, kvm_fd));
	engine_arg(a, "--cpus");
	engine_arg(a, "%u", d->cpus);
	engine_arg(a, "--memory");
	engine_arg(a, "%llu", (unsigned long long)d->memory_bytes);
	if (d->control_fd >= 0) {
		engine_arg(a, "--control-fd");
		engine_arg(a, "%d", engine_arg_fd(a, d->control_fd));
	}
	kvm_add_devices(a, d);
	engine_args_log(a, d->log_fd);
}

/* Runs msb-vmm in @cell, with a snapshot if @from is not NULL. */
static int kvm_launch(struct engine_cell *cell, const struct engine_vm_desc *d,
		      const struct engine_snapshot *from, struct child *out, struct err *e)
{
	auto_close int kvm_fd = open(KVM_DEVICE, O_RDWR | O_CLOEXEC);
	auto_close int kernel_fd = -1, initramfs_fd = -1;
	struct engine_args a = { .n = 0 };
	int rc;

	if (kvm_fd < 0)
		return err_errno(e, errno, KVM_DEVICE);
	engine_arg(&a, "msb-vmm");
	if (from) {
		kvm_add_snapshot(&a, from);
	} else {
		if ((rc = kvm_open(d->kernel, "guest kernel", &kernel_fd, e)) ||
		    (rc = kvm_open(d->initramfs, "guest initramfs", &initramfs_fd, e)))
			goto out;
		kvm_add_kernel(&a, kernel_fd, initramfs_fd);
	}
	kvm_add_machine(&a, d, kvm_fd);
	rc = a.failed ? err_set(e, ENOMEM, "msb-vmm's arguments")
		      : child_finish(&cell->pending, a.argv, a.fds, a.n_fds, out, e);
out:
	engine_args_free(&a);
	return rc;
}

static int kvm_run(const struct engine_vm_desc *d, const struct engine_snapshot *from,
		   struct child *out, struct err *e)
{
	struct engine_cell *cell = d->cell;
	int rc = cell ? 0 : kvm_prepare(d, engine_file_limit(d), &cell, e);

	if (rc)
		return rc;
	rc = kvm_launch(cell, d, from, out, e);
	kvm_abandon(cell);
	return rc;
}

static int kvm_start(const struct engine_vm_desc *d, struct child *out, struct err *e)
{
	return kvm_run(d, NULL, out, e) ? err_wrap(e, "cannot start the VM (msb-vmm)") : 0;
}

static int kvm_restore(const struct engine_vm_desc *d, const struct engine_snapshot *from,
		       struct child *out, struct err *e)
{
	return kvm_run(d, from, out, e) ? err_wrap(e, "cannot restore the VM (msb-vmm)") : 0;
}

static int kvm_version(char *to, size_t size, struct err *e)
{
	auto_close int fd = open(KVM_DEVICE, O_RDWR | O_CLOEXEC);
	struct utsname host;
	int api;

	if (fd < 0)
		return err_errno(e, errno, KVM_DEVICE);
	api = ioctl(fd, KVM_GET_API_VERSION, 0);
	if (api < 0 || uname(&host) < 0)
		return err_errno(e, errno, KVM_DEVICE);
	snprintf(to, size, "KVM of Linux %s (API %d)", host.release, api);
	return 0;
}

const struct engine_ops engine_kvm = {
	.name = "kvm",
	.isolation = "hardware",
	.probe = engine_probe_kvm,
	.version = kvm_version,
	.prepare = kvm_prepare,
	.abandon = kvm_abandon,
	.start = kvm_start,
	.restore = kvm_restore,
	.pause = kvm_control_pause,
	.resume = kvm_control_resume,
	.snapshot = kvm_control_snapshot,
	.event = kvm_control_event,
};
