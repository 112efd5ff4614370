/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DOC: Theory of operation
 *
 * Purpose
 *   Says whether the kvm engine can run here, and if not, why not and what to do.
 *
 * States
 *   1. Open /dev/kvm: each time, because permissions change.
 *   2. Ask for the interface version and for what the VMM cannot do without.
 *   3. Run code in a VM (probe_vm.c): once per boot.  The result is found again by a key
 *      of boot, kernel, KVM modules and device node.
 *
 * Trust boundary
 *   The file of results is believed as to whether KVM is usable, nothing else: what it
 *   says is parsed strictly (probe_cache.c) and its text is never shown.
 *
 * Failure
 *   No file, no right to write one, a malformed one: the trial is made again.
 */
#include "engine/probe.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/kvm.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/utsname.h>

#include "base/mem.h"
#include "engine/probe_cache.h"
#include "engine/probe_guest.h"
#include "engine/probe_vm.h"
#include "sys/file.h"
#include "sys/parts.h"

#define PROBE_DEVICE "/dev/kvm"
#define PROBE_CACHE_NAME "kvm-probe"
#define PROBE_KEY_MAX 512

/* ---- the device ------------------------------------------------------ */

static int probe_no_permission(int code, struct err *e)
{
	const struct group *g;
	struct stat st;

	if (code == EPERM || geteuid() == 0)
		return err_set(e, code,
			       PROBE_DEVICE " may not be used here: a container's device rule or a "
					    "security module forbids it; start the container with "
					    "--device " PROBE_DEVICE);
	if (!stat(PROBE_DEVICE, &st) && (st.st_mode & 060) == 060 && (g = getgrgid(st.st_gid)))
		return err_set(e, code,
			       PROBE_DEVICE " is there, but not for you: add yourself to its group "
					    "(usermod -aG %s NAME) and log in again",
			       g->gr_name);
	return err_set(e, code,
		       PROBE_DEVICE " is there, but for root alone: give it to a group, as by the "
				    "udev rule KERNEL==\"kvm\", GROUP=\"kvm\", MODE=\"0660\"");
}

static int probe_open(int *out, struct err *e)
{
	int fd = open(PROBE_DEVICE, O_RDWR | O_CLOEXEC);

	if (fd >= 0) {
		*out = fd;
		return 0;
	}
	switch (errno) {
	case ENOENT:
		return err_set(e, ENOENT,
			       "there is no " PROBE_DEVICE ": switch virtualization on in the "
			       "firmware and load the module kvm-intel or kvm-amd; in a virtual "
			       "machine, its host has to allow nesting");
	case ENODEV:
	case ENXIO:
		return err_set(e, ENODEV,
			       PROBE_DEVICE
			       " has no driver behind it: load the module kvm-intel or "
			       "kvm-amd");
	case EACCES:
	case EPERM:
		return probe_no_permission(errno, e);
	default:
		return err_errno(e, errno, "cannot open " PROBE_DEVICE);
	}
}

/* What the VMM uses; all in every kernel since Linux 4.14 on both vendors' processors. */
static const struct probe_capability {
	int number;
	const char *name;
} probe_capabilities[] = {
	{ KVM_CAP_IRQCHIP, "interrupt controllers" },
	{ KVM_CAP_USER_MEMORY, "guest memory" },
	{ KVM_CAP_SET_TSS_ADDR, "KVM_SET_TSS_ADDR" },
	{ KVM_CAP_EXT_CPUID, "CPUID" },
	{ KVM_CAP_MP_STATE, "states of CPUs" },
	{ KVM_CAP_IRQFD, "irqfd" },
	{ KVM_CAP_IOEVENTFD, "ioeventfd" },
	{ KVM_CAP_ADJUST_CLOCK, "the guest's clock" },
	{ KVM_CAP_VCPU_EVENTS, "pending events" },
	{ KVM_CAP_DEBUGREGS, "debug registers" },
	{ KVM_CAP_XSAVE, "XSAVE" },
	{ KVM_CAP_XCRS, "XCR0" },
	{ KVM_CAP_GET_TSC_KHZ, "the TSC's frequency" },
	{ KVM_CAP_TSC_DEADLINE_TIMER, "TSC-deadline timer" },
	{ KVM_CAP_KVMCLOCK_CTRL, "KVM_KVMCLOCK_CTRL" },
	{ KVM_CAP_IMMEDIATE_EXIT, "immediate exit" },
};

static int probe_check_interface(int fd, struct err *e)
{
	int version = ioctl(fd, KVM_GET_API_VERSION, 0);

	if (version < 0)
		return err_set(e, ENOTTY, PROBE_DEVICE " is not KVM: %s", strerror(errno));
	if (version != KVM_API_VERSION)
		return err_set(e, ENOTSUP,
			       PROBE_DEVICE " speaks version %d of its interface, not %d", version,
			       KVM_API_VERSION);
	for (size_t i = 0; i < ARRAY_SIZE(probe_capabilities); i++)
		if (ioctl(fd, KVM_CHECK_EXTENSION, probe_capabilities[i].number) <= 0)
			return err_set(e, ENOTSUP, PROBE_DEVICE " lacks something that we need: %s",
				       probe_capabilities[i].name);
	return 0;
}

/* ---- the verdict ----------------------------------------------------- */

static const char *probe_step_text(enum probe_step step)
{
	static const char *const texts[] = {
		[PROBE_STEP_START] = "start the trial",
		[PROBE_STEP_CREATE_VM] = "make a VM",
		[PROBE_STEP_IRQCHIP] = "make the VM's interrupt controllers",
		[PROBE_STEP_MEMORY] = "give the VM memory",
		[PROBE_STEP_VCPU] = "make a virtual CPU",
		[PROBE_STEP_CPUID] = "set the virtual CPU's features",
		[PROBE_STEP_REGISTERS] = "set the virtual CPU's registers",
		[PROBE_STEP_RUN] = "run the virtual CPU",
	};

	return (size_t)step < ARRAY_SIZE(texts) ? texts[step] : "run";
}

/* What the guest was doing at @mark. */
static const char *probe_mark_text(unsigned mark)
{
	switch (mark) {
	case PROBE_MARK_CONTROL:
		return "control registers";
	case PROBE_MARK_VECTOR:
		return "SSE and XSAVE";
	case PROBE_MARK_PAGING:
		return "page tables";
	case PROBE_MARK_FAULT:
		return "exceptions";
	case PROBE_MARK_DEVICE:
		return "device registers";
	default:
		return "its first instructions";
	}
}

static const char *probe_exit_text(uint32_t reason)
{
	switch (reason) {
	case KVM_EXIT_INTERNAL_ERROR:
		return "KVM_EXIT_INTERNAL_ERROR";
	case KVM_EXIT_FAIL_ENTRY:
		return "KVM_EXIT_FAIL_ENTRY";
	case KVM_EXIT_SHUTDOWN:
		return "KVM_EXIT_SHUTDOWN";
	default:
		return "an unexpected exit";
	}
}

/* The kind of KVM whose guests may be interpreted. */
static const char *probe_nesting_text(void)
{
	return access("/sys/module/kvm_pvm", F_OK) ? "a nested KVM without hardware help"
						   : "nested paravirtual KVM (kvm_pvm)";
}

static int probe_judge(const struct probe_report *r, struct err *e)
{
	if (r->passed && !probe_vm_interpreted(r))
		return 0;
	if (probe_vm_interpreted(r))
		return err_set(e, ENOTSUP,
			       PROBE_DEVICE " is there, but ring 0 of its guests is interpreted "
					    "(%.1f MIPS): %s",
			       probe_vm_mips(r), probe_nesting_text());
	if (r->err == EBUSY)
		return err_set(e, EBUSY,
			       PROBE_DEVICE " is busy: another hypervisor, such as VirtualBox or "
					    "VMware, holds the processor; stop its machines");
	if (r->err)
		return err_errno(e, r->err, PROBE_DEVICE " is there, but cannot %s",
				 probe_step_text(r->step));
	if (r->wrong)
		return err_set(e, ENOTSUP,
			       PROBE_DEVICE " is there, but its guests get wrong results at %s",
			       probe_mark_text(r->mark));
	if (r->ended)
		return err_set(e, ENOTSUP,
			       PROBE_DEVICE " is there, but its guests die at %s (%s, %u)",
			       probe_mark_text(r->mark), probe_exit_text(r->exit_reason),
			       r->exit_detail);
	if (r->step != PROBE_STEP_RUN)
		return err_set(e, ETIMEDOUT, PROBE_DEVICE " is there, but hangs: cannot %s",
			       probe_step_text(r->step));
	return err_set(e, ETIMEDOUT, PROBE_DEVICE " is there, but its guests hang at %s",
		       probe_mark_text(r->mark));
}

/* ---- once per boot --------------------------------------------------- */

/* The first line of a small file of the kernel's; "" if there is none. */
static void probe_read_line(const char *path, char *to, size_t size)
{
	auto_close int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd >= 0 ? read(fd, to, size - 1) : 0;

	to[n > 0 ? n : 0] = '\0';
	to[strcspn(to, "\n")] = '\0';
}

/*
 * Names this boot, kernel, KVM and device node.  Return: 0, or -ENOENT: the boot cannot
 * be told from another one.
 */
static int probe_key(int kvm_fd, char *to, size_t size)
{
	static const char *const modules[] = { "kvm", "kvm_intel", "kvm_amd", "kvm_pvm" };
	char boot[64], version[64], path[128];
	struct utsname u;
	struct stat st;
	int n;

	probe_read_line("/proc/sys/kernel/random/boot_id", boot, sizeof(boot));
	if (!boot[0] || uname(&u) < 0 || fstat(kvm_fd, &st) < 0)
		return -ENOENT;
	n = snprintf(to, size, "%s %s %llu.%lld.%ld", boot, u.release,
		     (unsigned long long)st.st_ino, (long long)st.st_ctim.tv_sec,
		     st.st_ctim.tv_nsec);
	for (size_t i = 0; i < ARRAY_SIZE(modules) && n > 0 && (size_t)n < size; i++) {
		snprintf(path, sizeof(path), "/sys/module/%s", modules[i]);
		if (access(path, F_OK))
			continue;
		snprintf(path, sizeof(path), "/sys/module/%s/srcversion", modules[i]);
		probe_read_line(path, version, sizeof(version));
		n += snprintf(to + n, size - (size_t)n, " %s:%s", modules[i], version);
	}
	return n > 0 && (size_t)n < size ? 0 : -ENOENT;
}

/* Return: the home directory, or -1: no results are kept. */
static int probe_open_home(void)
{
	auto_free char *home = NULL;

	if (parts_home(&home, NULL))
		return -1;
	return open(home, O_PATH | O_DIRECTORY | O_CLOEXEC);
}

/* One is enough, but on a machine that is busy and virtual itself. */
#define PROBE_TRIES 3

static int probe_try(int kvm_fd, struct probe_report *r, struct err *e)
{
	auto_close int home = probe_open_home();
	char key[PROBE_KEY_MAX], text[PROBE_CACHE_MAX];
	bool keep = home >= 0 && probe_key(kvm_fd, key, sizeof(key)) == 0;
	auto_free char *found = NULL;
	size_t len;
	int rc;

	if (keep &&
	    file_read_at(home, PROBE_CACHE_NAME, PROBE_CACHE_MAX, &found, &len, NULL) == 0 &&
	    probe_cache_parse(found, len, key, r) == 0)
		return 0;
	for (int i = 0; i < PROBE_TRIES && (!i || probe_vm_doubtful(r)); i++) {
		rc = probe_vm_run(kvm_fd, &probe_vm_guest, r, e);
		if (rc)
			return rc;
	}
	if (keep && probe_cache_lasting(r)) {
		len = probe_cache_format(key, r, text, sizeof(text));
		/* Not kept: the trial is made again, nothing else. */
		if (len)
			file_write_at(home, PROBE_CACHE_NAME, text, len, 0600, false, NULL);
	}
	return 0;
}

int engine_probe_kvm(struct err *e)
{
	struct probe_report r = { .passed = false };
	auto_close int fd = -1;
	int rc;

	if ((rc = probe_open(&fd, e)) || (rc = probe_check_interface(fd, e)) ||
	    (rc = probe_try(fd, &r, e)))
		return rc;
	return probe_judge(&r, e);
}
