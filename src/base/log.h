/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_BASE_LOG_H
#define MSB_BASE_LOG_H

/*
 * Log lines of the long-lived processes: one line each, to a descriptor,
 *
 *   2026-01-31T12:00:00.123Z warn net/box1: event=denied dst=10.0.0.1 proto=tcp
 *
 * written with one write(2), so that lines of several processes that share a
 * file never mix.  The message should be key=value pairs.  Control bytes are
 * replaced: a guest cannot forge a line.  Not for messages to the person at the
 * terminal; the CLI prints those itself.
 */

#include <stdbool.h>
#include <stdint.h>

enum log_level { LOG_ERR, LOG_WARN, LOG_INFO, LOG_DEBUG };

/* @ident: process identity, at most 63 bytes, e.g. "net/box1". Starts at stderr, warn. */
void log_init(int fd, enum log_level level, const char *ident);
void log_set_level(enum log_level level);

/* "error", "warn", "info", "debug". Return: 0, or -EINVAL. */
int log_level_parse(const char *s, enum log_level *out);

bool log_enabled(enum log_level level);

void log_write(enum log_level level, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#define log_err(...) log_write(LOG_ERR, __VA_ARGS__)
#define log_warn(...) log_write(LOG_WARN, __VA_ARGS__)
#define log_info(...) log_write(LOG_INFO, __VA_ARGS__)
#define log_debug(...) log_write(LOG_DEBUG, __VA_ARGS__)

/*
 * A budget for messages that somebody untrusted can trigger: at most @burst in
 * any @period_ms.  Return: may this one be logged?  *@dropped (may be NULL) gets
 * the number that were held back since the last one that was not.
 */
struct log_limit {
	unsigned burst, period_ms;
	uint64_t window_start_ms;
	unsigned used, held;
};

#define LOG_LIMIT(b, p) \
	{ \
		.burst = (b), .period_ms = (p) \
	}

bool log_limit_pass(struct log_limit *l, unsigned *dropped);

#endif
