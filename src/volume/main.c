/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DOC: Theory of operation
 *
 * Purpose
 *   msb-volume, the file server of one sandbox: answers the guest kernel's FUSE requests
 *   with the directories and files of the host that are its volumes (docs/volumes.md).
 *
 * Trust boundary
 *   Each byte of a request is the guest's and may be anything; the host's files may be moved
 *   and replaced while they are served, also by somebody who wants harm.  So requests go
 *   through request.c; a name is one component; an inode is a descriptor, not a path; links
 *   are the guest's to follow; only regular files and directories are opened.  The process is
 *   in a jail whose root holds the volumes and nothing else that matters, without network, and
 *   with the system calls of confine.c.  Who takes it over has the volumes, each as far as the
 *   sandbox may go: a read-only one is a read-only mount.
 *
 * Ownership
 *   One thread.  serve.c owns the buffers, a share its table, the table all descriptors.
 *
 * Failure
 *   A request that cannot be done is its answer.  What is no request ends the process with a
 *   reason; the guest's programs then see ENOTCONN on the volumes, and live on.
 */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "base/log.h"
#include "base/mem.h"
#include "codec/volume.h"
#include "sys/signals.h"
#include "volume/confine.h"
#include "volume/host.h"
#include "volume/serve.h"

#define MAIN_USAGE \
	"usage: msb-volume --socket-fd N --share rw|ro,all|one,QUOTA,PATH... [--fd-dir DIR]\n" \
	"                  [--name SANDBOX] [--log-level error|warn|info|debug] [--seccomp-log]\n" \
	"Serves the volumes of a sandbox over socket N; started by 'msb supervise'.\n"

#define MAIN_FDS_RESERVED 32u
#define MAIN_FDS_MIN 256u
#define MAIN_FDS_MAX 65536u

struct main_options {
	struct share_options shares[VOLUMES_MAX];
	unsigned n;
	int socket_fd;
	bool seccomp_log; /* development: log forbidden system calls instead of dying */
	const char *name, *fd_dir;
	enum log_level level;
};

/* "rw,all,0,/v/0": may be written, ids are the same on both sides, no quota */
static int main_parse_share(const char *arg, struct main_options *o, struct err *e)
{
	struct share_options *s = &o->shares[o->n];
	char mode[3], ids[4];
	int at = 0;

	if (o->n == VOLUMES_MAX ||
	    sscanf(arg, "%2[a-z],%3[a-z],%" SCNu64 ",%n", mode, ids, &s->quota, &at) != 3 || !at ||
	    arg[at] != '/' || (strcmp(mode, "ro") && strcmp(mode, "rw")) ||
	    (strcmp(ids, "all") && strcmp(ids, "one")))
		return err_set(e, EINVAL,
			       "--share %s: give rw or ro, all or one, a quota, a path; at most %u",
			       arg, VOLUMES_MAX);
	s->readonly = mode[1] == 'o';
	s->identity = ids[0] == 'a';
	s->path = arg + at;
	o->n++;
	return 0;
}

static int main_parse_option(int opt, const char *arg, struct main_options *o, struct err *e)
{
	char *end;

	switch (opt) {
	case 'f':
		o->socket_fd = (int)strtol(arg, &end, 10);
		return *end || end == arg ? err_set(e, EINVAL, "--socket-fd %s", arg) : 0;
	case 's':
		return main_parse_share(arg, o, e);
	case 'd':
		o->fd_dir = arg;
		return 0;
	case 'n':
		o->name = arg;
		return 0;
	case 'l':
		return log_level_parse(arg, &o->level) < 0
			       ? err_set(e, EINVAL, "--log-level %s", arg)
			       : 0;
	case 'S':
		o->seccomp_log = true;
		return 0;
	default:
		return err_set(e, EINVAL, "unknown or incomplete option");
	}
}

static int main_parse(int argc, char **argv, struct main_options *o, struct err *e)
{
	static const struct option options[] = {
		{ "socket-fd", required_argument, NULL, 'f' },
		{ "share", required_argument, NULL, 's' },
		{ "fd-dir", required_argument, NULL, 'd' },
		{ "name", required_argument, NULL, 'n' },
		{ "log-level", required_argument, NULL, 'l' },
		{ "seccomp-log", no_argument, NULL, 'S' },
		{ NULL, 0, NULL, 0 },
	};
	int opt, rc;

	opterr = 0;
	while ((opt = getopt_long(argc, argv, "", options, NULL)) != -1) {
		rc = main_parse_option(opt, optarg, o, e);
		if (rc)
			return rc;
	}
	if (optind < argc)
		return err_set(e, EINVAL, "unexpected argument '%s'", argv[optind]);
	if (o->socket_fd < 0 || !o->n)
		return err_set(e, EINVAL, "--socket-fd or --share is missing");
	return 0;
}

static int main_check_socket(int fd, struct err *e)
{
	socklen_t len = sizeof(int);
	int type;

	if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len) < 0 || type != SOCK_STREAM)
		return err_set(e, EINVAL, "--socket-fd %d is no stream socket", fd);
	return 0;
}

/* As many descriptors as we may have. */
static unsigned main_descriptors(void)
{
	struct rlimit l;

	if (getrlimit(RLIMIT_NOFILE, &l))
		return MAIN_FDS_MIN;
	l.rlim_cur = l.rlim_max;
	setrlimit(RLIMIT_NOFILE, &l);
	if (l.rlim_cur > MAIN_FDS_MAX)
		return MAIN_FDS_MAX;
	return l.rlim_cur < MAIN_FDS_MIN + MAIN_FDS_RESERVED
		       ? MAIN_FDS_MIN
		       : (unsigned)l.rlim_cur - MAIN_FDS_RESERVED;
}

static int main_serve(const struct main_options *o, struct err *e)
{
	static struct share shares[VOLUMES_MAX];
	struct budget budget;
	const volatile sig_atomic_t *stop;
	sigset_t mask;
	unsigned n = 0;
	int rc = main_check_socket(o->socket_fd, e);

	if (rc)
		return rc;
	stop = signals_stop_flag(&mask);
	umask(0); /* the guest's kernel has applied the umask of the one who asks */
	host_set_fd_dir(o->fd_dir);
	budget_init(&budget, main_descriptors());
	for (; n < o->n && !rc; n++)
		rc = share_init(&shares[n], (uint16_t)n, &o->shares[n], &budget, e);
	/* Nothing from the guest has been read yet. */
	if (!rc)
		rc = jail_seccomp(volume_syscalls, o->seccomp_log, e);
	if (!rc)
		rc = serve_run(o->socket_fd, shares, n, stop, &mask, e);
	while (n)
		share_fini(&shares[--n]);
	return rc;
}

int main(int argc, char **argv)
{
	static struct main_options o = {
		.socket_fd = -1,
		.name = "-",
		.fd_dir = "/proc/self/fd",
		.level = LOG_INFO,
	};
	struct err e = ERR_INIT;
	char ident[64];

	if (main_parse(argc, argv, &o, &e) < 0) {
		fprintf(stderr, "msb-volume: %s\n%s", err_text(&e), MAIN_USAGE);
		return 2;
	}
	snprintf(ident, sizeof(ident), "volume/%s", o.name);
	log_init(STDERR_FILENO, o.level, ident);
	if (main_serve(&o, &e) < 0) {
		log_err("event=failed detail=\"%s\"", err_text(&e));
		return 1;
	}
	return 0;
}
