/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_CODEC_DNS_H
#define MSB_CODEC_DNS_H

/*
 * DNS messages: the questions of a guest, the answers of a resolver.  Both are made anew
 * here and never passed on as they came, so that nothing that was not read gets through.
 *
 * Specs: RFC 1035 (messages), RFC 3597 (unknown types), RFC 6891 (EDNS), RFC 8914
 * (extended errors), RFC 9460 (SVCB, HTTPS).
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "codec/netaddr.h"

#define DNS_NAME_MAX 253u /* as text, without the last dot */
#define DNS_WIRE_MAX 255u /* the same as labels */
#define DNS_MESSAGE_MAX 65535u
#define DNS_QUERY_MAX 512u /* header, question and OPT, as we send them */
#define DNS_UDP_MIN 512u /* what every program takes without EDNS */
#define DNS_RECORDS_MAX 256u /* in the sections that are read, together */
#define DNS_ALIASES_MAX 16u

enum dns_type {
	DNS_A = 1,
	DNS_NS = 2,
	DNS_CNAME = 5,
	DNS_SOA = 6,
	DNS_PTR = 12,
	DNS_MX = 15,
	DNS_AAAA = 28,
	DNS_SRV = 33,
	DNS_DNAME = 39,
	DNS_OPT = 41,
	DNS_SVCB = 64,
	DNS_HTTPS = 65,
	DNS_IXFR = 251,
	DNS_ANY = 255,
};

enum dns_rcode {
	DNS_NOERROR = 0,
	DNS_FORMERR = 1,
	DNS_SERVFAIL = 2,
	DNS_NXDOMAIN = 3,
	DNS_NOTIMP = 4,
	DNS_REFUSED = 5,
};

struct dns_query {
	uint16_t id, type, class;
	bool rd, ad, cd; /* as asked */
	bool edns, dnssec_ok;
	uint16_t udp_size; /* largest datagram that the asker takes, at least DNS_UDP_MIN */
	char name[DNS_NAME_MAX + 1]; /* lower case; "" is the root */
	uint8_t wire[DNS_WIRE_MAX]; /* the name as it was asked */
	size_t wire_len;
};

/**
 * dns_query_parse() - read what a guest asks
 * Return: 0; -EBADMSG: nothing that could be answered; or, with id, and name as far as it
 * goes, filled in for an answer: -EINVAL (FORMERR), -EOPNOTSUPP (NOTIMP).
 */
int dns_query_parse(const uint8_t *msg, size_t len, struct dns_query *q);

/* The same question for a resolver, under another @id. Return: its length. */
size_t dns_query_build(const struct dns_query *q, uint16_t id, uint8_t out[DNS_QUERY_MAX]);

/*
 * An answer without records.  @truncated: "ask again over TCP"; @blocked: say in EDNS that
 * policy is the reason.  Return: its length.
 */
size_t dns_error_build(const struct dns_query *q, enum dns_rcode rcode, bool truncated,
		       bool blocked, uint8_t out[DNS_QUERY_MAX]);

/* An answer with one IPv4 address, to a question for it. Return: its length. */
size_t dns_address_build(const struct dns_query *q, uint32_t addr, uint32_t ttl,
			 uint8_t out[DNS_QUERY_MAX]);

/* What the reader of an answer wants to have a say in; @ctx is passed on. */
struct dns_filter {
	/* An address that the name stands for. Return: may the guest see it? */
	bool (*address)(void *ctx, const struct netaddr *addr, uint32_t ttl);
	/* A name that it is an alias of. Return: may the guest see any of the answer? */
	bool (*alias)(void *ctx, const char *name);
	void *ctx;
	bool no_ipv6; /* AAAA records are left out */
	bool no_hints; /* SVCB and HTTPS records are left out: there are addresses in them */
};

struct dns_answer {
	uint8_t *bytes; /* DNS_MESSAGE_MAX of room, given by the caller */
	size_t len;
	enum dns_rcode rcode; /* of the resolver */
	bool truncated; /* the resolver said so */
	unsigned kept, stripped; /* addresses */
	bool refused; /* alias() said no */
};

/**
 * dns_answer_read() - take in a resolver's answer and make the guest's of it
 * @q, @id: the question, and the id under which the resolver was asked
 *
 * Addresses and other records count only if they are the question's name's or one of its
 * aliases'.  Where all addresses were stripped the answer is NXDOMAIN, and so it is where
 * alias() refused.
 *
 * Return: 0; -ESRCH: not an answer to this question, wait for another; -EBADMSG: it is
 * one, and broken or beyond the limits.
 */
int dns_answer_read(const uint8_t *msg, size_t len, const struct dns_query *q, uint16_t id,
		    const struct dns_filter *f, struct dns_answer *out);

#endif
