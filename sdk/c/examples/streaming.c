/* SPDX-License-Identifier: Apache-2.0 */
/* Output as it comes, standard input, and Ctrl-C. */
#include <signal.h>
#include <string.h>

#include "example.h"

static struct msb_cancel *cancel;

static void on_signal(int number)
{
	(void)number;
	msb_cancel_trigger(cancel); /* safe in a signal handler */
}

static int on_output(void *context, enum msb_stream stream, const void *data, size_t len)
{
	(void)context;
	return fwrite(data, 1, len, stream == MSB_STDERR ? stderr : stdout) == len ? 0 : -1;
}

int main(void)
{
	const char *const args[] = { "-c", "while read -r word; do echo \"$GREETING $word\"; done",
				     NULL };
	const char *const envs[] = { "GREETING=hello", NULL };
	static const char input[] = "one\ntwo\nthree\n";
	struct msb_exec exec = {
		.size = sizeof(exec),
		.args = args,
		.envs = envs,
		.input = input,
		.input_len = strlen(input),
		.on_output = on_output,
	};
	struct msb_sandbox *sb;
	struct msb_execution *x;
	struct msb_error *err;
	int code = 0;

	if (msb_cancel_new(&cancel, &err))
		example_fail(NULL, err);
	signal(SIGINT, on_signal);
	if (msb_sandbox_create(&sb, MSB_PYTHON, NULL, NULL, NULL, cancel, &err))
		example_fail(NULL, err);

	if (msb_sandbox_exec(sb, "sh", 60, &exec, cancel, &x, &err))
		example_fail(sb, err);
	msb_execution_exit_code(x, &code);
	printf("exit code %d after %.0f ms\n", code, msb_execution_duration_ms(x));
	msb_execution_free(x);

	if (msb_sandbox_run_streamed(sb, "for i in range(3): print(i)", 60, on_output, NULL, cancel,
				     NULL, &err))
		example_fail(sb, err);

	if (msb_sandbox_stop(sb, NULL, &err))
		example_fail(sb, err);
	msb_sandbox_free(sb);
	msb_cancel_free(cancel);
	return 0;
}
