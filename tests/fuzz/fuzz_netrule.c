/* SPDX-License-Identifier: Apache-2.0 */
/* The text of a network policy: an error, or something whose canonical text says the same. */
#include <assert.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "codec/netrule.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_rule(const struct netrule *r)
{
	struct netaddr a;

	assert(r->n_ports <= NETRULE_RANGES_MAX && r->bits <= 128);
	for (unsigned i = 0; i < r->n_ports; i++)
		assert(r->ports[i].first && r->ports[i].first <= r->ports[i].last);
	if (r->target == NETRULE_NET)
		assert(netrule_matches_addr(r, &r->addr));
	if (r->target == NETRULE_NAME)
		assert(netrule_matches_name(r, r->name));
	/* No rule of the other family's, whatever its prefix is. */
	a = netaddr_is_v4(&r->addr) ? (struct netaddr){ { 0x20, 1 } } : netaddr_v4(0x01020304);
	assert(!netrule_matches_addr(r, &a));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct buf first = BUF_INIT, second = BUF_INIT;
	struct netpolicy p, q;
	struct err e = ERR_INIT;

	/* As a message of the supervisor, which is the same behind its head. */
	if (netpolicy_parse_message((const char *)data, size, &p, NULL) == 0)
		assert(netpolicy_parse((const char *)data + 9, size - 9, &q, NULL) == 0 &&
		       p.n_rules == q.n_rules);
	if (netpolicy_parse((const char *)data, size, &p, &e)) {
		assert(e.code && p.n_rules == 0);
		return 0;
	}
	for (unsigned i = 0; i < p.n_rules; i++)
		check_rule(&p.rules[i]);
	assert(netpolicy_format(&p, &first) == 0);
	assert(netpolicy_parse((const char *)buf_data(&first), buf_len(&first), &q, NULL) == 0);
	assert(netpolicy_format(&q, &second) == 0);
	assert(buf_len(&first) == buf_len(&second));
	assert(!buf_len(&first) || !memcmp(buf_data(&first), buf_data(&second), buf_len(&first)));
	buf_fini(&first);
	buf_fini(&second);
	return 0;
}
