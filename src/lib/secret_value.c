/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/secret_value.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/mem.h"

/* Not PR_SET_DUMPABLE: an ordinary user's jails could not be made then. */
static void secret_value_no_core(void)
{
	static const struct rlimit none = { 0, 0 };

	setrlimit(RLIMIT_CORE, &none);
}

int secret_value_read(struct secret *s, const char *path, struct err *e)
{
	auto_close int fd = open(path, O_RDONLY | O_CLOEXEC);
	char text[SECRET_VALUE_MAX + 3];
	size_t len = 0;
	ssize_t n = 0;
	int rc;

	if (fd < 0)
		return err_errno(e, errno, "secret %s: %s", s->name, path);
	secret_value_no_core();
	while (len < sizeof(text) && (n = read(fd, text + len, sizeof(text) - len)) > 0)
		len += (size_t)n;
	if (len && text[len - 1] == '\n')
		len -= len > 1 && text[len - 2] == '\r' ? 2 : 1;
	rc = n < 0 ? err_errno(e, errno, "secret %s: %s", s->name, path)
		   : secret_set_value(s, text, len, e);
	explicit_bzero(text, sizeof(text));
	return rc;
}

int secret_value_find(struct secret *s, const struct secret_source *from, struct err *e)
{
	auto_free char *what = strndup(from->what, from->len);
	const char *value;

	if (!what)
		return err_errno(e, ENOMEM, "secret");
	secret_value_no_core();
	if (from->from == SECRET_FROM_FILE)
		return secret_value_read(s, what, e);
	value = getenv(what);
	if (!value)
		return err_set(e, EINVAL,
			       "secret %s: the environment variable %s is not set; or write "
			       "%s=file:PATH@…",
			       s->name, what, s->name);
	return secret_set_value(s, value, strlen(value), e);
}
