/* SPDX-License-Identifier: Apache-2.0 */
/* A recipe's text: any bytes are an error or a recipe within its limits. */
#include <assert.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "codec/recipe.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct err e = ERR_INIT;
	struct recipe r;

	if (recipe_parse((const char *)data, size, &r, &e)) {
		assert(e.code);
		return 0;
	}
	assert(r.name[0] && r.packages);
	for (size_t i = 0; i < r.n_steps; i++) {
		assert(r.steps[i].path[0] == '/' && !strstr(r.steps[i].path, "/../"));
		recipe_keeps(&r, r.steps[i].path);
	}
	recipe_fini(&r);
	return 0;
}
