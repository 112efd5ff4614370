/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DOC: Theory of operation
 *
 * Purpose
 *   The host's own addresses are a group of their own, also the public ones: a service
 *   that listens there is not on the internet because of that.  Addresses come and
 *   go (DHCP, a VPN), so the kernel is asked to say when.
 *
 * Spec
 *   rtnetlink(7): groups RTMGRP_IPV4_IFADDR and _IPV6_, request RTM_GETADDR with NLM_F_DUMP.
 *
 * States
 *   idle -> listing (request sent) -> idle (NLMSG_DONE: list goes to the policy).
 *   A change meanwhile makes a second list necessary, and so does a full socket.
 *
 * Failure
 *   Fail closed: until a new list is complete the old one holds, and a list that
 *   does not fit shuts everything (net_policy.host_addrs_incomplete).
 */
#include "net/hostaddr.h"

#include <errno.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/mem.h"
#include "net/wire.h"

static int hostaddr_request(struct hostaddr *h, struct err *e)
{
	struct {
		struct nlmsghdr head;
		struct ifaddrmsg body;
	} req = {
		.head = {
			.nlmsg_len = sizeof(req),
			.nlmsg_type = RTM_GETADDR,
			.nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP,
			.nlmsg_seq = ++h->seq,
		},
		.body = { .ifa_family = AF_UNSPEC },
	};

	if (send(h->fd, &req, sizeof(req), MSG_NOSIGNAL) != (ssize_t)sizeof(req))
		return err_errno(e, errno, "host addresses: netlink request");
	h->listing = true;
	h->again = false;
	h->n = 0;
	h->incomplete = false;
	return 0;
}

/* Return: does the attribute hold an address of the host? */
static bool hostaddr_read(const struct ifaddrmsg *ifa, const struct rtattr *a, bool local,
			  struct netaddr *out)
{
	/* IFA_LOCAL is ours; IFA_ADDRESS is then the peer on a point-to-point link. */
	if (a->rta_type != IFA_LOCAL && (local || a->rta_type != IFA_ADDRESS))
		return false;
	if (ifa->ifa_family == AF_INET && RTA_PAYLOAD(a) == 4)
		*out = netaddr_v4(wire_get32(RTA_DATA(a)));
	else if (ifa->ifa_family == AF_INET6 && RTA_PAYLOAD(a) == 16)
		memcpy(out->b, RTA_DATA(a), 16);
	else
		return false;
	return true;
}

static void hostaddr_add(struct hostaddr *h, const struct nlmsghdr *m)
{
	struct ifaddrmsg *ifa = NLMSG_DATA(m);
	unsigned left = (unsigned)IFA_PAYLOAD(m);
	bool local = false;

	for (struct rtattr *a = IFA_RTA(ifa); RTA_OK(a, left); a = RTA_NEXT(a, left))
		local |= a->rta_type == IFA_LOCAL;
	left = (unsigned)IFA_PAYLOAD(m);
	for (struct rtattr *a = IFA_RTA(ifa); RTA_OK(a, left); a = RTA_NEXT(a, left)) {
		struct netaddr addr;
		enum netaddr_kind kind;

		if (!hostaddr_read(ifa, a, local, &addr))
			continue;
		/* What is shut in any case does not use up the room. */
		kind = netaddr_kind(&addr);
		if (kind == NETADDR_LOOPBACK ||
		    (kind == NETADDR_LINK_LOCAL && !netaddr_is_v4(&addr)))
			continue;
		if (h->n == NET_HOST_ADDRS_MAX)
			h->incomplete = true;
		else
			h->addrs[h->n++] = addr;
	}
}

/* Return: 1 = the list is complete, 0, or an error. */
static int hostaddr_message(struct hostaddr *h, const struct nlmsghdr *m, struct err *e)
{
	bool ours = h->listing && m->nlmsg_seq == h->seq;

	if (m->nlmsg_type == NLMSG_ERROR)
		return err_set(e, EIO, "host addresses: the kernel refused to list them");
	if (m->nlmsg_type == NLMSG_DONE)
		return ours ? 1 : 0;
	if (m->nlmsg_type != RTM_NEWADDR && m->nlmsg_type != RTM_DELADDR)
		return 0;
	if (!ours) {
		h->again = true;
		return 0;
	}
	/* The list changed while it was read, and may lack an entry. */
	if (m->nlmsg_flags & NLM_F_DUMP_INTR)
		h->again = true;
	hostaddr_add(h, m);
	return 0;
}

int hostaddr_update(struct hostaddr *h, struct net_policy *p, struct err *e)
{
	_Alignas(struct nlmsghdr) uint8_t mem[16384];
	bool done = false;

	for (;;) {
		ssize_t n = recv(h->fd, mem, sizeof(mem), MSG_DONTWAIT);

		if (n < 0 && errno == ENOBUFS) {
			h->again = true;
			continue;
		}
		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			break;
		if (n < 0)
			return err_errno(e, errno, "host addresses: netlink");
		unsigned left = (unsigned)n;
		for (struct nlmsghdr *m = (void *)mem; NLMSG_OK(m, left); m = NLMSG_NEXT(m, left)) {
			int rc = hostaddr_message(h, m, e);

			if (rc < 0)
				return rc;
			done |= rc == 1;
		}
	}
	if (done) {
		h->listing = false;
		memcpy(p->host_addrs, h->addrs, h->n * sizeof(h->addrs[0]));
		p->n_host_addrs = h->n;
		p->host_addrs_incomplete = h->incomplete;
	}
	if (h->again && !h->listing) {
		int rc = hostaddr_request(h, e);

		if (rc < 0)
			return rc;
	}
	return done;
}

int hostaddr_init(struct hostaddr *h, struct net_policy *p, struct err *e)
{
	struct sockaddr_nl addr = { .nl_family = AF_NETLINK,
				    .nl_groups = RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR };
	struct pollfd pfd = { .events = POLLIN };
	int rc;

	*h = (struct hostaddr){ .fd = -1 };
	h->fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_ROUTE);
	if (h->fd < 0)
		return err_errno(e, errno, "host addresses: netlink socket");
	pfd.fd = h->fd;
	if (bind(h->fd, (struct sockaddr *)&addr, sizeof(addr)) < 0) {
		rc = err_errno(e, errno, "host addresses: subscribe to changes");
		goto fail;
	}
	rc = hostaddr_request(h, e);
	if (rc < 0)
		goto fail;
	/* The kernel always answers: waiting here cannot be drawn out by anybody. */
	while (h->listing) {
		if (poll(&pfd, 1, -1) < 0 && errno != EINTR) {
			rc = err_errno(e, errno, "host addresses: poll");
			goto fail;
		}
		rc = hostaddr_update(h, p, e);
		if (rc < 0)
			goto fail;
	}
	return 0;
fail:
	hostaddr_fini(h);
	return rc;
}

void hostaddr_fini(struct hostaddr *h)
{
	close_fd(&h->fd);
}
