/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_IMAGE_TOOL_H
#define MSB_IMAGE_TOOL_H

/* The programs that msb-image starts: itself, in a jail, and Debian's tools. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "sys/child.h"

/* Which jail tool_spawn_self() and msb-fetch use; JAIL_FULL unless changed. */
void tool_set_jail(enum jail_mode mode);
enum jail_mode tool_jail_mode(void);

/* Starts this program again, jailed, with nothing but @fds. */
int tool_spawn_self(char *const *argv, const struct child_fd *fds, size_t n_fds,
		    uint64_t max_file_bytes, unsigned max_fds, struct child *out, struct err *e);

/*
 * Starts argv[0], a program below the folder @tree, in a jail that holds that folder
 * read-only at the path that it has outside.  Where there are no namespaces it runs
 * with reduced rights only (see jail.h).
 */
int tool_spawn_tree(const char *tree, char *const *argv, char *const *env,
		    const struct child_fd *fds, size_t n_fds, struct child *out, struct err *e);

/*
 * A program found in the usual folders, with a small fixed environment.  @cwd: its
 * folder, or NULL.
 */
struct tool {
	const char *name; /* "apt-get" */
	const char *package; /* Debian package that has it, for the message */
	char *const *argv;
	const struct child_fd *fds;
	size_t n_fds;
};

int tool_spawn(const struct tool *t, struct child *out, struct err *e);

#endif
