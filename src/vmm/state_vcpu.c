/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DOC: Theory of operation
 *
 * Purpose: read a paused vCPU's state out of KVM, and put it into a fresh one.
 *
 * Spec: Documentation/virt/kvm/api.rst of the kernel; Intel SDM volume 3 for MSR numbers.
 *
 * Order when saving: MP_STATE first, because asking for it takes a pending INIT or SIPI
 * into account; VCPU_EVENTS last, because the calls before may change what is pending.
 *
 * Order when loading: CPUID, which all checks of KVM go by; the TSC's frequency;
 * registers; the local APIC after the system registers (they hold its base and mode) and
 * before the MSRs (the TSC deadline counts only in the timer mode that the APIC has);
 * the TSC before its deadline; events last.
 *
 * MSRs: those that KVM lists as kept by it, the memory types (which it leaves out of that
 * list), and the whole range of paravirtual ones.  One that cannot be read is not kept.
 * One that cannot be written is no loss if it has its value already.
 *
 * Trust boundary: lengths are right (codec/snapshot.c), except that of the FPU registers,
 * which is this host's matter: KVM reads as much as it wants, so a shorter part is
 * refused here.  Values are KVM's to check.
 */
#include "vmm/state_vcpu.h"

#include <assert.h>
#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <sys/ioctl.h>

#include "base/mem.h"
#include "codec/le.h"

#define MSR_TSC 0x10u
#define MSR_TSC_DEADLINE 0x6e0u
#define MSR_PV_FIRST 0x4b564d00u
#define MSR_PV_LAST 0x4b564dffu
#define MSR_CHUNK 255u /* KVM_GET_MSRS and KVM_SET_MSRS take less than 256 */

/* Far from any value that KVM could take for an attempt to synchronize TSCs. */
#define TSC_FAR (1ull << 40)
/* KVM changes a frequency only if the difference is more than clocks differ anyway. */
#define TSC_TOLERANCE_PPM 250u

/* MTRRs: IA32_MTRR_PHYSBASE0 … PHYSMASK7, FIX64K, FIX16K, FIX4K, DEF_TYPE. */
static const struct {
	uint32_t first, last;
} mtrr_ranges[] = {
	{ 0x200, 0x20f }, { 0x250, 0x250 }, { 0x258, 0x259 }, { 0x268, 0x26f }, { 0x2ff, 0x2ff }
};

/* Has the layout of struct kvm_msrs, and room. */
struct msr_chunk {
	uint32_t n, padding;
	struct kvm_msr_entry entries[MSR_CHUNK];
};

/* Has the layout of struct kvm_msr_list, and room. */
struct msr_known {
	uint32_t n;
	uint32_t index[STATE_MSRS_MAX / 2];
};

static_assert(offsetof(struct msr_chunk, entries) == offsetof(struct kvm_msrs, entries),
	      "struct msr_chunk is a struct kvm_msrs");
static_assert(offsetof(struct msr_known, index) == offsetof(struct kvm_msr_list, indices),
	      "struct msr_known is a struct kvm_msr_list");

static void msr_list_add(struct state_msr_list *l, uint32_t index)
{
	for (unsigned i = 0; i < l->n; i++)
		if (l->index[i] == index)
			return;
	if (l->n < STATE_MSRS_MAX)
		l->index[l->n++] = index;
}

int state_msr_list(int kvm_fd, struct state_msr_list *out, struct err *e)
{
	struct msr_known known = { .n = STATE_MSRS_MAX / 2 };

	if (ioctl(kvm_fd, KVM_GET_MSR_INDEX_LIST, &known) < 0)
		return err_errno(e, errno, "KVM_GET_MSR_INDEX_LIST");
	out->n = 0;
	msr_list_add(out, MSR_TSC);
	for (unsigned i = 0; i < known.n; i++)
		if (known.index[i] != MSR_TSC_DEADLINE)
			msr_list_add(out, known.index[i]);
	for (size_t i = 0; i < ARRAY_SIZE(mtrr_ranges); i++)
		for (uint32_t m = mtrr_ranges[i].first; m <= mtrr_ranges[i].last; m++)
			msr_list_add(out, m);
	for (uint32_t m = MSR_PV_FIRST; m <= MSR_PV_LAST; m++)
		msr_list_add(out, m);
	msr_list_add(out, MSR_TSC_DEADLINE);
	return 0;
}

int state_xsave_bytes(int vm_fd, uint32_t *out, struct err *e)
{
	/* 0: a kernel without KVM_GET_XSAVE2, where 4096 bytes are all there is. */
	int n = ioctl(vm_fd, KVM_CHECK_EXTENSION, KVM_CAP_XSAVE2);

	if (n < 0)
		return err_errno(e, errno, "KVM_CHECK_EXTENSION");
	*out = n > (int)sizeof(struct kvm_xsave) ? (uint32_t)n : sizeof(struct kvm_xsave);
	return 0;
}

/* ---- saving ---- */

static int vcpu_get(const struct vcpu *c, unsigned long request, const char *name, void *to,
		    struct err *e)
{
	if (ioctl(c->fd, request, to) < 0)
		return err_errno(e, errno, "snapshot: CPU %u: %s", c->id, name);
	return 0;
}

#define VCPU_GET(c, request, to, e) vcpu_get(c, request, #request, to, e)

/*
 * Reads as many of @index[0, @n) as KVM will in one call; *@got of them.  It stops at
 * the first that it refuses.
 */
static int msrs_get_chunk(const struct vcpu *c, const uint32_t *index, unsigned n,
			  struct msr_chunk *chunk, unsigned *got, struct err *e)
{
	int rc;

	memset(chunk, 0, sizeof(*chunk));
	chunk->n = n;
	for (unsigned i = 0; i < n; i++)
		chunk->entries[i].index = index[i];
	rc = ioctl(c->fd, KVM_GET_MSRS, chunk);
	if (rc < 0)
		return err_errno(e, errno, "snapshot: CPU %u: KVM_GET_MSRS", c->id);
	*got = (unsigned)rc;
	return 0;
}

/* A paravirtual MSR that was only guessed, and is as after a reset, need not be kept. */
static bool msr_is_idle_guess(const struct kvm_msr_entry *m)
{
	return m->index >= MSR_PV_FIRST && m->index <= MSR_PV_LAST && !m->data;
}

static int msrs_save(const struct vcpu *c, const struct state_msr_list *list, struct state_vcpu *s,
		     struct err *e)
{
	struct msr_chunk chunk;
	unsigned got = 0;
	int rc;

	for (unsigned at = 0; at < list->n; at += got ? got : 1) {
		unsigned n = list->n - at < MSR_CHUNK ? list->n - at : MSR_CHUNK;

		rc = msrs_get_chunk(c, list->index + at, n, &chunk, &got, e);
		if (rc)
			return rc;
		for (unsigned i = 0; i < got; i++)
			if (!msr_is_idle_guess(&chunk.entries[i]))
				s->msrs[s->n_msrs++] = chunk.entries[i];
	}
	return 0;
}

/*
 * A deadline of 0 is a timer that is not set, or one that has expired and whose interrupt
 * is on its way where no call of KVM's can see it.  A deadline that is over gives an
 * interrupt at once: one too many is harmless, one too few stops the guest's clock.
 */
static void msrs_fix_deadline(struct state_vcpu *s)
{
	uint64_t tsc = 0;

	for (unsigned i = 0; i < s->n_msrs; i++) {
		if (s->msrs[i].index == MSR_TSC)
			tsc = s->msrs[i].data;
		if (s->msrs[i].index == MSR_TSC_DEADLINE && !s->msrs[i].data)
			s->msrs[i].data = tsc;
	}
}

static int vcpu_save_all(struct vcpu *c, const struct state_msr_list *list, struct state_vcpu *s,
			 struct err *e)
{
	bool large = s->xsave_bytes > sizeof(struct kvm_xsave);
	int khz, rc;

	if ((rc = VCPU_GET(c, KVM_GET_MP_STATE, &s->mp_state, e)) ||
	    (rc = VCPU_GET(c, KVM_GET_REGS, &s->regs, e)) ||
	    (rc = VCPU_GET(c, KVM_GET_SREGS, &s->sregs, e)) ||
	    (rc = large ? VCPU_GET(c, KVM_GET_XSAVE2, s->xsave, e)
			: VCPU_GET(c, KVM_GET_XSAVE, s->xsave, e)) ||
	    (rc = VCPU_GET(c, KVM_GET_XCRS, &s->xcrs, e)) ||
	    (rc = VCPU_GET(c, KVM_GET_DEBUGREGS, &s->debugregs, e)) ||
	    (rc = VCPU_GET(c, KVM_GET_LAPIC, &s->lapic, e)))
		return rc;
	khz = ioctl(c->fd, KVM_GET_TSC_KHZ, 0);
	if (khz < 0)
		return err_errno(e, errno, "snapshot: CPU %u: KVM_GET_TSC_KHZ", c->id);
	le_put32(s->tsc_khz, (uint32_t)khz);
	s->cpuid.n = CPUID_ENTRIES_MAX;
	if ((rc = VCPU_GET(c, KVM_GET_CPUID2, &s->cpuid, e)) || (rc = msrs_save(c, list, s, e)))
		return rc;
	msrs_fix_deadline(s);
	return VCPU_GET(c, KVM_GET_VCPU_EVENTS, &s->events, e);
}

int state_vcpu_save(struct vcpu *c, const struct state_msr_list *list, struct state_vcpu **out,
		    struct snapshot_part *parts, struct err *e)
{
	auto_free struct state_vcpu *s = NULL;
	uint32_t xsave_bytes = 0;
	int rc = state_xsave_bytes(c->vm->vm_fd, &xsave_bytes, e);

	if (rc)
		return rc;
	s = calloc(1, sizeof(*s) + xsave_bytes);
	if (!s)
		return err_errno(e, ENOMEM, "snapshot: CPU %u", c->id);
	s->xsave_bytes = xsave_bytes;
	rc = vcpu_save_all(c, list, s, e);
	if (rc)
		return rc;
#define PART(p, n) ((struct snapshot_part){ (const uint8_t *)(p), n })
	parts[SNAPSHOT_CPUID] = PART(s->cpuid.entries, s->cpuid.n * sizeof(s->cpuid.entries[0]));
	parts[SNAPSHOT_MP_STATE] = PART(&s->mp_state, sizeof(s->mp_state));
	parts[SNAPSHOT_REGS] = PART(&s->regs, sizeof(s->regs));
	parts[SNAPSHOT_SREGS] = PART(&s->sregs, sizeof(s->sregs));
	parts[SNAPSHOT_XSAVE] = PART(s->xsave, s->xsave_bytes);
	parts[SNAPSHOT_XCRS] = PART(&s->xcrs, sizeof(s->xcrs));
	parts[SNAPSHOT_DEBUGREGS] = PART(&s->debugregs, sizeof(s->debugregs));
	parts[SNAPSHOT_LAPIC] = PART(&s->lapic, sizeof(s->lapic));
	parts[SNAPSHOT_TSC_KHZ] = PART(s->tsc_khz, sizeof(s->tsc_khz));
	parts[SNAPSHOT_MSRS] = PART(s->msrs, s->n_msrs * sizeof(s->msrs[0]));
	parts[SNAPSHOT_EVENTS] = PART(&s->events, sizeof(s->events));
#undef PART
	*out = take_ptr(&s);
	return 0;
}

/* ---- loading ---- */

static int vcpu_set(const struct vcpu *c, unsigned long request, const char *name,
		    const struct snapshot_part *part, struct err *e)
{
	if (ioctl(c->fd, request, part->data) < 0)
		return err_errno(e, errno, "snapshot: CPU %u: KVM refuses its state: %s", c->id,
				 name);
	return 0;
}

#define VCPU_SET(c, request, part, e) vcpu_set(c, request, #request, part, e)

/*
 * The filter of a boot is applied once more.  It changes nothing in what was saved from a
 * machine of ours; a hostile state gets no feature by it (virtual machines inside, say)
 * that our guests do not have.  For that, KVM must find the same entries as the filter: it
 * does not look at the index of leaves that have none.
 */
static int cpuid_load(const struct vcpu *c, const struct snapshot_part *part, struct err *e)
{
	struct cpuid cpuid = { .n = 0 };

	if (part->len > sizeof(cpuid.entries))
		return err_set(e, EINVAL, "snapshot: CPU %u: CPUID is too long", c->id);
	memcpy(cpuid.entries, part->data, part->len);
	cpuid.n = (uint32_t)(part->len / sizeof(cpuid.entries[0]));
	for (uint32_t i = 0; i < cpuid.n; i++) {
		const struct kvm_cpuid_entry2 *x = &cpuid.entries[i];

		if ((x->function == 1 || x->function == 0x80000001) && x->flags)
			return err_set(e, EINVAL, "snapshot: CPU %u: malformed CPUID leaf 0x%x",
				       c->id, x->function);
	}
	cpuid_filter(&cpuid, c->vm->n_vcpus, false);
	cpuid_set_apic_id(&cpuid, c->id);
	return cpuid_apply(c->fd, &cpuid, e);
}

/*
 * A CPU without a scaler would let KVM imitate a faster TSC: it moves the guest's ahead at
 * every entry, which jumps, and which a hostile frequency turns into a loop of timers that
 * keeps the host's CPU busy.
 */
static int tsc_khz_load(const struct vcpu *c, const struct snapshot_part *part, struct err *e)
{
	uint64_t want = le_get32(part->data), here, diff;
	int khz = ioctl(c->fd, KVM_GET_TSC_KHZ, 0);

	if (khz < 0)
		return err_errno(e, errno, "snapshot: CPU %u: KVM_GET_TSC_KHZ", c->id);
	here = (uint64_t)khz;
	diff = want > here ? want - here : here - want;
	if (diff * 1000000 <= here * TSC_TOLERANCE_PPM)
		return 0;
	if (ioctl(c->vm->vm_fd, KVM_CHECK_EXTENSION, KVM_CAP_TSC_CONTROL) <= 0 ||
	    ioctl(c->fd, KVM_SET_TSC_KHZ, (unsigned long)want) < 0)
		return err_set(
			e, EXDEV,
			"the snapshot is of a CPU whose TSC runs at %llu kHz; here it is "
			"%llu kHz, and the CPU cannot scale it: make it anew on this machine",
			(unsigned long long)want, (unsigned long long)here);
	return 0;
}

/* KVM refused to write @m.  That is no loss if it has this value. */
static int msr_check_same(const struct vcpu *c, const struct kvm_msr_entry *m, struct err *e)
{
	struct msr_chunk chunk;
	unsigned got = 0;
	int rc = msrs_get_chunk(c, &m->index, 1, &chunk, &got, e);

	if (rc)
		return rc;
	if (!got || chunk.entries[0].data != m->data)
		return err_set(e, EINVAL, "snapshot: CPU %u: KVM refuses MSR 0x%x = 0x%llx", c->id,
			       m->index, (unsigned long long)m->data);
	return 0;
}

/*
 * A TSC that is written close (1 s) to what another write has led to is taken by KVM for
 * an attempt to make several CPUs equal.  For the CPUs after the first that is what we
 * want: all get the first one's offset.  The first must not be drawn to the zero that
 * every TSC begins with, so something far away is written before.
 */
static int tsc_leave_zero(const struct vcpu *c, const struct kvm_msr_entry *tsc, struct err *e)
{
	struct msr_chunk chunk = { .n = 1 };

	chunk.entries[0] = *tsc;
	chunk.entries[0].data += TSC_FAR;
	if (ioctl(c->fd, KVM_SET_MSRS, &chunk) != 1)
		return err_set(e, EINVAL, "snapshot: CPU %u: KVM refuses the TSC", c->id);
	return 0;
}

static int msrs_load(const struct vcpu *c, const struct snapshot_part *part, struct err *e)
{
	unsigned total = (unsigned)(part->len / sizeof(struct kvm_msr_entry));
	struct msr_chunk chunk;
	int rc;

	for (unsigned at = 0; at < total;) {
		unsigned n = total - at < MSR_CHUNK ? total - at : MSR_CHUNK;

		chunk.n = n;
		chunk.padding = 0;
		memcpy(chunk.entries, part->data + at * sizeof(chunk.entries[0]),
		       n * sizeof(chunk.entries[0]));
		if (!c->id && !at && chunk.entries[0].index == MSR_TSC &&
		    (rc = tsc_leave_zero(c, &chunk.entries[0], e)))
			return rc;
		rc = ioctl(c->fd, KVM_SET_MSRS, &chunk);
		if (rc < 0)
			return err_errno(e, errno, "snapshot: CPU %u: KVM_SET_MSRS", c->id);
		at += (unsigned)rc;
		if ((unsigned)rc == n)
			continue;
		rc = msr_check_same(c, &chunk.entries[rc], e);
		if (rc)
			return rc;
		at++;
	}
	return 0;
}

static int vcpu_check_parts(const struct vcpu *c, const struct snapshot_part *parts, struct err *e)
{
	uint32_t xsave_bytes = 0;
	int rc = state_xsave_bytes(c->vm->vm_fd, &xsave_bytes, e);

	if (rc)
		return rc;
	if (parts[SNAPSHOT_XSAVE].len != xsave_bytes)
		return err_set(
			e, EXDEV,
			"snapshot: CPU %u: %zu bytes of FPU registers, %u here: make it anew "
			"on this machine",
			c->id, parts[SNAPSHOT_XSAVE].len, xsave_bytes);
	/* RUNNABLE, UNINITIALIZED, INIT_RECEIVED, HALTED, SIPI_RECEIVED. */
	if (le_get32(parts[SNAPSHOT_MP_STATE].data) > KVM_MP_STATE_SIPI_RECEIVED)
		return err_set(e, EINVAL, "snapshot: CPU %u: unknown run state %u", c->id,
			       le_get32(parts[SNAPSHOT_MP_STATE].data));
	return 0;
}

int state_vcpu_load(struct vcpu *c, const struct snapshot_part *parts, struct err *e)
{
	int rc;

	if ((rc = vcpu_check_parts(c, parts, e)) ||
	    (rc = cpuid_load(c, &parts[SNAPSHOT_CPUID], e)) ||
	    (rc = tsc_khz_load(c, &parts[SNAPSHOT_TSC_KHZ], e)) ||
	    (rc = VCPU_SET(c, KVM_SET_MP_STATE, &parts[SNAPSHOT_MP_STATE], e)) ||
	    (rc = VCPU_SET(c, KVM_SET_REGS, &parts[SNAPSHOT_REGS], e)) ||
	    (rc = VCPU_SET(c, KVM_SET_SREGS, &parts[SNAPSHOT_SREGS], e)) ||
	    (rc = VCPU_SET(c, KVM_SET_XSAVE, &parts[SNAPSHOT_XSAVE], e)) ||
	    (rc = VCPU_SET(c, KVM_SET_XCRS, &parts[SNAPSHOT_XCRS], e)) ||
	    (rc = VCPU_SET(c, KVM_SET_DEBUGREGS, &parts[SNAPSHOT_DEBUGREGS], e)) ||
	    (rc = VCPU_SET(c, KVM_SET_LAPIC, &parts[SNAPSHOT_LAPIC], e)) ||
	    (rc = msrs_load(c, &parts[SNAPSHOT_MSRS], e)) ||
	    (rc = VCPU_SET(c, KVM_SET_VCPU_EVENTS, &parts[SNAPSHOT_EVENTS], e)))
		return rc;
	/*
	 * Tells the guest's watchdogs that it was not they who slept.  EINVAL: the guest has
	 * not registered a kvm-clock (yet).
	 */
	if (ioctl(c->fd, KVM_KVMCLOCK_CTRL, 0) < 0 && errno != EINVAL)
		return err_errno(e, errno, "snapshot: CPU %u: KVM_KVMCLOCK_CTRL", c->id);
	return 0;
}
