/* SPDX-License-Identifier: Apache-2.0 */
/* Kernel files, right and wrong. */
#include "unit/test.h"

#include <elf.h>
#include <errno.h>

#include "vmm/kernel_image.h"

#define FILE_BYTES (8u << 20)
#define MIB (1ull << 20)

static uint8_t head[KERNEL_IMAGE_HEAD];
static struct kernel_image k;
static struct err e;

static Elf64_Ehdr *ehdr(void)
{
	return (Elf64_Ehdr *)head;
}

static Elf64_Phdr *phdr(unsigned i)
{
	return (Elf64_Phdr *)(head + sizeof(Elf64_Ehdr)) + i;
}

/* Text at 16 MiB, data with a bss at 20 MiB, a note. */
static void elf(void)
{
	memset(head, 0, sizeof(head));
	*ehdr() = (Elf64_Ehdr){
		.e_ident = { 0x7f, 'E', 'L', 'F', ELFCLASS64, ELFDATA2LSB, EV_CURRENT },
		.e_type = ET_EXEC,
		.e_machine = EM_X86_64,
		.e_entry = 16 * MIB + 0x100,
		.e_phoff = sizeof(Elf64_Ehdr),
		.e_phentsize = sizeof(Elf64_Phdr),
		.e_phnum = 3,
	};
	*phdr(0) = (Elf64_Phdr){ .p_type = PT_LOAD,
				 .p_offset = 2 * MIB,
				 .p_filesz = 3 * MIB,
				 .p_memsz = 3 * MIB,
				 .p_paddr = 16 * MIB,
				 .p_vaddr = 0xffffffff81000000 };
	*phdr(1) = (Elf64_Phdr){ .p_type = PT_LOAD,
				 .p_offset = 6 * MIB,
				 .p_filesz = MIB,
				 .p_memsz = 2 * MIB,
				 .p_paddr = 20 * MIB };
	*phdr(2) = (Elf64_Phdr){ .p_type = PT_NOTE, .p_offset = UINT64_MAX, .p_filesz = 8 };
}

static void put(unsigned at, uint64_t v, unsigned bytes)
{
	for (; bytes--; v >>= 8)
		head[at++] = (uint8_t)v;
}

/* 4 KiB of setup, then the kernel, which wants 20 MiB from 16 MiB on. */
static void bz(void)
{
	memset(head, 0, sizeof(head));
	put(0x1f1, 7, 1);
	put(0x1fe, 0xaa55, 2);
	put(0x201, 0x6a, 1);
	memcpy(head + 0x202, "HdrS", 4);
	put(0x206, 0x020f, 2);
	put(0x211, 1, 1);
	put(0x22c, 0x7fffffff, 4);
	put(0x236, 0x3f, 2);
	put(0x258, 16 * MIB, 8);
	put(0x260, 20 * MIB, 4);
}

static int parse_of(size_t head_bytes, uint64_t file_bytes)
{
	err_clear(&e);
	memset(&k, 0xee, sizeof(k));
	return kernel_image_parse(head, head_bytes, file_bytes, &k, &e);
}

static int parse(void)
{
	return parse_of(sizeof(head), FILE_BYTES);
}

static void assert_refused(const char *why)
{
	assert_int_equal(parse(), -ENOEXEC);
	if (!strstr(e.msg, why))
		fail_msg("'%s' is not in: %s", why, e.msg);
	assert_int_equal(k.n_segments, 0xeeeeeeee); /* written on success only */
}

static void a_vmlinux_is_understood(void **state)
{
	(void)state;
	elf();
	assert_int_equal(parse(), 0);
	assert_int_equal(k.n_segments, 2);
	assert_int_equal(k.segments[1].file_offset, 6 * MIB);
	assert_int_equal(k.segments[1].file_bytes, MIB);
	assert_int_equal(k.segments[1].gpa, 20 * MIB);
	assert_int_equal(k.segments[1].memory_bytes, 2 * MIB);
	assert_int_equal(k.entry, 16 * MIB + 0x100);
	assert_int_equal(k.end, 22 * MIB);
	assert_int_equal(k.setup_bytes, 0);
}

static void a_bzimage_is_understood(void **state)
{
	(void)state;
	bz();
	assert_int_equal(parse(), 0);
	assert_int_equal(k.n_segments, 1);
	assert_int_equal(k.segments[0].file_offset, 4096);
	assert_int_equal(k.segments[0].file_bytes, FILE_BYTES - 4096);
	assert_int_equal(k.segments[0].gpa, 16 * MIB);
	assert_int_equal(k.segments[0].memory_bytes, 20 * MIB);
	assert_int_equal(k.entry, 16 * MIB + 0x200);
	assert_int_equal(k.end, 36 * MIB);
	assert_int_equal(k.initramfs_max, 0x7fffffff);
	assert_int_equal(k.setup_bytes, 0x202 + 0x6a - 0x1f1);
	assert_memory_equal(k.setup + 0x202 - 0x1f1, "HdrS", 4);

	/* An init_size that is too small does not cut the file off; setup_sects 0 means 4. */
	put(0x260, 1, 4);
	put(0x1f1, 0, 1);
	assert_int_equal(parse(), 0);
	assert_int_equal(k.segments[0].file_offset, 5 * 512);
	assert_int_equal(k.segments[0].memory_bytes, FILE_BYTES - 5 * 512);
}

static void something_else_is_refused(void **state)
{
	(void)state;
	memset(head, 0, sizeof(head));
	assert_refused("neither");
	assert_int_equal(parse_of(0, 0), -ENOEXEC);
	elf();
	for (size_t n = 0; n < sizeof(Elf64_Ehdr) + 3 * sizeof(Elf64_Phdr); n++)
		assert_int_equal(parse_of(n, FILE_BYTES), -ENOEXEC);
	assert_int_equal(parse_of(sizeof(Elf64_Ehdr) + 3 * sizeof(Elf64_Phdr), FILE_BYTES), 0);
	bz();
	for (size_t n = 0; n < 0x202 + 0x6a; n++)
		assert_int_equal(parse_of(n, FILE_BYTES), -ENOEXEC);
	assert_int_equal(parse_of(0x202 + 0x6a, FILE_BYTES), 0);
	bz();
	put(0x1fe, 0, 2);
	assert_refused("neither");
}

static void foreign_elf_files_are_refused(void **state)
{
	(void)state;
	elf();
	ehdr()->e_ident[EI_CLASS] = ELFCLASS32;
	assert_refused("64-bit x86");
	elf();
	ehdr()->e_machine = EM_AARCH64;
	assert_refused("64-bit x86");
	elf();
	ehdr()->e_type = ET_REL;
	assert_refused("not linked");
	elf();
	ehdr()->e_phentsize = 8;
	assert_refused("program headers");
	elf();
	ehdr()->e_phoff = sizeof(head) - sizeof(Elf64_Phdr);
	assert_refused("program headers");
	elf();
	ehdr()->e_phoff = UINT64_MAX;
	assert_refused("program headers");
	elf();
	ehdr()->e_phnum = 0;
	assert_refused("entry point");
	elf();
	ehdr()->e_entry = 19 * MIB; /* behind the text */
	assert_refused("entry point");
	elf();
	ehdr()->e_entry = 21 * MIB; /* in the bss, which holds no code */
	assert_refused("entry point");
}

static void segments_stay_in_file_and_memory(void **state)
{
	(void)state;
	elf();
	phdr(1)->p_offset = FILE_BYTES - MIB;
	assert_int_equal(parse(), 0);
	phdr(1)->p_offset++;
	assert_refused("cut off");
	phdr(1)->p_offset = UINT64_MAX - 10;
	assert_refused("cut off");
	elf();
	phdr(1)->p_memsz = MIB - 1;
	assert_refused("smaller in memory");
	elf();
	phdr(1)->p_paddr = 0xffffffff81000000;
	assert_refused("between");
	phdr(1)->p_paddr = 1024 * MIB - 2 * MIB;
	assert_int_equal(parse(), 0);
	assert_int_equal(k.end, 1024 * MIB);
	phdr(1)->p_paddr++;
	assert_refused("between");
	phdr(1)->p_paddr = MIB - 1;
	assert_refused("between");
	phdr(1)->p_paddr = 20 * MIB;
	phdr(1)->p_memsz = UINT64_MAX - MIB;
	assert_refused("between");
	elf();
	phdr(1)->p_paddr = 19 * MIB; /* the byte behind the text */
	assert_int_equal(parse(), 0);
	phdr(1)->p_paddr--;
	assert_refused("overlap");
	phdr(1)->p_paddr = 15 * MIB;
	assert_refused("overlap");
	elf();
	ehdr()->e_phnum = KERNEL_IMAGE_SEGMENTS_MAX + 1;
	for (unsigned i = 1; i <= KERNEL_IMAGE_SEGMENTS_MAX; i++)
		*phdr(i) =
			(Elf64_Phdr){ .p_type = PT_LOAD, .p_paddr = (20 + i) * MIB, .p_memsz = 1 };
	assert_refused("more than");
}

static void foreign_bzimages_are_refused(void **state)
{
	(void)state;
	bz();
	put(0x206, 0x020b, 2);
	assert_refused("boot protocol 2.0b");
	bz();
	put(0x236, 0, 2);
	assert_refused("no 64-bit entry point");
	bz();
	put(0x211, 0, 1);
	assert_refused("no 64-bit entry point");
	bz();
	assert_int_equal(parse_of(sizeof(head), 4096 + 0x200), -ENOEXEC);
	assert_int_equal(parse_of(sizeof(head), 4096 + 0x201), 0);
	put(0x258, UINT64_MAX - 5, 8);
	assert_refused("between");
	put(0x258, 0, 8);
	assert_refused("between");
	bz();
	put(0x260, UINT32_MAX, 4);
	assert_refused("between");
	bz();
	put(0x201, 0x61, 1);
	assert_refused("setup header ends");
	put(0x201, 0x8f, 1);
	assert_refused("setup header ends");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_vmlinux_is_understood),          TEST(a_bzimage_is_understood),
		TEST(something_else_is_refused),        TEST(foreign_elf_files_are_refused),
		TEST(segments_stay_in_file_and_memory), TEST(foreign_bzimages_are_refused),
	};

	return test_run(tests);
}
