/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DOC: Theory of operation
 *
 * Purpose
 *   Mounts the volumes of a CONFIGURE, before anything of a user runs.
 *
 * Trust boundary
 *   The file server is the host's, and may be slow, stopped or dead; what is below a mount
 *   point may be a volume already.  So PID 1 opens /dev/fuse and nothing else: the mounts are
 *   made by a child (the mounter), the messages are moved by another (the pump,
 *   volume_pump.c), and no call on a volume's path is made here.
 *
 * States
 *   wanted     CONFIGURE came, the port has not
 *   mounting   pump and mounter run; CONFIGURED waits for the mounter
 *   mounted    the pump runs
 *   stopped    the pump is gone: ENOTCONN
 *
 * Ownership
 *   Only the pump keeps the devices, so that its end aborts the connections.  The mounter
 *   closes each when it has mounted it: should it hang in a volume, that one is the pump's
 *   alone.
 */
#include "agent/volumes.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "agent/proc.h"
#include "agent/user.h"
#include "base/log.h"
#include "base/mem.h"
#include "codec/volume_wire.h"

#define VOLUMES_PATH_MAX 4096
#define VOLUMES_READAHEAD "4096" /* KiB; the kernel's 128 would cost a turn for each */

enum volumes_kind { KIND_DIR, KIND_FILE, KIND_TMPFS };

struct volumes_mount {
	enum volumes_kind kind;
	bool readonly;
	uint64_t number; /* on the port; of tmpfs: bytes */
	char owner[256];
	char path[VOLUMES_PATH_MAX];
};

static struct volumes {
	struct agent *agent;
	enum {
		VOLUMES_NONE,
		VOLUMES_WANTED,
		VOLUMES_MOUNTING,
		VOLUMES_MOUNTED,
		VOLUMES_STOPPED
	} state;
	int port_fd;
	struct volumes_mount *mounts; /* PUMP_VOLUMES_MAX */
	unsigned n, n_shared;
	uint32_t timeout_ms;
	struct proc mounter;
	int result_fd;
	int pump_fd; /* pidfd */
	pid_t pump;
	struct loop_watch pump_watch;
} volumes = { .port_fd = -1, .result_fd = -1, .pump_fd = -1 };

/* ---- CONFIGURE ------------------------------------------------------------- */

static int volumes_number(const struct frame_str *s, uint64_t *out)
{
	char text[24], *end;

	if (frame_str_copy(s, text, sizeof(text)) || text[0] < '0' || text[0] > '9')
		return -EPROTO;
	*out = strtoull(text, &end, 10);
	return *end ? -EPROTO : 0;
}

static int volumes_decode_one(struct frame_list *l, struct volumes_mount *m)
{
	struct frame_str s[FRAME_VOLUME_STRINGS];

	for (unsigned i = 0; i < FRAME_VOLUME_STRINGS; i++)
		if (!frame_list_next(l, &s[i]))
			return -EPROTO;
	if (frame_str_is(&s[0], "dir"))
		m->kind = KIND_DIR;
	else if (frame_str_is(&s[0], "file"))
		m->kind = KIND_FILE;
	else if (frame_str_is(&s[0], "tmpfs"))
		m->kind = KIND_TMPFS;
	else
		return -EPROTO;
	m->readonly = frame_str_is(&s[1], "ro");
	if (volumes_number(&s[2], &m->number) ||
	    frame_str_copy(&s[3], m->owner, sizeof(m->owner)) ||
	    frame_str_copy(&s[4], m->path, sizeof(m->path)) || m->path[0] != '/' || !m->path[1])
		return -EPROTO;
	return 0;
}

static int volumes_decode(struct volumes *v, const struct frame_configure *c, struct err *e)
{
	struct frame_list l = c->volumes;

	if (l.count % FRAME_VOLUME_STRINGS || l.count / FRAME_VOLUME_STRINGS > PUMP_VOLUMES_MAX)
		return err_set(e, EPROTO, "CONFIGURE: the list of volumes is malformed");
	v->mounts = calloc(PUMP_VOLUMES_MAX, sizeof(*v->mounts));
	if (!v->mounts)
		return err_errno(e, ENOMEM, "volumes");
	for (v->n = 0; v->n < l.count / FRAME_VOLUME_STRINGS; v->n++) {
		struct volumes_mount *m = &v->mounts[v->n];

		if (volumes_decode_one(&l, m) ||
		    (m->kind != KIND_TMPFS && m->number != v->n_shared++))
			return err_set(e, EPROTO, "CONFIGURE: a volume is malformed");
	}
	v->timeout_ms = c->volume_timeout_ms ? c->volume_timeout_ms : 30000;
	return 0;
}

/* ---- the mounter: a child --------------------------------------------------- */

/* The mount point, and what leads to it. */
static int volumes_make_point(const struct volumes_mount *m, struct err *e)
{
	char path[VOLUMES_PATH_MAX];
	struct stat st;
	bool file = m->kind == KIND_FILE;

	snprintf(path, sizeof(path), "%s", m->path);
	for (char *p = path + 1; (p = strchr(p, '/')); *p++ = '/') {
		*p = '\0';
		if (mkdir(path, 0755) && errno != EEXIST)
			return err_errno(e, errno, "volume at %s: make %s", m->path, path);
	}
	if (!stat(path, &st)) {
		if (S_ISDIR(st.st_mode) == !file)
			return 0;
		return err_set(e, file ? EISDIR : ENOTDIR,
			       "volume at %s: a %s cannot be put where the image has a %s", m->path,
			       file ? "file" : "directory", file ? "directory" : "file");
	}
	if (file ? mknod(path, S_IFREG | 0644, 0) : mkdir(path, 0755))
		return err_errno(e, errno, "volume at %s: make it", m->path);
	return 0;
}

static int volumes_mount_tmpfs(const struct volumes_mount *m, struct err *e)
{
	char options[64] = "mode=1777";

	if (m->number)
		snprintf(options, sizeof(options), "mode=1777,size=%llu",
			 (unsigned long long)m->number);
	if (mount("tmpfs", m->path, "tmpfs", MS_NOSUID | MS_NODEV, options))
		return err_errno(e, errno, "tmpfs at %s", m->path);
	return 0;
}

/*
 * Of the newest mount: how much is read ahead.  The device's number is the kernel's to tell,
 * for a look at the mount would ask the file server.  Not worth failing for.
 */
static void volumes_read_ahead(void)
{
	unsigned major, minor, last_major = 0, last_minor = 0;
	FILE *f = fopen("/proc/self/mountinfo", "re");
	auto_close int fd = -1;
	char name[64];

	while (f && fscanf(f, "%*d %*d %u:%u%*[^\n]", &major, &minor) == 2) {
		last_major = major;
		last_minor = minor;
	}
	if (f)
		fclose(f);
	snprintf(name, sizeof(name), "/sys/class/bdi/%u:%u/read_ahead_kb", last_major, last_minor);
	fd = open(name, O_WRONLY | O_CLOEXEC);
	if (fd < 0 || write(fd, VOLUMES_READAHEAD, strlen(VOLUMES_READAHEAD)) < 0)
		log_warn("event=volume_read_ahead path=%s: %m", name);
}

static int volumes_mount_shared(const struct volumes_mount *m, int device, struct err *e)
{
	char options[160];
	unsigned long flags = MS_NOSUID | MS_NODEV | (m->readonly ? MS_RDONLY : 0);

	/* The root of the mount is the file itself, where the volume is one. */
	snprintf(options, sizeof(options),
		 "fd=%d,rootmode=%o,user_id=0,group_id=0,allow_other,default_permissions", device,
		 m->kind == KIND_FILE ? S_IFREG | 0644 : S_IFDIR | 0755);
	if (mount("volume", m->path, "fuse", flags, options))
		return err_errno(e, errno, "volume at %s: mount", m->path);
	volumes_read_ahead();
	return 0;
}

/*
 * Tells the pump who owns what.  Before the first mount: the image's passwd may be hidden by a
 * volume later, and the pump cannot read what it serves itself.
 */
static int volumes_tell_owners(const struct volumes *v, int ids_fd, struct err *e)
{
	struct pump_ids ids = { 0 };
	struct user_ident u;
	int rc;

	for (unsigned i = 0; i < v->n; i++) {
		const struct volumes_mount *m = &v->mounts[i];

		if (m->kind == KIND_TMPFS || !m->owner[0])
			continue;
		rc = user_load(m->owner, &u, e);
		if (rc)
			return err_wrap(e, "volume at %s", m->path);
		ids.uids[m->number] = u.uid;
		ids.gids[m->number] = u.gid;
	}
	if (write(ids_fd, &ids, sizeof(ids)) != (ssize_t)sizeof(ids))
		return err_errno(e, errno, "volumes: tell the pump");
	return 0;
}

static int volumes_mount_all(const struct volumes *v, int *devices, int ids_fd, struct err *e)
{
	int rc = volumes_tell_owners(v, ids_fd, e);

	close(ids_fd);

	for (unsigned i = 0; i < v->n && !rc; i++) {
		const struct volumes_mount *m = &v->mounts[i];

		rc = volumes_make_point(m, e);
		if (rc)
			break;
		if (m->kind == KIND_TMPFS) {
			rc = volumes_mount_tmpfs(m, e);
			continue;
		}
		rc = volumes_mount_shared(m, devices[m->number], e);
		close_fd(&devices[m->number]);
	}
	return rc;
}

/* ---- processes ----------------------------------------------------------------- */

static void volumes_pump_gone(struct loop_watch *w, uint32_t events)
{
	struct volumes *v = container_of(w, struct volumes, pump_watch);
	siginfo_t si;

	(void)events;
	loop_watch_remove(w);
	/* It is no child that proc_reap() waits for. */
	waitid(P_PIDFD, (id_t)v->pump_fd, &si, WEXITED | __WALL);
	close_fd(&v->pump_fd);
	v->agent->pump_pid = 0;
	if (v->state != VOLUMES_MOUNTING)
		v->state = VOLUMES_STOPPED;
}

/*
 * The pump's end sends no SIGCHLD, and a wait for children does not see it without __WALL:
 * at a shutdown it has to outlive all others.
 */
static int volumes_fork_pump(struct volumes *v, struct pump *p, struct err *e)
{
	int fd = -1;
	struct clone_args args = {
		.flags = CLONE_PIDFD,
		.pidfd = (uint64_t)(uintptr_t)&fd,
	};
	long pid;

	p->log_fd = openat(v->agent->dev_fd, "kmsg", O_WRONLY | O_CLOEXEC);
	pid = syscall(SYS_clone3, &args, sizeof(args));
	if (!pid) {
		setsid();
		pump_run(p);
	}
	close_fd(&p->log_fd);
	if (pid < 0)
		return err_errno(e, errno, "volumes: start the pump");
	v->pump_fd = fd;
	v->agent->pump_pid = (pid_t)pid;
	loop_watch_init(&v->pump_watch, volumes_pump_gone);
	if (loop_watch_add(v->agent->loop, &v->pump_watch, fd, EPOLLIN))
		return err_set(e, ENOMEM, "volumes: watch the pump");
	return 0;
}

static void volumes_mounted(struct proc *p, int status, const struct rusage *ru)
{
	struct volumes *v = container_of(p, struct volumes, mounter);
	struct err e = ERR_INIT;
	ssize_t n;

	(void)ru;
	do
		n = read(v->result_fd, &e, sizeof(e));
	while (n < 0 && errno == EINTR);
	close_fd(&v->result_fd);
	e.msg[sizeof(e.msg) - 1] = '\0';
	if (n != (ssize_t)sizeof(e)) {
		e = (struct err)ERR_INIT;
		err_set(&e, EIO, "volumes: the mounter ended without an answer (status %d)", status);
	}
	if (!e.code && v->n_shared && v->pump_fd < 0)
		err_set(&e, ENOTCONN, "volumes: the file server is gone");
	v->state = v->pump_fd >= 0 ? VOLUMES_MOUNTED : VOLUMES_STOPPED;
	free(v->mounts);
	v->mounts = NULL;
	agent_configured(v->agent, e.code ? &e : NULL);
}

static int volumes_fork_mounter(struct volumes *v, int *devices, int ids_fd, struct err *e)
{
	struct err result = ERR_INIT;
	int fds[2];
	pid_t pid;

	if (pipe2(fds, O_CLOEXEC))
		return err_errno(e, errno, "volumes: pipe");
	proc_init(&v->mounter, volumes_mounted);
	pid = proc_fork(v->agent, &v->mounter, false, e);
	if (!pid) {
		volumes_mount_all(v, devices, ids_fd, &result);
		_exit(write(fds[1], &result, sizeof(result)) != (ssize_t)sizeof(result));
	}
	close(fds[1]);
	v->result_fd = fds[0];
	if (pid < 0)
		close_fd(&v->result_fd);
	return pid < 0 ? -e->code : 0;
}

static int volumes_open_devices(struct volumes *v, struct pump *p, struct err *e)
{
	for (unsigned i = 0; i < v->n; i++) {
		if (v->mounts[i].kind == KIND_TMPFS)
			continue;
		p->devices[p->n] =
			openat(v->agent->dev_fd, "fuse", O_RDWR | O_NONBLOCK | O_CLOEXEC);
		if (p->devices[p->n] < 0)
			return err_errno(e, errno,
					 "volumes: open /dev/fuse (does this kernel have FUSE?)");
		p->n++;
	}
	return 0;
}

/* All that is needed is there. */
static int volumes_start(struct volumes *v, struct err *e)
{
	static struct pump p;
	auto_close int ids_fd = -1;
	int ids[2], rc;

	if (pipe2(ids, O_CLOEXEC))
		return err_errno(e, errno, "volumes: pipe");
	ids_fd = ids[1];
	p = (struct pump){ .port = v->port_fd, .timeout_ms = v->timeout_ms, .ids_fd = ids[0] };
	rc = volumes_open_devices(v, &p, e);
	if (!rc && p.n)
		rc = volumes_fork_pump(v, &p, e);
	if (!rc)
		rc = volumes_fork_mounter(v, p.devices, ids_fd, e);
	for (unsigned i = 0; i < p.n; i++)
		close_fd(&p.devices[i]);
	close_fd(&p.ids_fd);
	close_fd(&v->port_fd);
	v->state = rc ? VOLUMES_STOPPED : VOLUMES_MOUNTING;
	return rc;
}

int volumes_configure(struct agent *a, const struct frame_configure *c, struct err *e)
{
	struct volumes *v = &volumes;
	int rc;

	if (!c->volumes.count) {
		close_fd(&v->port_fd);
		return 0;
	}
	v->agent = a;
	rc = volumes_decode(v, c, e);
	if (rc)
		return rc;
	v->state = VOLUMES_WANTED;
	if (v->n_shared && v->port_fd < 0)
		return 1; /* volumes_port() goes on */
	rc = volumes_start(v, e);
	return rc ? rc : 1;
}

void volumes_port(struct agent *a, int fd)
{
	struct volumes *v = &volumes;
	struct err e = ERR_INIT;

	if (v->port_fd >= 0 || v->state > VOLUMES_WANTED) {
		close(fd);
		return;
	}
	v->port_fd = fd;
	if (v->state == VOLUMES_WANTED && volumes_start(v, &e))
		agent_configured(a, &e);
}

bool volumes_want_port(const struct agent *a)
{
	return volumes.state == VOLUMES_WANTED || (!a->configured && volumes.port_fd < 0);
}

void volumes_stop(struct agent *a)
{
	if (a->pump_pid > 0)
		kill(a->pump_pid, SIGKILL);
}
