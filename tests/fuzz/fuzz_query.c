/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A query and base64, as a client writes them: what is accepted is within the limits, and
 * base64 that is accepted is the only text of its bytes.
 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "codec/base64.h"
#include "codec/query.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_query(const char *text)
{
	static const char *const known[] = { "path", "mode", "offset", "append", NULL };
	static struct query q;
	struct err e = ERR_INIT;
	uint64_t n = 0;
	bool on;

	if (query_parse(&q, text, known, &e)) {
		assert(e.code && e.msg[0]);
		return;
	}
	assert(q.n <= 4);
	for (unsigned i = 0; i < q.n; i++) {
		assert(query_get(&q, q.params[i].name) == q.params[i].value);
		assert(q.params[i].value > q.text &&
		       q.params[i].value + strlen(q.params[i].value) < q.text + sizeof(q.text));
	}
	if (!query_u64(&q, "mode", 8, 07777, &n, &e))
		assert(n <= 07777);
	if (!query_u64(&q, "offset", 10, INT64_MAX, &n, &e))
		assert(n <= INT64_MAX);
	query_bool(&q, "append", &on, &e);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct buf bytes = BUF_INIT, again = BUF_INIT;
	char *text = malloc(size + 1);

	if (!text)
		return 0;
	memcpy(text, data, size);
	text[size] = '\0';
	check_query(text);
	if (!base64_decode(&bytes, text, size)) {
		assert(!base64_encode(&again, buf_data(&bytes), buf_len(&bytes)));
		assert(buf_len(&again) == size);
		assert(!size || !memcmp(buf_data(&again), text, size));
	}
	buf_fini(&bytes);
	buf_fini(&again);
	free(text);
	return 0;
}
