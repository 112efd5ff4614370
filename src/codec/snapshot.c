/* SPDX-License-Identifier: Apache-2.0 */
#include "codec/snapshot.h"

#include <errno.h>
#include <linux/kvm.h>
#include <string.h>

#include "base/checked.h"
#include "base/mem.h"
#include "codec/le.h"

#define SECTION_HEADER_SIZE 8u
#define SECTION_ALIGN 8u
#define SECTION_MEMORY 1u
#define SECTION_VM 16u /* + enum snapshot_vm_part */
#define SECTION_CPU 32u /* + enum snapshot_cpu_part */
#define SECTION_DEVICE 64u

#define HEADER_OFF_VERSION 8u
#define HEADER_OFF_SECTIONS 12u
#define HEADER_OFF_SIZE 16u
#define HEADER_OFF_CHECKSUM 24u
#define HEADER_OFF_BUILD 32u
#define HEADER_OFF_VENDOR 64u
#define HEADER_OFF_FAMILY 76u
#define HEADER_OFF_MODEL 80u
#define HEADER_OFF_STEPPING 84u
#define HEADER_OFF_FEATURES 88u

#define SLOT_SIZE 16u
#define PAGE_SIZE 4096u
#define MEMORY_MAX (1ull << 40)

#define DEVICE_OFF_ID 32u
#define DEVICE_OFF_QUEUES 36u
#define DEVICE_OFF_FEATURES 40u
#define DEVICE_OFF_STATE 48u
#define DEVICE_STATE_MAX (1u << 20)
#define DEVICE_QUEUES_MAX 16u

#define CPUID_ENTRIES_MAX 256u /* KVM_MAX_CPUID_ENTRIES */
#define MSRS_MAX 4096u
#define XSAVE_MAX 65536u

/* How many bytes a part may have: [min, max] in steps. */
struct snapshot_rule {
	const char *name;
	uint32_t min, max, step;
};

#define RULE_EXACT(text, type) \
	{ \
		text, sizeof(type), sizeof(type), 1 \
	}

/* Names of a hostile hand appear in messages: printable, and zeros from the end on. */
static bool text_is_plain(const char *p, size_t n)
{
	size_t len = strnlen(p, n);

	for (size_t i = 0; i < n; i++)
		if (i < len ? p[i] < ' ' || p[i] > '~' : p[i] != 0)
			return false;
	return true;
}

static const struct snapshot_rule memory_rule = { "memory layout", SLOT_SIZE,
						  SLOT_SIZE *SNAPSHOT_SLOTS_MAX, SLOT_SIZE };

static const struct snapshot_rule device_rule = { "device", DEVICE_OFF_STATE,
						  DEVICE_OFF_STATE + DEVICE_STATE_MAX, 1 };

static const struct snapshot_rule vm_rules[SNAPSHOT_VM_PARTS] = {
	[SNAPSHOT_CLOCK] = RULE_EXACT("clock", struct kvm_clock_data),
	[SNAPSHOT_PIC_MASTER] = RULE_EXACT("first interrupt controller", struct kvm_pic_state),
	[SNAPSHOT_PIC_SLAVE] = RULE_EXACT("second interrupt controller", struct kvm_pic_state),
	[SNAPSHOT_IOAPIC] = RULE_EXACT("I/O APIC", struct kvm_ioapic_state),
};

static const struct snapshot_rule cpu_rules[SNAPSHOT_CPU_PARTS] = {
	[SNAPSHOT_CPUID] = { "CPUID", sizeof(struct kvm_cpuid_entry2),
			     sizeof(struct kvm_cpuid_entry2) * CPUID_ENTRIES_MAX,
			     sizeof(struct kvm_cpuid_entry2) },
	[SNAPSHOT_MP_STATE] = RULE_EXACT("run state", struct kvm_mp_state),
	[SNAPSHOT_REGS] = RULE_EXACT("general registers", struct kvm_regs),
	[SNAPSHOT_SREGS] = RULE_EXACT("system registers", struct kvm_sregs),
	[SNAPSHOT_XSAVE] = { "FPU registers", sizeof(struct kvm_xsave), XSAVE_MAX, 64 },
	[SNAPSHOT_XCRS] = RULE_EXACT("FPU control", struct kvm_xcrs),
	[SNAPSHOT_DEBUGREGS] = RULE_EXACT("debug registers", struct kvm_debugregs),
	[SNAPSHOT_LAPIC] = RULE_EXACT("local APIC", struct kvm_lapic_state),
	[SNAPSHOT_TSC_KHZ] = RULE_EXACT("TSC frequency", uint32_t),
	[SNAPSHOT_MSRS] = { "MSRs", sizeof(struct kvm_msr_entry),
			    sizeof(struct kvm_msr_entry) * MSRS_MAX, sizeof(struct kvm_msr_entry) },
	[SNAPSHOT_EVENTS] = RULE_EXACT("pending events", struct kvm_vcpu_events),
};

/* Polynomial 0x42f0e1eba9ea3693, bits reversed. */
#define CRC64_POLY 0xc96c5795d7870f42ull

/*
 * Tables for eight bytes at a time: t[k][b] is the CRC of byte b with k zero bytes behind
 * it.  They are made anew for each use: 16 KiB of stack and some microseconds, instead of
 * so many numbers in the source or a global.
 */
struct crc64 {
	uint64_t t[8][256];
};

static void crc64_init(struct crc64 *c)
{
	for (unsigned i = 0; i < 256; i++) {
		uint64_t v = i;

		for (int bit = 0; bit < 8; bit++)
			v = v & 1 ? v >> 1 ^ CRC64_POLY : v >> 1;
		c->t[0][i] = v;
	}
	for (unsigned k = 1; k < 8; k++)
		for (unsigned i = 0; i < 256; i++)
			c->t[k][i] = c->t[0][(uint8_t)c->t[k - 1][i]] ^ c->t[k - 1][i] >> 8;
}

static uint64_t crc64_add(const struct crc64 *c, uint64_t crc, const uint8_t *p, size_t n)
{
	crc = ~crc;
	for (; n >= 8; p += 8, n -= 8) {
		uint64_t v = crc ^ le_get64(p);

		crc = 0;
		for (unsigned k = 0; k < 8; k++)
			crc ^= c->t[7 - k][(uint8_t)(v >> 8 * k)];
	}
	for (; n; p++, n--)
		crc = c->t[0][(uint8_t)(crc ^ *p)] ^ crc >> 8;
	return ~crc;
}

uint64_t snapshot_crc64(uint64_t crc, const uint8_t *p, size_t n)
{
	struct crc64 c;

	crc64_init(&c);
	return crc64_add(&c, crc, p, n);
}

/* The checksum's own bytes count as zero. */
static uint64_t snapshot_checksum(const uint8_t *p, size_t n)
{
	static const uint8_t zero[8];
	struct crc64 c;
	uint64_t crc;

	crc64_init(&c);
	crc = crc64_add(&c, 0, p, HEADER_OFF_CHECKSUM);
	crc = crc64_add(&c, crc, zero, sizeof(zero));
	return crc64_add(&c, crc, p + HEADER_OFF_BUILD, n - HEADER_OFF_BUILD);
}

/* ---- encoding ---- */

static int encode_section(struct buf *out, unsigned kind, unsigned index, const uint8_t *head,
			  size_t head_len, const struct snapshot_part *part, uint32_t *sections,
			  struct err *e)
{
	size_t len = head_len + part->len;
	size_t padded = (len + SECTION_ALIGN - 1) & ~(size_t)(SECTION_ALIGN - 1);
	uint8_t *p;
	int rc;

	if (len > SNAPSHOT_SIZE_MAX)
		return err_set(e, EMSGSIZE, "state: section %u has %zu bytes", kind, len);
	rc = buf_reserve(out, SECTION_HEADER_SIZE + padded, &p);
	if (rc)
		return err_errno(e, -rc, "state of more than %u bytes", SNAPSHOT_SIZE_MAX);
	le_put16(p, (uint16_t)kind);
	le_put16(p + 2, (uint16_t)index);
	le_put32(p + 4, (uint32_t)len);
	p += SECTION_HEADER_SIZE;
	if (head_len)
		memcpy(p, head, head_len);
	if (part->len)
		memcpy(p + head_len, part->data, part->len);
	memset(p + len, 0, padded - len);
	buf_commit(out, SECTION_HEADER_SIZE + padded);
	(*sections)++;
	return 0;
}

static int encode_memory(const struct snapshot *s, struct buf *out, uint32_t *sections,
			 struct err *e)
{
	uint8_t table[SLOT_SIZE * SNAPSHOT_SLOTS_MAX];
	struct snapshot_part part = { .data = table, .len = s->n_slots * SLOT_SIZE };

	for (unsigned i = 0; i < s->n_slots; i++) {
		le_put64(table + (size_t)i * SLOT_SIZE, s->slots[i].gpa);
		le_put64(table + (size_t)i * SLOT_SIZE + 8, s->slots[i].bytes);
	}
	return encode_section(out, SECTION_MEMORY, 0, NULL, 0, &part, sections, e);
}

static int encode_device(const struct snapshot_device *d, unsigned index, struct buf *out,
			 uint32_t *sections, struct err *e)
{
	uint8_t head[DEVICE_OFF_STATE];

	memcpy(head, d->name, sizeof(d->name));
	le_put32(head + DEVICE_OFF_ID, d->id);
	le_put32(head + DEVICE_OFF_QUEUES, d->n_queues);
	le_put64(head + DEVICE_OFF_FEATURES, d->features);
	return encode_section(out, SECTION_DEVICE, index, head, sizeof(head), &d->state, sections,
			      e);
}

static int encode_sections(const struct snapshot *s, struct buf *out, uint32_t *sections,
			   struct err *e)
{
	int rc = encode_memory(s, out, sections, e);

	for (unsigned k = 0; !rc && k < SNAPSHOT_VM_PARTS; k++)
		rc = encode_section(out, SECTION_VM + k, 0, NULL, 0, &s->vm[k], sections, e);
	for (unsigned i = 0; !rc && i < s->n_cpus; i++)
		for (unsigned k = 0; !rc && k < SNAPSHOT_CPU_PARTS; k++)
			rc = encode_section(out, SECTION_CPU + k, i, NULL, 0, &s->cpus[i][k],
					    sections, e);
	for (unsigned i = 0; !rc && i < s->n_devices; i++)
		rc = encode_device(&s->devices[i], i, out, sections, e);
	return rc;
}

static void encode_header(const struct snapshot *s, uint8_t *h, size_t size, uint32_t sections)
{
	const struct snapshot_identity *id = &s->identity;

	memcpy(h, SNAPSHOT_MAGIC, 8);
	le_put32(h + HEADER_OFF_VERSION, SNAPSHOT_VERSION);
	le_put32(h + HEADER_OFF_SECTIONS, sections);
	le_put64(h + HEADER_OFF_SIZE, size);
	memcpy(h + HEADER_OFF_BUILD, id->build, sizeof(id->build));
	memcpy(h + HEADER_OFF_VENDOR, id->vendor, sizeof(id->vendor));
	le_put32(h + HEADER_OFF_FAMILY, id->family);
	le_put32(h + HEADER_OFF_MODEL, id->model);
	le_put32(h + HEADER_OFF_STEPPING, id->stepping);
	memcpy(h + HEADER_OFF_FEATURES, id->features, sizeof(id->features));
	le_put64(h + HEADER_OFF_CHECKSUM, snapshot_checksum(h, size));
}

int snapshot_encode(struct snapshot *s, struct buf *out, struct err *e)
{
	struct snapshot check;
	uint32_t sections = 0;
	uint8_t *h;
	int rc;

	if (buf_len(out) || s->n_cpus > SNAPSHOT_CPUS_MAX || s->n_devices > SNAPSHOT_DEVICES_MAX ||
	    s->n_slots > SNAPSHOT_SLOTS_MAX)
		return err_set(e, EINVAL, "state: more CPUs, devices or memory than a file holds");
	rc = buf_reserve(out, SNAPSHOT_HEADER_SIZE, &h);
	if (rc)
		return err_errno(e, -rc, "state");
	buf_commit(out, SNAPSHOT_HEADER_SIZE);
	rc = encode_sections(s, out, &sections, e);
	if (rc)
		return rc;
	/* The first byte has not moved inside the buffer, but the buffer may have. */
	encode_header(s, out->mem + out->start, buf_len(out), sections);
	rc = snapshot_decode(buf_data(out), buf_len(out), &check, e);
	if (rc) {
		err_wrap(e, "this machine cannot be described");
		return rc;
	}
	s->checksum = check.checksum;
	return 0;
}

/* ---- decoding ---- */

static int decode_length(const struct snapshot_rule *r, unsigned index, size_t len, struct err *e)
{
	if (len < r->min || len > r->max || len % r->step)
		return err_set(e, EINVAL, "state file: %s %u has a wrong length (%zu bytes)",
			       r->name, index, len);
	return 0;
}

/* Every kind of section comes once; a slot in *@to that is taken has seen it already. */
static int decode_part(const struct snapshot_rule *r, unsigned index,
		       const struct snapshot_part *part, struct snapshot_part *to, struct err *e)
{
	int rc = decode_length(r, index, part->len, e);

	if (rc)
		return rc;
	if (to->data)
		return err_set(e, EINVAL, "state file: %s %u is there twice", r->name, index);
	*to = *part;
	return 0;
}

static int decode_memory(struct snapshot *s, const struct snapshot_part *part, struct err *e)
{
	uint64_t end = 0, total = 0;
	int rc = decode_length(&memory_rule, 0, part->len, e);

	if (rc)
		return rc;
	if (s->n_slots)
		return err_set(e, EINVAL, "state file: the memory layout is there twice");
	for (size_t off = 0; off < part->len; off += SLOT_SIZE) {
		struct snapshot_slot slot = { le_get64(part->data + off),
					      le_get64(part->data + off + 8) };

		if (slot.gpa % PAGE_SIZE || slot.bytes % PAGE_SIZE || !slot.bytes ||
		    slot.gpa < end || !checked_add(slot.gpa, slot.bytes, &end) ||
		    !checked_add(total, slot.bytes, &total) || total > MEMORY_MAX)
			return err_set(e, EINVAL, "state file: impossible memory layout");
		s->slots[s->n_slots++] = slot;
	}
	return 0;
}

static int decode_device(struct snapshot *s, unsigned index, const struct snapshot_part *part,
			 struct err *e)
{
	struct snapshot_device *d;
	int rc = decode_length(&device_rule, index, part->len, e);

	if (rc)
		return rc;
	if (index >= SNAPSHOT_DEVICES_MAX)
		return err_set(e, EINVAL, "state file: device %u of at most %u", index,
			       SNAPSHOT_DEVICES_MAX);
	d = &s->devices[index];
	if (d->state.data)
		return err_set(e, EINVAL, "state file: device %u is there twice", index);
	memcpy(d->name, part->data, sizeof(d->name));
	d->id = le_get32(part->data + DEVICE_OFF_ID);
	d->n_queues = le_get32(part->data + DEVICE_OFF_QUEUES);
	d->features = le_get64(part->data + DEVICE_OFF_FEATURES);
	d->state.data = part->data + DEVICE_OFF_STATE;
	d->state.len = part->len - DEVICE_OFF_STATE;
	if (d->name[sizeof(d->name) - 1] || !text_is_plain(d->name, sizeof(d->name)) ||
	    d->n_queues > DEVICE_QUEUES_MAX)
		return err_set(e, EINVAL, "state file: device %u is malformed", index);
	if (index >= s->n_devices)
		s->n_devices = index + 1;
	return 0;
}

static int decode_cpu(struct snapshot *s, unsigned kind, unsigned index,
		      const struct snapshot_part *part, struct err *e)
{
	if (index >= SNAPSHOT_CPUS_MAX)
		return err_set(e, EINVAL, "state file: CPU %u of at most %u", index,
			       SNAPSHOT_CPUS_MAX);
	if (index >= s->n_cpus)
		s->n_cpus = index + 1;
	return decode_part(&cpu_rules[kind], index, part, &s->cpus[index][kind], e);
}

static int decode_section(struct snapshot *s, unsigned kind, unsigned index,
			  const struct snapshot_part *part, struct err *e)
{
	if (kind >= SECTION_CPU && kind < SECTION_CPU + SNAPSHOT_CPU_PARTS)
		return decode_cpu(s, kind - SECTION_CPU, index, part, e);
	if (kind == SECTION_DEVICE)
		return decode_device(s, index, part, e);
	if (index)
		return err_set(e, EINVAL, "state file: section %u of unit %u", kind, index);
	if (kind == SECTION_MEMORY)
		return decode_memory(s, part, e);
	if (kind >= SECTION_VM && kind < SECTION_VM + SNAPSHOT_VM_PARTS)
		return decode_part(&vm_rules[kind - SECTION_VM], 0, part, &s->vm[kind - SECTION_VM],
				   e);
	return err_set(e, EINVAL, "state file: unknown section %u", kind);
}

static int decode_sections(struct snapshot *s, const uint8_t *p, size_t n, uint32_t sections,
			   struct err *e)
{
	size_t off = SNAPSHOT_HEADER_SIZE;

	for (uint32_t i = 0; i < sections; i++) {
		struct snapshot_part part;
		size_t padding;
		int rc;

		if (n - off < SECTION_HEADER_SIZE)
			return err_set(e, EINVAL, "state file: section %u of %u is missing", i,
				       sections);
		part.len = le_get32(p + off + 4);
		part.data = p + off + SECTION_HEADER_SIZE;
		padding = -part.len & (SECTION_ALIGN - 1);
		/* n is at most SNAPSHOT_SIZE_MAX: no sum below can overflow. */
		if (SECTION_HEADER_SIZE + part.len + padding > n - off)
			return err_set(e, EINVAL, "state file: section %u passes its end", i);
		for (size_t k = 0; k < padding; k++)
			if (part.data[part.len + k])
				return err_set(e, EINVAL, "state file: padding is not zero");
		rc = decode_section(s, le_get16(p + off), le_get16(p + off + 2), &part, e);
		if (rc)
			return rc;
		off += SECTION_HEADER_SIZE + part.len + padding;
	}
	if (off != n)
		return err_set(e, EINVAL, "state file: %zu bytes after its last section", n - off);
	return 0;
}

static int decode_missing(const struct snapshot *s, struct err *e)
{
	if (!s->n_slots)
		return err_set(e, EINVAL, "state file: the memory layout is missing");
	for (unsigned k = 0; k < SNAPSHOT_VM_PARTS; k++)
		if (!s->vm[k].data)
			return err_set(e, EINVAL, "state file: the %s is missing", vm_rules[k].name);
	if (!s->n_cpus)
		return err_set(e, EINVAL, "state file: no CPU");
	for (unsigned i = 0; i < s->n_cpus; i++)
		for (unsigned k = 0; k < SNAPSHOT_CPU_PARTS; k++)
			if (!s->cpus[i][k].data)
				return err_set(e, EINVAL, "state file: %s of CPU %u is missing",
					       cpu_rules[k].name, i);
	for (unsigned i = 0; i < s->n_devices; i++)
		if (!s->devices[i].state.data)
			return err_set(e, EINVAL, "state file: device %u is missing", i);
	return 0;
}

static int decode_header(const uint8_t *p, size_t n, struct snapshot *s, struct err *e)
{
	struct snapshot_identity *id = &s->identity;
	uint64_t size;
	uint32_t version;

	if (n < SNAPSHOT_HEADER_SIZE || memcmp(p, SNAPSHOT_MAGIC, 8))
		return err_set(e, EINVAL, "not the state file of a snapshot");
	version = le_get32(p + HEADER_OFF_VERSION);
	if (version != SNAPSHOT_VERSION)
		return err_set(
			e, EINVAL,
			"state file: format %u, this program reads %u: make the snapshot anew",
			version, SNAPSHOT_VERSION);
	size = le_get64(p + HEADER_OFF_SIZE);
	if (size > n)
		return err_set(e, EINVAL, "state file: cut short, %zu bytes of %llu", n,
			       (unsigned long long)size);
	if (size < n)
		return err_set(e, EINVAL, "state file: %llu bytes too long",
			       (unsigned long long)(n - size));
	s->checksum = le_get64(p + HEADER_OFF_CHECKSUM);
	if (s->checksum != snapshot_checksum(p, n))
		return err_set(e, EINVAL, "state file: damaged (wrong checksum)");
	memcpy(id->build, p + HEADER_OFF_BUILD, sizeof(id->build));
	memcpy(id->vendor, p + HEADER_OFF_VENDOR, sizeof(id->vendor));
	if (!text_is_plain(id->vendor, sizeof(id->vendor)))
		return err_set(e, EINVAL, "state file: malformed CPU vendor");
	id->family = le_get32(p + HEADER_OFF_FAMILY);
	id->model = le_get32(p + HEADER_OFF_MODEL);
	id->stepping = le_get32(p + HEADER_OFF_STEPPING);
	memcpy(id->features, p + HEADER_OFF_FEATURES, sizeof(id->features));
	return 0;
}

int snapshot_decode(const uint8_t *p, size_t n, struct snapshot *out, struct err *e)
{
	struct snapshot s = { .n_slots = 0 };
	int rc;

	if (n > SNAPSHOT_SIZE_MAX)
		return err_set(e, EINVAL, "state file: larger than %u bytes", SNAPSHOT_SIZE_MAX);
	if ((rc = decode_header(p, n, &s, e)) ||
	    (rc = decode_sections(&s, p, n, le_get32(p + HEADER_OFF_SECTIONS), e)) ||
	    (rc = decode_missing(&s, e)))
		return rc;
	*out = s;
	return 0;
}

int snapshot_check_identity(const struct snapshot *s, const struct snapshot_identity *here,
			    struct err *e)
{
	const struct snapshot_identity *id = &s->identity;

	if (memcmp(id->build, here->build, sizeof(id->build)))
		return err_set(e, EXDEV,
			       "the snapshot is of another build of msb-vmm: make it anew");
	if (memcmp(id->vendor, here->vendor, sizeof(id->vendor)) || id->family != here->family ||
	    id->model != here->model || id->stepping != here->stepping)
		return err_set(e, EXDEV,
			       "the snapshot is of another CPU (%.12s family %u model %u stepping "
			       "%u; here is %.12s %u/%u/%u): make it anew on this machine",
			       id->vendor, id->family, id->model, id->stepping, here->vendor,
			       here->family, here->model, here->stepping);
	if (memcmp(id->features, here->features, sizeof(id->features)))
		return err_set(
			e, EXDEV,
			"the snapshot is of a CPU with other features (same model; microcode "
			"or hypervisor differ): make it anew on this machine");
	return 0;
}

uint64_t snapshot_memory_bytes(const struct snapshot *s)
{
	uint64_t bytes = 0;

	for (unsigned i = 0; i < s->n_slots; i++)
		bytes += s->slots[i].bytes;
	return bytes;
}

/* ---- the end of the memory file ---- */

void snapshot_trailer_encode(const struct snapshot *s, uint8_t out[SNAPSHOT_TRAILER_SIZE])
{
	memset(out, 0, SNAPSHOT_TRAILER_SIZE);
	memcpy(out, SNAPSHOT_TRAILER_MAGIC, 8);
	le_put64(out + 8, snapshot_memory_bytes(s));
	le_put64(out + 16, s->checksum);
}

int snapshot_trailer_check(const struct snapshot *s, const uint8_t *p, struct err *e)
{
	if (memcmp(p, SNAPSHOT_TRAILER_MAGIC, 8) || le_get64(p + 8) != snapshot_memory_bytes(s))
		return err_set(
			e, EINVAL,
			"memory file: it does not end where the memory of this snapshot does");
	if (le_get64(p + 16) != s->checksum)
		return err_set(e, EINVAL, "memory file: it belongs to another state file");
	return 0;
}
