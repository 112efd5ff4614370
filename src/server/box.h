/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_SERVER_BOX_H
#define MSB_SERVER_BOX_H

/*
 * DOC: The sandboxes of a server
 *
 * Purpose: the server's view of its sandboxes.  Each is a supervisor process of its own
 * (src/sandbox); the server starts it and talks to its ctl.sock, nothing more.
 *
 * States: preparing (its image is put together) -> booting -> ready -> stopping -> gone.
 * A box is gone when its supervisor process has ended, not earlier: then nothing is left
 * of the sandbox, and a new one of the same name can start.
 *
 * Ownership: sandboxes live in <path>/<namespace>/menv/<name>/ and are detached: a server
 * that is killed leaves them running, and the next one adopts them (box_adopt_all()).
 * Besides the supervisor's files there is server.json: image, environment and working
 * directory for what runs in it.
 *
 * Failure: whoever waits for a start, a stop or a call is told why a sandbox ended.
 */

#include "codec/sandbox_config.h"
#include "lib/client.h"
#include "server/internal.h"
#include "server/rpc.h"
#include "sys/child.h"

enum box_state { BOX_PREPARING, BOX_BOOTING, BOX_READY, BOX_STOPPING };

#define BOX_META_FILE "server.json"
#define BOX_STOP_TIMEOUT_MS 15000u

/* Somebody who waits for a change of a box. */
struct box_wait {
	struct list link; /* init it, or leave it zero */
	/* Called once.  @error NULL: it is ready (a start) or gone (a stop). */
	void (*done)(struct box_wait *w, const char *error);
};

/* A request on its way; it is told if the sandbox ends. */
struct box_call {
	struct list link;
	void (*gone)(struct box_call *c, const char *reason);
};

struct box_metrics {
	uint64_t cpu_busy_ns, at_ns; /* at the last look; at_ns in the guest's uptime */
	bool valid;
};

struct box {
	struct server *server;
	struct list link;
	char ns[RPC_NAME_SIZE], name[RPC_NAME_SIZE];
	enum box_state state;
	json_t *meta; /* what server.json holds */
	struct buf env_bytes;
	struct frame_list env; /* for commands */
	char engine[16], isolation[16];

	struct sandbox_config cfg; /* while preparing */
	struct image_wait image_wait;
	struct client client;
	bool connected;
	bool supervisor_gone; /* its last words may still be on the way */
	struct child supervisor; /* pid -1: adopted, not our child */
	struct loop_watch gone_watch;
	struct loop_timer stop_timer;
	char end_reason[1024];
	bool end_asked;

	struct list start_waits, stop_waits, calls;
	struct box_metrics metrics;
	struct corpse corpse;
};

struct box *box_find(struct server *s, const char *ns, const char *name);

/*
 * The same, if requests can be made in it.  NULL: @e says what to do, for the client; its
 * number is EBUSY if as many are made as there may be, ESRCH else.
 */
struct box *box_find_running(struct server *s, const char *ns, const char *name, struct err *e);

/*
 * Starts a sandbox.  @config: the checked config object, may be NULL.
 * Return: 0, or enum rpc_code / jsonrpc_code with a message in @e.
 */
int box_start(struct server *s, const char *ns, const char *name, json_t *config, struct box **out,
	      struct err *e);

/* Waits until it is ready: w->done comes later, or has come when it is already. */
void box_wait_ready(struct box *b, struct box_wait *w);

/* Stops it; w->done comes when nothing is left. @w may be NULL. */
void box_stop(struct box *b, struct box_wait *w);

void box_wait_forget(struct box_wait *w);

/* Lets the sandbox run and forgets it, at the end of the server. */
void box_leave(struct box *b);

/* Finds the sandboxes that an earlier server left running. */
void box_adopt_all(struct server *s);

static inline const char *box_meta(const struct box *b, const char *key)
{
	const char *v = json_string_value(json_object_get(b->meta, key));

	return v ? v : "";
}

#endif
