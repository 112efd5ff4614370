/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_CODEC_DNS_WIRE_H
#define MSB_CODEC_DNS_WIRE_H

/* Parts of a DNS message; shared by dns*.c, nobody else includes it. */

#include "codec/dns.h"

#define DNS_HEADER 12u
#define DNS_OPT_LEN 11u

struct dns_name {
	uint8_t wire[DNS_WIRE_MAX]; /* labels without compression, with the root's */
	size_t len;
};

struct dns_record {
	struct dns_name owner;
	uint16_t type, class;
	uint32_t ttl;
	size_t data, data_len; /* in the message */
};

static inline uint16_t dns_get16(const uint8_t *p)
{
	return (uint16_t)(p[0] << 8 | p[1]);
}

static inline void dns_put16(uint8_t *p, unsigned v)
{
	p[0] = (uint8_t)(v >> 8);
	p[1] = (uint8_t)v;
}

/* Without regard to case. */
bool dns_name_equal(const struct dns_name *a, const uint8_t *b, size_t len);

/* Lower case; false if a byte cannot be written down. */
bool dns_name_text(const struct dns_name *n, char text[DNS_NAME_MAX + 1]);

/* Each reads at *@at and moves it on. Return: is it there, whole and in order? */
bool dns_name_read(const uint8_t *msg, size_t len, size_t *at, struct dns_name *out);
bool dns_record_read(const uint8_t *msg, size_t len, size_t *at, struct dns_record *out);

/* Each returns how long it is; the header has room for the counts. */
size_t dns_put_question(const struct dns_query *q, uint8_t *out);
size_t dns_put_opt(const struct dns_query *q, size_t options, uint8_t *out);
void dns_put_header(const struct dns_query *q, enum dns_rcode rcode, bool truncated, uint8_t *out);

#endif
