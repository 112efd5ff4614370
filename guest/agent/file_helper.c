/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DOC: Theory of operation
 *
 * Purpose
 *   What a file request does, in a process of its own and as the user it is for.  Every
 *   call may hang; nobody else waits for it.
 *
 * Writing
 *   A file is replaced as a whole: content goes to a file without a name (O_TMPFILE),
 *   which is linked or renamed into place when all of it has come.  Where the file system
 *   has no such files, to one with a temporary name.  Through a symbolic link the file
 *   that it points to is replaced.  A replaced file's owner is kept if the user may.
 *
 * Failure
 *   SIGTERM means that the request was abandoned.  While no name of ours exists it just
 *   kills; while one does, it is noticed and the name is removed.
 *
 * Trust boundary
 *   Paths, directories and what is in them are the guest's.  Only regular files are opened
 *   for content.  A tree is removed by descriptors, so that no symbolic link put in its
 *   place meanwhile leads elsewhere.
 */
#include "agent/files.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/sendfile.h>
#include <sys/stat.h>

#include "agent/user.h"
#include "base/buf.h"
#include "base/checked.h"
#include "base/mem.h"

#define FILE_COPY_CHUNK (256u * 1024)
#define FILE_SENDFILE_MAX (1u << 30)
#define FILE_REMOVE_DEPTH 128u /* directories open at once while a tree is removed */
#define FILE_TEMP_TRIES 16
#define FILE_MODE_DEFAULT 0644
#define FILE_DIR_MODE_DEFAULT 0755

static volatile sig_atomic_t file_abandoned;

static void file_on_term(int sig)
{
	(void)sig;
	file_abandoned = 1;
}

static int file_fail(const struct file_job *job, int code, struct err *e)
{
	return err_errno(e, code, "%s %s", job->what, job->shown);
}

static uint64_t file_mtime_ns(const struct stat *st)
{
	if (st->st_mtim.tv_sec < 0)
		return 0;
	return (uint64_t)st->st_mtim.tv_sec * 1000000000u + (uint64_t)st->st_mtim.tv_nsec;
}

static void file_set_done(struct file_result *r, const struct stat *st)
{
	r->done.mode = st->st_mode;
	r->done.uid = st->st_uid;
	r->done.gid = st->st_gid;
	r->done.size = (uint64_t)st->st_size;
	r->done.mtime_ns = file_mtime_ns(st);
	r->done.inode = st->st_ino;
	r->done.nlink = st->st_nlink;
}

/* Only files with content: a FIFO would wait for a writer, a device might do anything. */
static int file_check_regular(const struct file_job *job, const struct stat *st, struct err *e)
{
	switch (st->st_mode & S_IFMT) {
	case S_IFREG:
		return 0;
	case S_IFDIR:
		return err_set(e, EISDIR, "%s %s: is a directory", job->what, job->shown);
	case S_IFIFO:
		return err_set(e, EINVAL, "%s %s: is a FIFO, not a regular file", job->what,
			       job->shown);
	case S_IFSOCK:
		return err_set(e, EINVAL, "%s %s: is a socket, not a regular file", job->what,
			       job->shown);
	default:
		return err_set(e, EINVAL, "%s %s: is a device, not a regular file", job->what,
			       job->shown);
	}
}

/* Opens a regular file. Asked first, since opening alone does things to some devices. */
static int file_open_regular(const struct file_job *job, const char *path, int flags, int *out,
			     struct stat *st, struct err *e)
{
	auto_close int fd = -1;
	int rc;

	if (!stat(path, st)) {
		rc = file_check_regular(job, st, e);
		if (rc)
			return rc;
	} else if (errno != ENOENT || !(flags & O_CREAT)) {
		return file_fail(job, errno, e);
	}
	/* What was asked may be something else by now: O_NONBLOCK and asking again. */
	fd = open(path, flags | O_NONBLOCK | O_NOCTTY | O_CLOEXEC,
		  job->mode ? job->mode : FILE_MODE_DEFAULT);
	if (fd < 0 || fstat(fd, st))
		return file_fail(job, errno, e);
	rc = file_check_regular(job, st, e);
	if (!rc)
		*out = take_fd(&fd);
	return rc;
}

static int file_write_all(int fd, const uint8_t *p, size_t n)
{
	while (n) {
		ssize_t k = write(fd, p, n);

		if (k < 0 && errno == EINTR)
			continue;
		if (k < 0)
			return -errno;
		p += k;
		n -= (size_t)k;
	}
	return 0;
}

/* Bytes from @from to @to by way of our memory. Return: 0 or a negative errno. */
static int file_copy_plain(int from, int to, uint64_t left)
{
	auto_free uint8_t *mem = malloc(FILE_COPY_CHUNK);
	int rc = mem ? 0 : -ENOMEM;

	while (!rc && left) {
		ssize_t n = read(from, mem, min_u64(FILE_COPY_CHUNK, left));

		if (n < 0 && errno == EINTR && !file_abandoned)
			continue;
		if (n < 0)
			return -errno;
		if (!n)
			break;
		rc = file_write_all(to, mem, (size_t)n);
		left -= (uint64_t)n;
	}
	return rc;
}

static int file_read(const struct file_job *job, struct file_result *r, struct err *e)
{
	uint64_t left = job->length ? job->length : UINT64_MAX;
	auto_close int fd = -1;
	struct stat st;
	int rc;

	rc = file_open_regular(job, job->path, O_RDONLY, &fd, &st, e);
	if (rc)
		return rc;
	if (job->offset && lseek(fd, (off_t)job->offset, SEEK_SET) < 0)
		return file_fail(job, errno, e);
	while (left) {
		/* The pages go into the pipe as they are. */
		ssize_t n = sendfile(job->out_fd, fd, NULL, min_u64(FILE_SENDFILE_MAX, left));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && (errno == EINVAL || errno == ENOSYS)) {
			rc = file_copy_plain(fd, job->out_fd, left);
			if (rc)
				return file_fail(job, -rc, e);
			break;
		}
		if (n < 0)
			return file_fail(job, errno, e);
		if (!n)
			break;
		left -= (uint64_t)n;
	}
	if (fstat(fd, &st))
		return file_fail(job, errno, e);
	file_set_done(r, &st);
	return 0;
}

/* The content of a WRITE, up to its end. */
static int file_copy_in(const struct file_job *job, int fd, struct err *e)
{
	ssize_t n;
	int rc = 0;

	do {
		n = splice(job->in_fd, NULL, fd, NULL, FILE_COPY_CHUNK, 0);
	} while (n > 0 || (n < 0 && errno == EINTR && !file_abandoned));
	if (n < 0)
		rc = -errno;
	if (rc == -EINVAL || rc == -ENOSYS) /* no file system has to know splice() */
		rc = file_copy_plain(job->in_fd, fd, UINT64_MAX);
	if (file_abandoned)
		rc = -ECANCELED;
	return rc ? file_fail(job, -rc, e) : 0;
}

/* Makes what is missing of the directories on the way to @path's last component. */
static int file_make_parents(const struct file_job *job, const char *path, struct err *e)
{
	char dir[PATH_MAX];

	snprintf(dir, sizeof(dir), "%s", path);
	for (char *p = dir + strspn(dir, "/"); (p = strchr(p, '/')); p++) {
		if (!p[strspn(p, "/")])
			break; /* only slashes follow: this is the last component */
		*p = '\0';
		if (mkdir(dir, FILE_DIR_MODE_DEFAULT) && errno != EEXIST)
			return err_errno(e, errno, "%s %s: cannot make its parent directory",
					 job->what, job->shown);
		*p = '/';
	}
	return 0;
}

/* Splits off the last component, which must name something; *@dir_fd is where it is. */
static int file_open_parent(const struct file_job *job, char *path, int *dir_fd, char **base,
			    struct err *e)
{
	size_t len = strlen(path);
	char *slash;

	while (len > 1 && path[len - 1] == '/')
		path[--len] = '\0';
	slash = strrchr(path, '/');
	*base = slash + 1;
	if (!**base || !strcmp(*base, ".") || !strcmp(*base, ".."))
		return err_set(e, EINVAL, "%s %s: the path must end in a name", job->what,
			       job->shown);
	if (slash == path) {
		*dir_fd = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
	} else {
		*slash = '\0';
		*dir_fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
		*slash = '/';
	}
	return *dir_fd < 0 ? file_fail(job, errno, e) : 0;
}

static int file_append(const struct file_job *job, struct file_result *r, struct err *e)
{
	int flags = O_WRONLY | O_APPEND | O_CREAT | (job->flags & FILE_EXCL ? O_EXCL : 0);
	auto_close int fd = -1;
	struct stat st;
	int rc;

	if ((job->flags & FILE_EXCL) && !lstat(job->path, &st))
		return file_fail(job, EEXIST, e);
	rc = file_open_regular(job, job->path, flags, &fd, &st, e);
	if (!rc)
		rc = file_copy_in(job, fd, e);
	if (!rc && fstat(fd, &st))
		rc = file_fail(job, errno, e);
	if (!rc)
		file_set_done(r, &st);
	return rc;
}

/* A file that is being written, and where it is to be. */
struct file_temp {
	int fd, dir_fd;
	const char *base; /* final name */
	char name[40]; /* temporary name; empty = it has none */
	bool exists; /* something has the final name: @old */
	struct stat old;
};

static void file_temp_name(struct file_temp *t)
{
	uint64_t n = 0;

	if (getrandom(&n, sizeof(n), GRND_NONBLOCK) < 0)
		n = (uint64_t)getpid();
	snprintf(t->name, sizeof(t->name), ".msb-%016llx.tmp", (unsigned long long)n);
}

static int file_temp_open(const struct file_job *job, struct file_temp *t, struct err *e)
{
	struct sigaction noticed = { .sa_handler = file_on_term };

	if (job->proc_fd >= 0)
		t->fd = openat(t->dir_fd, ".", O_TMPFILE | O_WRONLY | O_CLOEXEC, 0600);
	if (t->fd >= 0)
		return 0;
	if (job->proc_fd >= 0 && errno != EOPNOTSUPP && errno != EISDIR && errno != EINVAL &&
	    errno != ENOENT)
		return file_fail(job, errno, e);
	sigaction(SIGTERM, &noticed, NULL);
	for (int i = 0; i < FILE_TEMP_TRIES; i++) {
		file_temp_name(t);
		t->fd = openat(t->dir_fd, t->name, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0600);
		if (t->fd >= 0)
			return 0;
		if (errno != EEXIST)
			break;
	}
	t->name[0] = '\0';
	return file_fail(job, errno, e);
}

/* Gives a file without a name the name @to. Return: 0 or a negative errno. */
static int file_temp_link(const struct file_job *job, struct file_temp *t, const char *to)
{
	char self[40];

	snprintf(self, sizeof(self), "self/fd/%d", t->fd);
	return linkat(job->proc_fd, self, t->dir_fd, to, AT_SYMLINK_FOLLOW) ? -errno : 0;
}

/* The final name, in one step.  The caller removes t->name on failure. */
static int file_temp_place(const struct file_job *job, struct file_temp *t)
{
	int rc;

	if (!t->name[0]) {
		if (!t->exists) {
			rc = file_temp_link(job, t, t->base);
			if (rc != -EEXIST || (job->flags & FILE_EXCL))
				return rc;
		}
		/* Only a rename replaces, and only a file with a name can be renamed. */
		rc = -EEXIST;
		for (int i = 0; i < FILE_TEMP_TRIES && rc == -EEXIST; i++) {
			file_temp_name(t);
			rc = file_temp_link(job, t, t->name);
		}
		if (rc) {
			t->name[0] = '\0';
			return rc;
		}
	}
	if (job->flags & FILE_EXCL) {
		if (linkat(t->dir_fd, t->name, t->dir_fd, t->base, 0))
			return -errno;
		unlinkat(t->dir_fd, t->name, 0);
	} else if (renameat(t->dir_fd, t->name, t->dir_fd, t->base)) {
		return -errno;
	}
	t->name[0] = '\0';
	return 0;
}

static int file_temp_commit(const struct file_job *job, struct file_temp *t, struct err *e)
{
	mode_t mode = job->mode ? job->mode : FILE_MODE_DEFAULT;
	sigset_t term;
	int rc;

	if (t->exists) {
		if (!job->mode)
			mode = t->old.st_mode & 07777;
		/* Content is what is replaced. Who may not keep the owner becomes it. */
		if (fchown(t->fd, t->old.st_uid, t->old.st_gid) && errno != EPERM)
			return file_fail(job, errno, e);
	}
	if (fchmod(t->fd, mode))
		return file_fail(job, errno, e);
	/* Not between the link and the rename, which would leave the temporary name. */
	sigemptyset(&term);
	sigaddset(&term, SIGTERM);
	sigprocmask(SIG_BLOCK, &term, NULL);
	rc = file_temp_place(job, t);
	if (rc && t->name[0]) {
		unlinkat(t->dir_fd, t->name, 0);
		t->name[0] = '\0';
	}
	sigprocmask(SIG_UNBLOCK, &term, NULL);
	return rc ? file_fail(job, -rc, e) : 0;
}

/* What has the name now: may it be replaced?  @path becomes the file a link points to. */
static int file_check_target(const struct file_job *job, char path[PATH_MAX], struct file_temp *t,
			     struct err *e)
{
	if (path[strlen(path) - 1] == '/')
		return err_set(e, EISDIR, "%s %s: a path that ends in / is a directory's",
			       job->what, job->shown);
	if (lstat(path, &t->old)) {
		if (errno == ENOENT)
			return 0;
		return file_fail(job, errno, e);
	}
	if (job->flags & FILE_EXCL)
		return file_fail(job, EEXIST, e);
	if (S_ISLNK(t->old.st_mode)) {
		if (!realpath(job->path, path) || lstat(path, &t->old))
			return err_errno(e, errno, "%s %s: is a symbolic link that leads nowhere",
					 job->what, job->shown);
	}
	t->exists = true;
	return file_check_regular(job, &t->old, e);
}

static int file_replace(const struct file_job *job, struct file_result *r, struct err *e)
{
	struct file_temp t = { .fd = -1, .dir_fd = -1 };
	char path[PATH_MAX], *base;
	struct stat st;
	int rc;

	strcpy(path, job->path);
	rc = file_check_target(job, path, &t, e);
	if (!rc)
		rc = file_open_parent(job, path, &t.dir_fd, &base, e);
	if (rc)
		return rc;
	t.base = base;
	rc = file_temp_open(job, &t, e);
	if (!rc)
		rc = file_copy_in(job, t.fd, e);
	if (!rc)
		rc = file_temp_commit(job, &t, e);
	if (rc && t.name[0])
		unlinkat(t.dir_fd, t.name, 0);
	if (!rc && fstat(t.fd, &st))
		rc = file_fail(job, errno, e);
	if (!rc)
		file_set_done(r, &st);
	close_fd(&t.fd);
	close_fd(&t.dir_fd);
	return rc;
}

static int file_write(const struct file_job *job, struct file_result *r, struct err *e)
{
	int rc = 0;

	if (job->flags & FILE_PARENTS)
		rc = file_make_parents(job, job->path, e);
	if (rc)
		return rc;
	return job->flags & FILE_APPEND ? file_append(job, r, e) : file_replace(job, r, e);
}

static int file_list_entry(int dir_fd, const struct dirent *d, struct buf *b)
{
	struct frame_dirent m = { .name = frame_str_of(d->d_name) };
	struct stat st;

	if (!fstatat(dir_fd, d->d_name, &st, AT_SYMLINK_NOFOLLOW)) {
		m.mode = st.st_mode;
		m.uid = st.st_uid;
		m.gid = st.st_gid;
		m.size = (uint64_t)st.st_size;
		m.mtime_ns = file_mtime_ns(&st);
	} else if (errno == ENOENT) {
		return 0; /* removed meanwhile */
	} else {
		m.mode = DTTOIF(d->d_type); /* a name that can be read and not asked about */
	}
	return frame_encode_dirent(b, &m);
}

static int file_list(const struct file_job *job, struct file_result *r, struct err *e)
{
	int fd = open(job->path, O_RDONLY | O_DIRECTORY | O_NONBLOCK | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	struct buf b = BUF_INIT;
	struct dirent *d;
	struct stat st;
	int rc = 0;

	if (!dir)
		return file_fail(job, errno, e);
	while (!rc && (errno = 0, d = readdir(dir))) {
		if (!strcmp(d->d_name, ".") || !strcmp(d->d_name, ".."))
			continue;
		rc = file_list_entry(fd, d, &b);
		if (!rc && buf_len(&b) >= FRAME_DATA_MAX) {
			rc = file_write_all(job->out_fd, buf_data(&b), buf_len(&b));
			buf_consume(&b, buf_len(&b));
		}
	}
	if (!rc)
		rc = -errno;
	if (!rc)
		rc = file_write_all(job->out_fd, buf_data(&b), buf_len(&b));
	if (!rc && fstat(fd, &st))
		rc = -errno;
	if (!rc)
		file_set_done(r, &st);
	buf_fini(&b);
	closedir(dir);
	return rc ? file_fail(job, -rc, e) : 0;
}

static int file_stat(const struct file_job *job, const char *path, bool follow,
		     struct file_result *r, struct err *e)
{
	struct stat st;
	ssize_t n;

	if (follow ? stat(path, &st) : lstat(path, &st))
		return file_fail(job, errno, e);
	file_set_done(r, &st);
	if (S_ISLNK(st.st_mode)) {
		n = readlink(path, r->target, sizeof(r->target) - 1);
		if (n < 0)
			return file_fail(job, errno, e);
		r->target_len = (uint32_t)n;
	}
	return 0;
}

static int file_mkdir(const struct file_job *job, struct file_result *r, struct err *e)
{
	mode_t mode = job->mode ? job->mode : FILE_DIR_MODE_DEFAULT;
	bool parents = job->flags & FILE_PARENTS;
	struct stat st;
	int rc;

	rc = parents ? file_make_parents(job, job->path, e) : 0;
	if (rc)
		return rc;
	if (!mkdir(job->path, mode)) {
		/* mkdir() itself takes no set-id bits. */
		if ((mode & 07000) && chmod(job->path, mode))
			return file_fail(job, errno, e);
	} else {
		int code = errno;

		if (!parents || code != EEXIST || stat(job->path, &st) || !S_ISDIR(st.st_mode))
			return file_fail(job, code, e);
	}
	return file_stat(job, job->path, true, r, e);
}

struct file_tree {
	const struct file_job *job;
	int top_fd;
	unsigned moved; /* directories that were brought up to the top */
};

static int file_tree_fail(const struct file_tree *t, const char *name, struct err *e)
{
	return err_errno(e, errno, "remove %s: entry '%s'", t->job->shown, name);
}

/* A tree deeper than we hold descriptors: the rest of it goes to the top, for later. */
static int file_tree_move_up(struct file_tree *t, int fd, const char *name, struct err *e)
{
	char to[32];
	int rc;

	do {
		snprintf(to, sizeof(to), ".msb-remove-%u", ++t->moved);
		rc = renameat(fd, name, t->top_fd, to);
	} while (rc && (errno == EEXIST || errno == ENOTEMPTY || errno == ENOTDIR) &&
		 t->moved < UINT32_MAX);
	return rc ? file_tree_fail(t, name, e) : 0;
}

/* Removes what is in the directory @fd (taken). */
static int file_tree_empty(struct file_tree *t, int fd, unsigned depth, struct err *e)
{
	DIR *dir = fdopendir(fd);
	struct dirent *d;
	int rc = 0;

	if (!dir) {
		rc = file_fail(t->job, errno, e);
		close(fd);
		return rc;
	}
	while (!rc && (errno = 0, d = readdir(dir))) {
		const char *name = d->d_name;
		int child;

		if (!strcmp(name, ".") || !strcmp(name, ".."))
			continue;
		if (d->d_type != DT_DIR) {
			if (!unlinkat(fd, name, 0) || errno == ENOENT)
				continue;
			if (errno != EISDIR) {
				rc = file_tree_fail(t, name, e);
				continue;
			}
		}
		if (!unlinkat(fd, name, AT_REMOVEDIR) || errno == ENOENT)
			continue;
		if (errno != ENOTEMPTY && errno != EEXIST) {
			rc = file_tree_fail(t, name, e);
			continue;
		}
		if (depth == FILE_REMOVE_DEPTH) {
			rc = file_tree_move_up(t, fd, name, e);
			continue;
		}
		child = openat(fd, name,
			       O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
		if (child < 0) {
			rc = file_tree_fail(t, name, e);
			continue;
		}
		rc = file_tree_empty(t, child, depth + 1, e);
		if (!rc && unlinkat(fd, name, AT_REMOVEDIR) && errno != ENOENT)
			rc = file_tree_fail(t, name, e);
	}
	if (!rc && errno)
		rc = file_fail(t->job, errno, e);
	closedir(dir);
	return rc;
}

static int file_remove_tree(const struct file_job *job, int dir_fd, const char *base, struct err *e)
{
	struct file_tree t = { .job = job };
	unsigned moved;
	int rc;

	do {
		auto_close int fd =
			openat(dir_fd, base,
			       O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);

		if (fd < 0)
			return file_fail(job, errno, e);
		t.top_fd = fd;
		moved = t.moved;
		rc = fcntl(fd, F_DUPFD_CLOEXEC, 0);
		if (rc < 0)
			return file_fail(job, errno, e);
		rc = file_tree_empty(&t, rc, 0, e);
	} while (!rc && t.moved != moved);
	if (!rc && unlinkat(dir_fd, base, AT_REMOVEDIR))
		rc = file_fail(job, errno, e);
	return rc;
}

static int file_remove(const struct file_job *job, struct file_result *r, struct err *e)
{
	auto_close int dir_fd = -1;
	char path[PATH_MAX], *base;
	struct stat st;
	int rc;

	strcpy(path, job->path);
	rc = file_open_parent(job, path, &dir_fd, &base, e);
	if (rc)
		return rc;
	if (fstatat(dir_fd, base, &st, AT_SYMLINK_NOFOLLOW))
		return file_fail(job, errno, e);
	file_set_done(r, &st);
	if (S_ISDIR(st.st_mode) && (job->flags & FILE_RECURSIVE))
		return file_remove_tree(job, dir_fd, base, e);
	if (unlinkat(dir_fd, base, S_ISDIR(st.st_mode) ? AT_REMOVEDIR : 0))
		return file_fail(job, errno, e);
	return 0;
}

static int file_rename(const struct file_job *job, struct file_result *r, struct err *e)
{
	if (rename(job->path, job->to)) {
		int code = errno, len = (int)min_u64(strlen(job->to), FILE_SHOWN_MAX / 2);

		return err_errno(e, code, "%s %.*s to %.*s", job->what, FILE_SHOWN_MAX / 2,
				 job->shown, len, job->to);
	}
	return file_stat(job, job->to, false, r, e);
}

static int file_run(const struct file_job *job, struct file_result *r, struct err *e)
{
	struct user_ident user;
	int rc;

	rc = user_load(job->user, &user, e);
	/* An agent that is not root (a test) serves itself. */
	if (!rc && (geteuid() == 0 || user.uid != geteuid()))
		rc = user_become(&user, e);
	if (rc)
		return err_wrap(e, "%s %s", job->what, job->shown);
	umask(0); /* modes are what was asked for */
	switch (job->type) {
	case FRAME_FILE_READ:
		return file_read(job, r, e);
	case FRAME_FILE_WRITE:
		return file_write(job, r, e);
	case FRAME_FILE_LIST:
		return file_list(job, r, e);
	case FRAME_FILE_STAT:
		return file_stat(job, job->path, job->flags & FILE_FOLLOW, r, e);
	case FRAME_FILE_MKDIR:
		return file_mkdir(job, r, e);
	case FRAME_FILE_REMOVE:
		return file_remove(job, r, e);
	case FRAME_FILE_RENAME:
		return file_rename(job, r, e);
	default:
		return err_set(e, ENOSYS, "file request %u is not known", job->type);
	}
}

void file_helper_run(const struct file_job *job, struct file_result *result)
{
	memset(result, 0, sizeof(*result));
	file_run(job, result, &result->err);
}
