/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_CLI_FOLLOW_H
#define MSB_CLI_FOLLOW_H

/* Shows the logs of sandboxes until each has ended, or we are asked to. */

#include "cli/log_view.h"

struct follow_box {
	const char *name;
	int dirfd; /* not owned */
	struct log_view_opts opts;
	/* internal */
	struct log_view view;
	int inotify, pidfd;
	bool over;
};

/*
 * Prints what is there, and what comes.  One that does not run is over when that is printed.
 * Return: 0: all are over; the number of the signal that ended it; or a negative errno.
 */
int follow_run(struct follow_box *boxes, size_t n, struct err *e);

#endif
