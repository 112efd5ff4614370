/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_CLI_KEPT_ROWS_H
#define MSB_CLI_KEPT_ROWS_H

/* The sandboxes of a project as they are: what status, stats and inspect show. */

#include <jansson.h>
#include <sys/stat.h>

#include "cli/kept_stats.h"
#include "cli/project_open.h"
#include "codec/box_state.h"

/* A sandbox of the file, or one that only its directory tells of. */
struct kept_row {
	char name[SANDBOXFILE_NAME_MAX + 1];
	const struct sandboxfile_sandbox *s; /* NULL = it is in the file no more */
	struct sandbox_config cfg; /* as it was started last */
	struct box_state st;
	struct stat disk;
	int dirfd; /* -1 = it has no directory */
	bool running, has_cfg, has_st, has_disk;
	struct kept_stats *stats; /* of those that run */
};

struct kept_rows {
	struct project_view v;
	char **names; /* those that are wanted; none = all */
	int n_names;
	struct kept_row *rows; /* in the order of the file, then others by name */
	size_t n, cap;
	struct kept_stats *stats;
	bool failed;
};

/*
 * Reads the project, looks at its sandboxes, and asks those that run. For kept_rows_fini(), also
 * on failure.  Return: 0; -ENOENT: there is no sandbox of such a name; others.
 */
int kept_rows_read(struct kept_rows *t, const char *file, char **names, int n_names, struct err *e);
void kept_rows_fini(struct kept_rows *t);

/* created, starting, running, stopping, stopped; and why it does not run, or "". */
const char *kept_row_word(const struct kept_row *r);
const char *kept_row_reason(const struct kept_row *r);

/* For people: "12 MiB"; "5m" since that time. */
void kept_row_size(char to[16], double bytes);
void kept_row_age(char to[16], int64_t since_us);

/* For programs: a time in UTC or null; the ports of one that runs; all that status tells. */
json_t *kept_row_time(int64_t us);
json_t *kept_row_ports(const struct kept_row *r);
json_t *kept_row_json(const struct kept_row *r);

#endif
