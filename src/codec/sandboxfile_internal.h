/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_CODEC_SANDBOXFILE_INTERNAL_H
#define MSB_CODEC_SANDBOXFILE_INTERNAL_H

/* What the parts of the parser share. */

#include "codec/sandboxfile.h"

struct sandboxfile_reader {
	struct sandboxfile *f;
	struct sandboxfile_notes *notes;
	bool no_memory;
};

/* Notes an error. Return: -EINVAL. */
int sandboxfile_bad(struct sandboxfile_reader *r, struct ytree_at at, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
void sandboxfile_warn(struct sandboxfile_reader *r, struct ytree_at at, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

int sandboxfile_bind_sandboxes(struct sandboxfile_reader *r, const struct ytree_node *v,
			       bool builds);

/* Is it a name for a build? Return: 0 or -EINVAL. */
int sandboxfile_check_build(const char *name, struct err *e);

/* Which image each build makes, and which image sandboxes and builds have that name a build. */
void sandboxfile_resolve_builds(struct sandboxfile_reader *r);

/* What can be wrong only of several sandboxes: what they depend on, ports that two have. */
void sandboxfile_check_together(struct sandboxfile_reader *r);

#endif
