/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_AGENT_RESULTS_H
#define MSB_AGENT_RESULTS_H

/*
 * DOC: Results of a call
 *
 * What a call showed beside what it printed: values, pictures.  The driver writes them
 * into the memory file and says how far they are whole; when the call is done they are
 * sent as REPL_RESULT and DATA on STREAM_RESULT, within the client's window.
 *
 * User code has the memory file too.  What is no valid entry ends the results of its
 * call, as does an entry over the limits of the wire (FRAME_RESULTS_MAX,
 * FRAME_RESULTS_BYTES); the call itself goes on to its end.
 */

#include "agent/agent.h"

struct results {
	struct waiter waiter;
	struct channel *ch; /* NULL: nobody wants them */
	int fd; /* the interpreter's; not owned */
	uint64_t at, end; /* of the memory file: sent so far, whole so far */
	uint64_t left; /* of the entry that is being sent */
	uint64_t bytes; /* announced so far */
	unsigned count;
	uint32_t window;
	bool active; /* between results_send() and done() */
	void (*done)(struct results *r);
};

void results_init(struct results *r, void (*done)(struct results *r));

/* A call begins; NULL: its client takes no results. */
void results_attach(struct results *r, struct channel *ch);

/* The driver says that results are whole up to @end. */
void results_mark(struct results *r, uint64_t end);

/* The call has ended: sends what there is, then done(), at once if there is nothing. */
void results_send(struct results *r, int fd);

/* CREDIT of the host. Return: 0, or -EPROTO. */
int results_credit(struct results *r, uint32_t bytes);

/* Nothing more is sent; done() is not called. */
void results_stop(struct results *r);

#endif
