/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_IMAGE_DIGEST_H
#define MSB_IMAGE_DIGEST_H

/* SHA-256 of streams, by OpenSSL. */

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "codec/sha256.h"

#define DIGEST_BYTES SHA256_BYTES

struct digest;

int digest_create(struct digest **out, struct err *e);
void digest_destroy(struct digest *d);
void digest_update(struct digest *d, const void *p, size_t n);
/* Of a valid "sha256:<hex>". */
void digest_of_text(const char *text, uint8_t out[DIGEST_BYTES]);
void digest_final(struct digest *d, uint8_t out[DIGEST_BYTES]);

#endif
