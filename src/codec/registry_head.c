/* SPDX-License-Identifier: Apache-2.0 */
#include "codec/registry_head.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#define HEAD_VALUE_MAX 8192u
#define HEAD_DIGITS_MAX 19u /* of a number: below 2^63 */

/* A header's value being read. */
struct head {
	const char *p, *end;
};

/* tchar of RFC 9110, and the characters of token68, which Basic and others may bring. */
static bool head_token_char(char c)
{
	return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
	       (c && strchr("!#$%&'*+-.^_`|~/", c));
}

static void head_blanks(struct head *h)
{
	while (h->p < h->end && (*h->p == ' ' || *h->p == '\t'))
		h->p++;
}

static bool head_is(const struct head *h, char c)
{
	return h->p < h->end && *h->p == c;
}

static size_t head_token(struct head *h)
{
	const char *start = h->p;

	while (h->p < h->end && head_token_char(*h->p))
		h->p++;
	return (size_t)(h->p - start);
}

/* A token or a quoted string. @to may be NULL. Return: 0 or -EINVAL (also: too long). */
static int head_value(struct head *h, char *to, size_t size)
{
	bool quoted = head_is(h, '"');
	size_t n = 0;

	h->p += quoted;
	while (h->p < h->end && (quoted ? *h->p != '"' : head_token_char(*h->p) || *h->p == ':')) {
		if (quoted && *h->p == '\\' && ++h->p == h->end)
			return -EINVAL;
		if ((unsigned char)*h->p < ' ' || *h->p == 0x7f)
			return -EINVAL;
		if (to && n + 1 >= size)
			return -EINVAL;
		if (to)
			to[n++] = *h->p;
		h->p++;
	}
	if (to)
		to[n] = '\0';
	if (!quoted)
		return 0;
	if (!head_is(h, '"'))
		return -EINVAL;
	h->p++;
	return 0;
}

/* Where a parameter of a challenge goes; NULL = not wanted. */
static char *challenge_member(struct challenge *c, const char *name, size_t len, size_t *size)
{
	if (len == 5 && !strncasecmp(name, "realm", len)) {
		*size = sizeof(c->realm);
		return c->realm;
	}
	if (len == 7 && !strncasecmp(name, "service", len)) {
		*size = sizeof(c->service);
		return c->service;
	}
	if (len == 5 && !strncasecmp(name, "scope", len)) {
		*size = sizeof(c->scope);
		return c->scope;
	}
	*size = 0;
	return NULL;
}

/*
 * The parameters behind a scheme's name.  Both challenges and parameters are separated by
 * commas: what follows a comma is a parameter if a '=' stands behind its first word.
 */
static int challenge_params(struct head *h, struct challenge *c)
{
	for (;;) {
		const char *name;
		size_t len, size;
		struct head start;
		char *to;

		head_blanks(h);
		while (head_is(h, ',')) {
			h->p++;
			head_blanks(h);
		}
		start = *h;
		name = h->p;
		len = head_token(h);
		head_blanks(h);
		if (!len || !head_is(h, '=')) {
			*h = start;
			return 0;
		}
		h->p++;
		/* token68, as in "Negotiate YII=": padding, then the end of the challenge. */
		while (head_is(h, '='))
			h->p++;
		head_blanks(h);
		if (h->p == h->end || head_is(h, ','))
			continue;
		to = challenge_member(c, name, len, &size);
		if (head_value(h, to, size))
			return -EINVAL;
		head_blanks(h);
		if (h->p < h->end && !head_is(h, ','))
			return -EINVAL;
	}
}

int challenge_parse(const char *s, size_t len, struct challenge *out)
{
	struct challenge best = { .scheme = CHALLENGE_NONE };
	struct head h = { s, s + len };

	if (len > HEAD_VALUE_MAX)
		return -EINVAL;
	for (;;) {
		struct challenge c = { .scheme = CHALLENGE_NONE };
		const char *name;
		size_t n;

		head_blanks(&h);
		while (head_is(&h, ',')) {
			h.p++;
			head_blanks(&h);
		}
		if (h.p == h.end)
			break;
		name = h.p;
		n = head_token(&h);
		if (!n ||
		    (h.p < h.end && !head_is(&h, ' ') && !head_is(&h, '\t') && !head_is(&h, ',')))
			return -EINVAL;
		if (n == 6 && !strncasecmp(name, "bearer", n))
			c.scheme = CHALLENGE_BEARER;
		else if (n == 5 && !strncasecmp(name, "basic", n))
			c.scheme = CHALLENGE_BASIC;
		if (challenge_params(&h, &c))
			return -EINVAL;
		if (c.scheme > best.scheme)
			best = c;
	}
	*out = best;
	return 0;
}

static int head_number(struct head *h, uint64_t *out)
{
	const char *start = h->p;
	uint64_t v = 0;

	while (h->p < h->end && *h->p >= '0' && *h->p <= '9') {
		if (h->p - start >= (ptrdiff_t)HEAD_DIGITS_MAX - 1)
			return -EINVAL;
		v = v * 10 + (uint64_t)(*h->p++ - '0');
	}
	*out = v;
	return h->p == start ? -EINVAL : 0;
}

int content_range_parse(const char *s, size_t len, uint64_t *first)
{
	struct head h = { s, s + len };
	uint64_t from, to, total;

	if (len < 6 || strncasecmp(s, "bytes ", 6))
		return -EINVAL;
	h.p += 6;
	head_blanks(&h);
	if (head_number(&h, &from) || !head_is(&h, '-'))
		return -EINVAL;
	h.p++;
	if (head_number(&h, &to) || to < from || !head_is(&h, '/'))
		return -EINVAL;
	h.p++;
	if (head_is(&h, '*'))
		h.p++;
	else if (head_number(&h, &total) || total <= to)
		return -EINVAL;
	if (h.p != h.end)
		return -EINVAL;
	*first = from;
	return 0;
}

static int head_two(const char *s, int *out)
{
	if (s[0] < '0' || s[0] > '9' || s[1] < '0' || s[1] > '9')
		return -EINVAL;
	*out = (s[0] - '0') * 10 + (s[1] - '0');
	return 0;
}

/* "Sun, 06 Nov 1994 08:49:37 GMT" */
static int head_date(const char *s, size_t len, int64_t *out)
{
	static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
	struct tm tm = { .tm_mon = -1 };
	int century, year;

	if (len != 29 || memcmp(s + 3, ", ", 2) || memcmp(s + 25, " GMT", 4) || s[7] != ' ' ||
	    s[11] != ' ' || s[16] != ' ' || s[19] != ':' || s[22] != ':')
		return -EINVAL;
	for (int i = 0; i < 12; i++)
		if (!memcmp(s + 8, months + 3 * i, 3))
			tm.tm_mon = i;
	if (tm.tm_mon < 0 || head_two(s + 5, &tm.tm_mday) || head_two(s + 12, &century) ||
	    head_two(s + 14, &year) || head_two(s + 17, &tm.tm_hour) ||
	    head_two(s + 20, &tm.tm_min) || head_two(s + 23, &tm.tm_sec))
		return -EINVAL;
	tm.tm_year = century * 100 + year - 1900;
	*out = timegm(&tm);
	return 0;
}

int retry_after_parse(const char *s, size_t len, int64_t now, uint32_t *seconds)
{
	struct head h = { s, s + len };
	int64_t at, left;
	uint64_t v;

	if (head_number(&h, &v) == 0 && h.p == h.end) {
		*seconds = v > RETRY_AFTER_MAX ? RETRY_AFTER_MAX : (uint32_t)v;
		return 0;
	}
	if (head_date(s, len, &at))
		return -EINVAL;
	left = at - now;
	*seconds = left < 0 ? 0 : left > RETRY_AFTER_MAX ? RETRY_AFTER_MAX : (uint32_t)left;
	return 0;
}
