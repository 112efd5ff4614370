/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The machine on a real /dev/kvm, with guests of a few instructions that judge what they
 * see: a guest that is content asks for a reset, one that is not runs into a triple
 * fault.  Left out where there is no /dev/kvm.
 */
#include "unit/test.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/mem.h"
#include "vmm/boot.h"
#include "vmm/vm.h"

#define LOAD 0x1000000ull
#define COUNTER 0x2000ull /* guest physical; where some guests count */
#define MEMORY (64ull << 20)

/* clang-format off */
#define GUEST(name, code) \
	extern const uint8_t guest_##name[], guest_##name##_end[]; \
	__asm__(".pushsection .rodata\n.code64\n" \
		"guest_" #name ":\n" code "\nguest_" #name "_end:\n.popsection\n");

#define RESET "mov $0xfe, %al; out %al, $0x64; 1: hlt; jmp 1b;"
/* The IDT is empty: any exception ends in a triple fault. */
#define CRASH "ud2;"

GUEST(reset, RESET)
GUEST(crash, CRASH)
/* Ports and addresses where nothing is read as all ones; writes go nowhere. */
GUEST(nothing_there,
	"mov $0x3f8, %dx; in (%dx), %al; cmp $0xff, %al; jne 9f;"
	"mov $0x70, %dx; in (%dx), %eax; cmp $-1, %eax; jne 9f;"
	"in $0x64, %al; test %al, %al; jne 9f;"
	"mov $0xff, %al; out %al, $0x64;" /* another command than reset */
	"mov $0x80, %dx; out %eax, (%dx);"
	"mov $0x2000, %edi; mov $4, %ecx; mov $0x2f8, %dx; cld; rep insb;"
	"mov $0x2000, %edi; cmpl $-1, (%rdi); jne 9f;"
	"mov $0x3f000000, %edi; mov (%rdi), %rax; cmp $-1, %rax; jne 9f;"
	"mov %rax, (%rdi); movb $1, (%rdi);"
	RESET "9:" CRASH)
/* Reads what is not there, and counts, for ever; a read that is half done shows. */
GUEST(count,
	"mov $0x3f000000, %edi; mov $0x2000, %esi; mov $0x3f8, %dx;"
	"1: xor %eax, %eax; mov (%rdi), %eax; cmp $-1, %eax; jne 9f;"
	"xor %eax, %eax; in (%dx), %al; cmp $0xff, %eax; jne 9f;"
	"incl (%rsi); jmp 1b;"
	"9:" CRASH)
/* Starts CPU 1 at 0x8000, in real mode, which asks for the reset. */
GUEST(second_cpu,
	"mov $0x8000, %edi; movl $0x64e6feb0, (%rdi); movl $0xfdebf4, 4(%rdi);"
	/* x2APIC mode: the registers are MSRs, the page tables know only the first GiB. */
	"mov $0x1b, %ecx; rdmsr; or $0xc00, %eax; wrmsr;"
	"mov $0x80f, %ecx; mov $0x1ff, %eax; xor %edx, %edx; wrmsr;"
	"mov $0x830, %ecx; mov $1, %edx; mov $0x4500, %eax; wrmsr;" /* INIT */
	"mov $1, %edx; mov $0x4608, %eax; wrmsr;" /* SIPI, page 8 */
	"1: pause; jmp 1b;")
/* The zero page, where %rsi says, tells memory and command line as they are. */
GUEST(zero_page,
	"cmpl $0x53726448, 0x202(%rsi); jne 9f;" /* HdrS */
	"cmpb $3, 0x1e8(%rsi); jne 9f;" /* entries of the memory map */
	"cmpl $0x9fc00, 0x2d8(%rsi); jne 9f;" /* size of the first */
	"cmpl $0x3f00000, 0x300(%rsi); jne 9f;" /* of the third: 64 MiB less one */
	"mov 0x228(%rsi), %edi; cmpl $0x206f6c68, (%rdi); jne 9f;" /* "hlo " */
	"mov 0x218(%rsi), %edi; cmpl $0x74696e69, (%rdi); jne 9f;" /* "init" */
	"cmpl $4, 0x21c(%rsi); jne 9f;"
	"mov $0x9fc00, %edi; cmpl $0x5f504d5f, (%rdi); jne 9f;" /* _MP_ */
	RESET "9:" CRASH)
/* clang-format on */

static struct vm vm;
static struct err e;

static int file_of(const void *data, size_t n)
{
	int fd = memfd_create("test", MFD_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(pwrite(fd, data, n, 0), n);
	return fd;
}

/* An ELF kernel whose text is @code and whose end is @memory_bytes further. */
static int kernel_of(const uint8_t *code, size_t n, uint64_t memory_bytes)
{
	uint8_t file[8192] = { 0 };
	const Elf64_Ehdr h = {
		.e_ident = { 0x7f, 'E', 'L', 'F', ELFCLASS64, ELFDATA2LSB, EV_CURRENT },
		.e_type = ET_EXEC,
		.e_machine = EM_X86_64,
		.e_entry = LOAD,
		.e_phoff = sizeof(h),
		.e_phentsize = sizeof(Elf64_Phdr),
		.e_phnum = 1,
	};
	const Elf64_Phdr p = { .p_type = PT_LOAD,
			       .p_offset = 4096,
			       .p_paddr = LOAD,
			       .p_filesz = n,
			       .p_memsz = memory_bytes };

	assert_true(n <= 4096);
	memcpy(file, &h, sizeof(h));
	memcpy(file + sizeof(h), &p, sizeof(p));
	memcpy(file + 4096, code, n);
	return file_of(file, 4096 + n);
}

static void machine(unsigned cpus)
{
	const struct vm_config cfg = {
		.name = "test",
		.kvm_fd = open("/dev/kvm", O_RDWR | O_CLOEXEC),
		.n_cpus = cpus,
		.memory_bytes = MEMORY,
		.seccomp_log = true,
	};

	if (cfg.kvm_fd < 0)
		skip();
	err_clear(&e);
	assert_int_equal(vm_create(&vm, &cfg, &e), 0);
}

static void machine_end(void)
{
	int kvm_fd = vm.cfg.kvm_fd;

	vm_destroy(&vm);
	close(kvm_fd);
}

static int load(int kernel_fd, int initramfs_fd, const char *cmdline)
{
	const struct boot_config cfg = { kernel_fd, initramfs_fd, cmdline };
	struct boot boot;
	int rc = boot_begin(&boot, &cfg, MEMORY, &e);

	assert_int_equal(rc, 0);
	assert_int_equal(vm_use_memory(&vm, &boot.memory, &e), 0);
	assert_int_equal(vm_create_vcpus(&vm, &e), 0);
	rc = boot_finish(&boot, &vm, &e);
	boot_fini(&boot);
	close(kernel_fd);
	if (initramfs_fd >= 0)
		close(initramfs_fd);
	return rc;
}

#define boot(name) boot_guest(guest_##name, (size_t)(guest_##name##_end - guest_##name))

static void boot_guest(const uint8_t *code, size_t n)
{
	assert_int_equal(load(kernel_of(code, n, n), -1, ""), 0);
	assert_int_equal(vm_start(&vm, &e), 0);
}

static void a_guest_can_reset_its_machine(void **state)
{
	(void)state;
	machine(1);
	boot(reset);
	vm_resume(&vm);
	assert_int_equal(loop_run(vm.loop), VM_END_RESET);
	assert_string_equal(vm.end_reason, "");
	/* There is no way back. */
	assert_false(vm_pause(&vm));
	machine_end();
}

static void a_triple_fault_is_told_from_a_reset(void **state)
{
	(void)state;
	machine(1);
	boot(crash);
	vm_resume(&vm);
	assert_int_equal(loop_run(vm.loop), VM_END_CRASH);
	assert_non_null(strstr(vm.end_reason, "triple fault on CPU 0"));
	machine_end();
}

static void where_nothing_is_all_bits_are_one(void **state)
{
	(void)state;
	machine(1);
	boot(nothing_there);
	vm_resume(&vm);
	assert_int_equal(loop_run(vm.loop), VM_END_RESET);
	machine_end();
}

static void a_kernel_finds_what_it_is_told(void **state)
{
	size_t n = (size_t)(guest_zero_page_end - guest_zero_page);

	(void)state;
	machine(1);
	assert_int_equal(load(kernel_of(guest_zero_page, n, n), file_of("init", 4), "hlo quiet"), 0);
	assert_int_equal(vm_start(&vm, &e), 0);
	vm_resume(&vm);
	assert_int_equal(loop_run(vm.loop), VM_END_RESET);
	machine_end();
}

static void a_second_cpu_starts(void **state)
{
	(void)state;
	machine(2);
	boot(second_cpu);
	vm_resume(&vm);
	assert_int_equal(loop_run(vm.loop), VM_END_RESET);
	machine_end();
}

static uint32_t counter(void)
{
	return __atomic_load_n((uint32_t *)memory_at(&vm.memory, COUNTER, 4), __ATOMIC_RELAXED);
}

/* The guest has counted on, or is dead. */
static void wait_for_progress(uint32_t from)
{
	while (counter() == from && vm.state == VM_RUNNING)
		sched_yield();
}

static void a_paused_guest_stands_still_and_loses_nothing(void **state)
{
	(void)state;
	machine(4); /* three wait for an INIT that never comes */
	boot(count);
	for (unsigned i = 0; i < 300; i++) {
		uint32_t before;

		assert_true(vm_pause(&vm));
		assert_true(vm_pause(&vm)); /* is paused already */
		before = counter();
		vm_resume(&vm);
		vm_resume(&vm);
		wait_for_progress(before);
		assert_int_equal(vm.state, VM_RUNNING);
	}
	/* The host ends it, with all CPUs in KVM. */
	vm_end(&vm, VM_END_HOST, "reason %d", 1);
	vm_end(&vm, VM_END_CRASH, "too late");
	assert_int_equal(loop_run(vm.loop), VM_END_HOST);
	assert_string_equal(vm.end_reason, "reason 1");
	machine_end();
}

static void a_paused_machine_can_be_destroyed(void **state)
{
	(void)state;
	machine(2);
	boot(count);
	machine_end();
	machine(2);
	boot(count);
	vm_resume(&vm);
	wait_for_progress(0);
	assert_true(vm_pause(&vm));
	machine_end();
}

static void assert_load_fails(int kernel_fd, int initramfs_fd, const char *cmdline, const char *why)
{
	machine(1);
	assert_true(load(kernel_fd, initramfs_fd, cmdline) < 0);
	if (!strstr(e.msg, why))
		fail_msg("'%s' is not in: %s", why, e.msg);
	machine_end();
}

static void assert_loads(int kernel_fd, int initramfs_fd, const char *cmdline)
{
	machine(1);
	assert_int_equal(load(kernel_fd, initramfs_fd, cmdline), 0);
	machine_end();
}

static void what_does_not_fit_is_refused(void **state)
{
	const uint64_t room = MEMORY - LOAD;
	static uint8_t big[1 << 20];
	char line[BOOT_CMDLINE_MAX + 1];
	int pipes[2];

	(void)state;
	assert_load_fails(file_of("#!/bin/sh\n", 10), -1, "", "neither");
	assert_load_fails(file_of("", 0), -1, "", "not a regular file with contents");
	assert_int_equal(pipe(pipes), 0);
	close(pipes[1]);
	assert_load_fails(pipes[0], -1, "", "not a regular file");
	assert_load_fails(kernel_of(guest_reset, 4, room + 1), -1, "", "it needs memory up to");
	assert_load_fails(kernel_of(guest_reset, 4, room - sizeof(big) + 1),
			  file_of(big, sizeof(big)), "", "do not fit");
	assert_loads(kernel_of(guest_reset, 4, room - sizeof(big)), file_of(big, sizeof(big)), "");
	memset(line, 'x', sizeof(line));
	line[BOOT_CMDLINE_MAX] = '\0';
	assert_load_fails(kernel_of(guest_reset, 4, 4), -1, line, "longer than 2047");
	line[BOOT_CMDLINE_MAX - 1] = '\0';
	assert_loads(kernel_of(guest_reset, 4, 4), -1, line);
}

static void impossible_machines_are_refused(void **state)
{
	struct vm_config cfg = { .kvm_fd = -1, .n_cpus = 1, .memory_bytes = MEMORY };

	(void)state;
	assert_int_equal(vm_create(&vm, &cfg, NULL), -ENOTSUP);
	cfg.n_cpus = VM_CPUS_MAX + 1;
	assert_int_equal(vm_create(&vm, &cfg, NULL), -EINVAL);
	cfg.n_cpus = 0;
	assert_int_equal(vm_create(&vm, &cfg, NULL), -EINVAL);
	cfg.n_cpus = 1;
	cfg.memory_bytes = VM_MEMORY_MAX + 4096;
	assert_int_equal(vm_create(&vm, &cfg, NULL), -EINVAL);
	cfg.memory_bytes = VM_MEMORY_MIN - 4096;
	assert_int_equal(vm_create(&vm, &cfg, NULL), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_guest_can_reset_its_machine),
		TEST(a_triple_fault_is_told_from_a_reset),
		TEST(where_nothing_is_all_bits_are_one),
		TEST(a_kernel_finds_what_it_is_told),
		TEST(a_second_cpu_starts),
		TEST(a_paused_guest_stands_still_and_loses_nothing),
		TEST(a_paused_machine_can_be_destroyed),
		TEST(what_does_not_fit_is_refused),
		TEST(impossible_machines_are_refused),
	};

	return test_run(tests);
}
