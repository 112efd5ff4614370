/* SPDX-License-Identifier: Apache-2.0 */
#include "server/audit.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"

/* Another kind of file could make us wait. */
static int audit_open_file(struct audit *a, struct err *e)
{
	auto_close int fd =
		open(a->path, O_WRONLY | O_APPEND | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC,
		     0600);
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0)
		return err_errno(e, errno, "cannot write the audit log %s", a->path);
	if (!S_ISREG(st.st_mode))
		return err_set(e, EINVAL, "the audit log %s is no regular file", a->path);
	if (st.st_mode & 077 && fchmod(fd, 0600) < 0)
		return err_errno(e, errno, "cannot make the audit log %s private", a->path);
	a->fd = take_fd(&fd);
	a->size = st.st_size;
	return 0;
}

int audit_open(struct audit *a, const char *path, struct err *e)
{
	*a = (struct audit){ .fd = -1, .path = strdup(path) };
	return a->path ? audit_open_file(a, e) : err_errno(e, ENOMEM, "audit log");
}

void audit_close(struct audit *a)
{
	close_fd(&a->fd);
	free(a->path);
	a->path = NULL;
}

static json_t *audit_string(const char *s)
{
	return s && *s ? json_string(s) : json_null();
}

size_t audit_format(const struct audit_entry *x, int64_t time_ms, char *to, size_t size)
{
	static const char *const outcomes[] = {
		[AUDIT_OK] = "ok",
		[AUDIT_ERROR] = "error",
		[AUDIT_CANCELLED] = "cancelled",
	};
	time_t t = (time_t)(time_ms / 1000);
	char when[40], day[24];
	struct tm tm;
	json_t *o;
	size_t n;

	strftime(day, sizeof(day), "%Y-%m-%dT%H:%M:%S", gmtime_r(&t, &tm));
	snprintf(when, sizeof(when), "%s.%03dZ", day, (int)(time_ms % 1000));
	o = json_pack("{s:s, s:o, s:o, s:o, s:s, s:o, s:s}", "time", when, "key",
		      audit_string(x->who ? x->who->key : NULL), "namespace", audit_string(x->ns),
		      "peer", audit_string(x->who ? x->who->peer : NULL), "method", x->method,
		      "sandbox", audit_string(x->sandbox), "outcome", outcomes[x->outcome]);
	if (o && x->volume)
		json_object_set_new(o, "volume", audit_string(x->volume));
	if (o && x->outcome == AUDIT_ERROR)
		json_object_set_new(o, "code", json_integer(x->code));
	if (o && x->reason)
		json_object_set_new(o, "reason", json_string(x->reason));
	if (o)
		json_object_set_new(o, "duration_ms",
				    json_real((double)(x->duration_ns / 10000) / 100));
	n = o ? json_dumpb(o, to, size, JSON_COMPACT | JSON_REAL_PRECISION(12)) : 0;
	json_decref(o);
	if (!n || n >= size)
		return 0;
	to[n] = '\n';
	return n + 1;
}

static void audit_rotate(struct audit *a)
{
	auto_free char *old = NULL;
	struct err e = ERR_INIT;

	if (asprintf(&old, "%s.old", a->path) < 0) {
		old = NULL;
		return;
	}
	if (rename(a->path, old) < 0) {
		log_err("event=audit-not-rotated reason=\"%s\"", strerror(errno));
		a->size = 0; /* not at each line */
		return;
	}
	close_fd(&a->fd);
	if (audit_open_file(a, &e))
		log_err("event=audit-lost reason=\"%s\"", err_text(&e));
}

void audit_write(struct audit *a, const struct audit_entry *x)
{
	static struct log_limit limit = LOG_LIMIT(1, 10000);
	char line[AUDIT_LINE_MAX];
	struct timespec now;
	size_t n;

	if (!a->path)
		return;
	if (a->fd < 0 && audit_open_file(a, NULL))
		return;
	clock_gettime(CLOCK_REALTIME, &now);
	n = audit_format(x, (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000, line, sizeof(line));
	if (a->size + (off_t)n > (off_t)AUDIT_FILE_MAX)
		audit_rotate(a);
	if (a->fd >= 0 && n && write(a->fd, line, n) == (ssize_t)n)
		a->size += (off_t)n;
	else if (log_limit_pass(&limit, NULL))
		log_err("event=audit-lost reason=\"%s\"", strerror(errno));
}
