/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DOC: Theory of operation
 *
 * Purpose: run a sandbox's VM under QEMU's TCG, that is without any hardware
 * virtualization: the same kernel, agent, images and devices as with hardware.
 *
 * Trust boundary: QEMU emulates every instruction of a hostile guest and may be taken
 * over by it.  So it runs in a full jail (sys/jail.h): own namespaces, no network, a
 * root that holds the distribution's libraries read-only and nothing else; when its
 * own initialisation is over it leaves even that for an empty directory (-chroot),
 * and denies itself new processes, privileges and obsolete calls (-sandbox).  Disks,
 * consoles and the NIC are descriptors that were open before it started.
 *
 * Failure: what QEMU prints goes to log_fd; its end is seen at the pidfd.  A guest
 * that reboots, powers off or panics ends the process (-no-reboot, panic=-1).
 *
 * Limits: one block of arguments, built here and nowhere else; no monitor.
 */
#include "engine/tcg.h"

#include <cpuid.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include <x86intrin.h>

#include "base/mem.h"
#include "engine/args.h"
#include "sys/loop.h"

#define TCG_PROGRAM "/usr/bin/qemu-system-x86_64"
#define TCG_MODULE "/usr/lib/x86_64-linux-gnu/qemu/accel-tcg-x86_64.so"
#define TCG_FIRMWARE "/usr/share/qemu"

/*
 * hvc0 takes the boot log.  Without ACPI a power-off only halts, so the agent reboots,
 * by triple fault, and QEMU ends at it.  Without proactive compaction an idle guest has no
 * timer, and its VM no wake-up.  QEMU 7.2 finds translated code again by its virtual address,
 * too: with random addresses each process translates the C library anew (norandmaps; docs/
 * guest-kernel.md has the figures).
 */
static const char tcg_cmdline[] = "console=hvc0 quiet reboot=t panic=-1 random.trust_cpu=on "
				  "no_timer_check lapic_timer_khz=1000000 dummy.numdummies=0 "
				  "sysctl.vm.compaction_proactiveness=0 norandmaps";

/*
 * The emulated TSC is the host's own.  A guest on a busy host cannot measure it, and would
 * fall back to a clock of 10 ms.  lpj (loops per jiffy, 100 Hz) spares each further CPU a
 * calibration of 130 ms.
 */
#define TCG_CMDLINE_TSC "tsc_early_khz=%llu tsc=reliable lpj=%llu"

static int tcg_probe(struct err *e)
{
	if (access(TCG_PROGRAM, X_OK))
		return err_set(e, ENOENT,
			       "QEMU is not installed: install the Debian package qemu-system-x86 "
			       "(looked for " TCG_PROGRAM ")");
	return 0;
}

static void tcg_add_disk(struct engine_args *a, const struct engine_disk *d, unsigned index)
{
	const char *ro = d->readonly ? "on" : "off";

	engine_arg(a, "-add-fd");
	engine_arg(a, "fd=%d,set=%u", engine_arg_fd(a, d->fd), index + 1);
	engine_arg(a, "-blockdev");
	/* Image formats are never probed: a guest could otherwise write itself a header. */
	engine_arg(a,
		   "driver=raw,node-name=disk%u,read-only=%s,discard=unmap,file.driver=file,"
		   "file.filename=/dev/fdset/%u,file.read-only=%s,file.locking=off",
		   index, ro, index + 1, ro);
	engine_arg(a, "-device");
	/* A full disk of the host is the guest's I/O error; QEMU would stop the machine. */
	engine_arg(a, "virtio-blk-device,drive=disk%u,serial=%s,werror=report,rerror=report", index,
		   d->serial);
}

static void tcg_add_chardev(struct engine_args *a, const char *id, int fd)
{
	engine_arg(a, "-chardev");
	engine_arg(a, "socket,id=%s,fd=%d", id, engine_arg_fd(a, fd));
}

static void tcg_add_consoles(struct engine_args *a, const struct engine_vm_desc *d)
{
	engine_arg(a, "-device");
	engine_arg(a, "virtio-serial-device,max_ports=%d", ENGINE_PORT_COUNT + 1);
	tcg_add_chardev(a, "console", d->console_fd);
	engine_arg(a, "-device");
	engine_arg(a, "virtconsole,chardev=console");
	for (int i = 0; i < ENGINE_PORT_COUNT; i++) {
		if (d->port_fds[i] < 0)
			continue;
		tcg_add_chardev(a, engine_port_names[i], d->port_fds[i]);
		engine_arg(a, "-device");
		engine_arg(a, "virtserialport,chardev=%s,name=%s", engine_port_names[i],
			   engine_port_names[i]);
	}
}

/* One reading of both clocks, of several the one that took the least time. */
static void tcg_read_clocks(uint64_t *ticks, uint64_t *ns)
{
	uint64_t best = UINT64_MAX;

	for (int i = 0; i < 8; i++) {
		uint64_t before = __rdtsc(), now = loop_now_ns(), after = __rdtsc();

		if (after - before >= best)
			continue;
		best = after - before;
		*ticks = before + best / 2;
		*ns = now;
	}
}

/*
 * Frequency of the host's TSC, measured for 3 ms: right to some 20 ppm, about what a
 * quartz is worth.  0 = the TSC does not run at one rate, so the guest has to look itself.
 */
static uint64_t tcg_host_tsc_khz(void)
{
	uint64_t t0 = 0, t1 = 0, ns0 = 0, ns1 = 0;
	unsigned eax, ebx, ecx, edx;

	/* Invariant TSC: AMD64 manual, CPUID Fn8000_0007_EDX[8]; the same on Intel's. */
	if (!__get_cpuid(0x80000007, &eax, &ebx, &ecx, &edx) || !(edx & 1u << 8))
		return 0;
	tcg_read_clocks(&t0, &ns0);
	while (loop_now_ns() - ns0 < 3000000)
		;
	tcg_read_clocks(&t1, &ns1);
	return ns1 > ns0 ? (t1 - t0) * 1000000 / (ns1 - ns0) : 0;
}

static void tcg_add_machine(struct engine_args *a, const struct engine_vm_desc *d)
{
	uint64_t tsc_khz = tcg_host_tsc_khz();

	engine_arg(a, "-name");
	engine_arg(a, "msb-%s", d->name);
	engine_arg(a, "-no-user-config");
	engine_arg(a, "-nodefaults");
	engine_arg(a, "-display");
	engine_arg(a, "none");
	engine_arg(a, "-no-reboot");
	engine_arg(a, "-M");
	engine_arg(a, "microvm,accel=tcg,acpi=off,rtc=on,isa-serial=off");
	engine_arg(a, "-cpu");
	/*
	 * Where the processor says that "rep movsb" is fast, the kernel copies and clears with it, and
	 * the emulation takes a round of its loop for each byte.  Without, it is one for 8 bytes.
	 */
	engine_arg(a, "max,-erms");
	engine_arg(a, "-smp");
	engine_arg(a, "%u", d->cpus);
	engine_arg(a, "-m");
	engine_arg(a, "%lluk", (unsigned long long)(d->memory_bytes >> 10));
	engine_arg(a, "-global");
	engine_arg(a, "virtio-mmio.force-legacy=false");
	engine_arg(a, "-append");
	if (tsc_khz)
		engine_arg(a, "%s " TCG_CMDLINE_TSC, tcg_cmdline, (unsigned long long)tsc_khz,
			   (unsigned long long)tsc_khz * 10);
	else
		engine_arg(a, "%s", tcg_cmdline);
}

static int tcg_spawn(struct engine_args *a, const struct engine_vm_desc *d, struct child *out,
		     struct err *e)
{
	/* What Debian's QEMU opens before its -chroot, found by running it without. */
	const struct jail_bind binds[] = {
		{ TCG_PROGRAM, TCG_PROGRAM, true, false },
		{ "/lib64/ld-linux-x86-64.so.2", "/lib64/ld-linux-x86-64.so.2", true, false },
		{ "/lib/x86_64-linux-gnu", "/lib/x86_64-linux-gnu", true, false },
		{ TCG_MODULE, TCG_MODULE, true, true },
		{ TCG_FIRMWARE "/qboot.rom", TCG_FIRMWARE "/qboot.rom", false, false },
		{ TCG_FIRMWARE "/pvh.bin", TCG_FIRMWARE "/pvh.bin", false, false },
		{ TCG_FIRMWARE "/linuxboot_dma.bin", TCG_FIRMWARE "/linuxboot_dma.bin", false,
		  true },
		{ "/etc/ld.so.cache", "/etc/ld.so.cache", false, true },
		{ d->kernel, "/boot/vmlinux", false, false },
		{ d->initramfs, "/boot/initramfs", false, false },
	};
	static const char *const dirs[] = { "/empty" };
	const struct jail jail = {
		.mode = d->jail,
		.binds = binds,
		.n_binds = ARRAY_SIZE(binds),
		.dirs = dirs,
		.n_dirs = ARRAY_SIZE(dirs),
		.keep_caps = 1ull << CAP_SYS_CHROOT,
		.max_file_bytes = engine_file_limit(d),
		.max_fds = 64,
		.max_processes = 32 + d->cpus, /* threads: main, one a vCPU, disk I/O workers */
	};
	const struct child_spec spec = {
		.path = TCG_PROGRAM,
		.argv = a->argv,
		.fds = a->fds,
		.n_fds = a->n_fds,
		.jail = &jail,
		.new_session = true,
		.die_with_parent = true,
	};

	return child_spawn(&spec, out, e);
}

static int tcg_start(const struct engine_vm_desc *d, struct child *out, struct err *e)
{
	bool full = d->jail == JAIL_FULL;
	struct engine_args a = { .n = 0 };
	int rc = tcg_probe(e);

	if (rc)
		return rc;
	/* Absolute: without /proc QEMU finds its modules from argv[0]. */
	engine_arg(&a, TCG_PROGRAM);
	tcg_add_machine(&a, d);
	engine_arg(&a, "-kernel");
	engine_arg(&a, "%s", full ? "/boot/vmlinux" : d->kernel);
	engine_arg(&a, "-initrd");
	engine_arg(&a, "%s", full ? "/boot/initramfs" : d->initramfs);
	for (unsigned i = 0; i < d->n_disks; i++)
		tcg_add_disk(&a, &d->disks[i], i);
	tcg_add_consoles(&a, d);
	engine_arg(&a, "-object");
	engine_arg(&a, "rng-builtin,id=rng");
	engine_arg(&a, "-device");
	engine_arg(&a, "virtio-rng-device,rng=rng");
	if (d->net_fd >= 0) {
		engine_arg(&a, "-netdev");
		engine_arg(&a, "stream,id=net,addr.type=fd,addr.str=%d",
			   engine_arg_fd(&a, d->net_fd));
		engine_arg(&a, "-device");
		engine_arg(&a, "virtio-net-device,netdev=net,mac=" ENGINE_NET_MAC);
	}
	if (full) {
		engine_arg(&a, "-chroot");
		engine_arg(&a, "/empty");
	}
	engine_arg(&a, "-sandbox");
	engine_arg(&a, "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny");
	engine_args_log(&a, d->log_fd);
	if (a.failed)
		rc = err_set(e, ENOMEM, "QEMU's arguments");
	else
		rc = tcg_spawn(&a, d, out, e);
	engine_args_free(&a);
	return rc ? err_wrap(e, "cannot start QEMU") : 0;
}

static int tcg_version(char *to, size_t size, struct err *e)
{
	char *argv[] = { (char *)TCG_PROGRAM, (char *)"--version", NULL };
	struct child child = CHILD_INIT;
	auto_close int out_fd = -1;
	auto_close int in_fd = -1;
	struct child_fd map;
	struct child_spec spec = {
		.path = TCG_PROGRAM,
		.argv = argv,
		.fds = &map,
		.n_fds = 1,
		.new_session = true,
	};
	const char *prefix = "QEMU emulator version ";
	int fds[2], status, rc = tcg_probe(e);
	char text[256];
	ssize_t n;

	if (rc)
		return rc;
	if (pipe2(fds, O_CLOEXEC) < 0)
		return err_errno(e, errno, "pipe");
	in_fd = fds[0];
	out_fd = fds[1];
	map = (struct child_fd){ .from = out_fd, .to = STDOUT_FILENO };
	rc = child_spawn(&spec, &child, e);
	if (rc)
		return rc;
	close_fd(&out_fd);
	n = read(in_fd, text, sizeof(text) - 1);
	rc = child_reap(&child, &status);
	if (rc || n <= 0 || status)
		return err_set(e, EIO, TCG_PROGRAM " --version failed");
	text[n] = '\0';
	text[strcspn(text, "(\n")] = '\0';
	for (n = (ssize_t)strlen(text); n && text[n - 1] == ' '; n--)
		text[n - 1] = '\0';
	snprintf(to, size, "QEMU %s",
		 strncmp(text, prefix, strlen(prefix)) ? text : text + strlen(prefix));
	return 0;
}

/* ---- what comes with templates: QEMU's own way to freeze a machine ---- */

static int tcg_no_freezing(struct err *e)
{
	return err_set(
		e, ENOTSUP,
		"engine tcg cannot pause a VM or take a snapshot of it yet: use --engine kvm");
}

static int tcg_restore(const struct engine_vm_desc *d, const struct engine_snapshot *from,
		       struct child *out, struct err *e)
{
	(void)d;
	(void)from;
	(void)out;
	return tcg_no_freezing(e);
}

static int tcg_request(int control, uint32_t id, struct err *e)
{
	(void)control;
	(void)id;
	return tcg_no_freezing(e);
}

static int tcg_snapshot(int control, uint32_t id, const struct engine_snapshot *to, struct err *e)
{
	(void)to;
	return tcg_request(control, id, e);
}

static int tcg_event(int control, struct engine_event *out, struct err *e)
{
	(void)control;
	(void)out;
	return tcg_no_freezing(e);
}

const struct engine_ops engine_tcg = {
	.name = "tcg",
	.isolation = "emulated",
	.probe = tcg_probe,
	.version = tcg_version,
	.start = tcg_start,
	.restore = tcg_restore,
	.pause = tcg_request,
	.resume = tcg_request,
	.snapshot = tcg_snapshot,
	.event = tcg_event,
};
