/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_ENGINE_KVM_H
#define MSB_ENGINE_KVM_H

#include "engine/engine.h"

extern const struct engine_ops engine_kvm;

#endif
