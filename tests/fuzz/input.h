/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_TESTS_FUZZ_INPUT_H
#define MSB_TESTS_FUZZ_INPUT_H

/* A fuzzer's input as a stream of numbers and bytes, from its start; zeroes follow its end. */

#include <stddef.h>
#include <stdint.h>

#include "base/checked.h"

struct fuzz_input {
	const uint8_t *p;
	size_t left;
};

static inline uint64_t fuzz_get(struct fuzz_input *in, unsigned bytes)
{
	uint64_t v = 0;

	for (unsigned i = 0; i < bytes && in->left; i++, in->left--)
		v |= (uint64_t)*in->p++ << 8 * i;
	return v;
}

/* The next *@len bytes, or as many as there are: *@len says so then. */
static inline const uint8_t *fuzz_bytes(struct fuzz_input *in, size_t *len)
{
	const uint8_t *p = in->p;

	*len = min_u64(*len, in->left);
	in->p += *len;
	in->left -= *len;
	return p;
}

#endif
