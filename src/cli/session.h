/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_CLI_SESSION_H
#define MSB_CLI_SESSION_H

#include "codec/frame.h"

struct session_spec {
	int fd; /* connection to the sandbox; taken over */
	const struct frame_exec *exec; /* flags and window size are filled in here */
	const char *what; /* for progress, e.g. the image's name */
	bool tty; /* raw terminal and pty; else three plain streams */
	bool quiet;
	uint64_t timeout_ms; /* as in exec, for the message */
	/*
	 * A sandbox that is kept: it is held meanwhile, and let go afterwards; if nobody else holds
	 * it, its end is waited for.
	 */
	bool hold;
	bool joined; /* it was running before: it may be ending (SESSION_AGAIN) */
	bool ended; /* out: of a sandbox that was held: it has ended, or is about to */
};

/* The sandbox was ending before the command was started: nothing was run. */
#define SESSION_AGAIN (-1)

/*
 * Runs one command in a sandbox with our standard input, output and error.
 *
 * Signals: SIGINT and SIGQUIT go to the command's process group; SIGTERM and SIGHUP too,
 * and if it has not ended after a grace period, or at the second one, or while it has
 * not started, the session ends.
 *
 * Return: exit status for our own process: that of the command, 128+n if a signal ended
 * it, one of enum CLI_* after a message, or SESSION_AGAIN.
 */
int session_run(struct session_spec *spec);

#endif
