/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EXAMPLE_H
#define EXAMPLE_H

/* What the examples share: an end with the reason. */

#include <microsandbox.h>
#include <stdio.h>
#include <stdlib.h>

static inline void example_fail(struct msb_sandbox *sb, struct msb_error *err)
{
	fprintf(stderr, "error (%s): %s\n", msb_kind_name(msb_error_kind(err)),
		msb_error_message(err));
	msb_error_free(err);
	/* A sandbox goes on running until it is stopped. */
	if (sb)
		msb_sandbox_stop(sb, NULL, NULL);
	msb_sandbox_free(sb);
	exit(1);
}

#endif
