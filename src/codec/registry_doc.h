/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_CODEC_REGISTRY_DOC_H
#define MSB_CODEC_REGISTRY_DOC_H

/*
 * The JSON that a registry and its token service answer with.
 *
 * Spec: distribution's token and OAuth 2 specifications; OCI distribution-spec 1.1,
 * "Error Codes".  Trust boundary: from the network; at most REGISTRY_DOC_MAX bytes.
 */

#include <stddef.h>

#include "base/err.h"

#define REGISTRY_DOC_MAX (256u << 10)
#define REGISTRY_TOKEN_MAX 32768u

/* "token" or "access_token": printable, without blanks, since it goes into a header. */
int registry_token_parse(const void *p, size_t len, char to[REGISTRY_TOKEN_MAX], struct err *e);

/*
 * What the registry says went wrong: "CODE: message" of the first error, in printable
 * ASCII; "" if the answer is no such document.
 */
void registry_error_text(const void *p, size_t len, char *to, size_t size);

#endif
