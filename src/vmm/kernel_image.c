/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DOC: Theory of operation
 *
 * Purpose: tell from the headers of a kernel file what to load where.
 *
 * Spec: Documentation/x86/boot.rst of Linux 6.1 (header offsets as there, "64-bit Boot
 * Protocol"); ELF-64 Object File Format 1.5.  An ELF vmlinux has its physical addresses
 * in p_paddr, and the physical address of startup_64 as its entry, which takes what the
 * 64-bit boot protocol prescribes.
 *
 * Trust boundary: the file may be anybody's.  Each number is used only after a check
 * against the file's size and the range of addresses that a kernel may have; sums are
 * checked for overflow.
 */
#include "vmm/kernel_image.h"

#include <elf.h>
#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include "base/checked.h"

/* Fields of the setup header, by their offset in the file. */
#define SETUP_SECTS 0x1f1u
#define SETUP_BOOT_FLAG 0x1feu
#define SETUP_JUMP_LENGTH 0x201u /* the header ends at 0x202 + this byte */
#define SETUP_MAGIC 0x202u
#define SETUP_VERSION 0x206u
#define SETUP_LOADFLAGS 0x211u
#define SETUP_INITRD_ADDR_MAX 0x22cu
#define SETUP_XLOADFLAGS 0x236u
#define SETUP_PREF_ADDRESS 0x258u
#define SETUP_INIT_SIZE 0x260u
#define SETUP_END 0x264u /* of what is read here */

#define SETUP_VERSION_MIN 0x020cu /* the first with xloadflags */
#define SETUP_LOADED_HIGH 1u
#define SETUP_KERNEL_64 1u
#define SETUP_ENTRY_64 0x200u

/* What an ELF kernel, which has no such field, can be trusted with. */
#define KERNEL_IMAGE_INITRAMFS_MAX 0x7fffffffull

static uint64_t kernel_image_le(const uint8_t *p, unsigned bytes)
{
	uint64_t v = 0;

	while (bytes--)
		v = v << 8 | p[bytes];
	return v;
}

static int kernel_image_add(struct kernel_image *k, const struct kernel_segment *s,
			    uint64_t file_bytes, struct err *e)
{
	uint64_t end;

	if (!checked_range(s->file_offset, s->file_bytes, file_bytes))
		return err_set(e, ENOEXEC,
			       "a segment ends behind the end of the file: it was cut off");
	if (s->memory_bytes < s->file_bytes)
		return err_set(e, ENOEXEC, "a segment is smaller in memory than in the file");
	if (s->gpa < KERNEL_IMAGE_GPA_MIN || !checked_add(s->gpa, s->memory_bytes, &end) ||
	    end > KERNEL_IMAGE_GPA_MAX)
		return err_set(e, ENOEXEC,
			       "a segment of 0x%llx bytes at 0x%llx: a kernel has to lie between "
			       "1 MiB and 1 GiB",
			       (unsigned long long)s->memory_bytes, (unsigned long long)s->gpa);
	for (unsigned i = 0; i < k->n_segments; i++) {
		const struct kernel_segment *o = &k->segments[i];

		if (s->gpa < o->gpa + o->memory_bytes && o->gpa < end)
			return err_set(e, ENOEXEC, "two segments overlap at 0x%llx",
				       (unsigned long long)(s->gpa > o->gpa ? s->gpa : o->gpa));
	}
	if (k->n_segments == KERNEL_IMAGE_SEGMENTS_MAX)
		return err_set(e, ENOEXEC, "more than %u segments", KERNEL_IMAGE_SEGMENTS_MAX);
	k->segments[k->n_segments++] = *s;
	if (end > k->end)
		k->end = end;
	return 0;
}

static int kernel_image_check_entry(const struct kernel_image *k, struct err *e)
{
	for (unsigned i = 0; i < k->n_segments; i++) {
		const struct kernel_segment *s = &k->segments[i];

		if (k->entry >= s->gpa && k->entry - s->gpa < s->file_bytes)
			return 0;
	}
	return err_set(e, ENOEXEC, "its entry point 0x%llx lies outside of what is loaded",
		       (unsigned long long)k->entry);
}

static int kernel_image_elf(const uint8_t *head, size_t head_bytes, uint64_t file_bytes,
			    struct kernel_image *k, struct err *e)
{
	Elf64_Ehdr h;

	if (head_bytes < sizeof(h))
		return err_set(e, ENOEXEC, "the ELF header was cut off");
	memcpy(&h, head, sizeof(h));
	if (h.e_ident[EI_CLASS] != ELFCLASS64 || h.e_ident[EI_DATA] != ELFDATA2LSB ||
	    h.e_machine != EM_X86_64)
		return err_set(e, ENOEXEC, "it is an ELF file, but not of 64-bit x86");
	if (h.e_type != ET_EXEC && h.e_type != ET_DYN)
		return err_set(e, ENOEXEC, "it is an ELF file, but not linked");
	if (h.e_phentsize != sizeof(Elf64_Phdr) ||
	    !checked_range(h.e_phoff, (uint64_t)h.e_phnum * sizeof(Elf64_Phdr), head_bytes))
		return err_set(e, ENOEXEC,
			       "%u program headers of %u bytes at 0x%llx: they have to be of 56 "
			       "bytes, in the first %u of the file",
			       h.e_phnum, h.e_phentsize, (unsigned long long)h.e_phoff,
			       KERNEL_IMAGE_HEAD);
	for (unsigned i = 0; i < h.e_phnum; i++) {
		struct kernel_segment s;
		Elf64_Phdr p;
		int rc;

		memcpy(&p, head + h.e_phoff + i * sizeof(p), sizeof(p));
		if (p.p_type != PT_LOAD || !p.p_memsz)
			continue;
		s = (struct kernel_segment){ p.p_offset, p.p_filesz, p.p_paddr, p.p_memsz };
		rc = kernel_image_add(k, &s, file_bytes, e);
		if (rc)
			return rc;
	}
	k->entry = h.e_entry;
	k->initramfs_max = KERNEL_IMAGE_INITRAMFS_MAX;
	return kernel_image_check_entry(k, e);
}

static int kernel_image_bz(const uint8_t *head, size_t head_bytes, uint64_t file_bytes,
			   struct kernel_image *k, struct err *e)
{
	uint64_t version, setup_file_bytes, memory;
	struct kernel_segment s;
	size_t setup_end;
	int rc;

	if (head_bytes < SETUP_END)
		return err_set(e, ENOEXEC, "the setup header was cut off");
	version = kernel_image_le(head + SETUP_VERSION, 2);
	if (version < SETUP_VERSION_MIN || !(head[SETUP_LOADFLAGS] & SETUP_LOADED_HIGH) ||
	    !(head[SETUP_XLOADFLAGS] & SETUP_KERNEL_64))
		return err_set(e, ENOEXEC,
			       "it has no 64-bit entry point (boot protocol %llx.%02llx): use a "
			       "64-bit kernel of Linux 3.8 or later",
			       (unsigned long long)(version >> 8),
			       (unsigned long long)(version & 0xff));
	setup_file_bytes = (head[SETUP_SECTS] ? head[SETUP_SECTS] + 1u : 5u) * 512u;
	if (file_bytes <= setup_file_bytes + SETUP_ENTRY_64)
		return err_set(e, ENOEXEC, "it ends before the kernel begins: it was cut off");
	s = (struct kernel_segment){
		.file_offset = setup_file_bytes,
		.file_bytes = file_bytes - setup_file_bytes,
		.gpa = kernel_image_le(head + SETUP_PREF_ADDRESS, 8),
	};
	/* init_size is what it needs, from there on, to unpack itself. */
	memory = kernel_image_le(head + SETUP_INIT_SIZE, 4);
	s.memory_bytes = memory > s.file_bytes ? memory : s.file_bytes;
	rc = kernel_image_add(k, &s, file_bytes, e);
	if (rc)
		return rc;
	k->entry = s.gpa + SETUP_ENTRY_64;
	k->initramfs_max = kernel_image_le(head + SETUP_INITRD_ADDR_MAX, 4);
	setup_end = SETUP_MAGIC + head[SETUP_JUMP_LENGTH];
	if (setup_end < SETUP_END || setup_end > head_bytes ||
	    setup_end > KERNEL_IMAGE_SETUP_OFFSET + KERNEL_IMAGE_SETUP_MAX)
		return err_set(e, ENOEXEC, "its setup header ends at 0x%zx", setup_end);
	k->setup_bytes = setup_end - KERNEL_IMAGE_SETUP_OFFSET;
	memcpy(k->setup, head + KERNEL_IMAGE_SETUP_OFFSET, k->setup_bytes);
	return 0;
}

int kernel_image_parse(const uint8_t *head, size_t head_bytes, uint64_t file_bytes,
		       struct kernel_image *out, struct err *e)
{
	struct kernel_image k = { .n_segments = 0 };
	int rc;

	if (head_bytes >= SELFMAG && !memcmp(head, ELFMAG, SELFMAG))
		rc = kernel_image_elf(head, head_bytes, file_bytes, &k, e);
	else if (head_bytes >= SETUP_MAGIC + 4 && !memcmp(head + SETUP_MAGIC, "HdrS", 4) &&
		 kernel_image_le(head + SETUP_BOOT_FLAG, 2) == 0xaa55)
		rc = kernel_image_bz(head, head_bytes, file_bytes, &k, e);
	else
		rc = err_set(e, ENOEXEC, "it is neither an ELF vmlinux nor a bzImage");
	if (!rc)
		*out = k;
	return rc;
}
