/* SPDX-License-Identifier: Apache-2.0 */
/* Lines of a log: what is read is written again as it was. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "codec/logline.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = malloc(size + 1);
	struct buf b = BUF_INIT;
	struct logline l;
	int64_t t;

	assert(text);
	if (size)
		memcpy(text, data, size);
	if (!logline_parse_time(text, size, &t)) {
		char again[28];
		int64_t back;

		assert(t >= 0 && !logline_format_time(t, again));
		assert(!logline_parse_time(again, strlen(again), &back) && back == t);
	}
	if (!logline_parse(text, size, &l)) {
		assert(l.text >= text && l.len <= LOGLINE_TEXT_MAX && l.text + l.len == text + size);
		assert(!logline_format(&l, &b));
		assert(buf_len(&b) == size + 1 && !memcmp(buf_data(&b), text, size));
	}
	buf_fini(&b);
	free(text);
	return 0;
}
