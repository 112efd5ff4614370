/* SPDX-License-Identifier: Apache-2.0 */
/* What crosses msb-net's control descriptor: an error, or what its own text says again. */
#include <assert.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "codec/netcontrol.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_counters(const char *text, size_t len)
{
	char again[NETCOUNTERS_MAX * (NETCOUNTER_NAME_MAX + 24)];
	struct netcounters c = { .n = 7 };
	const size_t head = sizeof(NETCONTROL_OK) - 1;
	int n;

	if (netcounters_parse(text, len, &c)) {
		assert(c.n == 7);
		return;
	}
	n = netcounters_format(&c, again, sizeof(again));
	assert(n >= 0 && (size_t)n == len - head && !memcmp(again, text + head, (size_t)n));
}

static void check_member(const char *head, const char *text, size_t len)
{
	char again[NETCONTROL_MEMBER_MAX];
	struct netmember m;
	struct err e = ERR_INIT;

	if (netmember_parse(head, text, len, &m, &e)) {
		assert(e.code);
		return;
	}
	assert(m.number && m.number <= NETGROUP_MEMBERS_MAX && netgroup_name_valid(m.name));
	assert(netmember_format(head, &m, again) == len && !memcmp(again, text, len));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	check_counters((const char *)data, size);
	check_member(NETCONTROL_MEMBER, (const char *)data, size);
	check_member(NETCONTROL_GROUP, (const char *)data, size);
	return 0;
}
