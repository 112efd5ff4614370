/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_SERVER_LIVE_H
#define MSB_SERVER_LIVE_H

/*
 * DOC: Live runs
 *
 * Purpose: a program, or code in an interpreter, whose streams are passed on while it
 * runs; http_events.c and http_socket.c show it to clients in two ways.  method_run.c
 * gathers instead.
 *
 * States: open (the request was sent to the guest) -> started (programs only) -> ended,
 * which is told once, with the event that a client sees last.
 *
 * Back-pressure: the guest has credit for a window of output.  Who shows a run calls
 * live_credit() when there is room for more, and until then the program waits.  Input is
 * kept here until the guest has room, at most LIVE_INPUT_MAX of what is added over time.
 *
 * Failure: live_close() abandons a run: what runs for it in the guest is killed.
 */

#include <jansson.h>

#include "server/box.h"
#include "server/rich.h"
#include "server/sandbox_path.h"
#include "server/schema.h"

#define LIVE_INPUT_MAX (256u << 10)

struct live;

struct live_ops {
	void (*started)(struct live *l, uint32_t pid);
	/* Bytes that a program printed. @err: standard error. */
	void (*output)(struct live *l, bool err, const void *p, size_t n);
	/* There is room for input again. Optional. */
	void (*input_room)(struct live *l);
	/*
	 * The last callback.  @event: "exit", "done" or "error"; @data: what docs/server.md
	 * says of it, borrowed.
	 */
	void (*ended)(struct live *l, const char *event, json_t *data);
};

/* Embedded by its owner, who frees it when it has ended or was closed, as a corpse. */
struct live {
	const struct live_ops *ops;
	struct server *server;
	struct box_call in_box;
	struct client_channel channel;
	struct buf in; /* input that the guest has no room for yet */
	bool in_ended, eof_sent, open;
	uint32_t window; /* of the input */
	uint32_t owed[2]; /* of stdout and stderr: bytes to give credit for */
	uint64_t timeout_ms;
	char language[33]; /* of code, as the client gave it; "" = a program */
	struct rich rich; /* of code: what it showed */
	struct sandbox_target target; /* for the audit log; its box is not used */
};

/*
 * Reads JSON text against a schema (api.h).  Return: an object, or NULL: @e says what is
 * wrong with it, for the client.
 */
json_t *live_parse(const struct schema *schema, const char *text, size_t len, struct err *e);

/*
 * Starts a program in @t's box.  @request: ExecRequest or ExecSocketRequest of api/openrpc.json,
 * checked.  @keep_input: more input may be added than the request has.  Return: 0; -EINVAL:
 * the request makes no sense; another error: it cannot be done now.
 */
int live_exec(struct live *l, const struct live_ops *ops, const struct sandbox_target *t,
	      const json_t *request, bool keep_input, struct err *e);

/* Runs code. @request: ReplRequest. Return: as live_exec(). */
int live_repl(struct live *l, const struct live_ops *ops, const struct sandbox_target *t,
	      const json_t *request, struct err *e);

/* Adds input; ignored if it has ended. Return: 0, -ENOMEM. */
int live_input(struct live *l, const void *p, size_t n);
void live_input_end(struct live *l);

/* May input be added? input_room() comes when it may again. */
static inline bool live_has_room(const struct live *l)
{
	return buf_len(&l->in) < LIVE_INPUT_MAX;
}

/* What was printed has been passed on, up to @least bytes a stream that may wait. */
void live_credit(struct live *l, uint32_t least);

void live_resize(struct live *l, uint16_t rows, uint16_t cols);
/* To the foreground process group of a terminal, else to the process and its group. */
void live_signal(struct live *l, unsigned number);

/* Abandons it, if it runs: no further callback comes. */
void live_close(struct live *l);

/* Frees what it holds; it has ended or was closed. */
void live_fini(struct live *l);

#endif
