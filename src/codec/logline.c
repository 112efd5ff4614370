/* SPDX-License-Identifier: Apache-2.0 */
#include "codec/logline.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define LOGLINE_TIME 27u /* bytes of a time as we write it */
#define LOGLINE_YEAR_MAX 9999

int logline_format_time(int64_t time_us, char to[28])
{
	time_t s = (time_t)(time_us / 1000000);
	struct tm tm;

	if (time_us < 0 || !gmtime_r(&s, &tm) || tm.tm_year + 1900 > LOGLINE_YEAR_MAX)
		return -EINVAL;
	snprintf(to, LOGLINE_TIME + 1, "%04d-%02d-%02dT%02d:%02d:%02d.%06dZ", tm.tm_year + 1900,
		 tm.tm_mon + 1, tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec,
		 (int)(time_us % 1000000));
	return 0;
}

int logline_format(const struct logline *l, struct buf *b)
{
	char head[LOGLINE_HEAD + 1], when[LOGLINE_TIME + 1];
	int rc;

	if (l->len > LOGLINE_TEXT_MAX || memchr(l->text, '\n', l->len) ||
	    logline_format_time(l->time_us, when))
		return -EINVAL;
	snprintf(head, sizeof(head), "%s %s %c ", when, l->err ? "stderr" : "stdout",
		 l->partial ? 'P' : 'F');
	rc = buf_append(b, head, LOGLINE_HEAD);
	if (!rc)
		rc = buf_append(b, l->text, l->len);
	return rc ? rc : buf_append(b, "\n", 1);
}

/* @digits of them, and nothing else. */
static bool logline_number(const char *p, unsigned digits, int *out)
{
	int v = 0;

	for (; digits; digits--, p++) {
		if (*p < '0' || *p > '9')
			return false;
		v = v * 10 + (*p - '0');
	}
	*out = v;
	return true;
}

int logline_parse_time(const char *p, size_t n, int64_t *time_us)
{
	struct tm tm = { 0 }, back;
	int fraction = 0, scale = 1000000;
	time_t s;

	if (n < 20 || p[4] != '-' || p[7] != '-' || p[10] != 'T' || p[13] != ':' || p[16] != ':' ||
	    !logline_number(p, 4, &tm.tm_year) || !logline_number(p + 5, 2, &tm.tm_mon) ||
	    !logline_number(p + 8, 2, &tm.tm_mday) || !logline_number(p + 11, 2, &tm.tm_hour) ||
	    !logline_number(p + 14, 2, &tm.tm_min) || !logline_number(p + 17, 2, &tm.tm_sec))
		return -EINVAL;
	p += 19;
	n -= 19;
	if (*p == '.') {
		unsigned digits = (unsigned)(n - 2);

		if (n < 3 || digits > 6 || !logline_number(p + 1, digits, &fraction))
			return -EINVAL;
		for (unsigned i = 0; i < digits; i++)
			scale /= 10;
		p += 1 + digits;
		n -= 1 + digits;
	}
	if (n != 1 || *p != 'Z' || tm.tm_year < 1970)
		return -EINVAL;
	tm.tm_year -= 1900;
	tm.tm_mon -= 1;
	back = tm;
	s = timegm(&back);
	/* What timegm() had to put right was no date. */
	if (s < 0 || back.tm_mon != tm.tm_mon || back.tm_mday != tm.tm_mday ||
	    back.tm_hour != tm.tm_hour || back.tm_min != tm.tm_min || back.tm_sec != tm.tm_sec)
		return -EINVAL;
	*time_us = (int64_t)s * 1000000 + (int64_t)fraction * scale;
	return 0;
}

int logline_parse(const char *p, size_t n, struct logline *out)
{
	struct logline l = { .text = p + LOGLINE_HEAD };
	const char *stream = p + LOGLINE_TIME;

	if (n < LOGLINE_HEAD || n > LOGLINE_HEAD + LOGLINE_TEXT_MAX ||
	    logline_parse_time(p, LOGLINE_TIME, &l.time_us) || memchr(p, '\n', n))
		return -EINVAL;
	l.err = !memcmp(stream, " stderr ", 8);
	l.partial = stream[8] == 'P';
	if ((!l.err && memcmp(stream, " stdout ", 8) != 0) || (!l.partial && stream[8] != 'F') ||
	    stream[9] != ' ')
		return -EINVAL;
	l.len = n - LOGLINE_HEAD;
	*out = l;
	return 0;
}
