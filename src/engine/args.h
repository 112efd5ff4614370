/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_ENGINE_ARGS_H
#define MSB_ENGINE_ARGS_H

/*
 * What the engines have in common: the command line and the descriptors of a VM process,
 * put together piece by piece, and names that every guest sees.
 */

#include <stdbool.h>
#include <stdint.h>

#include "engine/engine.h"
#include "sys/child.h"

#define ENGINE_NET_MAC "02:00:00:00:00:0f"

/* Names of the agent's ports, by enum engine_port. */
extern const char *const engine_port_names[ENGINE_PORT_COUNT];

#define ENGINE_ARGS_MAX 96
#define ENGINE_ARGS_FDS_MAX 16
/* Descriptors in the VM process: 0-2 are null and log, then from here on. */
#define ENGINE_ARGS_FD_BASE 10

/* All zero to begin with.  The first failure sticks. */
struct engine_args {
	char *argv[ENGINE_ARGS_MAX + 1]; /* ended by NULL */
	unsigned n;
	struct child_fd fds[ENGINE_ARGS_FDS_MAX];
	unsigned n_fds;
	bool failed;
};

void engine_arg(struct engine_args *a, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Gives the VM process the descriptor @from, which stays the caller's; returns its number there. */
int engine_arg_fd(struct engine_args *a, int from);

/* @log_fd becomes its stdout and stderr. */
void engine_args_log(struct engine_args *a, int log_fd);

/* Size of the largest disk that may be written: no process of the VM needs a larger file. */
uint64_t engine_file_limit(const struct engine_vm_desc *d);

void engine_args_free(struct engine_args *a);

#endif
