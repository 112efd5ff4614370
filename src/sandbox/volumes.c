/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DOC: The volumes of a sandbox
 *
 * One file server, msb-volume, for all that come from the host.  The port agent.fuse is a
 * socket pair between the VM and it: no byte passes through the supervisor, which only starts
 * it and sees it end.  Its end is not the sandbox's: the guest's programs get ENOTCONN on the
 * volumes, and the log says why.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "codec/volume_wire.h"
#include "sandbox/internal.h"
#include "sys/parts.h"

#define VOLUMES_PROGRAM "/bin/msb-volume" /* in its jail */
#define VOLUMES_FDS 65536u /* inodes and open files; what root's limit is at most */
#define VOLUMES_ARG 24
#define VOLUMES_BINDS_BASE 5

/* What the processes between fork and exec are given; arrays that a stack is too small for. */
struct volumes_start {
	struct jail_bind binds[VOLUMES_BINDS_BASE + VOLUMES_MAX];
	size_t n_binds;
	char *argv[2 * VOLUMES_MAX + VOLUMES_ARG];
	size_t argc;
	char targets[VOLUMES_MAX][16];
	char *shares[VOLUMES_MAX]; /* malloc'ed */
};

static bool volumes_is_shared(const struct volume *v)
{
	return v->kind == VOLUME_HOST;
}

bool volumes_any_shared(const struct sandbox_config *cfg)
{
	for (unsigned i = 0; i < cfg->volumes.n; i++)
		if (volumes_is_shared(&cfg->volumes.v[i]))
			return true;
	return false;
}

static void volumes_arg(struct volumes_start *v, const char *arg)
{
	v->argv[v->argc++] = (char *)arg;
}

/* Volume number @n of the port. */
static int volumes_add_share(struct volumes_start *v, unsigned n, const struct volume *vol,
			     bool full, struct err *e)
{
	/* An ordinary user has one id; root has all of them, unless one is wanted. */
	bool all = full && !geteuid() && !vol->owner;

	snprintf(v->targets[n], sizeof(v->targets[n]), "/v/%u", n);
	if (asprintf(&v->shares[n], "%s,%s,%llu,%s", vol->readonly ? "ro" : "rw",
		     all ? "all" : "one", (unsigned long long)vol->size,
		     full ? v->targets[n] : vol->source) < 0) {
		v->shares[n] = NULL;
		return err_errno(e, ENOMEM, "volumes");
	}
	volumes_arg(v, "--share");
	volumes_arg(v, v->shares[n]);
	v->binds[v->n_binds++] = (struct jail_bind){
		.source = vol->source,
		.target = v->targets[n],
		.writable = !vol->readonly,
		.no_links = true, /* a sandbox may have put one there since it was looked up */
	};
	return 0;
}

static int volumes_spawn(struct supervisor *s, struct volumes_start *v, const char *program,
			 int socket_fd, int log_fd, struct err *e)
{
	bool full = strcmp(s->cfg.jail, "reduced");
	const struct jail_bind base[VOLUMES_BINDS_BASE] = {
		{ program, VOLUMES_PROGRAM, true },
		{ "/lib64/ld-linux-x86-64.so.2", "/lib64/ld-linux-x86-64.so.2", true },
		{ "/lib/x86_64-linux-gnu", "/lib/x86_64-linux-gnu", true },
		{ "/etc/ld.so.cache", "/etc/ld.so.cache", false, true },
		/* Its own descriptors, as files. */
		{ "/proc/self/fd", "/fd" },
	};
	const struct child_fd fds[] = { { socket_fd, 3 }, { log_fd, STDERR_FILENO } };
	struct jail jail = {
		.mode = full ? JAIL_FULL : JAIL_REDUCED,
		.same_ids = true,
		/*
		 * The guest's root expects to read and write what its mode forbids.  To an
		 * ordinary user this is a power over their own files alone.
		 */
		.keep_caps = 1ull << CAP_DAC_OVERRIDE,
		.max_file_bytes = UINT64_MAX,
		.max_fds = VOLUMES_FDS,
		.max_processes = 2,
	};
	const struct child_spec spec = {
		.path = full ? VOLUMES_PROGRAM : program,
		.argv = v->argv,
		.fds = fds,
		.n_fds = ARRAY_SIZE(fds),
		.jail = &jail,
		.new_session = true,
		.die_with_parent = true,
	};
	unsigned n = 0;
	int rc = 0;

	memcpy(v->binds, base, sizeof(base));
	v->n_binds = ARRAY_SIZE(base);
	if (!geteuid())
		jail.keep_caps |= 1ull << CAP_CHOWN | 1ull << CAP_FOWNER;
	volumes_arg(v, "msb-volume");
	volumes_arg(v, "--socket-fd");
	volumes_arg(v, "3");
	volumes_arg(v, "--name");
	volumes_arg(v, s->cfg.name);
	if (full) {
		volumes_arg(v, "--fd-dir");
		volumes_arg(v, "/fd");
	}
	for (unsigned i = 0; i < s->cfg.volumes.n && !rc; i++)
		if (volumes_is_shared(&s->cfg.volumes.v[i]))
			rc = volumes_add_share(v, n++, &s->cfg.volumes.v[i], full, e);
	jail.binds = v->binds;
	jail.n_binds = v->n_binds;
	return rc ? rc : child_spawn(&spec, &s->volume, e);
}

static void volumes_gone(struct loop_watch *w, uint32_t events)
{
	struct supervisor *s = container_of(w, struct supervisor, volume_watch);
	char how[80], lines[600];
	int status = 0;

	(void)events;
	loop_watch_remove(w);
	child_reap(&s->volume, &status);
	taillog_drain(&s->volume_log);
	/* It also ends, as it should, when the VM did. */
	if (s->state >= SANDBOX_STOPPING || (WIFEXITED(status) && !WEXITSTATUS(status)))
		return;
	child_status_text(status, how, sizeof(how));
	taillog_last_lines(&s->volume_log, 2, lines, sizeof(lines));
	log_err("event=volumes-gone reason=\"the file server msb-volume %s%s%s\" effect=\"programs "
		"in "
		"the sandbox get ENOTCONN on its volumes until it is restarted\"",
		how, lines[0] ? "; its last lines: " : "", lines);
}

/*
 * Named volumes are locked as long as the sandbox lives, so that nobody removes them.  The
 * descriptors are the process's own until its end.
 */
static int volumes_hold(const struct sandbox_config *cfg, struct err *e)
{
	for (unsigned i = 0; i < cfg->volumes.n; i++) {
		const struct volume *v = &cfg->volumes.v[i];
		int fd;

		if (!v->named)
			continue;
		fd = open(v->source, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		if (fd < 0 || flock(fd, LOCK_SH | LOCK_NB) < 0)
			return err_errno(e, errno, "volume %s: it is being removed", v->source);
	}
	return 0;
}

int volumes_start(struct supervisor *s, int *port_fd, struct err *e)
{
	auto_free struct volumes_start *v = calloc(1, sizeof(*v));
	auto_free char *program = NULL;
	auto_close int ours = -1, theirs = -1, log_fd = -1;
	const int room = VOLUME_BODY_MAX;
	int sv[2], rc;

	if (!volumes_any_shared(&s->cfg))
		return 0;
	if (!v)
		return err_errno(e, ENOMEM, "volumes");
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv) < 0)
		return err_errno(e, errno, "socketpair");
	ours = sv[0];
	theirs = sv[1];
	/* A whole message at once, where the host allows so much: fewer turns of both sides. */
	for (unsigned i = 0; i < 2; i++)
		setsockopt(sv[i], SOL_SOCKET, SO_SNDBUF, &room, sizeof(room));
	rc = volumes_hold(&s->cfg, e);
	if (!rc)
		rc = parts_path("msb-volume", &program, e);
	if (!rc)
		rc = supervisor_log_pipe(s, &s->volume_log, "volume.log", &log_fd, e);
	if (!rc && (rc = volumes_spawn(s, v, program, ours, log_fd, e)))
		err_wrap(e, "cannot start the file server (msb-volume)");
	for (unsigned i = 0; i < VOLUMES_MAX; i++)
		free(v->shares[i]);
	if (rc)
		return rc;
	loop_watch_init(&s->volume_watch, volumes_gone);
	rc = loop_watch_add(s->loop, &s->volume_watch, s->volume.pidfd, EPOLLIN);
	if (rc)
		return err_errno(e, -rc, "msb-volume");
	*port_fd = take_fd(&theirs);
	return 0;
}

static int volumes_add(struct buf *b, struct frame_list *l, const char *text)
{
	return frame_list_add(b, l, text, strlen(text));
}

int volumes_configure(const struct sandbox_config *cfg, struct frame_configure *c, struct buf *b,
		      struct err *e)
{
	unsigned n = 0;
	int rc = 0;

	c->volume_timeout_ms = cfg->volume_timeout_s * 1000;
	for (unsigned i = 0; i < cfg->volumes.n && !rc; i++) {
		const struct volume *v = &cfg->volumes.v[i];
		bool shared = volumes_is_shared(v);
		char number[24];

		snprintf(number, sizeof(number), "%llu",
			 shared ? (unsigned long long)n++ : (unsigned long long)v->size);
		rc = volumes_add(b, &c->volumes,
				 !shared   ? "tmpfs"
				 : v->file ? "file"
					   : "dir") ||
		     volumes_add(b, &c->volumes, v->readonly ? "ro" : "rw") ||
		     volumes_add(b, &c->volumes, number) ||
		     volumes_add(b, &c->volumes, v->owner ? v->owner : "") ||
		     volumes_add(b, &c->volumes, v->guest);
	}
	frame_list_end(b, &c->volumes);
	return rc ? err_set(e, E2BIG, "the volumes' paths are too long together") : 0;
}
