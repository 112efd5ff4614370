/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DOC: Theory of operation
 *
 * Purpose: `msb server` is an HTTP face on supervisors (src/sandbox): it starts them, and
 * passes requests on to their guests over ctl.sock.  It is never needed for a sandbox to
 * go on running.
 *
 * Trust boundary: clients (conn.c, http_api.c) and what guests send (lib/client.c,
 * method_run.c).  Runs unjailed as the user, as msb does.
 *
 * Threads and locks: one thread, one event loop.  Nothing waits: not for a client, not for
 * a sandbox, not for an image.  Starting a supervisor takes a fork, a few milliseconds.
 *
 * States: starting (the lock of server.pid, the key, sandboxes of an earlier server,
 * listening) -> serving -> stopping (no new connections; requests that are worked on are
 * answered, sandboxes are stopped unless --keep) -> gone.  Asked a second time it does not
 * wait any longer.
 *
 * Failure: after kill -9 sandboxes run on; the next server of the same home finds them.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "server/box.h"
#include "server/conn.h"
#include "server/mcp.h"
#include "server/tls.h"
#include "sys/jail.h"
#include "sys/signals.h"

#define SERVER_CONNS_MAX 8192u
#define SERVER_FDS_SPARE 64u /* besides those of clients and sandboxes */
#define SERVER_FDS_BOX 4u /* of a sandbox */
#define SERVER_CONNS_MIN 64u
#define SERVER_ACCEPT_BATCH 64
#define SERVER_STOP_MS 30000u
#define SERVER_OUTPUTS_MAX (256u << 20) /* of all calls that run, bytes */

/* ---- what callbacks leave to be freed ------------------------------------------------------ */

static void server_bury_now(struct loop_timer *t)
{
	struct server *s = container_of(t, struct server, bury_timer);

	while (!list_empty(&s->corpses)) {
		struct corpse *c = list_entry(s->corpses.next, struct corpse, link);

		list_remove(&c->link);
		c->free(c);
	}
}

void server_bury(struct server *s, struct corpse *c, void (*fn)(struct corpse *))
{
	c->free = fn;
	list_append(&s->corpses, &c->link);
	if (!s->bury_timer.at_ns)
		loop_timer_set(s->loop, &s->bury_timer, 0);
}

/* ---- connections ------------------------------------------------------------------------------ */

/* No descriptor is left: one idle client makes room, or nobody is accepted for a while. */
static void server_accept_failed(struct server *s, int error)
{
	static struct log_limit limit = LOG_LIMIT(1, 10000);

	if (error == EAGAIN || error == ECONNABORTED || error == EINTR)
		return;
	if (log_limit_pass(&limit, NULL))
		log_warn("event=accept-failed reason=\"%s\"", strerror(error));
	if (conn_evict(s) || !s->n_conns)
		return;
	s->accept_paused = true;
	for (int i = 0; i < LISTEN_COUNT; i++)
		loop_watch_set(&s->listeners[i].watch, 0);
}

static void server_accept(struct loop_watch *w, uint32_t events)
{
	struct listener *l = container_of(w, struct listener, watch);
	struct server *s = l->server;
	struct err e = ERR_INIT;

	(void)events;
	for (int i = 0; i < SERVER_ACCEPT_BATCH; i++) {
		int fd = accept4(l->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

		if (fd < 0) {
			server_accept_failed(s, errno);
			return;
		}
		if (s->n_conns >= s->max_conns && !conn_evict(s)) {
			s->count.refused++;
			close(fd);
			continue;
		}
		if (conn_create(s, fd, l->local, &e))
			s->count.refused++;
	}
}

static int server_listen_on(struct server *s, struct listener *l, int fd, struct err *e)
{
	int rc;

	l->fd = fd;
	if (listen(fd, 1024) < 0)
		return err_errno(e, errno, "cannot listen on %s", s->address);
	rc = loop_watch_add(s->loop, &l->watch, fd, EPOLLIN);
	return rc ? err_errno(e, -rc, "listen") : 0;
}

static bool server_is_loopback(const struct sockaddr_storage *sa)
{
	const struct sockaddr_in *v4 = (const struct sockaddr_in *)sa;
	const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)sa;

	if (sa->ss_family == AF_INET)
		return ntohl(v4->sin_addr.s_addr) >> 24 == 127;
	return sa->ss_family == AF_UNIX || IN6_IS_ADDR_LOOPBACK(&v6->sin6_addr);
}

static int server_address(const struct server_options *opt, struct sockaddr_storage *sa,
			  socklen_t *len, struct err *e)
{
	struct sockaddr_in *v4 = (struct sockaddr_in *)sa;
	struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)sa;
	const char *host = strcmp(opt->host, "localhost") ? opt->host : "127.0.0.1";

	memset(sa, 0, sizeof(*sa));
	if (inet_pton(AF_INET, host, &v4->sin_addr) == 1) {
		v4->sin_family = AF_INET;
		v4->sin_port = htons(opt->port);
		*len = sizeof(*v4);
	} else if (inet_pton(AF_INET6, host, &v6->sin6_addr) == 1) {
		v6->sin6_family = AF_INET6;
		v6->sin6_port = htons(opt->port);
		*len = sizeof(*v6);
	} else {
		return err_set(e, EINVAL, "--host is '%s': give an IP address", opt->host);
	}
	if (opt->dev && !server_is_loopback(sa))
		return err_set(e, EPERM,
			       "--dev needs no keys, so it serves this machine only: use --host "
			       "127.0.0.1, or leave --dev out");
	return 0;
}

static void server_set_address(struct server *s, int fd)
{
	struct sockaddr_storage sa;
	struct sockaddr_in *v4 = (struct sockaddr_in *)&sa;
	struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)&sa;
	socklen_t len = sizeof(sa);
	const char *scheme = s->tls ? "https" : "http";
	char text[INET6_ADDRSTRLEN];

	if (getsockname(fd, (struct sockaddr *)&sa, &len) < 0)
		return;
	if (sa.ss_family == AF_INET)
		snprintf(s->address, sizeof(s->address), "%s://%s:%u", scheme,
			 inet_ntop(AF_INET, &v4->sin_addr, text, sizeof(text)),
			 ntohs(v4->sin_port));
	else
		snprintf(s->address, sizeof(s->address), "%s://[%s]:%u", scheme,
			 inet_ntop(AF_INET6, &v6->sin6_addr, text, sizeof(text)),
			 ntohs(v6->sin6_port));
}

/* Sockets that systemd opened for us. Return: how many, or a negative errno. */
static int server_listen_given(struct server *s, struct err *e)
{
	int fds[SYSTEMD_FDS_MAX], n = systemd_sockets(fds, e);

	for (int i = 0; i < n; i++) {
		struct listener *l = &s->listeners[LISTEN_GIVEN + i];
		struct sockaddr_storage sa;
		socklen_t len = sizeof(sa);
		int rc;

		l->fd = fds[i];
		if (getsockname(fds[i], (struct sockaddr *)&sa, &len) < 0)
			return err_errno(e, errno, "socket activation: descriptor %d", fds[i]);
		l->local = sa.ss_family == AF_UNIX;
		if (s->opt->dev && !server_is_loopback(&sa))
			return err_set(
				e, EPERM,
				"--dev needs no keys, so it serves this machine only: "
				"let the socket unit listen on 127.0.0.1, or leave --dev out");
		if (!l->local)
			server_set_address(s, fds[i]);
		else if (!s->address[0])
			snprintf(s->address, sizeof(s->address), "unix:%s",
				 ((struct sockaddr_un *)&sa)->sun_path);
		rc = server_listen_on(s, l, fds[i], e);
		if (rc)
			return rc;
	}
	return n;
}

static int server_listen_tcp(struct server *s, struct err *e)
{
	struct sockaddr_storage sa;
	socklen_t len = 0;
	int one = 1, fd, rc = server_address(s->opt, &sa, &len, e);

	if (rc)
		return rc;
	fd = socket(sa.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return err_errno(e, errno, "socket");
	s->listeners[LISTEN_TCP].fd = fd;
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (bind(fd, (struct sockaddr *)&sa, len) < 0)
		return err_errno(e, errno, "cannot listen on %s port %u%s", s->opt->host,
				 s->opt->port, errno == EADDRINUSE ? " (try another --port)" : "");
	server_set_address(s, fd);
	return server_listen_on(s, &s->listeners[LISTEN_TCP], fd, e);
}

/* A socket that nobody listens on any more is in the way; anything else stays. */
static int server_clear_socket(const char *path, const struct sockaddr_un *sa, struct err *e)
{
	auto_close int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct stat st;

	if (lstat(path, &st) < 0)
		return errno == ENOENT ? 0 : err_errno(e, errno, "--unix %s", path);
	if (!S_ISSOCK(st.st_mode))
		return err_set(e, EEXIST, "--unix %s exists and is no socket", path);
	if (fd < 0 || connect(fd, (const struct sockaddr *)sa, sizeof(*sa)) == 0 ||
	    errno != ECONNREFUSED)
		return err_set(e, EADDRINUSE, "--unix %s: another program listens there", path);
	return unlink(path) < 0 ? err_errno(e, errno, "--unix %s", path) : 0;
}

static int server_listen_unix(struct server *s, struct err *e)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	const char *path = s->opt->unix_path;
	mode_t mask;
	int fd, rc;

	if (!path)
		return 0;
	if (snprintf(sa.sun_path, sizeof(sa.sun_path), "%s", path) >= (int)sizeof(sa.sun_path))
		return err_set(e, ENAMETOOLONG, "--unix: the path is too long (limit %zu bytes)",
			       sizeof(sa.sun_path) - 1);
	rc = server_clear_socket(path, &sa, e);
	if (rc)
		return rc;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return err_errno(e, errno, "socket");
	s->listeners[LISTEN_UNIX].fd = fd;
	s->listeners[LISTEN_UNIX].local = true;
	mask = umask(0177); /* the user's alone */
	rc = bind(fd, (struct sockaddr *)&sa, sizeof(sa));
	umask(mask);
	if (rc < 0)
		return err_errno(e, errno, "--unix %s", path);
	return server_listen_on(s, &s->listeners[LISTEN_UNIX], fd, e);
}

/* ---- the end ------------------------------------------------------------------------------------- */

/* Does the sandbox end with us? */
static bool server_owns(const struct server *s, const struct box *b)
{
	return !s->opt->keep && !(s->opt->stdio && b->adopted);
}

static bool server_waits(const struct server *s)
{
	list_for_each (pos, tmp, &s->boxes)
		if (server_owns(s, list_entry(pos, struct box, link)))
			return true;
	return false;
}

void server_check_end(struct server *s)
{
	if (s->stopping &&
	    (s->fast || (list_empty(&s->conns) && mcp_stdio_idle(s->stdio) && !server_waits(s))))
		loop_stop(s->loop, 0);
}

static void server_stop_timeout(struct loop_timer *t)
{
	struct server *s = container_of(t, struct server, stop_timer);

	log_warn("event=stop-timeout sandboxes=%u connections=%u", s->n_boxes, s->n_conns);
	s->fast = true;
	server_check_end(s);
}

void server_end(struct server *s)
{
	if (s->stopping)
		return;
	s->stopping = true;
	systemd_notify("STOPPING=1");
	log_info("event=stop sandboxes=%u connections=%u keep=%d", s->n_boxes, s->n_conns,
		 s->opt->keep);
	for (int i = 0; i < LISTEN_COUNT; i++) {
		loop_watch_remove(&s->listeners[i].watch);
		close_fd(&s->listeners[i].fd);
	}
	conn_drain_all(s);
	mcp_stdio_end(s->stdio);
	list_for_each (pos, tmp, &s->boxes) {
		struct box *b = list_entry(pos, struct box, link);

		if (server_owns(s, b))
			box_stop(b, NULL);
	}
	loop_timer_set(s->loop, &s->stop_timer, SERVER_STOP_MS);
	server_check_end(s);
}

static void server_signal(struct loop_watch *w, uint32_t events)
{
	struct server *s = container_of(w, struct server, signal_watch);

	(void)events;
	while (signals_next(s->signal_fd)) {
		s->fast = s->asked;
		s->asked = true;
		server_end(s);
	}
	server_check_end(s);
}

/* ---- life ---------------------------------------------------------------------------------------- */

static void server_init(struct server *s, const struct server_options *opt)
{
	*s = (struct server){ .opt = opt, .signal_fd = -1, .pid_fd = -1 };
	list_init(&s->conns);
	list_init(&s->boxes);
	list_init(&s->corpses);
	list_init(&s->volume_removals);
	mcp_sessions_init(s);
	quotas_init(&s->quotas);
	s->audit = (struct audit)AUDIT_INIT;
	loop_timer_init(&s->bury_timer, server_bury_now);
	loop_timer_init(&s->stop_timer, server_stop_timeout);
	loop_watch_init(&s->signal_watch, server_signal);
	for (int i = 0; i < LISTEN_COUNT; i++) {
		s->listeners[i] = (struct listener){ .server = s, .fd = -1 };
		loop_watch_init(&s->listeners[i].watch, server_accept);
	}
	s->outputs.max = SERVER_OUTPUTS_MAX;
	s->unread_max = CONN_UNREAD_MAX;
	s->started_ns = loop_now_ns();
}

int server_plan_descriptors(uint64_t limit, unsigned max_sandboxes, unsigned *max_conns,
			    struct err *e)
{
	uint64_t sandboxes = (uint64_t)SERVER_FDS_BOX * max_sandboxes;
	uint64_t least = SERVER_FDS_SPARE + SERVER_FDS_BOX + SERVER_CONNS_MIN;
	uint64_t all = SERVER_FDS_SPARE + sandboxes + SERVER_CONNS_MIN;
	uint64_t left = limit > all ? limit - all + SERVER_CONNS_MIN : SERVER_CONNS_MIN;

	if (limit < least)
		return err_set(e, EMFILE,
			       "too few open files: this process may have %llu at once, the server "
			       "needs at least %llu, and %llu for %u sandboxes: raise the hard "
			       "limit (ulimit -Hn; LimitNOFILE= of a systemd unit; --ulimit "
			       "nofile= of a container)",
			       (unsigned long long)limit, (unsigned long long)least,
			       (unsigned long long)all, max_sandboxes);
	if (limit < all)
		log_warn("event=few-descriptors limit=%llu needed=%llu max_sandboxes=%u "
			 "detail=\"not so many sandboxes can run: raise the hard limit of open "
			 "files, or lower --max-sandboxes\"",
			 (unsigned long long)limit, (unsigned long long)all, max_sandboxes);
	*max_conns = left > SERVER_CONNS_MAX ? SERVER_CONNS_MAX : (unsigned)left;
	return 0;
}

/* As many descriptors as we may have. */
static int server_limits(struct server *s, struct err *e)
{
	struct rlimit l;

	/* Keys, environments and secrets are in our memory. */
	setrlimit(RLIMIT_CORE, &(struct rlimit){ 0, 0 });
	if (getrlimit(RLIMIT_NOFILE, &l) < 0)
		return err_errno(e, errno, "limit of open files");
	if (l.rlim_cur < l.rlim_max) {
		l.rlim_cur = l.rlim_max;
		setrlimit(RLIMIT_NOFILE, &l);
		getrlimit(RLIMIT_NOFILE, &l);
	}
	return server_plan_descriptors(l.rlim_cur, s->opt->max_sandboxes, &s->max_conns, e);
}

static int server_set_path(struct server *s, struct err *e)
{
	const char *path = s->opt->path;
	auto_free char *made = NULL;

	if (!path && asprintf(&made, "%s/projects", s->opt->home) < 0) {
		made = NULL;
		return err_errno(e, ENOMEM, "projects");
	}
	if (!path)
		path = made;
	if (mkdir(path, 0700) < 0 && errno != EEXIST)
		return err_errno(e, errno, "cannot make %s", path);
	s->path = realpath(path, NULL);
	return s->path ? 0 : err_errno(e, errno, "cannot open %s", path);
}

/* The namespace of nobody else leaves nothing, not even empty directories. */
static void server_clear_path(const struct server *s)
{
	auto_free char *menv = NULL;

	if (!s->path || !s->opt->ns || asprintf(&menv, "%s/%s/menv", s->path, s->opt->ns) < 0)
		return;
	if (!rmdir(menv)) {
		*strrchr(menv, '/') = '\0';
		rmdir(menv);
	}
}

static int server_signals(struct server *s, struct err *e)
{
	static const int signals[] = { SIGTERM, SIGINT, SIGHUP, SIGQUIT };
	int fd = signals_watch(s->loop, &s->signal_watch, signals, ARRAY_SIZE(signals), e);

	if (fd < 0)
		return fd;
	s->signal_fd = fd;
	return 0;
}

/*
 * Where the jail cannot be had no sandbox will start: better said now, to whoever starts the
 * server, than to each client.  The reduced one is asked for by name, and named in the log.
 */
static int server_check_jail(const struct server *s, struct err *e)
{
	if (!strcmp(s->opt->jail, "full"))
		return jail_probe(e);
	log_warn("event=jail-reduced detail=\"no namespaces: a process that a guest takes over "
		 "sees this user's files, processes and network; only its system call list is in "
		 "the way (--jail=reduced)\"");
	return 0;
}

/* One client that is there already: nothing to listen on, and nobody else to keep out. */
static int server_start_stdio(struct server *s, struct err *e)
{
	int rc;

	if ((rc = server_limits(s, e)) || (rc = server_check_jail(s, e)) ||
	    (rc = server_set_path(s, e)) || (rc = loop_create(&s->loop, e)) ||
	    (rc = server_signals(s, e)))
		return rc;
	images_init(&s->images, s->loop, s->opt->home, s->opt->jail, !s->opt->no_pull);
	box_adopt_all(s, s->opt->ns);
	log_info("event=start mcp=stdio path=%s ns=%s sandboxes=%u", s->path, s->opt->ns,
		 s->n_boxes);
	return mcp_stdio_create(s, &s->stdio, e);
}

static int server_open_audit(struct server *s, struct err *e)
{
	const char *path = s->opt->audit_log;
	auto_free char *made = NULL;

	if (path && !strcmp(path, "none"))
		return 0;
	if (!path && asprintf(&made, "%s/" SERVER_AUDIT_FILE, s->opt->home) < 0) {
		made = NULL;
		return err_errno(e, ENOMEM, SERVER_AUDIT_FILE);
	}
	return audit_open(&s->audit, path ? path : made, e);
}

static int server_start(struct server *s, struct err *e)
{
	const struct server_options *opt = s->opt;
	int rc;

	/* What needs descriptors would say less of why it has none. */
	if ((rc = server_limits(s, e)) || (rc = pidfile_take(opt->home, &s->pid_fd, e)) ||
	    (rc = server_check_jail(s, e)) || (rc = server_set_path(s, e)) ||
	    (rc = loop_create(&s->loop, e)) || (rc = server_signals(s, e)))
		return rc;
	images_init(&s->images, s->loop, opt->home, opt->jail, !opt->no_pull);
	if ((rc = server_open_audit(s, e)))
		return rc;
	if (opt->tls_cert)
		rc = tls_context_create(opt->tls_cert, opt->tls_key, &s->tls, e);
	if (!rc)
		rc = server_listen_given(s, e);
	if (!rc)
		rc = server_listen_tcp(s, e);
	/* The key last: a start that fails leaves none behind. */
	if (rc < 0 || (rc = server_listen_unix(s, e)) ||
	    (!opt->dev && (rc = server_key_load(opt->home, opt->key_file, true, opt->reset_key,
						&s->secret, e))) ||
	    (rc = pidfile_write(s->pid_fd, s->address, s->path, e)))
		return rc;
	box_adopt_all(s, NULL);
	log_info("event=start address=%s path=%s dev=%d jail=%s sandboxes=%u", s->address, s->path,
		 opt->dev, opt->jail, s->n_boxes);
	systemd_notify("READY=1");
	if (opt->ready_fd >= 0 && dprintf(opt->ready_fd, "ready %s\n", s->address) < 0)
		log_warn("event=ready-not-told");
	return 0;
}

static void server_fini(struct server *s)
{
	if (s->loop) {
		list_for_each (pos, tmp, &s->conns)
			conn_destroy(list_entry(pos, struct conn, link));
		mcp_stdio_end(s->stdio);
		mcp_sessions_fini(s);
		list_for_each (pos, tmp, &s->boxes)
			box_leave(list_entry(pos, struct box, link));
		images_fini(&s->images);
		volume_removals_fini(s);
		server_bury_now(&s->bury_timer);
		mcp_stdio_destroy(s->stdio);
	}
	server_clear_path(s);
	for (int i = 0; i < LISTEN_COUNT; i++)
		close_fd(&s->listeners[i].fd);
	if (s->opt->unix_path && s->listeners[LISTEN_UNIX].local)
		unlink(s->opt->unix_path);
	close_fd(&s->signal_fd);
	loop_destroy(s->loop);
	tls_context_destroy(s->tls);
	if (s->secret)
		explicit_bzero(s->secret, strlen(s->secret));
	free(s->secret);
	revoked_fini(&s->revoked);
	quotas_fini(&s->quotas);
	audit_close(&s->audit);
	free(s->path);
	pidfile_release(s->opt->home, &s->pid_fd);
}

int server_run(const struct server_options *opt, struct err *e)
{
	static struct server s; /* large, and there is one */
	int rc;

	server_init(&s, opt);
	rc = opt->stdio ? server_start_stdio(&s, e) : server_start(&s, e);
	if (!rc) {
		rc = loop_run(s.loop);
		log_info("event=end");
	}
	server_fini(&s);
	return rc;
}
