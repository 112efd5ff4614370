/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_IMAGE_REGISTRY_H
#define MSB_IMAGE_REGISTRY_H

/* How a registry is reached: URLs, mirrors, certificates, passwords. */

#include <stdbool.h>

#include "base/err.h"
#include "codec/fetch_wire.h"
#include "codec/reference.h"

/* As given on the command line. */
struct registry_args {
	bool insecure;
	const char *ca_certs; /* NULL = none */
	unsigned parallel, retries, stall_s;
	/*
	 * Asked for by somebody who may not reach what this machine can: only public addresses,
	 * unless registries.json has the registry.
	 */
	bool public_only;
};

#define REGISTRY_ARGS_DEFAULT \
	{ \
		.parallel = 4, .retries = 5, .stall_s = 60 \
	}

/*
 * registry_setup() - all that msb-fetch has to know
 * @path: of the repository; "" = the registry as a whole, without mirrors
 * @login: use these credentials, and look for none; may be NULL
 * @ca:   malloc'ed PEM, or NULL
 *
 * Plain HTTP is spoken with a registry on this machine's loopback if it speaks no TLS,
 * with any other only if it is said to be insecure.
 */
int registry_setup(const char *home, const char *registry, const char *path,
		   const struct registry_args *args, const struct credential *login,
		   struct fetch_setup *out, char **ca, struct err *e);

#endif
