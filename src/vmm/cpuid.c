/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Leaves and bits by their numbers in: Intel SDM volume 2A, CPUID; AMD64 manual volume 3,
 * appendix E; Documentation/virt/kvm/x86/cpuid.rst.  The comments give their names there.
 */
#include "vmm/cpuid.h"

#include <errno.h>
#include <stddef.h>
#include <sys/ioctl.h>

#include "base/mem.h"

_Static_assert(offsetof(struct cpuid, entries) == offsetof(struct kvm_cpuid2, entries),
	       "struct cpuid is a struct kvm_cpuid2");

#define BIT(n) (1u << (n))

/* Bits that the guest does not get, with the reason. */
struct cpuid_mask {
	uint32_t leaf, subleaf;
	uint32_t eax, ebx, ecx, edx; /* to be cleared */
};

static const struct cpuid_mask cpuid_masks[] = {
	/*
	 * DTES64, MONITOR, DS-CPL, EIST, TM2, CNXT-ID, SDBG, PDCM, DCA: power, heat and
	 * debugging of a real CPU.  VMX, SMX: no virtual machines inside.  OSXSAVE is set
	 * by KVM when the guest sets CR4.OSXSAVE.
	 */
	{ .leaf = 1,
	  .ecx = BIT(2) | BIT(3) | BIT(4) | BIT(5) | BIT(6) | BIT(7) | BIT(8) | BIT(10) | BIT(11) |
		 BIT(15) | BIT(18) | BIT(27),
	  /* DS, ACPI, TM, PBE */
	  .edx = BIT(21) | BIT(22) | BIT(29) | BIT(31) },
	/* SGX, RDT-M, RDT-A, Processor Trace; SGX launch control: not virtualized here. */
	{ .leaf = 7, .ebx = BIT(2) | BIT(12) | BIT(15) | BIT(25), .ecx = BIT(30) },
	/*
	 * SVM: no virtual machines inside.  ExtApicSpace, IBS, SKINIT, WDT, LWP, NodeId,
	 * PerfCtr{Core,NB,Tsc,LLC}, MONITORX: performance counters and the board.
	 */
	{ .leaf = 0x80000001,
	  .ecx = BIT(2) | BIT(3) | BIT(10) | BIT(12) | BIT(13) | BIT(15) | BIT(19) | BIT(23) |
		 BIT(24) | BIT(27) | BIT(28) | BIT(29) },
};

/* Leaves that the guest does not get at all: they read as zero. */
static const uint32_t cpuid_dropped[] = {
	0x5, /* MONITOR/MWAIT */
	0xa, /* performance counters (Intel): none */
	0xf,        0x10, /* resource directors */
	0x12, /* SGX */
	0x14, /* processor trace */
	0x23, /* performance counters, extended */
	0x8000000a, /* SVM */
	0x8000001b, /* IBS */
	0x8000001f, /* SEV */
	0x80000022, /* performance counters, extended (AMD) */
};

struct kvm_cpuid_entry2 *cpuid_find(struct cpuid *c, uint32_t leaf, uint32_t subleaf)
{
	for (uint32_t i = 0; i < c->n; i++) {
		struct kvm_cpuid_entry2 *x = &c->entries[i];

		if (x->function == leaf &&
		    (!(x->flags & KVM_CPUID_FLAG_SIGNIFCANT_INDEX) || x->index == subleaf))
			return x;
	}
	return NULL;
}

static void cpuid_drop(struct cpuid *c, uint32_t leaf)
{
	uint32_t kept = 0;

	for (uint32_t i = 0; i < c->n; i++)
		if (c->entries[i].function != leaf)
			c->entries[kept++] = c->entries[i];
	c->n = kept;
}

/* A full table (KVM offers about 50 entries) would leave the entry out. */
static void cpuid_add(struct cpuid *c, const struct kvm_cpuid_entry2 *entry)
{
	if (c->n < CPUID_ENTRIES_MAX)
		c->entries[c->n++] = *entry;
}

static void cpuid_mask(struct cpuid *c)
{
	for (size_t i = 0; i < ARRAY_SIZE(cpuid_masks); i++) {
		const struct cpuid_mask *m = &cpuid_masks[i];
		struct kvm_cpuid_entry2 *x = cpuid_find(c, m->leaf, m->subleaf);

		if (!x)
			continue;
		x->eax &= ~m->eax;
		x->ebx &= ~m->ebx;
		x->ecx &= ~m->ecx;
		x->edx &= ~m->edx;
	}
	for (size_t i = 0; i < ARRAY_SIZE(cpuid_dropped); i++)
		cpuid_drop(c, cpuid_dropped[i]);
}

/* Is it a CPU whose topology is told by AMD's leaves? */
static bool cpuid_is_amd(struct cpuid *c)
{
	const struct kvm_cpuid_entry2 *x = cpuid_find(c, 0, 0);

	/* EBX has "Auth"enticAMD or "Hygo"nGenuine. */
	return x && (x->ebx == 0x68747541 || x->ebx == 0x6f677948);
}

static bool cpuid_has_leaf(struct cpuid *c, uint32_t leaf)
{
	const struct kvm_cpuid_entry2 *x = cpuid_find(c, leaf & 0x80000000, 0);

	return x && x->eax >= leaf;
}

/* Bits of an APIC id that number the cores: 2^bits >= n_cpus. */
static uint32_t cpuid_core_bits(unsigned n_cpus)
{
	uint32_t bits = 0;

	while (1u << bits < n_cpus)
		bits++;
	return bits;
}

/* Who shares each cache: all CPUs the third level, nobody those before. */
static void cpuid_caches(struct cpuid *c, uint32_t leaf, uint32_t bits)
{
	uint32_t others = (1u << bits) - 1;

	for (uint32_t i = 0; i < c->n; i++) {
		struct kvm_cpuid_entry2 *x = &c->entries[i];
		uint32_t level = x->eax >> 5 & 7;

		if (x->function != leaf || !(x->eax & 0x1f))
			continue;
		x->eax &= 0x3fff;
		if (level >= 3)
			x->eax |= others << 14;
		if (leaf == 4)
			x->eax |= others << 26; /* cores in the package, less one */
	}
}

/* Leaves 0xb and 0x1f: one thread a core, then all cores (their EDX is set per CPU). */
static void cpuid_levels(struct cpuid *c, uint32_t leaf, unsigned n_cpus, uint32_t bits)
{
	const struct kvm_cpuid_entry2 levels[] = {
		{ .index = 0, .eax = 0, .ebx = 1, .ecx = 0 | 1 << 8 }, /* threads */
		{ .index = 1, .eax = bits, .ebx = n_cpus, .ecx = 1 | 2 << 8 }, /* cores */
		{ .index = 2, .ecx = 2 }, /* the end */
	};

	cpuid_drop(c, leaf);
	if (!cpuid_has_leaf(c, leaf))
		return;
	for (size_t i = 0; i < ARRAY_SIZE(levels); i++) {
		struct kvm_cpuid_entry2 x = levels[i];

		x.function = leaf;
		x.flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX;
		cpuid_add(c, &x);
	}
}

static void cpuid_topology_amd(struct cpuid *c, unsigned n_cpus, uint32_t bits)
{
	struct kvm_cpuid_entry2 *x = cpuid_find(c, 0x80000008, 0);
	const struct kvm_cpuid_entry2 ids = { .function = 0x8000001e };

	if (x)
		x->ecx = (x->ecx & ~0xf0ffu) | bits << 12 | (n_cpus - 1); /* ApicIdSize, NC */
	cpuid_drop(c, 0x8000001e);
	x = cpuid_find(c, 0x80000001, 0);
	if (!x)
		return;
	if (n_cpus > 1)
		x->ecx |= BIT(1); /* CmpLegacy: these are cores, not threads */
	if (cpuid_has_leaf(c, 0x8000001e)) {
		x->ecx |= BIT(22); /* TopologyExtensions: leaf 0x8000001e is there */
		cpuid_add(c, &ids);
	}
}

void cpuid_filter(struct cpuid *c, unsigned n_cpus, bool tsc_deadline)
{
	uint32_t bits = cpuid_core_bits(n_cpus);
	struct kvm_cpuid_entry2 *x;

	cpuid_mask(c);
	x = cpuid_find(c, 1, 0);
	if (x) {
		x->ebx = (x->ebx & 0xffff) | (1u << bits) << 16; /* ids in the package */
		x->edx = n_cpus > 1 ? x->edx | BIT(28) : x->edx & ~BIT(28); /* HTT */
		x->ecx |= BIT(21) | BIT(31); /* x2APIC, in KVM's APIC always; hypervisor */
		if (tsc_deadline)
			x->ecx |= BIT(24);
	}
	/* ARAT: the APIC timer never stops.  Without it a kernel looks for another timer. */
	x = cpuid_find(c, 6, 0);
	if (x)
		*x = (struct kvm_cpuid_entry2){ .function = 6, .eax = BIT(2) };
	cpuid_levels(c, 0xb, n_cpus, bits);
	cpuid_levels(c, 0x1f, n_cpus, bits);
	if (cpuid_is_amd(c)) {
		cpuid_topology_amd(c, n_cpus, bits);
		cpuid_caches(c, 0x8000001d, bits);
	} else {
		cpuid_caches(c, 4, bits);
	}
}

void cpuid_set_apic_id(struct cpuid *c, unsigned cpu)
{
	for (uint32_t i = 0; i < c->n; i++) {
		struct kvm_cpuid_entry2 *x = &c->entries[i];

		switch (x->function) {
		case 1:
			x->ebx = (x->ebx & 0x00ffffff) | cpu << 24;
			break;
		case 0xb:
		case 0x1f:
			x->edx = cpu;
			break;
		case 0x8000001e:
			x->eax = cpu; /* extended APIC id */
			x->ebx = cpu; /* core id; one thread per core */
			break;
		default:
			break;
		}
	}
}

int cpuid_read(int kvm_fd, struct cpuid *out, struct err *e)
{
	out->n = CPUID_ENTRIES_MAX;
	out->padding = 0;
	if (ioctl(kvm_fd, KVM_GET_SUPPORTED_CPUID, out) < 0)
		return err_errno(e, errno, "KVM_GET_SUPPORTED_CPUID");
	return 0;
}

int cpuid_apply(int vcpu_fd, const struct cpuid *c, struct err *e)
{
	if (ioctl(vcpu_fd, KVM_SET_CPUID2, c) < 0)
		return err_errno(e, errno, "KVM_SET_CPUID2");
	return 0;
}
