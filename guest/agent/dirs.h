/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_AGENT_DIRS_H
#define MSB_AGENT_DIRS_H

/*
 * DOC: Directories that the image's configuration names
 *
 * WorkingDir and Volumes are made where the image has none, as other tools do.  The paths and
 * the tree are the image's: a symbolic link is followed inside the tree, where "/" and ".." end
 * at its root, and no further.
 */

#include <sys/types.h>

#include "codec/frame.h"

#define DIRS_PATH_MAX 4096

/**
 * dirs_make() - a directory, and what leads to it, unless it is there
 * @root_fd: the tree
 * @path:    absolute, in the tree
 *
 * What was there keeps owner and mode.  New ones get mode 0755; the last one belongs to
 * @uid and @gid, those that lead to it to the caller.  Return: 0; 1: it was there; or a negative
 * errno: -ENOTDIR (a file is in the way), -EEXIST (a link that leads nowhere), ...
 */
int dirs_make(int root_fd, const char *path, uid_t uid, gid_t gid, struct err *e);

/*
 * Those of a CONFIGURE, in "/".  One that cannot be made is said in the log and is no reason not to
 * start: a full disk can be cleared only by what runs, and a program without its working
 * directory is refused with the reason.
 */
void dirs_configure(const struct frame_configure *c);

#endif
