/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_ENGINE_TCG_H
#define MSB_ENGINE_TCG_H

#include "engine/engine.h"

extern const struct engine_ops engine_tcg;

#endif
