/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The console under a hostile driver and a hostile host: nothing is in flight between two
 * events, since no byte is kept by the device.
 */
#include <linux/virtio_console.h>

#include "codec/le.h"
#include "fuzz/device.h"
#include "vmm/virtio/console.h"

#define PORTS 3u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int peer[PORTS] = { -1, -1, -1 };

static struct vdev *make(struct fuzz_input *in)
{
	struct console_config c = {
		.name = "console",
		.n_ports = PORTS,
		.ports = { { .fd = -1 },
			   { .fd = -1, .name = "agent.ctl" },
			   { .fd = -1, .name = "b" } },
	};
	const unsigned there = ~(unsigned)fuzz_get(in, 1);
	struct vdev *d;

	for (unsigned i = 0; i < PORTS; i++) {
		int sv[2];

		if (!(there & 1u << i))
			continue;
		if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, sv))
			abort();
		c.ports[i].fd = sv[0];
		peer[i] = sv[1];
	}
	if (console_create(&d, &c, &fuzz_ram, fuzz_loop, NULL))
		abort();
	return d;
}

static void unmake(void)
{
	for (unsigned i = 0; i < PORTS; i++)
		close_fd(&peer[i]);
}

static void host(struct fuzz_input *in)
{
	static uint8_t sink[65536];
	const unsigned op = (unsigned)fuzz_get(in, 1);
	const unsigned i = (op >> 4) % PORTS;
	size_t len;

	switch (op & 15) {
	case 0:
		close_fd(&peer[i]);
		break;
	case 1:
		if (peer[i] >= 0)
			shutdown(peer[i], op & 0x80 ? SHUT_WR : SHUT_RD);
		break;
	case 2:
	case 3:
	case 4:
	case 5:
		if (peer[i] >= 0 && read(peer[i], sink, sizeof(sink)) < 0 && errno != EAGAIN)
			assert(errno == ECONNRESET);
		break;
	default:
		len = fuzz_get(in, 2);
		if (peer[i] >= 0 && send(peer[i], sink, len, MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
			assert(errno == EAGAIN || errno == EPIPE || errno == ECONNRESET);
		break;
	}
}

static void check(struct vdev *d)
{
	for (unsigned i = 0; i < d->n_queues; i++)
		assert(d->queues[i].next_avail == d->queues[i].next_used);
}

static uint32_t request(struct fuzz_input *in, unsigned q, uint8_t *to, uint32_t room)
{
	(void)q;
	(void)room;
	le_put32(to, (uint32_t)fuzz_get(in, 1) % (PORTS + 1));
	le_put16(to + 4, (uint16_t)fuzz_get(in, 1) % 8);
	le_put16(to + 6, (uint16_t)fuzz_get(in, 1) & 1);
	return 8;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct fuzz_device fd = {
		.make = make,
		.unmake = unmake,
		.host = host,
		.check = check,
		.request = request,
		.features = UINT64_MAX,
	};

	if (!fuzz_loop && loop_create(&fuzz_loop, NULL))
		abort();
	fuzz_device_run(&fd, data, size);
	return 0;
}
