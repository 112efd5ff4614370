/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_IMAGE_CREDENTIALS_H
#define MSB_IMAGE_CREDENTIALS_H

/*
 * Passwords of registries.  Looked for in this order, the first that has one counts:
 *
 *   $MICROSANDBOX_HOME/auth.json       `msb login` writes it, 0600
 *   $REGISTRY_AUTH_FILE                podman, skopeo, buildah
 *   $XDG_RUNTIME_DIR/containers/auth.json, ~/.config/containers/auth.json
 *   $DOCKER_CONFIG/config.json, ~/.docker/config.json
 *
 * A file may name a helper (credHelpers, credsStore); then docker-credential-NAME, found
 * in PATH, is asked.
 */

#include <stdbool.h>

#include "base/err.h"
#include "codec/authfile.h"

/* Return: 0; -ENOENT (nobody knows one; no error set); another, with an error. */
int credentials_find(const char *home, const char *registry, const char *path,
		     struct credential *out, struct err *e);

/* Writes, or with @c NULL removes, what auth.json has for @registry. */
int credentials_store(const char *home, const char *registry, const struct credential *c,
		      bool *found, struct err *e);

#endif
