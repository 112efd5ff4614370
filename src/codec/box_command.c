/* SPDX-License-Identifier: Apache-2.0 */
#include "codec/box_command.h"

#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

static void box_command_free_list(char **v)
{
	for (char **p = v; p && *p; p++)
		free(*p);
	free(v);
}

void box_command_fini(struct box_command *c)
{
	box_command_free_list(c->argv);
	box_command_free_list(c->env);
	free(c->cwd);
	free(c->user);
	*c = (struct box_command){ .argv = NULL };
}

static json_t *box_command_list(char *const *v)
{
	json_t *a = json_array();

	for (; a && v && *v; v++)
		if (json_array_append_new(a, json_string(*v))) {
			json_decref(a);
			return NULL;
		}
	return a;
}

int box_command_format(const struct box_command *c, char **text, struct err *e)
{
	json_t *j = json_object();
	char *t = NULL;

	if (j && !json_object_set_new(j, "argv", box_command_list(c->argv)) &&
	    !json_object_set_new(j, "env", box_command_list(c->env)) &&
	    !json_object_set_new(j, "cwd", json_string(c->cwd ? c->cwd : "")) &&
	    !json_object_set_new(j, "user", json_string(c->user ? c->user : "")))
		t = json_dumps(j, JSON_INDENT(1));
	json_decref(j);
	if (!t)
		return err_set(e, EINVAL, "the command, or its environment, is not valid UTF-8");
	*text = t;
	return 0;
}

static int box_command_get_list(json_t *j, const char *key, char ***out, struct err *e)
{
	json_t *a = json_object_get(j, key), *v;
	char **list;
	size_t i;

	if (!json_is_array(a))
		return err_set(e, EINVAL, BOX_COMMAND_FILE ": '%s' is no list", key);
	list = calloc(json_array_size(a) + 1, sizeof(*list));
	if (!list)
		return err_errno(e, ENOMEM, BOX_COMMAND_FILE);
	*out = list;
	json_array_foreach(a, i, v)
	{
		if (!json_is_string(v) || strlen(json_string_value(v)) != json_string_length(v))
			return err_set(e, EINVAL, BOX_COMMAND_FILE ": '%s' has no string at %zu",
				       key, i);
		list[i] = strdup(json_string_value(v));
		if (!list[i])
			return err_errno(e, ENOMEM, BOX_COMMAND_FILE);
	}
	return 0;
}

static int box_command_get(json_t *j, const char *key, char **out, struct err *e)
{
	const char *s = json_string_value(json_object_get(j, key));

	if (!s)
		return err_set(e, EINVAL, BOX_COMMAND_FILE ": '%s' is no string", key);
	*out = strdup(s);
	return *out ? 0 : err_errno(e, ENOMEM, BOX_COMMAND_FILE);
}

int box_command_parse(const char *text, size_t len, struct box_command *out, struct err *e)
{
	struct box_command c = { .argv = NULL };
	json_error_t je;
	json_t *j = json_loadb(text, len, JSON_REJECT_DUPLICATES, &je);
	int rc;

	if (!j)
		return err_set(e, EINVAL, BOX_COMMAND_FILE ":%d: %s", je.line, je.text);
	if (!(rc = box_command_get_list(j, "argv", &c.argv, e)) &&
	    !(rc = box_command_get_list(j, "env", &c.env, e)) &&
	    !(rc = box_command_get(j, "cwd", &c.cwd, e)))
		rc = box_command_get(j, "user", &c.user, e);
	json_decref(j);
	if (!rc && !c.argv[0])
		rc = err_set(e, EINVAL, BOX_COMMAND_FILE ": the command is empty");
	if (rc)
		box_command_fini(&c);
	else
		*out = c;
	return rc;
}
