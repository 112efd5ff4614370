/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DOC: Theory of operation
 *
 * Purpose: what a snapshot can be restored on: this very build of the VMM, and a CPU like
 * this one.
 *
 * The build is the GNU build id that the linker put into this program: a hash of its
 * content.  The CPU is asked itself: vendor and model, and a hash of the leaves that tell
 * its features.  KVM_GET_SUPPORTED_CPUID would tell what KVM makes of them; but it asks
 * some seventy leaves, each a trap of 4 us where the host is a virtual machine itself, and
 * a restore has no time for that.  A host whose KVM offers less than it did is not
 * noticed here: the guest finds out.
 *
 * Spec: Intel SDM volume 2 (CPUID), AMD APM volume 3 appendix E; the ELF notes of the
 * GNU ABI.
 */
#include <cpuid.h>
#include <elf.h>
#include <errno.h>
#include <link.h>
#include <string.h>

#include "base/mem.h"
#include "codec/le.h"
#include "vmm/state.h"

/* The program's own file as it is mapped, from its ELF header on; the linker's symbol. */
extern const uint8_t __ehdr_start[] __attribute__((visibility("hidden")));

/* Registers of a leaf that tell what the CPU can do, and nothing of its present state. */
struct cpu_leaf {
	uint32_t leaf, subleaf;
	uint32_t eax, ebx, ecx, edx; /* masks */
};

static const struct cpu_leaf cpu_leaves[] = {
	{ 1, 0, 0xffffffff, 0, 0xffffffff, 0xffffffff }, /* ebx: which CPU this is */
	{ 7, 0, 0, 0xffffffff, 0xffffffff, 0xffffffff },
	{ 7, 1, 0xffffffff, 0, 0, 0xffffffff },
	{ 0xd, 0, 0xffffffff, 0, 0, 0xffffffff }, /* ebx: size of what XCR0 has now */
	{ 0xd, 1, 0xffffffff, 0, 0xffffffff, 0xffffffff },
	{ 0x80000001, 0, 0, 0, 0xffffffff, 0xffffffff },
	{ 0x80000008, 0, 0xffffffff, 0xffffffff, 0, 0 },
	{ 0x80000021, 0, 0xffffffff, 0, 0, 0 },
};

#define CPU_LEAF_BYTES 16u

static int identity_note(const uint8_t *p, size_t n, struct snapshot_identity *out)
{
	while (n >= sizeof(ElfW(Nhdr))) {
		const ElfW(Nhdr) *note = (const void *)p;
		size_t name = (note->n_namesz + 3u) & ~3u, desc = (note->n_descsz + 3u) & ~3u;
		size_t len = sizeof(*note) + name + desc;

		if (note->n_type == NT_GNU_BUILD_ID && note->n_namesz == 4 &&
		    !memcmp(note + 1, "GNU", 4) && note->n_descsz <= sizeof(out->build)) {
			memcpy(out->build, p + sizeof(*note) + name, note->n_descsz);
			return 0;
		}
		if (len > n)
			break;
		p += len;
		n -= len;
	}
	return -ENOENT;
}

static int identity_build(struct snapshot_identity *out, struct err *e)
{
	const uint8_t *base = __ehdr_start;
	const ElfW(Ehdr) *eh = (const void *)base;
	const ElfW(Phdr) *ph = (const void *)(base + eh->e_phoff);

	/* Position-independent: the header is at the address 0 of the file's own count. */
	for (unsigned i = 0; i < eh->e_phnum; i++)
		if (ph[i].p_type == PT_NOTE &&
		    !identity_note(base + ph[i].p_vaddr, ph[i].p_memsz, out))
			return 0;
	return err_set(
		e, ENOTSUP,
		"this msb-vmm was linked without a build id (-Wl,--build-id): it cannot tell "
		"its own snapshots from others");
}

static void identity_model(struct snapshot_identity *out, uint32_t eax)
{
	out->family = eax >> 8 & 0xf;
	out->model = eax >> 4 & 0xf;
	out->stepping = eax & 0xf;
	if (out->family == 6 || out->family == 15)
		out->model |= eax >> 12 & 0xf0;
	if (out->family == 15)
		out->family += eax >> 20 & 0xff;
}

static void identity_cpu(struct snapshot_identity *out)
{
	uint8_t text[ARRAY_SIZE(cpu_leaves) * CPU_LEAF_BYTES] = { 0 };
	uint32_t eax, ebx, ecx, edx, max, max_ext;

	__cpuid(0, max, ebx, ecx, edx);
	le_put32((uint8_t *)out->vendor, ebx);
	le_put32((uint8_t *)out->vendor + 4, edx);
	le_put32((uint8_t *)out->vendor + 8, ecx);
	__cpuid(0x80000000, max_ext, ebx, ecx, edx);
	for (size_t i = 0; i < ARRAY_SIZE(cpu_leaves); i++) {
		const struct cpu_leaf *l = &cpu_leaves[i];
		uint8_t *to = text + i * CPU_LEAF_BYTES;

		if (l->leaf > (l->leaf & 0x80000000 ? max_ext : max))
			continue;
		__cpuid_count(l->leaf, l->subleaf, eax, ebx, ecx, edx);
		if (l->leaf == 1)
			identity_model(out, eax);
		le_put32(to, eax & l->eax);
		le_put32(to + 4, ebx & l->ebx);
		le_put32(to + 8, ecx & l->ecx);
		le_put32(to + 12, edx & l->edx);
	}
	sha256(text, sizeof(text), out->features);
}

int state_identity(struct snapshot_identity *out, struct err *e)
{
	struct snapshot_identity id = { .family = 0 };
	int rc = identity_build(&id, e);

	if (rc)
		return rc;
	identity_cpu(&id);
	*out = id;
	return 0;
}
