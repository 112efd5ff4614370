/* SPDX-License-Identifier: Apache-2.0 */
#include "image/pull_show.h"

#include <stdbool.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "image/progress.h"

#define SHOW_BAR 24
#define SHOW_EVERY_MS 100u
#define SHOW_WIDTH_MIN 72 /* of a bar's line; on a narrower terminal there is none */

static uint64_t show_now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

/* How many bars there is room for. */
static unsigned show_rows(void)
{
	struct winsize w;

	if (ioctl(STDERR_FILENO, TIOCGWINSZ, &w) < 0 || w.ws_col < SHOW_WIDTH_MIN || w.ws_row < 4)
		return 0;
	return w.ws_row - 2u;
}

static void show_erase(struct pull_show *s)
{
	if (s->bars)
		fprintf(stderr, "\033[%uA\r\033[J", s->bars);
	s->bars = 0;
}

static void show_bar(const struct pull_show_layer *l)
{
	char bar[SHOW_BAR + 1];
	uint64_t size = l->size ? l->size : 1;

	for (unsigned i = 0; i < SHOW_BAR; i++)
		bar[i] = (double)i / SHOW_BAR < (double)l->have / (double)size ? '#' : '.';
	bar[SHOW_BAR] = '\0';
	fprintf(stderr, "%s [%s] %3u%% %7.1f of %.1f MB\n", l->name, bar,
		(unsigned)(100.0 * (double)l->have / (double)size), (double)l->have / 1e6,
		(double)l->size / 1e6);
}

void pull_show_bars(struct pull_show *s)
{
	uint64_t now;
	unsigned rows;

	if (progress_mode() != PROGRESS_TTY)
		return;
	now = show_now();
	if (s->drawn_ms && now - s->drawn_ms < SHOW_EVERY_MS)
		return;
	s->drawn_ms = now;
	rows = show_rows();
	show_erase(s);
	for (size_t i = 0; i < s->n && s->bars < rows; i++) {
		if (s->layers[i].state != SHOW_FETCHING)
			continue;
		show_bar(&s->layers[i]);
		s->bars++;
	}
	fflush(stderr);
}

void pull_show_line(struct pull_show *s, const struct pull_show_layer *l)
{
	if (progress_mode() == PROGRESS_QUIET)
		return;
	show_erase(s);
	fprintf(stderr, "%s %s%.1f MB\n", l->name,
		l->state == SHOW_STORED ? "is there already, " : "", (double)l->size / 1e6);
	s->drawn_ms = 0;
	pull_show_bars(s);
	fflush(stderr);
}

void pull_show_note(struct pull_show *s, const char *text)
{
	if (progress_mode() == PROGRESS_QUIET)
		return;
	show_erase(s);
	fprintf(stderr, "note: %s\n", text);
	s->drawn_ms = 0;
	pull_show_bars(s);
	fflush(stderr);
}

void pull_show_end(struct pull_show *s)
{
	show_erase(s);
	fflush(stderr);
}
