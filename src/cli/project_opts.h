/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_CLI_PROJECT_OPTS_H
#define MSB_CLI_PROJECT_OPTS_H

/* What the commands of a project share. */

#include "cli/cli.h"
#include "project/project.h"

/* The option -f, for a command's table. */
#define PROJECT_OPT_FILE \
	{ \
		"file", NULL, "f", "PATH", \
			"the project's directory, or its Sandboxfile (default: here)" \
	}

/*
 * Prints what is to be said about a file, as FILE:LINE:COLUMN: …, on stderr; errors only if
 * @errors.
 */
void project_opts_print(const char *path, const struct sandboxfile_notes *notes, bool errors);

/*
 * Finds, reads and checks the project that -f @arg means (NULL = here), and prints warnings, if
 * not @quiet.  Errors of the file are printed, all of them (CLI_TOLD).  @p is to be finished also
 * on failure.
 */
int project_opts_load(const char *arg, bool quiet, struct project *p, struct err *e);

#endif
