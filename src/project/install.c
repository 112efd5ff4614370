/* SPDX-License-Identifier: Apache-2.0 */
#include "project/install.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/mem.h"
#include "codec/sandboxfile.h"
#include "lib/keep.h"
#include "project/plan.h"
#include "sys/file.h"
#include "sys/parts.h"
#include "sys/tree.h"

#define INSTALL_MARK "# MSB-ALIAS: "
#define INSTALL_COMMAND_FILE "command" /* in the project: the path of its command */
#define INSTALL_COMMAND_MAX 8192u

static int install_mkdirs(const char *path, mode_t mode, struct err *e)
{
	auto_free char *copy = strdup(path);

	if (!copy)
		return err_errno(e, ENOMEM, "%s", path);
	for (char *p = copy + 1; *p; p++) {
		if (*p != '/')
			continue;
		*p = '\0';
		if (mkdir(copy, mode) < 0 && errno != EEXIST)
			return err_errno(e, errno, "cannot make %s", copy);
		*p = '/';
	}
	if (mkdir(copy, mode) < 0 && errno != EEXIST)
		return err_errno(e, errno, "cannot make %s", copy);
	return 0;
}

int install_bin_dir(char **out, struct err *e)
{
	const char *home = getenv("HOME");
	auto_free char *path = NULL;
	const struct passwd *pw;
	int rc;

	if (!home || home[0] != '/') {
		pw = getpwuid(getuid());
		home = pw ? pw->pw_dir : NULL;
	}
	if (!home || home[0] != '/')
		return err_set(e, ENOENT, "no home directory: set HOME, or give --bin-dir");
	if (asprintf(&path, "%s/.local/bin", home) < 0) {
		path = NULL;
		return err_errno(e, ENOMEM, "bin directory");
	}
	rc = install_mkdirs(path, 0755, e);
	if (!rc)
		*out = take_ptr(&path);
	return rc;
}

char *install_project(const char *home, const char *name)
{
	char *path;

	return asprintf(&path, "%s/" INSTALL_DIR "/%s", home, name) < 0 ? NULL : path;
}

/* In single quotes, for a shell. */
static int install_quote(struct buf *b, const char *s)
{
	int rc = buf_append(b, "'", 1);

	for (; *s && !rc; s++)
		rc = *s == '\'' ? buf_append(b, "'\\''", 4) : buf_append(b, s, 1);
	return rc ? rc : buf_append(b, "'", 1);
}

static int install_puts(struct buf *b, const char *s)
{
	return buf_append(b, s, strlen(s));
}

/* @home goes into it: what was installed runs also where MICROSANDBOX_HOME is another one. */
static int install_script(const char *home, const char *name, const char *script,
			  const char *project, struct buf *b, struct err *e)
{
	auto_free char *self = NULL;
	int rc = parts_self(&self, e);

	if (rc)
		return rc;
	if (!(rc = install_puts(b, "#!/bin/sh\n" INSTALL_MARK)) && !(rc = install_puts(b, name)) &&
	    !(rc = install_puts(b, "\n# Made by msb install; msb uninstall removes it.\n"
				   "MICROSANDBOX_HOME=")) &&
	    !(rc = install_quote(b, home)) &&
	    !(rc = install_puts(b, "\nexport MICROSANDBOX_HOME\nmsb=")) &&
	    !(rc = install_quote(b, self)) &&
	    !(rc = install_puts(b, "\n[ -x \"$msb\" ] || msb=msb\nexec \"$msb\" run -q -f ")) &&
	    !(rc = install_quote(b, project)) && !(rc = install_puts(b, " ")) &&
	    !(rc = install_puts(b, name)) && !(rc = script ? install_puts(b, "~") : 0) &&
	    !(rc = script ? install_puts(b, script) : 0))
		rc = install_puts(b, " -- \"$@\"\n");
	return rc ? err_errno(e, -rc, "the command %s", name) : 0;
}

/* Whole or not at all, and never over anything. */
static int install_write_command(const char *path, const struct buf *text, struct err *e)
{
	auto_free char *tmp = NULL;
	auto_close int fd = -1;
	int rc;

	if (asprintf(&tmp, "%s.msb-%d.tmp", path, getpid()) < 0) {
		tmp = NULL;
		return err_errno(e, ENOMEM, "%s", path);
	}
	fd = open(tmp, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0755);
	if (fd < 0)
		return err_errno(e, errno, "cannot write %s", tmp);
	rc = file_write_all(fd, buf_data(text), buf_len(text));
	/* link(2) fails where a name is taken, in every file system. */
	if (!rc && link(tmp, path) < 0)
		rc = -errno;
	unlink(tmp);
	if (rc == -EEXIST)
		return err_set(e, EEXIST, "%s is there already, and is not overwritten", path);
	return rc ? err_errno(e, -rc, "cannot write %s", path) : 0;
}

static int install_fill(const char *home, const char *name, const char *sandboxfile,
			const char *script, const char *bin_dir, const char *project, int dirfd,
			struct err *e)
{
	auto_free char *path = NULL;
	struct buf text = BUF_INIT;
	int rc;

	if (asprintf(&path, "%s/%s", bin_dir, name) < 0) {
		path = NULL;
		return err_errno(e, ENOMEM, "%s", name);
	}
	if (!(rc = file_write_at(dirfd, SANDBOXFILE_NAME, sandboxfile, strlen(sandboxfile), 0600,
				 true, e)) &&
	    !(rc = file_write_at(dirfd, INSTALL_COMMAND_FILE, path, strlen(path), 0600, true, e)) &&
	    !(rc = install_script(home, name, script, project, &text, e)))
		rc = install_write_command(path, &text, e);
	buf_fini(&text);
	return rc;
}

int install_add(const char *home, const char *name, const char *sandboxfile, const char *script,
		const char *bin_dir, struct err *e)
{
	auto_free char *project = install_project(home, name);
	auto_free char *parent =
		project ? strndup(project, strlen(project) - strlen(name) - 1) : NULL;
	auto_close int dirfd = -1;
	int rc;

	if (!parent)
		return err_errno(e, ENOMEM, "%s", name);
	if (mkdir(parent, 0700) < 0 && errno != EEXIST)
		return err_errno(e, errno, "cannot make %s", parent);
	if (mkdir(project, 0700) < 0)
		return errno == EEXIST
			       ? err_set(e, EEXIST,
					 "%s is installed already: `msb uninstall %s` removes it",
					 name, name)
			       : err_errno(e, errno, "cannot make %s", project);
	dirfd = open(project, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	rc = dirfd < 0 ? err_errno(e, errno, "cannot open %s", project)
		       : install_fill(home, name, sandboxfile, script, bin_dir, project, dirfd, e);
	if (rc)
		tree_remove(AT_FDCWD, project);
	return rc;
}

bool install_is_command(const char *path, const char *name, const char *home)
{
	auto_free char *text = NULL;
	auto_free char *mark = NULL;
	struct buf quoted = BUF_INIT;
	bool ours;
	size_t len;

	/* One of another user's choice, such as a link to something, is not. */
	if (file_read_at(AT_FDCWD, path, INSTALL_COMMAND_MAX, &text, &len, NULL) ||
	    asprintf(&mark, "#!/bin/sh\n" INSTALL_MARK "%s\n", name) < 0) {
		mark = NULL;
		return false;
	}
	ours = !strncmp(text, mark, strlen(mark));
	if (ours && home)
		ours = !install_puts(&quoted, "\nMICROSANDBOX_HOME=") &&
		       !install_quote(&quoted, home) && !buf_append(&quoted, "\n", 2) &&
		       strstr(text, (const char *)buf_data(&quoted));
	buf_fini(&quoted);
	return ours;
}

char *install_command(const char *home, const char *name)
{
	auto_free char *project = install_project(home, name);
	auto_close int dirfd =
		project ? open(project, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC) : -1;
	char *path = NULL;
	size_t len;

	if (dirfd < 0 ||
	    file_read_at(dirfd, INSTALL_COMMAND_FILE, INSTALL_COMMAND_MAX, &path, &len, NULL))
		return NULL;
	return path;
}

/* Its sandbox may not run, and may not be started meanwhile. */
static int install_lock(const char *project, const char *name, int *parent_fd, struct err *e)
{
	auto_free char *menv = NULL;
	auto_close int dirfd = -1;
	struct err why = ERR_INIT;
	int rc;

	if (asprintf(&menv, "%s/" PLAN_MENV, project) < 0) {
		menv = NULL;
		return err_errno(e, ENOMEM, "%s", name);
	}
	rc = keep_lock(menv, true, parent_fd, e);
	if (rc)
		return rc;
	rc = keep_claim(*parent_fd, name, false, &dirfd, &why);
	if (rc == -EBUSY)
		return err_set(e, EBUSY, "%s is running: end it first", name);
	return rc && rc != -ENOENT ? err_set(e, why.code, "%s", err_text(&why)) : 0;
}

int install_remove(const char *home, const char *name, bool *foreign, struct err *e)
{
	auto_free char *project = install_project(home, name);
	auto_free char *path = install_command(home, name);
	auto_close int parent_fd = -1;
	struct stat st;
	int rc;

	*foreign = false;
	if (!project)
		return err_errno(e, ENOMEM, "%s", name);
	if (lstat(project, &st) < 0 || !S_ISDIR(st.st_mode))
		return err_set(e, ENOENT, "%s is not installed: see msb list --installed", name);
	rc = install_lock(project, name, &parent_fd, e);
	if (rc)
		return rc;
	if (path && install_is_command(path, name, home)) {
		if (unlink(path) < 0)
			return err_errno(e, errno, "cannot remove %s", path);
	} else if (path && !lstat(path, &st)) {
		*foreign = true;
	}
	rc = tree_remove(AT_FDCWD, project);
	return rc ? err_errno(e, -rc, "cannot remove %s", project) : 0;
}

static int install_filter(const struct dirent *d)
{
	return d->d_name[0] != '.' && sandboxfile_name_valid(d->d_name);
}

int install_each(const char *home, void (*fn)(void *ctx, const char *name, const char *project),
		 void *ctx, struct err *e)
{
	auto_free char *parent = install_project(home, "");
	struct dirent **names;
	int n;

	if (!parent)
		return err_errno(e, ENOMEM, "installed sandboxes");
	n = scandir(parent, &names, install_filter, alphasort);
	if (n < 0)
		return errno == ENOENT ? 0 : err_errno(e, errno, "cannot read %s", parent);
	for (int i = 0; i < n; i++) {
		auto_free char *project = install_project(home, names[i]->d_name);

		if (project)
			fn(ctx, names[i]->d_name, project);
		free(names[i]);
	}
	free(names);
	return 0;
}
