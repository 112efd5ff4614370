/* SPDX-License-Identifier: Apache-2.0 */
/* The JSON documents of an image: what is read can be written and read again. */
#include <assert.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "codec/manifest.h"

static void fuzz_index(const void *p, size_t n)
{
	struct index x, again;
	char *s;

	if (index_parse(p, n, &x, NULL))
		return;
	s = index_format(&x);
	assert(s && !index_parse(s, strlen(s), &again, NULL));
	assert(again.n == x.n);
	free(s);
	index_fini(&again);
	index_fini(&x);
}

static void fuzz_manifest(const void *p, size_t n)
{
	struct manifest m, again;
	char *s;

	if (manifest_parse(p, n, &m, NULL))
		return;
	s = manifest_format(&m);
	assert(s && !manifest_parse(s, strlen(s), &again, NULL));
	assert(again.n_layers == m.n_layers);
	free(s);
	manifest_fini(&again);
	manifest_fini(&m);
}

static void fuzz_config(const void *p, size_t n)
{
	struct image_config c, again;
	char *s;

	if (image_config_parse(p, n, &c, NULL))
		return;
	s = image_config_format(&c);
	assert(s && !image_config_parse(s, strlen(s), &again, NULL));
	assert(again.n_diff_ids == c.n_diff_ids);
	assert(strlist_count(again.env) == strlist_count(c.env));
	free(s);
	image_config_fini(&again);
	image_config_fini(&c);
}

/* A document's kind is one of four, and an index's entry is for the platform that was asked for. */
static void fuzz_kind(const void *p, size_t n)
{
	const char *kind = manifest_kind(p, n, MEDIA_MANIFEST, NULL);
	const struct index_entry *en;
	struct index x;

	assert(!kind || manifest_is_index(kind) != manifest_is_manifest(kind));
	if (index_parse(p, n, &x, NULL))
		return;
	en = index_pick(&x, "linux", "amd64", "");
	assert(!en || (!strcmp(en->os, "linux") && !strcmp(en->arch, "amd64")));
	index_fini(&x);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	fuzz_kind(data, size);
	fuzz_index(data, size);
	fuzz_manifest(data, size);
	fuzz_config(data, size);
	return 0;
}
