/* SPDX-License-Identifier: Apache-2.0 */
#include "project/project.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/mem.h"
#include "codec/envfile.h"
#include "codec/manifest.h"
#include "lib/secret_value.h"
#include "sys/file.h"

/* ---- where ---- */

static int project_set(struct project *p, const char *dir, const char *name, const char *arg,
		       struct err *e)
{
	int rc;

	p->dir = realpath(dir, NULL);
	if (!p->dir)
		return err_errno(e, errno, "%s", dir);
	p->name = strdup(name);
	p->path = arg ? strdup(arg) : strdup(name);
	if (!p->name || !p->path) {
		project_fini(p);
		return err_errno(e, ENOMEM, "find the project");
	}
	rc = !strcmp(name, ".") || !strcmp(name, "..") || !*name;
	if (rc) {
		project_fini(p);
		return err_set(e, EINVAL, "'%s' is not the name of a file", arg ? arg : name);
	}
	return 0;
}

int project_locate(const char *arg, struct project *out, struct err *e)
{
	auto_free char *copy = NULL;
	auto_free char *path = NULL;
	struct project p = { .dir = NULL };
	struct stat st;
	char *slash;
	int rc;

	if (arg && !*arg)
		return err_set(e, EINVAL, "the path of the project is empty");
	if (!arg) {
		rc = project_set(&p, ".", SANDBOXFILE_NAME, NULL, e);
	} else if (!stat(arg, &st) && S_ISDIR(st.st_mode)) {
		size_t n = strlen(arg);

		if (asprintf(&path, "%s%s%s", arg, arg[n - 1] == '/' ? "" : "/", SANDBOXFILE_NAME) <
		    0) {
			path = NULL;
			return err_errno(e, ENOMEM, "find the project");
		}
		rc = project_set(&p, arg, SANDBOXFILE_NAME, path, e);
	} else {
		copy = strdup(arg);
		if (!copy)
			return err_errno(e, ENOMEM, "find the project");
		slash = strrchr(copy, '/');
		if (slash)
			*slash = '\0';
		rc = project_set(&p,
				 !slash          ? "."
				 : slash == copy ? "/"
						 : copy,
				 slash ? slash + 1 : copy, arg, e);
	}
	if (!rc)
		*out = p;
	return rc;
}

void project_fini(struct project *p)
{
	sandboxfile_free(p->file);
	free(p->dir);
	free(p->name);
	free(p->path);
	free(p->text);
	*p = (struct project){ .dir = NULL };
}

/* ---- the file ---- */

/* Reads a whole file that may be reached by links; @max: its bytes. */
static int project_slurp(const char *dir, const char *name, size_t max, char **text, size_t *len,
			 struct err *e)
{
	auto_free char *path = NULL;
	auto_free char *real = NULL;
	int rc;

	if (asprintf(&path, "%s%s%s", name[0] == '/' ? "" : dir, name[0] == '/' ? "" : "/", name) <
	    0) {
		path = NULL;
		return err_errno(e, ENOMEM, "cannot read %s", name);
	}
	real = realpath(path, NULL);
	rc = real ? 0 : -errno;
	return rc ? err_errno(e, -rc, "cannot read %s", name)
		  : file_read_at(AT_FDCWD, real, max, text, len, e);
}

int project_read(struct project *p, struct err *e)
{
	struct err why = ERR_INIT;
	int rc = project_slurp(p->dir, p->name, SANDBOXFILE_BYTES_MAX, &p->text, &p->len, &why);

	if (rc == -ENOENT)
		return err_set(e, ENOENT,
			       "there is no %s: `msb init` makes one, -f says where it is",
			       p->path);
	if (rc == -EFBIG)
		return err_set(e, EFBIG, "%s is larger than %u KiB", p->path,
			       SANDBOXFILE_BYTES_MAX >> 10);
	return rc ? err_set(e, -rc, "%s", err_text(&why)) : 0;
}

int project_load(struct project *p, struct sandboxfile_notes *notes, struct err *e)
{
	int rc;

	if (notes)
		notes->n = notes->more = notes->errors = 0;
	rc = p->text ? 0 : project_read(p, e);
	return rc ? rc : sandboxfile_parse(p->text, p->len, p->path, &p->file, notes, e);
}

/* ---- volumes ---- */

/* Does a path say by ".." that it leaves where it starts? */
static bool project_climbs(const char *path)
{
	for (const char *s = path; *s;) {
		size_t n = strcspn(s, "/");

		if (n == 2 && s[0] == '.' && s[1] == '.')
			return true;
		s += n;
		s += strspn(s, "/");
	}
	return false;
}

static bool project_inside(const char *dir, const char *path)
{
	size_t n = strlen(dir);

	if (n == 1) /* the root */
		return true;
	return !strncmp(dir, path, n) && (!path[n] || path[n] == '/');
}

/* A path of the host as somebody wrote it, to one that is absolute and without links. */
static int project_host_path(const struct project *p, const char *key, const char *source,
			     char **out, struct err *e)
{
	auto_free char *path = NULL;
	bool relative = source[0] != '/';
	char *real;

	if (asprintf(&path, "%s%s%s", relative ? p->dir : "", relative ? "/" : "", source) < 0) {
		path = NULL;
		return err_errno(e, ENOMEM, "%s", key);
	}
	real = realpath(path, NULL);
	if (!real && errno == ENOENT)
		return err_set(e, ENOENT, "%s: %.200s does not exist on this host: make it%s", key,
			       source,
			       !strcmp(key, "volumes") ? ", for example with mkdir -p" : "");
	if (!real)
		return err_errno(e, errno, "%s: %.200s", key, source);
	if (relative && !project_climbs(source) && !project_inside(p->dir, real)) {
		err_set(e, EPERM,
			"%s: %.200s leads out of the project, to %.400s: if that is wanted, write "
			"that path",
			key, source, real);
		free(real);
		return -EPERM;
	}
	*out = real;
	return 0;
}

static int project_volume(const struct project *p, const struct volume *v, struct volume *out,
			  struct err *e)
{
	int rc = 0;

	*out = *v;
	out->source = out->guest = out->owner = NULL;
	if (v->kind == VOLUME_HOST)
		rc = project_host_path(p, "volumes", v->source, &out->source, e);
	else if (v->source)
		out->source = strdup(v->source);
	out->guest = strdup(v->guest);
	if (v->owner)
		out->owner = strdup(v->owner);
	if (!rc && (!out->guest || (v->source && !out->source) || (v->owner && !out->owner)))
		rc = err_errno(e, ENOMEM, "volumes");
	if (rc)
		volume_fini(out);
	return rc;
}

int project_volumes(const struct project *p, const struct sandboxfile_sandbox *s,
		    struct volume_list *out, struct err *e)
{
	int rc = 0;

	out->n = 0;
	for (unsigned i = 0; i < s->volumes.n && !rc; i++) {
		struct volume v;

		rc = project_volume(p, &s->volumes.v[i], &v, e);
		if (rc)
			err_wrap(e, "%s:%u:%u", p->path, s->volume_at[i].line,
				 s->volume_at[i].column);
		else
			rc = volume_list_add(out, &v, e);
	}
	if (rc)
		volume_list_fini(out);
	return rc;
}

/* ---- secrets ---- */

static int project_secret_file(const struct project *p, struct secret *s,
			       const struct secret_source *from, struct err *e)
{
	auto_free char *path = strndup(from->what, from->len);
	auto_free char *real = NULL;
	struct stat st;
	int rc = path ? project_host_path(p, "secrets", path, &real, e)
		      : err_errno(e, ENOMEM, "secrets");

	if (rc)
		return rc;
	/* A pipe would be waited for as long as it likes. */
	if (stat(real, &st) < 0)
		return err_errno(e, errno, "secrets: %.200s", path);
	if (!S_ISREG(st.st_mode))
		return err_set(e, EINVAL, "secrets: %.200s is not a regular file", path);
	return secret_value_read(s, real, e);
}

static int project_secret(const struct project *p, const char *text, struct secret_list *out,
			  struct err *e)
{
	struct secret s = { .value = NULL };
	struct secret_source from;
	int rc = secret_parse(text, &s, &from, e);

	if (!rc)
		rc = from.from == SECRET_FROM_FILE ? project_secret_file(p, &s, &from, e)
						   : secret_value_find(&s, &from, e);
	if (!rc)
		return secret_list_add(out, &s, e);
	secret_fini(&s);
	return rc;
}

int project_secrets(const struct project *p, const struct sandboxfile_sandbox *s,
		    struct secret_list *out, struct err *e)
{
	int rc = 0;

	for (size_t i = 0; i < s->secrets.n && !rc; i++) {
		rc = project_secret(p, s->secrets.v[i], out, e);
		if (rc)
			err_wrap(e, "%s:%u:%u", p->path, s->secrets.at[i].line,
				 s->secrets.at[i].column);
	}
	if (rc)
		secret_list_fini(out);
	return rc;
}

/* ---- variables ---- */

/* Leaves of each name the last, where the first stood. */
static void project_unique(char **list)
{
	size_t n = 0;

	for (size_t i = 0; list && list[i]; i++) {
		size_t len = (size_t)(strchr(list[i], '=') - list[i]) + 1, k = 0;

		while (k < n && strncmp(list[k], list[i], len))
			k++;
		if (k < n)
			free(list[k]);
		else
			n++;
		list[k] = list[i];
	}
	if (list)
		list[n] = NULL;
}

static int project_env_file(const struct project *p, const char *name, char ***list, struct err *e)
{
	auto_free char *text = NULL;
	size_t len;
	int rc = project_slurp(p->dir, name, ENVFILE_BYTES_MAX, &text, &len, e);

	if (rc)
		return rc;
	rc = envfile_parse(text, len, list, e);
	return rc ? err_wrap(e, "%s", name) : 0;
}

int project_envs(const struct project *p, const struct sandboxfile_sandbox *s, char ***out,
		 struct err *e)
{
	char **list = calloc(1, sizeof(*list));
	int rc = list ? 0 : err_errno(e, ENOMEM, "variables");

	for (size_t i = 0; i < s->env_file.n && !rc; i++) {
		rc = project_env_file(p, s->env_file.v[i], &list, e);
		if (rc)
			err_wrap(e, "%s:%u:%u: env_file", p->path, s->env_file.at[i].line,
				 s->env_file.at[i].column);
	}
	for (size_t i = 0; i < s->envs.n && !rc; i++)
		if (strlist_add(&list, s->envs.v[i]))
			rc = err_errno(e, ENOMEM, "variables");
	if (rc) {
		strlist_free(list);
		return rc;
	}
	project_unique(list);
	*out = list;
	return 0;
}
