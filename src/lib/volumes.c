/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/volumes.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/mem.h"
#include "sys/file.h"
#include "sys/tree.h"

#define VOLUMES_DATA "data"
#define VOLUMES_META "volume.json"
#define VOLUMES_META_MAX 4096u
#define VOLUMES_DEPTH_MAX 512

static int volumes_make_dir(const char *path, struct err *e)
{
	if (mkdir(path, 0700) < 0 && errno != EEXIST)
		return err_errno(e, errno, "cannot make %s", path);
	return 0;
}

int volumes_parent(const char *home, const char *ns, char **out, struct err *e)
{
	auto_free char *all = NULL;
	auto_free char *own = NULL;
	int rc;

	if (asprintf(&all, "%s/" VOLUMES_DIR, home) < 0) {
		all = NULL;
		return err_errno(e, ENOMEM, "volumes");
	}
	rc = volumes_make_dir(all, e);
	if (rc || !ns) {
		*out = rc ? NULL : take_ptr(&all);
		return rc;
	}
	if (asprintf(&own, "%s/@%s", all, ns) < 0) {
		own = NULL;
		return err_errno(e, ENOMEM, "volumes");
	}
	rc = volumes_make_dir(own, e);
	*out = rc ? NULL : take_ptr(&own);
	return rc;
}

int volumes_parent_find(const char *home, const char *ns, char **out, struct err *e)
{
	auto_free char *own = NULL;

	if (asprintf(&own, "%s/" VOLUMES_DIR "/@%s", home, ns) < 0) {
		own = NULL;
		return err_errno(e, ENOMEM, "volumes");
	}
	if (access(own, F_OK) < 0)
		return err_errno(e, errno, "volumes of namespace %s", ns);
	*out = take_ptr(&own);
	return 0;
}

unsigned volumes_namespaces(const char *home)
{
	auto_free char *all = NULL;
	struct dirent *d;
	unsigned n = 0;
	DIR *dir;

	if (asprintf(&all, "%s/" VOLUMES_DIR, home) < 0) {
		all = NULL;
		return 0;
	}
	dir = opendir(all);
	if (!dir)
		return 0;
	while ((d = readdir(dir)))
		n += d->d_name[0] == '@';
	closedir(dir);
	return n;
}

static int volumes_check_name(const char *name, struct err *e)
{
	if (volume_name_valid(name))
		return 0;
	return err_set(
		e, EINVAL,
		"'%.100s' is no name for a volume: 1 to %u letters, digits, '_', '-', '.', the "
		"first a letter or digit",
		name, VOLUME_NAME_MAX);
}

/* The directory of the volume itself, locked against others who make or remove it. */
static int volumes_lock(const char *parent, int *out, struct err *e)
{
	auto_close int fd = open(parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0 || flock(fd, LOCK_EX) < 0)
		return err_errno(e, errno, "cannot lock %s", parent);
	*out = take_fd(&fd);
	return 0;
}

static int volumes_write_meta(int dirfd, uint64_t quota, bool client, struct err *e)
{
	char text[128];

	snprintf(text, sizeof(text), "{\"version\": 1, \"quota\": %llu, \"created\": %lld%s}\n",
		 (unsigned long long)quota, (long long)time(NULL),
		 client ? ", \"client\": true" : "");
	return file_write_at(dirfd, VOLUMES_META, text, strlen(text), 0600, true, e);
}

static int volumes_read_meta(int dirfd, const char *name, struct volume_info *out, struct err *e)
{
	auto_free char *text = NULL;
	json_error_t je;
	json_t *j, *quota;
	size_t len;
	int rc = file_read_at(dirfd, VOLUMES_META, VOLUMES_META_MAX, &text, &len, e);

	if (rc)
		return err_wrap(e, "volume '%s'", name);
	j = json_loadb(text, len, JSON_REJECT_DUPLICATES, &je);
	quota = json_object_get(j, "quota");
	if (json_is_integer(quota) && json_integer_value(quota) >= 0) {
		out->quota = (uint64_t)json_integer_value(quota);
		out->created_s = json_integer_value(json_object_get(j, "created"));
		out->client = json_is_true(json_object_get(j, "client"));
	} else {
		rc = err_set(e, EINVAL,
			     "volume '%s': " VOLUMES_META " is not what it was written as", name);
	}
	json_decref(j);
	return rc;
}

static int volumes_open(int parent_fd, const char *name, int *out, struct err *e)
{
	auto_close int fd =
		openat(parent_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

	if (fd < 0 && errno == ENOENT)
		return err_set(e, ENOENT,
			       "there is no volume '%s': make it with `msb volume create %s`, or "
			       "write ./%s for a directory beside you",
			       name, name, name);
	if (fd < 0)
		return err_errno(e, errno, "volume '%s'", name);
	*out = take_fd(&fd);
	return 0;
}

static bool volumes_in_use(int dirfd)
{
	auto_close int fd =
		openat(dirfd, VOLUMES_DATA, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

	return fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) < 0 && errno == EWOULDBLOCK;
}

static int volumes_get_at(int parent_fd, const char *name, struct volume_info *out, struct err *e)
{
	auto_close int fd = -1;
	int rc;

	*out = (struct volume_info){ .quota = 0 };
	if ((rc = volumes_check_name(name, e)) || (rc = volumes_open(parent_fd, name, &fd, e)) ||
	    (rc = volumes_read_meta(fd, name, out, e)))
		return rc;
	snprintf(out->name, sizeof(out->name), "%s", name);
	out->in_use = volumes_in_use(fd);
	return 0;
}

int volumes_get(const char *parent, const char *name, struct volume_info *out, struct err *e)
{
	auto_close int parent_fd = -1;
	int rc = volumes_lock(parent, &parent_fd, e);

	return rc ? rc : volumes_get_at(parent_fd, name, out, e);
}

int volumes_path(const char *parent, const char *name, char **out, struct err *e)
{
	if (asprintf(out, "%s/%s/" VOLUMES_DATA, parent, name) < 0) {
		*out = NULL;
		return err_errno(e, ENOMEM, "volume '%s'", name);
	}
	return 0;
}

/* Is @name still the directory that is open as @fd? */
static bool volumes_is(int parent_fd, const char *name, int fd)
{
	struct stat a, b;

	return !fstatat(parent_fd, name, &a, AT_SYMLINK_NOFOLLOW) && !fstat(fd, &b) &&
	       a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}

int volumes_remove(const char *parent, const char *name, struct err *e)
{
	auto_close int parent_fd = -1, fd = -1, data = -1;
	int rc;

	if ((rc = volumes_check_name(name, e)) || (rc = volumes_lock(parent, &parent_fd, e)) ||
	    (rc = volumes_open(parent_fd, name, &fd, e)))
		return rc;
	data = openat(fd, VOLUMES_DATA, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (data >= 0 && flock(data, LOCK_EX | LOCK_NB) < 0 && errno == EWOULDBLOCK)
		return err_set(e, EBUSY, "volume '%s' is in use: stop the sandboxes that have it",
			       name);
	/*
	 * Its data first: while some of it is there, it is a volume, which can be removed again.
	 * It may take long, and nobody waits for it: the lock of the data keeps sandboxes out.
	 */
	flock(parent_fd, LOCK_UN);
	rc = tree_remove(fd, VOLUMES_DATA);
	if (!rc && flock(parent_fd, LOCK_EX) < 0)
		rc = -errno;
	if (!rc && volumes_is(parent_fd, name, fd))
		rc = tree_remove(parent_fd, name);
	return rc ? err_errno(e, -rc, "cannot remove volume '%s'", name) : 0;
}

static int volumes_by_name(const struct dirent **a, const struct dirent **b)
{
	return strcmp((*a)->d_name, (*b)->d_name);
}

static int volumes_named(const struct dirent *d)
{
	return volume_name_valid(d->d_name);
}

static int volumes_each_at(int parent_fd, void (*fn)(void *ctx, const struct volume_info *v),
			   void *ctx, struct err *e)
{
	struct dirent **names = NULL;
	int n = scandirat(parent_fd, ".", &names, volumes_named, volumes_by_name);

	if (n < 0)
		return err_errno(e, errno, "read the volumes");
	for (int i = 0; i < n; i++) {
		struct volume_info v;

		if (!volumes_get_at(parent_fd, names[i]->d_name, &v, NULL))
			fn(ctx, &v);
		free(names[i]);
	}
	free(names);
	return 0;
}

int volumes_each(const char *parent, void (*fn)(void *ctx, const struct volume_info *v), void *ctx,
		 struct err *e)
{
	auto_close int parent_fd = -1;
	int rc = volumes_lock(parent, &parent_fd, e);

	return rc ? rc : volumes_each_at(parent_fd, fn, ctx, e);
}

struct volumes_tally {
	unsigned n;
	uint64_t bytes;
};

static void volumes_tally(void *ctx, const struct volume_info *v)
{
	struct volumes_tally *t = ctx;

	if (!v->client)
		return;
	t->n++;
	if (__builtin_add_overflow(t->bytes, v->quota, &t->bytes))
		t->bytes = UINT64_MAX;
}

/* What clients made counts, not what the user gave to their namespace. */
static int volumes_check_limit(int parent_fd, uint64_t quota, const struct volumes_limit *limit,
			       struct err *e)
{
	struct volumes_tally t = { .n = 0 };
	int rc = volumes_each_at(parent_fd, volumes_tally, &t, e);

	if (rc)
		return rc;
	if (t.n >= limit->n)
		return err_set(e, EDQUOT, "clients have %u volumes here (limit %u): remove some",
			       t.n, limit->n);
	if (t.bytes > limit->bytes || quota > limit->bytes - t.bytes)
		return err_set(e, EDQUOT,
			       "the volumes of clients here may have %llu bytes together, and "
			       "%llu are given out: ask for less, or remove some",
			       (unsigned long long)limit->bytes, (unsigned long long)t.bytes);
	return 0;
}

int volumes_create(const char *parent, const char *name, uint64_t quota,
		   const struct volumes_limit *limit, struct err *e)
{
	auto_close int parent_fd = -1, fd = -1;
	int rc;

	if ((rc = volumes_check_name(name, e)) || (rc = volumes_lock(parent, &parent_fd, e)))
		return rc;
	if (limit && (rc = volumes_check_limit(parent_fd, quota, limit, e)))
		return rc;
	if (mkdirat(parent_fd, name, 0700) < 0)
		return errno == EEXIST ? err_set(e, EEXIST, "there is a volume '%s' already", name)
				       : err_errno(e, errno, "cannot make volume '%s'", name);
	fd = openat(parent_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0 || mkdirat(fd, VOLUMES_DATA, 0755) < 0 || fchmodat(fd, VOLUMES_DATA, 0755, 0) < 0)
		rc = err_errno(e, errno, "cannot make volume '%s'", name);
	/* Written last: without it, it is no volume. */
	if (!rc)
		rc = volumes_write_meta(fd, quota, limit != NULL, e);
	if (rc)
		tree_remove(parent_fd, name);
	return rc;
}

/* Takes @fd. A directory that cannot be read counts as itself. */
static void volumes_count(int fd, unsigned depth, uint64_t *bytes)
{
	DIR *dir = fdopendir(fd);
	struct dirent *d;

	if (!dir) {
		close(fd);
		return;
	}
	while ((d = readdir(dir))) {
		struct stat st;
		int below;

		if (!strcmp(d->d_name, ".") || !strcmp(d->d_name, "..") ||
		    fstatat(dirfd(dir), d->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
			continue;
		*bytes += (uint64_t)st.st_blocks * 512 /
			  (S_ISDIR(st.st_mode) || !st.st_nlink ? 1 : st.st_nlink);
		if (!S_ISDIR(st.st_mode) || depth == VOLUMES_DEPTH_MAX)
			continue;
		below = openat(dirfd(dir), d->d_name,
			       O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		if (below >= 0)
			volumes_count(below, depth + 1, bytes);
	}
	closedir(dir);
}

int volumes_usage(const char *parent, const char *name, uint64_t *bytes, struct err *e)
{
	auto_free char *path = NULL;
	int rc = volumes_path(parent, name, &path, e), fd;

	if (rc)
		return rc;
	fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return err_errno(e, errno, "volume '%s'", name);
	*bytes = 0;
	volumes_count(fd, 0, bytes);
	return 0;
}

static int volumes_take_path(struct volume *v, const char *path, struct err *e)
{
	char *real = realpath(path, NULL);

	if (!real)
		return err_errno(e, errno, "volume %s", path);
	free(v->source);
	v->source = real;
	return 0;
}

static int volumes_resolve_named(struct volume *v, const struct volumes_policy *p, struct err *e)
{
	auto_free char *path = NULL;
	struct err why = ERR_INIT;
	struct volume_info info;
	int rc = volumes_get(p->parent, v->source, &info, &why);

	if (rc == -ENOENT && p->ns)
		return err_set(
			e, ENOENT,
			"there is no volume '%s' in namespace %s: make it with volume.create, or "
			"who runs the server with `msb volume create %s --namespace %s`",
			v->source, p->ns, v->source, p->ns);
	if (rc)
		return err_set(e, -rc, "%s", err_text(&why));
	rc = volumes_path(p->parent, v->source, &path, e);
	if (!rc)
		rc = volumes_take_path(v, path, e);
	if (rc)
		return rc;
	v->kind = VOLUME_HOST;
	v->named = true;
	v->size = info.quota;
	return 0;
}

/* Is @path one of the directories, or inside one?  By its names alone. */
static bool volumes_inside(const struct volumes_policy *p, const char *path)
{
	for (size_t i = 0; i < p->n_dirs; i++) {
		size_t n = strlen(p->dirs[i]);

		if (!strcmp(p->dirs[i], "/") ||
		    (!strncmp(path, p->dirs[i], n) && (!path[n] || path[n] == '/')))
			return true;
	}
	return false;
}

static int volumes_refuse(const struct volume *v, const struct volumes_policy *p, struct err *e)
{
	if (!p->n_dirs)
		return err_set(
			e, EINVAL,
			"%s: this server allows no paths of its host: use a named volume, or "
			"who runs the server starts it with --allow-volumes DIR",
			v->source);
	return err_set(e, EINVAL,
		       "%s is nothing inside the directories that this server allows for volumes",
		       v->source);
}

/*
 * Whoever asks must not learn what is outside the directories.  That nobody puts a link in the
 * way before the path is used is the jail's matter: it follows none.
 */
static int volumes_check_host(const struct volume *v, const struct volumes_policy *p, struct err *e)
{
	auto_free char *real = NULL;

	if (!p->restricted)
		return 0;
	if (v->source[0] != '/' || strstr(v->source, "/../") || !volumes_inside(p, v->source))
		return volumes_refuse(v, p, e);
	real = realpath(v->source, NULL);
	return real && volumes_inside(p, real) ? 0 : volumes_refuse(v, p, e);
}

static int volumes_resolve_host(struct volume *v, const struct volumes_policy *p, struct err *e)
{
	struct stat st;
	int rc = volumes_check_host(v, p, e);

	if (rc)
		return rc;
	if (stat(v->source, &st) < 0 && errno == ENOENT)
		return err_set(
			e, ENOENT,
			"%s, which is to be %s in the sandbox, does not exist on this host: make "
			"it, for example with mkdir -p",
			v->source, v->guest);
	rc = volumes_take_path(v, v->source, e);
	if (rc)
		return rc;
	/* Again: it may have become another one. */
	if (p->restricted && !volumes_inside(p, v->source))
		return volumes_refuse(v, p, e);
	if (lstat(v->source, &st) < 0)
		return err_errno(e, errno, "volume %s", v->source);
	if (!S_ISDIR(st.st_mode) && !S_ISREG(st.st_mode))
		return err_set(e, EINVAL, "volume %s is neither a directory nor a regular file",
			       v->source);
	v->file = S_ISREG(st.st_mode);
	return 0;
}

int volumes_allow(const char *dir, char **out, struct err *e)
{
	auto_free char *real = realpath(dir, NULL);
	struct stat st;

	if (!real || stat(real, &st) < 0)
		return err_errno(e, errno, "%s", dir);
	if (!S_ISDIR(st.st_mode))
		return err_set(e, ENOTDIR, "%s is no directory", dir);
	*out = take_ptr(&real);
	return 0;
}

int volumes_resolve(struct volume_list *l, const struct volumes_policy *p, struct err *e)
{
	int rc = 0;

	for (unsigned i = 0; i < l->n && !rc; i++) {
		struct volume *v = &l->v[i];

		if (v->kind == VOLUME_NAMED)
			rc = volumes_resolve_named(v, p, e);
		else if (v->kind == VOLUME_HOST)
			rc = volumes_resolve_host(v, p, e);
	}
	volume_list_sort(l);
	return rc;
}

int volumes_own(struct volume_list *l, const char *owner, struct err *e)
{
	/* Root's ids are the same on both sides, and so each file has its owner. */
	if (!owner || !*owner || !geteuid())
		return 0;
	for (unsigned i = 0; i < l->n; i++) {
		struct volume *v = &l->v[i];

		if (v->kind == VOLUME_TMPFS || v->owner)
			continue;
		v->owner = strdup(owner);
		if (!v->owner)
			return err_errno(e, ENOMEM, "volumes");
	}
	return 0;
}
