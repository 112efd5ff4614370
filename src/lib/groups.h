/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_LIB_GROUPS_H
#define MSB_LIB_GROUPS_H

/*
 * Where the sandboxes of a group find each other (sandbox/membership.h): <home>/groups/NAME, those of
 * the server's namespaces in <home>/groups/@NAMESPACE/NAME, so that a group of one namespace is
 * none of another's.
 */

#include "codec/sandbox_config.h"

/*
 * Sets cfg->group and cfg->group_dir, and makes the directory's parents.
 * @ns: the server's namespace, NULL = of sandboxes without one
 * Return: 0; -EINVAL: it is no name of a group.
 */
int groups_set(struct sandbox_config *cfg, const char *home, const char *ns, const char *group,
	       struct err *e);

#endif
