/* SPDX-License-Identifier: Apache-2.0 */
/* What a registry and its token service answer, and the file that says how to reach registries. */
#include <assert.h>
#include <stdint.h>
#include <string.h>

#include "codec/registries.h"
#include "codec/registry_doc.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static char token[REGISTRY_TOKEN_MAX];
	struct registry_options o;
	char text[64];

	if (!registry_token_parse(data, size, token, NULL)) {
		assert(token[0]);
		for (const char *p = token; *p; p++)
			assert(*p > ' ' && *p <= '~');
	}
	registry_error_text(data, size, text, sizeof(text));
	for (const char *p = text; *p; p++)
		assert(*p >= ' ' && *p <= '~');
	if (!registries_find(data, size, "docker.io", &o, NULL))
		for (unsigned i = 0; i < o.n_mirrors; i++)
			assert(!strncmp(o.mirrors[i], "http", 4) && !strpbrk(o.mirrors[i], "@ ?#"));
	return 0;
}
