/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_PROJECT_PROJECT_H
#define MSB_PROJECT_PROJECT_H

/* A project: a directory with a Sandboxfile in it, and what its keys stand for on this machine. */

#include "base/err.h"
#include "codec/sandboxfile.h"
#include "codec/secret.h"

struct project {
	char *dir; /* absolute, without links */
	char *name; /* of the file in it: one segment */
	char *path; /* as people know it, for messages */
	char *text; /* of the file; NULL = there is none */
	size_t len;
	struct sandboxfile *file; /* NULL until project_load() */
};

/**
 * project_locate() - which project `-f ARG` means
 * @arg: a directory, or a file in one; NULL = the current directory
 *
 * The directory has to exist, the file need not.  Return: 0; -ENOENT, -ENOTDIR …
 */
int project_locate(const char *arg, struct project *out, struct err *e);

/* Reads the file's text. Return: 0; -ENOENT: there is none, and what to do. */
int project_read(struct project *p, struct err *e);

/* Reads and parses it. @notes: as of sandboxfile_parse(). */
int project_load(struct project *p, struct sandboxfile_notes *notes, struct err *e);

void project_fini(struct project *p);

/**
 * project_volumes() - the volumes of a sandbox, with paths of the host that are absolute
 * @out: copies; for volume_list_fini(), volumes_resolve() looks them up
 *
 * Relative paths are beneath the project's directory; one that a symbolic link takes out
 * of it is refused (-EPERM), unless it says so itself by ".." or by being absolute.
 */
int project_volumes(const struct project *p, const struct sandboxfile_sandbox *s,
		    struct volume_list *out, struct err *e);

/**
 * project_secrets() - the secrets of a sandbox, with their values
 * @out: empty; for secret_list_fini()
 *
 * Values are looked up here and now, in the variables of this process, or in files: relative
 * paths as for volumes.  The process leaves no core dump from then on.  No message has a value.
 */
int project_secrets(const struct project *p, const struct sandboxfile_sandbox *s,
		    struct secret_list *out, struct err *e);

/**
 * project_envs() - the variables of a sandbox: those of its env_file, then its envs
 * @out: NAME=value, each name once, malloc'ed and ended by NULL (strlist_free())
 */
int project_envs(const struct project *p, const struct sandboxfile_sandbox *s, char ***out,
		 struct err *e);

#endif
