/* SPDX-License-Identifier: Apache-2.0 */
#include "image/chain.h"

#include <string.h>

static void chain_step(char chain[DIGEST_SIZE], const char *diff_id)
{
	char both[2 * DIGEST_SIZE];
	uint8_t digest[SHA256_BYTES];

	memcpy(both, chain, DIGEST_SIZE - 1);
	both[DIGEST_SIZE - 1] = ' ';
	memcpy(both + DIGEST_SIZE, diff_id, DIGEST_SIZE);
	sha256(both, strlen(both), digest);
	sha256_text(digest, chain);
}

void chain_of(char (*diff_ids)[DIGEST_SIZE], size_t n, char to[DIGEST_SIZE])
{
	memcpy(to, diff_ids[0], DIGEST_SIZE);
	for (size_t i = 1; i < n; i++)
		chain_step(to, diff_ids[i]);
}

void chain_add(uint8_t chain[SHA256_BYTES], const uint8_t diff_id[SHA256_BYTES])
{
	static const uint8_t none[SHA256_BYTES];
	char both[2 * DIGEST_SIZE];

	if (!memcmp(chain, none, sizeof(none))) {
		memcpy(chain, diff_id, SHA256_BYTES);
		return;
	}
	sha256_text(chain, both);
	both[DIGEST_SIZE - 1] = ' ';
	sha256_text(diff_id, both + DIGEST_SIZE);
	sha256(both, strlen(both), chain);
}
