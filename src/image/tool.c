/* SPDX-License-Identifier: Apache-2.0 */
#include "image/tool.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "sys/parts.h"

#define TOOL_TREE_OUT_MAX (1ull << 30)

static enum jail_mode tool_jail = JAIL_FULL;

void tool_set_jail(enum jail_mode mode)
{
	tool_jail = mode;
}

enum jail_mode tool_jail_mode(void)
{
	return tool_jail;
}

int tool_spawn_self(char *const *argv, const struct child_fd *fds, size_t n_fds,
		    uint64_t max_file_bytes, unsigned max_fds, struct child *out, struct err *e)
{
	auto_free char *self = NULL;
	int rc = parts_self(&self, e);
	const struct jail_bind binds[] = {
		{ "/usr", "/usr", true, false },
		{ "/lib", "/lib", true, true },
		{ "/lib64", "/lib64", true, true },
		{ "/etc/ld.so.cache", "/etc/ld.so.cache", false, true },
		{ self, "/msb-image", true, false },
	};
	const struct jail jail = {
		.mode = tool_jail,
		.binds = binds,
		.n_binds = ARRAY_SIZE(binds),
		.max_file_bytes = max_file_bytes,
		.max_fds = max_fds,
		.max_processes = 2,
	};
	const struct child_spec spec = {
		.path = tool_jail == JAIL_FULL ? "/msb-image" : self,
		.argv = argv,
		.fds = fds,
		.n_fds = n_fds,
		.jail = &jail,
		.die_with_parent = true,
	};

	if (rc)
		return rc;
	rc = child_spawn(&spec, out, e);
	if (rc && tool_jail == JAIL_FULL)
		err_wrap(
			e,
			"cannot jail the image converter (--jail=reduced does without namespaces)");
	return rc;
}

int tool_spawn_tree(const char *tree, char *const *argv, char *const *env,
		    const struct child_fd *fds, size_t n_fds, struct child *out, struct err *e)
{
	const struct jail_bind binds[] = { { tree, tree, true, false } };
	const struct jail jail = {
		.mode = tool_jail,
		.binds = binds,
		.n_binds = ARRAY_SIZE(binds),
		.max_file_bytes = TOOL_TREE_OUT_MAX,
		.max_fds = 64,
		.max_processes = 8,
	};
	const struct child_spec spec = {
		.path = argv[0],
		.argv = argv,
		.envp = env,
		.fds = fds,
		.n_fds = n_fds,
		.jail = &jail,
		.die_with_parent = true,
	};

	return child_spawn(&spec, out, e);
}

/* What Debian's tools may see of our environment: how to reach the mirror. */
static const char *const tool_env[] = { "http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY",
					"no_proxy",   "NO_PROXY",    "APT_CONFIG" };

int tool_spawn(const struct tool *t, struct child *out, struct err *e)
{
	static const char *const folders[] = { "/usr/bin", "/bin", "/usr/sbin", "/sbin" };
	char *env[ARRAY_SIZE(tool_env) + 3] = { (char *)"PATH=/usr/sbin:/usr/bin:/sbin:/bin",
						(char *)"LC_ALL=C.UTF-8" };
	char path[64];
	size_t n = 2, i;
	struct child_spec spec = {
		.path = path,
		.argv = t->argv,
		.envp = env,
		.fds = t->fds,
		.n_fds = t->n_fds,
		.die_with_parent = true,
	};
	int rc;

	for (i = 0; i < ARRAY_SIZE(folders); i++) {
		snprintf(path, sizeof(path), "%s/%s", folders[i], t->name);
		if (access(path, X_OK) == 0)
			break;
	}
	if (i == ARRAY_SIZE(folders))
		return err_set(
			e, ENOENT,
			"%s is not installed; a recipe is built with Debian's tools: install "
			"the package %s",
			t->name, t->package);
	for (i = 0; i < ARRAY_SIZE(tool_env); i++) {
		const char *v = getenv(tool_env[i]);

		if (v && asprintf(&env[n], "%s=%s", tool_env[i], v) > 0)
			n++;
	}
	env[n] = NULL;
	rc = child_spawn(&spec, out, e);
	while (n > 2)
		free(env[--n]);
	return rc;
}
