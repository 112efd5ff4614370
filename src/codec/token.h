/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_CODEC_TOKEN_H
#define MSB_CODEC_TOKEN_H

/*
 * API keys: "msb_" and a JSON Web Token.
 *
 * Spec: RFC 7519 with RFC 7515 compact serialisation and HS256 (RFC 7518 §3.2), and
 * nothing else: the algorithm is ours, not the token's.  The secret is the bytes of
 * server.key.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TOKEN_PREFIX "msb_"
#define TOKEN_MAX 2048u /* bytes of a key */
#define TOKEN_LEEWAY_S 60 /* clocks differ */
#define TOKEN_ID_SIZE 33u /* 32 hex digits + NUL */

/* What the holder of a key may use; 0 = no limit. */
struct token_limits {
	uint32_t sandboxes; /* claim "max_sandboxes": that run at once */
	uint32_t memory_mib; /* "max_memory": of all of them together */
	uint32_t rate; /* "rate": requests a second */
};

struct token_claims {
	int64_t expires, issued; /* seconds since the epoch */
	char ns[64]; /* namespace; "*" = all (also if there is no claim) */
	char id[TOKEN_ID_SIZE]; /* jti; "" = none, then there are no limits either */
	struct token_limits limits;
};

/* Return: 0, -EINVAL (also: limits without an id), -ENOMEM. *@out is malloc'ed. */
int token_make(const void *secret, size_t secret_len, const struct token_claims *c, char **out);

/*
 * Checks a key in constant time with respect to its signature.
 * Return: 0; -EACCES if it was not made with @secret or is malformed; -ETIME if expired.
 */
int token_check(const void *secret, size_t secret_len, const char *key, int64_t now_s,
		struct token_claims *out);

/* Are @n bytes equal? Takes the same time whatever they hold. */
bool token_equal(const void *a, const void *b, size_t n);

#endif
