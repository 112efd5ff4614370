/* SPDX-License-Identifier: Apache-2.0 */
/* A program that is asked and answers. */
#include <string.h>

#include "example.h"

/* Asks, and prints what it answers, up to the end of a line. */
static int ask(struct msb_process *p, const char *question, struct msb_error **err)
{
	char answer[256];
	size_t n;
	int rc = msb_process_write(p, question, strlen(question), NULL, err);

	while (!rc) {
		rc = msb_process_read(p, answer, sizeof(answer), NULL, &n, NULL, err);
		if (rc || !n) /* it failed, or has ended */
			break;
		fwrite(answer, 1, n, stdout);
		if (answer[n - 1] == '\n')
			break;
	}
	return rc;
}

int main(void)
{
	const char *const args[] = { "-c",
				     "import sys\n"
				     "for line in sys.stdin:\n"
				     "    print(line.strip(), '=', eval(line), flush=True)\n",
				     NULL };
	struct msb_process_config config = { .size = sizeof(config), .args = args };
	struct msb_sandbox *sb;
	struct msb_process *p;
	struct msb_error *err;
	int code = 0;

	if (msb_sandbox_create(&sb, MSB_PYTHON, NULL, NULL, NULL, NULL, &err))
		example_fail(NULL, err);
	if (msb_process_start(&p, sb, "python3", 60, &config, NULL, &err))
		example_fail(sb, err);

	if (ask(p, "6 * 7\n", &err) || ask(p, "2 ** 64\n", &err))
		example_fail(sb, err);

	/* It ends with its input. */
	if (msb_process_close_stdin(p, NULL, &err) || msb_process_wait(p, NULL, &err))
		example_fail(sb, err);
	msb_execution_exit_code(msb_process_exit(p), &code);
	printf("exit code %d\n", code);
	msb_process_free(p);

	if (msb_sandbox_stop(sb, NULL, &err))
		example_fail(sb, err);
	msb_sandbox_free(sb);
	return 0;
}
