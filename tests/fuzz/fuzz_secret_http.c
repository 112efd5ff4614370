/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bytes of a guest towards a host with secrets.  However they are cut the same comes out.  With
 * values that are the placeholders themselves nothing but what is left out (an empty line before
 * a request, the offer of h2c) changes; with others only known places may differ; what follows
 * a refusal is never sent.  The first byte of the input says how it is cut.
 */
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "codec/httpsub.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define INPUT_MAX 20000u

static void fuzz_list(struct secret_list *l, const char *a, const char *b)
{
	char text[512];
	int n = snprintf(text, sizeof(text),
			 "secrets 1\nsecret K\nhost a.example:80\nvalue %s\n"
			 "secret KEY_2\nhost *.example:60-100\nhost a.example:80\nvalue %s\n",
			 a, b);

	assert(!secret_list_parse(text, (size_t)n, l, NULL));
}

static int fuzz_run(const struct secret_list *l, uint32_t mask, const uint8_t *p, size_t n,
		    size_t piece, struct buf *out, uint64_t *requests)
{
	struct httpsub h;
	int rc = 0;

	httpsub_init(&h, l->v, mask, 80);
	for (size_t at = 0; at < n && !rc; at += piece)
		rc = httpsub_feed(&h, p + at, n - at < piece ? n - at : piece, out, NULL);
	assert(rc == 0 || rc == -EPROTO);
	assert(buf_len(&h.head) <= HTTPSUB_HEAD_MAX && h.requests <= n);
	if (!rc)
		assert(!httpsub_finish(&h, out));
	*requests = h.requests;
	assert(mask || !h.used);
	httpsub_fini(&h);
	return rc;
}

static bool fuzz_same(const struct buf *a, const struct buf *b)
{
	return buf_len(a) == buf_len(b) &&
	       (!buf_len(a) || !memcmp(buf_data(a), buf_data(b), buf_len(a)));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct secret_list l = { .v = NULL }, itself = { .v = NULL };
	struct buf whole = BUF_INIT, cut = BUF_INIT, none = BUF_INIT, same = BUF_INIT;
	uint64_t n[4];
	size_t piece;
	int rc;

	if (!size || size > INPUT_MAX)
		return 0;
	piece = 1 + data[0] % 64;
	data++;
	size--;
	fuzz_list(&l, "<value>", "v2");
	fuzz_list(&itself, SECRET_PLACEHOLDER "K", SECRET_PLACEHOLDER "KEY_2");
	rc = fuzz_run(&l, 3, data, size, size + 1, &whole, &n[0]);
	assert(rc == fuzz_run(&l, 3, data, size, piece, &cut, &n[1]));
	assert(n[0] == n[1] && fuzz_same(&whole, &cut));
	assert(rc == fuzz_run(&l, 0, data, size, size + 1, &none, &n[2]));
	assert(rc == fuzz_run(&itself, 3, data, size, size + 1, &same, &n[3]));
	assert(n[2] == n[3] && n[2] == n[0] && fuzz_same(&none, &same));
	assert(buf_len(&none) <= size);
	buf_fini(&whole);
	buf_fini(&cut);
	buf_fini(&none);
	buf_fini(&same);
	secret_list_fini(&l);
	secret_list_fini(&itself);
	return 0;
}
