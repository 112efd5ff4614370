/* SPDX-License-Identifier: Apache-2.0 */
#include "image/digest.h"

#include <errno.h>
#include <openssl/evp.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

struct digest {
	EVP_MD_CTX *ctx;
	bool failed; /* out of memory inside; told by an all-zero digest */
};

int digest_create(struct digest **out, struct err *e)
{
	struct digest *d = calloc(1, sizeof(*d));

	if (d)
		d->ctx = EVP_MD_CTX_new();
	if (!d || !d->ctx || EVP_DigestInit_ex(d->ctx, EVP_sha256(), NULL) != 1) {
		digest_destroy(d);
		return err_errno(e, ENOMEM, "SHA-256");
	}
	*out = d;
	return 0;
}

void digest_destroy(struct digest *d)
{
	if (!d)
		return;
	EVP_MD_CTX_free(d->ctx);
	free(d);
}

void digest_update(struct digest *d, const void *p, size_t n)
{
	d->failed |= EVP_DigestUpdate(d->ctx, p, n) != 1;
}

void digest_final(struct digest *d, uint8_t out[DIGEST_BYTES])
{
	memset(out, 0, DIGEST_BYTES);
	if (EVP_DigestFinal_ex(d->ctx, out, NULL) != 1 || d->failed)
		memset(out, 0, DIGEST_BYTES);
}

void digest_of_text(const char *text, uint8_t out[DIGEST_BYTES])
{
	const char *hex = text + strlen("sha256:");

	for (size_t i = 0; i < 2 * (size_t)DIGEST_BYTES; i++) {
		uint8_t v = (uint8_t)(hex[i] <= '9' ? hex[i] - '0' : hex[i] - 'a' + 10);

		out[i / 2] = (uint8_t)(i % 2 ? out[i / 2] | v : v << 4);
	}
}
