/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_NET_PORTS_H
#define MSB_NET_PORTS_H

/*
 * Published ports: connections and datagrams of the host's network that reach the guest.
 * See ports.c for how.
 */

#include <netinet/in.h>
#include <poll.h>
#include <stdbool.h>
#include <sys/socket.h>

#include <slirp/libslirp.h>

#include "base/err.h"
#include "net/frames.h"
#include "net/netlog.h"

#define PORTS_MAX 128u /* as PUBLISH_MAX */
#define PORTS_FDS 1024u /* descriptors are below this: RLIMIT_NOFILE in the jail */
/* Connections from outside: half of the descriptors stay for those of the guest. */
#define PORTS_CONNS_MAX 512u
#define PORTS_FLOWS_MAX 256u /* peers of UDP ports */

/* The source of everything that comes in: the guest's name for the host, 10.0.2.4. */
#define PORTS_SOURCE_IP NET_HOST_IP

struct ports_config {
	int fd; /* bound, and listening if TCP; owned by ports_init() from its call on */
	bool udp;
	uint16_t guest; /* port */
};

union ports_addr {
	struct sockaddr sa;
	struct sockaddr_in in;
	struct sockaddr_in6 in6;
};

/* A connection, found by its descriptor. */
struct ports_conn {
	uint16_t port; /* its source port for the guest; 0 = none of ours */
	uint16_t guest;
	bool answered; /* the guest took it */
	bool reset; /* the guest reset it */
	bool fin_in, fin_out; /* the guest, the peer, has said all */
	bool over; /* both, and libslirp has told the guest so: in p->over */
	bool wanted; /* libslirp asked to poll it in this round */
	uint32_t end; /* sequence number behind the guest's last byte */
	uint32_t ack; /* what the guest acknowledged with it */
};

/* A peer of a UDP port, and at which of the host's addresses it knows us. */
struct ports_flow {
	union ports_addr peer;
	uint8_t local[16];
	uint32_t ifindex; /* IPv6 link-local addresses need it */
	uint16_t generation;
	uint8_t at; /* index in p->v */
	uint64_t used_ns; /* 0 = free */
};

struct ports {
	/* Set by the owner after ports_init(), before the first round; not owned. */
	const struct net_policy *policy;
	struct netlog *log;

	Slirp *slirp;
	uint8_t guest_mac[6];
	struct ports_config v[PORTS_MAX];
	size_t n, n_udp;
	uint8_t udp[PORTS_MAX]; /* indexes of the UDP ports in v: the poll set's order */

	struct ports_conn conns[PORTS_FDS];
	uint16_t by_port[65536]; /* by source port: descriptor + 1, 0 = free */
	uint16_t over[PORTS_CONNS_MAX]; /* descriptors */
	uint32_t open[PORTS_FDS / 32]; /* descriptors that libslirp serves, listeners not */
	unsigned n_conns, n_over, n_open;
	uint16_t last_port;
	bool starved; /* no descriptor was left: wait until one is given back */

	struct ports_flow flows[PORTS_FLOWS_MAX];
	uint32_t flow_hash[PORTS_FLOWS_MAX];

	uint64_t accepted, refused, datagrams, lost;
};

/*
 * Hands the listeners to libslirp.  To be called before the filter of system calls is on.
 * @p: cleared; stays where it is, and is the only one in the process
 */
int ports_init(struct ports *p, Slirp *slirp, const uint8_t guest_mac[6],
	       const struct ports_config *cfg, size_t n, struct err *e);

/*
 * What libslirp calls as accept(2), on a listener of published ports: @addr becomes that of
 * the source that the guest will see.
 */
int ports_accept(int fd, struct sockaddr *addr, socklen_t *len);

/* After slirp_cleanup(), which closes what libslirp has. */
void ports_fini(struct ports *p);

/* ---- for the loop ---------------------------------------------------------- */

/* libslirp's register_poll_fd and unregister_poll_fd: a socket begins, or is about to end. */
void ports_fd_opened(struct ports *p, int fd);
void ports_fd_closed(struct ports *p, int fd);

/* libslirp wants to poll @fd. Return: false if that is to wait: too many connections. */
bool ports_fd_wanted(struct ports *p, int fd);

/* When libslirp has said all that it wants to poll: gives up connections that are over. */
void ports_reap(struct ports *p);

/* Does libslirp wait for nothing but listeners?  Its timers have nothing to do then. */
bool ports_only_listen(const struct ports *p);

/* Begins a round: entries for the UDP ports. @full: the VM is behind; nothing is read. Return: how many. */
nfds_t ports_fill(struct ports *p, struct pollfd *fds, bool full);

/* Passes on what came for the entries that ports_fill() made. Return: of frames_send(). */
int ports_serve(struct ports *p, const struct pollfd *fds, struct frames *out);

/* ---- frames of the guest ----------------------------------------------------- */

enum ports_verdict {
	PORTS_OTHER, /* has to do with no published port: the policy decides */
	PORTS_PASS, /* belongs to a connection from outside: it is libslirp's */
	PORTS_TAKEN, /* was a datagram for a peer and is dealt with */
};

/*
 * Is this an answer to what came from outside?  @flow: of a frame whose headers were
 * accepted (flow->transport); the destination need not have been.
 */
enum ports_verdict ports_take(struct ports *p, const uint8_t *frame, const struct net_flow *flow);

/* A frame of libslirp goes to the guest. */
void ports_sent(struct ports *p, const uint8_t *frame, size_t len);

/* A log line with what happened, if there are published ports. */
void ports_log_summary(const struct ports *p);

#endif
