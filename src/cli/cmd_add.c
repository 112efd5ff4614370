/* SPDX-License-Identifier: Apache-2.0 */
/* `msb add` and `msb remove`: sandboxes of the Sandboxfile, the rest of which stays as it is. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>

#include "base/buf.h"
#include "base/mem.h"
#include "cli/box_opts.h"
#include "cli/project_opts.h"
#include "project/edit.h"
#include "sys/file.h"

#define ADD_VALUES_MAX 1024u

/* In the order in which the keys are written. */
enum add_opt {
	ADD_IMAGE,
	ADD_BUILD,
	ADD_MEMORY,
	ADD_CPUS,
	ADD_DISK,
	ADD_SHELL,
	ADD_VOLUME,
	ADD_TMPFS,
	ADD_PORT,
	ADD_ENV,
	ADD_ENV_FILE,
	ADD_DEPENDS_ON,
	ADD_WORKDIR,
	ADD_USER,
	ADD_SCRIPT,
	ADD_IMPORT,
	ADD_EXPORT,
	ADD_SCOPE,
	ADD_GROUP,
	ADD_NETWORK,
	ADD_SECRET,
	ADD_TIMEOUT,
	ADD_START,
	ADD_FILE,
	ADD_OPTS,
};

const struct cli_opt add_opts[] = {
	[ADD_IMAGE] = { "image", NULL, "i", "IMAGE",
			"the image to start from (this or --build has to be given)" },
	[ADD_BUILD] = { "build", NULL, "", "NAME", "instead: the build of the file that makes it" },
	[ADD_MEMORY] = { "memory", NULL, "", "SIZE", "memory, MiB or with a unit: 512, 2G" },
	[ADD_CPUS] = { "cpus", "cpu", "", "N", "virtual CPUs" },
	[ADD_DISK] = { "disk", NULL, "", "SIZE", "room for what the sandbox writes" },
	[ADD_SHELL] = { "shell", NULL, "", "PATH", "what runs the scripts (default /bin/sh)" },
	[ADD_VOLUME] = BOX_OPT_VOLUME,
	[ADD_TMPFS] = BOX_OPT_TMPFS,
	[ADD_PORT] = { "port", NULL, "p", "[ADDR:]HOST:GUEST", "publish a port (repeatable)" },
	[ADD_ENV] = BOX_OPT_ENV,
	[ADD_ENV_FILE] = { "env-file", NULL, "", "FILE",
			   "a file with a KEY=VALUE on each line (repeatable)" },
	[ADD_DEPENDS_ON] = { "depends-on", NULL, "", "NAME",
			     "a sandbox that is started before (repeatable)" },
	[ADD_WORKDIR] = { "workdir", NULL, "", "DIR", "directory to start in" },
	[ADD_USER] = { "user", NULL, "u", "USER", "name, uid, name:group or uid:gid" },
	[ADD_SCRIPT] = { "script", NULL, "", "NAME=TEXT", "a script, for NAME~SCRIPT (repeatable)" },
	[ADD_IMPORT] = { "import", NULL, "", "NAME=PATH", "not supported: use --volume" },
	[ADD_EXPORT] = { "export", NULL, "", "NAME=PATH", "not supported: use --volume" },
	[ADD_SCOPE] = { "scope", NULL, "", "SCOPE", "network: none, group, public, any" },
	[ADD_GROUP] = { "group", NULL, "", "GROUP",
			"scope group: the sandboxes of GROUP, by name, and nobody else" },
	[ADD_NETWORK] = { "network", NULL, "", "RULE",
			  "a line of the network's rules: 'allow tcp example.org:443' "
			  "(repeatable)" },
	[ADD_SECRET] = { "secret", NULL, "", "NAME[=FROM]@HOST[:PORT]",
			 "a value that only these hosts get, over HTTP; FROM is env:VARIABLE or "
			 "file:PATH (repeatable)" },
	[ADD_TIMEOUT] = { "timeout", NULL, "", "TIME", "the longest time of a run: 90, 10m" },
	[ADD_START] = { "start", NULL, "", "TEXT", "the script that runs by default" },
	[ADD_FILE] = PROJECT_OPT_FILE,
	{ NULL },
};

const struct cli_opt remove_opts[] = { PROJECT_OPT_FILE, { NULL } };

/* What each option becomes in the file. */
enum add_kind { ADD_AS_TEXT, ADD_AS_WORD, ADD_AS_LIST, ADD_AS_MAP };

static const struct {
	const char *key;
	enum add_kind kind;
} add_keys[] = {
	[ADD_IMAGE] = { "image", ADD_AS_TEXT },
	[ADD_BUILD] = { "build", ADD_AS_TEXT },
	[ADD_MEMORY] = { "memory", ADD_AS_WORD },
	[ADD_CPUS] = { "cpus", ADD_AS_WORD },
	[ADD_DISK] = { "disk", ADD_AS_WORD },
	[ADD_SHELL] = { "shell", ADD_AS_TEXT },
	[ADD_VOLUME] = { "volumes", ADD_AS_LIST },
	[ADD_TMPFS] = { "tmpfs", ADD_AS_LIST },
	[ADD_PORT] = { "ports", ADD_AS_LIST },
	[ADD_ENV] = { "envs", ADD_AS_LIST },
	[ADD_ENV_FILE] = { "env_file", ADD_AS_LIST },
	[ADD_DEPENDS_ON] = { "depends_on", ADD_AS_LIST },
	[ADD_WORKDIR] = { "workdir", ADD_AS_TEXT },
	[ADD_USER] = { "user", ADD_AS_TEXT },
	[ADD_SCRIPT] = { "scripts", ADD_AS_MAP },
	[ADD_IMPORT] = { "imports", ADD_AS_MAP },
	[ADD_EXPORT] = { "exports", ADD_AS_MAP },
	[ADD_SCOPE] = { "scope", ADD_AS_TEXT },
	[ADD_GROUP] = { "group", ADD_AS_TEXT },
	[ADD_NETWORK] = { "network", ADD_AS_LIST },
	[ADD_SECRET] = { "secrets", ADD_AS_LIST },
	[ADD_TIMEOUT] = { "timeout", ADD_AS_WORD },
};

struct add_values {
	const char **v;
	size_t n;
};

struct add {
	const struct cli_command *cmd;
	struct add_values values[ADD_OPTS];
	char *start; /* "start=TEXT", which is a script */
	const char *file;
	char **args; /* behind "--" */
	size_t n_args;
};

/* A project whose file is being changed: nobody else changes it meanwhile. */
struct add_target {
	struct project p;
	char *real; /* the file itself, behind links */
	int dirfd; /* of the project; the lock */
	struct buf text; /* that is to be written */
};

/* ---- the file ---- */

static int add_open(struct add_target *t, const char *file, struct err *e)
{
	auto_free char *path = NULL;
	int rc = project_locate(file, &t->p, e);

	if (rc)
		return rc;
	t->dirfd = open(t->p.dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (t->dirfd < 0 || flock(t->dirfd, LOCK_EX) < 0)
		return err_errno(e, errno, "%s", t->p.dir);
	rc = project_read(&t->p, e);
	if (rc)
		return rc;
	if (asprintf(&path, "%s/%s", t->p.dir, t->p.name) < 0) {
		path = NULL;
		return err_errno(e, ENOMEM, "%s", t->p.path);
	}
	t->real = realpath(path, NULL);
	if (!t->real)
		return err_errno(e, errno, "%s", t->p.path);
	if (buf_append(&t->text, t->p.text, t->p.len))
		return err_errno(e, ENOMEM, "%s", t->p.path);
	return 0;
}

static void add_close(struct add_target *t)
{
	close_fd(&t->dirfd);
	buf_fini(&t->text);
	free(t->real);
	project_fini(&t->p);
}

/*
 * Is the new text a Sandboxfile?  What is wrong with it stands where nobody has seen it, so it is
 * told without its place.
 */
static int add_check(const struct add_target *t, struct err *e)
{
	auto_free struct sandboxfile_notes *notes = calloc(1, sizeof(*notes));
	struct sandboxfile *f = NULL;
	struct err why = ERR_INIT;
	int rc;

	if (!notes)
		return err_errno(e, ENOMEM, "%s", t->p.path);
	rc = sandboxfile_parse(buf_len(&t->text) ? (const char *)buf_data(&t->text) : "",
			       buf_len(&t->text), t->p.path, &f, notes, &why);
	sandboxfile_free(f);
	for (size_t i = 0; i < notes->n && rc; i++)
		if (notes->v[i].error)
			return err_set(e, -rc, "%s", notes->v[i].text);
	return rc ? err_set(e, -rc, "%s", err_text(&why)) : 0;
}

static int add_write(struct add_target *t, struct err *e)
{
	auto_close int dirfd = -1;
	char *slash = strrchr(t->real, '/');
	struct stat st;

	if (stat(t->real, &st) < 0)
		return err_errno(e, errno, "%s", t->p.path);
	*slash = '\0';
	dirfd = open(slash == t->real ? "/" : t->real, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dirfd < 0)
		return err_errno(e, errno, "%s", t->p.path);
	return file_write_at(dirfd, slash + 1,
			     buf_len(&t->text) ? (const void *)buf_data(&t->text) : "",
			     buf_len(&t->text), st.st_mode & 0777, true, e);
}

/* ---- add ---- */

static int add_take(struct add *x, int opt, const char *value)
{
	struct add_values *l = &x->values[opt];
	const char **v;

	if (opt == ADD_FILE) {
		x->file = value;
		return 0;
	}
	if (opt == ADD_START) {
		if (x->start)
			return cli_usage(x->cmd, "--start is given twice");
		if (asprintf(&x->start, "start=%s", value) < 0)
			x->start = NULL;
		opt = ADD_SCRIPT;
		value = x->start;
		l = &x->values[opt];
	}
	if ((add_keys[opt].kind == ADD_AS_TEXT || add_keys[opt].kind == ADD_AS_WORD) && l->n)
		return cli_usage(x->cmd, "--%s is given twice", add_opts[opt].name);
	if (value && add_keys[opt].kind == ADD_AS_MAP && (!strchr(value, '=') || value[0] == '='))
		return cli_usage(x->cmd, "--%s is '%.80s': give %s", add_opts[opt].name, value,
				 add_opts[opt].arg);
	v = l->n < ADD_VALUES_MAX ? reallocarray(l->v, l->n + 1, sizeof(*v)) : NULL;
	if (!v || !value)
		return cli_usage(x->cmd, "too many of --%s", add_opts[opt].name);
	l->v = v;
	l->v[l->n++] = value;
	return 0;
}

static int add_put_map(struct buf *body, const char *key, const struct add_values *l, struct err *e)
{
	int rc = edit_put_map(body, key, e);

	for (size_t i = 0; i < l->n && !rc; i++) {
		const char *eq = strchr(l->v[i], '=');
		auto_free char *name = strndup(l->v[i], (size_t)(eq - l->v[i]));

		rc = name ? edit_put_pair(body, name, eq + 1, e) : err_errno(e, ENOMEM, "add");
	}
	return rc;
}

static int add_put_key(struct buf *body, size_t opt, const struct add_values *l, struct err *e)
{
	const char *key = add_keys[opt].key;

	switch (add_keys[opt].kind) {
	case ADD_AS_WORD:
		return edit_put_word(body, key, l->v[0], e);
	case ADD_AS_LIST:
		return edit_put_list(body, key, l->v, l->n, e);
	case ADD_AS_MAP:
		return add_put_map(body, key, l, e);
	default:
		return edit_put_text(body, key, l->v[0], e);
	}
}

static int add_body(const struct add *x, struct buf *body, struct err *e)
{
	int rc = 0;

	for (size_t i = 0; i < ARRAY_SIZE(add_keys) && !rc; i++)
		if (x->values[i].n)
			rc = add_put_key(body, i, &x->values[i], e);
	if (!rc && x->n_args)
		rc = edit_put_list(body, "command", (const char *const *)x->args, x->n_args, e);
	return rc;
}

static int add_all(struct add_target *t, const struct buf *body, char *const *names, int n,
		   struct err *e)
{
	int rc = sandboxfile_parse(t->p.text, t->p.len, t->p.path, &t->p.file, NULL, e);

	for (int i = 0; i < n && !rc; i++) {
		struct buf out = BUF_INIT;

		rc = edit_add((const char *)buf_data(&t->text), buf_len(&t->text), names[i], body,
			      &out, e);
		if (rc) {
			err_wrap(e, "%s", t->p.path);
			buf_fini(&out);
			break;
		}
		buf_fini(&t->text);
		t->text = out;
	}
	if (!rc)
		rc = add_check(t, e);
	return rc ? rc : add_write(t, e);
}

static int add_run(struct add *x, char *const *names, int n)
{
	struct add_target t = { .dirfd = -1 };
	struct buf body = BUF_INIT;
	struct err e = ERR_INIT;
	int rc = add_body(x, &body, &e);

	for (int i = 0; i < n && !rc; i++)
		if (!sandboxfile_name_valid(names[i]))
			rc = err_set(
				&e, EINVAL,
				"'%.80s' is not a name for a sandbox: use letters, digits, '-' "
				"and '_', at most %u",
				names[i], SANDBOXFILE_NAME_MAX);
	if (!rc)
		rc = add_open(&t, x->file, &e);
	if (!rc)
		rc = add_all(&t, &body, names, n, &e);
	buf_fini(&body);
	add_close(&t);
	return rc ? cli_fail(&e) : CLI_OK;
}

int cmd_add(const struct cli_command *cmd, int argc, char **argv)
{
	struct add x = { .cmd = cmd };
	struct cli_args a;
	int opt, status = CLI_OK;

	cli_args_init(&a, cmd, argc, argv);
	while (!status && (opt = cli_args_next(&a)) >= 0)
		status = add_take(&x, opt, a.value);
	x.args = a.rest;
	x.n_args = (size_t)a.n_rest;
	if (!status && opt != CLI_OPT_END)
		status = cli_args_status(opt);
	else if (!status && !a.n_words)
		status = cli_usage(cmd, "which name? For example: msb add app --image python");
	else if (!status && !x.values[ADD_IMAGE].n && !x.values[ADD_BUILD].n)
		status =
			cli_usage(cmd, "--image is missing. For example: msb add %s --image python",
				  a.words[0]);
	else if (!status)
		status = add_run(&x, a.words, a.n_words);
	for (size_t i = 0; i < ADD_OPTS; i++)
		free(x.values[i].v);
	free(x.start);
	return status;
}

/* ---- remove ---- */

static int remove_all(struct add_target *t, char *const *names, int n, struct err *e)
{
	/* A file that is wrong may be put right by this. */
	bool was_good = !sandboxfile_parse(t->p.text, t->p.len, t->p.path, &t->p.file, NULL, NULL);
	int rc = 0;

	for (int i = 0; i < n && !rc; i++) {
		struct buf out = BUF_INIT;

		rc = edit_remove((const char *)buf_data(&t->text), buf_len(&t->text), names[i],
				 &out, e);
		if (rc == -ENOENT && t->p.file) {
			err_clear(e);
			rc = sandboxfile_need(t->p.file, names[i], NULL, e);
			rc = rc ? rc : err_set(e, ENOENT, "'%s' is named twice", names[i]);
		}
		if (rc) {
			err_wrap(e, "%s", t->p.path);
			buf_fini(&out);
			return rc;
		}
		buf_fini(&t->text);
		t->text = out;
	}
	if (was_good)
		rc = add_check(t, e);
	return rc ? err_wrap(e, "%s would be wrong without it", t->p.path) : add_write(t, e);
}

int cmd_remove(const struct cli_command *cmd, int argc, char **argv)
{
	struct add_target t = { .dirfd = -1 };
	const char *file = NULL;
	struct err e = ERR_INIT;
	struct cli_args a;
	int opt, rc;

	cli_args_init(&a, cmd, argc, argv);
	while ((opt = cli_args_next(&a)) >= 0)
		file = a.value;
	if (opt != CLI_OPT_END)
		return cli_args_status(opt);
	if (!a.n_words)
		return cli_usage(cmd, "which sandbox? For example: msb remove app");
	rc = add_open(&t, file, &e);
	if (!rc)
		rc = remove_all(&t, a.words, a.n_words, &e);
	add_close(&t);
	return rc ? cli_fail(&e) : CLI_OK;
}
