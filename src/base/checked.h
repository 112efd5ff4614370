/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_BASE_CHECKED_H
#define MSB_BASE_CHECKED_H

/* Arithmetic on numbers that a guest, file or peer supplied: true = it fits. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define checked_add(a, b, out) (!__builtin_add_overflow((a), (b), (out)))
#define checked_sub(a, b, out) (!__builtin_sub_overflow((a), (b), (out)))
#define checked_mul(a, b, out) (!__builtin_mul_overflow((a), (b), (out)))

/* Is [@off, @off + @len) inside [0, @size)?  Overflow-safe. */
static inline bool checked_range(uint64_t off, uint64_t len, uint64_t size)
{
	return off <= size && len <= size - off;
}

static inline uint64_t min_u64(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

#endif
