/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_SANDBOX_LINELOG_H
#define MSB_SANDBOX_LINELOG_H

/*
 * What a sandbox's own command prints, as lines with their time (codec/logline.h).
 *
 * A line is written by one write(2), whole: lines of its two streams never mix, and a reader
 * never sees half of one that a killed supervisor left without the next one's beginning
 * with a newline.  At LINELOG_FILE_MAX the file is renamed to "<name>.old".
 */

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"
#include "base/err.h"

#define LINELOG_FILE "output.log"
#define LINELOG_OLD LINELOG_FILE ".old"
#define LINELOG_FILE_MAX (10u << 20)

struct linelog {
	int dirfd; /* not owned */
	int fd; /* owned; -1 = not open */
	size_t written, max; /* max: LINELOG_FILE_MAX, less in tests */
	bool torn; /* the last write ended inside a line */
	struct buf part[2]; /* of stdout and stderr: a line without its end */
};

/* @dirfd must stay open as long as the log. */
int linelog_init(struct linelog *l, int dirfd, struct err *e);

/* Writes what is left of unfinished lines, and closes it. */
void linelog_fini(struct linelog *l);

/* Bytes that came on standard output or error. */
void linelog_add(struct linelog *l, bool err, const void *p, size_t n);

/* The stream has ended: so has its last line. */
void linelog_end(struct linelog *l, bool err);

#endif
