/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_NET_HOSTADDR_H
#define MSB_NET_HOSTADDR_H

/* The host's own addresses, kept up to date in a policy. */

#include <stdbool.h>

#include "base/err.h"
#include "net/policy.h"

struct hostaddr {
	int fd; /* netlink socket, owned: readable when addresses changed */
	uint32_t seq; /* of the list that is being read */
	bool listing, again; /* a list is under way; it is out of date already */
	struct netaddr addrs[NET_HOST_ADDRS_MAX];
	size_t n;
	bool incomplete;
};

/* Subscribes to changes and fills @p for the first time. */
int hostaddr_init(struct hostaddr *h, struct net_policy *p, struct err *e);
void hostaddr_fini(struct hostaddr *h);

/* To be called when fd is readable. Return: 1 = @p has a new list, 0, or an error. */
int hostaddr_update(struct hostaddr *h, struct net_policy *p, struct err *e);

#endif
