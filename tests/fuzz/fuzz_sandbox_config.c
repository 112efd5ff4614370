/* SPDX-License-Identifier: Apache-2.0 */
/* config.json: what parses can be written again, and reads back the same. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "codec/sandbox_config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct sandbox_config c, d;
	char *text;

	if (sandbox_config_parse((const char *)data, size, &c, NULL))
		return 0;
	if (sandbox_config_format(&c, &text, NULL) ||
	    sandbox_config_parse(text, strlen(text), &d, NULL))
		abort();
	sandbox_config_fini(&d);
	sandbox_config_fini(&c);
	free(text);
	return 0;
}
