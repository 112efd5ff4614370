/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DOC: Theory of operation
 *
 * Purpose: `msb supervise` owns one sandbox from its start to its end: it starts the VM
 * process and msb-net, relays between clients and the guest's agent (relay.c), keeps the
 * logs, and cleans up.  One process per sandbox; if it dies, everything of the sandbox
 * dies with it, and nothing else does.
 *
 * Trust boundary: runs unjailed as the user.  What comes from the guest reaches it as
 * console bytes (kept, never interpreted) and agent frames (bounded in codec/frame.c and
 * relay.c).
 *
 * States: starting -> booting (the VM runs) -> ready (the agent answered CONFIGURED) ->
 * stopping -> stopped.  Every end goes through supervisor_stop(), which fixes the reason
 * once, and supervisor_vm_gone(), which sees the VM process dead; only then are clients
 * told, and the process leaves.
 *
 * Kept: a sandbox that is not ephemeral has its directory, disk (upper.c) and logs for
 * good, may have a command of its own (command.c), and ends by a shutdown of its guest: its
 * processes are asked to end, and what they wrote is synced, before the power goes.
 *
 * Ends: a client's SANDBOX_STOP; SIGTERM, SIGINT, SIGHUP; the owner's connection closes
 * (ephemeral sandboxes, unless detached); nobody holds it any more (kept ones, unless
 * detached); the VM or msb-net dies; the guest breaks the protocol; the guest
 * does not answer within boot_timeout_s.  SIGKILL of the supervisor takes VM and msb-net
 * along (die_with_parent); the directory is then removed by the msb that started it, or by
 * the next one (lib/launch.c).
 */
#include "sandbox/supervisor.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "sandbox/internal.h"
#include "sys/file.h"
#include "sys/signals.h"
#include "sys/tree.h"

#define STOP_GRACE_MS 10000u /* a persistent sandbox's own time to end, at most */
#define STOP_EXTRA_MS 20000u /* after the grace: kill, sync, umount; then the VM is killed */
#define LINGER_MS 5000u /* for clients to take what is queued for them */

static void supervisor_set_state(struct supervisor *s, enum sandbox_state state)
{
	struct frame_sandbox_state f = {
		.state = (uint8_t)state,
		.engine = frame_str_of(s->engine->name),
		.isolation = frame_str_of(s->engine->isolation),
	};

	s->state = state;
	if (state == SANDBOX_READY)
		f.boot_ns = loop_now_ns() - s->started_ns;
	if (state == SANDBOX_STOPPED) {
		f.detail = frame_str_of(s->end_reason);
		f.code = (uint32_t)s->end_code;
	}
	log_info("event=state state=%d", state);
	relay_set_state(&s->relay, &f);
}

static int64_t supervisor_realtime_us(void)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

/* state.json is for people and `msb status`: what cannot be written costs only that. */
static void supervisor_write_state(struct supervisor *s)
{
	auto_free char *text = NULL;
	struct err e = ERR_INIT;

	if (s->cfg.ephemeral)
		return;
	if (s->engine) {
		snprintf(s->state_record.engine, sizeof(s->state_record.engine), "%s",
			 s->engine->name);
		snprintf(s->state_record.isolation, sizeof(s->state_record.isolation), "%s",
			 s->engine->isolation);
	}
	snprintf(s->state_record.reason, sizeof(s->state_record.reason), "%s", s->end_reason);
	for (char *p = s->state_record.reason; *p; p++)
		if ((unsigned char)*p < 0x20 || (unsigned char)*p >= 0x7f)
			*p = '?';
	if (box_state_format(&s->state_record, &text, &e) ||
	    file_write_at(s->dirfd, BOX_STATE_FILE, text, strlen(text), 0600, false, &e))
		log_warn("event=state-not-written reason=\"%s\"", err_text(&e));
}

static struct supervisor *supervisor_of(struct relay *r)
{
	return container_of(r, struct supervisor, relay);
}

/* Fixes the reason of the end; the first one counts. @code 0 = the end was asked for. */
static void supervisor_stop(struct supervisor *s, int code, uint32_t grace_ms, const char *reason)
{
	if (s->state >= SANDBOX_STOPPING) {
		/* Asked again: do not wait any longer. */
		if (s->vm.pid > 0)
			kill(s->vm.pid, SIGKILL);
		return;
	}
	s->end_code = code;
	snprintf(s->end_reason, sizeof(s->end_reason), "%s", reason);
	log_info("event=stop code=%d reason=\"%s\"", code, reason);
	loop_timer_cancel(&s->boot_timer);
	/* What is thrown away needs no clean end. */
	if (!code && !s->cfg.ephemeral && s->state == SANDBOX_READY) {
		supervisor_set_state(s, SANDBOX_STOPPING);
		s->shutting_down = true;
		relay_shutdown(&s->relay, grace_ms);
		loop_timer_set(s->loop, &s->stop_timer, (uint64_t)grace_ms + STOP_EXTRA_MS);
		return;
	}
	supervisor_set_state(s, SANDBOX_STOPPING);
	if (s->vm.pid > 0)
		kill(s->vm.pid, SIGKILL);
}

void supervisor_end(struct supervisor *s, const char *reason)
{
	if (s->state < SANDBOX_STOPPING)
		supervisor_stop(s, 0, STOP_GRACE_MS, reason);
}

static void supervisor_leave(struct supervisor *s)
{
	loop_stop(s->loop, s->end_code ? 1 : 0);
}

static void supervisor_linger_over(struct loop_timer *t)
{
	supervisor_leave(container_of(t, struct supervisor, linger_timer));
}

/* The VM is gone: tell the clients, and leave when they have read it. */
static void supervisor_finish(struct supervisor *s)
{
	if (s->ended)
		return;
	s->ended = true;
	child_kill(&s->net);
	child_kill(&s->volume);
	s->state_record.ended_us = supervisor_realtime_us();
	supervisor_write_state(s);
	supervisor_set_state(s, SANDBOX_STOPPED);
	if (relay_drained(&s->relay))
		supervisor_leave(s);
	else
		loop_timer_set(s->loop, &s->linger_timer, LINGER_MS);
}

/* What the VMM says, if it has something to say, and what the guest's kernel said last. */
static void supervisor_vm_end_reason(struct supervisor *s, int status)
{
	char log[400], console[400], how[80];

	taillog_drain(&s->console);
	taillog_drain(&s->vm_log);
	child_status_text(status, how, sizeof(how));
	taillog_last_lines(&s->vm_log, 2, log, sizeof(log));
	taillog_last_lines(&s->console, 3, console, sizeof(console));
	if (WIFEXITED(status) && !WEXITSTATUS(status))
		snprintf(how, sizeof(how), "rebooted, powered off or panicked");
	snprintf(s->end_reason, sizeof(s->end_reason), "the VM %s%s%s%s%s%s", how,
		 s->state == SANDBOX_BOOTING ? " while booting" : "",
		 log[0] ? "; its last lines: " : "", log,
		 console[0] ? "; the guest's last lines: " : "", console);
	s->end_code = EIO;
}

static void supervisor_vm_gone(struct loop_watch *w, uint32_t events)
{
	struct supervisor *s = container_of(w, struct supervisor, vm_watch);
	int status = 0;

	(void)events;
	loop_watch_remove(w);
	child_reap(&s->vm, &status);
	if (s->state < SANDBOX_STOPPING)
		supervisor_vm_end_reason(s, status);
	s->state_record.clean = s->shutting_down && WIFEXITED(status) && !WEXITSTATUS(status);
	supervisor_finish(s);
}

static void supervisor_net_gone(struct loop_watch *w, uint32_t events)
{
	struct supervisor *s = container_of(w, struct supervisor, net_watch);
	char reason[sizeof(s->end_reason)], how[80], lines[600];
	int status = 0;

	(void)events;
	loop_watch_remove(w);
	child_reap(&s->net, &status);
	taillog_drain(&s->net_log);
	/* It also ends, as it should, when the VM did. */
	if (s->state >= SANDBOX_STOPPING || (WIFEXITED(status) && !WEXITSTATUS(status)))
		return;
	child_status_text(status, how, sizeof(how));
	taillog_last_lines(&s->net_log, 2, lines, sizeof(lines));
	snprintf(reason, sizeof(reason), "the network process msb-net %s%s%s", how,
		 lines[0] ? "; its last lines: " : "", lines);
	supervisor_stop(s, EIO, 0, reason);
}

static void supervisor_boot_timeout(struct loop_timer *t)
{
	struct supervisor *s = container_of(t, struct supervisor, boot_timer);
	char reason[sizeof(s->end_reason)], lines[600];

	taillog_last_lines(&s->console, 3, lines, sizeof(lines));
	snprintf(reason, sizeof(reason),
		 "the guest did not answer within %u s (see --boot-timeout)%s%s",
		 s->cfg.boot_timeout_s, lines[0] ? "; its last lines: " : "", lines);
	supervisor_stop(s, ETIMEDOUT, 0, reason);
}

static void supervisor_stop_timeout(struct loop_timer *t)
{
	struct supervisor *s = container_of(t, struct supervisor, stop_timer);

	log_warn("event=kill reason=\"the guest did not shut down in time\"");
	if (s->vm.pid > 0)
		kill(s->vm.pid, SIGKILL);
}

static void supervisor_on_fault(struct relay *r, const char *reason)
{
	supervisor_stop(supervisor_of(r), EPROTO, 0, reason);
}

static void supervisor_on_configured(struct relay *r, const struct frame_configured *c)
{
	struct supervisor *s = supervisor_of(r);
	struct err e = ERR_INIT;

	if (s->state != SANDBOX_BOOTING)
		return;
	loop_timer_cancel(&s->boot_timer);
	log_info("event=ready guest_uptime_ms=%llu", (unsigned long long)(c->uptime_ns / 1000000));
	s->state_record.ready_us = supervisor_realtime_us();
	supervisor_write_state(s);
	supervisor_set_state(s, SANDBOX_READY);
	relay_set_ready(r);
	if (command_start(s, &e))
		supervisor_stop(s, e.code, 0, err_text(&e));
}

static void supervisor_on_refused(struct relay *r, const struct frame_error *err)
{
	char text[512];

	if (frame_str_copy(&err->message, text, sizeof(text)))
		snprintf(text, sizeof(text), "%s", strerror((int)err->code));
	supervisor_stop(supervisor_of(r), err->code ? (int)err->code : EIO, 0, text);
}

static void supervisor_on_stop(struct relay *r, uint32_t grace_ms)
{
	supervisor_stop(supervisor_of(r), 0, grace_ms > STOP_GRACE_MS ? STOP_GRACE_MS : grace_ms,
			"stopped as asked");
}

static void supervisor_on_owner_gone(struct relay *r)
{
	struct supervisor *s = supervisor_of(r);

	if (s->cfg.ephemeral && !s->cfg.detached)
		supervisor_stop(s, 0, 0, "its owner is gone");
	if (s->ended)
		supervisor_leave(s);
}

static void supervisor_on_call(struct relay *r, struct relay_call *call, const struct frame *f)
{
	netctl_call(&supervisor_of(r)->netctl, call, f);
}

static void supervisor_on_let_go(struct relay *r)
{
	struct supervisor *s = supervisor_of(r);

	if (!s->cfg.ephemeral && !s->cfg.detached && !relay_held(r))
		supervisor_end(s, "nobody uses it any more");
}

static const struct relay_ops supervisor_relay_ops = {
	.on_fault = supervisor_on_fault,
	.on_configured = supervisor_on_configured,
	.on_refused = supervisor_on_refused,
	.on_stop = supervisor_on_stop,
	.on_owner_gone = supervisor_on_owner_gone,
	.on_call = supervisor_on_call,
	.on_let_go = supervisor_on_let_go,
};

static void supervisor_signal(struct loop_watch *w, uint32_t events)
{
	struct supervisor *s = container_of(w, struct supervisor, signal_watch);

	(void)events;
	while (signals_next(s->signal_fd))
		supervisor_stop(s, 0, STOP_GRACE_MS, "the supervisor was asked to end by a signal");
}

static void supervisor_accept(struct loop_watch *w, uint32_t events)
{
	struct supervisor *s = container_of(w, struct supervisor, listen_watch);
	struct err e = ERR_INIT;
	struct ucred cred;
	socklen_t len = sizeof(cred);
	int fd = accept4(s->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	(void)events;
	if (fd < 0)
		return;
	/* The directory is 0700 already; this also holds if it was opened to others. */
	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) < 0 ||
	    (cred.uid != geteuid() && cred.uid != 0)) {
		log_warn("event=client-refused uid=%u", cred.uid);
		close(fd);
		return;
	}
	if (relay_add_client(&s->relay, fd, false, &e))
		log_warn("event=client-refused reason=\"%s\"", err_text(&e));
}

static int supervisor_listen(struct supervisor *s, struct err *e)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	int rc;

	/* Through the descriptor: the path may be longer than sun_path. */
	snprintf(sa.sun_path, sizeof(sa.sun_path), "/proc/self/fd/%d/" SANDBOX_CTL_SOCK, s->dirfd);
	/* One that died left its own. */
	unlinkat(s->dirfd, SANDBOX_CTL_SOCK, 0);
	s->listen_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (s->listen_fd < 0 || bind(s->listen_fd, (struct sockaddr *)&sa, sizeof(sa)) < 0 ||
	    listen(s->listen_fd, 64) < 0)
		return err_errno(e, errno, "cannot make %s/" SANDBOX_CTL_SOCK, s->dir_path);
	rc = loop_watch_add(s->loop, &s->listen_watch, s->listen_fd, EPOLLIN);
	return rc ? err_errno(e, -rc, "ctl.sock") : 0;
}

static int supervisor_signals(struct supervisor *s, struct err *e)
{
	static const int signals[] = { SIGTERM, SIGINT, SIGHUP, SIGQUIT };
	int fd = signals_watch(s->loop, &s->signal_watch, signals, ARRAY_SIZE(signals), e);

	if (fd < 0)
		return fd;
	s->signal_fd = fd;
	return 0;
}

static int supervisor_open_dirs(struct supervisor *s, struct err *e)
{
	struct stat st;
	int log_fd;

	if ((mkdirat(s->dirfd, SANDBOX_RUN_DIR, 0700) < 0 && errno != EEXIST) ||
	    (mkdirat(s->dirfd, SANDBOX_LOG_DIR, 0700) < 0 && errno != EEXIST))
		return err_errno(e, errno, "cannot make directories in %s", s->dir_path);
	/* A link there could have come with somebody's project. */
	if (fstatat(s->dirfd, SANDBOX_RUN_DIR, &st, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISDIR(st.st_mode))
		return err_set(e, ENOTDIR, "%s/" SANDBOX_RUN_DIR " is not a directory", s->dir_path);
	s->logdirfd =
		openat(s->dirfd, SANDBOX_LOG_DIR, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (s->logdirfd < 0)
		return err_errno(e, errno, "cannot open %s/" SANDBOX_LOG_DIR, s->dir_path);
	log_fd = openat(s->logdirfd, "supervisor.log",
			O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (log_fd >= 0)
		log_init(log_fd, LOG_INFO, s->cfg.name);
	return 0;
}

static int supervisor_pid_file(struct supervisor *s, struct err *e)
{
	auto_close int fd =
		openat(s->dirfd, SANDBOX_PID_FILE, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	if (fd < 0 || dprintf(fd, "%d\n", getpid()) < 0)
		return err_errno(e, errno, "cannot write %s/" SANDBOX_PID_FILE, s->dir_path);
	return 0;
}

static int supervisor_load_config(struct supervisor *s, struct err *e)
{
	auto_free char *text = NULL;
	size_t len;
	int rc = file_read_at(s->dirfd, SANDBOX_CONFIG_FILE, SANDBOX_CONFIG_MAX, &text, &len, e);

	return rc ? rc : sandbox_config_parse(text, len, &s->cfg, e);
}

/*
 * A server looks for sandboxes once, when it starts.  If the one that wanted this sandbox is
 * gone before ours could be connected to, its successor has not seen it and never will.
 */
static bool supervisor_unwanted(const struct supervisor *s)
{
	struct pollfd p = { .fd = s->owner_fd };

	return s->cfg.detached && s->owner_fd >= 0 && poll(&p, 1, 0) > 0 && p.revents & POLLHUP;
}

/* On the owner's connection, before a client's hello was read from it. */
static int supervisor_tell_owner(int owner_fd, const struct frame_sandbox_state *f)
{
	struct buf b = BUF_INIT;
	int rc = frame_encode(&b, 0, FRAME_SANDBOX_STATE, 0, f);

	if (!rc && send(owner_fd, buf_data(&b), buf_len(&b), MSG_NOSIGNAL) < 0)
		rc = -errno;
	buf_fini(&b);
	return rc;
}

static int supervisor_start(struct supervisor *s, struct err *e)
{
	int rc;

	if ((rc = supervisor_load_config(s, e)) || (rc = supervisor_open_dirs(s, e)) ||
	    (!s->cfg.ephemeral && (rc = command_load(s, e))) ||
	    (rc = engine_choose(s->cfg.engine, &s->engine, NULL, 0, e)) ||
	    (rc = loop_create(&s->loop, e)) || (rc = supervisor_signals(s, e)) ||
	    (rc = supervisor_pid_file(s, e)) ||
	    (rc = supervisor_start_vm(s, &supervisor_relay_ops, e)) ||
	    (rc = loop_watch_add(s->loop, &s->vm_watch, s->vm.pidfd, EPOLLIN)) ||
	    (s->net.pidfd >= 0 &&
	     (rc = loop_watch_add(s->loop, &s->net_watch, s->net.pidfd, EPOLLIN))) ||
	    (rc = supervisor_listen(s, e)))
		return err_set(e, -rc, "cannot watch the sandbox's processes");
	if (supervisor_unwanted(s))
		return err_set(e, EPIPE, "who started the sandbox is gone");
	s->state_record.started_us = supervisor_realtime_us();
	supervisor_write_state(s);
	supervisor_set_state(s, SANDBOX_BOOTING);
	loop_timer_set(s->loop, &s->boot_timer, (uint64_t)s->cfg.boot_timeout_s * 1000);
	/* Who starts a sandbox that is kept holds others off until it can be connected to. */
	if (s->owner_fd >= 0 && !s->cfg.ephemeral &&
	    supervisor_tell_owner(s->owner_fd, &s->relay.state))
		log_warn("event=owner-gone");
	if (s->owner_fd >= 0)
		return relay_add_client(&s->relay, take_fd(&s->owner_fd), true, e);
	return 0;
}

/* A start that failed is told on the owner's connection: nobody else listens yet. */
static void supervisor_report(struct supervisor *s, const struct err *e)
{
	struct frame_sandbox_state f = {
		.state = SANDBOX_STOPPED,
		.detail = frame_str_of(err_text(e)),
		.code = (uint32_t)e->code,
	};

	log_err("event=start-failed reason=\"%s\"", err_text(e));
	snprintf(s->end_reason, sizeof(s->end_reason), "%s", err_text(e));
	s->state_record.ended_us = supervisor_realtime_us();
	if (s->cfg.name) /* its configuration was read */
		supervisor_write_state(s);
	if (s->owner_fd >= 0 && supervisor_tell_owner(s->owner_fd, &f))
		log_err("event=start-failed reason=\"and nobody to tell it\"");
}

static void supervisor_fini(struct supervisor *s)
{
	child_kill(&s->vm);
	child_kill(&s->net);
	child_kill(&s->volume);
	membership_leave(&s->group);
	netctl_fini(&s->netctl);
	command_fini(s);
	if (s->relay_up)
		relay_fini(&s->relay);
	taillog_fini(&s->console);
	taillog_fini(&s->vm_log);
	taillog_fini(&s->net_log);
	taillog_fini(&s->volume_log);
	close_fd(&s->listen_fd);
	close_fd(&s->signal_fd);
	unlinkat(s->dirfd, SANDBOX_CTL_SOCK, 0);
	unlinkat(s->dirfd, SANDBOX_PID_FILE, 0);
	close_fd(&s->logdirfd);
	loop_destroy(s->loop);
}

static void supervisor_init(struct supervisor *s)
{
	loop_watch_init(&s->vm_watch, supervisor_vm_gone);
	loop_watch_init(&s->net_watch, supervisor_net_gone);
	loop_watch_init(&s->signal_watch, supervisor_signal);
	loop_watch_init(&s->listen_watch, supervisor_accept);
	loop_timer_init(&s->boot_timer, supervisor_boot_timeout);
	loop_timer_init(&s->stop_timer, supervisor_stop_timeout);
	loop_timer_init(&s->linger_timer, supervisor_linger_over);
	list_init(&s->relay.clients);
	netctl_init(&s->netctl, s);
	membership_init(&s->group);
}

int supervisor_main(int dirfd, const char *dir_path, int owner_fd, int ports_fd, int secrets_fd)
{
	static struct supervisor s = {
		/* large, and there is one */
		.vm = CHILD_INIT, .net = CHILD_INIT, .volume = CHILD_INIT,
		.signal_fd = -1,  .listen_fd = -1,   .logdirfd = -1,
	};
	struct err e = ERR_INIT;
	int status = 1;

	s.dirfd = dirfd;
	s.dir_path = dir_path;
	s.owner_fd = owner_fd;
	s.ports_fd = ports_fd;
	s.secrets_fd = secrets_fd;
	supervisor_init(&s);
	if (supervisor_start(&s, &e))
		supervisor_report(&s, &e);
	else
		status = loop_run(s.loop);
	supervisor_fini(&s);
	/* An ephemeral sandbox leaves nothing; its configuration may not even be readable. */
	if (s.cfg.ephemeral)
		tree_remove(AT_FDCWD, dir_path);
	close_fd(&s.owner_fd);
	sandbox_config_fini(&s.cfg);
	close(dirfd);
	return status < 0 ? 1 : status;
}
