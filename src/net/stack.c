/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DOC: Theory of operation
 *
 * Purpose
 *   Carries a sandbox's traffic: Ethernet frames of its NIC on one side, ordinary
 *   sockets of the host on the other, with libslirp's TCP/IP between them.  Each
 *   frame of the guest passes net_policy_check() before libslirp sees it; what the
 *   guest receives are answers to what it was allowed to send, and what comes to its
 *   published ports (ports.c).
 *
 * Trust boundary
 *   The guest's frames are hostile.  libslirp parses them after the policy has
 *   checked every header; it is still assumed that a guest may take this process
 *   over, which is what its jail is for (docs/threat-model.md).
 *
 * States
 *   One thread, one ppoll(2) a round: the frame socket, the netlink socket of
 *   hostaddr.c, and libslirp's sockets.  Not sys/loop.h: libslirp tells anew before
 *   each wait which sockets it wants and for what, so epoll would need a system call
 *   for each change and would still be asked as often as poll.
 *
 *   Back-pressure to the host: while more than FRAMES_OUT_HIGH bytes wait for the
 *   VM, libslirp's sockets are not read, so TCP's windows close and datagrams are
 *   dropped by the kernel.  Back-pressure to the guest: its frames are always
 *   taken; libslirp's windows hold TCP back, and UDP that the host does not take is
 *   lost, as on any network.
 *
 * Failure
 *   The VM's end of the socket closed: the normal end.  Anything else that ends it
 *   is an error; the supervisor stops the sandbox then.
 *
 * Limits
 *   At most STACK_SOCKETS_MAX host sockets (also RLIMIT_NOFILE): a connection more
 *   is refused to the guest.  While a TCP connection is open libslirp wakes up twice
 *   a second for its timers; with none open nothing wakes up.  No IPv6: frames of it
 *   are dropped, because what is not policed must not pass.
 */
#include "net/stack.h"

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <slirp/libslirp.h>

#include "base/log.h"
#include "base/mem.h"
#include "net/frames.h"
#include "net/hostaddr.h"
#include "net/mss.h"
#include "net/ports.h"
#include "net/reply.h"
#include "net/wire.h"

#define STACK_SOCKETS_MAX 1024u
#define STACK_FIXED 2u /* entries of the poll set before the UDP ports' and libslirp's */

/* libslirp never asks for more than this, also when it has nothing to wait for. */
#define STACK_IDLE_MS 1000u

struct stack {
	struct net_policy policy;
	struct frames frames;
	struct hostaddr hostaddr; /* fd -1 unless the scope needs it */
	Slirp *slirp;
	struct ports ports;
	struct pollfd fds[STACK_FIXED + PORTS_MAX + STACK_SOCKETS_MAX];
	nfds_t n_fds;
	int failed; /* negative errno of the frame socket, found in a callback */
	bool arp; /* the guest's MAC may be known now: libslirp sends what waits in its next round */
	uint64_t passed, reasons[NET_REASONS]; /* frames of the guest */
	struct log_limit log_denied, log_slirp;
};

/* ---- libslirp's callbacks ---------------------------------------------- */

static ssize_t stack_cb_send(const void *frame, size_t len, void *opaque)
{
	struct stack *s = opaque;
	int rc;

	/* It is libslirp's own buffer, which it does not look at any more. */
	mss_raise((uint8_t *)frame, len);
	rc = frames_send(&s->frames, frame, len);
	ports_sent(&s->ports, frame, len);
	if (rc < 0 && !s->failed)
		s->failed = rc;
	return (ssize_t)len;
}

static void stack_cb_guest_error(const char *msg, void *opaque)
{
	struct stack *s = opaque;

	if (log_limit_pass(&s->log_slirp, NULL))
		log_warn("event=guest-error detail=\"%s\"", msg);
}

static int64_t stack_cb_clock_ns(void *opaque)
{
	struct timespec ts;

	(void)opaque;
	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

/* Its only timer sends IPv6 router advertisements, and IPv6 is off. */
static void *stack_cb_timer_new(SlirpTimerId id, void *cb_opaque, void *opaque)
{
	(void)id;
	(void)cb_opaque;
	return opaque;
}

static void stack_cb_timer_free(void *timer, void *opaque)
{
	(void)timer;
	(void)opaque;
}

static void stack_cb_timer_mod(void *timer, int64_t expire_ms, void *opaque)
{
	(void)timer;
	(void)expire_ms;
	(void)opaque;
}

/* The poll set is made anew each round: only ports.c has something to remember. */
static void stack_cb_register_fd(int fd, void *opaque)
{
	struct stack *s = opaque;

	ports_fd_opened(&s->ports, fd);
}

static void stack_cb_unregister_fd(int fd, void *opaque)
{
	struct stack *s = opaque;

	ports_fd_closed(&s->ports, fd);
}

static void stack_cb_notify(void *opaque)
{
	(void)opaque;
}

static const SlirpCb stack_callbacks = {
	.send_packet = stack_cb_send,
	.guest_error = stack_cb_guest_error,
	.clock_get_ns = stack_cb_clock_ns,
	.timer_new_opaque = stack_cb_timer_new,
	.timer_free = stack_cb_timer_free,
	.timer_mod = stack_cb_timer_mod,
	.register_poll_fd = stack_cb_register_fd,
	.unregister_poll_fd = stack_cb_unregister_fd,
	.notify = stack_cb_notify,
};

/* ---- frames of the guest ----------------------------------------------- */

static void stack_log_denied(struct stack *s, const struct net_flow *f, enum net_reason why)
{
	static const char *const protos[] = {
		[IPPROTO_ICMP] = "icmp",
		[IPPROTO_TCP] = "tcp",
		[IPPROTO_UDP] = "udp",
	};
	struct in_addr dst = { .s_addr = htonl(f->dst) };
	const char *proto = f->proto < ARRAY_SIZE(protos) ? protos[f->proto] : NULL;
	char text[INET_ADDRSTRLEN];
	unsigned held;

	/* A connection is one attempt, however many segments the guest sends for it. */
	if (f->proto == IPPROTO_TCP && f->transport && !(f->tcp_flags & WIRE_TCP_SYN))
		return;
	if (!log_limit_pass(&s->log_denied, &held))
		return;
	inet_ntop(AF_INET, &dst, text, sizeof(text));
	log_warn("event=denied scope=%s reason=%s proto=%s number=%u dst=%s port=%u held_back=%u",
		 net_scope_name(s->policy.scope), net_reason_name(why), proto ? proto : "other",
		 f->proto, text, f->dport, held);
}

static void stack_deny(struct stack *s, const uint8_t *frame, const struct net_flow *f,
		       enum net_reason why)
{
	uint8_t reply[NET_REPLY_MAX];
	size_t n = net_reply_build(frame, f, reply);

	stack_log_denied(s, f, why);
	if (n)
		stack_cb_send(reply, n, s);
}

static void stack_input(struct stack *s, const uint8_t *frame, size_t len)
{
	struct net_flow flow;
	enum net_reason why;
	enum net_verdict verdict = net_policy_check(&s->policy, frame, len, &flow, &why);

	/* An answer of a published port: what it answers to was let in. */
	if (verdict != NET_DROP) {
		switch (ports_take(&s->ports, frame, &flow)) {
		case PORTS_TAKEN:
			s->passed++;
			return;
		case PORTS_PASS:
			verdict = NET_PASS;
			break;
		case PORTS_OTHER:
			break;
		}
	}
	switch (verdict) {
	case NET_PASS:
		s->passed++;
		s->arp = s->arp || !flow.src;
		slirp_input(s->slirp, frame, (int)len);
		return;
	case NET_DENY:
		stack_deny(s, frame, &flow, why);
		break;
	case NET_DROP:
		break;
	}
	s->reasons[why]++;
}

/* Return: 0, -ENODATA when the VM closed its end, or another errno. */
static int stack_read_frames(struct stack *s, struct err *e)
{
	const uint8_t *frame;
	size_t len;
	int rc = frames_receive(&s->frames);

	if (rc == -ENODATA || rc == -ECONNRESET)
		return -ENODATA;
	if (rc < 0)
		return err_errno(e, -rc, "frames: read");
	while ((rc = frames_next(&s->frames, &frame, &len)) > 0)
		stack_input(s, frame, len);
	return rc < 0 ? err_set(e, -rc, "frames: the VM sent an impossible length") : 0;
}

/* ---- the loop ---------------------------------------------------------- */

static int stack_add_poll(int fd, int events, void *opaque)
{
	struct stack *s = opaque;
	short want = 0;

	if (s->n_fds == ARRAY_SIZE(s->fds))
		return -1;
	if (events & SLIRP_POLL_IN)
		want |= POLLIN;
	if (events & SLIRP_POLL_OUT)
		want |= POLLOUT;
	if (events & SLIRP_POLL_PRI)
		want |= POLLPRI;
	/* While the VM is behind they wait, all of them: an error would not go away. */
	s->fds[s->n_fds] = (struct pollfd){
		.fd = !ports_fd_wanted(&s->ports, fd) || frames_full(&s->frames) ? -1 : fd,
		.events = want,
	};
	return (int)s->n_fds++;
}

static int stack_get_revents(int index, void *opaque)
{
	struct stack *s = opaque;
	short got = s->fds[index].revents;
	int events = 0;

	if (got & POLLOUT)
		events |= SLIRP_POLL_OUT;
	/* The sockets before this one may just have filled the queue. */
	if (frames_full(&s->frames))
		return events;
	if (got & POLLIN)
		events |= SLIRP_POLL_IN;
	if (got & POLLPRI)
		events |= SLIRP_POLL_PRI;
	if (got & POLLERR)
		events |= SLIRP_POLL_ERR;
	if (got & POLLHUP)
		events |= SLIRP_POLL_HUP;
	return events;
}

static int stack_wait(struct stack *s, const sigset_t *mask)
{
	uint32_t timeout_ms = UINT32_MAX;
	struct timespec ts;
	bool forever;

	s->fds[0] = (struct pollfd){
		.fd = s->frames.fd,
		.events = (short)(POLLIN | (buf_len(&s->frames.out) ? POLLOUT : 0)),
	};
	s->fds[1] = (struct pollfd){ .fd = s->hostaddr.fd, .events = POLLIN };
	s->n_fds = STACK_FIXED;
	s->n_fds += ports_fill(&s->ports, s->fds + s->n_fds, frames_full(&s->frames));
	slirp_pollfds_fill(s->slirp, &timeout_ms, stack_add_poll, s);
	ports_reap(&s->ports);

	/* A listener alone makes libslirp ask for its timers. */
	forever = timeout_ms >= STACK_IDLE_MS || ports_only_listen(&s->ports);
	if (s->arp) {
		s->arp = forever = false;
		timeout_ms = 0;
	}
	ts.tv_sec = timeout_ms / 1000;
	ts.tv_nsec = (long)(timeout_ms % 1000) * 1000000;
	return ppoll(s->fds, s->n_fds, forever ? NULL : &ts, mask);
}

static int stack_round(struct stack *s, const sigset_t *mask, struct err *e)
{
	int n = stack_wait(s, mask), rc = 0;

	if (n < 0)
		return errno == EINTR ? 0 : err_errno(e, errno, "poll");
	if (s->fds[1].revents) {
		rc = hostaddr_update(&s->hostaddr, &s->policy, e);
		if (rc < 0)
			return rc;
	}
	if (s->fds[0].revents & POLLOUT) {
		rc = frames_flush(&s->frames);
		if (rc < 0 && !s->failed)
			s->failed = rc;
	}
	rc = ports_serve(&s->ports, s->fds + STACK_FIXED, &s->frames);
	if (rc < 0 && !s->failed)
		s->failed = rc;
	rc = 0;
	slirp_pollfds_poll(s->slirp, 0, stack_get_revents, s);
	/* After libslirp's own sockets: it may close some of them on a guest's frame. */
	if (s->fds[0].revents & (POLLIN | POLLHUP | POLLERR))
		rc = stack_read_frames(s, e);
	if (rc == 0 && s->failed) {
		if (s->failed == -EPIPE || s->failed == -ECONNRESET)
			return -ENODATA;
		return err_errno(e, -s->failed, "frames: write");
	}
	return rc;
}

int stack_run(struct stack *s, const volatile sig_atomic_t *stop, const sigset_t *mask,
	      struct err *e)
{
	while (!*stop) {
		int rc = stack_round(s, mask, e);

		if (rc == -ENODATA)
			return 0;
		if (rc < 0)
			return rc;
	}
	return 0;
}

/* ---- life -------------------------------------------------------------- */

int stack_create(struct stack **out, const struct stack_config *cfg, struct err *e)
{
	const SlirpConfig slirp = {
		.version = 4,
		.in_enabled = true,
		.vnetwork.s_addr = htonl(NET_PREFIX_IP),
		.vnetmask.s_addr = htonl(NET_PREFIX_MASK),
		.vhost.s_addr = htonl(NET_HOST_IP),
		.vnameserver.s_addr = htonl(NET_GATEWAY_IP),
		.if_mtu = MSS_SLIRP_MTU,
		.if_mru = MSS_SLIRP_MTU,
		/* The policy says so already; two locks on this door. */
		.disable_host_loopback = cfg->scope != NET_SCOPE_ANY,
		.disable_dhcp = true, /* the agent sets the address */
	};
	auto_free struct stack *s = calloc(1, sizeof(*s));
	int rc;

	if (!s)
		return err_errno(e, ENOMEM, "network stack");
	s->policy.scope = cfg->scope;
	memcpy(s->policy.guest_mac, cfg->guest_mac, sizeof(s->policy.guest_mac));
	s->log_denied = (struct log_limit)LOG_LIMIT(20, 1000);
	s->log_slirp = (struct log_limit)LOG_LIMIT(5, 1000);
	s->hostaddr.fd = -1;
	if (cfg->scope == NET_SCOPE_PUBLIC) {
		rc = hostaddr_init(&s->hostaddr, &s->policy, e);
		if (rc < 0)
			return rc;
	}
	rc = frames_init(&s->frames, cfg->frames_fd, e);
	if (rc < 0) {
		hostaddr_fini(&s->hostaddr);
		return rc;
	}
	s->slirp = slirp_new(&slirp, &stack_callbacks, s);
	if (!s->slirp) {
		frames_fini(&s->frames);
		hostaddr_fini(&s->hostaddr);
		return err_set(e, EINVAL, "libslirp %s refused its configuration",
			       slirp_version_string());
	}
	rc = ports_init(&s->ports, s->slirp, cfg->guest_mac, cfg->ports, cfg->n_ports, e);
	if (rc < 0) {
		stack_destroy(take_ptr(&s));
		return rc;
	}
	*out = take_ptr(&s);
	return 0;
}

void stack_destroy(struct stack *s)
{
	if (!s)
		return;
	slirp_cleanup(s->slirp);
	ports_fini(&s->ports);
	frames_fini(&s->frames);
	hostaddr_fini(&s->hostaddr);
	free(s);
}

void stack_log_summary(const struct stack *s)
{
	char text[512] = "";
	size_t n = 0;

	for (int r = NET_REASON_NONE + 1; r < NET_REASONS && n < sizeof(text); r++)
		if (s->reasons[r])
			n += (size_t)snprintf(text + n, sizeof(text) - n, " %s=%llu",
					      net_reason_name((enum net_reason)r),
					      (unsigned long long)s->reasons[r]);
	log_info("event=summary passed=%llu lost=%llu%s", (unsigned long long)s->passed,
		 (unsigned long long)s->frames.dropped, text);
	ports_log_summary(&s->ports);
}
