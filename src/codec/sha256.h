/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_CODEC_SHA256_H
#define MSB_CODEC_SHA256_H

/*
 * SHA-256 (FIPS 180-4) of short texts.  msb needs one to find a root image, and runs
 * for every command: it does not load a crypto library for that.  Streams are hashed
 * by OpenSSL (src/image/digest.h).
 */

#include <stddef.h>
#include <stdint.h>

#define SHA256_BYTES 32u

void sha256(const void *p, size_t len, uint8_t out[SHA256_BYTES]);

/* "sha256:" and 64 hex digits; @to has room for DIGEST_SIZE bytes (codec/reference.h). */
void sha256_text(const uint8_t digest[SHA256_BYTES], char *to);

#endif
