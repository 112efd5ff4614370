/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_CODEC_REGISTRY_HEAD_H
#define MSB_CODEC_REGISTRY_HEAD_H

/*
 * What a registry says in the head of an answer.
 *
 * Spec: WWW-Authenticate (RFC 9110 §11.6.1) with the schemes Basic (RFC 7617) and Bearer
 * as distribution's token specification has it; Content-Range (RFC 9110 §14.4) in bytes;
 * Retry-After (RFC 9110 §10.2.3).
 *
 * Trust boundary.  All of it comes from the network: lengths are bounded, nothing is kept
 * that does not fit, a control byte is an error.
 */

#include <stddef.h>
#include <stdint.h>

enum challenge_scheme { CHALLENGE_NONE, CHALLENGE_BASIC, CHALLENGE_BEARER };

struct challenge {
	enum challenge_scheme scheme;
	char realm[1024]; /* of Bearer: the URL that gives out tokens */
	char service[256], scope[512];
};

/*
 * Reads one header's value: a list of challenges, of which Bearer is preferred to Basic and
 * others are passed over.  A member that was not given is "".
 * Return: 0 (scheme may be CHALLENGE_NONE: none that is known), -EINVAL.
 */
int challenge_parse(const char *s, size_t len, struct challenge *out);

/* "bytes 5-9/10": the position of the first byte. Return: 0 or -EINVAL. */
int content_range_parse(const char *s, size_t len, uint64_t *first);

#define RETRY_AFTER_MAX (1u << 20) /* seconds; what is more is this */

/*
 * Seconds to wait: a number, or a date in the fixed form, which is compared with @now
 * (seconds since the epoch).  Return: 0 or -EINVAL.
 */
int retry_after_parse(const char *s, size_t len, int64_t now, uint32_t *seconds);

#endif
