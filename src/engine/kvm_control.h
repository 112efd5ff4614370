/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_ENGINE_KVM_CONTROL_H
#define MSB_ENGINE_KVM_CONTROL_H

/* The supervisor's end of msb-vmm's control socket; engine.h has the contract. */

#include "engine/engine.h"

int kvm_control_pause(int control, uint32_t id, struct err *e);
int kvm_control_resume(int control, uint32_t id, struct err *e);
int kvm_control_snapshot(int control, uint32_t id, const struct engine_snapshot *to, struct err *e);
int kvm_control_event(int control, struct engine_event *out, struct err *e);

#endif
