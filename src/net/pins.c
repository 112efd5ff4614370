/* SPDX-License-Identifier: Apache-2.0 */
#include "net/pins.h"

#include <stdio.h>

static uint64_t pins_until(const struct pins *p, uint32_t ttl_s)
{
	uint64_t ms = (uint64_t)ttl_s * 1000;

	if (ms < PINS_TTL_MIN_MS)
		ms = PINS_TTL_MIN_MS;
	if (ms > PINS_TTL_MAX_MS)
		ms = PINS_TTL_MAX_MS;
	return p->now_ms + ms;
}

/* The same pair, a free place, or the place of the pair that ends first. */
static size_t pins_place(const struct pins *p, const struct netaddr *addr, const char *name)
{
	size_t first = 0;

	for (size_t i = 0; i < p->n; i++) {
		if (netaddr_equal(&p->addrs[i], addr) && !strcmp(p->names[i], name))
			return i;
		if (p->until_ms[i] < p->until_ms[first])
			first = i;
	}
	if (p->n && p->until_ms[first] <= p->now_ms)
		return first;
	return p->n < PINS_MAX ? p->n : first;
}

void pins_add(struct pins *p, const struct netaddr *addr, const char *name, uint32_t ttl_s)
{
	size_t i = pins_place(p, addr, name);
	uint64_t until = pins_until(p, ttl_s);

	/* A shorter answer does not take back what an earlier one promised. */
	if (i < p->n && netaddr_equal(&p->addrs[i], addr) && !strcmp(p->names[i], name) &&
	    p->until_ms[i] > until)
		return;
	if (i == p->n)
		p->n++;
	p->addrs[i] = *addr;
	p->until_ms[i] = until;
	snprintf(p->names[i], sizeof(p->names[i]), "%s", name);
}

const char *pins_next(const struct pins *p, const struct netaddr *addr, size_t *at)
{
	while (*at < p->n) {
		size_t i = (*at)++;

		if (netaddr_equal(&p->addrs[i], addr) && p->until_ms[i] > p->now_ms)
			return p->names[i];
	}
	return NULL;
}
