/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_IMAGE_APT_H
#define MSB_IMAGE_APT_H

/*
 * DOC: Packages, by apt
 *
 * Purpose.  Finds out which packages a recipe needs, for a system that has none, and
 * downloads them.  apt does all of it: sources, signatures, dependencies, parallel
 * download, checksums.  It works on a state of its own below a temporary folder, so
 * that no root rights and no lock are needed and the host's packages do not count;
 * its sources, keys and proxies are the host's.
 *
 * Failure.  The first error that apt reports becomes the error, in one line.
 */

#include <stddef.h>

#include "base/err.h"

struct apt_package {
	char *name, *version, *arch;
	char *file; /* of the .deb in the folder, after apt_download() */
};

struct apt {
	const char *dir; /* absolute */
	struct apt_package *packages; /* by name */
	size_t n;
};

/* The lists of what there is; progress is shown. */
int apt_update(const char *dir, struct err *e);

/*
 * @names and all that they depend on, but for @omit (may be NULL) and what only those
 * need.
 */
int apt_resolve(const char *dir, char *const *names, char *const *omit, struct apt *out,
		struct err *e);

/* Downloads them into the folder @dir/debs. */
int apt_download(struct apt *a, struct err *e);
void apt_fini(struct apt *a);

#endif
