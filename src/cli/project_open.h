/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_CLI_PROJECT_OPEN_H
#define MSB_CLI_PROJECT_OPEN_H

/* What the commands of a project's life share: its file, its directory, one sandbox made ready. */

#include "cli/kept_run.h"
#include "cli/cli.h"
#include "project/plan.h"

/* A loaded project. */
struct project_view {
	struct project p;
	char *menv; /* directory of its sandboxes; may not exist */
	char *home; /* of msb */
};

/* @arg: of -f, or NULL.  Warnings of the file are printed unless @quiet. For project_close(). */
int project_open(const char *arg, bool quiet, struct project_view *v, struct err *e);
void project_close(struct project_view *v);

/* One sandbox, ready to be started or run in. */
struct project_box {
	const struct sandboxfile_sandbox *s;
	struct sandbox_config cfg;
	struct box_command command;
};

/* Finds, or builds, its image, and plans it. For project_box_fini(), also on failure. */
int project_box_init(const struct project_view *v, const struct sandboxfile_sandbox *s,
		     const struct plan_start *start, const struct plan_run *run, bool quiet,
		     struct project_box *b, struct err *e);
void project_box_fini(struct project_box *b);

#endif
