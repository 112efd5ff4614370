/* SPDX-License-Identifier: Apache-2.0 */
/* The state file of a snapshot: its bytes, and everything it must refuse. */
#include "unit/test.h"

#include <errno.h>
#include <linux/kvm.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"
#include "codec/le.h"
#include "codec/snapshot.h"

#define XSAVE_BYTES 4096u
#define CPU_BYTES 8192u

/* A machine whose every byte is told by where it is. */
struct sample {
	struct snapshot s;
	uint8_t bytes[CPU_BYTES];
};

static void sample_init(struct sample *t, unsigned cpus, unsigned devices)
{
	static const size_t vm[SNAPSHOT_VM_PARTS] = {
		[SNAPSHOT_CLOCK] = sizeof(struct kvm_clock_data),
		[SNAPSHOT_PIC_MASTER] = sizeof(struct kvm_pic_state),
		[SNAPSHOT_PIC_SLAVE] = sizeof(struct kvm_pic_state),
		[SNAPSHOT_IOAPIC] = sizeof(struct kvm_ioapic_state),
	};
	static const size_t cpu[SNAPSHOT_CPU_PARTS] = {
		[SNAPSHOT_CPUID] = 3 * sizeof(struct kvm_cpuid_entry2),
		[SNAPSHOT_MP_STATE] = sizeof(struct kvm_mp_state),
		[SNAPSHOT_REGS] = sizeof(struct kvm_regs),
		[SNAPSHOT_SREGS] = sizeof(struct kvm_sregs),
		[SNAPSHOT_XSAVE] = XSAVE_BYTES,
		[SNAPSHOT_XCRS] = sizeof(struct kvm_xcrs),
		[SNAPSHOT_DEBUGREGS] = sizeof(struct kvm_debugregs),
		[SNAPSHOT_LAPIC] = sizeof(struct kvm_lapic_state),
		[SNAPSHOT_TSC_KHZ] = sizeof(uint32_t),
		[SNAPSHOT_MSRS] = 5 * sizeof(struct kvm_msr_entry),
		[SNAPSHOT_EVENTS] = sizeof(struct kvm_vcpu_events),
	};

	*t = (struct sample){ .s = { .n_cpus = cpus, .n_devices = devices, .n_slots = 2 } };
	for (size_t i = 0; i < sizeof(t->bytes); i++)
		t->bytes[i] = (uint8_t)(i * 7 + i / 256);
	t->s.slots[0] = (struct snapshot_slot){ 0, 3ull << 30 };
	t->s.slots[1] = (struct snapshot_slot){ 4ull << 30, 1ull << 30 };
	memset(t->s.identity.build, 0xb1, 20);
	memcpy(t->s.identity.vendor, "AuthenticAMD", 12);
	t->s.identity.family = 26;
	t->s.identity.model = 2;
	t->s.identity.stepping = 1;
	memset(t->s.identity.features, 0xfe, SHA256_BYTES);
	for (unsigned k = 0; k < SNAPSHOT_VM_PARTS; k++)
		t->s.vm[k] = (struct snapshot_part){ t->bytes + k, vm[k] };
	for (unsigned i = 0; i < cpus; i++)
		for (unsigned k = 0; k < SNAPSHOT_CPU_PARTS; k++)
			t->s.cpus[i][k] = (struct snapshot_part){ t->bytes + 64 * i + k, cpu[k] };
	for (unsigned i = 0; i < devices; i++) {
		struct snapshot_device *d = &t->s.devices[i];

		snprintf(d->name, sizeof(d->name), "blk.%u", i);
		d->id = 2;
		d->n_queues = 1;
		d->features = 0x1234567800ull + i;
		d->state = (struct snapshot_part){ t->bytes + i, 37 };
	}
}

static uint8_t *sample_encode(struct sample *t, size_t *n)
{
	struct buf b;
	uint8_t *p;

	buf_init(&b, SNAPSHOT_SIZE_MAX);
	assert_int_equal(snapshot_encode(&t->s, &b, NULL), 0);
	*n = buf_len(&b);
	p = malloc(*n);
	assert_non_null(p);
	memcpy(p, buf_data(&b), *n);
	buf_fini(&b);
	return p;
}

/* Makes size and checksum right again after a change. */
static void sample_seal(uint8_t *p, size_t n)
{
	le_put64(p + 16, n);
	memset(p + 24, 0, 8);
	le_put64(p + 24, snapshot_crc64(0, p, n));
}

static void assert_refused(const uint8_t *p, size_t n, const char *reason)
{
	struct err e = ERR_INIT;
	struct snapshot s;

	memset(&s, 0x5a, sizeof(s));
	assert_int_equal(snapshot_decode(p, n, &s, &e), -EINVAL);
	if (!strstr(e.msg, reason))
		fail_msg("'%s' does not say '%s'", e.msg, reason);
	/* Written on success only. */
	for (size_t i = 0; i < sizeof(s); i++)
		assert_int_equal(((uint8_t *)&s)[i], 0x5a);
}

static void test_crc64(void **state)
{
	(void)state;
	/* The check value of CRC-64/XZ in the catalogue of parametrised CRC algorithms. */
	assert_int_equal(snapshot_crc64(0, (const uint8_t *)"123456789", 9), 0x995dc9bbdf1939faull);
	assert_int_equal(snapshot_crc64(snapshot_crc64(0, (const uint8_t *)"1234", 4),
					(const uint8_t *)"56789", 5),
			 0x995dc9bbdf1939faull);
	assert_int_equal(snapshot_crc64(0, NULL, 0), 0);
}

/* The bytes on disk: a change here is a change of the format, and of its version. */
static void test_golden(void **state)
{
	static const uint8_t header[] = {
		'M',  'S',  'B',  'S',  'T',  'A',  'T',  'E',  1,    0,    0,   0, /* version */
		17,   0,    0,    0, /* sections */
		0x88, 0x1b, 0,    0,    0,    0,    0,    0, /* size */
		0x7b, 0x62, 0x45, 0x81, 0x89, 0x41, 0xcd, 0x7c, /* checksum */
		0xb1, 0xb1, 0xb1, 0xb1, 0xb1, 0xb1, 0xb1, 0xb1, 0xb1, 0xb1, /* build */
		0xb1, 0xb1, 0xb1, 0xb1, 0xb1, 0xb1, 0xb1, 0xb1, 0xb1, 0xb1, /* … */
		0,    0,    0,    0,    0,    0,    0,    0,    0,    0,    0,   0, /* … */
		'A',  'u',  't',  'h',  'e',  'n',  't',  'i',  'c',  'A',  'M', 'D', /* vendor */
		26,   0,    0,    0,    2,    0,    0,    0,    1,    0,    0,   0, /* family, model, stepping */
		0xfe, 0xfe, 0xfe, 0xfe, 0xfe, 0xfe, 0xfe, 0xfe, /* features */
		0xfe, 0xfe, 0xfe, 0xfe, 0xfe, 0xfe, 0xfe, 0xfe, /* … */
		0xfe, 0xfe, 0xfe, 0xfe, 0xfe, 0xfe, 0xfe, 0xfe, /* … */
		0xfe, 0xfe, 0xfe, 0xfe, 0xfe, 0xfe, 0xfe, 0xfe, /* … */
		1,    0,    0,    0,    32,   0,    0,    0, /* section 1: memory layout */
		0,    0,    0,    0,    0,    0,    0,    0,    0,    0,    0,   0xc0, 0,
		0,    0,    0, /* 3 GiB at 0 */
		0,    0,    0,    0,    1,    0,    0,    0,    0,    0,    0,   0x40, 0,
		0,    0,    0, /* 1 GiB at 4 GiB */
		16,   0,    0,    0,    48,   0,    0,    0, /* section 16: clock */
		0,    7,    14,   21, /* … */
	};
	static const uint8_t device[] = {
		64,   0,    0,    0,    85,   0, 0, 0, /* section 64: device 0 */
		'b',  'l',  'k',  '.',  '0',  0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, /* name */
		0,    0,    0,    0,    0,    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, /* … */
		2,    0,    0,    0,    1,    0, 0, 0, /* type, queues */
		0x00, 0x78, 0x56, 0x34, 0x12, 0, 0, 0, /* features */
	};
	struct sample t;
	auto_free uint8_t *p = NULL;
	size_t n;

	(void)state;
	sample_init(&t, 1, 1);
	p = sample_encode(&t, &n);
	assert_true(n > sizeof(header));
	for (size_t i = 0; i < sizeof(header); i++)
		if (p[i] != header[i])
			fail_msg("byte %zu is 0x%02x, not 0x%02x", i, p[i], header[i]);
	assert_memory_equal(p + n - 96, device, sizeof(device));
	assert_memory_equal(p + n - 40, t.bytes, 37);
	assert_memory_equal(p + n - 3, "\0\0\0", 3);
}

static void assert_part_equal(const struct snapshot_part *a, const struct snapshot_part *b)
{
	assert_int_equal(a->len, b->len);
	assert_memory_equal(a->data, b->data, a->len);
}

static void test_round_trip(void **state)
{
	struct sample t;
	auto_free uint8_t *p = NULL;
	struct snapshot s;
	size_t n;

	(void)state;
	sample_init(&t, SNAPSHOT_CPUS_MAX, SNAPSHOT_DEVICES_MAX);
	p = sample_encode(&t, &n);
	assert_int_equal(snapshot_decode(p, n, &s, NULL), 0);
	assert_int_equal(s.n_cpus, SNAPSHOT_CPUS_MAX);
	assert_int_equal(s.n_devices, SNAPSHOT_DEVICES_MAX);
	assert_int_equal(s.checksum, t.s.checksum);
	assert_int_equal(snapshot_memory_bytes(&s), 4ull << 30);
	assert_memory_equal(&s.identity, &t.s.identity, sizeof(s.identity));
	assert_memory_equal(s.slots, t.s.slots, sizeof(s.slots));
	for (unsigned k = 0; k < SNAPSHOT_VM_PARTS; k++)
		assert_part_equal(&s.vm[k], &t.s.vm[k]);
	for (unsigned i = 0; i < s.n_cpus; i++)
		for (unsigned k = 0; k < SNAPSHOT_CPU_PARTS; k++)
			assert_part_equal(&s.cpus[i][k], &t.s.cpus[i][k]);
	for (unsigned i = 0; i < s.n_devices; i++) {
		assert_string_equal(s.devices[i].name, t.s.devices[i].name);
		assert_int_equal(s.devices[i].features, t.s.devices[i].features);
		assert_part_equal(&s.devices[i].state, &t.s.devices[i].state);
	}
}

/* No prefix and no single flipped bit of a state file is taken for one. */
static void test_damage(void **state)
{
	struct sample t;
	auto_free uint8_t *p = NULL;
	struct snapshot s;
	size_t n;

	(void)state;
	sample_init(&t, 1, 2);
	p = sample_encode(&t, &n);
	for (size_t len = 0; len < n; len += len < 512 ? 1 : 97)
		assert_int_equal(snapshot_decode(p, len, &s, NULL), -EINVAL);
	for (size_t i = 0; i < n; i += i < 512 ? 1 : 61) {
		p[i] ^= (uint8_t)(1u << i % 8);
		assert_int_equal(snapshot_decode(p, n, &s, NULL), -EINVAL);
		p[i] ^= (uint8_t)(1u << i % 8);
	}
	assert_int_equal(snapshot_decode(p, n, &s, NULL), 0);
}

static void test_refused_header(void **state)
{
	static uint8_t huge[SNAPSHOT_SIZE_MAX + 1];
	struct sample t;
	auto_free uint8_t *p = NULL;
	auto_free uint8_t *longer = NULL;
	size_t n;

	(void)state;
	sample_init(&t, 1, 1);
	p = sample_encode(&t, &n);
	assert_refused(p, 100, "not the state file");
	assert_refused(huge, sizeof(huge), "larger than 10485760 bytes");
	assert_refused(p, n - 1, "cut short, 7047 bytes of 7048");
	longer = calloc(1, n + 8);
	assert_non_null(longer);
	memcpy(longer, p, n);
	assert_refused(longer, n + 8, "8 bytes too long");
	sample_seal(longer, n + 8);
	assert_refused(longer, n + 8, "8 bytes after its last section");
	p[n - 30] ^= 4;
	assert_refused(p, n, "damaged");
	p[8] = 2;
	assert_refused(p, n, "format 2, this program reads 1");
	p[0] = 'm';
	assert_refused(p, n, "not the state file");
	p[0] = 'M';
	p[8] = 1;
	p[70] = '\n';
	sample_seal(p, n);
	assert_refused(p, n, "malformed CPU vendor");
}

/* Finds a section; the offset is of its header. */
static size_t section_find(const uint8_t *p, size_t n, unsigned kind, unsigned index)
{
	for (size_t off = SNAPSHOT_HEADER_SIZE; off < n;
	     off += 8 + ((le_get32(p + off + 4) + 7) & ~7u))
		if (le_get16(p + off) == kind && le_get16(p + off + 2) == index)
			return off;
	fail_msg("no section %u/%u", kind, index);
	return 0;
}

/* One change to a section's header: the reason that follows from it. */
struct refusal {
	unsigned kind, index; /* of the section */
	unsigned field, bytes; /* of its header */
	uint64_t value;
	const char *reason;
};

static void test_refused_sections(void **state)
{
	static const struct refusal cases[] = {
		{ 17, 0, 0, 2, 99, "unknown section 99" },
		{ 16, 0, 2, 2, 1, "section 16 of unit 1" },
		{ 17, 0, 0, 2, 18, "second interrupt controller 0 is there twice" },
		{ 34, 1, 2, 2, 0, "general registers 0 is there twice" },
		{ 34, 1, 2, 2, 16, "CPU 16 of at most 16" },
		{ 32, 1, 2, 2, 2, "CPUID of CPU 1 is missing" },
		{ 34, 0, 4, 4, 136, "general registers 0 has a wrong length (136 bytes)" },
		{ 34, 0, 4, 4, UINT32_MAX, "section 7 passes its end" },
		{ 34, 0, 4, 4, UINT32_MAX - 7, "section 7 passes its end" },
		{ 36, 0, 4, 4, 4032, "FPU registers 0 has a wrong length" },
		{ 41, 0, 4, 4, 72, "MSRs 0 has a wrong length" },
		{ 41, 0, 4, 4, 0, "MSRs 0 has a wrong length" },
		{ 64, 1, 2, 2, 0, "device 0 is there twice" },
		{ 64, 1, 2, 2, 2, "device 1 is missing" },
		{ 64, 1, 2, 2, 8, "device 8 of at most 8" },
		{ 64, 1, 4, 4, 40, "device 1 has a wrong length" },
		{ 64, 1, 0, 2, 1, "section 1 of unit 1" },
		{ 1, 0, 4, 4, 24, "memory layout 0 has a wrong length" },
		{ 1, 0, 0, 2, 16, "clock 0 has a wrong length" },
	};
	struct sample t;
	auto_free uint8_t *p = NULL;
	size_t n;

	(void)state;
	sample_init(&t, 2, 2);
	p = sample_encode(&t, &n);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		const struct refusal *r = &cases[i];
		uint8_t *at = p + section_find(p, n, r->kind, r->index);
		uint8_t before[8];

		memcpy(before, at, sizeof(before));
		le_put(at + r->field, r->value, r->bytes);
		sample_seal(p, n);
		assert_refused(p, n, r->reason);
		memcpy(at, before, sizeof(before));
	}
}

static void test_refused_sections_whole(void **state)
{
	struct sample t;
	auto_free uint8_t *p = NULL;
	auto_free uint8_t *q = NULL;
	size_t n, at;

	(void)state;
	sample_init(&t, 1, 1);
	p = sample_encode(&t, &n);
	q = malloc(n);
	assert_non_null(q);

	/* Without the clock. */
	at = section_find(p, n, 16, 0);
	memcpy(q, p, at);
	memcpy(q + at, p + at + 56, n - at - 56);
	le_put32(q + 12, le_get32(p + 12) - 1);
	sample_seal(q, n - 56);
	assert_refused(q, n - 56, "the clock is missing");
	le_put32(q + 12, le_get32(p + 12));
	sample_seal(q, n - 56);
	assert_refused(q, n - 56, "section 16 of 17 is missing");

	/* Sections after those that are counted. */
	memcpy(q, p, n);
	le_put32(q + 12, le_get32(p + 12) - 1);
	sample_seal(q, n);
	assert_refused(q, n, "bytes after its last section");

	memcpy(q, p, n);
	q[n - 1] = 1;
	sample_seal(q, n);
	assert_refused(q, n, "padding is not zero");

	/* Only a header. */
	le_put32(q + 12, 0);
	sample_seal(q, SNAPSHOT_HEADER_SIZE);
	assert_refused(q, SNAPSHOT_HEADER_SIZE, "memory layout is missing");
}

static void test_refused_values(void **state)
{
	static const uint64_t slots[][4] = {
		{ 1, 4096, 8192, 4096 }, /* not page-aligned */
		{ 0, 4097, 8192, 4096 },
		{ 0, 0, 8192, 4096 }, /* empty */
		{ 8192, 4096, 0, 4096 }, /* descending */
		{ 0, 8192, 4096, 4096 }, /* overlapping */
		{ 4096, UINT64_MAX - 4095, 8192, 4096 }, /* wraps */
		{ 0, 1ull << 40, 1ull << 41, 4096 }, /* too much */
	};
	struct sample t;
	auto_free uint8_t *p = NULL;
	size_t n, at;

	(void)state;
	sample_init(&t, 1, 1);
	p = sample_encode(&t, &n);
	at = section_find(p, n, 1, 0) + 8;
	for (size_t i = 0; i < ARRAY_SIZE(slots); i++) {
		for (unsigned k = 0; k < 4; k++)
			le_put64(p + at + (size_t)8 * k, slots[i][k]);
		sample_seal(p, n);
		assert_refused(p, n, "impossible memory layout");
	}
	free(take_ptr(&p));
	p = sample_encode(&t, &n);
	at = section_find(p, n, 64, 0) + 8;
	p[at + 2] = '\x1b';
	sample_seal(p, n);
	assert_refused(p, n, "device 0 is malformed");
	p[at + 2] = 'k';
	p[at + 31] = 'x';
	sample_seal(p, n);
	assert_refused(p, n, "device 0 is malformed");
	p[at + 31] = 0;
	le_put32(p + at + 36, 17);
	sample_seal(p, n);
	assert_refused(p, n, "device 0 is malformed");
}

/* What would not be read back is not written. */
static void test_encode_refuses(void **state)
{
	struct err e = ERR_INIT;
	struct sample t;
	struct buf b;

	(void)state;
	buf_init(&b, SNAPSHOT_SIZE_MAX);
	sample_init(&t, 1, 1);
	t.s.cpus[0][SNAPSHOT_LAPIC].len = 1000;
	assert_int_equal(snapshot_encode(&t.s, &b, &e), -EINVAL);
	assert_non_null(strstr(e.msg, "local APIC 0"));
	assert_int_equal(snapshot_encode(&t.s, &b, NULL), -EINVAL); /* not empty */
	buf_reset(&b);
	t.s.n_cpus = SNAPSHOT_CPUS_MAX + 1;
	assert_int_equal(snapshot_encode(&t.s, &b, NULL), -EINVAL);
	buf_fini(&b);
	buf_init(&b, 4096);
	sample_init(&t, 1, 1);
	assert_int_equal(snapshot_encode(&t.s, &b, NULL), -ENOBUFS);
	buf_fini(&b);
}

static void test_identity(void **state)
{
	struct snapshot_identity here;
	struct err e = ERR_INIT;
	struct sample t;

	(void)state;
	sample_init(&t, 1, 0);
	here = t.s.identity;
	assert_int_equal(snapshot_check_identity(&t.s, &here, NULL), 0);
	here.features[31] ^= 1;
	assert_int_equal(snapshot_check_identity(&t.s, &here, &e), -EXDEV);
	assert_non_null(strstr(e.msg, "other features"));
	err_clear(&e);
	here.stepping++;
	assert_int_equal(snapshot_check_identity(&t.s, &here, &e), -EXDEV);
	assert_non_null(strstr(e.msg, "another CPU (AuthenticAMD family 26 model 2 stepping 1; "
				      "here is AuthenticAMD 26/2/2)"));
	err_clear(&e);
	here.build[0]++;
	assert_int_equal(snapshot_check_identity(&t.s, &here, &e), -EXDEV);
	assert_non_null(strstr(e.msg, "another build"));
}

static void test_trailer(void **state)
{
	uint8_t p[SNAPSHOT_TRAILER_SIZE];
	struct err e = ERR_INIT;
	struct sample t;

	(void)state;
	sample_init(&t, 1, 0);
	t.s.checksum = 0x1122334455667788ull;
	snapshot_trailer_encode(&t.s, p);
	assert_memory_equal(p, "MSBMEMRY", 8);
	assert_int_equal(le_get64(p + 8), 4ull << 30);
	assert_int_equal(le_get64(p + 16), 0x1122334455667788ull);
	assert_int_equal(snapshot_trailer_check(&t.s, p, NULL), 0);
	t.s.checksum++;
	assert_int_equal(snapshot_trailer_check(&t.s, p, &e), -EINVAL);
	assert_non_null(strstr(e.msg, "belongs to another state file"));
	err_clear(&e);
	t.s.slots[0].bytes += 4096;
	assert_int_equal(snapshot_trailer_check(&t.s, p, &e), -EINVAL);
	assert_non_null(strstr(e.msg, "does not end"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_crc64),
		TEST(test_golden),
		TEST(test_round_trip),
		TEST(test_damage),
		TEST(test_refused_header),
		TEST(test_refused_sections),
		TEST(test_refused_sections_whole),
		TEST(test_refused_values),
		TEST(test_encode_refuses),
		TEST(test_identity),
		TEST(test_trailer),
	};

	return test_run(tests);
}
