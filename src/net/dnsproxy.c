/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DOC: Theory of operation
 *
 * Purpose
 *   Answers the guest's DNS.  A name that the policy denies is answered here and never
 *   leaves the host.  The others are asked of the host's resolvers, and the addresses in
 *   the answer are pinned: rules with names open those and no others.  Addresses that no
 *   name may lead to are taken out (rebinding).
 *
 * Trust boundary
 *   Guest, resolver and whoever answers for a name are hostile.  Both directions go
 *   through codec/dns.h, which makes each message anew.  An answer counts only if it comes
 *   from the resolver's address to the port of this one question (a connected socket of
 *   its own, so that the kernel chooses a random port), with its random id and its name.
 *
 * States of a question
 *   asked (socket open, until_ms set) -> answered, or asked of the next resolver, or given
 *   up as SERVFAIL after DNSPROXY_TRIES.  Over TCP where the guest asked over TCP: it does
 *   so because the answer does not fit into a datagram.
 *
 * Limits
 *   DNSPROXY_ASKS questions at a time: one more is answered SERVFAIL at once.
 */
#include "net/dnsproxy.h"

#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "base/mem.h"
#include "net/build.h"
#include "net/wire.h"

#define DNSPROXY_RESOLV_CONF "/etc/resolv.conf"
#define DNSPROXY_LOOK_MS 1000u
#define DNSPROXY_UDP_ROOM (NET_MTU - 28u)

/* Parts of dnsproxy.room. */
#define DNSPROXY_FRAME(p) ((p)->room)
#define DNSPROXY_IN(p) ((p)->room + NET_FRAME_MAX)
#define DNSPROXY_OUT(p) ((p)->room + NET_FRAME_MAX + DNS_MESSAGE_MAX)
#define DNSPROXY_ROOM (NET_FRAME_MAX + 2 * DNS_MESSAGE_MAX)

static uint32_t dnsproxy_random(void *ctx)
{
	uint32_t v = 0;

	(void)ctx;
	/* Cannot fail once the machine's pool is ready, which was long before this. */
	if (getrandom(&v, sizeof(v), 0) != sizeof(v))
		abort();
	return v;
}

/* ---- resolvers ----------------------------------------------------------- */

static void dnsproxy_read_servers(struct dnsproxy *p)
{
	auto_close int fd = open(DNSPROXY_RESOLV_CONF, O_RDONLY | O_CLOEXEC);
	auto_free char *text = malloc(RESOLVCONF_TEXT_MAX);
	size_t have = 0;
	ssize_t n = 0;

	while (fd >= 0 && text && have < RESOLVCONF_TEXT_MAX &&
	       (n = read(fd, text + have, RESOLVCONF_TEXT_MAX - have)) > 0)
		have += (size_t)n;
	resolvconf_parse(text ? text : "", have, &p->servers);
}

static void dnsproxy_look(struct dnsproxy *p)
{
	struct stat st;

	if (p->now_ms < p->look_ms)
		return;
	p->look_ms = p->now_ms + DNSPROXY_LOOK_MS;
	if (stat(DNSPROXY_RESOLV_CONF, &st) < 0)
		return;
	const int64_t seen[3] = { (int64_t)st.st_ino,
				  st.st_mtim.tv_sec * 1000000000 + st.st_mtim.tv_nsec, st.st_size };
	if (!memcmp(seen, p->seen, sizeof(seen)))
		return;
	memcpy(p->seen, seen, sizeof(seen));
	dnsproxy_read_servers(p);
}

/* The interface of a link-local resolver. Return: 0 = there is none of that name. */
static uint32_t dnsproxy_zone(const char *zone)
{
	auto_close int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct ifreq ifr = { .ifr_ifindex = 0 };

	snprintf(ifr.ifr_name, sizeof(ifr.ifr_name), "%s", zone);
	if (fd < 0 || ioctl(fd, SIOCGIFINDEX, &ifr) < 0)
		return 0;
	return (uint32_t)ifr.ifr_ifindex;
}

/* A socket that hears that resolver only. Return: it, or a negative errno. */
static int dnsproxy_connect(const struct resolvconf_server *s, bool tcp)
{
	const int type = (tcp ? SOCK_STREAM : SOCK_DGRAM) | SOCK_NONBLOCK | SOCK_CLOEXEC;
	const bool v4 = netaddr_is_v4(&s->addr);
	auto_close int fd = socket(v4 ? AF_INET : AF_INET6, type, 0);
	union {
		struct sockaddr sa;
		struct sockaddr_in in;
		struct sockaddr_in6 in6;
	} to = { .sa.sa_family = AF_UNSPEC };

	if (fd < 0)
		return -errno;
	if (v4) {
		to.in.sin_family = AF_INET;
		to.in.sin_port = htons(NET_DNS_PORT);
		to.in.sin_addr.s_addr = htonl(netaddr_low32(&s->addr));
	} else {
		to.in6.sin6_family = AF_INET6;
		to.in6.sin6_port = htons(NET_DNS_PORT);
		memcpy(&to.in6.sin6_addr, s->addr.b, 16);
		if (s->zone[0])
			to.in6.sin6_scope_id = dnsproxy_zone(s->zone);
	}
	if (connect(fd, &to.sa, v4 ? sizeof(to.in) : sizeof(to.in6)) < 0 && errno != EINPROGRESS)
		return -errno;
	return take_fd(&fd);
}

/* ---- answers to the guest ---------------------------------------------------- */

static void dnsproxy_reply(struct dnsproxy *p, const struct dnsproxy_origin *to,
			   const struct dns_query *q, const uint8_t *msg, size_t len)
{
	const struct net_ends e = {
		.guest_mac = p->guest_mac,
		.src = netaddr_v4(NET_GATEWAY_IP),
		.dst = netaddr_v4(NET_GUEST_IP),
	};
	uint8_t cut[DNS_QUERY_MAX];
	size_t n;

	if (to->tcp) {
		dnstcp_answer(&p->tcp, to->conn, to->serial, msg, len);
		return;
	}
	if (len > q->udp_size || len > DNSPROXY_UDP_ROOM) {
		len = dns_error_build(q, DNS_NOERROR, true, false, cut);
		msg = cut;
	}
	n = net_build_udp(DNSPROXY_FRAME(p), &e, NET_DNS_PORT, to->port, msg, len);
	p->send(p->ctx, DNSPROXY_FRAME(p), n);
}

static void dnsproxy_reply_error(struct dnsproxy *p, const struct dnsproxy_origin *to,
				 const struct dns_query *q, enum dns_rcode rcode, bool blocked)
{
	uint8_t msg[DNS_QUERY_MAX];

	dnsproxy_reply(p, to, q, msg, dns_error_build(q, rcode, false, blocked, msg));
}

/* ---- questions to resolvers ---------------------------------------------------- */

static void dnsproxy_close(struct dnsproxy_ask *a)
{
	close_fd(&a->fd);
	free(a->answer);
	a->answer = NULL;
	a->have = 0;
	a->sent = false;
	a->poll = -1;
}

static void dnsproxy_free(struct dnsproxy *p, struct dnsproxy_ask *a)
{
	dnsproxy_close(a);
	p->n_asks--;
}

/* Return: 0 = sent, or on its way; else a negative errno. */
static int dnsproxy_send(struct dnsproxy_ask *a)
{
	uint8_t msg[2 + DNS_QUERY_MAX];
	struct dns_query q = a->q;
	size_t n, skip = a->tcp ? 0 : 2;

	if (q.udp_size > DNSPROXY_UDP_SIZE)
		q.udp_size = DNSPROXY_UDP_SIZE;
	n = dns_query_build(&q, a->id, msg + 2);
	wire_put16(msg, (unsigned)n);
	/* A new connection's buffer holds more than this: all or nothing. */
	if (send(a->fd, msg + skip, n + 2 - skip, MSG_NOSIGNAL) != (ssize_t)(n + 2 - skip))
		return errno ? -errno : -EIO;
	a->sent = true;
	return 0;
}

/* Asks the next resolver, until one can be asked. */
static void dnsproxy_try(struct dnsproxy *p, struct dnsproxy_ask *a)
{
	struct dnsproxy_origin from = a->from;

	dnsproxy_close(a);
	while (a->tries < DNSPROXY_TRIES && a->tries < p->servers.n * 3) {
		const unsigned i = a->tries++ % p->servers.n;
		int fd = dnsproxy_connect(&p->servers.servers[i], a->tcp);

		if (fd < 0)
			continue;
		a->fd = fd;
		a->id = (uint16_t)dnsproxy_random(NULL);
		a->until_ms = p->now_ms + DNSPROXY_TRY_MS;
		if (a->tcp || dnsproxy_send(a) == 0)
			return;
		dnsproxy_close(a);
	}
	p->n_asks--;
	dnsproxy_reply_error(p, &from, &a->q, DNS_SERVFAIL, false);
}

/* The guest asks again before it has its answer. */
static bool dnsproxy_is_asked(const struct dnsproxy *p, const struct dnsproxy_origin *from,
			      const struct dns_query *q)
{
	for (unsigned i = 0; i < DNSPROXY_ASKS; i++) {
		const struct dnsproxy_ask *a = &p->asks[i];

		if (a->fd >= 0 && !a->tcp && !from->tcp && a->from.port == from->port &&
		    a->q.id == q->id && a->q.type == q->type && !strcmp(a->q.name, q->name))
			return true;
	}
	return false;
}

static void dnsproxy_ask(struct dnsproxy *p, const struct dnsproxy_origin *from,
			 const struct dns_query *q)
{
	struct dnsproxy_ask *a = p->asks;

	if (dnsproxy_is_asked(p, from, q))
		return;
	while (a < p->asks + DNSPROXY_ASKS && a->fd >= 0)
		a++;
	if (a == p->asks + DNSPROXY_ASKS) {
		dnsproxy_reply_error(p, from, q, DNS_SERVFAIL, false);
		return;
	}
	dnsproxy_look(p);
	*a = (struct dnsproxy_ask){
		.fd = -1,
		.poll = -1,
		.tcp = from->tcp,
		.from = *from,
		.q = *q,
	};
	p->n_asks++;
	dnsproxy_try(p, a);
}

/* Is it a name of the group's? Return: its address, 0 = it is not. */
static uint32_t dnsproxy_member(const struct dnsproxy *p, const char *name)
{
	const struct net_members *m = p->policy->members;

	if (!m || !*name)
		return 0;
	if (!strcmp(m->names[0], name))
		return NET_GUEST_IP;
	for (unsigned i = 1; i <= NETGROUP_MEMBERS_MAX; i++)
		if (!strcmp(m->names[i], name))
			return NET_GROUP_IP + i;
	return 0;
}

static void dnsproxy_reply_member(struct dnsproxy *p, const struct dnsproxy_origin *to,
				  const struct dns_query *q, uint32_t addr)
{
	uint8_t msg[DNS_QUERY_MAX];

	/* Members come and go: nobody is to remember where one was. */
	if (q->type == DNS_A)
		dnsproxy_reply(p, to, q, msg, dns_address_build(q, addr, 0, msg));
	else
		dnsproxy_reply_error(p, to, q, DNS_NOERROR, false);
}

/* A message of the guest. */
static void dnsproxy_question(struct dnsproxy *p, const struct dnsproxy_origin *from,
			      const uint8_t *msg, size_t len)
{
	enum net_reason why;
	struct dns_query q;
	uint32_t member;
	unsigned rule;
	int rc = dns_query_parse(msg, len, &q);

	if (rc == -EBADMSG) {
		if (from->tcp)
			dnstcp_answer(&p->tcp, from->conn, from->serial, NULL, 0);
		return;
	}
	if (rc) {
		dnsproxy_reply_error(p, from, &q, rc == -EINVAL ? DNS_FORMERR : DNS_NOTIMP, false);
		return;
	}
	member = dnsproxy_member(p, q.name);
	if (member) {
		dnsproxy_reply_member(p, from, &q, member);
		return;
	}
	why = net_policy_name(p->policy, q.name, &rule);
	if (why == NET_REASON_NONE && p->closed)
		why = NET_REASON_SCOPE;
	if (why != NET_REASON_NONE) {
		netlog_name(p->log, q.name, q.type, why, rule);
		dnsproxy_reply_error(p, from, &q, DNS_NXDOMAIN, true);
		return;
	}
	dnsproxy_ask(p, from, &q);
}

/* ---- answers of resolvers -------------------------------------------------------- */

struct dnsproxy_judge {
	struct dnsproxy *p;
	const struct dns_query *q;
};

static bool dnsproxy_address(void *ctx, const struct netaddr *addr, uint32_t ttl)
{
	const struct dnsproxy_judge *j = ctx;

	if (!net_policy_answer(j->p->policy, addr)) {
		netlog_rebinding(j->p->log, j->q->name, addr);
		return false;
	}
	pins_add(j->p->pins, addr, j->q->name, ttl);
	return true;
}

/* A denied name is denied under an alias, too; one that is not mentioned is no new name. */
static bool dnsproxy_alias(void *ctx, const char *name)
{
	const struct dnsproxy_judge *j = ctx;
	unsigned rule;

	if (net_policy_name(j->p->policy, name, &rule) != NET_REASON_RULE ||
	    j->p->policy->rules.rules[rule - 1].target == NETRULE_GROUP)
		return true;
	netlog_name(j->p->log, name, DNS_CNAME, NET_REASON_RULE, rule);
	return false;
}

/* Return: is it the answer, and dealt with? */
static bool dnsproxy_answer(struct dnsproxy *p, struct dnsproxy_ask *a, const uint8_t *msg,
			    size_t len)
{
	struct dnsproxy_judge judge = { p, &a->q };
	const struct dns_filter filter = {
		.address = dnsproxy_address,
		.alias = dnsproxy_alias,
		.ctx = &judge,
		.no_ipv6 = !p->ipv6,
		.no_hints = netpolicy_has_names(&p->policy->rules),
	};
	struct dns_answer out = { .bytes = DNSPROXY_OUT(p) };
	int rc = dns_answer_read(msg, len, &a->q, a->id, &filter, &out);

	if (rc == -ESRCH && !a->tcp)
		return false;
	/* Another resolver may know better, as long as not all have been asked. */
	if (rc ||
	    ((out.rcode == DNS_SERVFAIL || out.rcode == DNS_REFUSED || out.rcode == DNS_NOTIMP) &&
	     a->tries < p->servers.n)) {
		dnsproxy_try(p, a);
		return true;
	}
	dnsproxy_free(p, a);
	dnsproxy_reply(p, &a->from, &a->q, out.bytes, out.len);
	return true;
}

static void dnsproxy_read_udp(struct dnsproxy *p, struct dnsproxy_ask *a)
{
	/* A forger may send many; what is left of them waits for the next round. */
	for (unsigned i = 0; i < 16; i++) {
		ssize_t n = recv(a->fd, DNSPROXY_IN(p), DNS_MESSAGE_MAX, MSG_DONTWAIT);

		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			return;
		if (n < 0) {
			dnsproxy_try(p, a); /* nobody listens there */
			return;
		}
		if (dnsproxy_answer(p, a, DNSPROXY_IN(p), (size_t)n))
			return;
	}
}

static void dnsproxy_read_tcp(struct dnsproxy *p, struct dnsproxy_ask *a)
{
	size_t want = a->have < 2 ? 2 : 2 + (size_t)wire_get16(a->length);
	uint8_t *to = a->have < 2 ? a->length + a->have : a->answer + (a->have - 2);
	ssize_t n = recv(a->fd, to, want - a->have, MSG_DONTWAIT);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		dnsproxy_try(p, a);
		return;
	}
	a->have += (size_t)n;
	if (a->have < want)
		return;
	if (a->answer) {
		dnsproxy_answer(p, a, a->answer, a->have - 2);
		return;
	}
	a->answer = wire_get16(a->length) ? malloc(wire_get16(a->length)) : NULL;
	if (!a->answer)
		dnsproxy_try(p, a);
}

static void dnsproxy_ready(struct dnsproxy *p, struct dnsproxy_ask *a, short events)
{
	if (!a->tcp) {
		dnsproxy_read_udp(p, a);
		return;
	}
	if (!a->sent) {
		if (events & (POLLERR | POLLHUP) || dnsproxy_send(a) < 0)
			dnsproxy_try(p, a);
		return;
	}
	dnsproxy_read_tcp(p, a);
}

/* ---- the owner's calls ------------------------------------------------------------- */

nfds_t dnsproxy_fill(struct dnsproxy *p, struct pollfd *fds)
{
	nfds_t n = 0;

	for (unsigned i = 0; i < DNSPROXY_ASKS && n < p->n_asks; i++) {
		struct dnsproxy_ask *a = &p->asks[i];

		if (a->fd < 0)
			continue;
		a->poll = (int)n;
		fds[n++] = (struct pollfd){ .fd = a->fd, .events = a->sent ? POLLIN : POLLOUT };
	}
	return n;
}

void dnsproxy_serve(struct dnsproxy *p, const struct pollfd *fds)
{
	for (unsigned i = 0; i < DNSPROXY_ASKS && p->n_asks; i++) {
		struct dnsproxy_ask *a = &p->asks[i];

		if (a->fd >= 0 && a->poll >= 0 && fds[a->poll].revents)
			dnsproxy_ready(p, a, fds[a->poll].revents);
	}
}

uint64_t dnsproxy_deadline(const struct dnsproxy *p)
{
	uint64_t first = dnstcp_deadline(&p->tcp);

	for (unsigned i = 0; i < DNSPROXY_ASKS && p->n_asks; i++)
		if (p->asks[i].fd >= 0 && p->asks[i].until_ms < first)
			first = p->asks[i].until_ms;
	return first;
}

void dnsproxy_clock(struct dnsproxy *p, uint64_t now_ms)
{
	p->now_ms = p->tcp.now_ms = p->pins->now_ms = now_ms;
	for (unsigned i = 0; i < DNSPROXY_ASKS && p->n_asks; i++)
		if (p->asks[i].fd >= 0 && p->asks[i].until_ms <= now_ms)
			dnsproxy_try(p, &p->asks[i]);
	dnstcp_tick(&p->tcp);
}

void dnsproxy_frame(struct dnsproxy *p, const uint8_t *frame, const struct net_flow *f)
{
	const struct dnsproxy_origin from = { .port = f->sport };

	if (f->proto == IPPROTO_TCP)
		dnstcp_input(&p->tcp, frame, f);
	else
		dnsproxy_question(p, &from, frame + NET_ETH_HEADER + f->payload, f->payload_len);
}

static void dnsproxy_tcp_send(void *ctx, const uint8_t *frame, size_t len)
{
	struct dnsproxy *p = ctx;

	p->send(p->ctx, frame, len);
}

static void dnsproxy_tcp_ask(void *ctx, unsigned conn, uint32_t serial, const uint8_t *msg,
			     size_t len)
{
	const struct dnsproxy_origin from = { .tcp = true, .conn = conn, .serial = serial };

	dnsproxy_question(ctx, &from, msg, len);
}

int dnsproxy_init(struct dnsproxy *p, struct err *e)
{
	for (unsigned i = 0; i < DNSPROXY_ASKS; i++)
		p->asks[i].fd = -1;
	p->room = malloc(DNSPROXY_ROOM);
	if (!p->room)
		return err_errno(e, ENOMEM, "DNS");
	p->tcp_ops = (struct dnstcp_ops){
		.send = dnsproxy_tcp_send,
		.ask = dnsproxy_tcp_ask,
		.random = dnsproxy_random,
		.ctx = p,
	};
	dnstcp_init(&p->tcp, &p->tcp_ops, p->guest_mac, DNSPROXY_FRAME(p));
	if (!p->closed)
		dnsproxy_look(p);
	if (!p->servers.n)
		resolvconf_parse("", 0, &p->servers);
	return 0;
}

void dnsproxy_fini(struct dnsproxy *p)
{
	for (unsigned i = 0; i < DNSPROXY_ASKS; i++)
		dnsproxy_close(&p->asks[i]);
	dnstcp_fini(&p->tcp);
	free(p->room);
	p->room = NULL;
}
