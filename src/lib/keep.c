/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/keep.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "base/mem.h"
#include "codec/frame.h"
#include "lib/client.h"
#include "sys/file.h"
#include "sys/lock.h"
#include "sys/tree.h"

#define KEEP_DIR_FLAGS (O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)
#define KEEP_LOOK_MS 10000 /* one system call of each who looks */
#define KEEP_LISTEN_MS 60000 /* a supervisor that is started: processes, no guest code */

int keep_lock(const char *parent, bool make, int *parent_fd, struct err *e)
{
	auto_close int fd = -1;
	int rc;

	if (make && mkdir(parent, 0700) < 0 && errno != EEXIST)
		return err_errno(e, errno, "cannot make %s", parent);
	fd = open(parent, KEEP_DIR_FLAGS);
	if (fd < 0)
		return err_errno(e, errno, "cannot open %s", parent);
	rc = lock_wait(fd, LOCK_EX, KEEP_LOCK_MS);
	if (rc == -EBUSY)
		return err_set(e, EBUSY,
			       "another msb has been starting or stopping sandboxes in %s for "
			       "over %u s",
			       parent, KEEP_LOCK_MS / 1000);
	if (rc)
		return err_errno(e, -rc, "cannot lock %s", parent);
	*parent_fd = take_fd(&fd);
	return 0;
}

int keep_open(int parent_fd, const char *name, int *dirfd, struct err *e)
{
	int fd = openat(parent_fd, name, KEEP_DIR_FLAGS);

	if (fd < 0)
		return err_errno(e, errno, "sandbox %s", name);
	*dirfd = fd;
	return 0;
}

int keep_claim(int parent_fd, const char *name, bool make, int *dirfd, struct err *e)
{
	auto_close int fd = -1;
	int rc;

	if (make && mkdirat(parent_fd, name, 0700) < 0 && errno != EEXIST)
		return err_errno(e, errno, "cannot make the directory of sandbox %s", name);
	rc = keep_open(parent_fd, name, &fd, e);
	if (rc)
		return rc;
	rc = lock_wait(fd, LOCK_EX, 0);
	/* Where others have it shared they only look whether it runs, see keep_running(). */
	if (rc == -EBUSY && !flock(fd, LOCK_SH | LOCK_NB))
		rc = lock_wait(fd, LOCK_EX, KEEP_LOOK_MS);
	if (rc == -EBUSY)
		return err_set(e, EBUSY, "sandbox %s is running", name);
	if (rc)
		return err_errno(e, -rc, "cannot lock the directory of %s", name);
	*dirfd = take_fd(&fd);
	return 0;
}

int keep_running(int dirfd)
{
	/* An open description of our own: a lock that we took is not taken for a supervisor's. */
	auto_close int fd = openat(dirfd, ".", KEEP_DIR_FLAGS);

	if (fd < 0)
		return -errno;
	if (!flock(fd, LOCK_SH | LOCK_NB))
		return 0;
	return errno == EWOULDBLOCK ? 1 : -errno;
}

static int keep_write_command(int dirfd, const struct box_command *command, struct err *e)
{
	auto_free char *text = NULL;
	int rc;

	if (!command)
		return unlinkat(dirfd, BOX_COMMAND_FILE, 0) < 0 && errno != ENOENT
			       ? err_errno(e, errno, "cannot remove " BOX_COMMAND_FILE)
			       : 0;
	rc = box_command_format(command, &text, e);
	return rc ? rc : file_write_at(dirfd, BOX_COMMAND_FILE, text, strlen(text), 0600, false, e);
}

/* A supervisor that could not start says why in its first frame, which is left unread if not. */
static int keep_await_listening(struct launch *l, struct err *e)
{
	struct pollfd p = { .fd = l->fd, .events = POLLIN };
	struct frame_sandbox_state state;
	uint8_t bytes[4096];
	char text[1024];
	struct frame f;
	ssize_t n;
	int ready;

	do
		ready = poll(&p, 1, KEEP_LISTEN_MS);
	while (ready < 0 && errno == EINTR);
	n = ready == 1 ? recv(l->fd, bytes, sizeof(bytes), MSG_PEEK | MSG_DONTWAIT) : 0;
	if (n <= 0 || frame_parse(bytes, (size_t)n, &f) <= 0 || f.type != FRAME_SANDBOX_STATE ||
	    frame_decode(&f, &state, sizeof(state)))
		return err_set(e, EIO, "the sandbox's supervisor %s, see log/supervisor.log in %s",
			       ready ? "ended unexpectedly" : "does not answer", l->dir);
	if (state.state != SANDBOX_STOPPED)
		return 0;
	if (frame_str_copy(&state.detail, text, sizeof(text)) || !text[0])
		snprintf(text, sizeof(text), "the sandbox could not be started");
	return err_set(e, state.code ? (int)state.code : EIO, "%s", text);
}

int keep_start(const char *parent, int dirfd, struct sandbox_config *cfg,
	       const struct box_command *command, struct launch *out, struct err *e)
{
	struct launch l = LAUNCH_INIT;
	int status, rc = keep_write_command(dirfd, command, e);

	if (!rc)
		rc = launch_kept(parent, dirfd, cfg, &l, e);
	if (rc)
		return rc;
	rc = keep_await_listening(&l, e);
	if (rc) {
		close_fd(&l.fd);
		if (rc == -EIO)
			child_kill(&l.supervisor);
		else
			child_reap(&l.supervisor, &status);
		free(l.dir);
		return rc;
	}
	*out = l;
	return 0;
}

int keep_connect(int dirfd, int *out, struct err *e)
{
	struct err why = ERR_INIT;
	int rc = client_connect(dirfd, out, &why);

	if (rc == -ENOENT || rc == -ECONNREFUSED)
		return err_set(e, ECONNREFUSED, "the sandbox is ending");
	return rc ? err_set(e, why.code, "%s", err_text(&why)) : 0;
}

int keep_wait(int dirfd, unsigned timeout_ms, struct err *e)
{
	auto_close int fd = openat(dirfd, ".", KEEP_DIR_FLAGS);
	int rc;

	if (fd < 0)
		return errno == ENOENT ? 0 : err_errno(e, errno, "the sandbox's directory");
	rc = lock_wait(fd, LOCK_EX, timeout_ms);
	if (rc == -EBUSY)
		return err_set(e, EBUSY, "the sandbox has not ended within %u s", timeout_ms / 1000);
	return rc ? err_errno(e, -rc, "cannot wait for the sandbox's end") : 0;
}

int keep_remove(int parent_fd, const char *name, struct err *e)
{
	auto_close int fd = -1;
	int rc = keep_claim(parent_fd, name, false, &fd, e);

	if (rc)
		return rc;
	rc = tree_remove(parent_fd, name);
	return rc ? err_errno(e, -rc, "cannot remove what sandbox %s wrote", name) : 0;
}

int keep_state(int dirfd, struct box_state *out, struct err *e)
{
	auto_free char *text = NULL;
	size_t len;
	int rc = file_read_at(dirfd, BOX_STATE_FILE, BOX_STATE_MAX, &text, &len, e);

	return rc ? rc : box_state_parse(text, len, out, e);
}

int keep_config(int dirfd, struct sandbox_config *out, struct err *e)
{
	auto_free char *text = NULL;
	size_t len;
	int rc = file_read_at(dirfd, SANDBOX_CONFIG_FILE, SANDBOX_CONFIG_MAX, &text, &len, e);

	return rc ? rc : sandbox_config_parse(text, len, out, e);
}

static int keep_filter(const struct dirent *d)
{
	return d->d_name[0] != '.';
}

int keep_each(int parent_fd, void (*fn)(void *ctx, const char *name, int dirfd), void *ctx,
	      struct err *e)
{
	struct dirent **names;
	int n = scandirat(parent_fd, ".", &names, keep_filter, alphasort);

	if (n < 0)
		return err_errno(e, errno, "cannot read the directory of sandboxes");
	for (int i = 0; i < n; i++) {
		auto_close int fd = openat(parent_fd, names[i]->d_name, KEEP_DIR_FLAGS);

		if (fd >= 0)
			fn(ctx, names[i]->d_name, fd);
		free(names[i]);
	}
	free(names);
	return 0;
}
