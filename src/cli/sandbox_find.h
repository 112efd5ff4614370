/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_CLI_SANDBOX_FIND_H
#define MSB_CLI_SANDBOX_FIND_H

/* Which running sandbox somebody means. */

#include "base/err.h"

struct sandbox_find {
	const char *name; /* or its directory, if there is a '/' in it */
	const char *ns; /* of the server; NULL = "default", and the sandboxes of msx */
	const char *path; /* where namespaces are kept; NULL = the running server's, or the default */
};

/* Return: a descriptor of its directory; -ENOENT; -EEXIST: there are two. */
int sandbox_find(const struct sandbox_find *f, struct err *e);

#endif
