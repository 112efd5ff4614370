/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_PROJECT_PLAN_H
#define MSB_PROJECT_PLAN_H

/* From an entry of a Sandboxfile and its image to what a supervisor gets, and what it runs. */

#include <stdbool.h>

#include "codec/box_command.h"
#include "codec/sandbox_config.h"
#include "image/store.h"
#include "project/project.h"

#define PLAN_MEMORY_DEFAULT (512ull << 20)
#define PLAN_DISK_DEFAULT (4ull << 30)
#define PLAN_BOOT_TIMEOUT_S 60u
#define PLAN_SHELL_DEFAULT "/bin/sh"
#define PLAN_MENV "menv" /* in the project's directory: its sandboxes */

/* What a person may choose at the start of a sandbox. */
struct plan_start {
	const char *engine; /* NULL = auto */
	const char *jail; /* NULL = full */
	unsigned boot_timeout_s; /* 0 = the default */
};

/* Directory of the project's sandboxes, absolute; malloc'ed, NULL if memory is out. */
char *plan_menv(const struct project *p);

/**
 * plan_config() - the configuration of a sandbox, as it is to be started
 * @home: of msb, for named volumes
 * @cfg:  empty; for sandbox_config_fini(), also on failure
 *
 * Its secrets are not in it: project_secrets() looks up their values when it is started.
 */
int plan_config(const struct project *p, const struct sandboxfile_sandbox *s,
		const struct image *image, const char *home, const struct plan_start *start,
		struct sandbox_config *cfg, struct err *e);

struct plan_run {
	const char *script; /* "shell", or a name of the entry's scripts; NULL = the default */
	const char *program; /* instead of all else; NULL = none */
	char *const *args; /* replace the default arguments; NULL = none given */
	const char *term; /* TERM of a terminal; NULL = there is none */
	const char *workdir, *user; /* instead of the entry's; NULL = none */
};

/*
 * Does the entry say what the sandbox is for: a script "start", or a command?  If not, it runs
 * the image's command only when it is asked to.
 */
bool plan_has_command(const struct sandboxfile_sandbox *s);

/*
 * What runs: the program; else the script; else the script "start"; else the entry's command;
 * else the image's; else its shell.  @out: for box_command_fini(), also on failure.
 */
int plan_command(const struct project *p, const struct sandboxfile_sandbox *s,
		 const struct image *image, const struct plan_run *run, struct box_command *out,
		 struct err *e);

#endif
