/* SPDX-License-Identifier: Apache-2.0 */
/* Names and questions; answers are in dns_answer.c. */
#include <errno.h>

#include "codec/dns_wire.h"

#define DNS_CLASS_IN 1

/* A byte of a name that can be written down and logged without an escape. */
static bool dns_byte_ok(uint8_t c)
{
	return c > ' ' && c < 0x7f && c != '.' && c != '\\' && c != '"';
}

static uint8_t dns_lower(uint8_t c)
{
	return c >= 'A' && c <= 'Z' ? c | 0x20 : c;
}

bool dns_name_equal(const struct dns_name *a, const uint8_t *b, size_t len)
{
	if (a->len != len)
		return false;
	for (size_t i = 0; i < len; i++)
		if (dns_lower(a->wire[i]) != dns_lower(b[i]))
			return false;
	return true;
}

bool dns_name_text(const struct dns_name *n, char text[DNS_NAME_MAX + 1])
{
	size_t at = 0, to = 0;

	while (n->wire[at]) {
		size_t label = n->wire[at++];

		if (to)
			text[to++] = '.';
		for (; label; label--, at++) {
			if (!dns_byte_ok(n->wire[at]))
				return false;
			text[to++] = (char)dns_lower(n->wire[at]);
		}
	}
	text[to] = '\0';
	return true;
}

bool dns_name_read(const uint8_t *msg, size_t len, size_t *at, struct dns_name *out)
{
	size_t pos = *at, lowest = *at, n = 0;
	bool jumped = false;

	for (;;) {
		unsigned c;

		if (pos >= len)
			return false;
		c = msg[pos];
		if (c >= 0xc0) {
			size_t to;

			if (len - pos < 2)
				return false;
			to = (size_t)(c & 0x3f) << 8 | msg[pos + 1];
			/* Always further back, so that it ends. */
			if (to >= lowest)
				return false;
			if (!jumped)
				*at = pos + 2;
			jumped = true;
			pos = lowest = to;
			continue;
		}
		if (c > 63 || len - pos < c + 1 || n + c + 1 > DNS_WIRE_MAX - (c ? 1 : 0))
			return false;
		memcpy(out->wire + n, msg + pos, c + 1);
		n += c + 1;
		pos += c + 1;
		if (!c)
			break;
	}
	if (!jumped)
		*at = pos;
	out->len = n;
	return true;
}

bool dns_record_read(const uint8_t *msg, size_t len, size_t *at, struct dns_record *out)
{
	const uint8_t *p;

	if (!dns_name_read(msg, len, at, &out->owner) || len - *at < 10)
		return false;
	p = msg + *at;
	out->type = dns_get16(p);
	out->class = dns_get16(p + 2);
	out->ttl = (uint32_t)dns_get16(p + 4) << 16 | dns_get16(p + 6);
	/* RFC 2181 §8: a TTL with the highest bit is none. */
	if (out->ttl >> 31)
		out->ttl = 0;
	out->data_len = dns_get16(p + 8);
	out->data = *at + 10;
	if (len - out->data < out->data_len)
		return false;
	*at = out->data + out->data_len;
	return true;
}

/* The OPT record among the additional ones, RFC 6891 §6.1. */
static int dns_query_edns(const uint8_t *msg, size_t len, size_t at, struct dns_query *q)
{
	unsigned n = dns_get16(msg + 10);
	struct dns_record r;

	if (n > 4)
		return -EINVAL;
	for (; n; n--) {
		if (!dns_record_read(msg, len, &at, &r))
			return -EINVAL;
		if (r.type != DNS_OPT)
			continue;
		if (q->edns || r.owner.len != 1)
			return -EINVAL;
		q->edns = true;
		q->dnssec_ok = r.ttl >> 15 & 1;
		if (r.class > q->udp_size)
			q->udp_size = r.class;
	}
	return 0;
}

int dns_query_parse(const uint8_t *msg, size_t len, struct dns_query *q)
{
	struct dns_name name;
	size_t at = DNS_HEADER;

	memset(q, 0, sizeof(*q));
	q->udp_size = DNS_UDP_MIN;
	q->wire_len = 1;
	if (len < DNS_HEADER || len > DNS_MESSAGE_MAX || msg[2] & 0x80)
		return -EBADMSG;
	q->id = dns_get16(msg);
	q->rd = msg[2] & 1;
	q->ad = msg[3] >> 5 & 1;
	q->cd = msg[3] >> 4 & 1;
	if (msg[2] & 0x78)
		return -EOPNOTSUPP;
	if (dns_get16(msg + 4) != 1 || dns_get16(msg + 6) || dns_get16(msg + 8) ||
	    !dns_name_read(msg, len, &at, &name) || len - at < 4)
		return -EINVAL;
	q->type = dns_get16(msg + at);
	q->class = dns_get16(msg + at + 2);
	memcpy(q->wire, name.wire, name.len);
	q->wire_len = name.len;
	if (!dns_name_text(&name, q->name)) {
		q->name[0] = '\0';
		return -EINVAL;
	}
	if (dns_query_edns(msg, len, at + 4, q))
		return -EINVAL;
	/* Zone transfers and "everything there is" are for servers among themselves. */
	if (q->class != DNS_CLASS_IN || (q->type >= DNS_IXFR && q->type <= DNS_ANY) ||
	    q->type == DNS_OPT || !q->type)
		return -EOPNOTSUPP;
	return 0;
}

size_t dns_put_question(const struct dns_query *q, uint8_t *out)
{
	memcpy(out, q->wire, q->wire_len);
	dns_put16(out + q->wire_len, q->type);
	dns_put16(out + q->wire_len + 2, q->class);
	return q->wire_len + 4;
}

/* @options: bytes behind it that belong to it. */
size_t dns_put_opt(const struct dns_query *q, size_t options, uint8_t *out)
{
	memset(out, 0, DNS_OPT_LEN);
	dns_put16(out + 1, DNS_OPT);
	dns_put16(out + 3, q->udp_size);
	if (q->dnssec_ok)
		out[7] = 0x80;
	dns_put16(out + 9, (unsigned)options);
	return DNS_OPT_LEN;
}

size_t dns_query_build(const struct dns_query *q, uint16_t id, uint8_t out[DNS_QUERY_MAX])
{
	size_t n = DNS_HEADER;

	memset(out, 0, DNS_HEADER);
	dns_put16(out, id);
	out[2] = q->rd;
	out[3] = (uint8_t)(q->ad << 5 | q->cd << 4);
	dns_put16(out + 4, 1);
	n += dns_put_question(q, out + n);
	if (q->edns) {
		dns_put16(out + 10, 1);
		n += dns_put_opt(q, 0, out + n);
	}
	return n;
}

void dns_put_header(const struct dns_query *q, enum dns_rcode rcode, bool truncated, uint8_t *out)
{
	memset(out, 0, DNS_HEADER);
	dns_put16(out, q->id);
	out[2] = (uint8_t)(0x80 | (truncated ? 2 : 0) | q->rd);
	out[3] = (uint8_t)(0x80 | q->cd << 4 | (unsigned)rcode); /* recursion is to be had */
	dns_put16(out + 4, 1);
}

size_t dns_error_build(const struct dns_query *q, enum dns_rcode rcode, bool truncated,
		       bool blocked, uint8_t out[DNS_QUERY_MAX])
{
	/* RFC 8914 §4.16: option 15, two bytes, "Blocked". */
	static const uint8_t ede[6] = { 0, 15, 0, 2, 0, 15 };
	size_t n = DNS_HEADER;

	dns_put_header(q, rcode, truncated, out);
	n += dns_put_question(q, out + n);
	if (!q->edns)
		return n;
	dns_put16(out + 10, 1);
	n += dns_put_opt(q, blocked ? sizeof(ede) : 0, out + n);
	if (blocked) {
		memcpy(out + n, ede, sizeof(ede));
		n += sizeof(ede);
	}
	return n;
}

size_t dns_address_build(const struct dns_query *q, uint32_t addr, uint32_t ttl,
			 uint8_t out[DNS_QUERY_MAX])
{
	size_t n = DNS_HEADER;

	dns_put_header(q, DNS_NOERROR, false, out);
	n += dns_put_question(q, out + n);
	dns_put16(out + 6, 1);
	/* The name is the question's, behind the header: RFC 1035 §4.1.4. */
	dns_put16(out + n, 0xc000 | DNS_HEADER);
	dns_put16(out + n + 2, DNS_A);
	dns_put16(out + n + 4, q->class);
	dns_put16(out + n + 6, ttl >> 16);
	dns_put16(out + n + 8, ttl & 0xffff);
	dns_put16(out + n + 10, 4);
	dns_put16(out + n + 12, addr >> 16);
	dns_put16(out + n + 14, addr & 0xffff);
	n += 16;
	if (!q->edns)
		return n;
	dns_put16(out + 10, 1);
	return n + dns_put_opt(q, 0, out + n);
}
