/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A shell in a sandbox, on the terminal that this program has.  One thread reads what the shell
 * prints, the other one writes what is typed, and tells it when the window changes.
 */
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include "example.h"

static int turn[2]; /* a pipe: "w": the window has another size; "e": the shell has ended */

static void tell(char what)
{
	if (write(turn[1], &what, 1) < 0)
		_exit(1);
}

static void on_winch(int number)
{
	(void)number;
	tell('w');
}

struct reading {
	struct msb_process *p;
	struct msb_error *err;
	int rc;
};

static void *print_output(void *context)
{
	struct reading *r = context;
	char bytes[4096];
	size_t n = 1;

	for (;;) {
		r->rc = msb_process_read(r->p, bytes, sizeof(bytes), NULL, &n, NULL, &r->err);
		if (r->rc || !n)
			break;
		fwrite(bytes, 1, n, stdout);
		fflush(stdout);
	}
	tell('e');
	return NULL;
}

static struct winsize window(void)
{
	struct winsize size = { .ws_row = 24, .ws_col = 80 };

	ioctl(STDIN_FILENO, TIOCGWINSZ, &size);
	return size;
}

/* Until the shell has ended; what is wrong with the connection the reader gets to know. */
static void type_input(struct msb_process *p)
{
	struct pollfd fds[2] = { { .fd = turn[0], .events = POLLIN },
				 { .fd = STDIN_FILENO, .events = POLLIN } };
	char bytes[4096];

	for (;;) {
		if (poll(fds, 2, -1) < 0)
			continue; /* a signal */
		if (fds[0].revents) {
			if (read(turn[0], bytes, 1) != 1 || bytes[0] == 'e')
				return;
			msb_process_resize(p, window().ws_row, window().ws_col, NULL, NULL);
		}
		if (fds[1].revents) {
			ssize_t n = read(STDIN_FILENO, bytes, sizeof(bytes));

			if (n > 0) {
				msb_process_write(p, bytes, (size_t)n, NULL, NULL);
			} else {
				msb_process_close_stdin(p, NULL, NULL);
				fds[1].fd = -1;
			}
		}
	}
}

int main(void)
{
	struct winsize size = window();
	struct msb_process_config config = {
		.size = sizeof(config),
		.tty = 1,
		.rows = size.ws_row,
		.cols = size.ws_col,
	};
	struct termios had, raw;
	int terminal = !tcgetattr(STDIN_FILENO, &had), code = 1;
	struct reading r = { .rc = 0 };
	struct msb_sandbox *sb;
	struct msb_error *err;
	pthread_t reader;

	if (pipe(turn))
		return 1;
	if (msb_sandbox_create(&sb, MSB_PYTHON, NULL, NULL, NULL, NULL, &err))
		example_fail(NULL, err);
	if (msb_process_start(&r.p, sb, "sh", MSB_NO_LIMIT, &config, NULL, &err))
		example_fail(sb, err);

	signal(SIGWINCH, on_winch);
	if (terminal) {
		raw = had;
		cfmakeraw(&raw); /* every key goes to the shell, also Ctrl-C */
		tcsetattr(STDIN_FILENO, TCSADRAIN, &raw);
	}
	if (pthread_create(&reader, NULL, print_output, &r))
		return 1;
	type_input(r.p);
	pthread_join(reader, NULL);
	if (terminal)
		tcsetattr(STDIN_FILENO, TCSADRAIN, &had);

	if (r.rc)
		example_fail(sb, r.err);
	msb_execution_exit_code(msb_process_exit(r.p), &code);
	printf("exit code %d\n", code);
	msb_process_free(r.p);
	msb_sandbox_stop(sb, NULL, NULL);
	msb_sandbox_free(sb);
	return 0;
}
