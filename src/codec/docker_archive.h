/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_CODEC_DOCKER_ARCHIVE_H
#define MSB_CODEC_DOCKER_ARCHIVE_H

/*
 * manifest.json of an archive of `docker save`: which of the archive's files are whose
 * configuration and layers.
 *
 * Spec: Docker image specification v1.2, "Combined Image JSON + Filesystem Changeset
 * Format".  Trust boundary: from an archive; bounded as the documents of an image.
 */

#include <stddef.h>

#include "base/err.h"

#define DOCKER_ARCHIVE_IMAGES_MAX 1024u

struct docker_image {
	char *config; /* name of a file of the archive */
	char **layers; /* bottom first, ends with NULL */
	char **tags; /* "python:3.11"; ends with NULL, may be empty */
};

struct docker_archive {
	struct docker_image *images;
	size_t n;
};

int docker_archive_parse(const void *p, size_t len, struct docker_archive *out, struct err *e);
void docker_archive_fini(struct docker_archive *a); /* a zeroed one too */

/* Malloc'ed; NULL = no memory. */
char *docker_archive_format(const struct docker_archive *a);

#endif
