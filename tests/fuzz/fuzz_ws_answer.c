/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An answer to a WebSocket's handshake: no more is taken than was given, nothing is longer than
 * allowed, and what comes of it does not depend on how the bytes are cut.  The first byte of the
 * input says how.
 */
#include <assert.h>
#include <errno.h>
#include <string.h>

#include "codec/ws_answer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define HEAD_MAX 512u
#define BODY_MAX 64u

static int fuzz_run(struct ws_answer *a, const uint8_t *p, size_t n, size_t piece, size_t *at)
{
	size_t used;
	int rc = 0;

	*at = 0;
	ws_answer_init(a, HEAD_MAX, BODY_MAX);
	while (*at < n && !rc) {
		size_t len = n - *at < piece ? n - *at : piece;

		rc = ws_answer_feed(a, p + *at, len, &used);
		assert(used <= len && (rc || used == len));
		*at += used;
	}
	assert(buf_len(&a->body) <= BODY_MAX && strlen(a->accept) < WS_ACCEPT_SIZE);
	assert(rc != -EBADMSG || a->reason[0]);
	assert(rc <= 0 || (a->status >= 100 && a->status <= 999));
	assert(rc != WS_ANSWER_SWITCHED || a->status == 101);
	return rc ? rc : ws_answer_end(a);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char key[] = "dGhlIHNhbXBsZSBub25jZQ==";
	struct ws_answer whole, cut;
	size_t n, m;
	int rc, again;

	if (!size || size > 4096)
		return 0;
	rc = fuzz_run(&whole, data + 1, size - 1, size, &n);
	again = fuzz_run(&cut, data + 1, size - 1, 1 + data[0] % 32, &m);
	assert(rc == again);
	if (rc > 0) {
		assert(n == m && whole.status == cut.status);
		assert(buf_len(&whole.body) == buf_len(&cut.body));
		assert(!buf_len(&whole.body) ||
		       !memcmp(buf_data(&whole.body), buf_data(&cut.body), buf_len(&cut.body)));
		assert(ws_answer_fits(&whole, key) == ws_answer_fits(&cut, key));
	}
	ws_answer_fini(&whole);
	ws_answer_fini(&cut);
	return 0;
}
