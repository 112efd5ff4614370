/* SPDX-License-Identifier: Apache-2.0 */
#include "codec/envfile.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "codec/manifest.h"

struct envfile_line {
	const char *p, *end; /* what is left of it */
	unsigned number;
	struct err *e;
};

static int envfile_bad(const struct envfile_line *l, const char *why)
{
	return err_set(l->e, EINVAL, "line %u: %s", l->number, why);
}

static void envfile_skip_blanks(struct envfile_line *l)
{
	while (l->p < l->end && (*l->p == ' ' || *l->p == '\t'))
		l->p++;
}

/* Behind a quoted value there may be a comment. */
static int envfile_end_quoted(struct envfile_line *l)
{
	const char *before = l->p;

	envfile_skip_blanks(l);
	if (l->p == l->end || (*l->p == '#' && l->p > before))
		return 0;
	return envfile_bad(l, "something stands behind the closing quote");
}

static int envfile_quoted(struct envfile_line *l, char *to)
{
	char quote = *l->p++;

	for (; l->p < l->end && *l->p != quote; l->p++) {
		static const char escapes[] = "nrt\"\\$", means[] = "\n\r\t\"\\$";
		const char *x;

		if (quote == '\'' || *l->p != '\\') {
			*to++ = *l->p;
			continue;
		}
		x = ++l->p < l->end ? strchr(escapes, *l->p) : NULL;
		if (!x)
			return envfile_bad(l, "unknown escape: there are \\n, \\r, \\t, \\\", \\\\ "
					      "and \\$");
		*to++ = means[x - escapes];
	}
	if (l->p == l->end)
		return envfile_bad(l, "a quote is not closed");
	l->p++;
	*to = '\0';
	return envfile_end_quoted(l);
}

static void envfile_plain(struct envfile_line *l, char *to)
{
	const char *from = l->p, *end = l->end;

	for (const char *p = from; p < end; p++)
		if (*p == '#' && (p == from || p[-1] == ' ' || p[-1] == '\t'))
			end = p;
	while (end > from && (end[-1] == ' ' || end[-1] == '\t'))
		end--;
	memcpy(to, from, (size_t)(end - from));
	to[end - from] = '\0';
}

/* Writes NAME=value to @out, which has room for all of the line. */
static int envfile_var(struct envfile_line *l, char *out)
{
	static const char export[] = "export";
	size_t n = sizeof(export) - 1;
	const char *eq, *end;

	if ((size_t)(l->end - l->p) > n && !memcmp(l->p, export, n) &&
	    (l->p[n] == ' ' || l->p[n] == '\t')) {
		l->p += n;
		envfile_skip_blanks(l);
	}
	eq = memchr(l->p, '=', (size_t)(l->end - l->p));
	if (!eq)
		return envfile_bad(l, "expected NAME=value");
	for (end = eq; end > l->p && (end[-1] == ' ' || end[-1] == '\t');)
		end--;
	if (end == l->p)
		return envfile_bad(l, "no name stands before the '='");
	for (const char *p = l->p; p < end; p++)
		if ((unsigned char)*p <= ' ' || *p == '"' || *p == '\'' || *p == 0x7f)
			return envfile_bad(l, "the name of a variable has no blanks and no quotes");
	n = (size_t)(end - l->p);
	memcpy(out, l->p, n);
	out[n++] = '=';
	l->p = eq + 1;
	envfile_skip_blanks(l);
	if (l->p < l->end && (*l->p == '"' || *l->p == '\''))
		return envfile_quoted(l, out + n);
	envfile_plain(l, out + n);
	return 0;
}

static int envfile_line(struct envfile_line *l, char ***list, size_t *vars)
{
	auto_free char *var = NULL;
	int rc;

	if (l->end > l->p && l->end[-1] == '\r')
		l->end--;
	envfile_skip_blanks(l);
	if (l->p == l->end || *l->p == '#')
		return 0;
	if (++*vars > ENVFILE_VARS_MAX)
		return envfile_bad(l, "too many variables");
	var = malloc((size_t)(l->end - l->p) + 2);
	if (!var)
		return err_errno(l->e, ENOMEM, "read variables");
	rc = envfile_var(l, var);
	if (!rc && strlist_add(list, var))
		rc = err_errno(l->e, ENOMEM, "read variables");
	return rc;
}

int envfile_parse(const char *text, size_t len, char ***list, struct err *e)
{
	const char *end = text + len, *p = text;
	unsigned number = 0;
	size_t vars = 0;
	int rc = 0;

	if (len > ENVFILE_BYTES_MAX)
		return err_set(e, EINVAL, "larger than %u KiB", ENVFILE_BYTES_MAX >> 10);
	if (memchr(text, '\0', len))
		return err_set(e, EINVAL, "this has NUL bytes: it is no text");
	while (p < end && !rc) {
		const char *nl = memchr(p, '\n', (size_t)(end - p));
		struct envfile_line l = { p, nl ? nl : end, ++number, e };

		p = nl ? nl + 1 : end;
		rc = envfile_line(&l, list, &vars);
	}
	return rc;
}
