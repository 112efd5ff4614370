/* SPDX-License-Identifier: Apache-2.0 */
#include "image/apt.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/mem.h"
#include "codec/manifest.h"
#include "image/progress.h"
#include "image/tool.h"

#define APT_OUTPUT_MAX (4u << 20)
#define APT_FD_STATUS 3
#define HOST_LISTS "/var/lib/apt/lists"

/* Arguments that give apt a state of its own. */
static int apt_base_args(const char *dir, char ***argv, const char *tool)
{
	static const struct {
		const char *name, *sub;
	} paths[] = {
		{ "Dir::State", "/state" },
		{ "Dir::State::lists", "/lists" },
		{ "Dir::State::status", "/status" },
		{ "Dir::Cache", "/cache" },
		{ "Dir::Log", "/log" },
	};
	static const char *const settings[] = {
		"Debug::NoLocking=1",
		/* apt's own user may not be able to reach the folder. */
		"APT::Sandbox::User=",
		"APT::Install-Recommends=0",
		"APT::Install-Suggests=0",
		"APT::Get::AllowUnauthenticated=0",
		"APT::Update::Error-Mode=any",
		"Acquire::Languages=none",
		"Acquire::AllowInsecureRepositories=0",
		/* Hooks of the host are for the host's packages. */
		"DPkg::Pre-Install-Pkgs::=",
		"quiet::NoStatistic=1",
	};
	char text[600];
	int rc = strlist_add(argv, tool);

	for (size_t i = 0; !rc && i < ARRAY_SIZE(paths); i++) {
		snprintf(text, sizeof(text), "-o%s=%s%s", paths[i].name, dir, paths[i].sub);
		rc = strlist_add(argv, text);
	}
	for (size_t i = 0; !rc && i < ARRAY_SIZE(settings); i++) {
		snprintf(text, sizeof(text), "-o%s", settings[i]);
		rc = strlist_add(argv, text);
	}
	return rc;
}

/* "dlstatus:3:41.2:Retrieving file 3 of 22 …" */
static void apt_take_status(struct buf *b)
{
	const uint8_t *end;

	while ((end = memchr(buf_data(b), '\n', buf_len(b)))) {
		size_t n = (size_t)(end - buf_data(b));
		char line[256];
		double percent;

		snprintf(line, sizeof(line), "%.*s", (int)n, (const char *)buf_data(b));
		if (sscanf(line, "dlstatus:%*[^:]:%lf:", &percent) == 1)
			progress_percent(percent);
		buf_consume(b, n + 1);
	}
}

/* The first line of apt's stderr that says what is wrong. */
static void apt_first_error(const struct buf *b, char *to, size_t size)
{
	static const char *const marks[] = { "E: ", "W: Failed", "W: " };
	const char *p = (const char *)buf_data(b), *end = p + buf_len(b);

	snprintf(to, size, "no reason given");
	for (size_t m = 0; m < ARRAY_SIZE(marks); m++) {
		for (const char *s = p; s && s < end; s = memchr(s, '\n', (size_t)(end - s))) {
			size_t n;

			if (s != p && ++s >= end)
				break;
			n = strcspn(s, "\n");
			if ((size_t)(end - s) < strlen(marks[m]) ||
			    strncmp(s, marks[m], strlen(marks[m])))
				continue;
			snprintf(to, size, "%.*s", (int)(n - 3 < 400 ? n - 3 : 400), s + 3);
			for (char *c = to; *c; c++)
				if ((unsigned char)*c < ' ')
					*c = ' ';
			return;
		}
	}
}

struct apt_pipe {
	int fd; /* ours; -1 = closed */
	struct buf buf;
};

/* Reads what is there. A stream that is too long is cut: it is only messages. */
static void apt_pipe_read(struct apt_pipe *p)
{
	uint8_t chunk[4096];
	ssize_t n = read(p->fd, chunk, sizeof(chunk));

	if (n > 0)
		(void)buf_append(&p->buf, chunk, (size_t)n);
	else if (n == 0 || errno != EINTR)
		close_fd(&p->fd);
}

/* Runs apt-get; its stdout (if @out is given), stderr and status are read as they come. */
static int apt_run(char *const *argv, struct buf *out, const char *what, struct err *e)
{
	struct apt_pipe pipes[3] = { { .fd = -1 }, { .fd = -1 }, { .fd = -1 } };
	struct child child = CHILD_INIT;
	struct child_fd fds[3];
	int theirs[3] = { -1, -1, -1 }, status = 0, rc = 0;

	for (size_t i = 0; i < 3; i++) {
		int pair[2];

		buf_init(&pipes[i].buf, APT_OUTPUT_MAX);
		if (!rc && pipe2(pair, O_CLOEXEC) < 0) {
			rc = err_errno(e, errno, "start apt-get: pipe");
		} else if (!rc) {
			pipes[i].fd = pair[0];
			theirs[i] = pair[1];
			fds[i] = (struct child_fd){ theirs[i], (int)i + 1 };
		}
	}
	if (!rc) {
		const struct tool t = { "apt-get", "apt", argv, fds, 3 };

		rc = tool_spawn(&t, &child, e);
	}
	for (size_t i = 0; i < 3; i++)
		close_fd(&theirs[i]);
	while (!rc && (pipes[0].fd >= 0 || pipes[1].fd >= 0 || pipes[2].fd >= 0)) {
		struct pollfd p[3];

		for (size_t i = 0; i < 3; i++)
			p[i] = (struct pollfd){ .fd = pipes[i].fd, .events = POLLIN };
		if (poll(p, 3, -1) < 0 && errno != EINTR)
			break;
		for (size_t i = 0; i < 3; i++)
			if (p[i].fd >= 0 && p[i].revents)
				apt_pipe_read(&pipes[i]);
		apt_take_status(&pipes[2].buf);
	}
	if (!rc)
		rc = child_reap(&child, &status);
	if (!rc && status) {
		char why[512];

		apt_first_error(&pipes[1].buf, why, sizeof(why));
		rc = err_set(e, EIO,
			     "%s: %s (check the network and the package sources in /etc/apt)", what,
			     why);
	}
	if (!rc && out)
		rc = buf_append(out, buf_data(&pipes[0].buf), buf_len(&pipes[0].buf));
	for (size_t i = 0; i < 3; i++) {
		close_fd(&pipes[i].fd);
		buf_fini(&pipes[i].buf);
	}
	return rc;
}

/* apt-get with our arguments and those that follow, a list that ends with NULL. */
static int apt_call(const char *dir, struct buf *out, const char *what, struct err *e,
		    char *const *extra, ...)
{
	char **argv = NULL;
	const char *word;
	va_list ap;
	int rc = apt_base_args(dir, &argv, "apt-get");

	va_start(ap, extra);
	while (!rc && (word = va_arg(ap, const char *)))
		rc = strlist_add(&argv, word);
	va_end(ap);
	for (; !rc && extra && *extra; extra++)
		rc = strlist_add(&argv, *extra);
	rc = rc ? err_errno(e, ENOMEM, "%s", what) : apt_run(argv, out, what, e);
	strlist_free(argv);
	return rc;
}

static int apt_mkdir(const char *dir, const char *sub, struct err *e)
{
	char path[4096];

	snprintf(path, sizeof(path), "%s/%s", dir, sub);
	return mkdir(path, 0755) < 0 && errno != EEXIST ? err_errno(e, errno, "make %s", path) : 0;
}

/*
 * The state of the new system: nothing is installed, except what the recipe omits.
 * That counts as installed, in a version that satisfies everybody, so neither it nor
 * what only it needs is fetched.
 */
static int apt_write_status(const char *dir, char *const *omit, struct err *e)
{
	char path[4096];
	FILE *f;
	bool bad;

	snprintf(path, sizeof(path), "%s/status", dir);
	f = fopen(path, "we");
	if (!f)
		return err_errno(e, errno, "make %s", path);
	for (; omit && *omit; omit++)
		fprintf(f,
			"Package: %s\nStatus: install ok installed\nArchitecture: all\n"
			"Multi-Arch: allowed\nVersion: 9999:0\nMaintainer: none\nDescription: "
			"none\n\n",
			*omit);
	bad = ferror(f);
	return fclose(f) || bad ? err_errno(e, errno, "write %s", path) : 0;
}

static int apt_copy(int from_dir, const char *from, const char *to)
{
	auto_close int in = openat(from_dir, from, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	auto_close int out = in < 0 ? -1 : open(to, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
	struct timespec times[2];
	struct stat st;

	if (out < 0 || fstat(in, &st) < 0 || !S_ISREG(st.st_mode))
		return -1;
	while (st.st_size > 0) {
		ssize_t n = sendfile(out, in, NULL, (size_t)st.st_size);

		if (n <= 0)
			return -1;
		st.st_size -= n;
	}
	/* apt asks the mirror for what is newer than the file. */
	times[0] = times[1] = st.st_mtim;
	return futimens(out, times);
}

/*
 * Our lists start as a copy of the host's, so that only what changed since is
 * fetched.  A copy that fails is no harm: apt fetches what is missing.
 */
static void apt_borrow_lists(const char *dir)
{
	DIR *list = opendir(HOST_LISTS);
	const struct dirent *d;

	while (list && (d = readdir(list))) {
		char to[4096];

		if (!strstr(d->d_name, "_dists_"))
			continue;
		snprintf(to, sizeof(to), "%s/lists/%s", dir, d->d_name);
		if (apt_copy(dirfd(list), d->d_name, to) < 0)
			unlink(to);
	}
	if (list)
		closedir(list);
}

int apt_update(const char *dir, struct err *e)
{
	static const char *const folders[] = {
		"state", "lists", "lists/partial",  "cache",
		"log",   "debs",  "cache/archives", "cache/archives/partial"
	};
	int rc = 0;

	for (size_t i = 0; !rc && i < ARRAY_SIZE(folders); i++)
		rc = apt_mkdir(dir, folders[i], e);
	if (!rc)
		rc = apt_write_status(dir, NULL, e);
	if (rc)
		return rc;
	apt_borrow_lists(dir);
	return apt_call(dir, NULL, "cannot get the lists of packages", e, NULL, "-q",
			"-oAPT::Status-Fd=3", "update", NULL);
}

/* Undoes apt's %xx in a file name, in place. */
static void apt_unescape(char *s)
{
	char *to = s;
	unsigned v;

	for (; *s; s++) {
		if (*s == '%' && sscanf(s + 1, "%2x", &v) == 1) {
			*to++ = (char)v;
			s += 2;
		} else {
			*to++ = *s;
		}
	}
	*to = '\0';
}

/* 'http://…/name_version_arch.deb' name_version_arch.deb 12345 SHA256:… */
static int apt_take_uri(struct apt *a, char *line, struct err *e)
{
	char *file = strchr(line, ' '), *end, *version, *arch;
	struct apt_package *p;

	if (line[0] != '\'' || !file)
		return 0;
	file++;
	end = strchr(file, ' ');
	if (end)
		*end = '\0';
	end = strstr(file, ".deb");
	version = strchr(file, '_');
	arch = version ? strchr(version + 1, '_') : NULL;
	if (!end || end[4] || !arch || strchr(file, '/'))
		return err_set(e, EPROTO,
			       "apt-get names a package in a way that is not understood: %.80s",
			       file);
	*end = *version = *arch = '\0';
	version++;
	arch++;
	apt_unescape(version);
	p = reallocarray(a->packages, a->n + 1, sizeof(*p));
	if (!p)
		return err_errno(e, ENOMEM, "read the list of packages");
	a->packages = p;
	p[a->n] = (struct apt_package){ strdup(file), strdup(version), strdup(arch), NULL };
	if (!p[a->n].name || !p[a->n].version || !p[a->n].arch)
		return err_errno(e, ENOMEM, "read the list of packages");
	a->n++;
	return 0;
}

static int apt_order(const void *x, const void *y)
{
	return strcmp(((const struct apt_package *)x)->name, ((const struct apt_package *)y)->name);
}

int apt_resolve(const char *dir, char *const *names, char *const *omit, struct apt *out,
		struct err *e)
{
	struct buf text = BUF_INIT;
	struct apt a = { .dir = dir };
	char *line, *save = NULL;
	int rc;

	buf_init(&text, APT_OUTPUT_MAX + 1);
	rc = apt_write_status(dir, omit, e);
	if (!rc)
		rc = apt_call(dir, &text, "cannot find the packages", e, names, "-qq", "-y",
			      "--print-uris", "install", "--", NULL);
	if (!rc)
		rc = buf_append(&text, "", 1);
	for (line = rc ? NULL : strtok_r((char *)(text.mem + text.start), "\n", &save); !rc && line;
	     line = strtok_r(NULL, "\n", &save))
		rc = apt_take_uri(&a, line, e);
	buf_fini(&text);
	if (!rc && !a.n)
		rc = err_set(e, EIO, "apt-get finds no packages to install");
	if (rc) {
		apt_fini(&a);
		return rc;
	}
	qsort(a.packages, a.n, sizeof(*a.packages), apt_order);
	*out = a;
	return 0;
}

/* Finds the .deb of each package in the folder. */
static int apt_find_files(struct apt *a, const char *debs, struct err *e)
{
	for (size_t i = 0; i < a->n; i++) {
		struct apt_package *p = &a->packages[i];
		char path[4096 + 600];
		size_t n;

		/* apt writes the colon of an epoch as %3a. */
		n = (size_t)snprintf(path, sizeof(path), "%s/%s_", debs, p->name);
		for (const char *c = p->version; *c && n + 8 < sizeof(path); c++)
			n += (size_t)snprintf(path + n, sizeof(path) - n, *c == ':' ? "%%3a" : "%c",
					      *c);
		snprintf(path + n, sizeof(path) - n, "_%s.deb", p->arch);
		if (access(path, R_OK) < 0)
			return err_errno(e, errno, "apt-get did not download %s", p->name);
		p->file = strdup(path);
		if (!p->file)
			return err_errno(e, ENOMEM, "find the packages");
	}
	return 0;
}

int apt_download(struct apt *a, struct err *e)
{
	auto_close int back = open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	char debs[4096], **want = NULL, text[512];
	int rc = 0;

	snprintf(debs, sizeof(debs), "%s/debs", a->dir);
	for (size_t i = 0; !rc && i < a->n; i++) {
		snprintf(text, sizeof(text), "%s:%s=%s", a->packages[i].name,
			 strcmp(a->packages[i].arch, "all") ? a->packages[i].arch : "all",
			 a->packages[i].version);
		rc = strlist_add(&want, text);
	}
	/* `download` writes to the current folder. */
	if (!rc && (back < 0 || chdir(debs) < 0))
		rc = err_errno(e, errno, "enter %s", debs);
	else if (!rc)
		rc = apt_call(a->dir, NULL, "cannot download the packages", e, want, "-q",
			      "-oAPT::Status-Fd=3", "download", NULL);
	if (back >= 0 && fchdir(back) < 0 && !rc)
		rc = err_errno(e, errno, "return to the working folder");
	strlist_free(want);
	return rc ? rc : apt_find_files(a, debs, e);
}

void apt_fini(struct apt *a)
{
	for (size_t i = 0; i < a->n; i++) {
		free(a->packages[i].name);
		free(a->packages[i].version);
		free(a->packages[i].arch);
		free(a->packages[i].file);
	}
	free(a->packages);
	a->packages = NULL;
	a->n = 0;
}
