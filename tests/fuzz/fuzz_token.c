/* SPDX-License-Identifier: Apache-2.0 */
/* A key that somebody sends: without the secret none is ever accepted. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "codec/token.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char secret[] = "0123456789abcdef0123456789abcdef";
	struct token_claims c, again;
	char *text, *key;

	if (size > 4096)
		return 0;
	text = malloc(size + 1);
	assert(text);
	memcpy(text, data, size);
	text[size] = '\0';
	if (!token_check(secret, 32, text, 1000, &c)) {
		/* Only one of ours (they are in the corpus), and then it says what it said. */
		assert(!token_make(secret, 32, &c, &key));
		assert(!token_check(secret, 32, key, 1000, &again));
		assert(!strcmp(c.ns, again.ns) && c.expires == again.expires);
		assert(!memcmp(&c.limits, &again.limits, sizeof(c.limits)));
		free(key);
	}
	free(text);
	return 0;
}
