/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/probe_cache.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "engine/probe_guest.h"

#define PROBE_CACHE_HEAD "msb kvm probe 1\n"

bool probe_cache_lasting(const struct probe_report *r)
{
	return r->passed ||
	       (!r->err && !r->timed_out && (r->ended || r->wrong || probe_vm_interpreted(r)));
}

size_t probe_cache_format(const char *key, const struct probe_report *r, char *to, size_t size)
{
	int n = snprintf(to, size,
			 PROBE_CACHE_HEAD "%s\n%u %u %u %u %" PRIu32 " %" PRIu32 " %" PRIu64
					  " %" PRIu64 "\n",
			 key, r->passed, r->wrong, r->ended, r->mark, r->exit_reason,
			 r->exit_detail, r->host_loop_ns, r->guest_loop_ns);

	return n > 0 && (size_t)n < size ? (size_t)n : 0;
}

/* Skips @word at *@at. Return: was it there? */
static bool probe_cache_skip(const char **at, const char *end, const char *word)
{
	size_t n = strlen(word);

	if ((size_t)(end - *at) < n || memcmp(*at, word, n))
		return false;
	*at += n;
	return true;
}

/* A decimal number of at most @max, ended by @stop. */
static bool probe_cache_number(const char **at, const char *end, char stop, uint64_t max,
			       uint64_t *out)
{
	const char *from = *at;
	uint64_t v = 0;

	while (*at < end && **at >= '0' && **at <= '9') {
		unsigned digit = (unsigned)(*(*at)++ - '0');

		if (v > (max - digit) / 10)
			return false;
		v = v * 10 + digit;
	}
	if (*at == from || *at == end || *(*at)++ != stop)
		return false;
	*out = v;
	return true;
}

int probe_cache_parse(const char *text, size_t len, const char *key, struct probe_report *out)
{
	static const uint64_t max[] = {
		1, 1, 1, PROBE_MARK_WRONG, UINT32_MAX, UINT32_MAX, UINT32_MAX, UINT32_MAX,
	};
	const char *at = text, *end = text + len;
	uint64_t v[8];

	if (!probe_cache_skip(&at, end, PROBE_CACHE_HEAD) || !probe_cache_skip(&at, end, key) ||
	    !probe_cache_skip(&at, end, "\n"))
		return -EINVAL;
	for (size_t i = 0; i < 8; i++)
		if (!probe_cache_number(&at, end, i < 7 ? ' ' : '\n', max[i], &v[i]))
			return -EINVAL;
	if (at != end)
		return -EINVAL;
	struct probe_report r = {
		.step = PROBE_STEP_RUN,
		.passed = v[0],
		.wrong = v[1],
		.ended = v[2],
		.mark = (unsigned)v[3],
		.exit_reason = (uint32_t)v[4],
		.exit_detail = (uint32_t)v[5],
		.host_loop_ns = v[6],
		.guest_loop_ns = v[7],
	};
	if (!probe_cache_lasting(&r))
		return -EINVAL;
	*out = r;
	return 0;
}
