/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DOC: Theory of operation
 *
 * Purpose: turn a machine that stands still into struct snapshot, and such a struct back
 * into a machine.
 *
 * Spec: Documentation/virt/kvm/api.rst of the kernel.
 *
 * Order: KVM's CPUs before its interrupt controllers when saving, the other way round
 * when loading, as KVM's CPUs take interrupts from them; devices last when loading,
 * because their undrain raises interrupts again that were on the way (vdev.h).
 *
 * Clocks: the guest's clock and TSC go on where they stood.  The time in between did not
 * happen for the guest; the wall clock comes with the agent's next hello.
 *
 * IOAPIC: the redirection table, the pending lines and the two registers that a guest can
 * write are put into what KVM has; where the chip lies stays KVM's choice.
 *
 * Trust boundary: the snapshot passed snapshot_decode(), no more.  This file compares
 * everything that is the machine's own (CPUs, memory layout, device set) and leaves
 * values to KVM and to the devices' load functions.
 */
#include "vmm/state.h"

#include <assert.h>
#include <errno.h>
#include <linux/kvm.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include "base/mem.h"
#include "vmm/state_vcpu.h"

static_assert(VM_CPUS_MAX == SNAPSHOT_CPUS_MAX, "a snapshot holds every machine");
static_assert(VM_DEVICES_MAX == SNAPSHOT_DEVICES_MAX, "a snapshot holds every machine");
static_assert(MEMORY_SLOTS_MAX == SNAPSHOT_SLOTS_MAX, "a snapshot holds every machine");
static_assert(sizeof(((struct vdev *)0)->name) == SNAPSHOT_NAME_SIZE, "names of one size");

#define STATE_DEVICE_MAX (1u << 20) /* bytes of one device */

struct state {
	struct snapshot snapshot;
	struct kvm_clock_data clock;
	struct kvm_irqchip pic[2], ioapic;
	struct state_vcpu *vcpus[VM_CPUS_MAX];
	struct buf devices[VM_DEVICES_MAX];
};

struct snapshot *state_snapshot(struct state *st)
{
	return &st->snapshot;
}

void state_destroy(struct state *st)
{
	if (!st)
		return;
	for (unsigned i = 0; i < VM_CPUS_MAX; i++)
		free(st->vcpus[i]);
	for (unsigned i = 0; i < VM_DEVICES_MAX; i++)
		buf_fini(&st->devices[i]);
	free(st);
}

/* ---- saving ---- */

static int irqchip_get(const struct vm *vm, uint32_t chip, struct kvm_irqchip *out, struct err *e)
{
	out->chip_id = chip;
	if (ioctl(vm->vm_fd, KVM_GET_IRQCHIP, out) < 0)
		return err_errno(e, errno, "snapshot: KVM_GET_IRQCHIP %u", chip);
	return 0;
}

static int state_save_vm(struct vm *vm, struct state *st, struct err *e)
{
	struct snapshot_part *parts = st->snapshot.vm;
	int rc;

	if (ioctl(vm->vm_fd, KVM_GET_CLOCK, &st->clock) < 0)
		return err_errno(e, errno, "snapshot: KVM_GET_CLOCK");
	if ((rc = irqchip_get(vm, KVM_IRQCHIP_PIC_MASTER, &st->pic[0], e)) ||
	    (rc = irqchip_get(vm, KVM_IRQCHIP_PIC_SLAVE, &st->pic[1], e)) ||
	    (rc = irqchip_get(vm, KVM_IRQCHIP_IOAPIC, &st->ioapic, e)))
		return rc;
#define PART(x) ((struct snapshot_part){ (const uint8_t *)&(x), sizeof(x) })
	parts[SNAPSHOT_CLOCK] = PART(st->clock);
	parts[SNAPSHOT_PIC_MASTER] = PART(st->pic[0].chip.pic);
	parts[SNAPSHOT_PIC_SLAVE] = PART(st->pic[1].chip.pic);
	parts[SNAPSHOT_IOAPIC] = PART(st->ioapic.chip.ioapic);
#undef PART
	return 0;
}

static int state_save_vcpus(struct vm *vm, struct state *st, struct err *e)
{
	struct state_msr_list list;
	int rc = state_msr_list(vm->cfg.kvm_fd, &list, e);

	for (unsigned i = 0; !rc && i < vm->n_vcpus; i++)
		rc = state_vcpu_save(&vm->vcpus[i], &list, &st->vcpus[i], st->snapshot.cpus[i], e);
	st->snapshot.n_cpus = vm->n_vcpus;
	return rc;
}

static int state_save_devices(struct vm *vm, struct state *st, struct err *e)
{
	for (unsigned i = 0; i < vm->n_devices; i++) {
		struct snapshot_device *to = &st->snapshot.devices[i];
		struct vdev *d = vm->devices[i].vdev;
		int rc;

		buf_init(&st->devices[i], STATE_DEVICE_MAX);
		rc = vdev_save(d, &st->devices[i]);
		if (rc)
			return err_errno(e, -rc, "snapshot: device %s", d->name);
		memcpy(to->name, d->name, sizeof(to->name));
		to->id = d->ops->id;
		to->n_queues = d->n_queues;
		to->features = d->features_offered;
		to->state = (struct snapshot_part){ buf_data(&st->devices[i]),
						    buf_len(&st->devices[i]) };
	}
	st->snapshot.n_devices = vm->n_devices;
	return 0;
}

int state_save(struct vm *vm, struct state **out, struct err *e)
{
	struct state *st = calloc(1, sizeof(*st));
	int rc;

	if (!st)
		return err_errno(e, ENOMEM, "snapshot");
	for (unsigned i = 0; i < vm->memory.n_slots; i++)
		st->snapshot.slots[i] =
			(struct snapshot_slot){ vm->memory.slots[i].gpa, vm->memory.slots[i].size };
	st->snapshot.n_slots = vm->memory.n_slots;
	if ((rc = state_identity(&st->snapshot.identity, e)) ||
	    (rc = state_save_vcpus(vm, st, e)) || (rc = state_save_vm(vm, st, e)) ||
	    (rc = state_save_devices(vm, st, e))) {
		state_destroy(st);
		return rc;
	}
	*out = st;
	return 0;
}

/* ---- loading ---- */

static int irqchip_set(const struct vm *vm, const struct kvm_irqchip *chip, struct err *e)
{
	if (ioctl(vm->vm_fd, KVM_SET_IRQCHIP, chip) < 0)
		return err_errno(e, errno, "snapshot: KVM refuses interrupt controller %u",
				 chip->chip_id);
	return 0;
}

static int state_load_pic(const struct vm *vm, uint32_t chip_id, const struct snapshot_part *part,
			  struct err *e)
{
	struct kvm_irqchip chip = { .chip_id = chip_id };

	memcpy(&chip.chip.pic, part->data, sizeof(chip.chip.pic));
	return irqchip_set(vm, &chip, e);
}

static int state_load_ioapic(const struct vm *vm, const struct snapshot_part *part, struct err *e)
{
	struct kvm_irqchip chip = { .chip_id = KVM_IRQCHIP_IOAPIC };
	struct kvm_ioapic_state saved, *to = &chip.chip.ioapic;
	int rc = irqchip_get(vm, KVM_IRQCHIP_IOAPIC, &chip, e);

	if (rc)
		return rc;
	memcpy(&saved, part->data, sizeof(saved));
	to->id = saved.id;
	to->ioregsel = saved.ioregsel;
	to->irr = saved.irr;
	memcpy(to->redirtbl, saved.redirtbl, sizeof(to->redirtbl));
	return irqchip_set(vm, &chip, e);
}

static int state_load_clock(const struct vm *vm, const struct snapshot_part *part, struct err *e)
{
	struct kvm_clock_data saved, clock = { .flags = 0 };

	memcpy(&saved, part->data, sizeof(saved));
	clock.clock = saved.clock;
	if (ioctl(vm->vm_fd, KVM_SET_CLOCK, &clock) < 0)
		return err_errno(e, errno, "snapshot: KVM_SET_CLOCK");
	return 0;
}

/* Is this the machine that the snapshot is of? */
static int state_check_machine(const struct vm *vm, const struct snapshot *s, struct err *e)
{
	bool same = s->n_slots == vm->memory.n_slots;

	if (s->n_cpus != vm->n_vcpus)
		return err_set(e, EINVAL, "the snapshot has %u CPUs, this machine %u", s->n_cpus,
			       vm->n_vcpus);
	for (unsigned i = 0; same && i < s->n_slots; i++)
		same = s->slots[i].gpa == vm->memory.slots[i].gpa &&
		       s->slots[i].bytes == vm->memory.slots[i].size;
	if (!same)
		return err_set(e, EINVAL,
			       "the snapshot has %llu bytes of memory, this machine %llu",
			       (unsigned long long)snapshot_memory_bytes(s),
			       (unsigned long long)vm->memory.bytes);
	if (s->n_devices != vm->n_devices)
		return err_set(e, EINVAL, "the snapshot has %u devices, this machine %u",
			       s->n_devices, vm->n_devices);
	for (unsigned i = 0; i < s->n_devices; i++) {
		const struct snapshot_device *a = &s->devices[i];
		const struct vdev *b = vm->devices[i].vdev;

		if (strcmp(a->name, b->name) || a->id != b->ops->id)
			return err_set(e, EINVAL,
				       "the snapshot's device %u is %s (type %u), this machine's "
				       "%s (type %u)",
				       i, a->name, a->id, b->name, b->ops->id);
		if (a->n_queues != b->n_queues || a->features != b->features_offered)
			return err_set(e, EINVAL,
				       "the snapshot's device %s has other queues or features than "
				       "this machine's",
				       a->name);
	}
	return 0;
}

int state_load(struct vm *vm, const struct snapshot *s, struct err *e)
{
	int rc = state_check_machine(vm, s, e);

	if (rc || (rc = state_load_clock(vm, &s->vm[SNAPSHOT_CLOCK], e)) ||
	    (rc = state_load_pic(vm, KVM_IRQCHIP_PIC_MASTER, &s->vm[SNAPSHOT_PIC_MASTER], e)) ||
	    (rc = state_load_pic(vm, KVM_IRQCHIP_PIC_SLAVE, &s->vm[SNAPSHOT_PIC_SLAVE], e)) ||
	    (rc = state_load_ioapic(vm, &s->vm[SNAPSHOT_IOAPIC], e)))
		return rc;
	for (unsigned i = 0; i < s->n_cpus; i++) {
		rc = state_vcpu_load(&vm->vcpus[i], s->cpus[i], e);
		if (rc)
			return rc;
	}
	for (unsigned i = 0; i < s->n_devices; i++) {
		rc = vdev_load(vm->devices[i].vdev, s->devices[i].state.data,
			       s->devices[i].state.len, e);
		if (rc)
			return rc;
	}
	return 0;
}
