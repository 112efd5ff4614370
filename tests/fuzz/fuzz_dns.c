/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A DNS message of anybody: as a question, and as the answer to the question that it
 * holds itself.  The first byte chooses what is left out of an answer.
 */
#include <assert.h>
#include <errno.h>
#include <string.h>

#include "codec/dns_wire.h"
#include "codec/resolvconf.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint8_t room[DNS_MESSAGE_MAX];

static bool keep_address(void *ctx, const struct netaddr *a, uint32_t ttl)
{
	(void)ctx;
	assert(ttl <= INT32_MAX);
	return netaddr_kind(a) != NETADDR_PRIVATE;
}

static bool keep_alias(void *ctx, const char *name)
{
	(void)ctx;
	assert(strlen(name) <= DNS_NAME_MAX && !strpbrk(name, " \n\"\\"));
	return strcmp(name, "bad") != 0;
}

static void as_question(const uint8_t *msg, size_t len)
{
	uint8_t text[DNS_QUERY_MAX];
	struct dns_query q, again;
	int rc = dns_query_parse(msg, len, &q);
	size_t n;

	if (rc == -EBADMSG)
		return;
	n = dns_error_build(&q, DNS_FORMERR, true, true, text);
	assert(n <= DNS_QUERY_MAX);
	if (rc)
		return;
	n = dns_query_build(&q, q.id, text);
	assert(n <= DNS_QUERY_MAX);
	assert(dns_query_parse(text, n, &again) == 0);
	assert(!memcmp(&q, &again, sizeof(q)));
}

static void as_answer(const uint8_t *msg, size_t len, unsigned how)
{
	const struct dns_filter f = {
		.address = keep_address,
		.alias = keep_alias,
		.no_ipv6 = how & 1,
		.no_hints = how & 2,
	};
	struct dns_answer out = { .bytes = room };
	struct dns_query q = { .id = 7, .edns = how & 4, .udp_size = DNS_UDP_MIN };
	struct dns_name name;
	size_t at = DNS_HEADER;
	unsigned records, n;

	if (len < DNS_HEADER || !dns_name_read(msg, len, &at, &name) || len - at < 4)
		return;
	memcpy(q.wire, name.wire, name.len);
	q.wire_len = name.len;
	q.type = dns_get16(msg + at);
	q.class = dns_get16(msg + at + 2);
	if (dns_answer_read(msg, len, &q, dns_get16(msg), &f, &out))
		return;
	/* What comes out can be read to its last byte. */
	assert(out.len <= sizeof(room) && dns_get16(room) == 7);
	at = DNS_HEADER;
	assert(dns_name_read(room, out.len, &at, &name));
	at += 4;
	records = dns_get16(room + 6) + dns_get16(room + 8) + dns_get16(room + 10);
	for (n = 0; n < records; n++) {
		struct dns_record rec;

		assert(dns_record_read(room, out.len, &at, &rec));
		assert(rec.type != DNS_AAAA || !f.no_ipv6);
	}
	assert(at <= out.len);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct resolvconf r;

	if (!size)
		return 0;
	as_question(data + 1, size - 1);
	as_answer(data + 1, size - 1, data[0]);
	resolvconf_parse((const char *)data, size, &r);
	assert(r.n && r.n <= RESOLVCONF_SERVERS_MAX);
	return 0;
}
