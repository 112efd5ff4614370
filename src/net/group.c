/* SPDX-License-Identifier: Apache-2.0 */
#include "net/group.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/mem.h"
#include "net/build.h"
#include "net/reply.h"
#include "net/wire.h"

#define GROUP_HEAD 64u /* Ethernet's, IP's and the start of TCP's header, checksum included */
#define GROUP_PREFIX sizeof(uint32_t)

static struct netaddr group_addr(unsigned number)
{
	return netaddr_v4(NET_GROUP_IP + number);
}

static struct group_peer *group_peer_at(const struct group *g, const struct netaddr *a)
{
	const uint32_t number = netaddr_low32(a) - NET_GROUP_IP;

	return number && number <= NETGROUP_MEMBERS_MAX ? g->peers[number] : NULL;
}

/* ---- the two names of a guest --------------------------------------------------------- */

/* Puts one address in the place of another, at @at in the IP header, and mends the checksums. */
static void group_translate(uint8_t *frame, const struct net_flow *f, unsigned at, uint32_t to)
{
	uint8_t *ip = frame + NET_ETH_HEADER, *t = ip + f->ip_header, *sum = NULL;
	const uint32_t from = wire_get32(ip + at);
	uint16_t v;

	wire_put32(ip + at, to);
	wire_put16(ip + 10, net_sum_replace(wire_get16(ip + 10), from, to));
	if (f->proto == IPPROTO_TCP)
		sum = t + 16;
	else if (f->proto == IPPROTO_UDP && wire_get16(t + 6))
		sum = t + 6;
	if (!sum)
		return;
	v = net_sum_replace(wire_get16(sum), from, to);
	/* Of UDP 0 would say that there is none. */
	wire_put16(sum, v || f->proto == IPPROTO_TCP ? v : 0xffff);
}

/* ---- to members ----------------------------------------------------------------------- */

static void group_queue(struct group *g, struct group_peer *p, const struct iovec iov[2])
{
	const uint32_t len = (uint32_t)(iov[0].iov_len + iov[1].iov_len);
	uint8_t *to;

	if (buf_reserve(&p->out, GROUP_PREFIX + len, &to) < 0) {
		g->lost++;
		return;
	}
	memcpy(to, &len, GROUP_PREFIX);
	memcpy(to + GROUP_PREFIX, iov[0].iov_base, iov[0].iov_len);
	if (iov[1].iov_len)
		memcpy(to + GROUP_PREFIX + iov[0].iov_len, iov[1].iov_base, iov[1].iov_len);
	buf_commit(&p->out, GROUP_PREFIX + len);
}

static void group_put(struct group *g, struct group_peer *p, struct iovec iov[2])
{
	const struct msghdr msg = { .msg_iov = iov, .msg_iovlen = 2 };

	if (!buf_len(&p->out)) {
		if (sendmsg(p->fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0)
			return;
		/* One who is gone is found out by reading. */
		if (errno != EAGAIN && errno != EINTR) {
			g->lost++;
			return;
		}
	}
	group_queue(g, p, iov);
}

static void group_flush(struct group *g, struct group_peer *p)
{
	while (buf_len(&p->out)) {
		const uint8_t *at = buf_data(&p->out);
		uint32_t len;

		memcpy(&len, at, GROUP_PREFIX);
		if (send(p->fd, at + GROUP_PREFIX, len, MSG_DONTWAIT | MSG_NOSIGNAL) < 0) {
			if (errno == EAGAIN || errno == EINTR)
				return;
			g->lost++;
		}
		buf_consume(&p->out, GROUP_PREFIX + len);
	}
	buf_reset(&p->out);
}

void group_send(struct group *g, const uint8_t *frame, const struct net_flow *f)
{
	struct group_peer *p = group_peer_at(g, &f->dst);
	const size_t len = (size_t)NET_ETH_HEADER + f->ip_total;
	uint8_t head[GROUP_HEAD];
	size_t n = len < GROUP_HEAD ? len : GROUP_HEAD;

	if (!p || !f->transport || f->version != 4)
		return;
	memcpy(head, frame, n);
	group_translate(head, f, 12, NET_GROUP_IP + g->number);
	struct iovec iov[2] = { { head, n }, { (void *)(frame + n), len - n } };
	group_put(g, p, iov);
}

bool group_answers(struct group *g, const struct net_flow *f)
{
	struct group_peer *p;

	if (!g->number || gate_is_syn(f) || !net_policy_in_group(&g->gate->policy, &f->dst))
		return false;
	p = group_peer_at(g, &f->dst);
	if (!p)
		return false;
	p->in.now_ms = g->gate->flows.now_ms;
	return flows_find(&p->in, f, true) != NULL;
}

/* ---- from members ------------------------------------------------------------------------ */

/* Is it what a member's msb-net passes on, between the two whose socket it is? */
static bool group_is_proper(const struct group *g, const struct group_peer *p,
			    const struct net_flow *f)
{
	const struct netaddr own = group_addr(g->number);

	if (f->version != 4 || !f->transport || !netaddr_equal(&f->src, &p->addr) ||
	    !netaddr_equal(&f->dst, &own))
		return false;
	if (f->proto == IPPROTO_ICMP)
		return f->icmp_type == WIRE_ICMP_ECHO || f->icmp_type == WIRE_ICMP_ECHO_REPLY;
	return f->proto == IPPROTO_TCP || f->proto == IPPROTO_UDP;
}

/* So that a program fails at once: TCP only, others are silent as a firewall's. */
static void group_refuse(struct group *g, struct group_peer *p, const uint8_t *frame,
			 const struct net_flow *f)
{
	uint8_t reply[NET_REPLY_MAX];
	size_t n = f->proto == IPPROTO_TCP ? net_reply_build(frame, f, reply) : 0;
	struct iovec iov[2] = { { reply, n }, { NULL, 0 } };

	if (n)
		group_put(g, p, iov);
}

/* Return: may the guest have it? */
static bool group_admit(struct group *g, struct group_peer *p, const uint8_t *frame,
			const struct net_flow *f)
{
	struct netlog *log = &g->gate->log;
	enum net_reason why;
	unsigned rule;

	p->in.now_ms = g->gate->flows.now_ms;
	/* A new connection from the same port is a new question. */
	if (!gate_is_syn(f) && (gate_knows(g->gate, f) || flows_find(&p->in, f, false)))
		return true;
	if (f->proto == IPPROTO_ICMP && f->icmp_type == WIRE_ICMP_ECHO_REPLY) {
		log->reasons[NET_REASON_UNASKED]++;
		return false;
	}
	why = net_policy_ingress(&g->gate->policy, &f->src, f->proto, f->dport, &rule);
	if (why == NET_REASON_NONE) {
		flows_add(&p->in, f, false);
		return true;
	}
	if (f->proto == IPPROTO_TCP && !gate_is_syn(f))
		log->reasons[why]++;
	else
		netlog_client(log, &f->src, f->proto, f->dport, why, rule);
	group_refuse(g, p, frame, f);
	return false;
}

static void group_input(struct group *g, struct group_peer *p, uint8_t *frame, size_t len)
{
	struct gate *gate = g->gate;
	struct net_flow f;

	if (net_packet_read(frame, len, &f) != NET_PACKET_IP || !group_is_proper(g, p, &f)) {
		gate->log.reasons[NET_REASON_SPOOFED]++;
		return;
	}
	if (!group_admit(g, p, frame, &f))
		return;
	len = (size_t)NET_ETH_HEADER + f.ip_total;
	memcpy(frame, gate->policy.guest_mac, 6);
	memcpy(frame + 6, net_gateway_mac, 6);
	group_translate(frame, &f, 16, NET_GUEST_IP);
	gate_count_in(gate, len);
	gate->to_guest(gate->ctx, frame, len);
}

/* ---- members -------------------------------------------------------------------------------- */

static void group_remove(struct group *g, unsigned number)
{
	struct group_peer *p = g->peers[number];

	if (!p)
		return;
	log_info("event=member-gone name=%s number=%u", g->members.names[number], number);
	gate_forget(g->gate, &g->gate->flows, &p->addr);
	gate_forget(g->gate, &p->in, &p->addr);
	g->members.names[number][0] = '\0';
	g->peers[number] = NULL;
	g->n--;
	close(p->fd);
	buf_fini(&p->out);
	free(p);
}

int group_add(struct group *g, const struct netmember *m, int fd, struct err *e)
{
	struct group_peer *p;
	socklen_t len = sizeof(int);
	int type;

	if (!g->number || m->number == g->number ||
	    getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len) < 0 || type != SOCK_SEQPACKET) {
		close(fd);
		return err_set(e, EINVAL, "there is no such member, or its socket is none");
	}
	group_remove(g, m->number);
	p = calloc(1, sizeof(*p));
	if (!p) {
		close(fd);
		return err_errno(e, ENOMEM, "member %s", m->name);
	}
	p->fd = fd;
	p->poll = -1;
	p->addr = group_addr(m->number);
	buf_init(&p->out, GROUP_OUT_MAX);
	flows_init(&p->in, g->key ^ m->number, p->flow_room, GROUP_FLOWS, p->flow_buckets,
		   GROUP_BUCKETS);
	memcpy(g->members.names[m->number], m->name, NETGROUP_NAME_SIZE);
	g->peers[m->number] = p;
	g->n++;
	log_info("event=member name=%s number=%u", m->name, m->number);
	return 0;
}

static void group_recheck_peer(struct group *g, struct group_peer *p)
{
	struct flow *w;
	int32_t at = -1;

	p->in.now_ms = g->gate->flows.now_ms;
	while ((w = flows_next(&p->in, &at))) {
		const bool ping = w->proto == IPPROTO_ICMP;
		unsigned rule;
		enum net_reason why = net_policy_ingress(&g->gate->policy, &w->remote, w->proto,
							 ping ? 0 : w->port, &rule);

		if (why == NET_REASON_NONE)
			continue;
		if (w->closing) { /* it is over anyway */
			flows_remove(&p->in, w);
			continue;
		}
		netlog_client(&g->gate->log, &w->remote, w->proto, ping ? 0 : w->port, why, rule);
		g->gate->log.reasons[NET_REASON_CUT]++;
		if (w->proto == IPPROTO_TCP)
			gate_reset(g->gate, w);
		flows_remove(&p->in, w);
	}
}

void group_recheck(struct group *g)
{
	for (unsigned i = 1; i <= NETGROUP_MEMBERS_MAX && g->n; i++)
		if (g->peers[i])
			group_recheck_peer(g, g->peers[i]);
}

/* ---- the owner's loop ------------------------------------------------------------------------ */

nfds_t group_fill(struct group *g, struct pollfd *fds)
{
	const bool full = g->n && g->full(g->gate->ctx);
	nfds_t n = 0;

	for (unsigned i = 1; i <= NETGROUP_MEMBERS_MAX && g->n; i++) {
		struct group_peer *p = g->peers[i];
		short want = full ? 0 : POLLIN;

		if (!p)
			continue;
		if (buf_len(&p->out))
			want |= POLLOUT;
		p->poll = want ? (int)n : -1;
		/* While the guest is behind, the end of a member's socket waits as well. */
		if (want)
			fds[n++] = (struct pollfd){ .fd = p->fd, .events = want };
	}
	return n;
}

/* Return: is the member still there? */
static bool group_read(struct group *g, struct group_peer *p)
{
	for (unsigned i = 0; i < GROUP_BATCH && !g->full(g->gate->ctx); i++) {
		ssize_t n = recv(p->fd, g->room, NET_FRAME_MAX, MSG_DONTWAIT | MSG_TRUNC);

		if (n < 0)
			return errno == EAGAIN || errno == EINTR;
		if (n == 0)
			return false;
		if (n > (ssize_t)NET_FRAME_MAX)
			g->gate->log.reasons[NET_REASON_MALFORMED]++;
		else
			group_input(g, p, g->room, (size_t)n);
	}
	return true;
}

void group_serve(struct group *g, const struct pollfd *fds)
{
	/* Another one is first each time: who comes first may fill the guest's queue. */
	g->turn = g->turn % NETGROUP_MEMBERS_MAX + 1;
	for (unsigned k = 0; k < NETGROUP_MEMBERS_MAX && g->n; k++) {
		const unsigned number = (g->turn + k - 1) % NETGROUP_MEMBERS_MAX + 1;
		struct group_peer *p = g->peers[number];
		short got = p && p->poll >= 0 ? fds[p->poll].revents : 0;

		if (!got)
			continue;
		p->poll = -1;
		if (got & (POLLOUT | POLLERR | POLLHUP))
			group_flush(g, p);
		if (got & (POLLIN | POLLERR | POLLHUP) && !group_read(g, p))
			group_remove(g, number);
	}
}

/* ---- life ---------------------------------------------------------------------------------------- */

int group_init(struct group *g, unsigned number, const char *name, uint32_t key, struct err *e)
{
	struct netmember own = { .number = number };

	if (!number)
		return 0;
	netmember_set_name(&own, name);
	memcpy(g->members.names[0], own.name, sizeof(own.name));
	g->number = number;
	g->key = key;
	g->room = malloc(NET_FRAME_MAX);
	if (!g->room)
		return err_errno(e, ENOMEM, "group");
	g->gate->policy.members = &g->members;
	return 0;
}

void group_fini(struct group *g)
{
	for (unsigned i = 1; i <= NETGROUP_MEMBERS_MAX; i++) {
		struct group_peer *p = g->peers[i];

		if (!p)
			continue;
		close(p->fd);
		buf_fini(&p->out);
		free(p);
		g->peers[i] = NULL;
	}
	free(g->room);
	g->room = NULL;
}
