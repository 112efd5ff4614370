/* SPDX-License-Identifier: Apache-2.0 */
/* The table as a JSON Schema, for editors. What only the parser can judge is a text there. */
#include <errno.h>
#include <jansson.h>
#include <stdio.h>

#include "codec/sandboxfile_keys.h"

#define SCHEMA_DRAFT "https://json-schema.org/draft/2020-12/schema"
#define SCHEMA_SIZE "^[0-9][0-9.]*([kKmMgGtT]([iI]?[bB])?|[bB])?$"
#define SCHEMA_TIME "^[0-9][0-9.]*(ms|[sSmMhHdD])?$"
#define SCHEMA_BUILD "^([a-z0-9]+(-[a-z0-9]+)*|x-.*)$"
#define SCHEMA_NAME "^([A-Za-z0-9][A-Za-z0-9_-]{0,62}|x-.*)$"

/* Every function here gives a new reference, or NULL without memory, which the next passes on. */

static json_t *schema_text(void)
{
	return json_pack("{s:[s,s,s]}", "type", "string", "number", "boolean");
}

static json_t *schema_enum(const char *const *values)
{
	json_t *all = json_array();

	for (; all && *values; values++)
		json_array_append_new(all, json_string(*values));
	return json_pack("{s:o}", "enum", all);
}

static json_t *schema_list(json_t *items)
{
	return json_pack("{s:[s,s], s:o}", "type", "array", "null", "items", items);
}

static json_t *schema_map(json_t *values)
{
	return json_pack("{s:[s,s], s:o}", "type", "object", "null", "additionalProperties", values);
}

static json_t *schema_object(const struct sandboxfile_key *keys);

static json_t *schema_size(const struct sandboxfile_key *k)
{
	return json_pack("{s:[{s:s, s:I, s:I}, {s:s, s:s}]}", "anyOf", "type", "number", "minimum",
			 (json_int_t)(k->min >> 20), "maximum", (json_int_t)(k->max >> 20), "type",
			 "string", "pattern", SCHEMA_SIZE);
}

static json_t *schema_network(void)
{
	const struct sandboxfile_key *scope =
		sandboxfile_key_find(sandboxfile_sandbox_keys, "scope");

	return json_pack("{s:[o, {s:s, s:{s:o, s:o}, s:b}]}", "anyOf", schema_list(schema_text()),
			 "type", "object", "properties", "scope", schema_enum(scope->values),
			 "rules", schema_list(schema_text()), "additionalProperties", 0);
}

static json_t *schema_depends(const struct sandboxfile_key *k)
{
	json_t *one =
		json_pack("{s:[s,s], s:{s:{s:s, s:I, s:I}}, s:b}", "type", "object", "null",
			  "properties", "port", "type", "integer", "minimum", (json_int_t)k->min,
			  "maximum", (json_int_t)k->max, "additionalProperties", 0);

	return json_pack("{s:[o, o, o]}", "anyOf", schema_list(schema_text()), schema_text(),
			 schema_map(one));
}

static json_t *schema_secrets(void)
{
	json_t *one = json_pack("{s:s, s:{s:o, s:o, s:{s:[o, o]}}, s:b, s:[s]}", "type", "object",
				"properties", "env", schema_text(), "file", schema_text(), "hosts",
				"anyOf", schema_list(schema_text()), schema_text(),
				"additionalProperties", 0, "required", "hosts");

	return json_pack("{s:[o, o]}", "anyOf", schema_list(schema_text()), schema_map(one));
}

static json_t *schema_value(const struct sandboxfile_key *k)
{
	switch (k->type) {
	case SANDBOXFILE_TEXT:
		return k->values ? schema_enum(k->values) : schema_text();
	case SANDBOXFILE_SIZE:
		return schema_size(k);
	case SANDBOXFILE_NUMBER:
		return json_pack("{s:s, s:I, s:I}", "type", "integer", "minimum",
				 (json_int_t)k->min, "maximum", (json_int_t)k->max);
	case SANDBOXFILE_TIME:
		return json_pack("{s:[{s:s, s:i}, {s:s, s:s}]}", "anyOf", "type", "number",
				 "exclusiveMinimum", 0, "type", "string", "pattern", SCHEMA_TIME);
	case SANDBOXFILE_LIST:
		return schema_list(schema_text());
	case SANDBOXFILE_LIST_OR_TEXT:
		return json_pack("{s:[o, o]}", "anyOf", schema_list(schema_text()), schema_text());
	case SANDBOXFILE_PAIRS:
		return json_pack("{s:[o, o]}", "anyOf", schema_list(schema_text()),
				 schema_map(json_pack("{s:[s,s,s,s]}", "type", "string", "number",
						      "boolean", "null")));
	case SANDBOXFILE_MAP:
		return schema_map(schema_text());
	case SANDBOXFILE_NETWORK:
		return schema_network();
	case SANDBOXFILE_OBJECT:
		return schema_object(k->keys);
	case SANDBOXFILE_DEPENDS:
		return schema_depends(k);
	case SANDBOXFILE_SECRETS:
		return schema_secrets();
	case SANDBOXFILE_GROUPS:
		return schema_map(schema_object(sandboxfile_group_keys));
	case SANDBOXFILE_STEPS:
		return json_pack("{s:[o, o]}", "anyOf", schema_list(schema_text()),
				 schema_map(schema_text()));
	case SANDBOXFILE_BUILDS:
	case SANDBOXFILE_SANDBOXES:
		return json_pack("{s:[s,s], s:{s:s}, s:{s:s}}", "type", "object", "null",
				 "propertyNames", "pattern",
				 k->type == SANDBOXFILE_BUILDS ? SCHEMA_BUILD : SCHEMA_NAME,
				 "additionalProperties", "$ref",
				 k->type == SANDBOXFILE_BUILDS ? "#/$defs/build"
							       : "#/$defs/sandbox");
	}
	return NULL;
}

static json_t *schema_key(const struct sandboxfile_key *k)
{
	char text[512];
	json_t *j;

	if (k->refused) {
		snprintf(text, sizeof(text), "%s It is %s.", k->help, k->refused);
		return json_pack("{s:s, s:b, s:{}}", "description", text, "deprecated", 1, "not");
	}
	j = schema_value(k);
	if (j && json_object_set_new(j, "description", json_string(k->help))) {
		json_decref(j);
		return NULL;
	}
	if (j && k->example && json_object_set_new(j, "examples", json_pack("[s]", k->example))) {
		json_decref(j);
		return NULL;
	}
	return j;
}

static json_t *schema_object(const struct sandboxfile_key *keys)
{
	json_t *properties = json_object(), *any = json_array(), *j = NULL;

	for (; properties && any && keys->name; keys++) {
		j = schema_key(keys);
		if (!j || json_object_set_new(properties, keys->name, j)) {
			json_decref(properties);
			properties = NULL;
		}
		if (keys->required)
			json_array_append_new(any, json_pack("{s:[s]}", "required", keys->name));
	}
	j = json_pack("{s:[s,s], s:o, s:{s:{}}, s:b}", "type", "object", "null", "properties",
		      properties, "patternProperties", "^x-", "additionalProperties", 0);
	if (j && json_array_size(any))
		json_object_set(j, "oneOf", any);
	json_decref(any);
	return j;
}

int sandboxfile_schema(char **text, struct err *e)
{
	json_t *top = schema_object(sandboxfile_top_keys);
	json_t *all = json_pack("{s:s, s:s}", "$schema", SCHEMA_DRAFT, "title", "Sandboxfile");
	int bad = !all || !top || json_object_update(all, top) ||
		  json_object_set_new(all, "$defs",
				      json_pack("{s:o, s:o}", "sandbox",
						schema_object(sandboxfile_sandbox_keys), "build",
						schema_object(sandboxfile_build_keys)));

	*text = bad ? NULL : json_dumps(all, JSON_INDENT(2));
	json_decref(top);
	json_decref(all);
	return *text ? 0 : err_errno(e, ENOMEM, "make the schema");
}
