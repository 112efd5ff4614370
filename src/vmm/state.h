/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_VMM_STATE_H
#define MSB_VMM_STATE_H

/*
 * The state of a machine that stands still: CPUs, interrupt controllers, clock and
 * devices, between KVM and struct snapshot.  state.c tells the theory.
 */

#include "base/err.h"
#include "codec/snapshot.h"
#include "vmm/vm.h"

struct state;

/**
 * state_save() - read everything out of a machine
 * @vm:  paused (vm_pause()), its devices drained (vdev_drain())
 * @out: state_destroy() it
 */
int state_save(struct vm *vm, struct state **out, struct err *e);

/* What was saved; it points into @st. */
struct snapshot *state_snapshot(struct state *st);

void state_destroy(struct state *st);

/**
 * state_load() - put everything into a machine that was made the same way and has not run
 *
 * Afterwards the devices are drained: vdev_undrain() sets them going, and kicks what the
 * guest had kicked before.  On failure the machine is of no use any more.
 */
int state_load(struct vm *vm, const struct snapshot *s, struct err *e);

/* What a snapshot of this process and this host's CPU can be restored on. */
int state_identity(struct snapshot_identity *out, struct err *e);

#endif
