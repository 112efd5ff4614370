/* SPDX-License-Identifier: Apache-2.0 */
#include "codec/netcontrol.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* ---- text -------------------------------------------------------------------------- */

struct netcontrol_text {
	const char *p, *end;
};

static bool netcontrol_take(struct netcontrol_text *t, const char *word)
{
	const size_t n = strlen(word);

	if ((size_t)(t->end - t->p) < n || memcmp(t->p, word, n))
		return false;
	t->p += n;
	return true;
}

/* Decimal, without a sign or leading zeros. */
static bool netcontrol_number(struct netcontrol_text *t, uint64_t *out)
{
	const char *start = t->p;
	uint64_t v = 0;

	for (; t->p < t->end && *t->p >= '0' && *t->p <= '9'; t->p++)
		if (__builtin_mul_overflow(v, 10, &v) ||
		    __builtin_add_overflow(v, (uint64_t)(*t->p - '0'), &v))
			return false;
	*out = v;
	return t->p > start && (*start != '0' || t->p == start + 1);
}

/* ---- counters ---------------------------------------------------------------------- */

static bool netcounter_letter(char c)
{
	return (c >= 'a' && c <= 'z') || c == '-';
}

int netcounters_add(struct netcounters *c, const char *name, uint64_t value)
{
	if (c->n == NETCOUNTERS_MAX)
		return -ENOSPC;
	snprintf(c->v[c->n].name, sizeof(c->v[c->n].name), "%s", name);
	c->v[c->n++].value = value;
	return 0;
}

uint64_t netcounters_get(const struct netcounters *c, const char *name)
{
	for (unsigned i = 0; i < c->n; i++)
		if (!strcmp(c->v[i].name, name))
			return c->v[i].value;
	return 0;
}

int netcounters_format(const struct netcounters *c, char *out, size_t size)
{
	size_t n = 0;

	for (unsigned i = 0; i < c->n; i++) {
		int k = snprintf(out + n, size - n, "%s %llu\n", c->v[i].name,
				 (unsigned long long)c->v[i].value);

		if (k < 0 || (size_t)k >= size - n)
			return -ENOSPC;
		n += (size_t)k;
	}
	return (int)n;
}

static bool netcounters_line(struct netcontrol_text *t, struct netcounter *out)
{
	size_t n = 0;

	while (t->p < t->end && netcounter_letter(*t->p) && n + 1 < sizeof(out->name))
		out->name[n++] = *t->p++;
	out->name[n] = '\0';
	return n && netcontrol_take(t, " ") && netcontrol_number(t, &out->value) &&
	       netcontrol_take(t, "\n");
}

int netcounters_parse(const char *answer, size_t len, struct netcounters *out)
{
	struct netcontrol_text t = { answer, answer + len };
	struct netcounters c = { .n = 0 };

	if (!netcontrol_take(&t, NETCONTROL_OK))
		return -EPROTO;
	while (t.p < t.end)
		if (c.n == NETCOUNTERS_MAX || !netcounters_line(&t, &c.v[c.n++]))
			return -EPROTO;
	*out = c;
	return 0;
}

/* ---- members of a group -------------------------------------------------------------- */

static bool netgroup_letter(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
	       c == '-' || c == '_';
}

bool netgroup_name_valid(const char *name)
{
	size_t n = 0;

	for (; name[n]; n++)
		if (n + 1 >= NETGROUP_NAME_SIZE || !netgroup_letter(name[n]))
			return false;
	return n > 0;
}

void netmember_set_name(struct netmember *m, const char *name)
{
	size_t n = 0;

	for (; name[n] && n + 1 < sizeof(m->name); n++)
		m->name[n] = (char)(name[n] >= 'A' && name[n] <= 'Z' ? name[n] | 0x20 : name[n]);
	m->name[n] = '\0';
}

size_t netmember_format(const char *head, const struct netmember *m, char out[NETCONTROL_MEMBER_MAX])
{
	return (size_t)snprintf(out, NETCONTROL_MEMBER_MAX, "%s%u %s\n", head, m->number, m->name);
}

int netmember_parse(const char *head, const char *msg, size_t len, struct netmember *out,
		    struct err *e)
{
	struct netcontrol_text t = { msg, msg + len };
	struct netmember m = { .number = 0 };
	uint64_t number;
	size_t n = 0;

	if (!netcontrol_take(&t, head))
		return err_set(e, EINVAL, "the message does not start with '%.*s'",
			       (int)strlen(head) - 1, head);
	if (!netcontrol_number(&t, &number) || !number || number > NETGROUP_MEMBERS_MAX ||
	    !netcontrol_take(&t, " "))
		return err_set(e, EINVAL, "a member's number must be 1 to %u", NETGROUP_MEMBERS_MAX);
	while (t.p < t.end && netgroup_letter(*t.p) && !(*t.p >= 'A' && *t.p <= 'Z') &&
	       n + 1 < sizeof(m.name))
		m.name[n++] = *t.p++;
	if (!n || !netcontrol_take(&t, "\n") || t.p != t.end)
		return err_set(e, EINVAL,
			       "a member's name must be 1 to %u small letters, digits, - and _",
			       NETGROUP_NAME_SIZE - 1);
	m.number = (unsigned)number;
	*out = m;
	return 0;
}
