/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A log that a guest filled: the last lines of it are whole lines, as many as were asked
 * for if there are so many, and all of them are text.  The first byte says how many.
 */
#include <assert.h>
#include <stdint.h>
#include <string.h>

#include "codec/utf8.h"
#include "server/logs.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static size_t count(const char *p, size_t n)
{
	size_t lines = 0;

	for (size_t i = 0; i < n; i++)
		lines += p[i] == '\n' || i + 1 == n;
	return lines;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *p = (const char *)data + 1;
	unsigned ask, left;
	json_t *lines, *v;
	size_t at, i;

	if (!size)
		return 0;
	size--;
	left = ask = data[0];
	at = logs_last_lines(p, size, &left);
	assert(at <= size && left <= ask);
	assert(!at || at == size || p[at - 1] == '\n');
	assert(count(p + at, size - at) == ask - left);
	assert(!left || !at); /* fewer than asked for: then it is all of them */
	lines = json_array();
	assert(lines && !logs_split(p + at, size - at, lines));
	assert(json_array_size(lines) == ask - left);
	json_array_foreach(lines, i, v)
	{
		const uint8_t *text = (const uint8_t *)json_string_value(v);
		size_t n = json_string_length(v);
		unsigned bad;

		assert(!n || text[n - 1] != '\r');
		assert(!memchr(text, '\n', n));
		for (size_t k = 0; k < n;) {
			unsigned len = utf8_next(text + k, n - k, &bad);

			assert(len);
			k += len;
		}
	}
	json_decref(lines);
	return 0;
}
