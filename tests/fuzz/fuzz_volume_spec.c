/* SPDX-License-Identifier: Apache-2.0 */
/* --volume and --tmpfs: what is accepted keeps its promises, and so does what it is written as. */
#include <assert.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "codec/volume.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_guest(const char *path)
{
	char *again = NULL;
	size_t n = strlen(path);

	assert(path[0] == '/' && n > 1 && path[n - 1] != '/' && !strstr(path, "//"));
	assert(!strstr(path, "/../") && strcmp(path, "/proc") && strncmp(path, "/sys/", 5));
	assert(!volume_guest_path(path, &again, NULL) && !strcmp(path, again));
	free(again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = malloc(size + 1);
	struct volume_list list = { .n = 0 };

	assert(text);
	if (size)
		memcpy(text, data, size);
	text[size] = '\0';
	for (int tmpfs = 0; tmpfs < 2; tmpfs++) {
		struct volume v;
		struct err e = ERR_INIT;

		if (volume_parse(text, tmpfs, &v, &e)) {
			assert(e.code && e.msg[0]);
			continue;
		}
		check_guest(v.guest);
		assert((v.kind == VOLUME_TMPFS) == (bool)tmpfs);
		assert(tmpfs ? !v.source && !v.readonly : v.source && *v.source && !v.size);
		assert(v.kind != VOLUME_NAMED || volume_name_valid(v.source));
		/* The second has the first one's place. */
		assert(volume_list_add(&list, &v, NULL) == 0 || list.n == 1);
	}
	volume_list_sort(&list);
	volume_list_fini(&list);
	free(text);
	return 0;
}
