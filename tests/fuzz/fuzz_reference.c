/* SPDX-License-Identifier: Apache-2.0 */
/* An image name: what is accepted has candidates that are accepted again. */
#include <assert.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "codec/reference.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char names[REFERENCE_CANDIDATES][REFERENCE_MAX];
	struct reference r, again;
	unsigned n;

	if (reference_parse((const char *)data, size, &r, NULL))
		return 0;
	n = reference_candidates(&r, names);
	assert(n <= REFERENCE_CANDIDATES);
	for (unsigned i = 0; i < n; i++) {
		assert(strlen(names[i]) < REFERENCE_MAX);
		/* The folder that a candidate has in front may make it too long. */
		if (reference_parse(names[i], strlen(names[i]), &again, NULL)) {
			assert(strlen(r.path) > 220);
			continue;
		}
		assert(!strstr(again.path, "..") && again.path[0] != '/');
	}
	reference_recipe(&r);
	return 0;
}
