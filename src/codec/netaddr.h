/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_CODEC_NETADDR_H
#define MSB_CODEC_NETADDR_H

/*
 * An IP address of either family, and what kind of place it leads to.
 *
 * Specs: RFC 6890 with IANA's special-purpose registries of both families, RFC 4291
 * (IPv6), RFC 6052 and 8215 (NAT64), RFC 3056 (6to4), RFC 4380 (Teredo).
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* IPv4 is held as ::ffff:a.b.c.d, which is no address on the wire. */
struct netaddr {
	uint8_t b[16];
};

enum netaddr_kind {
	NETADDR_PUBLIC, /* routed on the internet */
	NETADDR_METADATA, /* a cloud's service that hands out credentials of the machine */
	NETADDR_LOOPBACK,
	NETADDR_PRIVATE,
	NETADDR_LINK_LOCAL,
	NETADDR_SPECIAL, /* odd, but a private network may use it */
	NETADDR_NOWHERE, /* no unicast address, or one that only hides another */
	NETADDR_CAST, /* broadcast and multicast */
};

/* The sandbox's IPv6 network, the same for all: known to the agent and to msb-net. */
#define NETADDR_GUEST6_BITS 64
#define NETADDR_GUEST6_PREFIX 0xfd, 0x6d, 0x73, 0x62, 0x6e, 0x74
#define NETADDR_GUEST6_ADDR \
	{ \
		{ \
			NETADDR_GUEST6_PREFIX, [15] = 0x0f \
		} \
	} /* fd6d:7362:6e74::f */
#define NETADDR_GUEST6_GATEWAY \
	{ \
		{ \
			NETADDR_GUEST6_PREFIX, [15] = 0x02 \
		} \
	}

#define NETADDR_TEXT 46 /* INET6_ADDRSTRLEN */

static inline struct netaddr netaddr_v4(uint32_t a)
{
	return (struct netaddr){ { [10] = 0xff,
				   0xff,
				   (uint8_t)(a >> 24),
				   (uint8_t)(a >> 16),
				   (uint8_t)(a >> 8),
				   (uint8_t)a } };
}

static inline bool netaddr_is_v4(const struct netaddr *a)
{
	static const uint8_t mapped[12] = { [10] = 0xff, 0xff };

	return !memcmp(a->b, mapped, sizeof(mapped));
}

static inline uint32_t netaddr_low32(const struct netaddr *a)
{
	return (uint32_t)a->b[12] << 24 | (uint32_t)a->b[13] << 16 | (uint32_t)a->b[14] << 8 |
	       a->b[15];
}

static inline bool netaddr_equal(const struct netaddr *a, const struct netaddr *b)
{
	return !memcmp(a, b, sizeof(*a));
}

/* Are the first @bits (0 to 128; 96 more than IPv4's own) those of @net? */
bool netaddr_in(const struct netaddr *a, const struct netaddr *net, unsigned bits);

enum netaddr_kind netaddr_kind(const struct netaddr *a);

/* The IPv4 address that a translator makes of an address in 64:ff9b::/96 (NAT64). */
bool netaddr_nat64(const struct netaddr *a, struct netaddr *v4);

/* "192.0.2.1" or "2001:db8::1", nothing else. Return: 0 or -EINVAL. */
int netaddr_parse(const char *s, struct netaddr *out);

/* Return: @text. */
char *netaddr_format(const struct netaddr *a, char text[NETADDR_TEXT]);

#endif
