/* SPDX-License-Identifier: Apache-2.0 */
/* The list of images in an archive: what is read can be written and read again. */
#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "codec/docker_archive.h"
#include "codec/manifest.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct docker_archive a, again;
	char *text;

	if (docker_archive_parse(data, size, &a, NULL))
		return 0;
	text = docker_archive_format(&a);
	assert(text && !docker_archive_parse(text, strlen(text), &again, NULL));
	assert(a.n == again.n);
	for (size_t i = 0; i < a.n; i++) {
		assert(!strcmp(a.images[i].config, again.images[i].config));
		assert(strlist_count(a.images[i].layers) == strlist_count(again.images[i].layers));
		assert(strlist_count(a.images[i].tags) == strlist_count(again.images[i].tags));
	}
	docker_archive_fini(&again);
	docker_archive_fini(&a);
	free(text);
	return 0;
}
