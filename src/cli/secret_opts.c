/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/secret_opts.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/mem.h"

/* A file with the value; one line end behind it is not part of it. */
static int secret_opts_file(struct secret *s, const char *path, struct err *e)
{
	auto_close int fd = open(path, O_RDONLY | O_CLOEXEC);
	char text[SECRET_VALUE_MAX + 3];
	size_t len = 0;
	ssize_t n = 0;
	int rc;

	if (fd < 0)
		return err_errno(e, errno, "secret %s: %s", s->name, path);
	while (len < sizeof(text) && (n = read(fd, text + len, sizeof(text) - len)) > 0)
		len += (size_t)n;
	if (n < 0)
		return err_errno(e, errno, "secret %s: %s", s->name, path);
	if (len && text[len - 1] == '\n')
		len -= len > 1 && text[len - 2] == '\r' ? 2 : 1;
	rc = secret_set_value(s, text, len, e);
	explicit_bzero(text, sizeof(text));
	return rc;
}

static int secret_opts_value(struct secret *s, const struct secret_source *from, struct err *e)
{
	auto_free char *what = strndup(from->what, from->len);
	const char *value;

	if (!what)
		return err_errno(e, ENOMEM, "secret");
	if (from->from == SECRET_FROM_FILE)
		return secret_opts_file(s, what, e);
	value = getenv(what);
	if (!value)
		return err_set(e, EINVAL,
			       "secret %s: the environment variable %s is not set; or write "
			       "%s=file:PATH@…",
			       s->name, what, s->name);
	return secret_set_value(s, value, strlen(value), e);
}

int secret_opts_add(const struct cli_command *cmd, const char *value, struct secret_list *l)
{
	static const struct rlimit none = { 0, 0 };
	struct secret s = { .value = NULL };
	struct secret_source from;
	struct err e = ERR_INIT;
	int rc;

	/* Not PR_SET_DUMPABLE: an ordinary user's jails could not be made then. */
	setrlimit(RLIMIT_CORE, &none);
	rc = secret_parse(value, &s, &from, &e);
	if (!rc)
		rc = secret_opts_value(&s, &from, &e);
	if (rc)
		secret_fini(&s);
	else
		rc = secret_list_add(l, &s, &e);
	/* What was typed may hold a value: only the message is printed. */
	return rc ? cli_usage(cmd, "--secret: %s", err_text(&e)) : 0;
}

int secret_opts_env(const struct secret_list *l, struct buf *bytes, struct frame_list *env)
{
	char text[SECRET_ENV_MAX];
	int rc = 0;

	for (unsigned i = 0; i < l->n && !rc; i++) {
		secret_env(&l->v[i], text);
		rc = frame_list_add(bytes, env, text, strlen(text));
	}
	return rc;
}
