/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_CODEC_REGISTRIES_H
#define MSB_CODEC_REGISTRIES_H

/*
 * $MICROSANDBOX_HOME/registries.json: how to reach registries.
 *
 *   { "registries": { "docker.io": { "mirrors": ["https://mirror.example:5000"],
 *                                    "insecure": false, "ca_certs": "/etc/ours.pem" } } }
 *
 * An unknown member is an error: what is written there is meant.
 */

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"

#define REGISTRIES_MAX (1u << 20) /* bytes of the file */
#define REGISTRY_MIRRORS_MAX 3u
#define REGISTRY_URL_MAX 300u

struct registry_options {
	char mirrors[REGISTRY_MIRRORS_MAX][REGISTRY_URL_MAX]; /* "https://host:port", in order */
	unsigned n_mirrors;
	bool listed; /* the file has it */
	bool insecure;
	char ca_certs[1024]; /* absolute path; "" = none */
};

/* What the file has for @registry; all zero if it has nothing. Return: 0 or -EINVAL. */
int registries_find(const void *doc, size_t len, const char *registry, struct registry_options *out,
		    struct err *e);

#endif
