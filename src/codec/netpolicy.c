/* SPDX-License-Identifier: Apache-2.0 */
/* A policy: rules and defaults, a line each. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "codec/netrule.h"

#define NETPOLICY_WORDS_MAX 4u

static const char *const netpolicy_dirs[] = { [NETRULE_OUT] = "out", [NETRULE_IN] = "in" };
static const char *const netpolicy_actions[] = {
	[NETPOLICY_SCOPE] = NULL,
	[NETPOLICY_ALLOW] = "allow",
	[NETPOLICY_DENY] = "deny",
};

static const char *const netpolicy_limits[NETLIMITS] = {
	[NETLIMIT_OUT_BYTES] = "out-bytes",     [NETLIMIT_IN_BYTES] = "in-bytes",
	[NETLIMIT_OUT_PACKETS] = "out-packets", [NETLIMIT_IN_PACKETS] = "in-packets",
	[NETLIMIT_CONNECTS] = "connects",       [NETLIMIT_CONNECTIONS] = "connections",
};

static bool netpolicy_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\r';
}

/* @line, of at most a few words. Return: how many, NETPOLICY_WORDS_MAX + 1 = more. */
static unsigned netpolicy_split(char *line, char *words[NETPOLICY_WORDS_MAX])
{
	unsigned n = 0;
	char *save;

	for (char *w = strtok_r(line, " \t\r", &save); w; w = strtok_r(NULL, " \t\r", &save)) {
		if (n == NETPOLICY_WORDS_MAX)
			return n + 1;
		words[n++] = w;
	}
	return n;
}

static int netpolicy_add_default(struct netpolicy *p, char *const *words, unsigned n, struct err *e)
{
	const char *dir = n == 2 ? words[0] : netpolicy_dirs[NETRULE_OUT];
	const char *action = n == 1 || n == 2 ? words[n - 1] : "";
	enum netpolicy_default *to = strcmp(dir, netpolicy_dirs[NETRULE_IN]) ? &p->out : &p->in;

	if ((to == &p->out && strcmp(dir, netpolicy_dirs[NETRULE_OUT])) ||
	    (strcmp(action, "allow") && strcmp(action, "deny")))
		return err_set(e, EINVAL,
			       "a default is allow or deny, with in or out before it if need be");
	if (*to != NETPOLICY_SCOPE)
		return err_set(e, EINVAL, "the default for what goes %s is given twice",
			       to == &p->in ? "in" : "out");
	*to = strcmp(action, "allow") ? NETPOLICY_DENY : NETPOLICY_ALLOW;
	return 0;
}

/* "250", "64K", "10M", "1G": powers of 1000. */
static bool netpolicy_number(const char *s, uint64_t *out)
{
	static const char units[] = "KMG";
	uint64_t v = 0;
	const char *unit;

	if (*s < '0' || *s > '9')
		return false;
	for (; *s >= '0' && *s <= '9'; s++) {
		v = v * 10 + (uint64_t)(*s - '0');
		if (v > NETLIMIT_MAX)
			return false;
	}
	unit = *s ? strchr(units, *s & ~0x20) : NULL;
	if (*s && (!unit || s[1]))
		return false;
	for (; unit && unit >= units; unit--)
		v *= 1000;
	*out = v;
	return v && v <= NETLIMIT_MAX;
}

static int netpolicy_add_limit(struct netpolicy *p, char *const *words, unsigned n, struct err *e)
{
	for (unsigned i = 0; n == 2 && i < NETLIMITS; i++) {
		if (strcmp(words[0], netpolicy_limits[i]))
			continue;
		if (p->limits[i])
			return err_set(e, EINVAL, "the limit %s is given twice", words[0]);
		if (!netpolicy_number(words[1], &p->limits[i])) {
			p->limits[i] = 0;
			return err_set(e, EINVAL,
				       "the limit %s is '%.40s': give a number from 1 on, as in "
				       "500, 64K, 10M, 1G",
				       words[0], words[1]);
		}
		return 0;
	}
	return err_set(e, EINVAL,
		       "a limit is out-bytes, in-bytes, out-packets, in-packets, connects or "
		       "connections, and a number");
}

/* A line that starts with a word and is no rule: what is behind the word, and how much. */
static int netpolicy_add_words(struct netpolicy *p, const char *line, size_t len, bool limit,
			       struct err *e)
{
	char copy[NETRULE_TEXT_MAX], *words[NETPOLICY_WORDS_MAX] = { NULL };
	unsigned n;

	if (len >= sizeof(copy) || memchr(line, '\0', len))
		return err_set(e, EINVAL, "the line is longer than a line may be");
	memcpy(copy, line, len);
	copy[len] = '\0';
	n = netpolicy_split(copy, words);
	return limit ? netpolicy_add_limit(p, words, n, e) : netpolicy_add_default(p, words, n, e);
}

int netpolicy_add(struct netpolicy *p, const char *line, size_t len, struct err *e)
{
	int rc;

	while (len && netpolicy_blank(line[len - 1]))
		len--;
	while (len && netpolicy_blank(*line))
		line++, len--;
	if (!len)
		return 0;
	if (len > 7 && !memcmp(line, "default", 7) && netpolicy_blank(line[7]))
		return netpolicy_add_words(p, line + 8, len - 8, false, e);
	if (len > 5 && !memcmp(line, "limit", 5) && netpolicy_blank(line[5]))
		return netpolicy_add_words(p, line + 6, len - 6, true, e);
	if (p->n_rules == NETPOLICY_RULES_MAX)
		return err_set(e, E2BIG, "more than %u rules", NETPOLICY_RULES_MAX);
	rc = netrule_parse(line, len, &p->rules[p->n_rules], e);
	if (rc == 0)
		p->n_rules++;
	return rc;
}

int netpolicy_parse(const char *text, size_t len, struct netpolicy *out, struct err *e)
{
	unsigned line = 1;
	int rc;

	if (len > NETPOLICY_TEXT_MAX)
		return err_set(e, E2BIG, "the policy is longer than %u bytes", NETPOLICY_TEXT_MAX);
	*out = (struct netpolicy){ .n_rules = 0 };
	for (; len; line++) {
		size_t n = 0;

		while (n < len && text[n] != '\n' && text[n] != ';')
			n++;
		rc = netpolicy_add(out, text, n, e);
		if (rc) {
			*out = (struct netpolicy){ .n_rules = 0 };
			return err_wrap(e, "line %u", line), rc;
		}
		n += n < len;
		text += n;
		len -= n;
	}
	return 0;
}

static int netpolicy_append(struct buf *out, const char *text)
{
	int rc = buf_append(out, text, strlen(text));

	return rc ? rc : buf_append(out, "\n", 1);
}

int netpolicy_format(const struct netpolicy *p, struct buf *out)
{
	const enum netpolicy_default defaults[] = { [NETRULE_OUT] = p->out, [NETRULE_IN] = p->in };
	char text[NETRULE_TEXT_MAX];
	int rc = 0;

	for (unsigned d = 0; d < 2 && !rc; d++) {
		if (defaults[d] == NETPOLICY_SCOPE)
			continue;
		snprintf(text, sizeof(text), "default %s %s", netpolicy_dirs[d],
			 netpolicy_actions[defaults[d]]);
		rc = netpolicy_append(out, text);
	}
	for (unsigned i = 0; i < NETLIMITS && !rc; i++) {
		if (!p->limits[i])
			continue;
		snprintf(text, sizeof(text), "limit %s %llu", netpolicy_limits[i],
			 (unsigned long long)p->limits[i]);
		rc = netpolicy_append(out, text);
	}
	for (unsigned i = 0; i < p->n_rules && !rc; i++)
		rc = netpolicy_append(out, netrule_format(&p->rules[i], text));
	return rc;
}

bool netpolicy_opens(const struct netpolicy *p, enum netrule_dir dir)
{
	if (dir == NETRULE_OUT && p->out == NETPOLICY_ALLOW)
		return true;
	for (unsigned i = 0; i < p->n_rules; i++)
		if (p->rules[i].allow && p->rules[i].dir == dir)
			return true;
	return false;
}

bool netpolicy_opens_outside(const struct netpolicy *p)
{
	if (p->out == NETPOLICY_ALLOW)
		return true;
	for (unsigned i = 0; i < p->n_rules; i++) {
		const struct netrule *r = &p->rules[i];

		if (r->allow && r->dir == NETRULE_OUT &&
		    !(r->target == NETRULE_GROUP && r->group == NETRULE_GROUP_MEMBERS))
			return true;
	}
	return false;
}

bool netpolicy_has_names(const struct netpolicy *p)
{
	for (unsigned i = 0; i < p->n_rules; i++)
		if (p->rules[i].dir == NETRULE_OUT &&
		    (p->rules[i].target == NETRULE_NAME || p->rules[i].target == NETRULE_SUFFIX))
			return true;
	return false;
}

bool netpolicy_opens_loopback(const struct netpolicy *p)
{
	if (p->out == NETPOLICY_ALLOW)
		return true;
	for (unsigned i = 0; i < p->n_rules; i++) {
		const struct netrule *r = &p->rules[i];

		if (!r->allow || r->dir != NETRULE_OUT)
			continue;
		/* Names never lead there, ranges do not count, a single address may be it. */
		if (r->target == NETRULE_NET
			    ? r->bits == 128
			    : r->target == NETRULE_GROUP && (r->group == NETRULE_GROUP_ANY ||
							     r->group == NETRULE_GROUP_HOST ||
							     r->group == NETRULE_GROUP_LOOPBACK))
			return true;
	}
	return false;
}

bool netpolicy_opens_metadata(const struct netpolicy *p)
{
	for (unsigned i = 0; i < p->n_rules; i++) {
		const struct netrule *r = &p->rules[i];

		if (!r->allow || r->dir != NETRULE_OUT)
			continue;
		if (r->target == NETRULE_NET
			    ? r->bits == 128 && netaddr_kind(&r->addr) == NETADDR_METADATA
			    : r->target == NETRULE_GROUP && r->group == NETRULE_GROUP_METADATA)
			return true;
	}
	return false;
}

int netpolicy_parse_message(const char *msg, size_t len, struct netpolicy *out, struct err *e)
{
	const size_t head = sizeof(NETPOLICY_MESSAGE) - 1;

	if (len < head || memcmp(msg, NETPOLICY_MESSAGE, head))
		return err_set(e, EINVAL, "the message does not start with 'policy 1'");
	return netpolicy_parse(msg + head, len - head, out, e);
}
