/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/launch.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "base/mem.h"
#include "lib/listen.h"
#include "sys/file.h"
#include "sys/parts.h"
#include "sys/tree.h"

/* Fixed numbers in the supervisor's command line. */
#define LAUNCH_DIR_FD 3
#define LAUNCH_OWNER_FD 4
#define LAUNCH_PORTS_FD 5 /* the first of them */
#define LAUNCH_SECRETS_FD (LAUNCH_PORTS_FD + (int)PUBLISH_MAX)

/* Opens and locks <home>/run: whoever makes or sweeps directories there holds it. */
static int launch_lock_run(const char *home, int *out, struct err *e)
{
	auto_free char *path = NULL;
	auto_close int fd = -1;

	if (asprintf(&path, "%s/run", home) < 0)
		return err_errno(e, ENOMEM, "run directory");
	if (mkdir(path, 0700) < 0 && errno != EEXIST)
		return err_errno(e, errno, "cannot make %s", path);
	fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0 || flock(fd, LOCK_EX) < 0)
		return err_errno(e, errno, "cannot lock %s", path);
	*out = take_fd(&fd);
	return 0;
}

static unsigned launch_sweep_locked(int run_fd)
{
	int scan_fd = openat(run_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = scan_fd >= 0 ? fdopendir(scan_fd) : NULL;
	unsigned removed = 0;
	struct dirent *d;

	if (!dir) {
		close_fd(&scan_fd);
		return 0;
	}
	while ((d = readdir(dir))) {
		auto_close int fd = -1;

		if (d->d_name[0] == '.')
			continue;
		fd = openat(run_fd, d->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		if (fd >= 0 && !flock(fd, LOCK_EX | LOCK_NB) && !tree_remove(run_fd, d->d_name))
			removed++;
	}
	closedir(dir);
	return removed;
}

unsigned launch_sweep(const char *home)
{
	auto_close int run_fd = -1;

	return launch_lock_run(home, &run_fd, NULL) ? 0 : launch_sweep_locked(run_fd);
}

static int launch_random_id(char *to, size_t size, struct err *e)
{
	uint8_t bytes[6];
	size_t n = 0;

	if (getrandom(bytes, sizeof(bytes), 0) != sizeof(bytes))
		return err_errno(e, errno, "getrandom");
	for (size_t i = 0; i < sizeof(bytes); i++)
		n += (size_t)snprintf(to + n, size - n, "%02x", bytes[i]);
	return 0;
}

/* Makes and locks the sandbox's directory; the lock lives in the descriptor. */
static int launch_make_dir(const char *home, struct sandbox_config *cfg, struct launch *l,
			   int *dirfd, struct err *e)
{
	auto_close int run_fd = -1;
	auto_close int fd = -1;
	char id[32];
	int rc;

	if ((rc = launch_lock_run(home, &run_fd, e)) || (rc = launch_random_id(id, sizeof(id), e)))
		return rc;
	launch_sweep_locked(run_fd);
	if (asprintf(&l->dir, "%s/run/%s", home, id) < 0) {
		l->dir = NULL;
		return err_errno(e, ENOMEM, "sandbox directory");
	}
	if (!cfg->name && !(cfg->name = strdup(id)))
		return err_errno(e, ENOMEM, "sandbox name");
	if (mkdirat(run_fd, id, 0700) < 0)
		return err_errno(e, errno, "cannot make %s", l->dir);
	fd = openat(run_fd, id, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0 || flock(fd, LOCK_EX | LOCK_NB) < 0)
		return err_errno(e, errno, "cannot lock %s", l->dir);
	*dirfd = take_fd(&fd);
	return 0;
}

static int launch_write_config(const struct sandbox_config *cfg, int dirfd, struct err *e)
{
	auto_free char *text = NULL;
	int rc = sandbox_config_format(cfg, &text, e);

	return rc ? rc
		  : file_write_at(dirfd, SANDBOX_CONFIG_FILE, text, strlen(text), 0600, false, e);
}

/* *@out: a sealed file in memory with the secrets; -1 = there are none. */
static int launch_secrets(const struct secret_list *secrets, int *out, struct err *e)
{
	auto_close int fd = -1;
	struct buf text;
	int rc;

	*out = -1;
	if (!secrets->n)
		return 0;
	buf_init_secret(&text, SECRET_TEXT_MAX);
	fd = memfd_create("secrets", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	rc = fd < 0 ? -errno : secret_list_format(secrets, &text);
	if (!rc && write(fd, buf_data(&text), buf_len(&text)) != (ssize_t)buf_len(&text))
		rc = -EIO;
	if (!rc && fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL))
		rc = -errno;
	buf_fini(&text);
	if (rc)
		return err_errno(e, -rc, "secrets");
	*out = take_fd(&fd);
	return 0;
}

/* @ports: the bound sockets of published ports. */
static int launch_spawn(struct launch *l, int dirfd, bool detached, const int *ports,
			size_t n_ports, int secrets_fd, struct err *e)
{
	auto_free char *self = NULL;
	auto_close int theirs = -1;
	char dir_fd_text[12], owner_fd_text[12], ports_fd_text[12], secrets_fd_text[12];
	struct child_fd fds[4 + PUBLISH_MAX];
	size_t n_fds = 0;
	int sv[2], rc = parts_self(&self, e);

	if (rc)
		return rc;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv) < 0)
		return err_errno(e, errno, "socketpair");
	l->fd = sv[0];
	theirs = sv[1];
	snprintf(dir_fd_text, sizeof(dir_fd_text), "%d", LAUNCH_DIR_FD);
	snprintf(owner_fd_text, sizeof(owner_fd_text), "%d", LAUNCH_OWNER_FD);
	snprintf(ports_fd_text, sizeof(ports_fd_text), "%d", LAUNCH_PORTS_FD);
	snprintf(secrets_fd_text, sizeof(secrets_fd_text), "%d", LAUNCH_SECRETS_FD);
	char *argv[] = { (char *)"msb",
			 (char *)"supervise",
			 (char *)"--dir-fd",
			 dir_fd_text,
			 (char *)"--owner-fd",
			 owner_fd_text,
			 (char *)"--ports-fd",
			 ports_fd_text,
			 l->dir,
			 secrets_fd < 0 ? NULL : (char *)"--secrets-fd",
			 secrets_fd_text,
			 NULL };
	fds[n_fds++] = (struct child_fd){ dirfd, LAUNCH_DIR_FD };
	fds[n_fds++] = (struct child_fd){ theirs, LAUNCH_OWNER_FD };
	for (size_t i = 0; i < n_ports; i++)
		fds[n_fds++] = (struct child_fd){ ports[i], LAUNCH_PORTS_FD + (int)i };
	if (secrets_fd >= 0)
		fds[n_fds++] = (struct child_fd){ secrets_fd, LAUNCH_SECRETS_FD };
	/* A detached one must not hold our standard error open. */
	if (!detached)
		fds[n_fds++] = (struct child_fd){ STDERR_FILENO, STDERR_FILENO };
	const struct child_spec spec = {
		.path = self,
		.argv = argv,
		.fds = fds,
		.n_fds = n_fds,
		.new_session = true,
	};
	return child_spawn(&spec, &l->supervisor, e);
}

/* Binds the published ports, writes config.json with what was chosen, and starts it. */
static int launch_start(struct launch *l, int dirfd, struct sandbox_config *cfg, bool detached,
			struct err *e)
{
	int ports[PUBLISH_MAX], rc = listen_open(&cfg->ports, ports, e);
	auto_close int secrets_fd = -1;

	if (rc)
		return rc;
	rc = launch_write_config(cfg, dirfd, e);
	if (!rc)
		rc = launch_secrets(&cfg->secrets, &secrets_fd, e);
	if (!rc)
		rc = launch_spawn(l, dirfd, detached, ports, cfg->ports.n, secrets_fd, e);
	listen_close(ports, cfg->ports.n);
	return rc;
}

static void launch_discard(struct launch *l)
{
	close_fd(&l->fd);
	if (l->dir)
		tree_remove(AT_FDCWD, l->dir);
	free(take_ptr(&l->dir));
}

int launch_ephemeral(const char *home, struct sandbox_config *cfg, struct launch *out, struct err *e)
{
	struct launch l = LAUNCH_INIT;
	auto_close int dirfd = -1;
	int rc;

	cfg->ephemeral = true;
	prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
	if ((rc = launch_make_dir(home, cfg, &l, &dirfd, e)) ||
	    (rc = launch_start(&l, dirfd, cfg, false, e))) {
		launch_discard(&l);
		return rc;
	}
	*out = l;
	return 0;
}

/* Opens and locks <parent>: whoever makes or removes a sandbox's directory there holds it. */
static int launch_lock_parent(const char *parent, int *out, struct err *e)
{
	auto_close int fd = open(parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0 || flock(fd, LOCK_EX) < 0)
		return err_errno(e, errno, "cannot lock %s", parent);
	*out = take_fd(&fd);
	return 0;
}

/* Return: 0 if nothing is there any more; -EBUSY if a supervisor holds it. */
static int launch_remove_at(int parent_fd, const char *name)
{
	auto_close int fd =
		openat(parent_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

	if (fd < 0)
		return errno == ENOENT ? 0 : -errno;
	if (flock(fd, LOCK_EX | LOCK_NB) < 0)
		return errno == EWOULDBLOCK ? -EBUSY : -errno;
	return tree_remove(parent_fd, name);
}

int launch_claim(const char *parent, const char *name, int *dirfd, struct err *e)
{
	auto_close int parent_fd = -1;
	auto_close int fd = -1;
	int rc = launch_lock_parent(parent, &parent_fd, e);

	if (rc)
		return rc;
	rc = launch_remove_at(parent_fd, name);
	if (rc == -EBUSY)
		return err_set(e, EBUSY, "sandbox %s is running already", name);
	if (rc)
		return err_errno(e, -rc, "cannot remove what is left of %s/%s", parent, name);
	if (mkdirat(parent_fd, name, 0700) < 0)
		return err_errno(e, errno, "cannot make %s/%s", parent, name);
	fd = openat(parent_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0 || flock(fd, LOCK_EX | LOCK_NB) < 0)
		return err_errno(e, errno, "cannot lock %s/%s", parent, name);
	*dirfd = take_fd(&fd);
	return 0;
}

static int launch_claimed(const char *parent, int dirfd, struct sandbox_config *cfg,
			  struct launch *out, struct err *e)
{
	struct launch l = LAUNCH_INIT;
	int rc;

	cfg->ephemeral = true;
	if (asprintf(&l.dir, "%s/%s", parent, cfg->name) < 0) {
		l.dir = NULL;
		return err_errno(e, ENOMEM, "sandbox directory");
	}
	rc = launch_start(&l, dirfd, cfg, true, e);
	if (rc) {
		launch_discard(&l);
		return rc;
	}
	*out = l;
	return 0;
}

int launch_detached(const char *parent, int dirfd, struct sandbox_config *cfg, struct launch *out,
		    struct err *e)
{
	cfg->detached = true;
	return launch_claimed(parent, dirfd, cfg, out, e);
}

int launch_owned(const char *parent, int dirfd, struct sandbox_config *cfg, struct launch *out,
		 struct err *e)
{
	cfg->detached = false;
	return launch_claimed(parent, dirfd, cfg, out, e);
}

int launch_kept(const char *parent, int dirfd, struct sandbox_config *cfg, struct launch *out,
		struct err *e)
{
	struct launch l = LAUNCH_INIT;
	int rc;

	cfg->ephemeral = false;
	if (asprintf(&l.dir, "%s/%s", parent, cfg->name) < 0) {
		l.dir = NULL;
		return err_errno(e, ENOMEM, "sandbox directory");
	}
	rc = launch_start(&l, dirfd, cfg, true, e);
	if (rc) {
		close_fd(&l.fd);
		free(l.dir);
		return rc;
	}
	*out = l;
	return 0;
}

int launch_remove(const char *parent, const char *name)
{
	auto_close int parent_fd = -1;
	int rc = launch_lock_parent(parent, &parent_fd, NULL);

	return rc ? rc : launch_remove_at(parent_fd, name);
}

void launch_each(const char *parent, void (*fn)(void *ctx, const char *name, int dirfd), void *ctx)
{
	auto_close int parent_fd = -1;
	int scan_fd = -1;
	struct dirent *d;
	DIR *dir = NULL;

	if (!launch_lock_parent(parent, &parent_fd, NULL))
		scan_fd = openat(parent_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (scan_fd >= 0)
		dir = fdopendir(scan_fd);
	if (!dir) {
		close_fd(&scan_fd);
		return;
	}
	while ((d = readdir(dir))) {
		auto_close int fd = -1;

		if (d->d_name[0] == '.' || launch_remove_at(parent_fd, d->d_name) != -EBUSY)
			continue;
		fd = openat(parent_fd, d->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		if (fd >= 0)
			fn(ctx, d->d_name, fd);
	}
	closedir(dir);
}

void launch_end(struct launch *l, unsigned timeout_ms)
{
	struct pollfd p = { .fd = l->supervisor.pidfd, .events = POLLIN };
	int status;

	close_fd(&l->fd);
	if (l->supervisor.pid > 0) {
		/* What it left open dies with it: its children are tied to its life. */
		if (poll(&p, 1, (int)timeout_ms) != 1)
			kill(l->supervisor.pid, SIGKILL);
		child_reap(&l->supervisor, &status);
	}
	/* Orphans of a killed supervisor are ours to wait for, and on their way out. */
	while (waitpid(-1, NULL, 0) > 0 || errno == EINTR)
		;
	launch_discard(l);
}
