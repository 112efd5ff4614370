/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_CLI_LOG_VIEW_H
#define MSB_CLI_LOG_VIEW_H

/* The log of a sandbox's own command, read from its files while they grow and are rotated. */

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/buf.h"
#include "base/err.h"

#define LOG_VIEW_TAIL_MAX 100000u

struct log_view_opts {
	const char *prefix; /* in front of each line; NULL = none */
	bool timestamps;
	int64_t since_us; /* only lines from then on; 0 = all */
	uint64_t tail; /* at first only so many; LOG_VIEW_ALL = all */
};

#define LOG_VIEW_ALL UINT64_MAX

struct log_view {
	const struct log_view_opts *opts;
	int dirfd; /* of the logs; owned */
	int fd; /* what is being read; -1 = none yet */
	off_t at;
	struct buf rest; /* a line whose end is not there yet */
	bool open_line[2]; /* of stdout, stderr: the last piece had no end */
};

/* @dirfd: of the sandbox. A sandbox without logs yet is no error. */
int log_view_init(struct log_view *v, int dirfd, const struct log_view_opts *opts, struct err *e);
void log_view_fini(struct log_view *v);

/* Prints what is there, of it the last opts->tail lines. */
int log_view_first(struct log_view *v, struct err *e);

/* Prints what has come since. Return: 0; -EPIPE: nobody reads what we print; others. */
int log_view_more(struct log_view *v);

/* Ends lines that have no end yet. */
void log_view_end(struct log_view *v);

#endif
