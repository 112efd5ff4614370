/* SPDX-License-Identifier: Apache-2.0 */
/* msb-image ls, inspect: what is in the store. */
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
			json_array_append_new(doc, json_pack("{s:s, s:s, s:s, s:I, s:I}", "name",
							     v[i].name, "digest", v[i].digest,
							     "created", v[i].created, "stored_bytes",
							     (json_int_t)v[i].size, "rootfs_bytes",
							     (json_int_t)v[i].rootfs_bytes));
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
