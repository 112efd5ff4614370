/* SPDX-License-Identifier: Apache-2.0 */
/* CPUID as the guest sees it: hidden features, and a topology that every leaf agrees on. */
#include "unit/test.h"

#include "vmm/cpuid.h"

#define INTEL_EBX 0x756e6547u
#define AMD_EBX 0x68747541u

static struct cpuid c;

static void add(uint32_t leaf, uint32_t sub, uint32_t a, uint32_t b, uint32_t cx, uint32_t d)
{
	bool has_sub = leaf == 4 || leaf == 7 || leaf == 0xb || leaf == 0xd || leaf == 0x8000001d;

	c.entries[c.n++] = (struct kvm_cpuid_entry2){
		.function = leaf,
		.index = sub,
		.flags = has_sub ? KVM_CPUID_FLAG_SIGNIFCANT_INDEX : 0,
		.eax = a,
		.ebx = b,
		.ecx = cx,
		.edx = d,
	};
}

/* A CPU that has everything, under a KVM that hides nothing. */
static void host(uint32_t vendor)
{
	memset(&c, 0, sizeof(c));
	add(0, 0, 0x1f, vendor, 0, 0);
	add(1, 0, 0x906ea, 0x07400800, UINT32_MAX, UINT32_MAX);
	if (vendor == INTEL_EBX) {
		add(4, 0, 0xfc004121, 1, 2, 3); /* level 1 data */
		add(4, 1, 0xfc01c163, 1, 2, 3); /* level 3 */
		add(4, 2, 0, 0, 0, 0);
	}
	add(5, 0, 64, 64, 3, 0x20);
	add(6, 0, UINT32_MAX, UINT32_MAX, UINT32_MAX, 0);
	add(7, 0, 0, UINT32_MAX, UINT32_MAX, UINT32_MAX);
	add(0xa, 0, 0x07300404, 0, 0, 0x603);
	add(0xb, 0, 1, 2, 0x100, 77);
	add(0xb, 1, 5, 24, 0x201, 77);
	add(0xd, 0, 0x207, 0x340, 0x340, 0);
	add(0x80000000, 0, 0x80000022, 0, 0, 0);
	add(0x80000001, 0, 0, 0, UINT32_MAX & ~(1u << 1 | 1u << 22), UINT32_MAX);
	add(0x80000008, 0, 0x3027, 0, 0x7007, 0);
	add(0x8000000a, 0, 1, 8, 0, UINT32_MAX);
	if (vendor == AMD_EBX) {
		add(0x8000001d, 0, 0x00004121, 1, 2, 3);
		add(0x8000001d, 1, 0x0001c163, 1, 2, 3);
		add(0x8000001e, 0, 77, 0x177, 0, 0);
	}
	add(0x8000001f, 0, 0xf, 0, 0, 0);
	add(0x80000022, 0, 1, 6, 0, 0);
}

static struct kvm_cpuid_entry2 leaf(uint32_t l, uint32_t sub)
{
	struct kvm_cpuid_entry2 *x = cpuid_find(&c, l, sub), none = { .function = l };

	return x ? *x : none;
}

static void nested_virtualization_and_counters_are_hidden(void **state)
{
	static const uint32_t gone[] = { 5, 0xa, 0x14, 0x8000000a, 0x8000001f, 0x80000022 };

	(void)state;
	host(AMD_EBX);
	cpuid_filter(&c, 1, true);
	assert_int_equal(leaf(1, 0).ecx & (1u << 5 | 1u << 3 | 1u << 15),
			 0); /* VMX, MONITOR, PDCM */
	assert_int_equal(leaf(0x80000001, 0).ecx & (1u << 2 | 1u << 23), 0); /* SVM, PerfCtr */
	assert_int_equal(leaf(7, 0).ebx & (1u << 2 | 1u << 25), 0); /* SGX, PT */
	assert_true(leaf(7, 0).ebx & 1u << 5); /* AVX2 stays */
	for (size_t i = 0; i < sizeof(gone) / sizeof(gone[0]); i++)
		assert_null(cpuid_find(&c, gone[i], 0));
	assert_int_equal(leaf(0xd, 0).ebx, 0x340);
	/* What a guest of KVM needs to be told. */
	assert_true(leaf(1, 0).ecx & 1u << 31);
	assert_true(leaf(1, 0).ecx & 1u << 21);
	assert_true(leaf(1, 0).ecx & 1u << 24);
	assert_int_equal(leaf(6, 0).eax, 4);
	assert_int_equal(leaf(6, 0).ecx, 0);
}

/* The level of leaf 0xb says: ids, less @shift bits, are equal for @n CPUs. */
static void check_levels(uint32_t l, unsigned n, unsigned bits, unsigned cpu)
{
	assert_int_equal(leaf(l, 0).eax, 0);
	assert_int_equal(leaf(l, 0).ebx, 1);
	assert_int_equal(leaf(l, 0).ecx, 0x100);
	assert_int_equal(leaf(l, 1).eax, bits);
	assert_int_equal(leaf(l, 1).ebx, n);
	assert_int_equal(leaf(l, 1).ecx, 0x201);
	assert_int_equal(leaf(l, 2).ebx, 0);
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(leaf(l, i).edx, cpu);
}

static void check_topology(uint32_t vendor, unsigned n, unsigned bits)
{
	host(vendor);
	cpuid_filter(&c, n, true);
	for (unsigned cpu = 0; cpu < n; cpu++) {
		cpuid_set_apic_id(&c, cpu);
		assert_int_equal(leaf(1, 0).ebx >> 24, cpu);
		assert_int_equal(leaf(1, 0).ebx >> 16 & 0xff, 1u << bits);
		assert_int_equal(leaf(1, 0).ebx & 0xffff, 0x0800); /* CLFLUSH size stays */
		assert_int_equal(leaf(1, 0).edx >> 28 & 1, n > 1);
		check_levels(0xb, n, bits, cpu);
		check_levels(0x1f, n, bits, cpu);
		if (vendor == INTEL_EBX) {
			assert_int_equal(leaf(4, 0).eax >> 26, (1u << bits) - 1);
			assert_int_equal(leaf(4, 0).eax >> 14 & 0xfff, 0);
			assert_int_equal(leaf(4, 1).eax >> 14 & 0xfff, (1u << bits) - 1);
			assert_int_equal(leaf(4, 1).eax & 0x3fff, 0x0163);
			assert_int_equal(leaf(4, 2).eax, 0);
			assert_null(cpuid_find(&c, 0x8000001e, 0));
		} else {
			assert_int_equal(leaf(0x80000008, 0).ecx, bits << 12 | (n - 1));
			assert_int_equal(leaf(0x8000001e, 0).eax, cpu);
			assert_int_equal(leaf(0x8000001e, 0).ebx, cpu);
			assert_int_equal(leaf(0x8000001d, 0).eax >> 14 & 0xfff, 0);
			assert_int_equal(leaf(0x8000001d, 1).eax >> 14 & 0xfff, (1u << bits) - 1);
			assert_int_equal(leaf(0x80000001, 0).ecx >> 1 & 1, n > 1);
			assert_true(leaf(0x80000001, 0).ecx & 1u << 22);
		}
	}
}

static void every_leaf_tells_the_same_topology(void **state)
{
	static const struct {
		unsigned n, bits;
	} cases[] = { { 1, 0 }, { 2, 1 }, { 3, 2 }, { 4, 2 }, { 5, 3 }, { 16, 4 } };

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		check_topology(INTEL_EBX, cases[i].n, cases[i].bits);
		check_topology(AMD_EBX, cases[i].n, cases[i].bits);
	}
}

static void leaves_beyond_the_maximum_are_not_made_up(void **state)
{
	(void)state;
	memset(&c, 0, sizeof(c));
	add(0, 0, 7, AMD_EBX, 0, 0);
	add(1, 0, 0, 0, 0, 0);
	add(0x80000000, 0, 0x80000008, 0, 0, 0);
	add(0x80000001, 0, 0, 0, 0, 0);
	add(0x80000008, 0, 0, 0, 0, 0);
	cpuid_filter(&c, 4, false);
	assert_null(cpuid_find(&c, 0xb, 0));
	assert_null(cpuid_find(&c, 0x8000001e, 0));
	assert_int_equal(leaf(0x80000001, 0).ecx, 2);
	assert_int_equal(leaf(1, 0).ecx >> 24 & 1, 0);
}

static void a_full_table_stays_in_its_bounds(void **state)
{
	(void)state;
	host(AMD_EBX);
	while (c.n < CPUID_ENTRIES_MAX)
		add(0x40000100 + c.n, 0, 1, 2, 3, 4);
	cpuid_filter(&c, 16, true);
	assert_true(c.n <= CPUID_ENTRIES_MAX);
	memset(&c, 0, sizeof(c));
	cpuid_filter(&c, 16, true);
	cpuid_set_apic_id(&c, 15);
	assert_int_equal(c.n, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(nested_virtualization_and_counters_are_hidden),
		TEST(every_leaf_tells_the_same_topology),
		TEST(leaves_beyond_the_maximum_are_not_made_up),
		TEST(a_full_table_stays_in_its_bounds),
	};

	return test_run(tests);
}
