/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_IMAGE_LOAD_H
#define MSB_IMAGE_LOAD_H

/*
 * Images from and to archives: OCI layouts in a tar (`podman save --format oci-archive`,
 * skopeo's oci-archive, docker 25 and newer) and those of `docker save`.
 */

#include "base/err.h"
#include "image/store_write.h"

/**
 * load_archive() - all images of an archive
 * @fd:     the tar, plain or compressed with gzip or zstd; a pipe will do
 * @name:   for an archive of one image: its name here; NULL = as the archive has it
 * @loaded: called with each image's name and digest
 */
int load_archive(struct store_writer *w, int fd, const char *name,
		 void (*loaded)(const char *name, const char *digest), struct err *e);

enum save_format { SAVE_OCI, SAVE_DOCKER };

/* Writes images of the store as an archive to @fd. @names: as a user gives them. */
int save_archive(struct store *s, char *const *names, size_t n, enum save_format format, int fd,
		 struct err *e);

#endif
