/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_CLI_KEPT_RUN_H
#define MSB_CLI_KEPT_RUN_H

/* A command in a sandbox that is kept, with this terminal or these pipes; and its start alone. */

#include "codec/box_command.h"
#include "codec/sandbox_config.h"
#include "project/project.h"

struct kept_run {
	const char *parent; /* directory of the project's sandboxes */
	const char *name;
	struct sandbox_config *cfg; /* for a start; cfg->detached is set here */
	const struct box_command *command; /* cwd, user and env too */
	uint64_t timeout_ms; /* of the command; 0 = none */
	/* Where the values of its secrets come from, looked up if it is started; may be NULL. */
	const struct project *project;
	const struct sandboxfile_sandbox *entry;
	bool only_running; /* do not start it */
	bool keep_disk; /* go on with the disk although the image is another one */
	bool tty, quiet;
};

/*
 * Runs the command: in the sandbox as it is if it runs, else in one that is started, and
 * ends when nobody holds it any more.  Return: exit status, as of session_run().
 */
int kept_run(struct kept_run *r);

/*
 * Starts the sandbox for good. @own: the supervisor runs the command, and the sandbox ends with
 * it.  @already: it was running.  Does not wait until the guest is ready.  @conn: a connection to
 * its supervisor, for kept_wait_ready().
 */
int kept_start(struct kept_run *r, bool own, bool *already, int *conn, struct err *e);

#endif
