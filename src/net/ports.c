/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DOC: Theory of operation
 *
 * Purpose
 *   Published ports.  Their sockets are bound by whoever starts the sandbox, before anything
 *   of it runs (lib/listen.c), and are inherited: msb-net binds and listens to nothing for
 *   them, and its filter allows no listen(2).
 *
 * TCP
 *   libslirp makes the guest's half of a connection, in its own "hostfwd": it accepts on a
 *   listener and sends the guest a SYN.  It insists on binding that listener itself, and on
 *   a guest address of the same family as the peer's.  So, at the start, libslirp binds one
 *   on a free port of 127.0.0.1, and dup2(2) puts the inherited listener in the place of
 *   that descriptor at once.  And accept(), by which libslirp takes connections, is ours
 *   (main.c): a program's own definition goes before the C library's, also for shared
 *   libraries.  It takes the connection, IPv4 or IPv6, asks ports_admit(), and names it to libslirp as one
 *   of 10.0.2.4 with a source port that no other connection has.  Bytes are never copied
 *   once more for this: libslirp serves the accepted socket like any other.
 *
 *   Why not the peer's own address: the guest's answers would go to an address that its
 *   scope may forbid, peers can have the guest's own addresses (a LAN 10.0.2.0/24), an IPv6
 *   peer has none that the guest could answer to, and two ports of the host that lead to
 *   one of the guest can be reached from the same address and port.
 *
 *   A connection that the guest refuses or resets is reset for the peer as well, by closing
 *   it with SO_LINGER at zero when libslirp gives it up.
 *
 *   A connection that the peer closed first stays with libslirp in TIME_WAIT for ten seconds,
 *   with its descriptor: a hundred clients a second would use up all there are.  Between
 *   libslirp and the guest nothing arrives late, so there is nothing to wait for: once both
 *   have said all and been told so, and libslirp has nothing left to write, it is given a
 *   reset in the guest's name, which the guest never sees.
 *
 * UDP
 *   libslirp has no part in it.  A datagram becomes a frame to the guest, from 10.0.2.4 and a
 *   source port that stands for its peer (a flow); what the guest sends there goes back to
 *   the peer, from the address of the host that the peer used.
 *
 * Trust boundary
 *   Peers are hostile, and so is the guest.  Peers' bytes are copied, never interpreted.
 *   Frames of the guest come here with headers that the policy has read; they pass around its
 *   scope only if they answer to a connection or flow that exists, and a SYN never does: no
 *   connection begins this way.
 *
 * Limits
 *   PORTS_CONNS_MAX connections; more wait in the listeners' backlogs.  PORTS_FLOWS_MAX
 *   flows: the one that was silent longest makes room; one that was silent for
 *   PORTS_FLOW_IDLE_NS is over.  A datagram that the VM's queue has no room for is not read;
 *   one that is larger than the MTU is lost, and counted.
 */
#include "net/ports.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "net/wire.h"

#define PORTS_SOURCE_MIN 1024u
#define PORTS_FLOW_IDLE_NS (180ull * 1000000000ull)
#define PORTS_BATCH 32 /* datagrams of one socket in a round */
#define PORTS_HEADERS (NET_ETH_HEADER + WIRE_IP_LEN + WIRE_UDP_LEN)
#define PORTS_GENERATIONS ((65536u - PORTS_SOURCE_MIN) / PORTS_FLOWS_MAX)

/* Whose listeners accept() serves. */
static struct ports *ports_self;

/* ---- what may come in -------------------------------------------------------- */

/*
 * May this peer reach that port?  The one place where rules for what comes in are asked; without
 * rules everybody may who reaches the address that the port was published on.
 */
static bool ports_admit(const struct ports *p, const struct ports_config *port,
			const union ports_addr *peer)
{
	const uint8_t proto = port->udp ? IPPROTO_UDP : IPPROTO_TCP;
	struct netaddr addr;
	enum net_reason why;
	unsigned rule;

	/* A socket of both families tells of an IPv4 peer as we hold it: ::ffff:a.b.c.d. */
	if (peer->sa.sa_family == AF_INET6)
		memcpy(addr.b, &peer->in6.sin6_addr, sizeof(addr.b));
	else
		addr = netaddr_v4(ntohl(peer->in.sin_addr.s_addr));
	why = net_policy_ingress(p->policy, &addr, proto, port->guest, &rule);
	if (why == NET_REASON_NONE)
		return true;
	netlog_client(p->log, &addr, proto, port->guest, why, rule);
	return false;
}

/* ---- TCP ----------------------------------------------------------------------- */

static const struct ports_config *ports_listener(const struct ports *p, int fd)
{
	for (size_t i = 0; p && i < p->n; i++)
		if (!p->v[i].udp && p->v[i].fd == fd)
			return &p->v[i];
	return NULL;
}

/*
 * The next one that is free: a port comes back as late as possible, so that what the guest
 * remembers of an old connection does not meet a new one.
 */
static uint16_t ports_choose(struct ports *p)
{
	do {
		p->last_port++;
		if (p->last_port < PORTS_SOURCE_MIN)
			p->last_port = PORTS_SOURCE_MIN;
	} while (p->by_port[p->last_port]);
	return p->last_port;
}

/* Return: a descriptor, or -1 with errno, as accept(2). */
static int ports_take_conn(struct ports *p, const struct ports_config *port,
			   struct sockaddr_in *from)
{
	union ports_addr peer = { .sa = { .sa_family = AF_UNSPEC } };
	socklen_t len = sizeof(peer);
	int fd = accept4(port->fd, &peer.sa, &len, SOCK_CLOEXEC | SOCK_NONBLOCK);

	if (fd < 0) {
		p->starved = errno == EMFILE || errno == ENFILE;
		return -1;
	}
	if (fd >= (int)PORTS_FDS || !ports_admit(p, port, &peer)) {
		p->refused++;
		close(fd);
		errno = ECONNABORTED;
		return -1;
	}
	p->conns[fd] = (struct ports_conn){ .port = ports_choose(p), .guest = port->guest };
	p->by_port[p->conns[fd].port] = (uint16_t)(fd + 1);
	p->n_conns++;
	p->accepted++;
	*from = (struct sockaddr_in){
		.sin_family = AF_INET,
		.sin_port = htons(p->conns[fd].port),
		.sin_addr.s_addr = htonl(PORTS_SOURCE_IP),
	};
	return fd;
}

int ports_accept(int fd, struct sockaddr *addr, socklen_t *len)
{
	const struct ports_config *port = ports_listener(ports_self, fd);
	struct sockaddr_in from;
	int got;

	if (!port || !addr || !len || *len < sizeof(from)) {
		errno = EINVAL;
		return -1;
	}
	got = ports_take_conn(ports_self, port, &from);
	if (got >= 0) {
		memcpy(addr, &from, sizeof(from));
		*len = sizeof(from);
	}
	return got;
}

void ports_fd_opened(struct ports *p, int fd)
{
	if (fd < 0 || fd >= (int)PORTS_FDS || p->open[fd / 32] & 1u << fd % 32)
		return;
	p->open[fd / 32] |= 1u << fd % 32;
	p->n_open++;
}

static void ports_conn_end(struct ports *p, int fd)
{
	static const struct linger reset = { .l_onoff = 1 };
	struct ports_conn *c = &p->conns[fd];

	if (!c->answered || c->reset)
		setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
	for (unsigned i = 0; c->over && i < p->n_over; i++)
		if (p->over[i] == fd) {
			p->over[i] = p->over[--p->n_over];
			break;
		}
	p->by_port[c->port] = 0;
	p->n_conns--;
	*c = (struct ports_conn){ .port = 0 };
}

void ports_fd_closed(struct ports *p, int fd)
{
	if (fd < 0 || fd >= (int)PORTS_FDS)
		return;
	p->starved = false;
	if (p->conns[fd].port)
		ports_conn_end(p, fd);
	if (!(p->open[fd / 32] & 1u << fd % 32))
		return;
	p->open[fd / 32] &= ~(1u << fd % 32);
	p->n_open--;
}

bool ports_fd_wanted(struct ports *p, int fd)
{
	if (fd >= 0 && fd < (int)PORTS_FDS)
		p->conns[fd].wanted = true;
	return !((p->starved || p->n_conns >= PORTS_CONNS_MAX) && ports_listener(p, fd));
}

bool ports_only_listen(const struct ports *p)
{
	return p->n > p->n_udp && !p->n_open;
}

/* The connection of @outside, a source port of ours, with the port @guest. */
static struct ports_conn *ports_find_conn(struct ports *p, uint16_t outside, uint16_t guest)
{
	unsigned fd = p->by_port[outside];

	return fd && p->conns[fd - 1].guest == guest ? &p->conns[fd - 1] : NULL;
}

static enum ports_verdict ports_take_segment(struct ports *p, const uint8_t *frame,
					     const struct net_flow *f)
{
	const uint8_t *tcp = frame + NET_ETH_HEADER + f->ip_header;
	struct ports_conn *c = ports_find_conn(p, f->dport, f->sport);
	unsigned flags = f->tcp_flags;

	/* Nothing begins this way. */
	if (!c || (flags & (WIRE_TCP_SYN | WIRE_TCP_ACK)) == WIRE_TCP_SYN)
		return PORTS_OTHER;
	if (flags & WIRE_TCP_RST)
		c->reset = true;
	else if (flags & WIRE_TCP_SYN)
		c->answered = true;
	if (flags & WIRE_TCP_FIN) {
		c->fin_in = true;
		c->end = f->tcp_seq + (uint32_t)(f->ip_total - f->ip_header) -
			 (uint32_t)(tcp[12] >> 4) * 4 + 1;
		c->ack = f->tcp_ack;
	}
	return PORTS_PASS;
}

/* A segment of libslirp: once it acknowledges the guest's end, and its own is said, all is. */
static void ports_segment_out(struct ports *p, const uint8_t *tcp)
{
	struct ports_conn *c = ports_find_conn(p, wire_get16(tcp), wire_get16(tcp + 2));

	if (!c || c->over)
		return;
	c->fin_out = c->fin_out || tcp[13] & WIRE_TCP_FIN;
	if (!c->fin_in || !c->fin_out || !(tcp[13] & WIRE_TCP_ACK) || wire_get32(tcp + 8) != c->end)
		return;
	c->over = true;
	p->over[p->n_over++] = (uint16_t)(c - p->conns);
}

void ports_sent(struct ports *p, const uint8_t *frame, size_t len)
{
	const uint8_t *ip = frame + NET_ETH_HEADER;

	if (p->n_conns && len >= NET_ETH_HEADER + WIRE_IP_LEN + WIRE_TCP_LEN &&
	    wire_get16(frame + 12) == WIRE_ETHERTYPE_IPV4 && ip[0] == 0x45 &&
	    ip[9] == IPPROTO_TCP && wire_get32(ip + 12) == PORTS_SOURCE_IP)
		ports_segment_out(p, ip + WIRE_IP_LEN);
}

/* RFC 1071 */
static uint32_t ports_sum(const uint8_t *b, size_t n, uint32_t sum)
{
	for (size_t i = 0; i + 1 < n; i += 2)
		sum += wire_get16(b + i);
	return sum;
}

static uint16_t ports_fold(uint32_t sum)
{
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)~sum;
}

static void ports_ip_header(uint8_t *ip, uint8_t proto, uint32_t src, uint32_t dst, size_t len)
{
	memset(ip, 0, WIRE_IP_LEN);
	ip[0] = 0x45;
	wire_put16(ip + 2, (unsigned)(WIRE_IP_LEN + len));
	ip[6] = 0x40; /* don't fragment */
	ip[8] = 64;
	ip[9] = proto;
	wire_put32(ip + 12, src);
	wire_put32(ip + 16, dst);
	wire_put16(ip + 10, ports_fold(ports_sum(ip, WIRE_IP_LEN, 0)));
}

/* libslirp's MAC for 10.0.2.4, as it answers it to ARP. */
static const uint8_t ports_source_mac[6] = { 0x52, 0x55, 0x0a, 0x00, 0x02, 0x04 };

/* What makes libslirp forget a connection that is over: a reset from the guest. */
static void ports_reset(struct ports *p, const struct ports_conn *c)
{
	uint8_t frame[NET_ETH_HEADER + WIRE_IP_LEN + WIRE_TCP_LEN] = { 0 };
	uint8_t *ip = frame + NET_ETH_HEADER, *tcp = ip + WIRE_IP_LEN;

	memcpy(frame, ports_source_mac, 6);
	memcpy(frame + 6, p->guest_mac, 6);
	wire_put16(frame + 12, WIRE_ETHERTYPE_IPV4);
	ports_ip_header(ip, IPPROTO_TCP, NET_GUEST_IP, PORTS_SOURCE_IP, WIRE_TCP_LEN);
	wire_put16(tcp, c->guest);
	wire_put16(tcp + 2, c->port);
	wire_put32(tcp + 4, c->end);
	wire_put32(tcp + 8, c->ack);
	tcp[12] = (WIRE_TCP_LEN / 4) << 4;
	tcp[13] = WIRE_TCP_RST | WIRE_TCP_ACK;
	/* Pseudo header: addresses, protocol, length. */
	wire_put16(tcp + 16,
		   ports_fold(ports_sum(tcp, WIRE_TCP_LEN,
					ports_sum(ip + 12, 8, IPPROTO_TCP + WIRE_TCP_LEN))));
	slirp_input(p->slirp, frame, sizeof(frame));
}

void ports_reap(struct ports *p)
{
	/* Backwards: one that ends takes its entry out, and the last one takes its place. */
	for (unsigned i = p->n_over; i-- > 0;) {
		const struct ports_conn *c = &p->conns[p->over[i]];

		if (!c->wanted)
			ports_reset(p, c);
	}
}

/* ---- UDP ------------------------------------------------------------------------ */

static uint64_t ports_now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

/* FNV-1a: it only has to tell flows apart quickly; what decides is the comparison. */
static uint32_t ports_hash(const struct ports_flow *f)
{
	const uint8_t *b = (const uint8_t *)&f->peer;
	uint32_t h = 2166136261u ^ f->at;

	for (size_t i = 0; i < sizeof(f->peer); i++)
		h = (h ^ b[i]) * 16777619u;
	for (size_t i = 0; i < sizeof(f->local); i++)
		h = (h ^ f->local[i]) * 16777619u;
	return h;
}

static bool ports_same_flow(const struct ports_flow *a, const struct ports_flow *b)
{
	return a->at == b->at && a->ifindex == b->ifindex &&
	       !memcmp(&a->peer, &b->peer, sizeof(a->peer)) &&
	       !memcmp(a->local, b->local, sizeof(a->local));
}

/* The number under which the guest knows a flow; it tells old users of a slot from new ones. */
static uint16_t ports_flow_port(size_t slot, uint16_t generation)
{
	return (uint16_t)(PORTS_SOURCE_MIN + slot + PORTS_FLOWS_MAX * generation);
}

/* The flow of a datagram that came in; a new one takes the place of the oldest. */
static uint16_t ports_flow_in(struct ports *p, const struct ports_flow *key, uint64_t now)
{
	uint32_t hash = ports_hash(key);
	struct ports_flow *f;
	size_t i, oldest = 0;

	for (i = 0; i < PORTS_FLOWS_MAX; i++) {
		if (p->flow_hash[i] == hash && p->flows[i].used_ns &&
		    ports_same_flow(&p->flows[i], key))
			break;
		if (p->flows[i].used_ns < p->flows[oldest].used_ns)
			oldest = i;
	}
	if (i == PORTS_FLOWS_MAX) {
		uint16_t generation =
			(uint16_t)((p->flows[oldest].generation + 1) % PORTS_GENERATIONS);

		i = oldest;
		p->flows[i] = *key;
		p->flows[i].generation = generation;
		p->flow_hash[i] = hash;
	}
	f = &p->flows[i];
	f->used_ns = now;
	return ports_flow_port(i, f->generation);
}

static struct ports_flow *ports_flow_out(struct ports *p, const struct net_flow *f, uint64_t now)
{
	size_t slot = (f->dport - PORTS_SOURCE_MIN) % PORTS_FLOWS_MAX;
	struct ports_flow *flow = &p->flows[slot];

	if (f->dport < PORTS_SOURCE_MIN || !flow->used_ns ||
	    now - flow->used_ns > PORTS_FLOW_IDLE_NS ||
	    ports_flow_port(slot, flow->generation) != f->dport || p->v[flow->at].guest != f->sport)
		return NULL;
	return flow;
}

/* At which of our addresses it arrived: answers have to come from there. */
static void ports_read_local(struct msghdr *m, struct ports_flow *key)
{
	for (struct cmsghdr *c = CMSG_FIRSTHDR(m); c; c = CMSG_NXTHDR(m, c)) {
		if (c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_PKTINFO) {
			struct in_pktinfo info;

			memcpy(&info, CMSG_DATA(c), sizeof(info));
			memcpy(key->local, &info.ipi_addr, sizeof(info.ipi_addr));
		} else if (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_PKTINFO) {
			struct in6_pktinfo info;

			memcpy(&info, CMSG_DATA(c), sizeof(info));
			memcpy(key->local, &info.ipi6_addr, sizeof(info.ipi6_addr));
			if (IN6_IS_ADDR_LINKLOCAL(&info.ipi6_addr))
				key->ifindex = info.ipi6_ifindex;
		}
	}
}

/*
 * Reads a datagram to where a frame has its payload.
 * Return: its length, which may be more than fits; -1 with errno.
 */
static ssize_t ports_receive(const struct ports_config *port, uint8_t *frame, struct ports_flow *key)
{
	uint8_t control[CMSG_SPACE(sizeof(struct in6_pktinfo))] __attribute__((aligned(8)));
	struct iovec iov = { frame + PORTS_HEADERS, NET_FRAME_MAX - PORTS_HEADERS };
	struct msghdr m = {
		.msg_name = &key->peer,
		.msg_namelen = sizeof(key->peer),
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control,
		.msg_controllen = sizeof(control),
	};
	ssize_t n = recvmsg(port->fd, &m, MSG_DONTWAIT | MSG_TRUNC);

	if (n >= 0)
		ports_read_local(&m, key);
	return n;
}

/* RFC 791, RFC 768.  No UDP checksum, which IPv4 allows: nothing on the way can garble it. */
static void ports_headers(const struct ports *p, uint8_t *frame, uint16_t from, uint16_t to,
			  size_t len)
{
	uint8_t *ip = frame + NET_ETH_HEADER, *udp = ip + WIRE_IP_LEN;

	memset(frame, 0, PORTS_HEADERS);
	memcpy(frame, p->guest_mac, 6);
	memcpy(frame + 6, ports_source_mac, 6);
	wire_put16(frame + 12, WIRE_ETHERTYPE_IPV4);
	ports_ip_header(ip, IPPROTO_UDP, PORTS_SOURCE_IP, NET_GUEST_IP, WIRE_UDP_LEN + len);
	wire_put16(udp, from);
	wire_put16(udp + 2, to);
	wire_put16(udp + 4, (unsigned)(WIRE_UDP_LEN + len));
}

/* Passes one datagram to the guest. Return: 1, 0 = there is none now, or frames_send()'s. */
static int ports_datagram_in(struct ports *p, size_t at, uint64_t now, struct frames *out)
{
	static uint8_t frame[NET_FRAME_MAX]; /* large, and one thread */
	const struct ports_config *port = &p->v[at];
	struct ports_flow key;
	ssize_t n;
	int rc;

	memset(&key, 0, sizeof(key)); /* it is compared as bytes */
	key.at = (uint8_t)at;
	n = ports_receive(port, frame, &key);
	if (n < 0) /* also an error that an earlier answer met: UDP has no use for it */
		return errno == EAGAIN || errno == EINTR ? 0 : 1;
	if ((size_t)n > sizeof(frame) - PORTS_HEADERS) {
		p->lost++;
		return 1;
	}
	if (!ports_admit(p, port, &key.peer)) {
		p->refused++;
		return 1;
	}
	ports_headers(p, frame, ports_flow_in(p, &key, now), port->guest, (size_t)n);
	p->datagrams++;
	rc = frames_send(out, frame, PORTS_HEADERS + (size_t)n);
	return rc < 0 ? rc : 1;
}

nfds_t ports_fill(struct ports *p, struct pollfd *fds, bool full)
{
	for (unsigned i = 0; i < p->n_over; i++)
		p->conns[p->over[i]].wanted = false;
	for (size_t i = 0; i < p->n_udp; i++)
		fds[i] = (struct pollfd){ .fd = full ? -1 : p->v[p->udp[i]].fd, .events = POLLIN };
	return p->n_udp;
}

int ports_serve(struct ports *p, const struct pollfd *fds, struct frames *out)
{
	uint64_t now = p->n_udp ? ports_now_ns() : 0;

	for (size_t i = 0; i < p->n_udp; i++) {
		int rc = fds[i].revents ? 1 : 0;

		for (int n = 0; rc > 0 && n < PORTS_BATCH && !frames_full(out); n++)
			rc = ports_datagram_in(p, p->udp[i], now, out);
		if (rc < 0)
			return rc;
	}
	return 0;
}

static void ports_datagram_out(struct ports *p, const struct ports_flow *f, const uint8_t *data,
			       size_t len)
{
	uint8_t control[CMSG_SPACE(sizeof(struct in6_pktinfo))] __attribute__((aligned(8))) = { 0 };
	bool ipv6 = f->peer.sa.sa_family == AF_INET6;
	struct iovec iov = { (void *)data, len };
	struct msghdr m = {
		.msg_name = (void *)&f->peer,
		.msg_namelen = ipv6 ? sizeof(f->peer.in6) : sizeof(f->peer.in),
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control,
	};
	struct cmsghdr *c = (struct cmsghdr *)control;

	if (ipv6) {
		struct in6_pktinfo info = { .ipi6_ifindex = f->ifindex };

		memcpy(&info.ipi6_addr, f->local, sizeof(info.ipi6_addr));
		*c = (struct cmsghdr){ .cmsg_len = CMSG_LEN(sizeof(info)),
				       .cmsg_level = IPPROTO_IPV6,
				       .cmsg_type = IPV6_PKTINFO };
		memcpy(CMSG_DATA(c), &info, sizeof(info));
		m.msg_controllen = CMSG_SPACE(sizeof(info));
	} else {
		struct in_pktinfo info = { .ipi_ifindex = 0 };

		memcpy(&info.ipi_spec_dst, f->local, sizeof(info.ipi_spec_dst));
		*c = (struct cmsghdr){ .cmsg_len = CMSG_LEN(sizeof(info)),
				       .cmsg_level = IPPROTO_IP,
				       .cmsg_type = IP_PKTINFO };
		memcpy(CMSG_DATA(c), &info, sizeof(info));
		m.msg_controllen = CMSG_SPACE(sizeof(info));
	}
	/* What the host does not take now is lost, as on any network. */
	if (sendmsg(p->v[f->at].fd, &m, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
		p->lost++;
	else
		p->datagrams++;
}

static enum ports_verdict ports_take_datagram(struct ports *p, const uint8_t *frame,
					      const struct net_flow *f)
{
	const uint8_t *udp = frame + NET_ETH_HEADER + f->ip_header;
	uint64_t now = p->n_udp ? ports_now_ns() : 0;
	struct ports_flow *flow = p->n_udp ? ports_flow_out(p, f, now) : NULL;

	if (!flow)
		return PORTS_OTHER;
	flow->used_ns = now;
	ports_datagram_out(p, flow, udp + WIRE_UDP_LEN, wire_get16(udp + 4) - WIRE_UDP_LEN);
	return PORTS_TAKEN;
}

enum ports_verdict ports_take(struct ports *p, const uint8_t *frame, const struct net_flow *flow)
{
	if (!p->n || !flow->transport || flow->version != 4 ||
	    netaddr_low32(&flow->dst) != PORTS_SOURCE_IP)
		return PORTS_OTHER;
	if (flow->proto == IPPROTO_TCP)
		return ports_take_segment(p, frame, flow);
	if (flow->proto == IPPROTO_UDP)
		return ports_take_datagram(p, frame, flow);
	return PORTS_OTHER;
}

/* ---- life ------------------------------------------------------------------------- */

/* Finds the listener that libslirp made last: the one that @p does not know. */
static int ports_find_new(int fd, int events, void *opaque)
{
	struct ports *p = opaque;

	(void)events;
	if (!ports_listener(p, fd))
		p->v[p->n].fd = fd;
	return -1;
}

/* Puts the inherited listener in the place of one of libslirp's. */
static int ports_add_tcp(struct ports *p, const struct ports_config *cfg, struct err *e)
{
	const struct sockaddr_in any = { .sin_family = AF_INET,
					 .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	const struct sockaddr_in guest = { .sin_family = AF_INET,
					   .sin_port = htons(cfg->guest),
					   .sin_addr.s_addr = htonl(NET_GUEST_IP) };
	uint32_t timeout = UINT32_MAX;
	int fd;

	if (slirp_add_hostxfwd(p->slirp, (const struct sockaddr *)&any, sizeof(any),
			       (const struct sockaddr *)&guest, sizeof(guest), 0) < 0)
		return err_errno(e, errno, "published port %u: libslirp cannot listen", cfg->guest);
	p->v[p->n] = (struct ports_config){ .fd = -1, .guest = cfg->guest };
	slirp_pollfds_fill(p->slirp, &timeout, ports_find_new, p);
	fd = p->v[p->n].fd;
	if (fd < 0)
		return err_set(e, EPROTO, "published port %u: libslirp has no listener", cfg->guest);
	if (dup2(cfg->fd, fd) < 0)
		return err_errno(e, errno, "published port %u", cfg->guest);
	close(cfg->fd);
	p->n++;
	return 0;
}

static int ports_add_udp(struct ports *p, const struct ports_config *cfg, struct err *e)
{
	static const int on = 1;
	int family = 0;
	socklen_t len = sizeof(family);

	if (getsockopt(cfg->fd, SOL_SOCKET, SO_DOMAIN, &family, &len) < 0 ||
	    setsockopt(cfg->fd, family == AF_INET6 ? IPPROTO_IPV6 : IPPROTO_IP,
		       family == AF_INET6 ? IPV6_RECVPKTINFO : IP_PKTINFO, &on, sizeof(on)) < 0)
		return err_errno(e, errno, "published port %u", cfg->guest);
	p->udp[p->n_udp++] = (uint8_t)p->n;
	p->v[p->n++] = *cfg;
	return 0;
}

int ports_init(struct ports *p, Slirp *slirp, const uint8_t guest_mac[6],
	       const struct ports_config *cfg, size_t n, struct err *e)
{
	int rc = 0;

	p->slirp = slirp;
	memcpy(p->guest_mac, guest_mac, sizeof(p->guest_mac));
	ports_self = p;
	for (size_t i = 0; !rc && i < n; i++)
		rc = cfg[i].udp ? ports_add_udp(p, &cfg[i], e) : ports_add_tcp(p, &cfg[i], e);
	return rc;
}

void ports_fini(struct ports *p)
{
	for (size_t i = 0; i < p->n_udp; i++)
		close(p->v[p->udp[i]].fd);
	p->n = p->n_udp = 0;
	if (ports_self == p)
		ports_self = NULL;
}

void ports_log_summary(const struct ports *p)
{
	if (p->n)
		log_info("event=ports accepted=%llu refused=%llu datagrams=%llu lost=%llu",
			 (unsigned long long)p->accepted, (unsigned long long)p->refused,
			 (unsigned long long)p->datagrams, (unsigned long long)p->lost);
}
