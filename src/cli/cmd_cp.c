/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `msb cp`: files and directories into a sandbox of a project, and out of it.
 *
 * Trust boundary.  What comes out is named by the guest.  Names are single segments
 * (lib/guestfiles.h), each directory is opened below the one before it and never through a link, a
 * file is written under a name of ours and put in its place when it is whole; depth and number are
 * bounded, and no more is taken of a file than the guest said that it holds.  Set-id bits and
 * links are not copied, either way.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "cli/cli.h"
#include "cli/project_open.h"
#include "cli/project_opts.h"
#include "lib/guestfiles.h"
#include "lib/keep.h"

#define CP_DEPTH_MAX 64u
#define CP_ENTRIES_MAX 1000000u
#define CP_MODE 0777u

enum cp_opt { CP_FILE, CP_USER, CP_QUIET };

const struct cli_opt cp_opts[] = {
	[CP_FILE] = PROJECT_OPT_FILE,
	[CP_USER] = { "user", NULL, "u", "USER",
		      "as whom in the sandbox: name, uid, name:group or uid:gid (default root)" },
	[CP_QUIET] = { "quiet", NULL, "q", NULL, "no notices" },
	{ NULL },
};

struct cp {
	struct guestfiles g;
	char path[GUESTFILES_PATH_MAX]; /* in the sandbox: where we are */
	size_t entries;
	unsigned depth;
	bool quiet, skipped;
	struct err *e;
};

/* ---- where ---- */

/* Adds a name to the path in the sandbox. *@was: for cp_leave(). */
static int cp_enter(struct cp *c, const char *name, size_t *was)
{
	size_t len = strlen(c->path);
	bool slash = len && c->path[len - 1] == '/';

	*was = len;
	if (len + !slash + strlen(name) >= sizeof(c->path))
		return err_set(c->e, ENAMETOOLONG, "%.200s...: the path is too long", c->path);
	snprintf(c->path + len, sizeof(c->path) - len, "%s%s", slash ? "" : "/", name);
	return 0;
}

static void cp_leave(struct cp *c, size_t was)
{
	c->path[was] = '\0';
}

static int cp_count(struct cp *c)
{
	return ++c->entries > CP_ENTRIES_MAX
		       ? err_set(c->e, EFBIG, "more than %u files", CP_ENTRIES_MAX)
		       : 0;
}

static int cp_deeper(struct cp *c)
{
	return ++c->depth > CP_DEPTH_MAX
		       ? err_set(c->e, ELOOP, "%.200s...: deeper than %u directories", c->path,
				 CP_DEPTH_MAX)
		       : 0;
}

/* Names that a guest chose may hold anything. */
static void cp_skip(struct cp *c, const char *path)
{
	char text[GUESTFILES_PATH_MAX];

	snprintf(text, sizeof(text), "%s", path);
	for (char *p = text; *p; p++)
		if ((unsigned char)*p < ' ' || *p == 0x7f || (unsigned char)*p >= 0x80)
			*p = '?';
	c->skipped = true;
	if (!c->quiet)
		cli_notice("%s is neither a file nor a directory: not copied", text);
}

/* ---- out of the sandbox ---- */

/* A file that is being written, to be removed also after Ctrl-C. */
static struct {
	volatile sig_atomic_t there;
	int dirfd;
	char name[32];
} cp_temp;

static void cp_on_signal(int sig)
{
	if (cp_temp.there)
		unlinkat(cp_temp.dirfd, cp_temp.name, 0);
	_exit(128 + sig);
}

static int cp_temp_open(struct cp *c, int dirfd, int *out)
{
	cp_temp.dirfd = dirfd;
	snprintf(cp_temp.name, sizeof(cp_temp.name), ".msb-cp-%d", (int)getpid());
	*out = openat(dirfd, cp_temp.name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (*out < 0)
		return err_errno(c->e, errno, "cannot write beside what %.200s becomes", c->path);
	cp_temp.there = 1;
	return 0;
}

/* The file of c->path becomes @name in @dirfd. */
static int cp_out_file(struct cp *c, const struct guestfiles_info *info, int dirfd, const char *name)
{
	auto_close int fd = -1;
	int rc = cp_count(c);

	rc = rc ? rc : cp_temp_open(c, dirfd, &fd);
	if (rc)
		return rc;
	rc = guestfiles_read(&c->g, c->path, info->size, fd, c->e);
	if (!rc && (fchmod(fd, info->mode & CP_MODE) < 0 ||
		    renameat(dirfd, cp_temp.name, dirfd, name) < 0))
		rc = err_errno(c->e, errno, "cannot make %s", name);
	if (rc)
		unlinkat(dirfd, cp_temp.name, 0);
	cp_temp.there = 0;
	return rc;
}

static int cp_out_dir(struct cp *c, const struct guestfiles_info *info, int dirfd, const char *name);

static int cp_out_entry(struct cp *c, const struct guestfiles_entry *n, int dirfd)
{
	size_t was;
	int rc = cp_enter(c, n->name, &was);

	if (rc)
		return rc;
	if (S_ISREG(n->info.mode))
		rc = cp_out_file(c, &n->info, dirfd, n->name);
	else if (S_ISDIR(n->info.mode))
		rc = cp_out_dir(c, &n->info, dirfd, n->name);
	else
		cp_skip(c, c->path);
	cp_leave(c, was);
	return rc;
}

static int cp_out_entries(struct cp *c, int dirfd)
{
	struct guestfiles_entry n;
	struct buf list;
	int rc = guestfiles_list(&c->g, c->path, &list, c->e), more = 1;

	while (!rc && (more = guestfiles_next(&list, &n, c->e)) > 0)
		rc = cp_out_entry(c, &n, dirfd);
	buf_fini(&list);
	return rc ? rc : more;
}

/* What is in a directory that is there already is kept, and so is its mode. */
static int cp_out_dir(struct cp *c, const struct guestfiles_info *info, int dirfd, const char *name)
{
	bool made = !mkdirat(dirfd, name, 0700);
	auto_close int fd = -1;
	int rc = cp_count(c);

	if (!rc && !made && errno != EEXIST)
		return err_errno(c->e, errno, "cannot make the directory %s", name);
	rc = rc ? rc : cp_deeper(c);
	if (rc)
		return rc;
	fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return err_errno(c->e, errno, "cannot open the directory %s", name);
	rc = cp_out_entries(c, fd);
	if (!rc && made && fchmod(fd, info->mode & CP_MODE) < 0)
		rc = err_errno(c->e, errno, "mode of %s", name);
	c->depth--;
	return rc;
}

/* The last segment of a path, without slashes behind it, malloc'ed; NULL = it has no name. */
static char *cp_base(const char *path)
{
	size_t end = strlen(path), start;

	while (end && path[end - 1] == '/')
		end--;
	for (start = end; start && path[start - 1] != '/';)
		start--;
	if (start == end || (end - start == 1 && path[start] == '.') ||
	    (end - start == 2 && !strncmp(path + start, "..", 2)))
		return NULL;
	return strndup(path + start, end - start);
}

/* Opens the directory that @dst stands in, or is; *@name: what is made there, malloc'ed. */
static int cp_out_target(const char *dst, const char *src, int *dirfd, char **name, struct err *e)
{
	auto_free char *parent = strdup(dst);
	struct stat st;
	size_t n;

	if (!parent)
		return err_errno(e, ENOMEM, "%s", dst);
	if (!stat(dst, &st) && S_ISDIR(st.st_mode)) {
		*name = cp_base(src);
		if (!*name)
			return err_set(e, EINVAL, "%s has no name: say what it becomes in %s", src,
				       dst);
	} else {
		n = strlen(parent);
		*name = n && parent[n - 1] == '/' ? NULL : cp_base(dst);
		if (!*name)
			return err_set(e, ENOENT, "%s is not a directory", dst);
		parent[n - strlen(*name)] = '\0';
	}
	*dirfd = open(*parent ? parent : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return *dirfd < 0 ? err_errno(e, errno, "%s", *parent ? parent : ".") : 0;
}

static int cp_out(struct cp *c, const char *dst)
{
	auto_free char *name = NULL;
	auto_close int dirfd = -1;
	struct guestfiles_info info = { .mode = 0 };
	int rc = guestfiles_stat(&c->g, c->path, &info, c->e);

	rc = rc ? rc : cp_out_target(dst, c->path, &dirfd, &name, c->e);
	if (rc)
		return rc;
	signal(SIGINT, cp_on_signal);
	signal(SIGTERM, cp_on_signal);
	signal(SIGHUP, cp_on_signal);
	if (S_ISREG(info.mode))
		return cp_out_file(c, &info, dirfd, name);
	if (S_ISDIR(info.mode))
		return cp_out_dir(c, &info, dirfd, name);
	return err_set(c->e, EINVAL, "%.200s is neither a file nor a directory", c->path);
}

/* ---- into the sandbox ---- */

static int cp_in_dir(struct cp *c, int fd, const struct stat *st);

/* @fd: of a file or directory, which becomes c->path; it is closed. */
static int cp_in_open(struct cp *c, int fd, const char *name)
{
	auto_close int own = fd;
	struct stat st;
	int rc = cp_count(c);

	if (rc)
		return rc;
	if (fstat(own, &st) < 0)
		return err_errno(c->e, errno, "%s", name);
	if (S_ISDIR(st.st_mode))
		return cp_in_dir(c, own, &st);
	if (S_ISREG(st.st_mode))
		return guestfiles_write(&c->g, c->path, st.st_mode & CP_MODE, own, c->e);
	cp_skip(c, name);
	return 0;
}

static int cp_in_entry(struct cp *c, int dirfd, const char *name)
{
	struct stat st;
	size_t was;
	int fd, rc;

	/* A device or pipe is not even opened. */
	if (fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return err_errno(c->e, errno, "%s", name);
	if (!S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode)) {
		cp_skip(c, name);
		return 0;
	}
	fd = openat(dirfd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0)
		return err_errno(c->e, errno, "%s", name);
	rc = cp_enter(c, name, &was);
	if (rc) {
		close(fd);
		return rc;
	}
	rc = cp_in_open(c, fd, name);
	cp_leave(c, was);
	return rc;
}

static int cp_in_entries(struct cp *c, int fd)
{
	int again = fcntl(fd, F_DUPFD_CLOEXEC, 0), rc = 0;
	DIR *dir = again < 0 ? NULL : fdopendir(again);
	struct dirent *d;

	if (!dir) {
		rc = err_errno(c->e, errno, "cannot read what becomes %.200s", c->path);
		close_fd(&again);
		return rc;
	}
	while (!rc && (errno = 0, d = readdir(dir)))
		if (strcmp(d->d_name, ".") && strcmp(d->d_name, ".."))
			rc = cp_in_entry(c, fd, d->d_name);
	if (!rc && errno)
		rc = err_errno(c->e, errno, "cannot read what becomes %.200s", c->path);
	closedir(dir);
	return rc;
}

/* What is in a directory that is there already is kept, and so is its mode. */
static int cp_in_dir(struct cp *c, int fd, const struct stat *st)
{
	struct guestfiles_info info = { .mode = 0 };
	struct err why = ERR_INIT;
	int rc = cp_deeper(c);

	if (rc)
		return rc;
	rc = guestfiles_mkdir(&c->g, c->path, st->st_mode & CP_MODE, &why);
	if (rc == -EEXIST) {
		err_clear(&why);
		rc = guestfiles_stat(&c->g, c->path, &info, &why);
		if (!rc && !S_ISDIR(info.mode))
			rc = err_set(&why, ENOTDIR, "%.200s is there, and is no directory", c->path);
	}
	if (rc)
		return err_set(c->e, why.code, "%s", err_text(&why));
	rc = cp_in_entries(c, fd);
	c->depth--;
	return rc;
}

static int cp_in(struct cp *c, const char *src)
{
	auto_free char *base = cp_base(src);
	struct guestfiles_info info = { .mode = 0 };
	struct err why = ERR_INIT;
	size_t was = strlen(c->path);
	struct stat st;
	int fd, rc = guestfiles_stat(&c->g, c->path, &info, &why);

	if (rc && rc != -ENOENT)
		return err_set(c->e, why.code, "%s", err_text(&why));
	if (!rc && S_ISDIR(info.mode)) {
		if (!base)
			return err_set(c->e, EINVAL, "%s has no name: say what it becomes in %s",
				       src, c->path);
		rc = cp_enter(c, base, &was);
	} else {
		rc = c->path[was - 1] == '/'
			     ? err_set(c->e, ENOTDIR, "%s is not a directory", c->path)
			     : 0;
	}
	if (rc)
		return rc;
	if (stat(src, &st) < 0)
		return err_errno(c->e, errno, "%s", src);
	if (!S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode))
		return err_set(c->e, EINVAL, "%s is neither a file nor a directory", src);
	fd = open(src, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	return fd < 0 ? err_errno(c->e, errno, "%s", src) : cp_in_open(c, fd, src);
}

/* ---- the command ---- */

/* The colon of NAME:PATH; NULL = it is a path of the host, such as ./a:b. */
static char *cp_colon(char *word)
{
	char *colon = strchr(word, ':');
	bool name;

	if (!colon)
		return NULL;
	*colon = '\0';
	name = sandboxfile_name_valid(word);
	*colon = ':';
	return name ? colon : NULL;
}

/* A running sandbox's directory. */
static int cp_find(const struct project_view *v, const char *name, int *dirfd, struct err *e)
{
	auto_close int parent = open(v->menv, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

	if (parent < 0 || keep_open(parent, name, dirfd, NULL)) {
		int rc = sandboxfile_need(v->p.file, name, NULL, e);

		if (rc)
			return rc;
	}
	if (*dirfd < 0 || keep_running(*dirfd) != 1)
		return err_set(e, ESRCH, "sandbox %s is not running: start it with msb up %s", name,
			       name);
	return 0;
}

static int cp_run(struct cp *c, const char *file, char *src, char *dst, const char *user)
{
	char *colon = cp_colon(src), *in = colon ? src : dst;
	struct project_view v = { .menv = NULL };
	auto_close int dirfd = -1;
	struct err e = ERR_INIT;
	bool out = colon;
	int rc;

	if (!out)
		colon = cp_colon(dst);
	*colon = '\0';
	c->e = &e;
	snprintf(c->path, sizeof(c->path), "%s", colon + 1);
	rc = project_open(file, c->quiet, &v, &e);
	rc = rc ? rc : cp_find(&v, in, &dirfd, &e);
	if (!rc) {
		rc = guestfiles_open(&c->g, dirfd, user, &e);
		if (!rc)
			rc = out ? cp_out(c, dst) : cp_in(c, src);
		guestfiles_close(&c->g);
	}
	project_close(&v);
	return rc ? cli_fail(&e) : c->skipped ? 1 : CLI_OK;
}

int cmd_cp(const struct cli_command *cmd, int argc, char **argv)
{
	struct cp c = { .entries = 0 };
	const char *file = NULL, *user = "", *colon;
	struct cli_args a;
	int opt;

	cli_args_init(&a, cmd, argc, argv);
	while ((opt = cli_args_next(&a)) >= 0) {
		if (opt == CP_FILE)
			file = a.value;
		if (opt == CP_USER)
			user = a.value;
		c.quiet |= opt == CP_QUIET;
	}
	if (opt != CLI_OPT_END)
		return cli_args_status(opt);
	if (a.n_words != 2 || !cp_colon(a.words[0]) == !cp_colon(a.words[1]))
		return cli_usage(cmd, "give a source and a target, one of them as NAME:PATH; a "
				      "path here that has a colon as ./a:b");
	colon = cp_colon(a.words[0]) ? cp_colon(a.words[0]) : cp_colon(a.words[1]);
	if (colon[1] != '/' || strlen(colon + 1) >= GUESTFILES_PATH_MAX)
		return cli_usage(cmd, "'%.200s' is not an absolute path in the sandbox", colon + 1);
	return cp_run(&c, file, a.words[0], a.words[1], user);
}
