/* SPDX-License-Identifier: Apache-2.0 */
/* Headers of a registry: whatever is taken fits, and holds no control byte. */
#include <assert.h>
#include <string.h>

#include "codec/registry_head.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void fuzz_plain(const char *s, size_t size)
{
	assert(memchr(s, '\0', size));
	for (; *s; s++)
		assert((unsigned char)*s >= ' ' && *s != 0x7f);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *s = (const char *)data;
	struct challenge c;
	uint32_t seconds;
	uint64_t first;

	if (!challenge_parse(s, size, &c)) {
		fuzz_plain(c.realm, sizeof(c.realm));
		fuzz_plain(c.service, sizeof(c.service));
		fuzz_plain(c.scope, sizeof(c.scope));
	}
	if (!content_range_parse(s, size, &first))
		assert(first < UINT64_MAX / 2);
	if (!retry_after_parse(s, size, 1700000000, &seconds))
		assert(seconds <= RETRY_AFTER_MAX);
	return 0;
}
