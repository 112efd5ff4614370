/* SPDX-License-Identifier: Apache-2.0 */
/* Code in an interpreter that keeps its state from call to call. */
#include "example.h"

static struct msb_execution *run(struct msb_sandbox *sb, const char *code)
{
	struct msb_execution *x;
	struct msb_error *err;

	/* A limit of 30 s: at its end the code is interrupted. */
	if (msb_sandbox_run(sb, code, 30, NULL, &x, &err))
		example_fail(sb, err);
	return x;
}

int main(void)
{
	struct msb_sandbox *sb;
	struct msb_execution *x;
	struct msb_error *err;

	if (msb_sandbox_create(&sb, MSB_PYTHON, NULL, NULL, NULL, NULL, &err))
		example_fail(NULL, err);

	x = run(sb, "name = 'C'");
	msb_execution_free(x);
	x = run(sb, "print(f'Hello {name}!')");
	puts(msb_execution_output(x, NULL)); /* Hello C! */
	msb_execution_free(x);

	/* An exception is the code's own, and no failure of the call. */
	x = run(sb, "1 / 0");
	if (msb_execution_has_error(x))
		printf("%s: %s\n", msb_execution_reason(x), msb_execution_error(x, NULL));
	msb_execution_free(x);

	if (msb_sandbox_stop(sb, NULL, &err))
		example_fail(sb, err);
	msb_sandbox_free(sb);
	return 0;
}
