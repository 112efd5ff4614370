/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_SERVER_INTERNAL_H
#define MSB_SERVER_INTERNAL_H

/* Shared by the files of the server; nobody else includes it. */

#include <netinet/in.h>
#include <sys/types.h>

#include "base/list.h"
#include "server/audit.h"
#include "server/images.h"
#include "server/lines.h"
#include "server/quota.h"
#include "server/server.h"
#include "server/systemd.h"
#include "sys/loop.h"

/*
 * Something that a callback of its own made superfluous: it is freed when the loop is back
 * in our hands, so that whoever is further up the stack may still look at it.
 */
struct corpse {
	struct list link;
	void (*free)(struct corpse *c);
};

struct listener {
	struct server *server;
	struct loop_watch watch;
	int fd;
	bool local; /* a unix socket */
};

/* Keys that are valid no more: the lines of server.revoked, as of the last look. */
struct revoked {
	char *text;
	ino_t ino;
	off_t size;
};

/* Looks at the file, which may have grown. Also true if it is there and cannot be read. */
bool revoked_has(struct revoked *r, const char *home, const char *id);
void revoked_fini(struct revoked *r);

enum { LISTEN_TCP, LISTEN_UNIX, LISTEN_GIVEN, LISTEN_COUNT = LISTEN_GIVEN + SYSTEMD_FDS_MAX };

struct server_counters {
	uint64_t connections, refused, dropped_answers, requests, calls, failed_calls, bad_requests,
		denied;
	uint64_t started, start_failures;
	uint64_t streams, stream_in_bytes, stream_out_bytes; /* in: from clients */
};

struct server {
	const struct server_options *opt;
	struct loop *loop;
	char *path; /* of the namespaces */
	char *secret; /* NULL in dev mode */
	struct revoked revoked;
	struct tls_context *tls; /* NULL = plain HTTP */
	char address[256];
	struct listener listeners[LISTEN_COUNT];
	struct loop_watch signal_watch;
	int signal_fd, pid_fd;

	struct list conns;
	unsigned n_conns, max_conns;
	struct lines_pool outputs; /* of calls that run */
	unsigned n_streams; /* files and programs whose bytes are passed on as they come */
	size_t unread_bytes,
		unread_max; /* of answers that clients have not taken; the most of it */
	size_t body_bytes; /* of requests that are being read or worked on */
	bool accept_paused;

	struct list boxes;
	unsigned n_boxes;
	struct images images;
	struct quotas quotas;
	struct list volume_removals;
	unsigned n_volume_removals;
	struct audit audit;

	struct list mcp_sessions; /* the longest unused one first */
	unsigned n_mcp_sessions;
	struct loop_timer mcp_timer;
	struct mcp_stdio *stdio; /* NULL = over HTTP */

	struct list corpses;
	struct loop_timer bury_timer, stop_timer;
	bool stopping;
	bool asked, fast; /* by a signal; fast: by a second one */
	uint64_t started_ns;
	struct server_counters count;
};

void server_bury(struct server *s, struct corpse *c, void (*fn)(struct corpse *));

/* method_volume.c: ends what removes volumes; they can be removed again. */
void volume_removals_fini(struct server *s);

/* The server is to end, as if a first signal had asked for it. */
void server_end(struct server *s);

/* Something ended: if the server is to end, is this the time? */
void server_check_end(struct server *s);

/*
 * What a process that may have @limit descriptors at once can do.  @max_conns: how many
 * clients, when as many sandboxes run as may.  Return: 0; -EMFILE: not enough for anything.
 */
int server_plan_descriptors(uint64_t limit, unsigned max_sandboxes, unsigned *max_conns,
			    struct err *e);

/* pidfile.c: takes the lock and writes the file. Return: descriptor that holds the lock. */
int pidfile_take(const char *home, int *fd, struct err *e);
int pidfile_write(int fd, const char *address, const char *path, struct err *e);
void pidfile_release(const char *home, int *fd);

#endif
