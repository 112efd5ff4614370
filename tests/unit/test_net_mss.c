/* SPDX-License-Identifier: Apache-2.0 */
/* The raised offer of a segment size: only where it stands, and with a right checksum. */
#include "unit/test.h"

#include <netinet/in.h>

#include "net/mss.h"
#include "net/policy.h"
#include "net/wire.h"

#define HEADERS (NET_ETH_HEADER + WIRE_IP_LEN)

static uint16_t tcp_sum(const uint8_t *frame, size_t len)
{
	const uint8_t *ip = frame + NET_ETH_HEADER, *tcp = ip + WIRE_IP_LEN;
	uint32_t sum = IPPROTO_TCP + (uint32_t)(len - HEADERS);

	for (size_t i = 12; i < WIRE_IP_LEN; i += 2)
		sum += wire_get16(ip + i);
	for (size_t i = 0; i < len - HEADERS; i += 2)
		sum += wire_get16(tcp + i);
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)~sum;
}

/* A segment with options (a multiple of 4 bytes); its checksum is right. Return: length. */
static size_t make(uint8_t *frame, uint8_t flags, const uint8_t *options, size_t n)
{
	uint8_t *ip = frame + NET_ETH_HEADER, *tcp = ip + WIRE_IP_LEN;
	size_t len = HEADERS + WIRE_TCP_LEN + n;

	memset(frame, 0, len);
	wire_put16(frame + 12, WIRE_ETHERTYPE_IPV4);
	ip[0] = 0x45;
	ip[9] = IPPROTO_TCP;
	wire_put16(ip + 2, (unsigned)(len - NET_ETH_HEADER));
	wire_put32(ip + 12, 0xcb007107);
	wire_put32(ip + 16, NET_GUEST_IP);
	wire_put16(tcp, 443);
	wire_put16(tcp + 2, 40000);
	tcp[12] = (uint8_t)((WIRE_TCP_LEN + n) / 4 << 4);
	tcp[13] = flags;
	memcpy(tcp + WIRE_TCP_LEN, options, n);
	wire_put16(tcp + 16, tcp_sum(frame, len));
	return len;
}

static void test_raised(void **state)
{
	static const struct {
		uint8_t options[12];
		size_t n, at; /* at: of the size */
	} v[] = {
		{ { 2, 4, 0x3f, 0xc0 }, 4, 2 },
		{ { 1, 1, 2, 4, 0x05, 0xb4, 0, 0 }, 8, 4 },
		{ { 3, 3, 7, 1, 2, 4, 0, 1 }, 8, 6 },
	};
	uint8_t frame[200];

	(void)state;
	for (size_t i = 0; i < sizeof(v) / sizeof(*v); i++)
		for (unsigned flags = WIRE_TCP_SYN; flags <= (WIRE_TCP_SYN | WIRE_TCP_ACK);
		     flags += WIRE_TCP_ACK) {
			size_t len = make(frame, (uint8_t)flags, v[i].options, v[i].n);

			mss_raise(frame, len);
			assert_int_equal(wire_get16(frame + HEADERS + WIRE_TCP_LEN + v[i].at),
					 MSS_FROM_GUEST);
			assert_int_equal(tcp_sum(frame, len), 0);
		}
}

static void test_left_alone(void **state)
{
	static const struct {
		uint8_t flags, options[8];
		size_t n;
	} v[] = {
		{ WIRE_TCP_ACK, { 2, 4, 0x3f, 0xc0 }, 4 }, /* no SYN */
		{ WIRE_TCP_SYN, { 0 }, 0 }, /* no options */
		{ WIRE_TCP_SYN, { 2, 4, 0xff, 0xff }, 4 }, /* larger */
		{ WIRE_TCP_SYN, { 2, 4, MSS_FROM_GUEST >> 8, MSS_FROM_GUEST & 0xff }, 4 },
		{ WIRE_TCP_SYN, { 0, 2, 4, 1 }, 4 }, /* behind the end */
		{ WIRE_TCP_SYN, { 2, 3, 1, 1 }, 4 }, /* not of its length */
		{ WIRE_TCP_SYN, { 1, 2, 4, 1, 1, 1, 1, 1 }, 8 }, /* at an odd place */
		{ WIRE_TCP_SYN, { 1, 1, 1, 2 }, 4 }, /* cut off */
		{ WIRE_TCP_SYN, { 5, 200, 2, 4 }, 4 }, /* longer than the header */
		{ WIRE_TCP_SYN, { 5, 0, 2, 4 }, 4 },
		{ WIRE_TCP_SYN, { 5, 1, 2, 4 }, 4 },
	};
	uint8_t frame[200], before[200];

	(void)state;
	for (size_t i = 0; i < sizeof(v) / sizeof(*v); i++) {
		size_t len = make(frame, v[i].flags, v[i].options, v[i].n);

		memcpy(before, frame, len);
		mss_raise(frame, len);
		assert_memory_equal(frame, before, len);
	}
}

static void test_short_and_other_frames(void **state)
{
	static const uint8_t options[] = { 2, 4, 0x3f, 0xc0 };
	uint8_t frame[200], before[200];
	size_t len;

	(void)state;
	for (size_t cut = 0; cut < HEADERS + WIRE_TCP_LEN + 4; cut++) {
		make(frame, WIRE_TCP_SYN, options, 4);
		memcpy(before, frame, sizeof(frame));
		mss_raise(frame, cut);
		assert_memory_equal(frame, before, HEADERS + WIRE_TCP_LEN + 4);
	}
	for (size_t at = 12; at < NET_ETH_HEADER + 10; at++) {
		if (at != 12 && at != NET_ETH_HEADER && at != NET_ETH_HEADER + 9)
			continue; /* type, version and length, protocol */
		len = make(frame, WIRE_TCP_SYN, options, 4);
		frame[at] ^= 0x1f;
		memcpy(before, frame, len);
		mss_raise(frame, len);
		assert_memory_equal(frame, before, len);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_raised),
		TEST(test_left_alone),
		TEST(test_short_and_other_frames),
	};

	return test_run(tests);
}
