/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_TESTS_UNIT_SPAWN_H
#define MSB_TESTS_UNIT_SPAWN_H

/*
 * The two ways to start a program, so that one set of tests holds for both: at once, or
 * prepared first and finished later.  TEST_BOTH(fn) in a group's table runs @fn twice; its
 * programs have to be started with spawn_either().
 */

#include <stdbool.h>

#include "sys/child.h"
#include "unit/test.h"

static bool spawn_prepared;

static inline int spawn_setup_prepared(void **state)
{
	spawn_prepared = true;
	return test_setup(state);
}

static inline int spawn_teardown_prepared(void **state)
{
	spawn_prepared = false;
	return test_teardown(state);
}

#define TEST_PREPARED(fn) \
	{ \
#fn " (prepared)", fn, spawn_setup_prepared, spawn_teardown_prepared, NULL \
	}
#define TEST_BOTH(fn) TEST(fn), TEST_PREPARED(fn)

static inline int spawn_either(const struct child_spec *spec, struct child *out, struct err *e)
{
	struct child_spec ahead = *spec;
	struct child_pending p;
	int rc;

	if (!spawn_prepared)
		return child_spawn(spec, out, e);
	ahead.argv = NULL;
	ahead.fds = NULL;
	ahead.n_fds = 0;
	rc = child_prepare(&ahead, &p, e);
	return rc ? rc : child_finish(&p, spec->argv, spec->fds, spec->n_fds, out, e);
}

#endif
