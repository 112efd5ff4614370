/* SPDX-License-Identifier: Apache-2.0 */
/* Published ports, one text a line: what is accepted is canonical, and is read back the same. */
#include <assert.h>
#include <stdint.h>
#include <string.h>

#include "codec/publish.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_list(const struct publish_list *l)
{
	char text[PUBLISH_TEXT_MAX];

	assert(l->n <= PUBLISH_MAX);
	for (size_t i = 0; i < l->n; i++) {
		struct publish_list again = { .n = 0 };

		assert(l->v[i].guest);
		publish_format(&l->v[i], text);
		assert(strlen(text) < sizeof(text) - 1);
		assert(!publish_add(&again, text, NULL) && again.n == 1);
		assert(!memcmp(&again.v[0], &l->v[i], sizeof(again.v[0])));
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct publish_list l = { .n = 0 };
	char line[200];
	size_t n = 0;

	for (size_t i = 0; i < size; i++) {
		if (data[i] != '\n' && n + 1 < sizeof(line)) {
			line[n++] = (char)data[i];
			continue;
		}
		line[n] = '\0';
		n = 0;
		if (publish_add(&l, line, NULL))
			check_list(&l);
	}
	line[n] = '\0';
	publish_add(&l, line, NULL);
	check_list(&l);
	return 0;
}
