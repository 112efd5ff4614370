/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_CLI_SERVER_SHOW_H
#define MSB_CLI_SERVER_SHOW_H

/*
 * `msb server` list, status, log: what there is to see of a server and its sandboxes.
 * They look at the sandboxes themselves, so they work without a server too.
 */

#include <stdbool.h>
#include <stdint.h>

#include "cli/cli.h"

struct server_show {
	const struct cli_command *cmd;
	const char *home;
	const char *path; /* where namespaces are kept; NULL = the running server's, or the default */
	const char *ns; /* NULL = all, of log "default" */
	const char *source; /* of log; NULL = "supervisor" */
	bool json, follow;
	uint64_t tail; /* UINT64_MAX = all */
	char **names;
	int n_names;
};

/* Each returns the exit status. */
int server_show_list(const struct server_show *q);
int server_show_status(const struct server_show *q);
int server_show_log(const struct server_show *q);

#endif
