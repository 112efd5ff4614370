/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_CODEC_LOGLINE_H
#define MSB_CODEC_LOGLINE_H

/*
 * Lines of a sandbox's log, in the form that container runtimes have (CRI):
 *
 *     2026-11-28T15:04:05.123456Z stdout F what the program printed
 *
 * F: the line ended here; P: it was longer, or the program ended without a newline, and its
 * next piece, if there is one, is a line of the same stream.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"

#define LOGLINE_HEAD 37u /* bytes before the text: "stdout" and "stderr" are of one length */
#define LOGLINE_TEXT_MAX 16384u

struct logline {
	int64_t time_us; /* since 1970, UTC */
	bool err; /* of standard error */
	bool partial;
	const char *text; /* without its newline; may hold any other byte */
	size_t len; /* at most LOGLINE_TEXT_MAX */
};

/* Appends the line and a newline. Return: 0, -EINVAL (text, or a year past 9999), -ENOMEM. */
int logline_format(const struct logline *l, struct buf *b);

/**
 * logline_parse() - one line, without its newline
 *
 * @out->text points into @p.  Return: 0, -EINVAL: it is no such line.
 */
int logline_parse(const char *p, size_t n, struct logline *out);

/* "2026-11-28T15:04:05.123456Z"; @to has at least 28 bytes. Return: 0, -EINVAL. */
int logline_format_time(int64_t time_us, char to[28]);

/* An RFC 3339 time in UTC with at most 6 digits of a second's fraction. Return: 0, -EINVAL. */
int logline_parse_time(const char *p, size_t n, int64_t *time_us);

#endif
