/* SPDX-License-Identifier: Apache-2.0 */
#include "server/schema.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#define SCHEMA_PATH_MAX 160u

static const char *const schema_type_names[] = {
	[SCHEMA_STRING] = "a string", [SCHEMA_INTEGER] = "a whole number",
	[SCHEMA_NUMBER] = "a number", [SCHEMA_BOOLEAN] = "true or false",
	[SCHEMA_ARRAY] = "an array",  [SCHEMA_OBJECT] = "an object",
	[SCHEMA_NULL] = "null",
};

static bool schema_type_fits(unsigned types, json_t *v)
{
	switch (json_typeof(v)) {
	case JSON_STRING:
		return types & 1u << SCHEMA_STRING;
	case JSON_INTEGER:
		return types & (1u << SCHEMA_INTEGER | 1u << SCHEMA_NUMBER);
	case JSON_REAL:
		return types & 1u << SCHEMA_NUMBER ||
		       (types & 1u << SCHEMA_INTEGER &&
			rint(json_real_value(v)) == json_real_value(v));
	case JSON_TRUE:
	case JSON_FALSE:
		return types & 1u << SCHEMA_BOOLEAN;
	case JSON_ARRAY:
		return types & 1u << SCHEMA_ARRAY;
	case JSON_OBJECT:
		return types & 1u << SCHEMA_OBJECT;
	default:
		return types & 1u << SCHEMA_NULL;
	}
}

static int schema_wrong_type(const struct schema *s, const char *path, struct err *e)
{
	unsigned type = 0;

	while (!(s->types & 1u << type))
		type++;
	return err_set(e, EINVAL, "%s must be %s", path, schema_type_names[type]);
}

static int schema_check_number(const struct schema *s, json_t *v, const char *path, struct err *e)
{
	double n = json_number_value(v);

	if (s->has_min && (n < s->min || (s->exclusive && n <= s->min)))
		return err_set(e, EINVAL, "%s must be %s%g", path,
			       s->exclusive ? "more than " : "at least ", s->min);
	if (s->has_max && n > s->max)
		return err_set(e, EINVAL, "%s must be at most %g", path, s->max);
	return 0;
}

static bool schema_is_name(const char *s)
{
	if (!isascii(*s) || !isalnum((unsigned char)*s))
		return false;
	for (; *s; s++)
		if (!isascii(*s) || !(isalnum((unsigned char)*s) || *s == '_' || *s == '-'))
			return false;
	return true;
}

static int schema_check_pattern(const struct schema *s, const char *v, const char *path,
				struct err *e)
{
	switch (s->pattern) {
	case SCHEMA_NAME_OR_STAR:
		if (!strcmp(v, "*"))
			return 0;
		/* fall through */
	case SCHEMA_NAME:
		return schema_is_name(v)
			       ? 0
			       : err_set(e, EINVAL,
					 "%s may have letters, digits, - and _ and must begin "
					 "with a letter or digit",
					 path);
	case SCHEMA_PAIR:
		return strchr(v, '=') && *v != '='
			       ? 0
			       : err_set(e, EINVAL, "%s must be KEY=VALUE", path);
	case SCHEMA_ABSOLUTE:
		return *v == '/' ? 0 : err_set(e, EINVAL, "%s must be an absolute path", path);
	case SCHEMA_ANY:
		break;
	}
	return 0;
}

static int schema_check_string(const struct schema *s, json_t *v, const char *path, struct err *e)
{
	const char *text = json_string_value(v);
	size_t len = json_string_length(v);
	char all[128] = "";

	if (strlen(text) != len)
		return err_set(e, EINVAL, "%s must not hold a NUL character", path);
	if (len < s->min_len)
		return err_set(e, EINVAL, "%s must not be %s", path, len ? "so short" : "empty");
	if (s->has_max_len && len > s->max_len)
		return err_set(e, EINVAL, "%s is too long (limit %zu bytes)", path, s->max_len);
	if (!s->words)
		return schema_check_pattern(s, text, path, e);
	for (const char *const *w = s->words; *w; w++) {
		if (!strcmp(*w, text))
			return 0;
		snprintf(all + strlen(all), sizeof(all) - strlen(all), "%s%s", *all ? ", " : "", *w);
	}
	return err_set(e, EINVAL, "%s must be one of: %s", path, all);
}

static int schema_too_many(const struct schema *s, size_t n, const char *path, struct err *e)
{
	if (!s->has_max_len || n <= s->max_len)
		return 0;
	if (!s->max_len)
		return err_set(e, EINVAL, "%s is not supported yet: leave it empty", path);
	return err_set(e, EINVAL, "%s has too many entries (limit %zu)", path, s->max_len);
}

static int schema_check_array(const struct schema *s, json_t *v, const char *path, struct err *e)
{
	char sub[SCHEMA_PATH_MAX];
	int rc = schema_too_many(s, json_array_size(v), path, e);

	for (size_t i = 0; !rc && s->items && i < json_array_size(v); i++) {
		snprintf(sub, sizeof(sub), "%s[%zu]", path, i);
		rc = schema_check(s->items, json_array_get(v, i), sub, e);
	}
	return rc;
}

static const struct schema_property *schema_find(const struct schema *s, const char *name)
{
	for (const struct schema_property *p = s->properties; p && p->name; p++)
		if (!strcmp(p->name, name))
			return p;
	return NULL;
}

static int schema_check_object(const struct schema *s, json_t *v, const char *path, struct err *e)
{
	int rc = schema_too_many(s, json_object_size(v), path, e);
	char sub[SCHEMA_PATH_MAX];
	const char *name;
	json_t *member;

	for (const struct schema_property *p = s->properties; !rc && p && p->name; p++)
		if (p->required && !json_object_get(v, p->name))
			rc = err_set(e, EINVAL, "%s.%s is missing", path, p->name);
	if (rc)
		return rc;
	json_object_foreach(v, name, member)
	{
		const struct schema_property *p = schema_find(s, name);

		if (!p && s->closed)
			return err_set(e, EINVAL, "%s has no member '%.60s'", path, name);
		snprintf(sub, sizeof(sub), "%s.%s", path, p ? p->name : "");
		rc = p ? schema_check(p->schema, member, sub, e) : 0;
		if (rc)
			return rc;
	}
	return 0;
}

int schema_check(const struct schema *s, json_t *value, const char *path, struct err *e)
{
	json_t *empty = NULL;
	int rc;

	if (!value)
		value = empty = json_object();
	if (!value)
		return err_errno(e, ENOMEM, "%s", path);
	if (!schema_type_fits(s->types, value))
		rc = schema_wrong_type(s, path, e);
	else if (json_is_number(value))
		rc = schema_check_number(s, value, path, e);
	else if (json_is_string(value))
		rc = schema_check_string(s, value, path, e);
	else if (json_is_array(value))
		rc = schema_check_array(s, value, path, e);
	else
		rc = json_is_object(value) ? schema_check_object(s, value, path, e) : 0;
	json_decref(empty);
	return rc;
}
