/* SPDX-License-Identifier: Apache-2.0 */
#include "codec/sha1.h"

#include <string.h>

static uint32_t sha1_rotate(uint32_t x, unsigned n)
{
	return x << n | x >> (32 - n);
}

/* FIPS 180-4 §4.1.1, §4.2.1 */
static uint32_t sha1_round(unsigned t, uint32_t b, uint32_t c, uint32_t d)
{
	if (t < 20)
		return ((b & c) ^ (~b & d)) + 0x5a827999;
	if (t < 40)
		return (b ^ c ^ d) + 0x6ed9eba1;
	if (t < 60)
		return ((b & c) ^ (b & d) ^ (c & d)) + 0x8f1bbcdc;
	return (b ^ c ^ d) + 0xca62c1d6;
}

/* FIPS 180-4 §6.1.2 */
static void sha1_block(uint32_t h[5], const uint8_t *p)
{
	uint32_t w[80], v[5];

	for (unsigned t = 0; t < 16; t++)
		w[t] = (uint32_t)p[4 * t] << 24 | (uint32_t)p[4 * t + 1] << 16 |
		       (uint32_t)p[4 * t + 2] << 8 | p[4 * t + 3];
	for (unsigned t = 16; t < 80; t++)
		w[t] = sha1_rotate(w[t - 3] ^ w[t - 8] ^ w[t - 14] ^ w[t - 16], 1);
	memcpy(v, h, sizeof(v));
	for (unsigned t = 0; t < 80; t++) {
		uint32_t next =
			sha1_rotate(v[0], 5) + sha1_round(t, v[1], v[2], v[3]) + v[4] + w[t];

		v[4] = v[3];
		v[3] = v[2];
		v[2] = sha1_rotate(v[1], 30);
		v[1] = v[0];
		v[0] = next;
	}
	for (unsigned i = 0; i < 5; i++)
		h[i] += v[i];
}

void sha1(const void *bytes, size_t len, uint8_t out[SHA1_BYTES])
{
	uint32_t h[5] = { 0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476, 0xc3d2e1f0 };
	uint8_t tail[128] = { 0 };
	const uint8_t *p = bytes;
	size_t left = len, end;

	for (; left >= 64; p += 64, left -= 64)
		sha1_block(h, p);
	if (left)
		memcpy(tail, p, left);
	tail[left] = 0x80;
	end = left < 56 ? 64 : 128;
	for (unsigned i = 0; i < 8; i++)
		tail[end - 1 - i] = (uint8_t)((uint64_t)len * 8 >> 8 * i);
	for (size_t at = 0; at < end; at += 64)
		sha1_block(h, tail + at);
	for (unsigned i = 0; i < SHA1_BYTES; i++)
		out[i] = (uint8_t)(h[i / 4] >> (24 - 8 * (i % 4)));
}
