/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/dirs.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "agent/user.h"
#include "base/log.h"
#include "base/mem.h"

/* @path in the tree.  O_PATH: neither a FIFO nor a device is opened, whatever is there. */
static int dirs_open(int root_fd, const char *path)
{
	struct open_how how = {
		.flags = O_PATH | O_DIRECTORY | O_CLOEXEC,
		.resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS,
	};

	return (int)syscall(SYS_openat2, root_fd, path, &how, sizeof(how));
}

/* Makes @name, which has no '/', in @dir. Return: a descriptor, or -1 with errno. */
static int dirs_make_one(int dir, const char *name)
{
	if (mkdirat(dir, name, 0755))
		return -1;
	/* Not followed: it is the one that was just made, or nothing. */
	return openat(dir, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
}

int dirs_make(int root_fd, const char *path, uid_t uid, gid_t gid, struct err *e)
{
	auto_close int dir = -1;
	char copy[DIRS_PATH_MAX];
	size_t len = strlen(path);
	bool made = false;

	if (path[0] != '/' || len >= sizeof(copy))
		return err_set(e, EINVAL,
			       "directory %.64s: not an absolute path of less than %u bytes", path,
			       DIRS_PATH_MAX);
	memcpy(copy, path, len + 1);
	dir = dirs_open(root_fd, "/");
	if (dir < 0)
		return err_errno(e, errno, "directory %s", path);
	for (char *p = copy + strspn(copy, "/"), *end; *p; p = end + strspn(end, "/")) {
		char was;
		int next;

		end = p + strcspn(p, "/");
		if (end == p + 1 && *p == '.')
			continue;
		was = *end;
		*end = '\0';
		/* From the root each time: a link before it may have led anywhere in the tree. */
		next = dirs_open(root_fd, copy);
		made = next < 0 && errno == ENOENT;
		if (made)
			next = dirs_make_one(dir, p);
		if (next < 0)
			return err_errno(e, errno, "directory %s: %s", path, copy);
		close(dir);
		dir = next;
		*end = was;
	}
	if (!made)
		return 1;
	if ((uid || gid) && fchownat(dir, "", uid, gid, AT_EMPTY_PATH))
		return err_errno(e, errno, "directory %s: its owner", path);
	return 0;
}

static int dirs_configure_one(int root_fd, const char *owner, const char *path, struct err *e)
{
	auto_close int there = dirs_open(root_fd, path);
	struct user_ident u = { .uid = 0 };

	/* The usual case, and the passwd need not be read. */
	if (there >= 0)
		return 0;
	if (owner[0] && user_load(owner, &u, e))
		return -e->code;
	return dirs_make(root_fd, path, u.uid, u.gid, e);
}

void dirs_configure(const struct frame_configure *c)
{
	auto_close int root_fd = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
	struct frame_list l = c->directories;
	struct frame_str owner, path;

	while (frame_list_next(&l, &owner) && frame_list_next(&l, &path)) {
		char who[256], where[DIRS_PATH_MAX];
		struct err e = ERR_INIT;
		int rc;

		if (frame_str_copy(&owner, who, sizeof(who)) ||
		    frame_str_copy(&path, where, sizeof(where)))
			rc = err_set(&e, ENAMETOOLONG, "directory: owner or path too long");
		else
			rc = dirs_configure_one(root_fd, who, where, &e);
		if (rc < 0)
			log_warn("event=directory reason=\"%s\"", err_text(&e));
	}
}
