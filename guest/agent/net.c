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

int net_configure(const struct frame_configure *c, struct err *e)
{
	auto_close int sock = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	int rc;

	if (sock < 0)
		return err_errno(e, errno, "network: socket");
	rc = net_up(sock, "lo", e);
	if (!rc && (c->flags & CONFIGURE_NETWORK))
		rc = net_device(sock, c, e);
	if (!rc && (c->flags & CONFIGURE_NETWORK) && c->ipv4_gateway)
		rc = net_route(sock, c->ipv4_gateway, e);
	return rc;
}
