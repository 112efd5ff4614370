/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A kernel file from a hostile hand.  The first 8 bytes say how long the file claims to
 * be; the rest is its head.  What is accepted is safe to load as it says.
 */
#include <assert.h>
#include <string.h>

#include "base/checked.h"
#include "vmm/kernel_image.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct kernel_image k;
	struct err e = ERR_INIT;
	uint64_t file_bytes;
	bool entry_loaded = false;

	if (size < sizeof(file_bytes))
		return 0;
	memcpy(&file_bytes, data, sizeof(file_bytes));
	data += sizeof(file_bytes);
	size -= sizeof(file_bytes);
	/* The caller reads what the file has, at most KERNEL_IMAGE_HEAD. */
	size = min_u64(min_u64(size, KERNEL_IMAGE_HEAD), file_bytes);
	if (kernel_image_parse(data, size, file_bytes, &k, &e)) {
		assert(e.code && e.msg[0]);
		return 0;
	}
	assert(k.n_segments && k.n_segments <= KERNEL_IMAGE_SEGMENTS_MAX);
	assert(k.end <= KERNEL_IMAGE_GPA_MAX && k.setup_bytes <= KERNEL_IMAGE_SETUP_MAX);
	for (unsigned i = 0; i < k.n_segments; i++) {
		const struct kernel_segment *s = &k.segments[i];

		assert(checked_range(s->file_offset, s->file_bytes, file_bytes));
		assert(s->file_bytes <= s->memory_bytes);
		assert(s->gpa >= KERNEL_IMAGE_GPA_MIN &&
		       checked_range(s->gpa, s->memory_bytes, k.end));
		entry_loaded |= k.entry >= s->gpa && k.entry < s->gpa + s->file_bytes;
		for (unsigned j = 0; j < i; j++)
			assert(s->gpa >= k.segments[j].gpa + k.segments[j].memory_bytes ||
			       k.segments[j].gpa >= s->gpa + s->memory_bytes);
	}
	assert(entry_loaded);
	return 0;
}
