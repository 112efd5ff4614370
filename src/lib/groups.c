/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/groups.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/mem.h"
#include "codec/netcontrol.h"

#define GROUPS_DIR "groups" /* in the home */

static int groups_make_dir(const char *path, struct err *e)
{
	return mkdir(path, 0700) < 0 && errno != EEXIST
		       ? err_errno(e, errno, "cannot make %s", path)
		       : 0;
}

int groups_set(struct sandbox_config *cfg, const char *home, const char *ns, const char *group,
	       struct err *e)
{
	auto_free char *all = NULL, *own = NULL;
	char *dir = NULL;
	int rc;

	if (!netgroup_name_valid(group))
		return err_set(
			e, EINVAL,
			"'%.70s' is no name of a group: give up to %u letters, digits, - and _",
			group, NETGROUP_NAME_SIZE - 1);
	if (asprintf(&all, "%s/" GROUPS_DIR, home) < 0)
		all = NULL;
	if (all && asprintf(&own, "%s%s%s", all, ns ? "/@" : "", ns ? ns : "") < 0)
		own = NULL;
	if (own && asprintf(&dir, "%s/%s", own, group) < 0)
		dir = NULL;
	if (!dir)
		return err_errno(e, ENOMEM, "group");
	if ((rc = groups_make_dir(all, e)) || (rc = groups_make_dir(own, e))) {
		free(dir);
		return rc;
	}
	free(cfg->group_dir);
	cfg->group_dir = dir;
	free(cfg->group);
	cfg->group = strdup(group);
	return cfg->group ? 0 : err_errno(e, ENOMEM, "group");
}
