/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/terminal.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

static struct termios terminal_saved;
static bool terminal_is_raw, terminal_line_shown;

bool terminal_interactive(void)
{
	return isatty(STDIN_FILENO) && isatty(STDOUT_FILENO);
}

void terminal_restore(void)
{
	if (!terminal_is_raw)
		return;
	terminal_is_raw = false;
	tcsetattr(STDIN_FILENO, TCSADRAIN, &terminal_saved);
}

void terminal_raw(void)
{
	static bool registered;
	struct termios raw;

	if (terminal_is_raw || tcgetattr(STDIN_FILENO, &terminal_saved) < 0)
		return;
	if (!registered) {
		atexit(terminal_restore);
		registered = true;
	}
	raw = terminal_saved;
	cfmakeraw(&raw);
	terminal_is_raw = tcsetattr(STDIN_FILENO, TCSADRAIN, &raw) == 0;
}

void terminal_size(uint16_t *rows, uint16_t *cols)
{
	struct winsize ws;

	*rows = 24;
	*cols = 80;
	if (!ioctl(STDIN_FILENO, TIOCGWINSZ, &ws) && ws.ws_row && ws.ws_col) {
		*rows = ws.ws_row;
		*cols = ws.ws_col;
	}
}

void terminal_progress(const char *fmt, ...)
{
	va_list ap;

	if (!isatty(STDERR_FILENO))
		return;
	fputs("\r\033[K", stderr);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fflush(stderr);
	terminal_line_shown = true;
}

void terminal_progress_end(void)
{
	if (!terminal_line_shown)
		return;
	terminal_line_shown = false;
	fputs("\r\033[K", stderr);
	fflush(stderr);
}
