/* SPDX-License-Identifier: Apache-2.0 */
#include "server/logs.h"

#include <errno.h>
#include <string.h>

#include "base/buf.h"
#include "codec/utf8.h"

size_t logs_last_lines(const char *p, size_t n, unsigned *lines)
{
	unsigned left = *lines;
	size_t at = n;

	while (at && left) {
		/* The newline at the end of a line is not the one before it. */
		size_t end = p[at - 1] == '\n' ? at - 1 : at;
		const char *nl = end ? memrchr(p, '\n', end) : NULL;

		at = nl ? (size_t)(nl - p) + 1 : 0;
		left--;
	}
	*lines = left;
	return at;
}

int logs_split(const char *p, size_t n, json_t *lines)
{
	int rc = 0;

	while (n && !rc) {
		const char *nl = memchr(p, '\n', n);
		size_t used = nl ? (size_t)(nl - p) + 1 : n, len = nl ? used - 1 : n;
		struct buf clean = BUF_INIT;

		while (len && p[len - 1] == '\r')
			len--;
		if (utf8_clean(&clean, p, len) ||
		    json_array_append_new(lines,
					  json_stringn(len ? (const char *)buf_data(&clean) : "",
						       buf_len(&clean))))
			rc = -ENOMEM;
		buf_fini(&clean);
		p += used;
		n -= used;
	}
	return rc;
}
