/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The network card under a hostile driver and a hostile peer: what it sends to the peer is
 * always whole frames in step, and nothing is in flight between two events.
 */
#include <linux/virtio_net.h>

#include "fuzz/device.h"
#include "vmm/virtio/net.h"

#define FRAME_MAX (NET_MTU + 18)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int peer = -1;
/* The stream from the card: bytes of a length, and what is left of the frame. */
static uint32_t prefix, prefix_bytes, frame_left;

static struct vdev *make(struct fuzz_input *in)
{
	struct net_config c = { .name = "net", .mac = { 2, 0, 0, 0, 0, 15 } };
	struct vdev *d;
	int sv[2];

	(void)in;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, sv))
		abort();
	c.fd = sv[0];
	peer = sv[1];
	prefix = prefix_bytes = frame_left = 0;
	if (net_create(&d, &c, &fuzz_ram, fuzz_loop, NULL))
		abort();
	return d;
}

static void unmake(void)
{
	close_fd(&peer);
}

static void parse(const uint8_t *p, size_t n)
{
	while (n) {
		if (frame_left) {
			uint32_t part = (uint32_t)min_u64(frame_left, n);

			p += part;
			n -= part;
			frame_left -= part;
			continue;
		}
		prefix = prefix << 8 | *p++;
		n--;
		if (++prefix_bytes == 4) {
			assert(prefix >= 14 && prefix <= FRAME_MAX);
			frame_left = prefix;
			prefix = prefix_bytes = 0;
		}
	}
}

static void host(struct fuzz_input *in)
{
	static uint8_t bytes[80000];
	const unsigned op = (unsigned)fuzz_get(in, 1);
	uint32_t len;
	ssize_t n;

	if (peer < 0)
		return;
	switch (op & 15) {
	case 0:
		close_fd(&peer);
		break;
	case 1:
		/* Any bytes, that is most likely out of step. */
		len = (uint32_t)fuzz_get(in, 2);
		memset(bytes, (int)fuzz_get(in, 1), len);
		n = send(peer, bytes, len, MSG_NOSIGNAL);
		break;
	case 2:
	case 3:
	case 4:
	case 5:
	case 6:
		n = read(peer, bytes, 1 + 1000 * (op >> 4));
		if (n > 0)
			parse(bytes, (size_t)n);
		break;
	default:
		/* A frame; half of one now and then. */
		len = (uint32_t)fuzz_get(in, 2) + (op & 0x10 ? 5000 : 0);
		memset(bytes, 0, sizeof(bytes));
		bytes[2] = (uint8_t)(len >> 8);
		bytes[3] = (uint8_t)len;
		bytes[1] = (uint8_t)(len >> 16);
		n = send(peer, bytes, 4 + (op & 0x80 ? len / 2 : len), MSG_NOSIGNAL);
		break;
	}
}

static void check(struct vdev *d)
{
	for (unsigned i = 0; i < d->n_queues; i++)
		assert(d->queues[i].next_avail == d->queues[i].next_used);
}

/* A header, which may ask for what was not negotiated, and the start of a frame. */
static uint32_t request(struct fuzz_input *in, unsigned q, uint8_t *to, uint32_t room)
{
	(void)q;
	memset(to, (int)fuzz_get(in, 1), room);
	return (uint32_t)(fuzz_get(in, 1) % 64) + 1;
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
