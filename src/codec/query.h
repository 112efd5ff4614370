/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_CODEC_QUERY_H
#define MSB_CODEC_QUERY_H

/*
 * The query of a request's target: name=value pairs with & between them, percent-encoded,
 * "+" for a space, as forms and every HTTP library write them.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define QUERY_PARAMS_MAX 16u
#define QUERY_TEXT_MAX 8192u

struct query_param {
	const char *name, *value; /* decoded; NUL-terminated */
};

struct query {
	struct query_param params[QUERY_PARAMS_MAX];
	unsigned n;
	char text[QUERY_TEXT_MAX];
};

/*
 * Reads @text.  Return: 0; -EINVAL with what is wrong: a parameter that is not among
 * @known (ended by NULL) or comes twice, a bad escape, a NUL byte, no "=", too long.
 */
int query_parse(struct query *q, const char *text, const char *const *known, struct err *e);

/* The value of a parameter, or NULL. */
const char *query_get(const struct query *q, const char *name);

/* Numbers and switches. Return: 0, also if it is absent (*@out is kept); -EINVAL. */
int query_u64(const struct query *q, const char *name, unsigned base, uint64_t max, uint64_t *out,
	      struct err *e);
int query_bool(const struct query *q, const char *name, bool *out, struct err *e);

#endif
