/* SPDX-License-Identifier: Apache-2.0 */
/* Programs: what they print, how they end, and a time limit. */
#include "example.h"

int main(void)
{
	const char *const uname[] = { "-sr", NULL };
	const char *const fail[] = { "-c", "echo no >&2; exit 3", NULL };
	const char *const sleep[] = { "-c", "echo started; sleep 60", NULL };
	struct msb_config config = { .size = sizeof(config), .memory_mib = 256, .scope = "none" };
	struct msb_sandbox *sb;
	struct msb_execution *x;
	struct msb_error *err;
	int code;

	if (msb_sandbox_create(&sb, MSB_PYTHON, NULL, NULL, &config, NULL, &err))
		example_fail(NULL, err);

	if (msb_sandbox_command(sb, "uname", uname, MSB_NO_LIMIT, NULL, &x, &err))
		example_fail(sb, err);
	puts(msb_execution_output(x, NULL)); /* Linux 6.1… */
	msb_execution_free(x);

	if (msb_sandbox_command(sb, "sh", fail, MSB_NO_LIMIT, NULL, &x, &err))
		example_fail(sb, err);
	if (msb_execution_exit_code(x, &code) && code)
		printf("exit code %d: %s\n", code, msb_execution_error(x, NULL));
	msb_execution_free(x);

	switch (msb_sandbox_command(sb, "sh", sleep, 1, NULL, &x, &err)) {
	case MSB_ERR_COMMAND_TIMEOUT:
		printf("out of time after: %s\n", msb_error_stdout(err, NULL));
		msb_error_free(err);
		break;
	case 0:
		msb_execution_free(x);
		break;
	default:
		example_fail(sb, err);
	}

	if (msb_sandbox_stop(sb, NULL, &err))
		example_fail(sb, err);
	msb_sandbox_free(sb);
	return 0;
}
