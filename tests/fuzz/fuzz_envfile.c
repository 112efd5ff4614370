/* SPDX-License-Identifier: Apache-2.0 */
/* A file of variables: any bytes are an error or NAME=value, each within the text's length. */
#include <assert.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "codec/envfile.h"
#include "codec/manifest.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct err e = ERR_INIT;
	char **list = NULL;

	if (envfile_parse((const char *)data, size, &list, &e))
		assert(e.code);
	for (size_t i = 0; list && list[i]; i++) {
		const char *eq = strchr(list[i], '=');

		assert(eq && eq > list[i] && strlen(list[i]) <= size);
	}
	strlist_free(list);
	return 0;
}
