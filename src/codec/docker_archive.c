/* SPDX-License-Identifier: Apache-2.0 */
#include "codec/docker_archive.h"

#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "codec/manifest.h"

static int archive_list(const json_t *list, size_t max, char ***out, struct err *e)
{
	if (list && !json_is_null(list) && (!json_is_array(list) || json_array_size(list) > max))
		return err_set(e, EINVAL, "not a list of at most %zu names", max);
	*out = calloc(json_array_size(list) + 1, sizeof(**out));
	if (!*out)
		return err_errno(e, ENOMEM, "read it");
	for (size_t i = 0; i < json_array_size(list); i++) {
		const char *s = json_string_value(json_array_get(list, i));

		if (!s || !*s)
			return err_set(e, EINVAL, "a name is not a string");
		(*out)[i] = strdup(s);
		if (!(*out)[i])
			return err_errno(e, ENOMEM, "read it");
	}
	return 0;
}

static int archive_image(const json_t *o, struct docker_image *im, struct err *e)
{
	const char *config = json_string_value(json_object_get(o, "Config"));
	int rc;

	if (!config || !*config)
		return err_set(e, EINVAL, "no member Config");
	im->config = strdup(config);
	if (!im->config)
		return err_errno(e, ENOMEM, "read it");
	rc = archive_list(json_object_get(o, "Layers"), MANIFEST_LAYERS_MAX, &im->layers, e);
	return rc ? rc : archive_list(json_object_get(o, "RepoTags"), 1024, &im->tags, e);
}

int docker_archive_parse(const void *p, size_t len, struct docker_archive *out, struct err *e)
{
	json_t *doc =
		len <= MANIFEST_DOC_MAX ? json_loadb(p, len, JSON_REJECT_DUPLICATES, NULL) : NULL;
	struct docker_archive a = { .n = 0 };
	int rc = 0;

	if (!json_is_array(doc) || json_array_size(doc) > DOCKER_ARCHIVE_IMAGES_MAX)
		rc = err_set(e, EINVAL, "not a list of at most %u images",
			     DOCKER_ARCHIVE_IMAGES_MAX);
	else if (!(a.images = calloc(json_array_size(doc) + 1, sizeof(*a.images))))
		rc = err_errno(e, ENOMEM, "read it");
	while (!rc && a.n < json_array_size(doc)) {
		rc = archive_image(json_array_get(doc, a.n), &a.images[a.n], e);
		a.n++;
	}
	json_decref(doc);
	if (rc) {
		docker_archive_fini(&a);
		err_wrap(e, "manifest.json");
	} else {
		*out = a;
	}
	return rc;
}

void docker_archive_fini(struct docker_archive *a)
{
	for (size_t i = 0; i < a->n; i++) {
		free(a->images[i].config);
		strlist_free(a->images[i].layers);
		strlist_free(a->images[i].tags);
	}
	free(a->images);
	*a = (struct docker_archive){ .n = 0 };
}

static json_t *archive_dump_list(char *const *list)
{
	json_t *a = json_array();

	for (; list && *list; list++)
		json_array_append_new(a, json_string(*list));
	return a;
}

char *docker_archive_format(const struct docker_archive *a)
{
	json_t *doc = json_array();
	char *text;

	for (size_t i = 0; i < a->n; i++)
		json_array_append_new(doc,
				      json_pack("{s:s, s:o, s:o}", "Config", a->images[i].config,
						"RepoTags", archive_dump_list(a->images[i].tags),
						"Layers", archive_dump_list(a->images[i].layers)));
	text = json_dumps(doc, JSON_COMPACT);
	json_decref(doc);
	return text;
}
