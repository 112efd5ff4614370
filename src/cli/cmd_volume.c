/* SPDX-License-Identifier: Apache-2.0 */
/* `msb volume`: named volumes. */
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/mem.h"
#include "cli/cli.h"
#include "cli/print_json.h"
#include "lib/volumes.h"
#include "sys/parts.h"

enum volume_opt { VOLUME_SIZE, VOLUME_NAMESPACE, VOLUME_JSON, VOLUME_QUIET };

const struct cli_opt volume_opts[] = {
	[VOLUME_SIZE] = { "size", NULL, "s", "SIZE",
			  "create: what its files may take together: 512M, 10G (default: no "
			  "limit)" },
	[VOLUME_NAMESPACE] = { "namespace", NULL, "n", "NAME",
			       "volumes of this namespace of the server (default: those of msx)" },
	[VOLUME_JSON] = { "json", NULL, "", NULL, "ls: for programs" },
	[VOLUME_QUIET] = { "quiet", NULL, "q", NULL, "ls: names alone" },
	{ NULL },
};

struct volume_cmd {
	const struct cli_command *cmd;
	const char *parent, *ns;
	uint64_t size;
	bool json, quiet;
	json_t *list;
	char **names;
	int n_names;
};

static json_t *volume_to_json(const struct volume_cmd *c, const struct volume_info *v, struct err *e)
{
	auto_free char *path = NULL;
	uint64_t used = 0;

	if (volumes_path(c->parent, v->name, &path, e) ||
	    volumes_usage(c->parent, v->name, &used, e))
		return NULL;
	return json_pack("{s:s, s:s, s:I, s:I, s:I, s:b}", "name", v->name, "path", path, "size",
			 (json_int_t)v->quota, "used", (json_int_t)used, "created",
			 (json_int_t)v->created_s, "in_use", v->in_use);
}

static void volume_print_size(uint64_t bytes)
{
	static const char *const units[] = { "B", "KiB", "MiB", "GiB", "TiB" };
	double v = (double)bytes;
	unsigned u = 0;

	for (; v >= 1024 && u + 1 < ARRAY_SIZE(units); u++)
		v /= 1024;
	printf("%8.*f %-3s", u && v < 10 ? 1 : 0, v, units[u]);
}

static void volume_list_one(void *ctx, const struct volume_info *v)
{
	struct volume_cmd *c = ctx;
	uint64_t used = 0;

	if (c->quiet) {
		puts(v->name);
		return;
	}
	if (c->json) {
		json_t *j = volume_to_json(c, v, NULL);

		if (j)
			json_array_append_new(c->list, j);
		return;
	}
	volumes_usage(c->parent, v->name, &used, NULL);
	printf("%-32s", v->name);
	volume_print_size(used);
	if (v->quota)
		volume_print_size(v->quota);
	else
		printf("%12s", "no limit");
	printf("  %s\n", v->in_use ? "in use" : "");
}

static int volume_ls(struct volume_cmd *c)
{
	struct err e = ERR_INIT;

	c->list = json_array();
	if (!c->json && !c->quiet)
		printf("%-32s%12s%12s\n", "NAME", "USED", "SIZE");
	if (volumes_each(c->parent, volume_list_one, c, &e)) {
		json_decref(c->list);
		return cli_fail(&e);
	}
	if (c->json)
		return print_json(c->list);
	json_decref(c->list);
	return CLI_OK;
}

static int volume_inspect(struct volume_cmd *c)
{
	json_t *all = json_array();
	struct err e = ERR_INIT;

	for (int i = 0; i < c->n_names; i++) {
		struct volume_info v;
		json_t *j = volumes_get(c->parent, c->names[i], &v, &e) ? NULL
									: volume_to_json(c, &v, &e);

		if (!j) {
			json_decref(all);
			return cli_fail(&e);
		}
		json_array_append_new(all, j);
	}
	return print_json(all);
}

static int volume_create(struct volume_cmd *c)
{
	struct err e = ERR_INIT;

	for (int i = 0; i < c->n_names; i++)
		if (volumes_create(c->parent, c->names[i], c->size, NULL, &e))
			return cli_fail(&e);
	return CLI_OK;
}

/* Removes what it can, and says what it could not. */
static int volume_rm(struct volume_cmd *c)
{
	int status = CLI_OK;

	for (int i = 0; i < c->n_names; i++) {
		struct err e = ERR_INIT;

		if (volumes_remove(c->parent, c->names[i], &e))
			status = cli_fail(&e);
	}
	return status;
}

static int volume_dispatch(struct volume_cmd *c, const char *verb)
{
	bool ls = !strcmp(verb, "ls") || !strcmp(verb, "list");

	if (c->size && strcmp(verb, "create"))
		return cli_usage(c->cmd, "--size is for create");
	if (ls && c->n_names)
		return cli_usage(c->cmd, "unexpected argument '%s'", c->names[0]);
	if (ls && c->json && c->quiet)
		return cli_usage(c->cmd, "--json and --quiet: give one of them");
	if (ls)
		return volume_ls(c);
	if (c->json)
		return cli_usage(c->cmd, "--json is for ls; inspect always prints JSON");
	if (c->quiet)
		return cli_usage(c->cmd, "--quiet is for ls");
	if (strcmp(verb, "create") && strcmp(verb, "rm") && strcmp(verb, "inspect"))
		return cli_usage(c->cmd,
				 "unknown command 'volume %s': use create, ls, rm or inspect",
				 verb);
	if (!c->n_names)
		return cli_usage(c->cmd, "which volume? For example: msb volume %s data", verb);
	return !strcmp(verb, "create") ? volume_create(c)
	       : !strcmp(verb, "rm")   ? volume_rm(c)
				       : volume_inspect(c);
}

int cmd_volume(const struct cli_command *cmd, int argc, char **argv)
{
	struct volume_cmd c = { .cmd = cmd };
	auto_free char *home = NULL;
	auto_free char *parent = NULL;
	struct err e = ERR_INIT;
	struct cli_args a;
	int opt;

	cli_args_init(&a, cmd, argc, argv);
	while ((opt = cli_args_next(&a)) >= 0) {
		if (opt == VOLUME_SIZE && volume_parse_size(a.value, &c.size))
			return cli_usage(cmd,
					 "--size is '%s': give MiB or a size such as 512M or 10G",
					 a.value);
		if (opt == VOLUME_NAMESPACE) {
			c.ns = a.value;
			if (!cli_is_name(c.ns))
				return cli_usage(cmd, "--namespace is '%s': give the name of one",
						 c.ns);
		}
		c.json |= opt == VOLUME_JSON;
		c.quiet |= opt == VOLUME_QUIET;
	}
	if (opt != CLI_OPT_END)
		return cli_args_status(opt);
	if (!a.n_words)
		return cli_usage(cmd, "what? create, ls, rm or inspect");
	if (parts_home(&home, &e) || volumes_parent(home, c.ns, &parent, &e))
		return cli_fail(&e);
	c.parent = parent;
	c.names = a.words + 1;
	c.n_names = a.n_words - 1;
	return volume_dispatch(&c, a.words[0]);
}
