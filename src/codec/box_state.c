/* SPDX-License-Identifier: Apache-2.0 */
#include "codec/box_state.h"

#include <errno.h>
#include <jansson.h>
#include <string.h>

static const struct {
	const char *key;
	size_t offset, size;
} box_state_strings[] = {
	{ "reason", offsetof(struct box_state, reason), sizeof(((struct box_state *)0)->reason) },
	{ "engine", offsetof(struct box_state, engine), sizeof(((struct box_state *)0)->engine) },
	{ "isolation", offsetof(struct box_state, isolation),
	  sizeof(((struct box_state *)0)->isolation) },
};

static const struct {
	const char *key;
	size_t offset;
} box_state_times[] = {
	{ "started_us", offsetof(struct box_state, started_us) },
	{ "ready_us", offsetof(struct box_state, ready_us) },
	{ "ended_us", offsetof(struct box_state, ended_us) },
};

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

int box_state_format(const struct box_state *s, char **text, struct err *e)
{
	json_t *j = json_object();
	char *t = NULL;
	int bad = !j;

	for (size_t i = 0; i < COUNT(box_state_strings) && !bad; i++)
		bad = json_object_set_new(j, box_state_strings[i].key,
					  json_string((const char *)s +
						      box_state_strings[i].offset));
	for (size_t i = 0; i < COUNT(box_state_times) && !bad; i++)
		bad = json_object_set_new(j, box_state_times[i].key,
					  json_integer(
						  *(const int64_t *)((const char *)s +
								     box_state_times[i].offset)));
	if (!bad && s->has_exit)
		bad = json_object_set_new(j, "exit_code", json_integer(s->exit_code));
	if (!bad)
		bad = json_object_set_new(j, "clean", json_boolean(s->clean));
	if (!bad)
		t = json_dumps(j, JSON_INDENT(1));
	json_decref(j);
	if (!t)
		return err_set(e, EINVAL, BOX_STATE_FILE ": a value is not valid UTF-8");
	*text = t;
	return 0;
}

static int box_state_read(json_t *j, struct box_state *s, struct err *e)
{
	json_t *exit_code = json_object_get(j, "exit_code");

	for (size_t i = 0; i < COUNT(box_state_strings); i++) {
		json_t *v = json_object_get(j, box_state_strings[i].key);
		char *to = (char *)s + box_state_strings[i].offset;

		if (!json_is_string(v) || json_string_length(v) >= box_state_strings[i].size)
			return err_set(e, EINVAL, BOX_STATE_FILE ": '%s' is no such string",
				       box_state_strings[i].key);
		memcpy(to, json_string_value(v), json_string_length(v) + 1);
	}
	for (size_t i = 0; i < COUNT(box_state_times); i++) {
		json_t *v = json_object_get(j, box_state_times[i].key);

		if (!json_is_integer(v) || json_integer_value(v) < 0)
			return err_set(e, EINVAL, BOX_STATE_FILE ": '%s' is no time",
				       box_state_times[i].key);
		*(int64_t *)((char *)s + box_state_times[i].offset) = json_integer_value(v);
	}
	s->has_exit = json_is_integer(exit_code);
	if (s->has_exit &&
	    (json_integer_value(exit_code) < 0 || json_integer_value(exit_code) > 255))
		return err_set(e, EINVAL, BOX_STATE_FILE ": 'exit_code' is no exit status");
	s->exit_code = s->has_exit ? (int)json_integer_value(exit_code) : 0;
	s->clean = json_is_true(json_object_get(j, "clean"));
	return 0;
}

int box_state_parse(const char *text, size_t len, struct box_state *out, struct err *e)
{
	struct box_state s = { .started_us = 0 };
	json_error_t je;
	json_t *j = json_loadb(text, len, JSON_REJECT_DUPLICATES, &je);
	int rc;

	if (!j)
		return err_set(e, EINVAL, BOX_STATE_FILE ":%d: %s", je.line, je.text);
	rc = box_state_read(j, &s, e);
	json_decref(j);
	if (!rc)
		*out = s;
	return rc;
}
