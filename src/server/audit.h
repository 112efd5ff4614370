/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_SERVER_AUDIT_H
#define MSB_SERVER_AUDIT_H

/*
 * The audit log: who reached which sandbox when, one JSON object a line, each written by
 * one write(2).  It has names and numbers only, never what a call carried: no code, no
 * content, no environment, no key (but its id).
 *
 * The file is the user's alone (0600).  At AUDIT_FILE_MAX it becomes "<file>.old", and a
 * new one begins.
 */

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"
#include "server/rpc.h"

#define AUDIT_FILE_MAX (10u << 20)
#define AUDIT_LINE_MAX 1024u

struct audit {
	int fd; /* -1 = nothing is logged */
	char *path;
	off_t size;
};

#define AUDIT_INIT \
	{ \
		.fd = -1 \
	}

enum audit_outcome { AUDIT_OK, AUDIT_ERROR, AUDIT_CANCELLED };

struct audit_entry {
	const struct principal *who; /* NULL = the server itself */
	const char *ns, *method;
	const char *sandbox; /* NULL = it was no name */
	const char *volume; /* NULL = none was named */
	enum audit_outcome outcome;
	int code; /* of AUDIT_ERROR */
	const char *reason; /* of what the server did by itself; may be NULL */
	uint64_t duration_ns;
};

/* Return: 0, or why the file cannot be a log. */
int audit_open(struct audit *a, const char *path, struct err *e);
void audit_close(struct audit *a);

/* A full disk costs the line, not the call; the server's own log says so. */
void audit_write(struct audit *a, const struct audit_entry *x);

/*
 * Writes the line to @to, with its newline. @time_ms: since the epoch.
 * Return: its length, 0 if it does not fit or memory is out.
 */
size_t audit_format(const struct audit_entry *x, int64_t time_ms, char *to, size_t size);

#endif
