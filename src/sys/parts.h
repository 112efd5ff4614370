/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_SYS_PARTS_H
#define MSB_SYS_PARTS_H

/*
 * Where the parts of an installation are: msb-net, msb-image, vmlinux,
 * initramfs.cpio.gz and recipes/ all lie in ../lib/microsandbox, seen from the
 * folder of the running msb.  The build tree has the same shape, so there is one
 * rule for both, and an installation can be moved.
 */

#include "base/err.h"

/* Absolute path of @name in the parts folder; *@out is malloc'ed. Does not check that it exists. */
int parts_path(const char *name, char **out, struct err *e);

/* Absolute path of the running program. */
int parts_self(char **out, struct err *e);

/* MICROSANDBOX_HOME, or ~/.microsandbox; absolute; made (0700) if absent. */
int parts_home(char **out, struct err *e);

#endif
