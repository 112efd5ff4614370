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
 * Besides the supervisor's files there is server.json (box_meta.c): image, environment and
 * working directory for what runs in it, how it was started and with which key.
 *
 * Activity: a call that reaches into it, its start and box_touch() are.  One that has an
 * idle time-out is stopped when so much time has passed since the end of the last one.
 *
 * Failure: whoever waits for a start, a stop or a call is told why a sandbox ended.
 */

#include "codec/sandbox_config.h"
#include "codec/token.h"
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
	/* What is being done meanwhile (a start); may be NULL. */
	void (*progress)(struct box_wait *w, const char *what);
};

/* A request on its way; it is told if the sandbox ends. */
struct box_call {
	struct list link;
	struct box *box;
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
	json_t *config; /* as it was given to sandbox.start; NULL = an older server's */
	char key[TOKEN_ID_SIZE]; /* id of the key that started it; "" = none */
	uint64_t memory_mib; /* 0 = not known */
	json_t *meta; /* what server.json holds; NULL while preparing */
	struct buf env_bytes;
	struct frame_list env; /* for commands */
	char engine[16], isolation[16];

	struct sandbox_config cfg; /* while preparing; its ports are always valid */
	struct image_wait image_wait;
	struct client client;
	bool connected;
	bool supervisor_gone; /* its last words may still be on the way */
	struct child supervisor; /* pid -1: adopted, not our child */
	struct loop_watch gone_watch;
	struct loop_timer stop_timer;
	char end_reason[1024];
	bool end_asked, restart; /* restart: when it is gone, one like it is started */
	bool adopted; /* it was there before us */

	uint64_t idle_ms; /* idle time-out; 0 = none */
	uint64_t active_ns; /* when it was used last */
	struct loop_timer idle_timer;

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
 * Starts a sandbox for @who.  @config: the checked config object, may be NULL.
 * Return: 0, or enum rpc_code / jsonrpc_code with a message in @e.
 */
int box_start(struct server *s, const struct principal *who, const char *ns, const char *name,
	      json_t *config, struct box **out, struct err *e);

/*
 * Stops it and starts one with the same configuration and a fresh disk; w->done comes when
 * that is ready, or failed.  It happens also if nobody waits any more.
 * Return: 0; -ESRCH, -ENOTSUP: it cannot be, w->done does not come.
 */
int box_restart(struct box *b, struct box_wait *w, struct err *e);

/* Waits until it is ready: w->done comes later, or has come when it is already. */
void box_wait_ready(struct box *b, struct box_wait *w);

/* Stops it; w->done comes when nothing is left. @w may be NULL. */
void box_stop(struct box *b, struct box_wait *w);

void box_wait_forget(struct box_wait *w);

/* Begins and ends a request in it; both are activity.  The end may come twice. */
void box_call_begin(struct box *b, struct box_call *c);
void box_call_end(struct box_call *c);

/* It was used just now. */
void box_touch(struct box *b);

/* Changes the idle time-out, also for later servers. @ms: 0 = none. */
int box_set_idle(struct box *b, uint64_t ms, struct err *e);

/* Lets the sandbox run and forgets it, at the end of the server. */
void box_leave(struct box *b);

/* Finds the sandboxes that an earlier server left running. @only: of this namespace, or NULL. */
void box_adopt_all(struct server *s, const char *only);

/* SandboxInfo of the API. Return: NULL if memory is out. */
json_t *box_info(const struct box *b);

/* Where sandboxes of its namespace are kept; malloc'ed. */
char *box_parent(const struct box *b);

/* ---- box_meta.c, for box.c ---------------------------------------------------------- */

uint64_t box_config_memory(json_t *config); /* MiB */
uint64_t box_config_idle(json_t *config); /* ms */

/* Overwrites the values of config.secrets. */
void box_wipe_secrets(json_t *config);

/* Fill b->cfg, before and when the image is known; the latter also b->meta and b->env. */
int box_make_config(struct box *b, struct err *e);
int box_make_meta(struct box *b, const struct image *image, struct err *e);

/* Ports and rules of a sandbox that runs already, from its own configuration. */
int box_read_running(struct box *b, int dirfd, struct err *e);

/*
 * Rules of a network, an array of lines or NULL, as one checked text; malloc'ed.
 * @what: the member's name, for messages
 */
int box_network_text(json_t *rules, const char *what, char **out, struct err *e);

/*
 * Notes in @config, for another start, the rules that a sandbox has now: they may have been
 * changed while it ran.  To be called while its directory is still there.
 */
void box_keep_network(struct box *b, json_t *config);

/* The text's lines. Return: NULL if memory is out. */
json_t *box_network_lines(const char *text, size_t len);

/* Its published ports as config.ports has them, those that were chosen filled in. */
json_t *box_port_texts(const struct box *b);

/* server.json in the sandbox's directory. */
int box_read_meta(struct box *b, int dirfd, struct err *e);
int box_write_meta(const struct box *b, int dirfd, struct err *e);

/* Writes it again, after a change. */
int box_save_meta(struct box *b, struct err *e);

static inline const char *box_meta(const struct box *b, const char *key)
{
	const char *v = json_string_value(json_object_get(b->meta, key));

	return v ? v : "";
}

#endif
