/* SPDX-License-Identifier: Apache-2.0 */
#include "codec/publish.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"

#define PUBLISH_FORM "give HOST:GUEST, PORT or ADDRESS:HOST:GUEST, with /udp or ranges if wanted"

/* Ports from first to last. */
struct publish_range {
	unsigned first, last;
};

struct publish_part {
	const char *p;
	size_t len;
};

static int publish_bad(const char *text, const char *why, struct err *e)
{
	return err_set(e, EINVAL, "port '%.80s': %s", text, why);
}

static bool publish_number(const char **p, const char *end, unsigned *out)
{
	const char *s = *p;
	unsigned v = 0;

	for (; s < end && *s >= '0' && *s <= '9'; s++) {
		v = v * 10 + (unsigned)(*s - '0');
		if (v > 65535)
			return false;
	}
	if (s == *p)
		return false;
	*p = s;
	*out = v;
	return true;
}

/* "80", "8000-8010" */
static bool publish_read_range(struct publish_part part, struct publish_range *r)
{
	const char *p = part.p, *end = part.p + part.len;

	if (!publish_number(&p, end, &r->first))
		return false;
	r->last = r->first;
	if (p == end)
		return true;
	return *p++ == '-' && publish_number(&p, end, &r->last) && p == end && r->first &&
	       r->first <= r->last;
}

/* Addresses that no socket of one sandbox can be bound to. */
static bool publish_is_cast(const struct publish *p)
{
	return p->ipv6 ? p->addr[0] == 0xff : p->addr[0] >= 224;
}

static int publish_read_addr(struct publish_part part, const char *text, struct publish *p,
			     struct err *e)
{
	char copy[INET6_ADDRSTRLEN];

	p->ipv6 = part.len > 2 && part.p[0] == '[' && part.p[part.len - 1] == ']';
	if (p->ipv6) {
		part.p++;
		part.len -= 2;
	}
	if (part.len >= sizeof(copy))
		return publish_bad(text, "its address is too long", e);
	memcpy(copy, part.p, part.len);
	copy[part.len] = '\0';
	if (inet_pton(p->ipv6 ? AF_INET6 : AF_INET, copy, p->addr) != 1)
		return publish_bad(text,
				   "its address is neither IPv4 nor IPv6 in brackets; names "
				   "cannot be bound to",
				   e);
	if (publish_is_cast(p))
		return publish_bad(text, "its address is multicast or reserved", e);
	return 0;
}

/* Cuts /tcp or /udp off the end. */
static int publish_read_proto(struct publish_part *all, const char *text, struct publish *p,
			      struct err *e)
{
	const char *slash = memchr(all->p, '/', all->len);
	size_t n;

	if (!slash)
		return 0;
	n = all->len - (size_t)(slash + 1 - all->p);
	p->udp = n == 3 && !memcmp(slash + 1, "udp", 3);
	if (!p->udp && (n != 3 || memcmp(slash + 1, "tcp", 3)))
		return publish_bad(text, "behind / stands tcp or udp", e);
	all->len = (size_t)(slash - all->p);
	return 0;
}

/*
 * Cuts "ADDRESS:HOST:GUEST" at its colons.  @part: up to three, the last ones are used.
 * Return: how many; 0 = more than three.
 */
static size_t publish_split(struct publish_part all, struct publish_part part[3])
{
	const char *p = all.p, *end = all.p + all.len;
	size_t n = 0;

	while (n < 3) {
		const char *from = p, *colon;

		/* The colons of an IPv6 address are its own. */
		if (!n && p < end && *p == '[' && memchr(p, ']', all.len))
			from = memchr(p, ']', all.len);
		colon = memchr(from, ':', (size_t)(end - from));
		part[n++] = (struct publish_part){ p, (size_t)((colon ? colon : end) - p) };
		if (!colon)
			return n;
		p = colon + 1;
	}
	return 0;
}

static bool publish_there(const struct publish_list *l, const struct publish *p)
{
	for (size_t i = 0; p->host && i < l->n; i++)
		if (l->v[i].host == p->host && l->v[i].udp == p->udp && l->v[i].ipv6 == p->ipv6 &&
		    !memcmp(l->v[i].addr, p->addr, sizeof(p->addr)))
			return true;
	return false;
}

static int publish_expand(struct publish_list *l, const char *text, struct publish p,
			  struct publish_range host, struct publish_range guest, struct err *e)
{
	size_t n = guest.last - guest.first + 1, was = l->n;

	/* One 0 stands for as many chosen ports as the guest's side has. */
	if (host.first && host.last - host.first != guest.last - guest.first)
		return publish_bad(text, "its ranges are not of the same length", e);
	if (n > PUBLISH_MAX - l->n)
		return err_set(e, E2BIG, "port '%.80s': a sandbox publishes at most %u ports", text,
			       PUBLISH_MAX);
	for (unsigned i = 0; i < n; i++) {
		p.host = (uint16_t)(host.first ? host.first + i : 0);
		p.guest = (uint16_t)(guest.first + i);
		if (publish_there(l, &p)) {
			l->n = was;
			return publish_bad(text, "this port of the host is given twice", e);
		}
		l->v[l->n++] = p;
	}
	return 0;
}

int publish_add(struct publish_list *l, const char *text, struct err *e)
{
	struct publish p = { .addr = { 127, 0, 0, 1 } };
	struct publish_part all = { text, strlen(text) }, part[3];
	struct publish_range host, guest;
	size_t n;
	int rc;

	if ((rc = publish_read_proto(&all, text, &p, e)))
		return rc;
	n = publish_split(all, part);
	if (!n)
		return publish_bad(text,
				   "too many colons: IPv6 stands in brackets, as in "
				   "[::1]:8000:80",
				   e);
	if (n == 3) {
		memset(p.addr, 0, sizeof(p.addr));
		if ((rc = publish_read_addr(part[0], text, &p, e)))
			return rc;
	}
	if (!publish_read_range(part[n - 1], &guest) ||
	    !publish_read_range(part[n > 1 ? n - 2 : 0], &host))
		return publish_bad(text, PUBLISH_FORM, e);
	if (!guest.first)
		return publish_bad(text, "the sandbox's port cannot be 0", e);
	return publish_expand(l, text, p, host, guest, e);
}

void publish_format_addr(const struct publish *p, char text[PUBLISH_TEXT_MAX])
{
	char addr[INET6_ADDRSTRLEN];

	inet_ntop(p->ipv6 ? AF_INET6 : AF_INET, p->addr, addr, sizeof(addr));
	snprintf(text, PUBLISH_TEXT_MAX, p->ipv6 ? "[%s]" : "%s", addr);
}

void publish_format(const struct publish *p, char text[PUBLISH_TEXT_MAX])
{
	size_t n;

	publish_format_addr(p, text);
	n = strlen(text);
	snprintf(text + n, PUBLISH_TEXT_MAX - n, ":%u:%u/%s", p->host, p->guest,
		 p->udp ? "udp" : "tcp");
}

bool publish_is_local(const struct publish *p)
{
	static const uint8_t ipv6_loopback[16] = { [15] = 1 };

	return p->ipv6 ? !memcmp(p->addr, ipv6_loopback, 16) : p->addr[0] == 127;
}
