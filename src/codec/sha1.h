/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_CODEC_SHA1_H
#define MSB_CODEC_SHA1_H

/*
 * SHA-1 (FIPS 180-4) of a short text: the handshake of a WebSocket is made of it (RFC
 * 6455 §4.2.2), where nothing depends on its strength.  For nothing else.
 */

#include <stddef.h>
#include <stdint.h>

#define SHA1_BYTES 20u

void sha1(const void *p, size_t len, uint8_t out[SHA1_BYTES]);

#endif
