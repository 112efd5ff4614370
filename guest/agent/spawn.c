/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/close_range.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "agent/user.h"
#include "base/mem.h"

#define SPAWN_PATH "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
#define SPAWN_FD_BASE 64 /* above every fixed number that a child is given */

static size_t spawn_copy(char *to, const struct frame_str *s)
{
	if (s->len)
		memcpy(to, s->p, s->len);
	to[s->len] = '\0';
	return s->len + 1;
}

int spawn_init(struct spawn *s, struct frame_list argv, struct frame_list env,
	       const struct frame_str *cwd, const struct frame_str *user, struct err *e)
{
	/* In a list each string has 4 bytes of length; in memory it has one NUL. */
	size_t bytes = (size_t)argv.len + env.len + cwd->len + user->len + 2;
	size_t count = (size_t)argv.count + env.count + 2 + SPAWN_ENV_EXTRA;
	struct frame_str str;
	char **v, *p;

	*s = (struct spawn){ 0 };
	s->memory = p = malloc(bytes);
	s->vectors = v = calloc(count, sizeof(*v));
	if (!p || !v) {
		spawn_fini(s);
		return err_errno(e, ENOMEM, "cannot start a process");
	}
	s->argv = v;
	while (frame_list_next(&argv, &str)) {
		*v++ = p;
		p += spawn_copy(p, &str);
	}
	*v++ = NULL;
	s->envp = v;
	while (frame_list_next(&env, &str)) {
		*v++ = p;
		p += spawn_copy(p, &str);
		s->n_env++;
	}
	s->cwd = p;
	p += spawn_copy(p, cwd);
	s->user = p;
	spawn_copy(p, user);
	return 0;
}

void spawn_fini(struct spawn *s)
{
	free(s->memory);
	free(s->vectors);
	*s = (struct spawn){ 0 };
}

int spawn_report_pipe(int fds[2], struct err *e)
{
	if (pipe2(fds, O_CLOEXEC))
		return err_errno(e, errno, "cannot start a process: pipe");
	fcntl(fds[0], F_SETFL, O_NONBLOCK);
	return 0;
}

int spawn_report_read(int fd, struct err *e)
{
	struct err got;
	ssize_t n;

	do
		n = read(fd, &got, sizeof(got));
	while (n < 0 && errno == EINTR);
	if (n < 0 && errno == EAGAIN)
		return 0;
	if (n == 0)
		return 1;
	/* The child writes it with one call, and the pipe takes that at once. */
	if (n != (ssize_t)sizeof(got) || !got.code)
		return err_set(e, EIO, "the new process ended before it could run the program");
	got.msg[sizeof(got.msg) - 1] = '\0';
	return err_set(e, got.code, "%s", got.msg);
}

static const char *spawn_getenv(const struct spawn *s, const char *name)
{
	size_t n = strlen(name);

	for (char **v = s->envp; *v; v++)
		if (!strncmp(*v, name, n) && (*v)[n] == '=')
			return *v + n + 1;
	return NULL;
}

/* Room for SPAWN_ENV_EXTRA of these was made by spawn_init(). */
static void spawn_default_env(struct spawn *s, const char *name, const char *value)
{
	char *text = NULL;

	if (spawn_getenv(s, name) || asprintf(&text, "%s=%s", name, value) < 0)
		return;
	s->envp[s->n_env++] = text;
}

static const struct {
	const char *name;
	int resource;
} spawn_rlimits[] = {
	{ "as", RLIMIT_AS },
	{ "core", RLIMIT_CORE },
	{ "cpu", RLIMIT_CPU },
	{ "data", RLIMIT_DATA },
	{ "fsize", RLIMIT_FSIZE },
	{ "locks", RLIMIT_LOCKS },
	{ "memlock", RLIMIT_MEMLOCK },
	{ "msgqueue", RLIMIT_MSGQUEUE },
	{ "nice", RLIMIT_NICE },
	{ "nofile", RLIMIT_NOFILE },
	{ "nproc", RLIMIT_NPROC },
	{ "rss", RLIMIT_RSS },
	{ "rtprio", RLIMIT_RTPRIO },
	{ "rttime", RLIMIT_RTTIME },
	{ "sigpending", RLIMIT_SIGPENDING },
	{ "stack", RLIMIT_STACK },
};

/* Digits or "unlimited", up to @stop. Return: the text after @stop, or NULL. */
static const char *spawn_parse_limit(const char *p, char stop, uint64_t *out)
{
	uint64_t v = 0;

	if (!strncmp(p, "unlimited", 9)) {
		v = RLIM_INFINITY;
		p += 9;
	} else if (*p < '0' || *p > '9') {
		return NULL;
	} else {
		for (; *p >= '0' && *p <= '9'; p++)
			if (__builtin_mul_overflow(v, 10u, &v) ||
			    __builtin_add_overflow(v, (uint64_t)(*p - '0'), &v))
				return NULL;
	}
	if (*p != stop)
		return NULL;
	*out = v;
	return stop ? p + 1 : p;
}

int spawn_parse_rlimit(const char *text, int *resource, uint64_t *soft, uint64_t *hard,
		       struct err *e)
{
	const char *eq = strchr(text, '='), *p;
	uint64_t lo, hi;

	for (size_t i = 0; eq && i < ARRAY_SIZE(spawn_rlimits); i++) {
		const char *name = spawn_rlimits[i].name;

		if (strlen(name) != (size_t)(eq - text) || strncmp(text, name, strlen(name)))
			continue;
		p = spawn_parse_limit(eq + 1, ':', &lo);
		if (!p || !spawn_parse_limit(p, '\0', &hi) || lo > hi)
			break;
		*resource = spawn_rlimits[i].resource;
		*soft = lo;
		*hard = hi;
		return 0;
	}
	return err_set(e, EINVAL,
		       "resource limit '%s': expected NAME=SOFT:HARD, such as nofile=1024:4096",
		       text);
}

static int spawn_set_rlimits(const struct spawn *s, struct err *e)
{
	struct frame_list list = s->rlimits;
	struct frame_str str;
	uint64_t soft, hard;
	char text[128];
	int resource;

	while (frame_list_next(&list, &str)) {
		struct rlimit r;

		if (frame_str_copy(&str, text, sizeof(text)))
			return err_set(e, EINVAL, "resource limit: more than %zu bytes",
				       sizeof(text));
		if (spawn_parse_rlimit(text, &resource, &soft, &hard, e))
			return -EINVAL;
		r.rlim_cur = soft;
		r.rlim_max = hard;
		/* musl's prototype takes an int, glibc's an enum in C++ only. */
		if (setrlimit((__typeof__(RLIMIT_NOFILE))resource, &r))
			return err_errno(e, errno, "resource limit '%s'", text);
	}
	return 0;
}

/*
 * Descriptors move to high numbers first, because a source may have the number that
 * another target wants.
 */
static int spawn_set_fds(const struct agent *a, const struct spawn *s, int *report, struct err *e)
{
	int from[8], null_fd = -1, fd;

	if (s->n_fds > ARRAY_SIZE(from))
		return err_set(e, EINVAL, "too many descriptors");
	fd = fcntl(*report, F_DUPFD_CLOEXEC, SPAWN_FD_BASE);
	if (fd < 0)
		return err_errno(e, errno, "descriptors");
	*report = fd;
	for (size_t i = 0; i < s->n_fds; i++) {
		from[i] = fcntl(s->fds[i].from, F_DUPFD_CLOEXEC, SPAWN_FD_BASE);
		if (from[i] < 0)
			return err_errno(e, errno, "descriptors");
	}
	fd = openat(a->dev_fd, "null", O_RDWR | O_CLOEXEC);
	if (fd >= 0) {
		null_fd = fcntl(fd, F_DUPFD_CLOEXEC, SPAWN_FD_BASE);
		close(fd);
	}
	if (null_fd < 0)
		return err_errno(e, errno, "/dev/null");
	for (int i = 0; i < 3; i++)
		if (dup2(null_fd, i) < 0)
			return err_errno(e, errno, "descriptors");
	for (size_t i = 0; i < s->n_fds; i++)
		if (dup2(from[i], s->fds[i].to) < 0)
			return err_errno(e, errno, "descriptors");
	for (int i = 3; i < SPAWN_FD_BASE; i++) {
		bool keep = false;

		for (size_t k = 0; k < s->n_fds; k++)
			keep |= s->fds[k].to == i;
		if (!keep)
			fcntl(i, F_SETFD, FD_CLOEXEC);
	}
	if (syscall(SYS_close_range, SPAWN_FD_BASE, UINT_MAX, CLOSE_RANGE_CLOEXEC))
		return err_errno(e, errno, "close_range");
	return 0;
}

static void spawn_reset_oom_score(const struct agent *a)
{
	auto_close int fd = openat(a->proc_fd, "self/oom_score_adj", O_WRONLY | O_CLOEXEC);

	/* Not fatal: where it cannot be written it was not changed either. */
	if (fd >= 0 && write(fd, "0", 1) < 0)
		return;
}

/* A program that exists and cannot be run: say why as exactly as the kernel lets us. */
static int spawn_exec_error(const char *path, int code, struct err *e)
{
	struct stat st;

	if (code == ENOENT && !stat(path, &st))
		return err_set(e, ENOENT,
			       "%s: the interpreter that it names (#! or ELF) does not exist",
			       path);
	if (code == ENOEXEC)
		return err_set(e, ENOEXEC,
			       "%s: not a program for this machine, nor a script with #!", path);
	if (code == EACCES && !stat(path, &st) && S_ISDIR(st.st_mode))
		return err_set(e, EACCES, "%s: is a directory", path);
	if (code == E2BIG)
		return err_set(e, E2BIG, "%s: the argument list is too long", path);
	return err_errno(e, code, "%s", path);
}

/* Return: does not, if it succeeds; -ENOENT if no directory of PATH has it. */
static int spawn_search(struct spawn *s, const char *program, struct err *e)
{
	const char *path = spawn_getenv(s, "PATH"), *p = path ? path : "";
	char full[PATH_MAX];
	bool denied = false;

	if (!*program)
		return err_set(e, ENOENT, "the name of the program is empty");
	if (strchr(program, '/')) {
		execve(program, s->argv, s->envp);
		return spawn_exec_error(program, errno, e);
	}
	for (;;) {
		size_t n = strcspn(p, ":");
		int k = snprintf(full, sizeof(full), "%.*s%s%s", (int)n, p, n ? "/" : "./", program);

		if (k > 0 && (size_t)k < sizeof(full)) {
			struct stat st;
			bool there, absent;
			int code;

			execve(full, s->argv, s->envp);
			code = errno;
			there = !stat(full, &st);
			absent = code == ENOTDIR || code == ELOOP || (code == ENOENT && !there);
			if (code == EACCES)
				denied |= there && S_ISREG(st.st_mode);
			else if (!absent)
				return spawn_exec_error(full, code, e);
		}
		if (!p[n])
			break;
		p += n + 1;
	}
	if (denied)
		return err_set(e, EACCES, "%s: found in PATH, but not executable by this user",
			       program);
	return -ENOENT;
}

static int spawn_program(struct spawn *s, struct err *e)
{
	const char *path = spawn_getenv(s, "PATH");
	char names[128] = "";
	int rc;

	if (!s->programs) {
		rc = spawn_search(s, s->argv[0], e);
		return rc != -ENOENT || (e && e->code)
			       ? rc
			       : err_set(e, ENOENT, "%s: not found in PATH (%s)", s->argv[0], path);
	}
	for (const char *const *p = s->programs; *p; p++) {
		size_t n = strlen(names);

		snprintf(names + n, sizeof(names) - n, "%s%s", n ? " or " : "", *p);
		s->argv[0] = (char *)(uintptr_t)*p;
		rc = spawn_search(s, *p, e);
		if (rc != -ENOENT || e->code)
			return rc;
	}
	return err_set(e, ENOENT, "the image has no %s: looked for %s in PATH (%s)", s->what, names,
		       path);
}

static int spawn_setup(const struct agent *a, struct spawn *s, int *report, struct err *e)
{
	const char *cwd = *s->cwd ? s->cwd : "/";
	struct user_ident user;
	bool there;
	int rc;

	spawn_reset_oom_score(a);
	rc = spawn_set_fds(a, s, report, e);
	if (!rc)
		rc = user_load(s->user, &user, e);
	if (rc)
		return rc;
	if (s->tty) {
		if (ioctl(0, TIOCSCTTY, 0))
			return err_errno(e, errno, "controlling terminal");
		/* Group 5 is tty, as in devpts's own mount options. */
		if (fchown(0, user.uid, 5) || fchmod(0, 0620))
			return err_errno(e, errno, "owner of the terminal");
		spawn_default_env(s, "TERM", "xterm");
	}
	spawn_default_env(s, "PATH", SPAWN_PATH);
	spawn_default_env(s, "HOME", user.home);
	rc = spawn_set_rlimits(s, e);
	/* As root first: a working directory of root's, such as /root, serves any user. */
	there = !chdir(cwd);
	if (!rc)
		rc = user_become(&user, e);
	if (rc)
		return rc;
	umask(022);
	if (!there && chdir(cwd))
		return err_errno(e, errno, "working directory %s", cwd);
	return spawn_program(s, e);
}

void spawn_exec(const struct agent *a, struct spawn *s, int report_fd)
{
	struct err e = ERR_INIT;

	spawn_setup(a, s, &report_fd, &e);
	if (write(report_fd, &e, sizeof(e)) < 0)
		_exit(126);
	_exit(127);
}
