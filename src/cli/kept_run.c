/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/kept_run.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/mem.h"
#include "cli/cli.h"
#include "cli/session.h"
#include "engine/engine.h"
#include "lib/keep.h"

/* One that is ending is waited for, but not for ever if others start and end it all the time. */
#define KEPT_RUN_TRIES 20

static bool kept_noticed; /* the engine's notice was printed: once is enough */

static const char *kept_base(const char *path)
{
	const char *slash = path ? strrchr(path, '/') : NULL;

	return slash ? slash + 1 : path ? path : "";
}

/*
 * What a sandbox wrote lies over the image that it was made from, and makes no sense over another
 * one; and its disk keeps the size that it was made with.
 */
static int kept_check_disk(struct kept_run *r, int dirfd, struct err *e)
{
	struct sandbox_config old = { .name = NULL };
	struct stat st;
	int rc = 0;

	if (fstatat(dirfd, SANDBOX_UPPER_FILE, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return errno == ENOENT ? 0 : err_errno(e, errno, SANDBOX_UPPER_FILE);
	if (!r->quiet && (uint64_t)st.st_size != r->cfg->disk_bytes)
		cli_notice("the disk of %s keeps its size of %lld MiB (msb clean %s makes a new "
			   "one)",
			   r->name, (long long)(st.st_size >> 20), r->name);
	if (r->keep_disk || keep_config(dirfd, &old, NULL))
		return 0;
	/* The file's name says what is in the image; the store may have been moved. */
	if (strcmp(kept_base(old.image_path), kept_base(r->cfg->image_path)))
		rc = err_set(e, ESTALE,
			     "sandbox %s was made from another image (%s, now %s): start afresh "
			     "with `msb clean %s`, or go on with what it wrote with --keep-disk",
			     r->name, old.image, r->cfg->image, r->name);
	sandbox_config_fini(&old);
	return rc;
}

static int kept_start_claimed(struct kept_run *r, int dirfd, bool own, struct launch *l,
			      struct err *e)
{
	const struct engine_ops *engine;
	char notice[ENGINE_NOTICE_MAX];
	int rc;

	if (!r->cfg->name && !(r->cfg->name = strdup(r->name)))
		return err_errno(e, ENOMEM, "sandbox %s", r->name);
	rc = engine_choose(r->cfg->engine, &engine, notice, sizeof(notice), e);
	if (!rc)
		rc = kept_check_disk(r, dirfd, e);
	if (!rc && r->project) {
		secret_list_fini(&r->cfg->secrets);
		rc = project_secrets(r->project, r->entry, &r->cfg->secrets, e);
	}
	if (rc)
		return rc;
	if (notice[0] && !r->quiet && !kept_noticed)
		cli_notice("%s", notice);
	kept_noticed = true;
	rc = keep_start(r->parent, dirfd, r->cfg, own ? r->command : NULL, l, e);
	return rc ? err_wrap(e, "sandbox %s", r->name) : 0;
}

/*
 * Starts it or, if it runs, connects to it.  Return: 0; -EAGAIN: it is at its end, which was waited
 * for.  @conn: a connection to it; if it was started that of its owner.
 */
static int kept_reach(struct kept_run *r, bool own, int *conn, bool *joined, struct err *e)
{
	struct launch l = LAUNCH_INIT;
	auto_close int parent_fd = -1;
	auto_close int dirfd = -1;
	struct err why = ERR_INIT;
	int rc = keep_lock(r->parent, !r->only_running, &parent_fd, &why);

	if (rc && !(r->only_running && rc == -ENOENT))
		return err_set(e, why.code, "%s", err_text(&why));
	if (!rc)
		rc = keep_claim(parent_fd, r->name, !r->only_running, &dirfd, &why);
	*joined = rc == -EBUSY;
	if (r->only_running && (!rc || rc == -ENOENT))
		return err_set(e, ESRCH,
			       "sandbox %s is not running: start it with msb up %s, or "
			       "use msb run",
			       r->name, r->name);
	if (!rc) {
		rc = kept_start_claimed(r, dirfd, own, &l, e);
		*conn = l.fd;
		close_fd(&l.supervisor.pidfd);
		free(l.dir);
		return rc;
	}
	if (rc != -EBUSY || (rc = keep_open(parent_fd, r->name, &dirfd, &why)))
		return err_set(e, why.code, "%s", err_text(&why));
	rc = keep_connect(dirfd, conn, &why);
	if (rc != -ECONNREFUSED)
		return rc ? err_set(e, why.code, "%s", err_text(&why)) : 0;
	close_fd(&parent_fd);
	rc = keep_wait(dirfd, KEEP_END_MS, e);
	return rc ? rc : -EAGAIN;
}

int kept_start(struct kept_run *r, bool own, bool *already, int *conn, struct err *e)
{
	int rc = -EAGAIN;

	r->cfg->detached = true;
	for (int i = 0; rc == -EAGAIN && i < KEPT_RUN_TRIES; i++)
		rc = kept_reach(r, own, conn, already, e);
	return rc == -EAGAIN ? err_set(e, EAGAIN, "sandbox %s does not come to rest", r->name) : rc;
}

/* Waits until a sandbox that has ended, or is about to, is gone. */
static int kept_await_end(const struct kept_run *r, struct err *e)
{
	auto_close int parent_fd = open(r->parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	auto_close int dirfd = -1;

	if (parent_fd < 0 || keep_open(parent_fd, r->name, &dirfd, NULL))
		return 0;
	return keep_wait(dirfd, KEEP_END_MS, e);
}

static int kept_fill_exec(const struct kept_run *r, struct frame_exec *exec, struct buf *argv,
			  struct buf *env, struct err *e)
{
	const struct {
		char **v;
		struct buf *b;
		struct frame_list *list;
	} lists[] = {
		{ r->command->argv, argv, &exec->argv },
		{ r->command->env, env, &exec->env },
	};

	exec->timeout_ms = r->timeout_ms;
	exec->cwd = frame_str_of(r->command->cwd);
	exec->user = frame_str_of(r->command->user);
	for (size_t i = 0; i < ARRAY_SIZE(lists); i++) {
		for (char **p = lists[i].v; p && *p; p++)
			if (frame_list_add(lists[i].b, lists[i].list, *p, strlen(*p)))
				return err_set(e, E2BIG,
					       "arguments and environment are too long (limit %u "
					       "bytes together)",
					       FRAME_BODY_MAX);
		frame_list_end(lists[i].b, lists[i].list);
	}
	return 0;
}

static int kept_run_once(struct kept_run *r, const struct frame_exec *exec, struct err *e)
{
	struct session_spec spec = {
		.fd = -1,
		.exec = exec,
		.what = r->name,
		.tty = r->tty,
		.quiet = r->quiet,
		.timeout_ms = r->timeout_ms,
		.hold = true,
	};
	int status, rc = kept_reach(r, false, &spec.fd, &spec.joined, e);

	if (rc == -EAGAIN)
		return SESSION_AGAIN;
	if (rc)
		return cli_fail(e);
	status = session_run(&spec);
	if ((status == SESSION_AGAIN || spec.ended) && kept_await_end(r, e)) {
		if (status == SESSION_AGAIN)
			return cli_fail(e);
		cli_notice("%s", err_text(e));
	}
	return status;
}

int kept_run(struct kept_run *r)
{
	struct frame_exec exec = { .timeout_ms = 0 };
	struct buf argv = BUF_INIT, env = BUF_INIT;
	struct err e = ERR_INIT;
	int status = SESSION_AGAIN;

	r->cfg->detached = false;
	if (kept_fill_exec(r, &exec, &argv, &env, &e))
		status = cli_fail(&e);
	for (int i = 0; status == SESSION_AGAIN && i < KEPT_RUN_TRIES; i++)
		status = kept_run_once(r, &exec, &e);
	if (status == SESSION_AGAIN) {
		cli_error("sandbox %s does not come to rest", r->name);
		status = CLI_FAILED;
	}
	buf_fini(&argv);
	buf_fini(&env);
	return status;
}
