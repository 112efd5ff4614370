/* SPDX-License-Identifier: Apache-2.0 */
#include "project/plan.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "codec/reference.h"
#include "codec/sha256.h"
#include "lib/groups.h"
#include "lib/imageconfig.h"
#include "lib/volumes.h"
#include "sys/parts.h"

#define PLAN_GROUP_BYTES 8u

char *plan_menv(const struct project *p)
{
	char *path;

	return asprintf(&path, "%s/" PLAN_MENV, p->dir) < 0 ? NULL : path;
}

static int plan_strdup(char **to, const char *s, struct err *e)
{
	*to = strdup(s ? s : "");
	return *to ? 0 : err_errno(e, ENOMEM, "sandbox configuration");
}

static const char *plan_user(const struct sandboxfile_sandbox *s, const struct image *image)
{
	return s->user ? s->user : image->config.user;
}

static int plan_volumes(const struct project *p, const struct sandboxfile_sandbox *s,
			const struct image *image, const char *home, struct sandbox_config *cfg,
			struct err *e)
{
	auto_free char *named = NULL;
	int rc = project_volumes(p, s, &cfg->volumes, e);

	if (!rc)
		rc = volumes_parent(home, NULL, &named, e);
	if (!rc)
		rc = volumes_resolve(&cfg->volumes, &(struct volumes_policy){ .parent = named }, e);
	if (!rc)
		rc = volumes_own(&cfg->volumes, plan_user(s, image), e);
	return rc ? err_wrap(e, "sandbox %s", s->name) : 0;
}

/*
 * A group is one project's: groups of others that are called the same are others.  '~' is in no
 * namespace's name.
 */
static int plan_group(const struct project *p, const struct sandboxfile_sandbox *s,
		      const char *home, struct sandbox_config *cfg, struct err *e)
{
	uint8_t hash[SHA256_BYTES];
	char ns[2 + 2 * PLAN_GROUP_BYTES] = "~";

	if (!s->group)
		return 0;
	sha256(p->dir, strlen(p->dir), hash);
	for (size_t i = 0; i < PLAN_GROUP_BYTES; i++)
		snprintf(ns + 1 + 2 * i, 3, "%02x", hash[i]);
	return groups_set(cfg, home, ns, s->group, e);
}

int plan_config(const struct project *p, const struct sandboxfile_sandbox *s,
		const struct image *image, const char *home, const struct plan_start *start,
		struct sandbox_config *cfg, struct err *e)
{
	int rc;

	cfg->cpus = s->cpus ? (unsigned)s->cpus : 1;
	cfg->memory_bytes = s->memory_bytes ? s->memory_bytes : PLAN_MEMORY_DEFAULT;
	cfg->disk_bytes = s->disk_bytes ? s->disk_bytes : PLAN_DISK_DEFAULT;
	cfg->boot_timeout_s = start->boot_timeout_s ? start->boot_timeout_s : PLAN_BOOT_TIMEOUT_S;
	cfg->volume_timeout_s = SANDBOX_VOLUME_TIMEOUT_S;
	cfg->ports = s->ports;
	if ((rc = plan_strdup(&cfg->name, s->name, e)) ||
	    (rc = plan_strdup(&cfg->image, s->image, e)) ||
	    (rc = plan_strdup(&cfg->image_path, image->rootfs, e)) ||
	    (rc = plan_strdup(&cfg->engine, start->engine ? start->engine : "auto", e)) ||
	    (rc = plan_strdup(&cfg->jail, start->jail ? start->jail : "full", e)) ||
	    (rc = plan_strdup(&cfg->scope, s->scope ? s->scope : "public", e)) ||
	    (rc = plan_strdup(&cfg->network, s->network, e)) ||
	    (rc = plan_group(p, s, home, cfg, e)) ||
	    (rc = parts_path("vmlinux", &cfg->kernel, e)) ||
	    (rc = parts_path("initramfs.cpio.gz", &cfg->initramfs, e)) ||
	    (rc = imageconfig_apply(cfg, &image->config, e)))
		return rc;
	return plan_volumes(p, s, image, home, cfg, e);
}

/* ---- what runs ------------------------------------------------------------------- */

/* Words of a command, gathered. */
struct plan_words {
	char **v;
	size_t n;
};

static int plan_add(struct plan_words *w, const char *word)
{
	char **v = realloc(w->v, (w->n + 2) * sizeof(*v));

	if (!v)
		return -ENOMEM;
	w->v = v;
	v[w->n] = strdup(word);
	v[w->n + 1] = NULL;
	return v[w->n] ? (w->n++, 0) : -ENOMEM;
}

static int plan_add_all(struct plan_words *w, const char *const *words)
{
	int rc = 0;

	for (; words && *words && !rc; words++)
		rc = plan_add(w, *words);
	return rc;
}

bool plan_has_command(const struct sandboxfile_sandbox *s)
{
	return sandboxfile_script(s, "start") || s->command.n;
}

/* sh -c BODY NAME ARGS...: the script's $0 is its name. */
static int plan_script(struct plan_words *w, const char *shell, const char *name, const char *body,
		       const struct plan_run *run)
{
	int rc = plan_add(w, shell);

	rc = rc ? rc : plan_add(w, "-c");
	rc = rc ? rc : plan_add(w, body);
	rc = rc ? rc : plan_add(w, name);
	return rc ? rc : plan_add_all(w, (const char *const *)run->args);
}

/* As `msb exe` does it: the Entrypoint is kept whole, arguments replace Cmd. */
static int plan_image(struct plan_words *w, const struct image_config *c, const char *shell,
		      const struct plan_run *run)
{
	bool has_entry = c->entrypoint && c->entrypoint[0], has_cmd = c->cmd && c->cmd[0];
	const char *const *rest = (const char *const *)c->cmd;
	int rc;

	if (has_entry) {
		rc = plan_add_all(w, (const char *const *)c->entrypoint);
	} else {
		rc = plan_add(w, has_cmd ? c->cmd[0] : shell);
		rest = has_cmd ? rest + 1 : NULL;
	}
	if (run->args)
		rest = (const char *const *)run->args;
	return rc ? rc : plan_add_all(w, rest);
}

static int plan_argv(const struct sandboxfile_sandbox *s, const struct image *image,
		     const struct plan_run *run, struct plan_words *w, struct err *e)
{
	const char *shell = s->shell ? s->shell : PLAN_SHELL_DEFAULT;
	const char *name = run->script ? run->script : "start";
	const char *body = sandboxfile_script(s, name);
	const char *const *args = (const char *const *)run->args;
	int rc;

	if (run->program) {
		rc = plan_add(w, run->program);
		rc = rc ? rc : plan_add_all(w, args);
	} else if (run->script && !strcmp(run->script, "shell")) {
		rc = plan_add(w, shell);
		rc = rc ? rc : plan_add_all(w, args);
	} else if (body) {
		rc = plan_script(w, shell, name, body, run);
	} else if (run->script) {
		return err_set(e, ENOENT, "sandbox %s has no script '%s'", s->name, run->script);
	} else if (s->command.n) {
		rc = plan_add(w, s->command.v[0]);
		rc = rc ? rc : plan_add_all(w, args ? args : s->command.v + 1);
	} else {
		rc = plan_image(w, &image->config, shell, run);
	}
	return rc ? err_errno(e, -rc, "the command of %s", s->name) : 0;
}

static int plan_placeholder(struct plan_words *w, const char *text)
{
	struct secret s = { .value = NULL };
	struct secret_source from;
	char env[SECRET_ENV_MAX];
	int rc = secret_parse(text, &s, &from, NULL);

	rc = rc ? rc : plan_add(w, secret_env(&s, env));
	secret_fini(&s);
	return rc;
}

/* The image's, the terminal's, the entry's, its secrets': the later one of a name counts in the guest. */
static int plan_env(const struct project *p, const struct sandboxfile_sandbox *s,
		    const struct image *image, const struct plan_run *run, struct plan_words *w,
		    struct err *e)
{
	auto_free char *term = NULL;
	char **own = NULL;
	int rc = project_envs(p, s, &own, e);

	if (rc)
		return rc;
	rc = plan_add_all(w, (const char *const *)image->config.env);
	if (!rc && run->term && *run->term) {
		if (asprintf(&term, "TERM=%s", run->term) < 0)
			term = NULL;
		rc = term ? plan_add(w, term) : -ENOMEM;
	}
	for (char **v = own; v && *v; v++) {
		if (!rc)
			rc = plan_add(w, *v);
		free(*v);
	}
	free(own);
	/* Last: a value that is left in an env_file is not what the guest gets. */
	for (size_t i = 0; i < s->secrets.n && !rc; i++)
		rc = plan_placeholder(w, s->secrets.v[i]);
	return rc ? err_errno(e, -rc, "the environment of %s", s->name) : 0;
}

int plan_command(const struct project *p, const struct sandboxfile_sandbox *s,
		 const struct image *image, const struct plan_run *run, struct box_command *out,
		 struct err *e)
{
	const char *cwd = run->workdir ? run->workdir
			  : s->workdir ? s->workdir
				       : image->config.workdir;
	const char *user = run->user ? run->user : plan_user(s, image);
	struct plan_words argv = { .n = 0 }, env = { .n = 0 };
	int rc = plan_argv(s, image, run, &argv, e);

	if (!rc)
		rc = plan_env(p, s, image, run, &env, e);
	out->argv = argv.v;
	out->env = env.v;
	if (!rc)
		rc = plan_strdup(&out->cwd, cwd, e);
	return rc ? rc : plan_strdup(&out->user, user, e);
}
