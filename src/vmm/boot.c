/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DOC: Theory of operation
 *
 * Purpose: start a Linux kernel without any firmware: put it and its initramfs into
 * memory, describe the machine in the zero page, and set the registers of the first CPU
 * so that it continues at the kernel's 64-bit entry point.  The others wait for the
 * kernel's INIT and SIPI.
 *
 * Spec: Documentation/x86/boot.rst ("64-bit Boot Protocol") and zero-page.rst of
 * Linux 6.1.
 *
 * Memory, all of it the guest's to overwrite once it runs:
 *
 *   0x500      GDT: null, code (0x10), data (0x18), as the protocol wants them
 *   0x7000     zero page (struct boot_params)
 *   0x8ff0     top of the stack, unused by the protocol
 *   0x9000     page tables: the first GiB at its own addresses, in pages of 2 MiB
 *   0x20000    command line
 *   0x9fc00    MP table (mptable.h)
 *   >= 1 MiB   the kernel, where it says
 *   top        initramfs, at the end of the memory below the hole
 *
 * Trust boundary: kernel, initramfs and command line are chosen by the user of the host,
 * but may come from anybody; see kernel_image.c.  What they do to the guest is not our
 * concern, what they say about sizes and places is.
 */
#include "vmm/boot.h"

#include <asm/bootparam.h>
#include <errno.h>
#include <linux/kvm.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/checked.h"
#include "base/mem.h"
#include "vmm/cpuid.h"
#include "vmm/kernel_image.h"
#include "vmm/mptable.h"

#define BOOT_GDT 0x500ull
#define BOOT_ZERO_PAGE 0x7000ull
#define BOOT_STACK 0x8ff0ull
#define BOOT_PML4 0x9000ull
#define BOOT_PDPT 0xa000ull
#define BOOT_PD 0xb000ull
#define BOOT_CMDLINE 0x20000ull
#define BOOT_BASE_MEMORY MPTABLE_GPA /* RAM below 1 MiB that the kernel may use */
#define BOOT_HIGH_MEMORY 0x100000ull

#define BOOT_PAGE 4096u
#define BOOT_STACK_BYTES (64u << 10) /* of the thread: the head of a file, a message */
#define BOOT_LOADER_UNDEFINED 0xff /* type_of_loader of those that have no number */

/* Registers' bits, by their names in Intel SDM volume 3, chapters 2 and 4. */
#define BOOT_CR0_PE (1ull << 0)
#define BOOT_CR0_PG (1ull << 31)
#define BOOT_CR4_PAE (1ull << 5)
#define BOOT_EFER_LME (1ull << 8)
#define BOOT_EFER_LMA (1ull << 10)
#define BOOT_PTE_PRESENT_WRITE 0x3ull
#define BOOT_PTE_2M 0x80ull
#define BOOT_MSR_MTRR_DEF_TYPE 0x2ffu
#define BOOT_MTRR_ON_WRITE_BACK (1u << 11 | 6)

_Static_assert(sizeof(struct boot_params) == 4096, "the zero page is a page");

static int boot_file_size(int fd, const char *what, uint64_t *out, struct err *e)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return err_errno(e, errno, "%s", what);
	if (!S_ISREG(st.st_mode) || st.st_size <= 0)
		return err_set(e, EINVAL, "%s: not a regular file with contents", what);
	*out = (uint64_t)st.st_size;
	return 0;
}

static int boot_read(int fd, void *to, uint64_t bytes, uint64_t offset, const char *what,
		     struct err *e)
{
	uint8_t *p = to;

	while (bytes) {
		ssize_t n = pread(fd, p, bytes, (off_t)offset);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n ? err_errno(e, errno, "%s: read", what)
				 : err_set(e, EIO, "%s: it became shorter while it was read", what);
		p += n;
		offset += (uint64_t)n;
		bytes -= (uint64_t)n;
	}
	return 0;
}

/*
 * As boot_read(), into memory that is zero: holes of the file are left out.  The padding
 * between a kernel's sections is some, a fifth of our own.
 */
static int boot_read_sparse(int fd, uint8_t *to, uint64_t bytes, uint64_t offset, const char *what,
			    struct err *e)
{
	uint64_t end = offset + bytes, at = offset;
	int rc = 0;

	while (!rc && at < end) {
		off_t data = lseek(fd, (off_t)at, SEEK_DATA);
		off_t hole = data < 0 ? -1 : lseek(fd, data, SEEK_HOLE);
		uint64_t stop;

		if (data < 0 && errno == ENXIO)
			break; /* nothing but a hole up to the end of the file */
		if (data < 0 || hole < 0)
			return boot_read(fd, to + (at - offset), end - at, at, what, e);
		at = min_u64((uint64_t)data, end);
		stop = min_u64((uint64_t)hole, end);
		rc = boot_read(fd, to + (at - offset), stop - at, at, what, e);
		at = stop;
	}
	return rc;
}

static int boot_load_kernel(const struct memory *m, int fd, struct kernel_image *k, struct err *e)
{
	uint8_t head[KERNEL_IMAGE_HEAD];
	uint64_t size, head_bytes;
	int rc = boot_file_size(fd, "kernel", &size, e);

	if (rc)
		return rc;
	head_bytes = min_u64(size, sizeof(head));
	rc = boot_read(fd, head, head_bytes, 0, "kernel", e);
	if (rc)
		return rc;
	rc = kernel_image_parse(head, head_bytes, size, k, e);
	if (rc)
		return err_wrap(e, "kernel");
	for (unsigned i = 0; !rc && i < k->n_segments; i++) {
		const struct kernel_segment *s = &k->segments[i];
		void *to = memory_at(m, s->gpa, s->memory_bytes);

		if (!to)
			return err_set(
				e, ENOMEM,
				"kernel: it needs memory up to %llu MiB, the VM has %llu MiB",
				(unsigned long long)(k->end >> 20),
				(unsigned long long)(m->bytes >> 20));
		/* What follows the file's bytes is zero: the memory is fresh. */
		rc = boot_read_sparse(fd, to, s->file_bytes, s->file_offset, "kernel", e);
	}
	return rc;
}

static int boot_load_initramfs(const struct memory *m, struct boot *b, struct err *e)
{
	const struct kernel_image *k = &b->image;
	uint64_t size, at, top = min_u64(m->slots[0].size, k->initramfs_max + 1);
	int rc = boot_file_size(b->cfg.initramfs_fd, "initramfs", &size, e);

	if (rc)
		return rc;
	at = size < top ? (top - size) & ~(uint64_t)(BOOT_PAGE - 1) : 0;
	if (at < k->end)
		return err_set(e, ENOMEM,
			       "initramfs: its %llu KiB do not fit between the kernel's end at "
			       "%llu KiB and %llu KiB: give the sandbox more memory",
			       (unsigned long long)(size >> 10), (unsigned long long)(k->end >> 10),
			       (unsigned long long)(top >> 10));
	b->initramfs_gpa = at;
	b->initramfs_bytes = size;
	return boot_read(b->cfg.initramfs_fd, memory_at(m, at, size), size, 0, "initramfs", e);
}

static void *boot_thread(void *arg)
{
	struct boot *b = arg;

	b->rc = boot_load_kernel(&b->target, b->cfg.kernel_fd, &b->image, &b->err);
	if (!b->rc && b->cfg.initramfs_fd >= 0)
		b->rc = boot_load_initramfs(&b->target, b, &b->err);
	return NULL;
}

int boot_begin(struct boot *b, const struct boot_config *cfg, uint64_t memory_bytes, struct err *e)
{
	pthread_attr_t attr;
	int rc;

	*b = (struct boot){ .cfg = *cfg };
	rc = memory_create(&b->memory, memory_bytes, -1, e);
	if (rc)
		return rc;
	b->target = b->memory;
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, BOOT_STACK_BYTES);
	rc = pthread_create(&b->thread, &attr, boot_thread, b);
	pthread_attr_destroy(&attr);
	b->started = !rc;
	return rc ? err_errno(e, rc, "thread that reads the kernel") : 0;
}

static void boot_join(struct boot *b)
{
	if (b->started)
		pthread_join(b->thread, NULL);
	b->started = false;
}

void boot_fini(struct boot *b)
{
	boot_join(b);
	memory_destroy(&b->memory);
}

/* The command line: the configured one, and where the devices are. */
static int boot_write_cmdline(struct vm *vm, const char *cmdline, struct boot_params *zero,
			      struct err *e)
{
	char *to = memory_at(&vm->memory, BOOT_CMDLINE, BOOT_CMDLINE_MAX);
	int len = snprintf(to, BOOT_CMDLINE_MAX, "%s", cmdline);

	for (unsigned i = 0; i < vm->n_devices && len < (int)BOOT_CMDLINE_MAX; i++)
		len += snprintf(to + len, BOOT_CMDLINE_MAX - (size_t)len,
				" virtio_mmio.device=0x%x@0x%llx:%u", VDEV_MMIO_SIZE,
				(unsigned long long)vm->devices[i].gpa, vm->devices[i].gsi);
	if (len >= (int)BOOT_CMDLINE_MAX)
		return err_set(e, E2BIG,
			       "kernel command line: with the devices it is longer than %u bytes",
			       BOOT_CMDLINE_MAX - 1);
	zero->hdr.cmd_line_ptr = (uint32_t)BOOT_CMDLINE;
	zero->hdr.cmdline_size = (uint32_t)len;
	return 0;
}

static void boot_add_e820(struct boot_params *zero, uint64_t addr, uint64_t size, uint32_t type)
{
	zero->e820_table[zero->e820_entries++] =
		(struct boot_e820_entry){ .addr = addr, .size = size, .type = type };
}

static void boot_write_e820(const struct vm *vm, struct boot_params *zero)
{
	const uint32_t ram = 1, reserved = 2; /* as a BIOS says it */

	boot_add_e820(zero, 0, BOOT_BASE_MEMORY, ram);
	boot_add_e820(zero, BOOT_BASE_MEMORY, BOOT_HIGH_MEMORY - BOOT_BASE_MEMORY, reserved);
	boot_add_e820(zero, BOOT_HIGH_MEMORY, vm->memory.slots[0].size - BOOT_HIGH_MEMORY, ram);
	for (unsigned i = 1; i < vm->memory.n_slots; i++)
		boot_add_e820(zero, vm->memory.slots[i].gpa, vm->memory.slots[i].size, ram);
}

static void boot_init_zero_page(const struct boot *b, struct boot_params *zero)
{
	const struct kernel_image *k = &b->image;

	memset(zero, 0, sizeof(*zero));
	/* A bzImage's own header; an ELF kernel wants the fields that it looks at. */
	if (k->setup_bytes) {
		memcpy((uint8_t *)zero + KERNEL_IMAGE_SETUP_OFFSET, k->setup, k->setup_bytes);
		zero->hdr.code32_start = (uint32_t)k->segments[0].gpa;
	} else {
		zero->hdr.boot_flag = 0xaa55;
		memcpy(&zero->hdr.header, "HdrS", 4);
		zero->hdr.version = 0x020f;
		zero->hdr.kernel_alignment = 2u << 20;
	}
	zero->hdr.type_of_loader = BOOT_LOADER_UNDEFINED;
	zero->hdr.ramdisk_image = (uint32_t)b->initramfs_gpa;
	zero->hdr.ramdisk_size = (uint32_t)b->initramfs_bytes;
}

static void boot_write_tables(struct vm *vm)
{
	/* Flat segments: 64-bit code, data. */
	static const uint64_t gdt[] = { 0, 0, 0x00af9b000000ffff, 0x00cf93000000ffff };
	uint64_t *pml4 = memory_at(&vm->memory, BOOT_PML4, BOOT_PAGE);
	uint64_t *pdpt = memory_at(&vm->memory, BOOT_PDPT, BOOT_PAGE);
	uint64_t *pd = memory_at(&vm->memory, BOOT_PD, BOOT_PAGE);

	memcpy(memory_at(&vm->memory, BOOT_GDT, sizeof(gdt)), gdt, sizeof(gdt));
	pml4[0] = BOOT_PDPT | BOOT_PTE_PRESENT_WRITE;
	pdpt[0] = BOOT_PD | BOOT_PTE_PRESENT_WRITE;
	for (uint64_t i = 0; i < BOOT_PAGE / sizeof(*pd); i++)
		pd[i] = i << 21 | BOOT_PTE_2M | BOOT_PTE_PRESENT_WRITE;
	mptable_write(memory_at(&vm->memory, MPTABLE_GPA, MPTABLE_MAX), (uint32_t)MPTABLE_GPA,
		      vm->n_vcpus);
}

static int boot_set_registers(const struct vcpu *c, uint64_t entry, struct err *e)
{
	struct kvm_regs regs = {
		.rip = entry,
		.rsi = BOOT_ZERO_PAGE,
		.rsp = BOOT_STACK,
		.rflags = 2, /* bit 1 is always set */
	};
	struct kvm_segment code = { .limit = 0xffffffff,
				    .selector = 0x10,
				    .type = 0xb,
				    .present = 1,
				    .s = 1,
				    .l = 1,
				    .g = 1 };
	struct kvm_segment data = { .limit = 0xffffffff,
				    .selector = 0x18,
				    .type = 0x3,
				    .present = 1,
				    .s = 1,
				    .db = 1,
				    .g = 1 };
	struct kvm_sregs s;

	if (ioctl(c->fd, KVM_GET_SREGS, &s) < 0)
		return err_errno(e, errno, "KVM_GET_SREGS");
	s.cs = code;
	s.ds = s.es = s.fs = s.gs = s.ss = data;
	s.gdt.base = BOOT_GDT;
	s.gdt.limit = 4 * 8 - 1;
	s.idt.limit = 0; /* no interrupt before the kernel has its own */
	s.cr0 |= BOOT_CR0_PE | BOOT_CR0_PG;
	s.cr3 = BOOT_PML4;
	s.cr4 |= BOOT_CR4_PAE;
	s.efer |= BOOT_EFER_LME | BOOT_EFER_LMA;
	if (ioctl(c->fd, KVM_SET_SREGS, &s) < 0)
		return err_errno(e, errno, "KVM_SET_SREGS");
	if (ioctl(c->fd, KVM_SET_REGS, &regs) < 0)
		return err_errno(e, errno, "KVM_SET_REGS");
	return 0;
}

/*
 * All memory is write-back unless the guest says otherwise, as firmware leaves it: a
 * kernel with MTRR support does without the PAT if it finds them off.
 */
static int boot_set_mtrr(const struct vcpu *c, struct err *e)
{
	struct {
		struct kvm_msrs head;
		struct kvm_msr_entry entry;
	} msrs = {
		.head.nmsrs = 1,
		.entry = { .index = BOOT_MSR_MTRR_DEF_TYPE, .data = BOOT_MTRR_ON_WRITE_BACK },
	};

	if (ioctl(c->fd, KVM_SET_MSRS, &msrs) != 1)
		return err_errno(e, EIO, "KVM_SET_MSRS: IA32_MTRR_DEF_TYPE");
	return 0;
}

/*
 * XCR0 as every kernel of today sets it: all that CPUID offers.  For a nested hypervisor
 * that is not told of the guest's XSETBV (QEMU's emulation of SVM): there XSAVE would save
 * the x87 registers alone.
 */
static int boot_set_xcr0(const struct vcpu *c, struct cpuid *cpuid, struct err *e)
{
	const struct kvm_cpuid_entry2 *x = cpuid_find(cpuid, 0xd, 0);
	struct kvm_xcrs xcrs = { .nr_xcrs = 1 };

	if (!x)
		return 0;
	xcrs.xcrs[0].value = (uint64_t)x->edx << 32 | x->eax;
	if (ioctl(c->fd, KVM_SET_XCRS, &xcrs) < 0)
		return err_errno(e, errno, "KVM_SET_XCRS");
	return 0;
}

static int boot_init_vcpus(struct vm *vm, uint64_t entry, struct err *e)
{
	bool deadline = ioctl(vm->vm_fd, KVM_CHECK_EXTENSION, KVM_CAP_TSC_DEADLINE_TIMER) > 0;
	auto_free struct cpuid *cpuid = malloc(sizeof(*cpuid));
	int rc;

	if (!cpuid)
		return err_errno(e, ENOMEM, "CPUID");
	rc = cpuid_read(vm->cfg.kvm_fd, cpuid, e);
	if (rc)
		return rc;
	cpuid_filter(cpuid, vm->n_vcpus, deadline);
	for (unsigned i = 0; !rc && i < vm->n_vcpus; i++) {
		cpuid_set_apic_id(cpuid, i);
		rc = cpuid_apply(vm->vcpus[i].fd, cpuid, e);
		if (!rc)
			rc = boot_set_mtrr(&vm->vcpus[i], e);
		if (!rc)
			rc = boot_set_xcr0(&vm->vcpus[i], cpuid, e);
	}
	return rc ? rc : boot_set_registers(&vm->vcpus[0], entry, e);
}

int boot_finish(struct boot *b, struct vm *vm, struct err *e)
{
	struct boot_params *zero = memory_at(&vm->memory, BOOT_ZERO_PAGE, sizeof(*zero));
	int rc;

	boot_join(b);
	if (b->rc)
		return err_set(e, -b->rc, "%s", err_text(&b->err));
	boot_init_zero_page(b, zero);
	rc = boot_write_cmdline(vm, b->cfg.cmdline, zero, e);
	if (rc)
		return rc;
	boot_write_e820(vm, zero);
	boot_write_tables(vm);
	return boot_init_vcpus(vm, b->image.entry, e);
}
