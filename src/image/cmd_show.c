/* SPDX-License-Identifier: Apache-2.0 */
/* msb-image ls, inspect, history, df: what is in the store. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "image/cmd.h"
#include "image/rootimage.h"

void cmd_print_json(json_t *doc)
{
	json_dumpf(doc, stdout, JSON_INDENT(2) | JSON_ENSURE_ASCII);
	putchar('\n');
	json_decref(doc);
}

void cmd_format_size(uint64_t bytes, char to[16])
{
	if (bytes)
		snprintf(to, 16, "%.1f MB", (double)bytes / 1e6);
	else
		snprintf(to, 16, "-");
}

int cmd_ls(struct cmd_options *o, int argc, char **argv, struct err *e)
{
	auto_free struct store_entry *v = NULL;
	json_t *doc = json_array();
	struct store *s;
	size_t n = 0;
	int rc;

	(void)argv;
	if (argc) {
		json_decref(doc);
		return cmd_usage(e, "ls [--json]");
	}
	rc = cmd_store(&s, e);
	if (!rc) {
		rc = store_list(s, &v, &n, e);
		store_close(s);
	}
	if (!rc && !o->json)
		printf("%-40s %-20s %12s %12s\n", "NAME", "DIGEST", "STORED", "ROOT IMAGE");
	for (size_t i = 0; !rc && i < n; i++) {
		char stored[16], rootfs[16];

		cmd_format_size(v[i].size, stored);
		cmd_format_size(v[i].rootfs_bytes, rootfs);
		if (o->json)
			json_array_append_new(doc,
					      json_pack("{s:s, s:s, s:s, s:I, s:I, s:I, s:b}",
							"name", v[i].name, "digest", v[i].digest,
							"created", v[i].created, "stored_bytes",
							(json_int_t)v[i].size, "rootfs_bytes",
							(json_int_t)v[i].rootfs_bytes, "used",
							(json_int_t)v[i].used, "in_use",
							v[i].in_use));
		else
			printf("%-40s %-20.19s %12s %12s\n", v[i].name[0] ? v[i].name : "-",
			       v[i].digest, stored, rootfs);
	}
	if (!rc && o->json)
		cmd_print_json(doc);
	else
		json_decref(doc);
	return rc;
}

int cmd_inspect(struct cmd_options *o, int argc, char **argv, struct err *e)
{
	auto_close int fd = -1;
	json_t *doc, *config;
	struct image *img;
	struct store *s;
	struct err why = ERR_INIT;
	char *text;
	int rc;

	(void)o;
	if (argc != 1)
		return cmd_usage(e, "inspect IMAGE");
	rc = cmd_store(&s, e);
	if (rc)
		return rc;
	rc = store_resolve(s, argv[0], &img, e);
	store_close(s);
	if (rc)
		return rc;
	text = image_config_format(&img->config);
	config = text ? json_loads(text, 0, NULL) : NULL;
	free(text);
	rootimage_open(img->rootfs, &fd, &why);
	doc = json_pack("{s:s, s:s, s:s, s:I, s:s, s:s, s:o}", "name", img->reference, "digest",
			img->digest, "config_digest", img->config_digest, "stored_bytes",
			(json_int_t)img->size, "rootfs", img->rootfs, "rootfs_state",
			fd >= 0 ? "ok" : err_text(&why), "config", config);
	image_free(img);
	cmd_print_json(doc);
	return 0;
}

int cmd_df(struct cmd_options *o, int argc, char **argv, struct err *e)
{
	struct store_usage u = { .blobs = 0 };
	uint64_t frees = 0, frees_all = 0;
	struct store *s;
	int rc;

	(void)argv;
	if (argc)
		return cmd_usage(e, "df [--json]");
	rc = cmd_store(&s, e);
	if (rc)
		return rc;
	rc = store_measure(s, &u, e);
	if (!rc)
		rc = store_prunable(s, false, &frees, e);
	if (!rc)
		rc = store_prunable(s, true, &frees_all, e);
	store_close(s);
	if (rc)
		return rc;
	if (o->json) {
		cmd_print_json(json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "blobs",
					 (json_int_t)u.n_blobs, "blob_bytes", (json_int_t)u.blobs,
					 "root_images", (json_int_t)u.n_rootfs, "root_image_bytes",
					 (json_int_t)u.rootfs, "unfinished_bytes",
					 (json_int_t)u.unfinished, "prune_frees", (json_int_t)frees,
					 "prune_all_frees", (json_int_t)frees_all));
		return 0;
	}
	printf("%-24s %6s %12s\n", "", "FILES", "SIZE");
	printf("%-24s %6u %9.1f MB\n", "layers and documents", u.n_blobs, (double)u.blobs / 1e6);
	printf("%-24s %6u %9.1f MB\n", "root images", u.n_rootfs, (double)u.rootfs / 1e6);
	printf("%-24s %6s %9.1f MB\n", "unfinished", "", (double)u.unfinished / 1e6);
	printf("%-24s %6s %9.1f MB\n", "prune would free", "", (double)frees / 1e6);
	printf("%-24s %6s %9.1f MB\n", "prune --all would free", "", (double)frees_all / 1e6);
	return 0;
}

/* Control bytes of an image's text do not reach a terminal. */
static void cmd_print_plain(const char *s)
{
	for (; *s; s++)
		putchar((unsigned char)*s < ' ' || *s == 0x7f ? ' ' : *s);
}

/* The newest step first, as docker has it; a step without a layer changed the configuration only. */
static void cmd_print_history(const json_t *list, const struct manifest *m)
{
	size_t layer = m->n_layers;

	printf("%-24s %12s  %s\n", "CREATED", "LAYER", "BY");
	for (size_t i = json_array_size(list); i-- > 0;) {
		const json_t *step = json_array_get(list, i);
		const char *created = json_string_value(json_object_get(step, "created"));
		const char *by = json_string_value(json_object_get(step, "created_by"));
		char size[16] = "-";

		if (!json_is_true(json_object_get(step, "empty_layer")) && layer)
			cmd_format_size(m->layers[--layer].size, size);
		printf("%-24.20s %12s  ", created ? created : "-", size);
		cmd_print_plain(by ? by : "-");
		putchar('\n');
	}
}

int cmd_history(struct cmd_options *o, int argc, char **argv, struct err *e)
{
	auto_free char *text = NULL;
	json_t *config, *list;
	struct manifest m;
	struct store *s;
	size_t len;
	int rc;

	if (argc != 1)
		return cmd_usage(e, "history [--json] IMAGE");
	rc = cmd_store(&s, e);
	if (rc)
		return rc;
	rc = store_documents(s, argv[0], &m, &text, &len, e);
	store_close(s);
	if (rc)
		return rc;
	config = json_loadb(text, len, 0, NULL);
	list = json_object_get(config, "history");
	if (o->json)
		cmd_print_json(json_is_array(list) ? json_incref(list) : json_array());
	else
		cmd_print_history(list, &m);
	json_decref(config);
	manifest_fini(&m);
	return 0;
}
