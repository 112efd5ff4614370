/* SPDX-License-Identifier: Apache-2.0 */
/* `msb list` and `msb clean`: what a project, or this user, has; and the end of it. */
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "cli/cli.h"
#include "cli/kept_wait.h"
#include "cli/print_json.h"
#include "cli/project_open.h"
#include "cli/project_opts.h"
#include "lib/keep.h"
#include "project/install.h"
#include "sys/parts.h"

enum list_opt { LIST_FILE, LIST_SANDBOX, LIST_BUILD, LIST_INSTALLED, LIST_JSON, LIST_QUIET };

const struct cli_opt list_opts[] = {
	[LIST_FILE] = PROJECT_OPT_FILE,
	[LIST_SANDBOX] = { "sandbox", NULL, "s", NULL,
			   "sandboxes (always; accepted for compatibility)" },
	[LIST_BUILD] = { "build", NULL, "b", NULL, "refused: builds are not listed" },
	[LIST_INSTALLED] = { "installed", NULL, "", NULL,
			     "the commands that msb install made, instead of a project" },
	[LIST_JSON] = { "json", NULL, "", NULL, "one JSON document, for programs" },
	[LIST_QUIET] = { "quiet", NULL, "q", NULL, "only the names" },
	{ NULL },
};

enum clean_opt { CLEAN_FILE, CLEAN_ALL, CLEAN_FORCE };

const struct cli_opt clean_opts[] = {
	[CLEAN_FILE] = PROJECT_OPT_FILE,
	[CLEAN_ALL] = { "all", NULL, "a", NULL, "of all sandboxes of the project" },
	[CLEAN_FORCE] = { "force", NULL, "F", NULL,
			  "also of a sandbox that runs: it is killed first" },
	{ NULL },
};

/* ---- list ------------------------------------------------------------------------- */

static void list_words(json_t *o, const char *key, const struct sandboxfile_list *l)
{
	json_t *a = json_array();

	for (size_t i = 0; i < l->n; i++)
		json_array_append_new(a, json_string(l->v[i]));
	json_object_set_new(o, key, a);
}

static json_t *list_json(const struct sandboxfile_sandbox *s)
{
	json_t *o = json_pack("{s:s, s:s, s:I, s:I, s:I, s:s}", "name", s->name, "image", s->image,
			      "memory_bytes",
			      (json_int_t)(s->memory_bytes ? s->memory_bytes : PLAN_MEMORY_DEFAULT),
			      "cpus", (json_int_t)(s->cpus ? s->cpus : 1), "disk_bytes",
			      (json_int_t)(s->disk_bytes ? s->disk_bytes : PLAN_DISK_DEFAULT),
			      "scope", s->scope ? s->scope : "public");
	json_t *scripts = json_array(), *ports = json_array();
	char text[PUBLISH_TEXT_MAX];

	for (size_t i = 0; i < s->scripts.n; i++)
		json_array_append_new(scripts, json_string(s->scripts.v[i].name));
	for (size_t i = 0; i < s->ports.n; i++) {
		publish_format(&s->ports.v[i], text);
		json_array_append_new(ports, json_string(text));
	}
	json_object_set_new(o, "scripts", scripts);
	json_object_set_new(o, "ports", ports);
	if (s->group)
		json_object_set_new(o, "group", json_string(s->group));
	list_words(o, "depends_on", &s->depends_on);
	return o;
}

static void list_print(const struct sandboxfile_sandbox *s)
{
	char text[PUBLISH_TEXT_MAX];

	printf("%s\n  image: %s\n  resources: %llu CPU, %llu MiB memory, %llu MiB disk\n"
	       "  network: %s%s%s\n",
	       s->name, s->image, (unsigned long long)(s->cpus ? s->cpus : 1),
	       (unsigned long long)(s->memory_bytes ? s->memory_bytes : PLAN_MEMORY_DEFAULT) >> 20,
	       (unsigned long long)(s->disk_bytes ? s->disk_bytes : PLAN_DISK_DEFAULT) >> 20,
	       s->scope ? s->scope : "public", s->group ? " " : "", s->group ? s->group : "");
	for (size_t i = 0; i < s->ports.n; i++) {
		publish_format(&s->ports.v[i], text);
		printf("%s%s%s", i ? ", " : "  ports: ", text, i + 1 == s->ports.n ? "\n" : "");
	}
	for (size_t i = 0; i < s->volumes.n; i++)
		printf("%s%s%s%s%s", i ? ", " : "  volumes: ",
		       s->volumes.v[i].source ? s->volumes.v[i].source : "tmpfs", ":",
		       s->volumes.v[i].guest, i + 1 == s->volumes.n ? "\n" : "");
	for (size_t i = 0; i < s->scripts.n; i++)
		printf("%s%s%s", i ? ", " : "  scripts: ", s->scripts.v[i].name,
		       i + 1 == s->scripts.n ? "\n" : "");
	for (size_t i = 0; i < s->depends_on.n; i++)
		printf("%s%s%s", i ? ", " : "  depends on: ", s->depends_on.v[i],
		       i + 1 == s->depends_on.n ? "\n" : "");
}

static int list_project(const char *file, bool json, bool quiet)
{
	struct project_view v;
	struct err e = ERR_INIT;
	int status = CLI_OK;
	json_t *all;

	if (project_open(file, true, &v, &e)) {
		project_close(&v);
		return cli_fail(&e);
	}
	all = json_array();
	for (size_t i = 0; i < v.p.file->n_sandboxes; i++) {
		const struct sandboxfile_sandbox *s = v.p.file->sandboxes[i];

		if (json)
			json_array_append_new(all, list_json(s));
		else if (quiet)
			puts(s->name);
		else
			list_print(s);
	}
	if (!json && !quiet)
		printf("%zu in all\n", v.p.file->n_sandboxes);
	if (json)
		status = print_json(json_incref(all));
	json_decref(all);
	project_close(&v);
	return status;
}

struct list_installed {
	const char *home;
	json_t *all;
};

static void list_add_installed(void *ctx, const char *name, const char *project)
{
	struct list_installed *l = ctx;
	auto_free char *path = install_command(l->home, name);
	const struct sandboxfile_sandbox *s = NULL;
	struct project p = { .dir = NULL };
	struct err e = ERR_INIT;

	if (!project_locate(project, &p, &e) && !project_load(&p, NULL, &e))
		s = sandboxfile_find(p.file, name);
	json_array_append_new(l->all, json_pack("{s:s, s:s?, s:s?, s:b}", "name", name, "image",
						s ? s->image : NULL, "command", path, "ours",
						path && install_is_command(path, name, l->home)));
	project_fini(&p);
}

static int list_all_installed(bool json, bool quiet)
{
	auto_free char *home = NULL;
	struct list_installed l = { .all = NULL };
	struct err e = ERR_INIT;
	json_t *v;
	size_t i;

	if (parts_home(&home, &e))
		return cli_fail(&e);
	l.home = home;
	l.all = json_array();
	if (install_each(home, list_add_installed, &l, &e)) {
		json_decref(l.all);
		return cli_fail(&e);
	}
	if (json)
		return print_json(l.all);
	json_array_foreach(l.all, i, v)
	{
		const char *image = json_string_value(json_object_get(v, "image"));
		const char *path = json_string_value(json_object_get(v, "command"));
		const char *name = json_string_value(json_object_get(v, "name"));

		if (quiet)
			puts(name);
		else
			printf("%-20s %-24s %s%s\n", name, image ? image : "?", path ? path : "?",
			       json_is_true(json_object_get(v, "ours")) ? "" : " (gone)");
	}
	json_decref(l.all);
	return CLI_OK;
}

int cmd_list(const struct cli_command *cmd, int argc, char **argv)
{
	bool installed = false, json = false, quiet = false;
	const char *file = NULL;
	struct cli_args a;
	int opt;

	cli_args_init(&a, cmd, argc, argv);
	while ((opt = cli_args_next(&a)) >= 0) {
		if (opt == LIST_BUILD)
			return cli_usage(cmd, "--build is not supported: builds are not listed");
		file = opt == LIST_FILE ? a.value : file;
		installed = installed || opt == LIST_INSTALLED;
		json = json || opt == LIST_JSON;
		quiet = quiet || opt == LIST_QUIET;
	}
	if (opt != CLI_OPT_END)
		return cli_args_status(opt);
	if (a.n_words)
		return cli_usage(cmd, "unexpected argument '%s'", a.words[0]);
	return installed ? list_all_installed(json, quiet) : list_project(file, json, quiet);
}

/* ---- clean ------------------------------------------------------------------------ */

struct clean {
	int parent_fd;
	bool force;
	unsigned removed;
	int status;
};

static void clean_one(void *ctx, const char *name, int dirfd)
{
	struct clean *c = ctx;
	struct err e = ERR_INIT;
	int rc = keep_remove(c->parent_fd, name, &e);

	if (rc == -EBUSY && c->force) {
		err_clear(&e);
		rc = kept_kill(dirfd, &e);
		if (!rc || rc == -ECONNREFUSED) {
			err_clear(&e);
			rc = keep_wait(dirfd, KEEP_END_MS, &e);
		}
		if (!rc)
			rc = keep_remove(c->parent_fd, name, &e);
	} else if (rc == -EBUSY) {
		err_clear(&e);
		err_set(&e, EBUSY, "sandbox %s is running: msb down %s first, or --force", name,
			name);
	}
	if (rc)
		c->status = cli_fail(&e);
	else
		c->removed++;
}

static int clean_run(const struct cli_command *cmd, const char *file, bool all, bool force,
		     const struct cli_args *a)
{
	struct clean c = { .parent_fd = -1, .force = force };
	struct project p = { .dir = NULL };
	auto_free char *menv = NULL;
	struct err e = ERR_INIT;
	int rc;

	(void)cmd;
	/* The file itself may be gone, or wrong. */
	if (project_locate(file, &p, &e) || !(menv = plan_menv(&p))) {
		project_fini(&p);
		return cli_fail(&e);
	}
	project_fini(&p);
	rc = keep_lock(menv, false, &c.parent_fd, &e);
	if (rc == -ENOENT)
		return CLI_OK; /* nothing was ever started */
	if (rc)
		return cli_fail(&e);
	if (all && keep_each(c.parent_fd, clean_one, &c, &e))
		c.status = cli_fail(&e);
	for (int i = 0; !all && i < a->n_words; i++) {
		auto_close int dirfd = -1;

		if (!sandboxfile_name_valid(a->words[i]) ||
		    keep_open(c.parent_fd, a->words[i], &dirfd, NULL))
			cli_notice("sandbox %s has written nothing", a->words[i]);
		else
			clean_one(&c, a->words[i], dirfd);
	}
	if (all && !c.status)
		rmdir(menv); /* unless something else is in it */
	close_fd(&c.parent_fd);
	return c.status;
}

int cmd_clean(const struct cli_command *cmd, int argc, char **argv)
{
	bool all = false, force = false;
	const char *file = NULL;
	struct cli_args a;
	int opt;

	cli_args_init(&a, cmd, argc, argv);
	while ((opt = cli_args_next(&a)) >= 0) {
		file = opt == CLEAN_FILE ? a.value : file;
		all = all || opt == CLEAN_ALL;
		force = force || opt == CLEAN_FORCE;
	}
	if (opt != CLI_OPT_END)
		return cli_args_status(opt);
	if (all == (a.n_words > 0))
		return cli_usage(cmd, "give the sandboxes whose disks and logs are to be removed, "
				      "or --all");
	return clean_run(cmd, file, all, force, &a);
}
