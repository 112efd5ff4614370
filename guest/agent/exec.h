/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_AGENT_EXEC_H
#define MSB_AGENT_EXEC_H

#include "agent/agent.h"

/* FRAME_EXEC: starts a program and opens the channel for it, or answers ERROR. */
void exec_open(struct link *l, const struct frame *f);

#endif
