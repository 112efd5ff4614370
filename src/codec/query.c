/* SPDX-License-Identifier: Apache-2.0 */
#include "codec/query.h"

#include <errno.h>
#include <string.h>

static int query_hex(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

/* Decodes @p[0, n) to @to, which has room. Return: bytes, or -EINVAL. */
static int query_decode(const char *p, size_t n, char *to, struct err *e)
{
	int len = 0;

	for (size_t i = 0; i < n; i++) {
		int high, low;

		if (p[i] != '%') {
			to[len++] = p[i] == '+' ? ' ' : p[i];
			continue;
		}
		high = n - i > 2 ? query_hex(p[i + 1]) : -1;
		low = n - i > 2 ? query_hex(p[i + 2]) : -1;
		if (high < 0 || low < 0)
			return err_set(e, EINVAL, "the query has a %% without two hex digits");
		if (!high && !low)
			return err_set(e, EINVAL, "the query has a NUL byte");
		to[len++] = (char)(high << 4 | low);
		i += 2;
	}
	to[len++] = '\0';
	return len;
}

static int query_add(struct query *q, const char *const *known, struct err *e)
{
	const struct query_param *p = &q->params[q->n];

	for (unsigned i = 0; i < q->n; i++)
		if (!strcmp(q->params[i].name, p->name))
			return err_set(e, EINVAL, "the parameter %s is given twice", p->name);
	for (; *known; known++) {
		if (strcmp(*known, p->name))
			continue;
		q->n++;
		return 0;
	}
	return err_set(e, EINVAL, "there is no parameter '%.64s' here", p->name);
}

int query_parse(struct query *q, const char *text, const char *const *known, struct err *e)
{
	char *to = q->text;

	q->n = 0;
	if (strlen(text) > sizeof(q->text) - 2 * QUERY_PARAMS_MAX - 2)
		return err_set(e, EINVAL, "the query is too long");
	while (*text) {
		size_t n = strcspn(text, "&"), name = strcspn(text, "=&");
		int len, rc;

		if (!n) { /* "a=1&&b=2" */
			text++;
			continue;
		}
		if (q->n == QUERY_PARAMS_MAX)
			return err_set(e, EINVAL, "the query has too many parameters");
		if (name == n)
			return err_set(e, EINVAL, "the query has a parameter without a value");
		q->params[q->n].name = to;
		len = query_decode(text, name, to, e);
		if (len < 0)
			return len;
		to += len;
		q->params[q->n].value = to;
		len = query_decode(text + name + 1, n - name - 1, to, e);
		if (len < 0)
			return len;
		to += len;
		rc = query_add(q, known, e);
		if (rc)
			return rc;
		text += n + (text[n] == '&');
	}
	return 0;
}

const char *query_get(const struct query *q, const char *name)
{
	for (unsigned i = 0; i < q->n; i++)
		if (!strcmp(q->params[i].name, name))
			return q->params[i].value;
	return NULL;
}

int query_u64(const struct query *q, const char *name, unsigned base, uint64_t max, uint64_t *out,
	      struct err *e)
{
	const char *v = query_get(q, name);
	uint64_t n = 0;

	if (!v)
		return 0;
	for (const char *p = v; *p || p == v; p++) {
		unsigned digit = (unsigned)(*p - '0');

		if (*p < '0' || digit >= base)
			return err_set(e, EINVAL, "%s must be %s number", name,
				       base == 8 ? "an octal" : "a");
		if (n > (max - digit) / base || digit > max)
			return err_set(e, EINVAL,
				       base == 8 ? "%s must be at most 0%llo"
						 : "%s must be at most %llu",
				       name, (unsigned long long)max);
		n = n * base + digit;
	}
	*out = n;
	return 0;
}

int query_bool(const struct query *q, const char *name, bool *out, struct err *e)
{
	const char *v = query_get(q, name);

	if (!v)
		return 0;
	if (strcmp(v, "1") && strcmp(v, "true") && strcmp(v, "0") && strcmp(v, "false"))
		return err_set(e, EINVAL, "%s must be 1 or 0", name);
	*out = *v == '1' || *v == 't';
	return 0;
}
