/* SPDX-License-Identifier: Apache-2.0 */
/* Secrets as people write them, and the text for msb-net: what is accepted is read back the same. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "codec/secret.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void fuzz_spec(const uint8_t *data, size_t size)
{
	struct secret s = { .value = NULL };
	struct secret_source from;
	char *text = malloc(size + 1);

	assert(text);
	memcpy(text, data, size);
	text[size] = '\0';
	if (!secret_parse(text, &s, &from, NULL)) {
		assert(s.name[0] && s.n_hosts && s.n_hosts <= SECRET_HOSTS_MAX && from.len);
		assert((from.what >= text && from.what + from.len <= text + size) ||
		       from.what == s.name);
		for (unsigned i = 0; i < s.n_hosts; i++)
			assert(!secret_is_for(&s, "", 80) && s.hosts[i].n_ports == 1);
	}
	secret_fini(&s);
	free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct secret_list l = { .v = NULL }, again = { .v = NULL };
	struct buf a = BUF_INIT, b = BUF_INIT;

	fuzz_spec(data, size);
	if (secret_list_parse((const char *)data, size, &l, NULL))
		return 0;
	assert(l.n <= SECRETS_MAX);
	assert(!secret_list_format(&l, &a));
	assert(!secret_list_parse((const char *)buf_data(&a), buf_len(&a), &again, NULL));
	assert(again.n == l.n && !secret_list_format(&again, &b));
	assert(buf_len(&a) == buf_len(&b) && !memcmp(buf_data(&a), buf_data(&b), buf_len(&a)));
	buf_fini(&a);
	buf_fini(&b);
	secret_list_fini(&l);
	secret_list_fini(&again);
	return 0;
}
