/* SPDX-License-Identifier: Apache-2.0 */
/* The probe's file of results: what is accepted says the same when written again. */
#include <assert.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/probe_cache.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char key[] = "k";
	struct probe_report r, again;
	char text[PROBE_CACHE_MAX];
	size_t n;

	if (probe_cache_parse((const char *)data, size, key, &r))
		return 0;
	assert(probe_cache_lasting(&r) && r.step == PROBE_STEP_RUN);
	n = probe_cache_format(key, &r, text, sizeof(text));
	assert(n && n <= size);
	assert(probe_cache_parse(text, n, key, &again) == 0);
	assert(again.passed == r.passed && again.mark == r.mark);
	assert(probe_vm_interpreted(&again) == probe_vm_interpreted(&r));
	return 0;
}
