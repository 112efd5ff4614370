/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_NET_PINS_H
#define MSB_NET_PINS_H

/*
 * Which addresses a name stands for, as this sandbox was told by DNS answers of ours.
 * Rules with names open what is pinned and nothing else.
 */

#include "codec/netrule.h"

#define PINS_MAX 1024u /* pairs of name and address */
#define PINS_TTL_MIN_MS 30000u /* programs keep an answer a little longer than its TTL */
#define PINS_TTL_MAX_MS 86400000u

struct pins {
	uint64_t now_ms; /* kept up to date by the owner; any clock that does not jump */
	size_t n;
	struct netaddr addrs[PINS_MAX];
	uint64_t until_ms[PINS_MAX];
	char names[PINS_MAX][NETRULE_NAME_MAX + 1];
};

/*
 * @name: lower case, without the last dot, at most NETRULE_NAME_MAX bytes.  Where there is no
 * room left the pair that ends first gives way.
 */
void pins_add(struct pins *p, const struct netaddr *addr, const char *name, uint32_t ttl_s);

/*
 * The next name of @addr at or behind *@at, which moves on; NULL = no more.  What has
 * expired is not found.
 */
const char *pins_next(const struct pins *p, const struct netaddr *addr, size_t *at);

#endif
