/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_SYS_TREE_H
#define MSB_SYS_TREE_H

/*
 * Removes @path (relative to @dirfd) with all it holds, however deep; symbolic links are
 * removed, never followed.  A missing path is no error.  Return: 0, or a negative errno (what could be
 * removed is gone).
 */
int tree_remove(int dirfd, const char *path);

#endif
