/* SPDX-License-Identifier: Apache-2.0 */
/* msb-image rm, prune. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/mem.h"
#include "image/cmd.h"

static int cmd_total(struct store_writer *w, uint64_t *bytes, struct err *e)
{
	struct store_usage u;
	int rc = store_measure(store_writer_store(w), &u, e);

	if (!rc)
		*bytes = u.blobs + u.rootfs + u.unfinished;
	return rc;
}

/* An image by any name that means it; all names of one that is given by its digest alone. */
static int cmd_rm_one(struct store_writer *w, const char *name, bool force, json_t *removed,
		      struct err *e)
{
	struct err again = ERR_INIT;
	struct image *img;
	int rc;

	if (digest_valid(name, strlen(name))) {
		rc = store_remove(w, name, force, e);
		if (!rc)
			json_array_append_new(removed, json_string(name));
		return rc;
	}
	rc = store_resolve(store_writer_store(w), name, &img, e);
	if (!rc) {
		const char *full = img->reference[0] ? img->reference : img->digest;

		rc = store_remove(w, full, force, e);
		if (!rc)
			json_array_append_new(removed, json_string(full));
		image_free(img);
	} else if ((rc == -EINVAL || rc == -ENOENT) && store_remove(w, name, force, &again) == 0) {
		/* A damaged image can be removed by its full name. */
		err_clear(e);
		rc = 0;
		json_array_append_new(removed, json_string(name));
	}
	return rc;
}

int cmd_rm(struct cmd_options *o, int argc, char **argv, struct err *e)
{
	uint64_t before = 0, after = 0;
	struct store_writer *w;
	json_t *removed;
	int rc, measured;

	if (!argc)
		return cmd_usage(e, "rm [--force] [--json] IMAGE...");
	rc = cmd_writer(&w, e);
	if (rc)
		return rc;
	removed = json_array();
	measured = o->json ? cmd_total(w, &before, NULL) : -1;
	for (int i = 0; !rc && i < argc; i++)
		rc = cmd_rm_one(w, argv[i], o->force, removed, e);
	measured = measured ? measured : cmd_total(w, &after, NULL);
	store_writer_close(w);
	/* Also if one of them is not there or in use: those before it are gone. */
	if (o->json)
		cmd_print_json(
			json_pack("{s:O, s:I}", "removed", removed, "freed_bytes",
				  (json_int_t)(measured || after > before ? 0 : before - after)));
	json_decref(removed);
	return rc;
}

static int cmd_prune_order(const void *a, const void *b)
{
	const struct store_entry *x = a, *y = b;

	return (x->used > y->used) - (x->used < y->used);
}

/* Images that the options are for, least recently used first. */
static int cmd_prune_images(struct cmd_options *o, struct store_writer *w, json_t *removed,
			    struct err *e)
{
	auto_free struct store_entry *v = NULL;
	int64_t now = time(NULL);
	uint64_t total;
	size_t n = 0;
	int rc = store_list(store_writer_store(w), &v, &n, e);

	if (rc)
		return rc;
	qsort(v, n, sizeof(*v), cmd_prune_order);
	for (size_t i = 0; !rc && i < n; i++) {
		bool old = now - v[i].used >= 0 && (uint64_t)(now - v[i].used) >= o->older_s;

		rc = cmd_total(w, &total, e);
		if (rc || v[i].in_use || !(o->all || old || total > o->max_bytes))
			continue;
		rc = store_remove(w, v[i].name[0] ? v[i].name : v[i].digest, false, e);
		if (rc == -EBUSY || rc == -ENOENT) {
			/* Somebody was faster. */
			err_clear(e);
			rc = 0;
			continue;
		}
		if (!rc)
			json_array_append_new(removed,
					      json_string(v[i].name[0] ? v[i].name : v[i].digest));
	}
	return rc;
}

int cmd_prune(struct cmd_options *o, int argc, char **argv, struct err *e)
{
	uint64_t before, after, freed;
	json_t *removed = json_array();
	struct store_writer *w;
	int rc;

	(void)argv;
	if (argc) {
		json_decref(removed);
		return cmd_usage(e, "prune [--all] [--older-than TIME] [--max-size SIZE]");
	}
	rc = cmd_writer(&w, e);
	if (rc) {
		json_decref(removed);
		return rc;
	}
	rc = cmd_total(w, &before, e);
	if (!rc)
		rc = store_prune(w, &freed, e);
	if (!rc)
		rc = cmd_prune_images(o, w, removed, e);
	if (!rc)
		rc = cmd_total(w, &after, e);
	store_writer_close(w);
	if (rc) {
		json_decref(removed);
		return rc;
	}
	freed = before > after ? before - after : 0;
	if (o->json) {
		cmd_print_json(json_pack("{s:o, s:I}", "removed", removed, "freed_bytes",
					 (json_int_t)freed));
		return 0;
	}
	for (size_t i = 0; i < json_array_size(removed); i++)
		printf("%s\n", json_string_value(json_array_get(removed, i)));
	printf("freed %.1f MB\n", (double)freed / 1e6);
	json_decref(removed);
	return 0;
}
