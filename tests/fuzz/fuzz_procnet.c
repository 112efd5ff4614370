/* SPDX-License-Identifier: Apache-2.0 */
/* A guest's /proc/net/tcp: any bytes give an answer, and one line more never says less. */
#include <assert.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "codec/procnet.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char line[] = "\n 0: 00000000:0016 00000000:0000 0A 1\n";
	enum procnet_state s = procnet_listens((const char *)data, size, 22);
	char *more = malloc(size + sizeof(line));

	assert(more);
	assert(s == PROCNET_SHUT || s == PROCNET_LOCAL || s == PROCNET_OPEN);
	if (size)
		memcpy(more, data, size);
	memcpy(more + size, line, sizeof(line) - 1);
	assert(procnet_listens(more, size + sizeof(line) - 1, 22) == PROCNET_OPEN);
	free(more);
	return 0;
}
