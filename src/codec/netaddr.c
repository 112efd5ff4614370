/* SPDX-License-Identifier: Apache-2.0 */
#include "codec/netaddr.h"

#include <arpa/inet.h>
#include <errno.h>

#include "base/mem.h"

struct netaddr_range {
	struct netaddr first;
	unsigned bits;
	enum netaddr_kind kind;
};

#define V4(a, b, c, d, bits, kind) \
	{ \
		{ { [10] = 0xff, 0xff, a, b, c, d } }, 96 + (bits), NETADDR_##kind \
	}
#define V6(bits, kind, ...) \
	{ \
		{ { __VA_ARGS__ } }, bits, NETADDR_##kind \
	}

/*
 * The first match counts; what is not here is public.  The documentation ranges
 * (192.0.2.0/24, 198.51.100.0/24, 203.0.113.0/24, 2001:db8::/32) are left in: they lead
 * nowhere, and test networks use them as a stand-in for the internet.
 */
static const struct netaddr_range netaddr_ranges_v4[] = {
	V4(169, 254, 169, 254, 32, METADATA), /* most clouds */
	V4(169, 254, 170, 2, 32, METADATA), /* AWS containers */
	V4(169, 254, 170, 23, 32, METADATA), /* AWS pods */
	V4(100, 100, 100, 200, 32, METADATA), /* Alibaba */
	V4(168, 63, 129, 16, 32, METADATA), /* Azure, a public address */
	V4(192, 0, 0, 192, 32, METADATA), /* Oracle */
	V4(0, 0, 0, 0, 8, NOWHERE), /* connecting to 0.0.0.0 reaches the host */
	V4(10, 0, 0, 0, 8, PRIVATE),
	V4(100, 64, 0, 0, 10, PRIVATE), /* between a provider and its NAT */
	V4(127, 0, 0, 0, 8, LOOPBACK),
	V4(169, 254, 0, 0, 16, LINK_LOCAL),
	V4(172, 16, 0, 0, 12, PRIVATE),
	V4(192, 0, 0, 0, 24, SPECIAL), /* protocol assignments */
	V4(192, 168, 0, 0, 16, PRIVATE),
	V4(198, 18, 0, 0, 15, SPECIAL), /* benchmarks */
	V4(224, 0, 0, 0, 4, CAST),
	V4(255, 255, 255, 255, 32, CAST),
	V4(240, 0, 0, 0, 4, NOWHERE),
};

static const struct netaddr_range netaddr_ranges_v6[] = {
	V6(128, METADATA, 0xfd, 0x00, 0x0e, 0xc2, [14] = 0x02, 0x54), /* AWS */
	V6(128, METADATA, 0xfd, 0x00, 0x0e, 0xc2, [15] = 0x23), /* AWS pods */
	V6(128, METADATA, 0xfd, 0x20, 0x00, 0xce, [14] = 0x02, 0x54), /* Google */
	V6(128, METADATA, 0xfd, 0x00, 0x00, 0xc1, [12] = 0xa9, 0xfe, 0xa9, 0xfe), /* Oracle */
	V6(128, LOOPBACK, [15] = 1),
	V6(8, NOWHERE, 0), /* unspecified, mapped and compatible IPv4, all that starts with 0 */
	V6(48, NOWHERE, 0x00, 0x64, 0xff, 0x9b, 0x00, 0x01), /* a site's own NAT64: hides IPv4 */
	V6(64, SPECIAL, 0x01), /* discard */
	V6(32, NOWHERE, 0x20, 0x01), /* Teredo: hides IPv4 */
	V6(32, PUBLIC, 0x20, 0x01, 0x0d, 0xb8), /* documentation */
	V6(23, SPECIAL, 0x20, 0x01), /* protocol assignments */
	V6(16, NOWHERE, 0x20, 0x02), /* 6to4: hides IPv4 */
	V6(20, SPECIAL, 0x3f, 0xff), /* documentation that nobody uses as a stand-in */
	V6(3, PUBLIC, 0x20), /* all that is given out so far */
	V6(7, PRIVATE, 0xfc),
	V6(10, LINK_LOCAL, 0xfe, 0x80),
	V6(10, PRIVATE, 0xfe, 0xc0), /* site-local, withdrawn */
	V6(8, CAST, 0xff),
	V6(0, SPECIAL, 0), /* reserved */
};

bool netaddr_in(const struct netaddr *a, const struct netaddr *net, unsigned bits)
{
	unsigned bytes = bits / 8, rest = bits % 8;

	if (memcmp(a->b, net->b, bytes))
		return false;
	return !rest || (a->b[bytes] ^ net->b[bytes]) >> (8 - rest) == 0;
}

bool netaddr_nat64(const struct netaddr *a, struct netaddr *v4)
{
	static const struct netaddr prefix = { { 0x00, 0x64, 0xff, 0x9b } };

	if (!netaddr_in(a, &prefix, 96))
		return false;
	*v4 = netaddr_v4(netaddr_low32(a));
	return true;
}

static enum netaddr_kind netaddr_find(const struct netaddr_range *r, size_t n,
				      const struct netaddr *a)
{
	for (; n; r++, n--)
		if (netaddr_in(a, &r->first, r->bits))
			return r->kind;
	return NETADDR_PUBLIC;
}

enum netaddr_kind netaddr_kind(const struct netaddr *a)
{
	enum netaddr_kind kind;
	struct netaddr v4;

	if (netaddr_is_v4(a))
		return netaddr_find(netaddr_ranges_v4, ARRAY_SIZE(netaddr_ranges_v4), a);
	if (!netaddr_nat64(a, &v4))
		return netaddr_find(netaddr_ranges_v6, ARRAY_SIZE(netaddr_ranges_v6), a);
	/* RFC 6052 §3.1: this prefix is for public addresses. */
	kind = netaddr_kind(&v4);
	return kind == NETADDR_PUBLIC || kind == NETADDR_METADATA ? kind : NETADDR_NOWHERE;
}

int netaddr_parse(const char *s, struct netaddr *out)
{
	uint8_t v4[4];
	struct netaddr a;

	if (inet_pton(AF_INET, s, v4) == 1) {
		*out = netaddr_v4((uint32_t)v4[0] << 24 | (uint32_t)v4[1] << 16 |
				  (uint32_t)v4[2] << 8 | v4[3]);
		return 0;
	}
	/* ::ffff:a.b.c.d is how we hold IPv4; somebody who writes it means something else. */
	if (inet_pton(AF_INET6, s, a.b) != 1 || netaddr_is_v4(&a))
		return -EINVAL;
	*out = a;
	return 0;
}

char *netaddr_format(const struct netaddr *a, char text[NETADDR_TEXT])
{
	if (netaddr_is_v4(a))
		inet_ntop(AF_INET, a->b + 12, text, NETADDR_TEXT);
	else
		inet_ntop(AF_INET6, a->b, text, NETADDR_TEXT);
	return text;
}
