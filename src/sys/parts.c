/* SPDX-License-Identifier: Apache-2.0 */
#include "sys/parts.h"

#include <errno.h>
#include <limits.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"

int parts_self(char **out, struct err *e)
{
	char path[PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", path, sizeof(path) - 1);

	if (n < 0)
		return err_errno(e, errno, "cannot find my own program: read /proc/self/exe");
	path[n] = '\0';
	*out = strdup(path);
	return *out ? 0 : err_errno(e, ENOMEM, "my own path");
}

int parts_path(const char *name, char **out, struct err *e)
{
	auto_free char *self = NULL;
	auto_free char *path = NULL;
	const char *part = "/lib/microsandbox";
	char *slash;
	int rc = parts_self(&self, e);

	if (rc)
		return rc;
	slash = strrchr(self, '/');
	*slash = '\0';
	/* PREFIX/bin/msb, or a part itself: PREFIX/lib/microsandbox/msb-image */
	if (strlen(self) > strlen(part) && !strcmp(self + strlen(self) - strlen(part), part))
		rc = asprintf(&path, "%s/%s", self, name);
	else if ((slash = strrchr(self, '/')))
		rc = asprintf(&path, "%.*s%s/%s", (int)(slash - self), self, part, name);
	else
		rc = asprintf(&path, "%s/%s", part, name);
	if (rc < 0)
		return err_errno(e, ENOMEM, "path of %s", name);
	*out = take_ptr(&path);
	return 0;
}

int parts_home(char **out, struct err *e)
{
	const char *env = getenv("MICROSANDBOX_HOME"), *home = getenv("HOME");
	auto_free char *path = NULL;
	const struct passwd *pw;

	if (env && *env) {
		if (env[0] != '/')
			return err_set(e, EINVAL,
				       "MICROSANDBOX_HOME is '%s': give an absolute path", env);
		path = strdup(env);
	} else {
		if (!home || home[0] != '/') {
			pw = getpwuid(getuid());
			home = pw ? pw->pw_dir : NULL;
		}
		if (!home || home[0] != '/')
			return err_set(e, ENOENT,
				       "no home directory: set HOME or MICROSANDBOX_HOME");
		if (asprintf(&path, "%s/.microsandbox", home) < 0)
			path = NULL;
	}
	if (!path)
		return err_errno(e, ENOMEM, "home directory");
	if (mkdir(path, 0700) < 0 && errno != EEXIST)
		return err_errno(e, errno,
				 "cannot make %s (set MICROSANDBOX_HOME to a directory that "
				 "you may write)",
				 path);
	*out = take_ptr(&path);
	return 0;
}
