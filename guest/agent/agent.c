/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DOC: Theory of operation
 *
 * Purpose
 *   The agent's one thread: an epoll loop that takes frames off the links and hands
 *   them to the objects that serve them.  The protocol is src/codec/frame.h and
 *   docs/agent-protocol.md.
 *
 * Trust boundary
 *   The host is trusted to own the machine, and still bounded: channels, queues and
 *   windows have limits, and a frame that breaks a rule ends its channel or its link.
 *   Programs in the guest are hostile to the agent.  It reads nothing of theirs but the
 *   pipes and ptys it gave them, makes no call on a path that they control (a forked
 *   child does that), and as PID 1 takes no signal that it did not ask for.  Root in the
 *   guest owns the guest: it can reboot it, trace the agent or unmount what it likes,
 *   and harms itself only.
 *
 * States
 *   A link serves nothing before its HELLO; the agent serves nothing before CONFIGURE,
 *   and starts nothing after SHUTDOWN.
 *
 * Failure
 *   Memory or processes running out is an ERROR for the one request.
 */
#include "agent/agent.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <time.h>

#include "agent/exec.h"
#include "agent/files.h"
#include "agent/proc.h"
#include "agent/repl.h"
#include "base/log.h"
#include "base/mem.h"

void agent_defer(struct agent *a, struct deferred *d)
{
	if (list_empty(&d->link))
		list_append(&a->deferred, &d->link);
}

static void agent_run_deferred(struct agent *a)
{
	while (!list_empty(&a->deferred)) {
		struct deferred *d = list_entry(a->deferred.next, struct deferred, link);

		list_remove(&d->link);
		d->fn(d);
	}
}

static void agent_sigchld(struct loop_watch *w, uint32_t events)
{
	struct agent *a = container_of(w, struct agent, sigchld);
	struct signalfd_siginfo si[8];

	(void)events;
	/* Signals merge, so their number says nothing: one wait loop for all. */
	while (read(a->sigchld_fd, si, sizeof(si)) > 0)
		;
	proc_reap(a);
	if (a->reaped)
		a->reaped(a);
}

int agent_init(struct agent *a, const struct agent_platform *platform, const char *build,
	       struct err *e)
{
	struct sigaction ignore = { .sa_handler = SIG_IGN };
	sigset_t mask;
	int rc;

	*a = (struct agent){ .platform = platform, .build = build };
	a->dev_fd = a->pts_fd = a->proc_fd = a->cgroup_fd = a->disk_fd = a->sigchld_fd = -1;
	list_init(&a->links);
	list_init(&a->deferred);
	list_init(&a->procs);
	list_init(&a->interps);
	rc = loop_create(&a->loop, e);
	if (rc)
		return rc;
	sigaction(SIGPIPE, &ignore, NULL);
	sigemptyset(&mask);
	sigaddset(&mask, SIGCHLD);
	sigprocmask(SIG_BLOCK, &mask, NULL);
	a->sigchld_fd = signalfd(-1, &mask, SFD_CLOEXEC | SFD_NONBLOCK);
	if (a->sigchld_fd < 0)
		return err_errno(e, errno, "agent: signalfd");
	loop_watch_init(&a->sigchld, agent_sigchld);
	rc = loop_watch_add(a->loop, &a->sigchld, a->sigchld_fd, EPOLLIN);
	return rc ? err_errno(e, -rc, "agent: epoll") : 0;
}

void agent_fini(struct agent *a)
{
	while (!list_empty(&a->links))
		link_destroy(list_entry(a->links.next, struct link, node));
	repl_fini(a);
	agent_run_deferred(a);
	/* All were killed above; each is reaped by the object that it belongs to. */
	while (!list_empty(&a->procs)) {
		siginfo_t si;

		if (waitid(P_ALL, 0, &si, WEXITED | WNOWAIT) && errno != EINTR)
			break;
		proc_reap(a);
		agent_run_deferred(a);
	}
	loop_watch_remove(&a->sigchld);
	close_fd(&a->sigchld_fd);
	close_fd(&a->dev_fd);
	close_fd(&a->pts_fd);
	close_fd(&a->proc_fd);
	close_fd(&a->cgroup_fd);
	close_fd(&a->disk_fd);
	loop_destroy(a->loop);
	a->loop = NULL;
}

static void agent_turn_end(struct agent *a)
{
	do {
		agent_run_deferred(a);
		list_for_each (i, tmp, &a->links)
			link_flush(list_entry(i, struct link, node));
	} while (!list_empty(&a->deferred));
}

int agent_run(struct agent *a)
{
	while (!a->ended) {
		int rc = loop_run_once(a->loop, -1);

		if (rc < 0)
			return rc;
		agent_turn_end(a);
	}
	return 0;
}

int agent_hello(struct link *l, const struct frame *f)
{
	const struct agent_platform *p = l->agent->platform;
	struct frame_hello_ack ack = { .version = FRAME_VERSION, .link = (uint8_t)l->kind };
	struct frame_hello hello;
	struct err e = ERR_INIT;
	int rc;

	if (f->type != FRAME_HELLO || f->channel || frame_decode(f, &hello, sizeof(hello)) ||
	    memcmp(hello.magic, FRAME_MAGIC, FRAME_MAGIC_SIZE))
		return -EPROTO;
	if (hello.version_min > FRAME_VERSION || hello.version < FRAME_VERSION)
		rc = err_set(&e, EPROTONOSUPPORT,
			     "the agent speaks protocol version %u, the host %u to %u",
			     FRAME_VERSION, hello.version_min, hello.version);
	else if (hello.link != l->kind)
		rc = err_set(&e, EPROTO, "this is link %d, the host takes it for %d", l->kind,
			     hello.link);
	else
		/* Before anything of a user runs; without it, nothing does. */
		rc = p->seed ? p->seed(hello.realtime_ns, hello.entropy, sizeof(hello.entropy), &e)
			     : 0;
	explicit_bzero(hello.entropy, sizeof(hello.entropy));
	if (rc) {
		link_send_error(l, 0, &e);
		return rc;
	}
	memcpy(ack.magic, FRAME_MAGIC, FRAME_MAGIC_SIZE);
	ack.generation = hello.generation;
	ack.build = frame_str_of(l->agent->build);
	link_send(l, 0, FRAME_HELLO_ACK, &ack);
	return 0;
}

/* Ends the link with the reason.  The answer to the HELLO goes first, or nobody would listen. */
static void agent_refuse(struct link *l, const struct err *e)
{
	link_flush(l);
	link_reset(l);
	link_send_error(l, 0, e);
}

void agent_configured(struct agent *a, const struct err *e)
{
	struct frame_configured done = { 0 };
	struct link *l = a->configuring;
	struct timespec now;
	struct utsname uts;

	a->configuring = NULL;
	if (e) {
		agent_refuse(l, e);
		return;
	}
	a->configured = true;
	clock_gettime(CLOCK_BOOTTIME, &now);
	done.uptime_ns = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
	if (!uname(&uts))
		done.kernel = frame_str_of(uts.release);
	/* A host that has said HELLO again since has to find out by itself. */
	if (l->synced)
		link_send(l, 0, FRAME_CONFIGURED, &done);
}

static void agent_configure(struct link *l, const struct frame *f)
{
	struct agent *a = l->agent;
	struct frame_configure req;
	struct err e = ERR_INIT;
	int rc;

	if (frame_decode(f, &req, sizeof(req)))
		rc = err_set(&e, EPROTO, "CONFIGURE: malformed request");
	else if (a->configured || a->configuring)
		rc = err_set(&e, EALREADY, "CONFIGURE: the machine is configured already");
	else
		rc = 0;
	if (rc) {
		agent_refuse(l, &e);
		return;
	}
	a->configuring = l;
	rc = a->platform->configure ? a->platform->configure(a, &req, &e) : 0;
	if (rc <= 0)
		agent_configured(a, rc ? &e : NULL);
}

static void agent_clock(struct link *l, const struct frame *f)
{
	const struct agent_platform *p = l->agent->platform;
	struct frame_clock m;
	struct err e = ERR_INIT;
	int rc;

	if (frame_decode(f, &m, sizeof(m)))
		rc = err_set(&e, EPROTO, "CLOCK: malformed request");
	else
		rc = p->set_clock ? p->set_clock(m.realtime_ns, &e) : 0;
	if (rc)
		log_warn("event=clock_failed reason=\"%s\"", err_text(&e));
}

static void agent_shutdown(struct link *l, const struct frame *f)
{
	struct agent *a = l->agent;
	struct frame_shutdown m = { 0 };

	if (a->stopping || (f->len && frame_decode(f, &m, sizeof(m))))
		return;
	a->stopping = true;
	if (a->platform->shutdown)
		a->platform->shutdown(a, m.grace_ms);
}

/* Frames of channel 0. */
static void agent_link_frame(struct link *l, const struct frame *f)
{
	struct err e = ERR_INIT;

	switch (f->type) {
	case FRAME_PING:
		if (f->len > FRAME_PING_MAX)
			break;
		if (frame_encode_raw(&l->out, 0, FRAME_PONG, 0, f->body, f->len))
			l->broken = true;
		return;
	case FRAME_CONFIGURE:
		agent_configure(l, f);
		return;
	case FRAME_CLOCK:
		agent_clock(l, f);
		return;
	case FRAME_SHUTDOWN:
		agent_shutdown(l, f);
		return;
	default:
		if (!frame_type_known(f->type))
			return; /* from a newer host; what needs an answer has a channel */
	}
	err_set(&e, EPROTO, "%s does not belong on channel 0", frame_type_name(f->type));
	link_reset(l);
	link_send_error(l, 0, &e);
}

static struct channel *agent_channel_find(struct link *l, uint32_t id)
{
	list_for_each (i, tmp, &l->channels) {
		struct channel *c = list_entry(i, struct channel, node);

		if (c->id == id)
			return c;
	}
	return NULL;
}

/* A request on a channel that is not open. */
static void agent_request(struct link *l, const struct frame *f)
{
	struct agent *a = l->agent;
	struct err e = ERR_INIT;

	if (!a->configured)
		err_set(&e, EAGAIN, "%s: the machine is not configured yet",
			frame_type_name(f->type));
	else if (a->stopping)
		err_set(&e, ESHUTDOWN, "%s: the machine is shutting down", frame_type_name(f->type));
	else if (l->n_channels >= FRAME_CHANNELS_MAX)
		err_set(&e, EMFILE, "%s: %u channels are open already", frame_type_name(f->type),
			FRAME_CHANNELS_MAX);
	if (e.code) {
		link_send_error(l, f->channel, &e);
		return;
	}
	switch (f->type) {
	case FRAME_EXEC:
		exec_open(l, f);
		return;
	case FRAME_REPL_RUN:
		repl_open(l, f);
		return;
	case FRAME_METRICS:
		metrics_open(l, f);
		return;
	case FRAME_FILE_READ ... FRAME_FILE_RENAME:
		files_open(l, f);
		return;
	case FRAME_PING:
		if (f->len > FRAME_PING_MAX)
			break;
		if (frame_encode_raw(&l->out, f->channel, FRAME_PONG, 0, f->body, f->len))
			l->broken = true;
		return;
	default:
		err_set(&e, ENOSYS, "request type %u is not known to this agent", f->type);
		link_send_error(l, f->channel, &e);
	}
}

void agent_frame(struct link *l, const struct frame *f)
{
	struct err e = ERR_INIT;
	struct channel *c;
	int rc;

	if (!f->channel) {
		agent_link_frame(l, f);
		return;
	}
	c = agent_channel_find(l, f->channel);
	switch (f->type) {
	case FRAME_CLOSE:
		if (c)
			c->ops->close(c);
		return;
	case FRAME_DATA:
	case FRAME_EOF:
	case FRAME_CREDIT:
	case FRAME_EXEC_RESIZE:
	case FRAME_EXEC_SIGNAL:
		/* They may cross the channel's last message on the way: no error. */
		if (!c)
			return;
		rc = c->ops->frame(c, f);
		if (rc) {
			log_warn("event=bad_channel_frame type=%s rc=%d", frame_type_name(f->type),
				 rc);
			c->ops->close(c);
		}
		return;
	default:
		if (!c) {
			agent_request(l, f);
			return;
		}
	}
	err_set(&e, EPROTO, "channel %u is in use", (unsigned)f->channel);
	link_reset(l);
	link_send_error(l, 0, &e);
}
