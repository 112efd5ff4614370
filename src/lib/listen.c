/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/listen.h"

#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>

#include "base/mem.h"

#define LISTEN_BACKLOG 512 /* the kernel's own limit may be lower */

union listen_addr {
	struct sockaddr sa;
	struct sockaddr_in in;
	struct sockaddr_in6 in6;
};

static socklen_t listen_fill_addr(const struct publish *p, union listen_addr *a)
{
	memset(a, 0, sizeof(*a));
	if (p->ipv6) {
		a->in6.sin6_family = AF_INET6;
		a->in6.sin6_port = htons(p->host);
		memcpy(&a->in6.sin6_addr, p->addr, sizeof(a->in6.sin6_addr));
		return sizeof(a->in6);
	}
	a->in.sin_family = AF_INET;
	a->in.sin_port = htons(p->host);
	memcpy(&a->in.sin_addr, p->addr, sizeof(a->in.sin_addr));
	return sizeof(a->in);
}

static int listen_fail(const struct publish *p, int code, struct err *e)
{
	char addr[PUBLISH_TEXT_MAX];
	const char *proto = p->udp ? "udp" : "tcp";

	publish_format_addr(p, addr);
	switch (code) {
	case EADDRINUSE:
		if (p->host)
			return err_set(e, code,
				       "port %s:%u/%s is in use already: choose another one, or 0",
				       addr, p->host, proto);
		return err_set(e, code, "%s has no free %s port left", addr, proto);
	case EACCES:
		return err_set(e, code,
			       "port %s:%u/%s is privileged: choose one from 1024 on, or see "
			       "net.ipv4.ip_unprivileged_port_start",
			       addr, p->host, proto);
	case EADDRNOTAVAIL:
	case EAFNOSUPPORT:
		return err_set(e, code, "port %s:%u/%s: %s is no address of this machine", addr,
			       p->host, proto, addr);
	default:
		return err_errno(e, code, "port %s:%u/%s", addr, p->host, proto);
	}
}

/* What 0 was: the port that the kernel chose. */
static int listen_read_port(int fd, struct publish *p)
{
	union listen_addr a;
	socklen_t len = sizeof(a);

	if (getsockname(fd, &a.sa, &len) < 0)
		return -errno;
	p->host = ntohs(p->ipv6 ? a.in6.sin6_port : a.in.sin_port);
	return 0;
}

static int listen_bind(struct publish *p, int *out, struct err *e)
{
	static const int on = 1;
	auto_close int fd = socket(p->ipv6 ? AF_INET6 : AF_INET,
				   (p->udp ? SOCK_DGRAM : SOCK_STREAM) | SOCK_CLOEXEC, 0);
	union listen_addr a;
	socklen_t len = listen_fill_addr(p, &a);
	int rc;

	if (fd < 0)
		return listen_fail(p, errno, e);
	/* [::] is IPv6 alone: who wants 0.0.0.0 as well says so. */
	if ((p->ipv6 && setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on)) < 0) ||
	    /* Old connections of a sandbox before this one do not keep its port.  Of UDP it
	     * would let two programs have the same port. */
	    (!p->udp && setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) < 0) ||
	    bind(fd, &a.sa, len) < 0 || (!p->udp && listen(fd, LISTEN_BACKLOG) < 0))
		return listen_fail(p, errno, e);
	rc = listen_read_port(fd, p);
	if (rc)
		return listen_fail(p, -rc, e);
	*out = take_fd(&fd);
	return 0;
}

int listen_open(struct publish_list *l, int fds[PUBLISH_MAX], struct err *e)
{
	struct publish_list chosen = *l;

	for (size_t i = 0; i < l->n; i++) {
		int rc = listen_bind(&chosen.v[i], &fds[i], e);

		if (rc) {
			listen_close(fds, i);
			return rc;
		}
	}
	*l = chosen;
	return 0;
}

void listen_close(int *fds, size_t n)
{
	for (size_t i = 0; i < n; i++)
		close_fd(&fds[i]);
}
