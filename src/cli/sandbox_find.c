/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/sandbox_find.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "cli/cli.h"
#include "codec/sandbox_config.h"
#include "lib/launch.h"
#include "server/server.h"
#include "sys/file.h"
#include "sys/parts.h"

#define FIND_DIR (O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)

struct find_run {
	const char *name;
	int fd, found;
};

/* A sandbox of msx: its directory has a name of its own. */
static void find_one(void *ctx, const char *id, int dirfd)
{
	struct find_run *r = ctx;
	struct sandbox_config cfg = { .name = NULL };
	auto_free char *text = NULL;
	size_t len;

	(void)id;
	if (file_read_at(dirfd, SANDBOX_CONFIG_FILE, SANDBOX_CONFIG_MAX, &text, &len, NULL) ||
	    sandbox_config_parse(text, len, &cfg, NULL))
		return;
	if (!strcmp(cfg.name, r->name)) {
		r->found++;
		if (r->fd < 0)
			r->fd = fcntl(dirfd, F_DUPFD_CLOEXEC, 0);
	}
	sandbox_config_fini(&cfg);
}

static int find_server(const struct sandbox_find *f, const char *home)
{
	struct server_info info = { .pid = 0 };
	auto_free char *dir = NULL;
	int rc;

	if (!f->path && (server_find(home, &info, NULL) || !info.path[0]))
		rc = asprintf(&dir, "%s/projects/%s/menv/%s", home, f->ns ? f->ns : "default",
			      f->name);
	else
		rc = asprintf(&dir, "%s/%s/menv/%s", f->path ? f->path : info.path,
			      f->ns ? f->ns : "default", f->name);
	if (rc < 0)
		dir = NULL;
	return dir ? open(dir, FIND_DIR) : -1;
}

int sandbox_find(const struct sandbox_find *f, struct err *e)
{
	struct find_run run = { .name = f->name, .fd = -1 };
	auto_free char *home = NULL, *parent = NULL;
	int fd, rc;

	if (strchr(f->name, '/')) {
		fd = open(f->name, FIND_DIR);
		return fd < 0 ? err_errno(e, errno, "%s", f->name) : fd;
	}
	if (!cli_is_name(f->name))
		return err_set(e, EINVAL, "'%s' is no name of a sandbox", f->name);
	rc = parts_home(&home, e);
	if (rc)
		return rc;
	fd = find_server(f, home);
	if (f->ns || f->path) {
		if (fd < 0)
			err_set(e, ENOENT, "no sandbox %s runs in namespace %s", f->name,
				f->ns ? f->ns : "default");
		return fd < 0 ? -ENOENT : fd;
	}
	if (asprintf(&parent, "%s/run", home) < 0)
		parent = NULL;
	if (parent)
		launch_each(parent, find_one, &run);
	if (run.found + (fd >= 0) == 1)
		return fd >= 0 ? fd : run.fd;
	close_fd(&fd);
	close_fd(&run.fd);
	if (run.found)
		return err_set(e, EEXIST,
			       "there is more than one sandbox %s: give its directory, or "
			       "--namespace",
			       f->name);
	return err_set(e, ENOENT, "no sandbox %s runs here", f->name);
}
