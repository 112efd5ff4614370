/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/boot.h"

#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <net/route.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "base/mem.h"
#include "codec/netaddr.h"

#define NET_DEVICE "eth0"

static void net_sockaddr(struct sockaddr *to, uint32_t addr)
{
	struct sockaddr_in in = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(addr) };

	memcpy(to, &in, sizeof(in));
}

static int net_up(int sock, const char *dev, struct err *e)
{
	struct ifreq ifr = { 0 };

	snprintf(ifr.ifr_name, sizeof(ifr.ifr_name), "%s", dev);
	if (ioctl(sock, SIOCGIFFLAGS, &ifr))
		return err_errno(e, errno, "network device %s", dev);
	ifr.ifr_flags |= IFF_UP;
	if (ioctl(sock, SIOCSIFFLAGS, &ifr))
		return err_errno(e, errno, "network device %s: up", dev);
	return 0;
}

static int net_device(int sock, const struct frame_configure *c, struct err *e)
{
	struct ifreq ifr = { 0 };
	uint32_t mask;

	if (!c->ipv4_addr || c->ipv4_prefix < 1 || c->ipv4_prefix > 32)
		return err_set(e, EINVAL, "network: address %08x/%u is none", c->ipv4_addr,
			       c->ipv4_prefix);
	mask = UINT32_MAX << (32 - c->ipv4_prefix);
	snprintf(ifr.ifr_name, sizeof(ifr.ifr_name), "%s", NET_DEVICE);
	if (c->mtu) {
		ifr.ifr_mtu = c->mtu;
		if (ioctl(sock, SIOCSIFMTU, &ifr))
			return err_errno(e, errno, "network device %s: MTU %u", NET_DEVICE, c->mtu);
	}
	net_sockaddr(&ifr.ifr_addr, c->ipv4_addr);
	if (ioctl(sock, SIOCSIFADDR, &ifr))
		return err_errno(e, errno, "network device %s: address", NET_DEVICE);
	net_sockaddr(&ifr.ifr_netmask, mask);
	if (ioctl(sock, SIOCSIFNETMASK, &ifr))
		return err_errno(e, errno, "network device %s: netmask", NET_DEVICE);
	return net_up(sock, NET_DEVICE, e);
}

static int net_route(int sock, uint32_t gateway, struct err *e)
{
	struct rtentry rt = { .rt_flags = RTF_UP | RTF_GATEWAY };

	net_sockaddr(&rt.rt_dst, 0);
	net_sockaddr(&rt.rt_genmask, 0);
	net_sockaddr(&rt.rt_gateway, gateway);
	if (ioctl(sock, SIOCADDRT, &rt) && errno != EEXIST)
		return err_errno(e, errno, "default route");
	return 0;
}

/* linux/ipv6.h has it, and does not go with netinet/in.h. */
struct net_in6_ifreq {
	struct in6_addr addr;
	uint32_t prefix;
	int ifindex;
};

/*
 * Static: the gateway sends no advertisements, and nobody else could have the address.  Like
 * IPv4 it must be up before the first program runs, so the kernel does not try it out first.
 */
static int net_ipv6(struct err *e)
{
	static const struct netaddr addr = NETADDR_GUEST6_ADDR, gateway = NETADDR_GUEST6_GATEWAY;
	auto_close int sock = socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct net_in6_ifreq ifr = {
		.prefix = NETADDR_GUEST6_BITS,
		.ifindex = (int)if_nametoindex(NET_DEVICE),
	};
	struct in6_rtmsg rt = {
		.rtmsg_flags = RTF_UP | RTF_GATEWAY,
		.rtmsg_metric = 1,
		.rtmsg_ifindex = ifr.ifindex,
	};

	if (sock < 0)
		return err_errno(e, errno, "network: IPv6 socket");
	memcpy(&ifr.addr, addr.b, sizeof(ifr.addr));
	memcpy(&rt.rtmsg_gateway, gateway.b, sizeof(rt.rtmsg_gateway));
	if (ioctl(sock, SIOCSIFADDR, &ifr))
		return err_errno(e, errno, "network device %s: IPv6 address", NET_DEVICE);
	if (ioctl(sock, SIOCADDRT, &rt) && errno != EEXIST)
		return err_errno(e, errno, "IPv6 default route");
	return 0;
}

int net_configure(const struct frame_configure *c, struct err *e)
{
	auto_close int sock = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	int rc;

	if (sock < 0)
		return err_errno(e, errno, "network: socket");
	boot_write_file("/proc/sys/net/ipv6/conf/" NET_DEVICE "/accept_ra", "0");
	boot_write_file("/proc/sys/net/ipv6/conf/" NET_DEVICE "/accept_dad", "0");
	rc = net_up(sock, "lo", e);
	if (!rc && (c->flags & CONFIGURE_NETWORK))
		rc = net_device(sock, c, e);
	if (!rc && (c->flags & CONFIGURE_NETWORK) && c->ipv4_gateway)
		rc = net_route(sock, c->ipv4_gateway, e);
	if (!rc && (c->flags & CONFIGURE_NETWORK) && (c->flags & CONFIGURE_IPV6))
		rc = net_ipv6(e);
	return rc;
}
