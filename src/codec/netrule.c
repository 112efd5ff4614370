/* SPDX-License-Identifier: Apache-2.0 */
#include "codec/netrule.h"

#include <errno.h>
#include <stdio.h>
#include <strings.h>

#include "base/mem.h"

static const char *const netrule_protos[] = { "any", "tcp", "udp", "icmp" };
static const char *const netrule_groups[] = {
	"any", "public", "private", "loopback", "link-local", "metadata", "host", "group",
};

struct netrule_text {
	const char *p;
	size_t len;
};

/* How much of somebody's text a message repeats. */
static int netrule_cut(size_t len)
{
	return len < 60 ? (int)len : 60;
}

static bool netrule_is(const struct netrule_text *t, const char *word)
{
	return t->len == strlen(word) && !strncasecmp(t->p, word, t->len);
}

/* The next word of @rest, empty at its end. */
static struct netrule_text netrule_word(struct netrule_text *rest)
{
	struct netrule_text w;

	while (rest->len && (*rest->p == ' ' || *rest->p == '\t'))
		rest->p++, rest->len--;
	w.p = rest->p;
	while (rest->len && *rest->p != ' ' && *rest->p != '\t')
		rest->p++, rest->len--;
	w.len = (size_t)(rest->p - w.p);
	return w;
}

static int netrule_find(const struct netrule_text *t, const char *const *set, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (netrule_is(t, set[i]))
			return (int)i;
	return -1;
}

/* Decimal digits and nothing else, at most @max. */
static bool netrule_number(const char *p, size_t len, unsigned max, unsigned *out)
{
	unsigned v = 0;

	if (!len || len > 5)
		return false;
	for (; len; p++, len--) {
		if (*p < '0' || *p > '9')
			return false;
		v = v * 10 + (unsigned)(*p - '0');
	}
	*out = v;
	return v <= max;
}

/* ---- ports --------------------------------------------------------------- */

static bool netrule_range(const char *p, size_t len, struct netrule_range *out)
{
	const char *dash = memchr(p, '-', len);
	size_t head = dash ? (size_t)(dash - p) : len;
	unsigned first, last;

	if (!netrule_number(p, head, 65535, &first) || !first)
		return false;
	last = first;
	if (dash && (!netrule_number(dash + 1, len - head - 1, 65535, &last) || last < first))
		return false;
	*out = (struct netrule_range){ (uint16_t)first, (uint16_t)last };
	return true;
}

static int netrule_parse_ports(struct netrule *r, const char *p, size_t len, struct err *e)
{
	if (r->proto == NETRULE_ICMP)
		return err_set(e, EINVAL, "icmp has no ports");
	for (;;) {
		const char *comma = memchr(p, ',', len);
		size_t part = comma ? (size_t)(comma - p) : len;

		if (r->n_ports == NETRULE_RANGES_MAX)
			return err_set(e, EINVAL, "more than %u ranges of ports",
				       NETRULE_RANGES_MAX);
		if (!netrule_range(p, part, &r->ports[r->n_ports++]))
			return err_set(e, EINVAL,
				       "'%.*s' are no ports: give numbers from 1 to 65535, as in "
				       "80,8000-8999",
				       netrule_cut(part), p);
		if (!comma)
			return 0;
		p = comma + 1;
		len -= part + 1;
	}
}

/* ---- targets ------------------------------------------------------------- */

static bool netrule_label_ok(const char *p, size_t len)
{
	if (!len || len > 63 || p[0] == '-' || p[len - 1] == '-')
		return false;
	for (size_t i = 0; i < len; i++)
		if (!(p[i] >= 'a' && p[i] <= 'z') && !(p[i] >= '0' && p[i] <= '9') && p[i] != '-' &&
		    p[i] != '_')
			return false;
	return true;
}

/* Is the last label a number, as of an address that somebody misspelt? */
static bool netrule_ends_in_number(const char *name)
{
	const char *dot = strrchr(name, '.'), *p = dot ? dot + 1 : name;

	return strspn(p, "0123456789") == strlen(p);
}

static int netrule_parse_name(struct netrule *r, const char *p, size_t len, struct err *e)
{
	bool rooted = len && p[len - 1] == '.', labels_ok = true;
	const char *at, *dot;

	r->target = NETRULE_NAME;
	if (len > 2 && p[0] == '*' && p[1] == '.') {
		r->target = NETRULE_SUFFIX;
		p += 2;
		len -= 2;
	}
	len -= rooted;
	if (!len || len > NETRULE_NAME_MAX)
		return err_set(e, EINVAL, "the name is empty or longer than %u bytes",
			       NETRULE_NAME_MAX);
	for (size_t i = 0; i < len; i++)
		r->name[i] = (char)(p[i] >= 'A' && p[i] <= 'Z' ? p[i] | 0x20 : p[i]);
	r->name[len] = '\0';
	for (at = r->name; labels_ok && (dot = strchr(at, '.')); at = dot + 1)
		labels_ok = netrule_label_ok(at, (size_t)(dot - at));
	/* A NUL inside would end the name early: its length tells. */
	if (!labels_ok || !netrule_label_ok(at, strlen(at)) || strlen(r->name) != len ||
	    netrule_ends_in_number(r->name))
		return err_set(e, EINVAL,
			       "'%.60s' is no address, name or group (names in other scripts are "
			       "written as xn--...)",
			       r->name);
	if (r->target == NETRULE_NAME && !rooted && !strchr(r->name, '.'))
		return err_set(
			e, EINVAL,
			"'%.60s' is no group (any, public, private, loopback, link-local, "
			"metadata, host, group); a name of one label is written with a dot: %.60s.",
			r->name, r->name);
	return 0;
}

/* @p: an address, perhaps with "/bits". Return: -ENOENT if it is none. */
static int netrule_parse_net(struct netrule *r, const char *p, size_t len, struct err *e)
{
	const char *slash = memchr(p, '/', len);
	size_t head = slash ? (size_t)(slash - p) : len;
	char text[NETADDR_TEXT], want[NETADDR_TEXT];
	unsigned bits = 128, most;
	struct netaddr net;

	if (!head || head >= sizeof(text) || memchr(p, '\0', head))
		return -ENOENT;
	memcpy(text, p, head);
	text[head] = '\0';
	if (netaddr_parse(text, &r->addr))
		return slash ? err_set(e, EINVAL, "'%s' is no address", text) : -ENOENT;
	most = netaddr_is_v4(&r->addr) ? 32 : 128;
	if (slash) {
		if (!netrule_number(slash + 1, len - head - 1, most, &bits))
			return err_set(e, EINVAL, "the number behind '%s/' must be 0 to %u", text,
				       most);
		bits += 128 - most;
	}
	net = r->addr;
	for (unsigned i = bits; i < 128; i++)
		net.b[i / 8] &= (uint8_t) ~(0x80u >> i % 8);
	if (!netaddr_equal(&net, &r->addr))
		return err_set(e, EINVAL, "%s/%u has bits behind its prefix: write %s/%u", text,
			       bits - (128 - most), netaddr_format(&net, want),
			       bits - (128 - most));
	r->target = NETRULE_NET;
	r->bits = bits;
	return 0;
}

/* What can never be reached may not be promised. */
static int netrule_check_net(const struct netrule *r, struct err *e)
{
	char text[NETADDR_TEXT];

	if (!r->allow || r->dir == NETRULE_IN || r->bits < 128)
		return 0;
	switch (netaddr_kind(&r->addr)) {
	case NETADDR_LOOPBACK:
		return err_set(e, EINVAL,
			       "%s is the sandbox itself: the host's is the group loopback",
			       netaddr_format(&r->addr, text));
	case NETADDR_NOWHERE:
	case NETADDR_CAST:
		return err_set(e, EINVAL, "%s can never be reached", netaddr_format(&r->addr, text));
	default:
		return 0;
	}
}

static int netrule_parse_host(struct netrule *r, const struct netrule_text *t, struct err *e)
{
	int group = netrule_find(t, netrule_groups, ARRAY_SIZE(netrule_groups)), rc;

	if (group >= 0) {
		r->target = NETRULE_GROUP;
		r->group = (enum netrule_group)group;
		return 0;
	}
	rc = netrule_parse_net(r, t->p, t->len, e);
	if (rc == 0)
		return netrule_check_net(r, e);
	if (rc != -ENOENT)
		return rc;
	rc = netrule_parse_name(r, t->p, t->len, e);
	if (!rc && r->dir == NETRULE_IN && (r->target != NETRULE_NAME || strchr(r->name, '.')))
		return err_set(
			e, EINVAL,
			"'%.*s': a rule for what comes in takes addresses, groups and members "
			"of the sandbox's group (db.), since nothing vouches for a name",
			netrule_cut(t->len), t->p);
	return rc;
}

/* TARGET[:PORTS]; a colon may also be part of an address. */
static int netrule_parse_target(struct netrule *r, struct netrule_text t, struct err *e)
{
	const char *colon = NULL, *close;
	size_t n = 0;
	int rc;

	if (t.len && t.p[0] == '[') {
		close = memchr(t.p, ']', t.len);
		if (!close)
			return err_set(e, EINVAL, "']' is missing");
		n = (size_t)(close - t.p) + 1;
		if (n < t.len && t.p[n] != ':')
			return err_set(e, EINVAL, "behind ']' comes ':' and ports");
		colon = n < t.len ? t.p + n : NULL;
		struct netrule_text inside = { t.p + 1, n - 2 };
		if (!memchr(inside.p, ':', inside.len))
			return err_set(e, EINVAL, "brackets are for IPv6 addresses");
		rc = netrule_parse_host(r, &inside, e);
	} else {
		for (size_t i = 0; i < t.len; i++)
			if (t.p[i] == ':') {
				colon = t.p + i;
				n++;
			}
		if (n > 1) /* an IPv6 address by itself */
			colon = NULL;
		struct netrule_text host = { t.p, colon ? (size_t)(colon - t.p) : t.len };
		rc = netrule_parse_host(r, &host, e);
	}
	if (rc || !colon)
		return rc;
	return netrule_parse_ports(r, colon + 1, t.len - (size_t)(colon + 1 - t.p), e);
}

int netrule_parse(const char *text, size_t len, struct netrule *out, struct err *e)
{
	static const char *const dirs[] = { "out", "in" };
	struct netrule_text rest = { text, len }, word, next;
	bool dir_given = false, proto_given = false;
	struct netrule r = { .allow = false };
	int i;

	if (len >= NETRULE_TEXT_MAX)
		return err_set(e, EINVAL, "the rule is longer than %u bytes", NETRULE_TEXT_MAX - 1);
	word = netrule_word(&rest);
	r.allow = netrule_is(&word, "allow");
	if (!r.allow && !netrule_is(&word, "deny"))
		return err_set(e, EINVAL, "'%.*s': a rule starts with allow or deny",
			       netrule_cut(word.len), word.p);
	word = netrule_word(&rest);
	/* The last word is the target; what comes before it is optional. */
	for (next = netrule_word(&rest); next.len; word = next, next = netrule_word(&rest)) {
		i = netrule_find(&word, dirs, ARRAY_SIZE(dirs));
		if (i >= 0 && !dir_given) {
			r.dir = (enum netrule_dir)i;
			dir_given = true;
			continue;
		}
		i = netrule_find(&word, netrule_protos, ARRAY_SIZE(netrule_protos));
		if (i < 0 || proto_given)
			return err_set(e, EINVAL, "'%.*s' is not in, out, tcp, udp, icmp or any",
				       netrule_cut(word.len), word.p);
		r.proto = (enum netrule_proto)i;
		proto_given = true;
	}
	if (!word.len)
		return err_set(e, EINVAL, "the rule has no target");
	i = netrule_parse_target(&r, word, e);
	if (i == 0)
		*out = r;
	return i;
}

char *netrule_format(const struct netrule *r, char text[NETRULE_TEXT_MAX])
{
	char addr[NETADDR_TEXT];
	bool v4 = netaddr_is_v4(&r->addr), brackets;
	size_t n;

	n = (size_t)snprintf(text, NETRULE_TEXT_MAX, "%s %s%s%s", r->allow ? "allow" : "deny",
			     r->dir == NETRULE_IN ? "in " : "",
			     r->proto != NETRULE_ANY ? netrule_protos[r->proto] : "",
			     r->proto != NETRULE_ANY ? " " : "");
	switch (r->target) {
	case NETRULE_GROUP:
		n += (size_t)snprintf(text + n, NETRULE_TEXT_MAX - n, "%s",
				      netrule_groups[r->group]);
		break;
	case NETRULE_NAME:
	case NETRULE_SUFFIX:
		n += (size_t)snprintf(text + n, NETRULE_TEXT_MAX - n, "%s%s%s",
				      r->target == NETRULE_SUFFIX ? "*." : "", r->name,
				      r->target == NETRULE_SUFFIX || strchr(r->name, '.') ? ""
											  : ".");
		break;
	case NETRULE_NET:
		brackets = !v4 && r->n_ports;
		n += (size_t)snprintf(text + n, NETRULE_TEXT_MAX - n, "%s%s", brackets ? "[" : "",
				      netaddr_format(&r->addr, addr));
		if (r->bits < 128)
			n += (size_t)snprintf(text + n, NETRULE_TEXT_MAX - n, "/%u",
					      v4 ? r->bits - 96 : r->bits);
		n += (size_t)snprintf(text + n, NETRULE_TEXT_MAX - n, "%s", brackets ? "]" : "");
		break;
	}
	for (unsigned i = 0; i < r->n_ports; i++) {
		n += (size_t)snprintf(text + n, NETRULE_TEXT_MAX - n, "%c%u", i ? ',' : ':',
				      r->ports[i].first);
		if (r->ports[i].last != r->ports[i].first)
			n += (size_t)snprintf(text + n, NETRULE_TEXT_MAX - n, "-%u",
					      r->ports[i].last);
	}
	return text;
}

/* ---- what a rule matches --------------------------------------------------- */

bool netrule_matches_name(const struct netrule *r, const char *name)
{
	size_t have = strlen(name), want = strlen(r->name);

	if (r->target == NETRULE_NAME)
		return !strcmp(name, r->name);
	return r->target == NETRULE_SUFFIX && have > want + 1 && name[have - want - 1] == '.' &&
	       !strcmp(name + have - want, r->name);
}

bool netrule_matches_port(const struct netrule *r, enum netrule_proto proto, uint16_t port)
{
	if (r->proto != NETRULE_ANY && r->proto != proto)
		return false;
	for (unsigned i = 0; i < r->n_ports; i++)
		if (port >= r->ports[i].first && port <= r->ports[i].last)
			return true;
	return !r->n_ports;
}

bool netrule_matches_addr(const struct netrule *r, const struct netaddr *a)
{
	/* ::/0 is all of IPv6, and IPv4 is held as a part of that. */
	return r->target == NETRULE_NET && netaddr_is_v4(a) == netaddr_is_v4(&r->addr) &&
	       netaddr_in(a, &r->addr, r->bits);
}
