/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_AGENT_INTERP_H
#define MSB_AGENT_INTERP_H

/* Inside repl.c and interp.c: one call, and one interpreter with its queue of calls. */

#include "agent/proc.h"
#include "agent/repl.h"
#include "agent/results.h"
#include "agent/spawn.h"
#include "agent/stream.h"

#define INTERP_USER_MAX 256

struct interp_lang {
	const char *const *names; /* as in REPL_RUN, lower case; NULL-terminated */
	const char *const *programs; /* looked up in PATH, in this order */
	const char *what; /* for messages */
	const char *arg[2]; /* arguments of the program; NULL = none */
	const char *driver;
	bool shell; /* the driver is the shell's own input, see interp_send() */
};

struct interp_call {
	struct channel ch;
	struct list node; /* in interp->queue; empty while code is still coming */
	struct interp *in; /* NULL until it is queued */
	struct agent *agent;
	const struct interp_lang *lang;
	struct spawn spawn; /* how to start the interpreter, if it has to be */
	struct buf code;
	uint64_t code_len, timeout_ms, started_ns;
	uint32_t window, owed; /* of STREAM_IN */
	uint32_t number; /* in the driver's reports */
	bool wants_results;
	bool abandoned; /* CLOSE was seen: its output is dropped */
	struct frame_repl_done done;
};

enum interp_state {
	INTERP_NONE, /* no process */
	INTERP_STARTING, /* forked; the driver has not said that it is ready */
	INTERP_IDLE,
	INTERP_BUSY, /* runs a call */
	INTERP_DRAINING, /* the call is done, its output is being sent */
};

struct interp {
	struct list node; /* in agent->interps */
	struct agent *agent;
	const struct interp_lang *lang;
	char user[INTERP_USER_MAX];
	enum interp_state state;
	bool dead; /* the process was reaped: after the drain comes INTERP_NONE */
	bool interrupted, killed, orphan;
	bool rearm; /* the call before was interrupted */
	struct proc proc;
	struct loop_watch spawned, reports;
	int spawned_fd, report_fd, request_fd, code_fd;
	char line[64]; /* of a report */
	size_t line_len;
	struct ostream out, err;
	struct results results;
	struct loop_timer timer; /* the call's timeout, then the grace after SIGINT */
	struct deferred turn;
	struct list queue; /* struct interp_call, complete, waiting */
	struct interp_call *current;
	uint32_t next_number;
};

/* The interpreter of @call's language and user, made if needed; the call is queued. */
int interp_queue(struct interp_call *call, const char *user, struct err *e);

/* CLOSE, or the loss of the link, of a call that is queued or running. */
void interp_abandon(struct interp_call *call);

/* repl.c: sends the last message, or @e, and frees. */
void repl_call_finish(struct interp_call *c, const struct err *e);

#endif
