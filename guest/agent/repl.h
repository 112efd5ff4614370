/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_AGENT_REPL_H
#define MSB_AGENT_REPL_H

#include "agent/agent.h"

/* FRAME_REPL_RUN: opens the channel for a call, or answers ERROR. */
void repl_open(struct link *l, const struct frame *f);

/* Kills the interpreters; each is freed when it was reaped. */
void repl_fini(struct agent *a);

/* What a driver says: "CALL STATUS VALUE". */
struct repl_report {
	uint32_t call, status, value;
};

/* One line without its newline. Pure. Return: 0, or -EPROTO. */
int repl_parse_report(const char *line, size_t n, struct repl_report *out);

#endif
