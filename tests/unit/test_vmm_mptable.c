/* SPDX-License-Identifier: Apache-2.0 */
/* The MP table, read as a kernel reads it: by the offsets of the specification. */
#include "unit/test.h"

#include "vmm/mptable.h"

#define GPA 0x9fc00u

static uint32_t le(const uint8_t *p, unsigned n)
{
	uint32_t v = 0;

	while (n--)
		v = v << 8 | p[n];
	return v;
}

static uint8_t sum(const uint8_t *p, size_t n)
{
	uint8_t s = 0;

	while (n--)
		s = (uint8_t)(s + *p++);
	return s;
}

struct seen {
	unsigned cpus, boot_cpus, buses, ioapics, local;
	uint32_t apic_ids; /* bit mask */
	uint32_t lines; /* of the ISA bus, connected one to one */
	uint8_t ioapic_id;
};

static void read_entry(const uint8_t *e, struct seen *s)
{
	switch (e[0]) {
	case 0:
		assert_int_equal(e[3] & 1, 1); /* usable */
		s->cpus++;
		s->boot_cpus += e[3] >> 1 & 1;
		assert_false(s->apic_ids & 1u << e[1]);
		s->apic_ids |= 1u << e[1];
		break;
	case 1:
		s->buses++;
		assert_int_equal(e[1], 0);
		assert_memory_equal(e + 2, "ISA   ", 6);
		break;
	case 2:
		s->ioapics++;
		s->ioapic_id = e[1];
		assert_int_equal(e[3], 1);
		assert_int_equal(le(e + 4, 4), 0xfec00000);
		break;
	case 3:
		assert_int_equal(e[1], 0); /* INT */
		assert_int_equal(le(e + 2, 2), 0); /* conforms to the bus */
		assert_int_equal(e[4], 0); /* the ISA bus */
		assert_int_equal(e[6], s->ioapic_id);
		assert_int_equal(e[5], e[7]);
		s->lines |= 1u << e[5];
		break;
	default:
		assert_int_equal(e[0], 4);
		s->local++;
	}
}

static void check(unsigned n_cpus)
{
	uint8_t mem[MPTABLE_MAX];
	size_t used = mptable_write(mem, GPA, n_cpus);
	struct seen s = { .cpus = 0 };
	const uint8_t *table, *e;
	uint32_t length;

	assert_memory_equal(mem, "_MP_", 4);
	assert_int_equal(mem[8], 1);
	assert_int_equal(sum(mem, 16), 0);
	assert_int_equal(mem[11], 0); /* a table, not a default configuration */
	assert_int_equal(le(mem + 4, 4), GPA + 16);

	table = mem + 16;
	assert_memory_equal(table, "PCMP", 4);
	length = le(table + 4, 2);
	assert_int_equal(16 + length, used);
	assert_true(used <= MPTABLE_MAX);
	assert_int_equal(sum(table, length), 0);
	assert_int_equal(le(table + 36, 4), 0xfee00000);

	e = table + 44;
	for (uint32_t i = le(table + 34, 2); i; i--) {
		assert_true(e < table + length);
		read_entry(e, &s);
		e += e[0] ? 8 : 20;
	}
	assert_ptr_equal(e, table + length);
	assert_int_equal(s.cpus, n_cpus);
	assert_int_equal(s.boot_cpus, 1);
	assert_int_equal(s.apic_ids, (1u << n_cpus) - 1);
	assert_int_equal(s.buses, 1);
	assert_int_equal(s.ioapics, 1);
	assert_false(n_cpus > s.ioapic_id);
	assert_int_equal(s.lines, 0xffffff);
	assert_int_equal(s.local, 2);
}

static void every_number_of_cpus_has_a_table(void **state)
{
	(void)state;
	for (unsigned n = 1; n <= 16; n++)
		check(n);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(every_number_of_cpus_has_a_table),
	};

	return test_run(tests);
}
