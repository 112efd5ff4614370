/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_VOLUME_HOST_H
#define MSB_VOLUME_HOST_H

/*
 * The system calls on the shared files that need more than a line.  A name is always one
 * component and is resolved in its directory's descriptor: no path of the guest's reaches
 * the host's kernel as a path, and no symbolic link is followed.
 */

#include <stdint.h>
#include <sys/stat.h>

/* An O_PATH descriptor of @name in @dirfd, itself if it is a symbolic link; or -errno. */
int host_open_entry(int dirfd, const char *name);

/* An O_PATH descriptor of the root of a volume; no link leads to it. */
int host_open_root(const char *path);

/* A new regular file; fails if anything has the name. */
int host_create_entry(int dirfd, const char *name, int flags, mode_t mode);

int host_stat(int fd, struct statx *st);

/*
 * Where the process finds its own descriptors as files ("/fd", "/proc/self/fd").  An O_PATH
 * descriptor is opened, linked or changed by what stands there under its number.
 */
void host_set_fd_dir(const char *dir);

#define HOST_FD_PATH_MAX 64

const char *host_fd_path(int fd, char path[HOST_FD_PATH_MAX]);

/* Opens what the O_PATH descriptor @fd is.  Only for regular files and directories. */
int host_reopen(int fd, int flags);

#endif
