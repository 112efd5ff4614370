/* SPDX-License-Identifier: Apache-2.0 */
#include "image/credentials.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/mem.h"
#include "sys/child.h"
#include "sys/file.h"

#define CREDENTIALS_OWN "auth.json"
#define CREDENTIALS_FILES 6

/* "$base/rest", if @base is set and absolute. */
static void credentials_add(char *paths[CREDENTIALS_FILES], size_t *n, const char *base,
			    const char *rest)
{
	if (base && base[0] == '/' && asprintf(&paths[*n], "%s%s", base, rest) > 0)
		++*n;
}

static size_t credentials_files(const char *home, char *paths[CREDENTIALS_FILES])
{
	const char *user = getenv("HOME"), *config = getenv("XDG_CONFIG_HOME");
	const char *docker = getenv("DOCKER_CONFIG");
	size_t n = 0;

	credentials_add(paths, &n, home, "/" CREDENTIALS_OWN);
	credentials_add(paths, &n, getenv("REGISTRY_AUTH_FILE"), "");
	credentials_add(paths, &n, getenv("XDG_RUNTIME_DIR"), "/containers/auth.json");
	credentials_add(paths, &n, config ? config : user,
			config ? "/containers/auth.json" : "/.config/containers/auth.json");
	credentials_add(paths, &n, docker ? docker : user,
			docker ? "/config.json" : "/.docker/config.json");
	return n;
}

/* docker-credential-NAME in PATH. */
static int credentials_program(const char *helper, char **out, struct err *e)
{
	const char *path = getenv("PATH");

	while (path && *path) {
		size_t n = strcspn(path, ":");

		if (*path == '/' &&
		    asprintf(out, "%.*s/docker-credential-%s", (int)n, path, helper) > 0) {
			if (access(*out, X_OK) == 0)
				return 0;
			free(take_ptr(out));
		}
		path += n + (path[n] == ':');
	}
	return err_set(e, ENOENT, "the credential helper docker-credential-%s is not in PATH",
		       helper);
}

static int credentials_read_all(int fd, char *to, size_t size, size_t *len)
{
	ssize_t n;

	*len = 0;
	while ((n = read(fd, to + *len, size - *len)) != 0) {
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 || *len + (size_t)n >= size)
			return -EINVAL;
		*len += (size_t)n;
	}
	return 0;
}

/* Asks a helper. -ENOENT: it knows none. */
static int credentials_ask(const char *helper, const char *registry, struct credential *out,
			   struct err *e)
{
	auto_close int in = memfd_create("registry", MFD_CLOEXEC), rd = -1, wr = -1;
	static char answer[64 << 10];
	const char *key = authfile_key(registry);
	auto_free char *program = NULL;
	struct child child = CHILD_INIT;
	int rc = credentials_program(helper, &program, e), p[2], status = 0, bad;
	char *argv[] = { program, (char *)"get", NULL };
	size_t len;

	if (rc)
		return rc;
	if (in < 0 || file_write_all(in, key, strlen(key)) || lseek(in, 0, SEEK_SET) < 0 ||
	    pipe2(p, O_CLOEXEC) < 0)
		return err_errno(e, errno, "ask %s", program);
	rd = p[0];
	wr = p[1];
	const struct child_fd fds[] = { { in, STDIN_FILENO }, { wr, STDOUT_FILENO } };
	const struct child_spec spec = {
		.path = program,
		.argv = argv,
		.envp = environ,
		.fds = fds,
		.n_fds = ARRAY_SIZE(fds),
		.die_with_parent = true,
	};
	rc = child_spawn(&spec, &child, e);
	if (rc)
		return rc;
	close_fd(&wr);
	bad = credentials_read_all(rd, answer, sizeof(answer), &len);
	if (bad)
		child_kill(&child);
	else
		child_reap(&child, &status);
	if (status) /* it says in words that it knows none, each in its own */
		return -ENOENT;
	rc = bad ? err_set(e, EINVAL, "an answer of more than 64 KiB")
		 : authfile_helper_parse(answer, len, out, e);
	explicit_bzero(answer, sizeof(answer));
	return rc ? err_wrap(e, "%s", program) : 0;
}

static int credentials_from(const char *file, const char *registry, const char *path,
			    struct credential *out, struct err *e)
{
	struct authfile_match *m = calloc(1, sizeof(*m));
	auto_free char *real = realpath(file, NULL); /* a link to it will do */
	auto_free char *doc = NULL;
	size_t len;
	int rc;

	if (!m)
		return err_errno(e, ENOMEM, "look for a password");
	if (access(file, F_OK) < 0) {
		free(m);
		return -ENOENT;
	}
	rc = file_read_at(AT_FDCWD, real ? real : file, AUTHFILE_MAX, &doc, &len, e);
	if (!rc) {
		rc = authfile_find(doc, len, registry, path, m, e);
		if (rc && rc != -ENOENT)
			err_wrap(e, "%s", file);
		explicit_bzero(doc, len);
	}
	if (!rc && m->helper[0])
		rc = credentials_ask(m->helper, registry, out, e);
	else if (!rc)
		*out = m->credential;
	explicit_bzero(m, sizeof(*m));
	free(m);
	return rc;
}

int credentials_find(const char *home, const char *registry, const char *path,
		     struct credential *out, struct err *e)
{
	char *files[CREDENTIALS_FILES] = { NULL };
	size_t n = credentials_files(home, files);
	int rc = -ENOENT;

	for (size_t i = 0; i < n && rc == -ENOENT && (!e || !e->code); i++)
		rc = credentials_from(files[i], registry, path, out, e);
	for (size_t i = 0; i < n; i++)
		free(files[i]);
	return rc;
}

int credentials_store(const char *home, const char *registry, const struct credential *c,
		      bool *found, struct err *e)
{
	auto_close int dir = open(home, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	auto_free char *doc = NULL;
	auto_free char *text = NULL;
	size_t len = 0;
	int rc = 0;

	/* Two that write at once: the folder itself is the lock. */
	if (dir < 0 || flock(dir, LOCK_EX) < 0)
		return err_errno(e, errno, "open %s", home);
	if (faccessat(dir, CREDENTIALS_OWN, F_OK, 0) == 0)
		rc = file_read_at(dir, CREDENTIALS_OWN, AUTHFILE_MAX, &doc, &len, e);
	*found = false;
	if (rc || (!c && !len))
		return rc;
	text = authfile_update(doc, len, registry, c, found, e);
	if (!text)
		return e ? -e->code : -EINVAL;
	if (!c && !*found)
		return 0;
	return file_write_at(dir, CREDENTIALS_OWN, text, strlen(text), 0600, true, e);
}
