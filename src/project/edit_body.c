/* SPDX-License-Identifier: Apache-2.0 */
/* Values as YAML, quoted where a reader of YAML could take them for something else. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "codec/utf8.h"
#include "project/edit.h"

static int edit_append(struct buf *b, const char *s, struct err *e)
{
	return buf_append(b, s, strlen(s)) ? err_errno(e, ENOMEM, "write YAML") : 0;
}

static int edit_append_n(struct buf *b, const char *s, size_t n, struct err *e)
{
	return buf_append(b, s, n) ? err_errno(e, ENOMEM, "write YAML") : 0;
}

/*
 * May it stand without quotes?  Numbers, and what YAML 1.1 takes for a boolean or for nothing,
 * may not: we read texts, other programs types.
 */
bool edit_is_plain(const char *s)
{
	static const char set[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_./=+,:@- ";
	static const char *const words[] = { "true", "false", "yes", "no", "on",
					     "off",  "null",  "y",   "n" };
	size_t n = strlen(s);

	if (!n || strspn(s, set) != n || strchr("-=+,:@ ", s[0]) || s[n - 1] == ' ')
		return false;
	/* Numbers, dates, 8080:80, .5, .inf */
	if ((s[0] >= '0' && s[0] <= '9') || (s[0] == '.' && !strchr("/:", s[1])))
		return false;
	for (const char *p = s; *p; p++)
		if (*p == ':' && (!p[1] || p[1] == ' '))
			return false;
	for (size_t i = 0; i < ARRAY_SIZE(words); i++)
		if (!strcasecmp(words[i], s))
			return false;
	return true;
}

/*
 * A character beyond ASCII that YAML takes for a line break, or does not print: its number,
 * and its bytes in *@len.  0 = it may stand as it is.  @s is UTF-8.
 */
static unsigned edit_odd(const char *s, size_t *len)
{
	const unsigned char *p = (const unsigned char *)s;

	*len = 2;
	if (p[0] == 0xc2 && p[1] < 0xa0)
		return p[1];
	*len = 3;
	if (p[0] == 0xe2 && p[1] == 0x80 && (p[2] == 0xa8 || p[2] == 0xa9))
		return 0x2000u + (p[2] & 0x3f);
	if (p[0] == 0xef && p[1] == 0xbb && p[2] == 0xbf)
		return 0xfeff;
	if (p[0] == 0xef && p[1] == 0xbf && p[2] >= 0xbe)
		return 0xffc0u + (p[2] & 0x3f);
	return 0;
}

static int edit_quoted(struct buf *b, const char *s, struct err *e)
{
	int rc = edit_append(b, "\"", e);

	for (size_t step = 1; *s && !rc; s += step) {
		char text[8] = { *s, '\0' };
		unsigned odd = edit_odd(s, &step);

		if (odd)
			snprintf(text, sizeof(text), "\\u%04x", odd);
		else
			step = 1;
		if (*s == '"' || *s == '\\')
			snprintf(text, sizeof(text), "\\%c", *s);
		else if (*s == '\n')
			strcpy(text, "\\n");
		else if (*s == '\t')
			strcpy(text, "\\t");
		else if ((unsigned char)*s < ' ' || *s == 0x7f)
			snprintf(text, sizeof(text), "\\x%02x", (unsigned char)*s);
		rc = edit_append(b, text, e);
	}
	return rc ? rc : edit_append(b, "\"", e);
}

/* Can it be written as lines behind a '|' and come back the same? */
static bool edit_is_block(const char *s)
{
	size_t n = strlen(s);

	if (!strchr(s, '\n') || strchr(" \t\n", s[0]) || (n > 1 && !strcmp(s + n - 2, "\n\n")))
		return false;
	for (const char *p = s; *p; p++) {
		if (((unsigned char)*p < ' ' && *p != '\n' && *p != '\t') || *p == 0x7f)
			return false;
		/* Of blanks alone: they would count as indentation. */
		if (*p == '\n' && p > s && strchr(" \t", p[-1]))
			return false;
		if (edit_odd(p, &n))
			return false;
	}
	return true;
}

static int edit_block(struct buf *b, const char *s, const char *indent, struct err *e)
{
	int rc = edit_append(b, s[strlen(s) - 1] == '\n' ? "|\n" : "|-\n", e);

	while (*s && !rc) {
		size_t n = strcspn(s, "\n");

		if (n)
			rc = edit_append(b, indent, e);
		if (!rc)
			rc = edit_append_n(b, s, n, e);
		if (!rc && s[n])
			rc = edit_append(b, "\n", e);
		s += n + (s[n] == '\n');
		if (!rc && !*s && s[-1] != '\n')
			rc = edit_append(b, "\n", e);
	}
	return rc;
}

static int edit_check(const char *key, const char *value, struct err *e)
{
	bool partial;

	if (utf8_prefix((const uint8_t *)value, strlen(value), &partial) == strlen(value))
		return 0;
	return err_set(e, EINVAL, "%s: a Sandboxfile is UTF-8, and this is not", key);
}

/* @indent: of what stands beneath the key. */
static int edit_value(struct buf *b, const char *key, const char *value, const char *indent,
		      struct err *e)
{
	int rc = edit_check(key, value, e);

	if (rc)
		return rc;
	if (edit_is_block(value))
		return edit_block(b, value, indent, e);
	rc = edit_is_plain(value) ? edit_append(b, value, e) : edit_quoted(b, value, e);
	return rc ? rc : edit_append(b, "\n", e);
}

static int edit_key(struct buf *b, const char *indent, const char *key, const char *behind,
		    struct err *e)
{
	int rc = edit_append(b, indent, e);

	if (!rc)
		rc = edit_is_plain(key) ? edit_append(b, key, e) : edit_quoted(b, key, e);
	return rc ? rc : edit_append(b, behind, e);
}

int edit_put_text(struct buf *body, const char *key, const char *value, struct err *e)
{
	int rc = edit_key(body, "", key, ": ", e);

	return rc ? rc : edit_value(body, key, value, "  ", e);
}

int edit_put_word(struct buf *body, const char *key, const char *value, struct err *e)
{
	static const char set[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789.";
	int rc;

	if (!*value || strspn(value, set) != strlen(value))
		return edit_put_text(body, key, value, e);
	rc = edit_key(body, "", key, ": ", e);
	if (!rc)
		rc = edit_append(body, value, e);
	return rc ? rc : edit_append(body, "\n", e);
}

int edit_put_list(struct buf *body, const char *key, const char *const *values, size_t n,
		  struct err *e)
{
	int rc = edit_key(body, "", key, ":\n", e);

	for (size_t i = 0; i < n && !rc; i++) {
		rc = edit_append(body, "  - ", e);
		if (!rc)
			rc = edit_value(body, key, values[i], "    ", e);
	}
	return rc;
}

int edit_put_map(struct buf *body, const char *key, struct err *e)
{
	return edit_key(body, "", key, ":\n", e);
}

int edit_put_pair(struct buf *body, const char *key, const char *value, struct err *e)
{
	int rc = edit_check(key, key, e);

	if (!rc)
		rc = edit_key(body, "  ", key, ": ", e);
	return rc ? rc : edit_value(body, key, value, "    ", e);
}
