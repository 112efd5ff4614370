/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_CODEC_AUTHFILE_H
#define MSB_CODEC_AUTHFILE_H

/*
 * Files with registries' passwords, as docker, podman and `msb login` write them.
 *
 * Spec: Docker's config.json (auths, credHelpers, credsStore) and containers-auth.json(5)
 * (keys may name a folder of a registry; the longest that fits counts).  What a credential
 * helper answers: docker-credential-helpers, "get".
 *
 * Trust boundary.  The user's own files, yet other programs write them: bounded, and what
 * makes no sense is an error, never a guess.
 */

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"

#define AUTHFILE_MAX (1u << 20)
#define CREDENTIAL_USER_MAX 512u
#define CREDENTIAL_SECRET_MAX 16384u

struct credential {
	char user[CREDENTIAL_USER_MAX]; /* "" with a secret: an identity token */
	char secret[CREDENTIAL_SECRET_MAX];
	bool identity; /* the secret is an OAuth 2 refresh token, not a password */
};

struct authfile_match {
	struct credential credential; /* secret "" = the file has none itself */
	char helper[64]; /* whom to ask instead: docker-credential-<helper>; "" = nobody */
};

/**
 * authfile_find() - what a file has for a registry
 * @registry: "docker.io", "localhost:5000"
 * @path:     of the repository, "library/python"; "" = the registry as a whole
 *
 * Return: 0; -ENOENT (nothing, no error set); -EINVAL.
 */
int authfile_find(const void *doc, size_t len, const char *registry, const char *path,
		  struct authfile_match *out, struct err *e);

/* The name by which docker knows a registry: Docker Hub has a URL of old. */
const char *authfile_key(const char *registry);

/* A credential helper's answer. */
int authfile_helper_parse(const void *doc, size_t len, struct credential *out, struct err *e);

/*
 * The file with one entry set or (@c NULL) removed; all else in it stays.  @len 0: a new
 * file.  *@found: was there an entry?  Return: the text, malloc'ed; NULL with an error.
 */
char *authfile_update(const void *doc, size_t len, const char *registry, const struct credential *c,
		      bool *found, struct err *e);

#endif
