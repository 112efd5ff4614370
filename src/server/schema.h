/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_SERVER_SCHEMA_H
#define MSB_SERVER_SCHEMA_H

/*
 * Checking JSON against the part of JSON Schema that api/openrpc.json uses.  The tables
 * are made from that file by tools/gen-api.
 */

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"

enum schema_type {
	SCHEMA_STRING,
	SCHEMA_INTEGER, /* also a real number without fraction */
	SCHEMA_NUMBER,
	SCHEMA_BOOLEAN,
	SCHEMA_ARRAY,
	SCHEMA_OBJECT,
	SCHEMA_NULL,
};

enum schema_pattern {
	SCHEMA_ANY,
	SCHEMA_NAME, /* letters, digits, - and _; the first a letter or digit */
	SCHEMA_NAME_OR_STAR,
	SCHEMA_PAIR, /* KEY=VALUE */
	SCHEMA_ABSOLUTE, /* begins with / */
};

struct schema {
	unsigned types; /* bits of enum schema_type */
	bool has_min, has_max, exclusive; /* exclusive: min itself is too small */
	double min, max;
	bool has_max_len;
	size_t min_len, max_len; /* bytes of a string, items of an array, members of an object */
	enum schema_pattern pattern;
	const char *const *words; /* the only values; ended by NULL */
	const struct schema *items;
	const struct schema_property *properties; /* ended by name NULL */
	bool closed; /* no other members than properties */
};

struct schema_property {
	const char *name;
	const struct schema *schema;
	bool required;
};

/*
 * Checks @value, which may be NULL (absent: an empty object).  @path is how messages call
 * it.  Return: 0, or -EINVAL with a line that names the member and what it must be.
 */
int schema_check(const struct schema *s, json_t *value, const char *path, struct err *e);

#endif
