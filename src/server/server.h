/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_SERVER_SERVER_H
#define MSB_SERVER_SERVER_H

/* The HTTP server, as `msb server` sees it; docs/server.md describes it for users. */

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "codec/token.h"
#include "lib/volumes.h"

#define SERVER_PORT 5555u
#define SERVER_KEY_FILE "server.key"
#define SERVER_PID_FILE "server.pid"
#define SERVER_REVOKED_FILE "server.revoked"
#define SERVER_LOG_FILE "server.log"
#define SERVER_AUDIT_FILE "server.audit.log"

struct server_options {
	const char *home; /* MICROSANDBOX_HOME */
	const char *path; /* where namespaces are kept; NULL = <home>/projects */
	const char *host; /* an IP address */
	uint16_t port; /* 0 = any */
	const char *unix_path; /* also listen on this socket; NULL = do not */
	const char *key_file; /* secret; NULL = <home>/server.key, made if absent */
	const char *tls_cert, *tls_key; /* PEM files; NULL = plain HTTP */
	bool reset_key; /* make a new secret: no key that was given out is valid any more */
	bool dev; /* nobody needs a key */
	bool keep; /* sandboxes go on running when the server ends */
	unsigned max_sandboxes;
	bool stdio; /* serve one client of MCP on standard input and output, and nobody else */
	const char *ns; /* with stdio: the namespace of its sandboxes */
	const char *jail; /* "full" or "reduced", of every process of its sandboxes */
	bool no_pull; /* images that are not there are not asked of registries */
	const char *publish; /* where sandboxes may publish ports: "local", "any" or "none" */
	const char *const *allow_volumes; /* of volumes_allow(): for paths of the host */
	size_t n_allow_volumes;
	struct volumes_limit volumes; /* that clients make, in each namespace */
	const char *audit_log; /* "none" = none; NULL = <home>/server.audit.log */
	int ready_fd; /* gets a line "ready <address>\n" when requests are taken; -1 = none */
};

/* Runs until a signal asks it to end. Return: 0, or a negative errno before it served. */
int server_run(const struct server_options *opt, struct err *e);

/* ---- the running server of a home (pidfile.c) -------------------------------------- */

struct server_info {
	int pid;
	char address[256]; /* "http://127.0.0.1:5555" */
	char path[PATH_MAX]; /* where it keeps namespaces; "" = not known */
};

/* Return: 0; -ESRCH if no server runs for @home (what a dead one left is ignored). */
int server_find(const char *home, struct server_info *out, struct err *e);

/* Asks it to end and waits. Return: 0; -ESRCH; -ETIMEDOUT. */
int server_stop(const char *home, unsigned timeout_ms, struct err *e);

/* ---- keys (keys.c) ------------------------------------------------------------------ */

/*
 * Reads the secret, *@out malloc'ed and NUL-terminated.  @file NULL: <home>/server.key.
 * @make: make it if it is absent; @reset: make a new one in any case.
 */
int server_key_load(const char *home, const char *file, bool make, bool reset, char **out,
		    struct err *e);

#define SERVER_KEY_ID_SIZE 33u /* 32 hex digits + NUL */

struct server_key {
	char *text; /* malloc'ed */
	char id[SERVER_KEY_ID_SIZE];
	int64_t expires; /* seconds since the epoch */
};

/* Makes an API key that is valid for @seconds. @ns: "*" = all namespaces. */
int server_key_make(const char *secret, const char *ns, int64_t seconds,
		    const struct token_limits *limits, struct server_key *out, struct err *e);

/* Makes one key useless, now and for later servers. @id: as server_key_make() gave it. */
int server_key_revoke(const char *home, const char *id, struct err *e);

#endif
