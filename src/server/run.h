/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_SERVER_RUN_H
#define MSB_SERVER_RUN_H

/* What answers about programs and code have in common, gathered (method_run.c) or live. */

#include <jansson.h>

#include "codec/frame.h"

/* The agent's name of an interpreter that a client means; NULL = there is none. */
const char *run_language(const char *given);

/*
 * The result of sandbox.repl.run without its output; NULL = out of memory, or an answer
 * that makes no sense.  @language: as the client gave it.
 */
json_t *run_repl_result(const struct frame_repl_done *d, const char *language);

/* The line on stderr that says that the time is up. */
void run_timeout_line(const struct frame_repl_done *d, uint64_t timeout_ms, char *to, size_t size);

/* Milliseconds with two decimals, as all answers have them. */
json_t *run_duration(uint64_t wall_ns);

#endif
