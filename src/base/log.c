/* SPDX-License-Identifier: Apache-2.0 */
#include "base/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define LOG_LINE_MAX 2048

static struct {
	int fd;
	enum log_level level;
	char ident[64];
} log_state = { .fd = STDERR_FILENO, .level = LOG_WARN, .ident = "msb" };

static const char *const log_level_names[] = {
	[LOG_ERR] = "error",
	[LOG_WARN] = "warn",
	[LOG_INFO] = "info",
	[LOG_DEBUG] = "debug",
};

void log_init(int fd, enum log_level level, const char *ident)
{
	log_state.fd = fd;
	log_state.level = level;
	snprintf(log_state.ident, sizeof(log_state.ident), "%s", ident);
	/* libc looks for a time zone file once: before a seccomp list forbids it. */
	tzset();
}

void log_set_level(enum log_level level)
{
	log_state.level = level;
}

int log_level_parse(const char *s, enum log_level *out)
{
	for (int i = LOG_ERR; i <= LOG_DEBUG; i++) {
		if (!strcmp(s, log_level_names[i])) {
			*out = (enum log_level)i;
			return 0;
		}
	}
	return -EINVAL;
}

bool log_enabled(enum log_level level)
{
	return level <= log_state.level && log_state.fd >= 0;
}

void log_write(enum log_level level, const char *fmt, ...)
{
	char line[LOG_LINE_MAX];
	struct timespec ts;
	struct tm tm;
	size_t n;
	va_list ap;
	int saved = errno, k;

	if (!log_enabled(level))
		return;
	clock_gettime(CLOCK_REALTIME, &ts);
	gmtime_r(&ts.tv_sec, &tm);
	n = strftime(line, sizeof(line), "%Y-%m-%dT%H:%M:%S", &tm);
	k = snprintf(line + n, sizeof(line) - n, ".%03ldZ %s %s: ", ts.tv_nsec / 1000000,
		     log_level_names[level], log_state.ident);
	n += (size_t)k;
	errno = saved; /* for %m */
	va_start(ap, fmt);
	k = vsnprintf(line + n, sizeof(line) - n, fmt, ap);
	va_end(ap);
	if (k > 0)
		for (size_t i = n; i < sizeof(line) - 1 && line[i]; i++)
			if ((unsigned char)line[i] < 0x20 || line[i] == 0x7f)
				line[i] = '?';
	n = strnlen(line, sizeof(line) - 2);
	line[n++] = '\n';
	/* A log that cannot be written must not stop the sandbox. */
	if (write(log_state.fd, line, n) < 0)
		errno = saved;
	errno = saved;
}

bool log_limit_pass(struct log_limit *l, unsigned *dropped)
{
	struct timespec ts;
	uint64_t now;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	now = (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
	if (now - l->window_start_ms >= l->period_ms || !l->window_start_ms) {
		l->window_start_ms = now;
		l->used = 0;
	}
	if (l->used >= l->burst) {
		l->held++;
		return false;
	}
	l->used++;
	if (dropped)
		*dropped = l->held;
	l->held = 0;
	return true;
}
