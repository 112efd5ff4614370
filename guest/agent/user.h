/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_AGENT_USER_H
#define MSB_AGENT_USER_H

/*
 * Who a user is, according to the image's passwd and group files.  The image wrote
 * them, so they are hostile: user_resolve() is pure and has a fuzz target.
 */

#include <stddef.h>
#include <sys/types.h>

#include "base/err.h"

#define USER_GROUPS_MAX 64
#define USER_FILE_MAX (1024u * 1024) /* a longer passwd or group file is refused */

struct user_ident {
	uid_t uid;
	gid_t gid;
	gid_t groups[USER_GROUPS_MAX]; /* with gid */
	size_t n_groups;
	char name[64]; /* empty if passwd does not know the uid */
	char home[1024]; /* "/" if not known */
};

/**
 * user_resolve() - make a user out of "name", "uid", "name:group" or "uid:gid"
 * @spec:   empty = root
 * @passwd, @group: the files' bytes, NULL if absent
 *
 * A number that passwd does not know is taken as it is, with group 0.  A name that it
 * does not know is an error.  Naming a group drops the supplementary ones.
 */
int user_resolve(const char *spec, const char *passwd, size_t passwd_len, const char *group,
		 size_t group_len, struct user_ident *out, struct err *e);

/*
 * The same with /etc/passwd and /etc/group.  These are the image's paths: only in a child, or
 * at CONFIGURE before anything but the image's own file system can be behind them.
 */
int user_load(const char *spec, struct user_ident *out, struct err *e);

/* Becomes that user for good. */
int user_become(const struct user_ident *u, struct err *e);

#endif
