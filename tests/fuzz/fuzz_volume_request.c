/* SPDX-License-Identifier: Apache-2.0 */
/* A message of FUSE: whatever is taken lies in the message, and its names are single ones. */
#include <assert.h>
#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include "volume/request.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool inside(const void *p, size_t n, const uint8_t *data, size_t size)
{
	const uint8_t *q = p;

	return q >= data && n <= size && (size_t)(q - data) <= size - n;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct request r;
	uint64_t sum = 0;
	int rc = request_parse(data, size, &r);

	if (rc) {
		assert(rc == -EPROTO || rc == -ENOSYS || rc == -EINVAL || rc == -ENAMETOOLONG);
		return 0;
	}
	assert(r.h.len == size);
	if (r.name) {
		assert(inside(r.name, strlen(r.name) + 1, data, size));
		assert(strlen(r.name) <= REQUEST_NAME_MAX);
		if (r.h.opcode != FUSE_GETXATTR && r.h.opcode != FUSE_SETXATTR &&
		    r.h.opcode != FUSE_REMOVEXATTR)
			assert(*r.name && !strchr(r.name, '/') && strcmp(r.name, ".."));
	}
	if (r.name2)
		assert(inside(r.name2, strlen(r.name2) + 1, data, size));
	if (r.data)
		assert(inside(r.data, r.data_len, data, size));
	if (r.h.opcode == FUSE_BATCH_FORGET)
		for (uint32_t i = 0; i < r.a.batch.count; i++)
			sum += request_forget(&r, i).nlookup;
	(void)sum;
	return 0;
}
