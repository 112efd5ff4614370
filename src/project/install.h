/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_PROJECT_INSTALL_H
#define MSB_PROJECT_INSTALL_H

/*
 * DOC: Installed sandboxes
 *
 * Each is a project of its own, <home>/installs/<name>/: a Sandboxfile with one sandbox, and
 * menv/.  So no install can break another.  The command on the PATH is a small script that
 * runs it; its second line says that it is ours, and nothing that does not say so is ever
 * overwritten or removed.
 */

#include <stdbool.h>

#include "base/err.h"

#define INSTALL_DIR "installs" /* in the home */

/* Where commands go: $HOME/.local/bin, made if absent; malloc'ed. */
int install_bin_dir(char **out, struct err *e);

/* The project of an installed sandbox, whether it is there or not; malloc'ed, NULL = no memory. */
char *install_project(const char *home, const char *name);

/**
 * install_add() - make the project and the command
 * @sandboxfile: its text
 * @script:      "shell", or NULL: what the command runs
 * @bin_dir:     where the command goes
 *
 * Return: 0; -EEXIST: one of that name, or another command; nothing is left then.
 */
int install_add(const char *home, const char *name, const char *sandboxfile, const char *script,
		const char *bin_dir, struct err *e);

/* Is @path a command of the installed sandbox @name?  @home: and of this home, unless NULL. */
bool install_is_command(const char *path, const char *name, const char *home);

/* Where its command is, from its project; malloc'ed, NULL if that is not known any more. */
char *install_command(const char *home, const char *name);

/*
 * Removes its command, if it is ours still, and its project with all that its sandbox wrote.
 * @foreign: something else is in the command's place and stays.
 * Return: 0; -ENOENT: there is none; -EBUSY: it runs.
 */
int install_remove(const char *home, const char *name, bool *foreign, struct err *e);

/* Calls @fn for each, in the order of names. */
int install_each(const char *home, void (*fn)(void *ctx, const char *name, const char *project),
		 void *ctx, struct err *e);

#endif
