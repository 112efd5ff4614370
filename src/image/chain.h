/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_IMAGE_CHAIN_H
#define MSB_IMAGE_CHAIN_H

/* The identity of a stack of layers: OCI image-spec config.md, "Layer ChainID". */

#include <stddef.h>
#include <stdint.h>

#include "codec/reference.h"
#include "codec/sha256.h"

/* @chain holds the chain below (all zero: none) and gets the one with @diff_id on top. */
void chain_add(uint8_t chain[SHA256_BYTES], const uint8_t diff_id[SHA256_BYTES]);

/* The chain of @n valid digests, bottom first; n > 0. */
void chain_of(char (*diff_ids)[DIGEST_SIZE], size_t n, char to[DIGEST_SIZE]);

#endif
