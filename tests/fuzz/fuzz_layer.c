/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A layer, from its bytes to the ext4 file: archive, tree, data area, directories.
 * What is written must be a file system that rootimage_check() accepts.
 */
#include <assert.h>
#include <fcntl.h>
#include <locale.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>
#include <unistd.h>

#include "image/layer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const struct rootimage_limits limits = { .max_entries = 20000, .max_bytes = 16u << 20 };
	static const uint8_t id[16] = { 1 }, known[DIGEST_BYTES] = { 2 };
	int in = memfd_create("layer", MFD_CLOEXEC), out = memfd_create("image", MFD_CLOEXEC);
	struct rootimage_stats stats;
	struct layer_result res;
	struct rootimage *r;

	setlocale(LC_CTYPE, "C.UTF-8");
	assert(in >= 0 && out >= 0);
	assert(write(in, data, size) == (ssize_t)size && lseek(in, 0, SEEK_SET) == 0);
	assert(!rootimage_create(out, &limits, &r, NULL));
	/* The same layer twice: the second time over what the first one made. */
	if (!layer_apply(in, r, limits.max_bytes, NULL, NULL, NULL, &res, NULL) &&
	    lseek(in, 0, SEEK_SET) == 0 &&
	    !layer_apply(in, r, limits.max_bytes, known, NULL, NULL, &res, NULL) &&
	    !rootimage_finish(r, id, &stats, NULL))
		assert(!rootimage_check(out, id, NULL));
	rootimage_destroy(r);
	close(in);
	close(out);
	return 0;
}
