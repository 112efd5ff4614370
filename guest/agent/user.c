/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/user.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/mem.h"

#define USER_FIELDS 7

struct user_field {
	const char *p;
	size_t len;
};

/*
 * Takes the next line off the bytes and splits it at colons; the last field has what
 * is left. Return: fields found; 0 at the end.
 */
static unsigned user_line(const char **p, size_t *n, struct user_field f[USER_FIELDS])
{
	const char *end = memchr(*p, '\n', *n);
	size_t len = end ? (size_t)(end - *p) : *n;
	const char *line = *p;
	unsigned count = 0;

	if (!*n)
		return 0;
	*p += len + (end ? 1 : 0);
	*n -= len + (end ? 1 : 0);
	while (count < USER_FIELDS) {
		const char *colon = count < USER_FIELDS - 1 ? memchr(line, ':', len) : NULL;

		f[count].p = line;
		f[count].len = colon ? (size_t)(colon - line) : len;
		count++;
		if (!colon)
			break;
		len -= (size_t)(colon - line) + 1;
		line = colon + 1;
	}
	return count;
}

static bool user_number(const char *p, size_t len, uint32_t *out)
{
	uint64_t v = 0;

	if (!len || len > 10)
		return false;
	for (size_t i = 0; i < len; i++) {
		if (p[i] < '0' || p[i] > '9')
			return false;
		v = v * 10 + (uint64_t)(p[i] - '0');
	}
	if (v >= UINT32_MAX) /* (uid_t)-1 means "leave it" to the system calls */
		return false;
	*out = (uint32_t)v;
	return true;
}

static bool user_field_is(const struct user_field *f, const char *p, size_t len)
{
	return f->len == len && !memcmp(f->p, p, len);
}

static void user_copy(char *to, size_t size, const struct user_field *f)
{
	size_t n = f->len < size ? f->len : 0;

	memcpy(to, f->p, n);
	to[n] = '\0';
}

/* passwd: name:password:uid:gid:comment:home:shell */
static bool user_find(const char *who, size_t who_len, bool by_name, const char *p, size_t n,
		      struct user_ident *out)
{
	struct user_field f[USER_FIELDS];
	uint32_t uid, gid, want = 0;
	unsigned count;

	if (!by_name && !user_number(who, who_len, &want))
		return false;
	while ((count = user_line(&p, &n, f))) {
		if (count < 4 || !user_number(f[2].p, f[2].len, &uid) ||
		    !user_number(f[3].p, f[3].len, &gid))
			continue;
		if (by_name ? !user_field_is(&f[0], who, who_len) : uid != want)
			continue;
		out->uid = uid;
		out->gid = gid;
		user_copy(out->name, sizeof(out->name), &f[0]);
		if (count > 5 && f[5].len && f[5].p[0] == '/')
			user_copy(out->home, sizeof(out->home), &f[5]);
		return true;
	}
	return false;
}

/* group: name:password:gid:member,member,... */
static bool user_group_find(const char *who, size_t who_len, const char *p, size_t n, gid_t *out)
{
	struct user_field f[USER_FIELDS];
	uint32_t gid;
	unsigned count;

	while ((count = user_line(&p, &n, f))) {
		if (count < 3 || !user_field_is(&f[0], who, who_len) ||
		    !user_number(f[2].p, f[2].len, &gid))
			continue;
		*out = gid;
		return true;
	}
	return false;
}

static bool user_is_member(const struct user_field *members, const char *name)
{
	size_t len = strlen(name), left = members->len;
	const char *p = members->p;

	while (left) {
		const char *comma = memchr(p, ',', left);
		size_t n = comma ? (size_t)(comma - p) : left;

		if (n == len && !memcmp(p, name, n))
			return true;
		n += comma ? 1 : 0;
		p += n;
		left -= n;
	}
	return false;
}

static void user_supplementary(const char *p, size_t n, struct user_ident *u)
{
	struct user_field f[USER_FIELDS];
	uint32_t gid;
	unsigned count;

	if (!u->name[0])
		return;
	while ((count = user_line(&p, &n, f)) && u->n_groups < USER_GROUPS_MAX) {
		if (count < 4 || !user_number(f[2].p, f[2].len, &gid) || gid == u->gid)
			continue;
		if (user_is_member(&f[3], u->name))
			u->groups[u->n_groups++] = gid;
	}
}

int user_resolve(const char *spec, const char *passwd, size_t passwd_len, const char *group,
		 size_t group_len, struct user_ident *out, struct err *e)
{
	struct user_ident u = { .n_groups = 1, .home = "/" };
	const char *colon, *who = *spec ? spec : "0";
	uint32_t number;
	size_t who_len;

	colon = strchr(who, ':');
	who_len = colon ? (size_t)(colon - who) : strlen(who);
	if (!passwd) {
		passwd = "";
		passwd_len = 0;
	}
	if (!group) {
		group = "";
		group_len = 0;
	}
	/* As everywhere: a name that looks like a number is looked up as a name first. */
	if (!user_find(who, who_len, true, passwd, passwd_len, &u) &&
	    !user_find(who, who_len, false, passwd, passwd_len, &u)) {
		if (user_number(who, who_len, &number))
			u.uid = number;
		else if (!strncmp(who, "root", who_len) && who_len == 4)
			u.uid = 0;
		else
			return err_set(e, EINVAL,
				       "unknown user '%.*s': not in the image's /etc/passwd",
				       (int)who_len, who);
	}
	if (colon) {
		const char *g = colon + 1;

		if (!user_group_find(g, strlen(g), group, group_len, &u.gid)) {
			if (!user_number(g, strlen(g), &number))
				return err_set(e, EINVAL,
					       "unknown group '%s': not in the image's /etc/group",
					       g);
			u.gid = number;
		}
	} else {
		user_supplementary(group, group_len, &u);
	}
	u.groups[0] = u.gid;
	if (!u.home[0])
		strcpy(u.home, "/");
	*out = u;
	return 0;
}

/* Return: 0 with *@p NULL if there is no such file. */
static int user_read_file(const char *path, char **p, size_t *n, struct err *e)
{
	/* O_NONBLOCK: the image may have put a FIFO there. */
	auto_close int fd = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	auto_free char *mem = NULL;
	struct stat st;
	size_t len = 0;
	ssize_t k;

	*p = NULL;
	*n = 0;
	if (fd < 0)
		return errno == ENOENT ? 0 : err_errno(e, errno, "%s", path);
	if (fstat(fd, &st) || !S_ISREG(st.st_mode))
		return err_set(e, EINVAL, "%s is not a regular file", path);
	mem = malloc(USER_FILE_MAX);
	if (!mem)
		return err_errno(e, ENOMEM, "%s", path);
	while ((k = read(fd, mem + len, USER_FILE_MAX - len)) > 0)
		len += (size_t)k;
	if (k < 0)
		return err_errno(e, errno, "%s", path);
	if (len == USER_FILE_MAX)
		return err_set(e, EFBIG, "%s is larger than %u bytes", path, USER_FILE_MAX);
	*p = take_ptr(&mem);
	*n = len;
	return 0;
}

int user_load(const char *spec, struct user_ident *out, struct err *e)
{
	auto_free char *passwd = NULL, *group = NULL;
	size_t passwd_len, group_len;
	int rc;

	rc = user_read_file("/etc/passwd", &passwd, &passwd_len, e);
	if (!rc)
		rc = user_read_file("/etc/group", &group, &group_len, e);
	return rc ? rc : user_resolve(spec, passwd, passwd_len, group, group_len, out, e);
}

int user_become(const struct user_ident *u, struct err *e)
{
	if (setgroups(u->n_groups, u->groups))
		return err_errno(e, errno, "setgroups");
	if (setresgid(u->gid, u->gid, u->gid))
		return err_errno(e, errno, "become group %u", (unsigned)u->gid);
	if (setresuid(u->uid, u->uid, u->uid))
		return err_errno(e, errno, "become user %u", (unsigned)u->uid);
	return 0;
}
