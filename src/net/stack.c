/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DOC: Theory of operation
 *
 * Purpose
 *   Carries a sandbox's traffic: Ethernet frames of its NIC on one side, ordinary
 *   sockets of the host on the other, with libslirp's TCP/IP between them.  Each
 *   frame of the guest passes gate_judge() before libslirp sees it; what the guest
 *   receives are answers to what it was allowed to send (gate_admit()), and what comes
 *   to its published ports (ports.c).
 *
 *   A sandbox that was started with nothing open to the outside (closed) has no libslirp at
 *   all: its guest is answered ARP, and told at once that each attempt is denied, which is
 *   then in the log.  What goes to members of its group goes to them (group.c), with or
 *   without libslirp.
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
 *   a second for its timers; with none open nothing wakes up.  Pings over IPv6 end at
 *   the gateway: libslirp does not carry them.
 */
#include "net/stack.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <slirp/libslirp.h>

#include "base/log.h"
#include "base/mem.h"
#include "net/arp.h"
#include "net/control.h"
#include "net/dnsproxy.h"
#include "net/frames.h"
#include "net/gate.h"
#include "net/group.h"
#include "net/hostaddr.h"
#include "net/mss.h"
#include "net/ports.h"
#include "net/secrets.h"
#include "net/wire.h"

#define STACK_SOCKETS_MAX 1024u
#define STACK_FIXED 3u /* entries of the poll set before those of DNS, UDP ports and libslirp */

/* libslirp never asks for more than this, also when it has nothing to wait for. */
#define STACK_IDLE_MS 1000u

struct stack {
	struct gate gate;
	struct control control;
	struct frames frames;
	struct hostaddr hostaddr;
	Slirp *slirp; /* NULL = closed */
	struct dnsproxy dns;
	struct ports ports;
	struct group group;
	struct secrets secrets;
	struct pollfd fds[STACK_FIXED + DNSPROXY_ASKS + NETGROUP_MEMBERS_MAX + PORTS_MAX +
			  SECRETS_POLLS + STACK_SOCKETS_MAX];
	nfds_t n_fds, group_at, ports_at; /* where those of members and of the UDP ports start */
	int failed; /* negative errno of the frame socket, found in a callback */
	bool arp; /* the guest's MAC may be known now: libslirp sends what waits in its next round */
	struct log_limit log_slirp;
};

/* ---- libslirp's callbacks ---------------------------------------------- */

static void stack_send(void *ctx, const uint8_t *frame, size_t len)
{
	struct stack *s = ctx;
	int rc = frames_send(&s->frames, frame, len);

	if (rc < 0 && !s->failed)
		s->failed = rc;
}

static ssize_t stack_cb_send(const void *frame, size_t len, void *opaque)
{
	struct stack *s = opaque;

	/* It is libslirp's own buffer, which it does not look at any more. */
	mss_raise((uint8_t *)frame, len);
	if (gate_admit(&s->gate, frame, len))
		stack_send(s, frame, len);
	ports_sent(&s->ports, frame, len);
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

/* Its only timer sends IPv6 router advertisements; the agent sets the address and the route. */
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
	secrets_fd_closed(&s->secrets, fd);
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

/* gate.to_stack: a frame in the guest's name. */
static void stack_pass(void *ctx, const uint8_t *frame, size_t len)
{
	struct stack *s = ctx;
	struct net_flow flow;

	if (s->group.number && net_packet_read(frame, len, &flow) == NET_PACKET_IP &&
	    net_policy_in_group(&s->gate.policy, &flow.dst))
		group_send(&s->group, frame, &flow);
	else if (s->slirp)
		slirp_input(s->slirp, frame, (int)len);
}

static bool stack_answers(void *ctx, const struct net_flow *f)
{
	struct stack *s = ctx;

	return group_answers(&s->group, f);
}

/* ARP and its like. */
static void stack_neighbour(struct stack *s, const uint8_t *frame, size_t len,
			    const struct net_flow *flow)
{
	uint8_t reply[NET_ARP_FRAME];
	size_t n = flow->version ? 0 : net_arp_build(&s->gate.policy, frame, reply);

	if (n) {
		stack_send(s, reply, n);
	} else if (s->slirp) {
		s->arp = s->arp || !flow->version;
		slirp_input(s->slirp, frame, (int)len);
	}
}

/* What the policy passed. */
static void stack_forward(struct stack *s, const uint8_t *frame, size_t len,
			  const struct net_flow *flow)
{
	s->gate.log.passed++;
	if (!net_policy_has_destination(flow))
		stack_neighbour(s, frame, len, flow);
	else if (net_policy_is_dns(flow))
		/* The gateway answers itself; libslirp never sees it. */
		dnsproxy_frame(&s->dns, frame, flow);
	else if (net_policy_in_group(&s->gate.policy, &flow->dst))
		group_send(&s->group, frame, flow);
	else
		slirp_input(s->slirp, frame, (int)len);
}

/* Is there somebody whom the policy's yes leads to? Its own lock is the second one here. */
static bool stack_reaches(const struct stack *s, const struct net_flow *f)
{
	return s->slirp || !net_policy_has_destination(f) || net_policy_is_dns(f) ||
	       net_policy_in_group(&s->gate.policy, &f->dst);
}

static void stack_input(struct stack *s, const uint8_t *frame, size_t len)
{
	struct net_flow flow;
	enum net_reason why;
	enum net_verdict verdict = gate_judge(&s->gate, frame, len, &flow, &why);

	if (verdict == NET_PASS && !stack_reaches(s, &flow)) {
		verdict = NET_DENY;
		why = NET_REASON_SCOPE;
	}
	/* An answer of a published port: what it answers to was let in. */
	if (verdict != NET_DROP && s->slirp) {
		switch (ports_take(&s->ports, frame, &flow)) {
		case PORTS_TAKEN:
			s->gate.log.passed++;
			return;
		case PORTS_PASS:
			verdict = NET_PASS;
			break;
		case PORTS_OTHER:
			break;
		}
	}
	if (verdict != NET_PASS) {
		gate_refuse(&s->gate, frame, &flow, verdict, why);
		return;
	}
	stack_forward(s, frame, len, &flow);
}

/* What has come already, as far as its limits allow. */
static int stack_take_frames(struct stack *s, struct err *e)
{
	const uint8_t *frame;
	size_t len;
	int rc = 0;

	while (!gate_wait_out(&s->gate) && (rc = frames_next(&s->frames, &frame, &len)) > 0)
		stack_input(s, frame, len);
	return rc < 0 ? err_set(e, -rc, "frames: the VM sent an impossible length") : 0;
}

/* Return: 0, -ENODATA when the VM closed its end, or another errno. */
static int stack_read_frames(struct stack *s, struct err *e)
{
	int rc = stack_take_frames(s, e);

	/* Those that wait for their limit stay where they are; the VM's wait in the socket. */
	if (rc < 0 || gate_wait_out(&s->gate))
		return rc;
	rc = frames_receive(&s->frames);
	if (rc == -ENODATA || rc == -ECONNRESET)
		return -ENODATA;
	if (rc < 0)
		return err_errno(e, -rc, "frames: read");
	return stack_take_frames(s, e);
}

/* Is nothing fetched from the host's sockets for now? */
static bool stack_holds_back(struct stack *s)
{
	return frames_full(&s->frames) || gate_wait_in(&s->gate);
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
		.fd = !ports_fd_wanted(&s->ports, fd) || stack_holds_back(s) ? -1 : fd,
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
	if ((got & (POLLOUT | POLLERR | POLLHUP)) == POLLOUT)
		secrets_fd_connected(&s->secrets, s->fds[index].fd);
	/* The sockets before this one may just have filled the queue, or used up the limit. */
	if (stack_holds_back(s))
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

static uint64_t stack_now_ms(void)
{
	return (uint64_t)stack_cb_clock_ns(NULL) / 1000000;
}

/* When to wake up although nothing has happened, in ms; UINT32_MAX = never. */
static uint32_t stack_timeout(struct stack *s, uint32_t slirp_ms)
{
	const uint64_t now = stack_now_ms(), due = dnsproxy_deadline(&s->dns);
	const uint64_t out = gate_wait_out(&s->gate), in = gate_wait_in(&s->gate);
	/* A listener alone makes libslirp ask for its timers. */
	const bool idle = slirp_ms >= STACK_IDLE_MS || !s->slirp || ports_only_listen(&s->ports);
	uint64_t ms = idle ? UINT32_MAX : slirp_ms;

	if (s->arp) {
		s->arp = false;
		return 0;
	}

	if (due != UINT64_MAX && (due > now ? due - now : 0) < ms)
		ms = due > now ? due - now : 0;
	if (out && out < ms)
		ms = out;
	if (in && in < ms)
		ms = in;
	return (uint32_t)ms;
}

static int stack_wait(struct stack *s, const sigset_t *mask)
{
	uint32_t timeout_ms = UINT32_MAX;
	struct timespec ts;
	short want = buf_len(&s->frames.out) ? POLLOUT : 0;

	/* Frames over their limit wait with the VM. */
	if (!gate_wait_out(&s->gate))
		want |= POLLIN;
	s->fds[0] = (struct pollfd){ .fd = s->frames.fd, .events = want };
	s->fds[1] = (struct pollfd){ .fd = s->hostaddr.fd, .events = POLLIN };
	s->fds[2] = (struct pollfd){ .fd = s->control.fd, .events = POLLIN };
	s->n_fds = STACK_FIXED;
	s->n_fds += dnsproxy_fill(&s->dns, s->fds + s->n_fds);
	s->group_at = s->n_fds;
	s->n_fds += group_fill(&s->group, s->fds + s->n_fds);
	s->ports_at = s->n_fds;
	if (s->slirp) {
		s->n_fds += ports_fill(&s->ports, s->fds + s->n_fds, stack_holds_back(s));
		s->n_fds += secrets_fill(&s->secrets, s->fds + s->n_fds);
		slirp_pollfds_fill(s->slirp, &timeout_ms, stack_add_poll, s);
		ports_reap(&s->ports);
	}

	timeout_ms = stack_timeout(s, timeout_ms);
	ts.tv_sec = timeout_ms / 1000;
	ts.tv_nsec = (long)(timeout_ms % 1000) * 1000000;
	return ppoll(s->fds, s->n_fds, timeout_ms == UINT32_MAX ? NULL : &ts, mask);
}

/* What is neither a frame nor a socket of libslirp's. */
static int stack_serve_own(struct stack *s, struct err *e)
{
	const uint64_t now = stack_now_ms();
	int rc = 0;

	gate_clock(&s->gate, now);
	dnsproxy_clock(&s->dns, now);
	dnsproxy_serve(&s->dns, s->fds + STACK_FIXED);
	if (s->fds[1].revents) {
		rc = hostaddr_update(&s->hostaddr, &s->gate.policy, e);
		if (rc > 0)
			gate_recheck(&s->gate);
	}
	group_serve(&s->group, s->fds + s->group_at);
	/* It may add a member, whose socket has not been polled. */
	if (s->fds[2].revents)
		control_serve(&s->control);
	return rc < 0 ? rc : 0;
}

static int stack_round(struct stack *s, const sigset_t *mask, struct err *e)
{
	int n = stack_wait(s, mask), rc;

	if (n < 0)
		return errno == EINTR ? 0 : err_errno(e, errno, "poll");
	rc = stack_serve_own(s, e);
	if (rc < 0)
		return rc;
	if (s->fds[0].revents & POLLOUT) {
		rc = frames_flush(&s->frames);
		if (rc < 0 && !s->failed)
			s->failed = rc;
		rc = 0;
	}
	rc = s->slirp ? ports_serve(&s->ports, s->fds + s->ports_at, &s->frames) : 0;
	if (rc < 0 && !s->failed)
		s->failed = rc;
	rc = 0;
	if (s->slirp) {
		secrets_serve(&s->secrets);
		slirp_pollfds_poll(s->slirp, 0, stack_get_revents, s);
	}
	/* After libslirp's own sockets: it may close some of them on a guest's frame. */
	if (s->fds[0].revents & (POLLIN | POLLHUP | POLLERR) || frames_waiting(&s->frames))
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

static bool stack_full(void *ctx)
{
	return stack_holds_back(ctx);
}

/* The policy says so already; two locks on this door, where no rule may open it. */
static bool stack_locks_loopback(const struct stack_config *cfg)
{
	return cfg->scope != NET_SCOPE_ANY && !netpolicy_opens_loopback(&cfg->rules);
}

/* What does not depend on anything that can fail. */
static void stack_set_up(struct stack *s, const struct stack_config *cfg)
{
	struct net_policy *p = &s->gate.policy;

	p->scope = cfg->scope;
	p->closed = cfg->closed;
	p->ipv6 = cfg->ipv6;
	p->rules = cfg->rules;
	memcpy(p->guest_mac, cfg->guest_mac, sizeof(p->guest_mac));
	s->gate.to_guest = stack_send;
	s->gate.to_stack = stack_pass;
	s->gate.answers = stack_answers;
	s->gate.ctx = s;
	gate_init(&s->gate, cfg->key);
	gate_clock(&s->gate, stack_now_ms());
	s->log_slirp = (struct log_limit)LOG_LIMIT(5, 1000);
	s->hostaddr.fd = -1;
	s->control.fd = cfg->control_fd;
	s->control.gate = &s->gate;
	s->control.frames = &s->frames;
	s->control.loopback_locked = stack_locks_loopback(cfg);
	s->control.group = &s->group;
	s->group.gate = &s->gate;
	s->group.full = stack_full;
	s->dns.policy = p;
	s->dns.pins = &s->gate.pins;
	s->dns.log = &s->gate.log;
	s->dns.send = stack_send;
	s->dns.ctx = s;
	s->dns.ipv6 = cfg->ipv6;
	s->dns.closed = cfg->closed;
	memcpy(s->dns.guest_mac, cfg->guest_mac, sizeof(s->dns.guest_mac));
}

static int stack_make_slirp(struct stack *s, const struct stack_config *cfg, struct err *e)
{
	SlirpConfig slirp = {
		.version = 4,
		.in_enabled = true,
		.in6_enabled = cfg->ipv6,
		.vprefix_len = NETADDR_GUEST6_BITS,
		.vnetwork.s_addr = htonl(NET_PREFIX_IP),
		.vnetmask.s_addr = htonl(NET_PREFIX_MASK),
		.vhost.s_addr = htonl(NET_HOST_IP),
		.vnameserver.s_addr = htonl(NET_GATEWAY_IP),
		.if_mtu = MSS_SLIRP_MTU,
		.if_mru = MSS_SLIRP_MTU,
		.disable_host_loopback = stack_locks_loopback(cfg),
		.disable_dns = true, /* dnsproxy.c */
		.disable_dhcp = true, /* the agent sets the address */
	};
	int rc;

	/* Our own address stands for the prefix; nobody asks the name server, disable_dns says so. */
	memcpy(&slirp.vprefix_addr6, net_gateway_ip6.b, 16);
	slirp.vprefix_addr6.s6_addr[15] = 0;
	memcpy(&slirp.vhost6, net_gateway_ip6.b, 16);
	memcpy(&slirp.vnameserver6, net_gateway_ip6.b, 16);
	slirp.vnameserver6.s6_addr[15]++;
	s->slirp = slirp_new(&slirp, &stack_callbacks, s);
	if (!s->slirp)
		return err_set(e, EINVAL, "libslirp %s refused its configuration",
			       slirp_version_string());
	rc = ports_init(&s->ports, s->slirp, cfg->guest_mac, cfg->ports, cfg->n_ports, e);
	s->ports.policy = &s->gate.policy;
	s->ports.log = &s->gate.log;
	return rc;
}

int stack_create(struct stack **out, const struct stack_config *cfg, struct err *e)
{
	struct stack *s;
	int rc;

	if (cfg->closed && (cfg->scope > NET_SCOPE_GROUP || cfg->n_ports || cfg->ipv6 ||
			    netpolicy_opens_outside(&cfg->rules)))
		return err_set(e, EINVAL, "something is open, and the sandbox is to be closed");
	s = calloc(1, sizeof(*s));
	if (!s)
		return err_errno(e, ENOMEM, "network stack");
	stack_set_up(s, cfg);
	if ((rc = dnsproxy_init(&s->dns, e)) ||
	    (rc = group_init(&s->group, cfg->group, cfg->name, cfg->key, e)) ||
	    (rc = secrets_init(&s->secrets, cfg->secrets_fd, &s->gate.pins, e)) ||
	    (rc = frames_init(&s->frames, cfg->frames_fd, e)))
		goto fail;
	if (!cfg->closed && ((rc = hostaddr_init(&s->hostaddr, &s->gate.policy, e)) ||
			     (rc = stack_make_slirp(s, cfg, e)) < 0))
		goto fail;
	*out = s;
	return 0;
fail:
	stack_destroy(s);
	return rc;
}

void stack_destroy(struct stack *s)
{
	if (!s)
		return;
	if (s->slirp) {
		slirp_cleanup(s->slirp);
		ports_fini(&s->ports);
	}
	secrets_fini(&s->secrets);
	group_fini(&s->group);
	dnsproxy_fini(&s->dns);
	frames_fini(&s->frames);
	hostaddr_fini(&s->hostaddr);
	free(s);
}

void stack_log_summary(const struct stack *s)
{
	netlog_summary(&s->gate.log, s->frames.dropped + s->group.lost);
	if (s->slirp)
		ports_log_summary(&s->ports);
	secrets_log_summary(&s->secrets);
}
