/* SPDX-License-Identifier: Apache-2.0 */
#include "image/progress.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define PROGRESS_BAR 24

static struct {
	bool quiet, tty, open;
	int shown; /* percent, or MiB, on the line now; -1 = none */
	char step[160];
} progress = { .quiet = true };

void progress_init(bool quiet)
{
	const bool tty = isatty(STDERR_FILENO) == 1;

	progress.quiet = quiet;
	progress.tty = tty;
}

enum progress_mode progress_mode(void)
{
	if (progress.quiet)
		return PROGRESS_QUIET;
	return progress.tty ? PROGRESS_TTY : PROGRESS_LINES;
}

void progress_end(void)
{
	if (progress.open && progress.tty)
		fputs("\r\033[K", stderr);
	progress.open = false;
}

void progress_step(const char *fmt, ...)
{
	va_list ap;

	if (progress.quiet)
		return;
	progress_end();
	va_start(ap, fmt);
	vsnprintf(progress.step, sizeof(progress.step), fmt, ap);
	va_end(ap);
	progress.shown = -1;
	if (progress.tty)
		fputs(progress.step, stderr);
	else
		fprintf(stderr, "%s\n", progress.step);
	fflush(stderr);
	progress.open = true;
}

void progress_percent(double percent)
{
	int p = percent < 0 ? 0 : percent > 100 ? 100 : (int)percent;
	char bar[PROGRESS_BAR + 1];

	if (progress.quiet || !progress.tty || !progress.open || p == progress.shown)
		return;
	progress.shown = p;
	for (int i = 0; i < PROGRESS_BAR; i++)
		bar[i] = i * 100 < p * PROGRESS_BAR ? '#' : '.';
	bar[PROGRESS_BAR] = '\0';
	fprintf(stderr, "\r\033[K%s [%s] %3d%%", progress.step, bar, p);
	fflush(stderr);
}

void progress_bytes(uint64_t done, uint64_t total)
{
	int mib = (int)(done >> 20);

	if (total) {
		progress_percent(100.0 * (double)done / (double)total);
		return;
	}
	if (progress.quiet || !progress.tty || !progress.open || mib == progress.shown)
		return;
	progress.shown = mib;
	fprintf(stderr, "\r\033[K%s %d MiB", progress.step, mib);
	fflush(stderr);
}
