/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_CODEC_REFERENCE_H
#define MSB_CODEC_REFERENCE_H

/*
 * The name of an image: [registry/]path[:tag][@digest], or a digest alone.
 *
 * Spec: the reference grammar of the OCI distribution ecosystem (lower-case path
 * components with the separators `.`, `_`, `__` and `-`; tags of at most 128
 * characters; a first component with a `.` or `:`, or `localhost`, is a registry).
 * Digests are sha256 only.
 */

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"

#define REFERENCE_MAX 512u /* longest name, with its NUL */
#define DIGEST_SIZE 72u /* "sha256:" + 64 hex digits + NUL */

struct reference {
	char registry[128]; /* "" = none was given */
	char path[240]; /* "" = only a digest was given */
	char tag[129]; /* "" = none was given */
	char digest[DIGEST_SIZE]; /* "" = none was given */
};

/* Return: 0 or -EINVAL. @s need not be NUL-terminated. */
int reference_parse(const char *s, size_t len, struct reference *out, struct err *e);

/* Is it "sha256:" and 64 lower-case hex digits? */
bool digest_valid(const char *s, size_t len);

#define REFERENCE_CANDIDATES 3u

/**
 * reference_candidates() - under which names the store may hold what a user means
 * @names: written in the order in which they are to be tried
 *
 * A full reference stands for itself; `name` may be a local image, Docker Hub's
 * library/name or our own microsandbox/name.  Without a tag, `latest` is meant.
 * Return: how many there are; 0 for a digest alone.
 */
unsigned reference_candidates(const struct reference *r,
			      char names[REFERENCE_CANDIDATES][REFERENCE_MAX]);

/*
 * Which recipe a reference without registry may stand for: "python" for python and
 * microsandbox/python, with no tag or `latest`.  Return: the name, or NULL.
 */
const char *reference_recipe(const struct reference *r);

#endif
