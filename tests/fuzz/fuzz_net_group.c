/* SPDX-License-Identifier: Apache-2.0 */
/* What another member's msb-net sends: dropped, or a frame from that member to the guest. */
#include <assert.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/log.h"
#include "net/build.h"
#include "net/group.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct gate gate;
static struct group group;
static int member = -1;

static void to_guest(void *ctx, const uint8_t *frame, size_t len)
{
	struct net_flow f;

	(void)ctx;
	assert(net_packet_read(frame, len, &f) == NET_PACKET_IP);
	assert(netaddr_low32(&f.src) == NET_GROUP_IP + 3 && netaddr_low32(&f.dst) == NET_GUEST_IP);
	assert(f.transport && !f.options && !f.fragment);
	assert(len == (size_t)NET_ETH_HEADER + f.ip_total);
	assert(!memcmp(frame, gate.policy.guest_mac, 6) && !memcmp(frame + 6, net_gateway_mac, 6));
}

static void to_stack(void *ctx, const uint8_t *frame, size_t len)
{
	(void)ctx;
	(void)frame;
	(void)len;
	abort(); /* no rules changed */
}

static bool full(void *ctx)
{
	(void)ctx;
	return false;
}

static void set_up(void)
{
	const struct netmember other = { .number = 3, .name = "db" };
	int sv[2];

	log_set_level(LOG_ERR);
	gate.policy.scope = NET_SCOPE_GROUP;
	gate.policy.closed = true;
	memcpy(gate.policy.guest_mac, (const uint8_t[6]){ 2, 0, 0, 0, 0, 15 }, 6);
	gate.to_guest = to_guest;
	gate.to_stack = to_stack;
	gate_init(&gate, 42);
	gate_clock(&gate, 1000);
	group.gate = &gate;
	group.full = full;
	assert(!group_init(&group, 1, "me", 43, NULL));
	assert(!socketpair(AF_UNIX, SOCK_SEQPACKET, 0, sv));
	assert(!group_add(&group, &other, sv[0], NULL));
	member = sv[1];
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct pollfd fds[NETGROUP_MEMBERS_MAX];
	uint8_t answer[2048];

	if (member < 0)
		set_up();
	/* An empty message is the end of the socket. */
	if (!size || send(member, data, size, MSG_DONTWAIT) < 0)
		return 0;
	assert(group_fill(&group, fds) == 1);
	assert(poll(fds, 1, 0) >= 0);
	group_serve(&group, fds);
	assert(group.n == 1);
	while (recv(member, answer, sizeof(answer), MSG_DONTWAIT) > 0)
		;
	return 0;
}
