/* SPDX-License-Identifier: Apache-2.0 */
/* command.json and state.json: what parses can be written again, and reads back the same. */
#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "codec/box_command.h"
#include "codec/box_state.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_same(char *const *a, char *const *b)
{
	for (; *a && *b; a++, b++)
		assert(!strcmp(*a, *b));
	assert(!*a && !*b);
}

static void check_command(const char *p, size_t size)
{
	struct box_command c, again;
	char *text;

	if (box_command_parse(p, size, &c, NULL))
		return;
	assert(c.argv && c.argv[0] && c.env && c.cwd && c.user);
	assert(!box_command_format(&c, &text, NULL));
	assert(!box_command_parse(text, strlen(text), &again, NULL));
	check_same(c.argv, again.argv);
	check_same(c.env, again.env);
	assert(!strcmp(c.cwd, again.cwd) && !strcmp(c.user, again.user));
	box_command_fini(&c);
	box_command_fini(&again);
	free(text);
}

static void check_state(const char *p, size_t size)
{
	struct box_state s, again;
	char *text;

	if (box_state_parse(p, size, &s, NULL))
		return;
	assert(s.started_us >= 0 && s.ready_us >= 0 && s.ended_us >= 0);
	assert(s.exit_code >= 0 && s.exit_code <= 255 && (s.has_exit || !s.exit_code));
	assert(!box_state_format(&s, &text, NULL));
	assert(!box_state_parse(text, strlen(text), &again, NULL));
	assert(s.started_us == again.started_us && s.ready_us == again.ready_us &&
	       s.ended_us == again.ended_us);
	assert(s.has_exit == again.has_exit && s.exit_code == again.exit_code &&
	       s.clean == again.clean);
	assert(!strcmp(s.reason, again.reason) && !strcmp(s.engine, again.engine) &&
	       !strcmp(s.isolation, again.isolation));
	free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	check_command((const char *)data, size);
	check_state((const char *)data, size);
	return 0;
}
