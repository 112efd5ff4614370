/* SPDX-License-Identifier: Apache-2.0 */
/* `msb check`: is the Sandboxfile right, and what would run? */
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "cli/project_opts.h"
#include "codec/manifest.h"
#include "lib/volumes.h"
#include "sys/parts.h"

#define CHECK_BAD 1 /* exit status of a file that is wrong */

enum { CHECK_FILE, CHECK_JSON, CHECK_QUIET, CHECK_SCHEMA };

const struct cli_opt check_opts[] = {
	[CHECK_FILE] = PROJECT_OPT_FILE,
	[CHECK_JSON] = { "json", NULL, "", NULL, "print one JSON object" },
	[CHECK_QUIET] = { "quiet", NULL, "q", NULL, "print nothing but errors" },
	[CHECK_SCHEMA] = { "schema", NULL, "", NULL,
			   "print the JSON Schema of a Sandboxfile, for editors" },
	{ NULL },
};

struct check {
	struct project p;
	struct sandboxfile_notes *notes;
	const struct sandboxfile_sandbox *order[SANDBOXFILE_SANDBOXES_MAX];
	size_t n;
	const char *volumes; /* where named ones are; NULL = not known */
};

/* ---- what the file speaks of ---- */

static void check_note(struct check *c, struct ytree_at at, const char *text)
{
	sandboxfile_notes_add(c->notes, true, at, text);
}

/* The messages of src/project begin with the place, which a note has apart. */
static const char *check_without_place(const struct check *c, const char *text)
{
	size_t n = strlen(c->p.path);

	if (strncmp(text, c->p.path, n) || text[n] != ':')
		return text;
	text += n + 1;
	text += strspn(text, "0123456789:");
	return text + (*text == ' ');
}

static void check_volumes(struct check *c, const struct sandboxfile_sandbox *s)
{
	/* One at a time, so that each has its own message. */
	struct sandboxfile_sandbox *one = calloc(1, sizeof(*one));

	for (unsigned i = 0; one && i < s->volumes.n; i++) {
		const struct volume *v = &s->volumes.v[i];
		struct volume_list found = { .n = 0 };
		struct volume_info info;
		struct err e = ERR_INIT;
		int rc;

		one->volumes.v[0] = *v;
		one->volumes.n = 1;
		one->volume_at[0] = s->volume_at[i];
		rc = project_volumes(&c->p, one, &found, &e);
		volume_list_fini(&found);
		if (!rc && v->kind == VOLUME_NAMED && c->volumes &&
		    volumes_get(c->volumes, v->source, &info, NULL) == -ENOENT)
			rc = err_set(&e, ENOENT,
				     "volumes: there is no volume '%s': make it with `msb volume "
				     "create %s`",
				     v->source, v->source);
		if (rc)
			check_note(c, s->volume_at[i], check_without_place(c, err_text(&e)));
	}
	free(one);
}

static void check_envs(struct check *c, const struct sandboxfile_sandbox *s)
{
	struct err e = ERR_INIT;
	char **envs = NULL;

	if (project_envs(&c->p, s, &envs, &e))
		check_note(c, s->env_file.n ? s->env_file.at[0] : s->at,
			   check_without_place(c, err_text(&e)));
	else
		strlist_free(envs);
}

static void check_surroundings(struct check *c)
{
	for (size_t i = 0; i < c->p.file->n_sandboxes; i++) {
		check_volumes(c, c->p.file->sandboxes[i]);
		check_envs(c, c->p.file->sandboxes[i]);
	}
}

/* ---- as JSON ---- */

/* Sets a key unless there is nothing to say. */
static void check_set(json_t *j, const char *key, json_t *v)
{
	if (v)
		json_object_set_new(j, key, v);
}

static json_t *check_json_list(const struct sandboxfile_list *l)
{
	json_t *j = json_array();

	for (size_t i = 0; i < l->n; i++)
		json_array_append_new(j, json_string(l->v[i]));
	return j;
}

/* Of those that have to listen somewhere: name and port. */
static json_t *check_json_depends(const struct sandboxfile_sandbox *s)
{
	json_t *j = json_object();

	for (size_t i = 0; i < s->depends_on.n; i++)
		if (s->depends_port[i])
			json_object_set_new(j, s->depends_on.v[i], json_integer(s->depends_port[i]));
	return j;
}

static json_t *check_json_ports(const struct sandboxfile_sandbox *s)
{
	char text[PUBLISH_TEXT_MAX];
	json_t *j = json_array();

	for (size_t i = 0; i < s->ports.n; i++) {
		publish_format(&s->ports.v[i], text);
		json_array_append_new(j, json_string(text));
	}
	return j;
}

static json_t *check_json_volumes(const struct sandboxfile_sandbox *s)
{
	static const char *const kinds[] = { "host", "named", "tmpfs" };
	json_t *j = json_array();

	for (unsigned i = 0; i < s->volumes.n; i++) {
		const struct volume *v = &s->volumes.v[i];

		json_array_append_new(j, json_pack("{s:s, s:s?, s:s, s:b}", "kind", kinds[v->kind],
						   "source", v->source, "guest", v->guest,
						   "readonly", v->readonly));
	}
	return j;
}

static json_t *check_json_scripts(const struct sandboxfile_sandbox *s)
{
	json_t *j = json_object();

	for (size_t i = 0; i < s->scripts.n; i++)
		json_object_set_new(j, s->scripts.v[i].name, json_string(s->scripts.v[i].text));
	return j;
}

static const char *check_runs(const struct sandboxfile_sandbox *s)
{
	return sandboxfile_script(s, "start") ? "script" : s->command.n ? "command" : "image";
}

static json_t *check_json_sandbox(const struct sandboxfile_sandbox *s)
{
	json_t *j = json_pack("{s:s, s:i, s:s, s:s}", "name", s->name, "line", (int)s->at.line,
			      "image", s->image, "runs", check_runs(s));

	check_set(j, "version", s->version ? json_string(s->version) : NULL);
	check_set(j, "memory_bytes",
		  s->memory_bytes ? json_integer((json_int_t)s->memory_bytes) : NULL);
	check_set(j, "disk_bytes", s->disk_bytes ? json_integer((json_int_t)s->disk_bytes) : NULL);
	check_set(j, "cpus", s->cpus ? json_integer((json_int_t)s->cpus) : NULL);
	check_set(j, "timeout_ms", s->timeout_ms ? json_integer((json_int_t)s->timeout_ms) : NULL);
	check_set(j, "shell", s->shell ? json_string(s->shell) : NULL);
	check_set(j, "workdir", s->workdir ? json_string(s->workdir) : NULL);
	check_set(j, "user", s->user ? json_string(s->user) : NULL);
	check_set(j, "scope", s->scope ? json_string(s->scope) : NULL);
	check_set(j, "group", s->group ? json_string(s->group) : NULL);
	check_set(j, "network", s->network ? json_string(s->network) : NULL);
	check_set(j, "ports", check_json_ports(s));
	check_set(j, "volumes", check_json_volumes(s));
	check_set(j, "envs", check_json_list(&s->envs));
	check_set(j, "env_file", check_json_list(&s->env_file));
	check_set(j, "secrets", check_json_list(&s->secrets));
	check_set(j, "depends_on", check_json_list(&s->depends_on));
	check_set(j, "depends_on_ports", s->depends_port ? check_json_depends(s) : NULL);
	check_set(j, "scripts", check_json_scripts(s));
	check_set(j, "command", check_json_list(&s->command));
	return j;
}

static json_t *check_json_builds(const struct sandboxfile *f)
{
	json_t *j = json_array();

	for (size_t i = 0; f && i < f->n_builds; i++) {
		const struct sandboxfile_sandbox *s = f->builds[i];

		json_array_append_new(j,
				      json_pack("{s:s, s:i, s:s, s:s, s:o}", "name", s->name,
						"line", (int)s->at.line, "image", s->image, "makes",
						s->result, "steps", check_json_list(&s->steps)));
	}
	return j;
}

static json_t *check_json_notes(const struct check *c, bool errors)
{
	json_t *j = json_array();

	for (size_t i = 0; i < c->notes->n; i++) {
		const struct sandboxfile_note *n = &c->notes->v[i];

		if (n->error == errors)
			json_array_append_new(j, json_pack("{s:i, s:i, s:s}", "line",
							   (int)n->at.line, "column",
							   (int)n->at.column, "message", n->text));
	}
	return j;
}

static int check_print_json(const struct check *c)
{
	json_t *list = json_array(), *j;
	char *text;

	for (size_t i = 0; i < c->n; i++)
		json_array_append_new(list, check_json_sandbox(c->order[i]));
	j = json_pack("{s:s, s:b, s:o, s:o, s:o, s:o}", "file", c->p.path, "valid",
		      !c->notes->errors, "errors", check_json_notes(c, true), "warnings",
		      check_json_notes(c, false), "sandboxes", list, "builds",
		      check_json_builds(c->p.file));
	text = j ? json_dumps(j, JSON_INDENT(2)) : NULL;
	json_decref(j);
	if (!text) {
		cli_error("the file's path is not UTF-8, as JSON has to be");
		return CLI_FAILED;
	}
	puts(text);
	free(text);
	return c->notes->errors ? CHECK_BAD : CLI_OK;
}

/* ---- for people ---- */

static void check_print_size(const char *what, uint64_t bytes)
{
	if (bytes && bytes % (1u << 30))
		printf("  %-9s%" PRIu64 " MiB\n", what, bytes >> 20);
	else if (bytes)
		printf("  %-9s%" PRIu64 " GiB\n", what, bytes >> 30);
}

static void check_print_text(const char *what, const char *text)
{
	if (text)
		printf("  %-9s%s\n", what, text);
}

/* A text of the file that may hold anything, at most @max bytes of it. */
static void check_print_any(const char *s, size_t max)
{
	for (size_t i = 0; s[i] && i < max; i++) {
		unsigned char c = (unsigned char)s[i];
		bool bad = c < ' ' || c == 0x7f || (c == 0xc2 && (unsigned char)s[i + 1] < 0xa0);

		putchar(bad ? '?' : c);
	}
}

/* The first line of a script, for people to know it by. */
static void check_print_runs(const struct sandboxfile_sandbox *s)
{
	const char *start = sandboxfile_script(s, "start");

	printf("  %-9s", "runs");
	if (start) {
		size_t n = strcspn(start, "\n");

		printf("script start: ");
		check_print_any(start, n < 60 ? n : 60);
		printf("%s\n", start[n] && start[n + 1] ? " ..." : n > 60 ? "..." : "");
	} else if (s->command.n) {
		for (size_t i = 0; i < s->command.n; i++) {
			printf("%s", i ? " " : "");
			check_print_any(s->command.v[i], 200);
		}
		printf("\n");
	} else {
		printf("the image's command%s%s\n", s->shell ? ", or " : "",
		       s->shell ? s->shell : "");
	}
}

static void check_print_volumes(const struct sandboxfile_sandbox *s)
{
	for (unsigned i = 0; i < s->volumes.n; i++) {
		const struct volume *v = &s->volumes.v[i];

		printf("  %-9s%s on %s%s\n", i ? "" : "volumes",
		       v->kind == VOLUME_TMPFS ? "memory" : v->source, v->guest,
		       v->readonly ? ", read-only" : "");
	}
}

static void check_print_ports(const struct sandboxfile_sandbox *s)
{
	char text[PUBLISH_TEXT_MAX];

	for (size_t i = 0; i < s->ports.n; i++) {
		publish_format(&s->ports.v[i], text);
		printf("  %-9s%s\n", i ? "" : "ports", text);
	}
}

static void check_print_names(const char *what, const struct sandboxfile_list *l)
{
	if (!l->n)
		return;
	printf("  %-9s", what);
	for (size_t i = 0; i < l->n; i++)
		printf("%s%s", i ? ", " : "", l->v[i]);
	printf("\n");
}

static void check_print_sandbox(const struct sandboxfile_sandbox *s)
{
	printf("%s\n", s->name);
	check_print_text("image", s->build ? NULL : s->image);
	check_print_text("build", s->build);
	check_print_runs(s);
	check_print_names("after", &s->depends_on);
	check_print_size("memory", s->memory_bytes);
	if (s->cpus)
		printf("  %-9s%" PRIu64 "\n", "cpus", s->cpus);
	check_print_size("disk", s->disk_bytes);
	check_print_text("user", s->user);
	check_print_text("workdir", s->workdir);
	check_print_text("scope", s->scope);
	check_print_text("group", s->group);
	check_print_ports(s);
	check_print_volumes(s);
	check_print_names("env_file", &s->env_file);
	check_print_names("secrets", &s->secrets);
	if (s->scripts.n) {
		printf("  %-9s", "scripts");
		for (size_t i = 0; i < s->scripts.n; i++)
			printf("%s%s", i ? ", " : "", s->scripts.v[i].name);
		printf("\n");
	}
}

static int check_print(const struct check *c, bool quiet)
{
	project_opts_print(c->p.path, c->notes, quiet);
	if (c->notes->errors)
		return CHECK_BAD;
	if (quiet)
		return CLI_OK;
	printf("%s: %zu sandbox%s, in the order of their start\n", c->p.path, c->n,
	       c->n == 1 ? "" : "es");
	for (size_t i = 0; i < c->n; i++)
		check_print_sandbox(c->order[i]);
	for (size_t i = 0; i < c->p.file->n_builds; i++) {
		const struct sandboxfile_sandbox *s = c->p.file->builds[i];

		printf("build %s\n", s->name);
		check_print_text("image", s->build ? s->build : s->image);
		check_print_text("makes", s->result);
		printf("  %-9s%zu\n", "steps", s->steps.n);
	}
	return CLI_OK;
}

/* ---- the command ---- */

static int check_schema(void)
{
	struct err e = ERR_INIT;
	char *text;

	if (sandboxfile_schema(&text, &e))
		return cli_fail(&e);
	puts(text);
	free(text);
	return CLI_OK;
}

static int check_run(struct check *c, const char *file, bool json, bool quiet)
{
	auto_free char *volumes = NULL;
	auto_free char *home = NULL;
	struct err e = ERR_INIT;

	if (project_locate(file, &c->p, &e))
		return cli_fail(&e);
	if (project_load(&c->p, c->notes, &e)) {
		if (!c->notes->errors)
			return cli_fail(&e);
	} else {
		if (!parts_home(&home, NULL) && !volumes_parent(home, NULL, &volumes, NULL))
			c->volumes = volumes;
		sandboxfile_order(c->p.file, NULL, 0, c->order, &c->n, NULL);
		check_surroundings(c);
	}
	return json ? check_print_json(c) : check_print(c, quiet);
}

int cmd_check(const struct cli_command *cmd, int argc, char **argv)
{
	bool json = false, quiet = false, schema = false;
	struct check *c;
	const char *file = NULL;
	struct cli_args a;
	int opt, status;

	cli_args_init(&a, cmd, argc, argv);
	while ((opt = cli_args_next(&a)) >= 0) {
		if (opt == CHECK_FILE)
			file = a.value;
		json |= opt == CHECK_JSON;
		quiet |= opt == CHECK_QUIET;
		schema |= opt == CHECK_SCHEMA;
	}
	if (opt != CLI_OPT_END)
		return cli_args_status(opt);
	if (a.n_words)
		return cli_usage(cmd, "unexpected argument '%s'", a.words[0]);
	if (schema)
		return check_schema();
	c = calloc(1, sizeof(*c));
	if (c)
		c->notes = calloc(1, sizeof(*c->notes));
	if (!c || !c->notes) {
		free(c);
		cli_error("out of memory");
		return CLI_FAILED;
	}
	status = check_run(c, file, json, quiet);
	project_fini(&c->p);
	free(c->notes);
	free(c);
	return status;
}
