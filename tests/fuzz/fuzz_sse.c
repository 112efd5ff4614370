/* SPDX-License-Identifier: Apache-2.0 */
/* An event stream: the events do not depend on how its bytes arrive, and nothing is longer than allowed. */
#include <assert.h>
#include <string.h>

#include "codec/sse.h"

#define FUZZ_MAX 64

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int fuzz_note(void *context, const char *name, const uint8_t *data, size_t len)
{
	assert(strlen(name) <= SSE_NAME_MAX && name[0] && len <= FUZZ_MAX);
	assert(!buf_append(context, name, strlen(name) + 1));
	assert(!buf_append(context, &len, sizeof(len)));
	assert(!buf_append(context, data, len));
	return 0;
}

static int fuzz_feed(const uint8_t *data, size_t size, size_t piece, struct buf *events)
{
	struct sse_parser p;
	int rc = 0;

	sse_init(&p, FUZZ_MAX);
	for (size_t at = 0; at < size && !rc; at += piece)
		rc = sse_feed(&p, data + at, size - at < piece ? size - at : piece, fuzz_note,
			      events);
	sse_fini(&p);
	return rc;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct buf whole = BUF_INIT, pieces = BUF_INIT;
	int rc, again;

	if (!size || size > 4096)
		return 0;
	rc = fuzz_feed(data + 1, size - 1, size, &whole);
	again = fuzz_feed(data + 1, size - 1, 1 + data[0] % 16, &pieces);
	assert(rc == again);
	assert(buf_len(&whole) == buf_len(&pieces));
	assert(!buf_len(&whole) || !memcmp(buf_data(&whole), buf_data(&pieces), buf_len(&whole)));
	buf_fini(&whole);
	buf_fini(&pieces);
	return 0;
}
