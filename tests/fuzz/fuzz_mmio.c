/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every virtio device, under a driver that writes its registers and its memory as it
 * likes.  The input chooses the device, perhaps a proper start, and is then a script of
 * register accesses, kicks, writes to RAM, turns of the loop, traffic at the host's end of the
 * device's sockets, and snapshots.
 * Unlike the targets of single devices, nothing is right here that the script does not make
 * so.
 */
#include <sys/mman.h>
#include <sys/socket.h>

#include "fuzz/device.h"
#include "vmm/virtio/balloon.h"
#include "vmm/virtio/blk.h"
#include "vmm/virtio/console.h"
#include "vmm/virtio/disk_worker.h"
#include "vmm/virtio/net.h"
#include "vmm/virtio/rng.h"
#include "vmm/virtio/vdev.h"

#define DISK_BYTES 65536
#define PEERS 3u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct disk_worker *worker;
static int disk = -1;

/* A device, and the host's ends of its sockets. */
struct box {
	unsigned which;
	uint8_t *window; /* what the guest reads at its registers' place */
	struct vdev *d;
	int peer[PEERS]; /* -1 = none */
};

static int box_socket(struct box *b, unsigned i)
{
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair))
		abort();
	b->peer[i] = pair[0];
	return pair[1];
}

static int box_rng(struct box *b)
{
	return rng_create(&b->d, &fuzz_ram, fuzz_loop, NULL);
}

static int box_balloon(struct box *b)
{
	return balloon_create(&b->d, &fuzz_ram, fuzz_loop, NULL);
}

static int box_blk(struct box *b)
{
	const struct blk_config c = { .name = "blk", .serial = "upper", .fd = dup(disk) };

	return blk_create(&b->d, &c, &fuzz_ram, fuzz_loop, worker, NULL);
}

static int box_console(struct box *b)
{
	const struct console_config c = {
		.name = "console",
		.n_ports = PEERS,
		.ports = { { .fd = box_socket(b, 0) },
			   { .fd = box_socket(b, 1), .name = "agent.ctl" },
			   { .fd = box_socket(b, 2), .name = "agent.bulk" } },
	};

	return console_create(&b->d, &c, &fuzz_ram, fuzz_loop, NULL);
}

static int box_net(struct box *b)
{
	const struct net_config c = {
		.name = "net",
		.fd = box_socket(b, 0),
		.mac = { 2, 0, 0, 0, 0, 1 },
	};

	return net_create(&b->d, &c, &fuzz_ram, fuzz_loop, NULL);
}

static int (*const makers[])(struct box *) = {
	box_rng, box_balloon, box_blk, box_console, box_net,
};

static void setup(void)
{
	fuzz_ram_clear();
	log_set_level(LOG_ERR);
	if (!fuzz_loop) {
		disk = memfd_create("disk", MFD_CLOEXEC);
		if (disk < 0 || loop_create(&fuzz_loop, NULL) ||
		    disk_worker_create(&worker, fuzz_loop, NULL))
			abort();
	}
	/* The same disk for every input. */
	if (ftruncate(disk, 0) || ftruncate(disk, DISK_BYTES))
		abort();
}

static void box_create(struct box *b, unsigned which)
{
	b->which = which;
	for (unsigned i = 0; i < PEERS; i++)
		b->peer[i] = -1;
	if (makers[which](b))
		abort();
	b->window = calloc(1, VDEV_MMIO_SIZE);
	if (!b->window)
		abort();
	vdev_use_window(b->d, b->window);
}

static void box_destroy(struct box *b)
{
	/* As the machine does it: no request is left when a device goes. */
	drv_write(b->d, DRV_STATUS, 0);
	assert(!b->d->status && !b->d->queues[0].enabled);
	b->d->ops->destroy(b->d);
	free(b->window);
	for (unsigned i = 0; i < PEERS; i++)
		close_fd(&b->peer[i]);
}

/* The host's side of a socket: sends, takes what there is, or goes away. */
static void box_traffic(struct box *b, struct fuzz_input *in)
{
	unsigned op = (unsigned)fuzz_get(in, 1);
	int *fd = &b->peer[op % PEERS];
	size_t len = fuzz_get(in, 1);
	const uint8_t *p = fuzz_bytes(in, &len);
	static char sink[65536];

	if (*fd < 0)
		return;
	switch (op / PEERS % 8) {
	case 0:
		close_fd(fd);
		break;
	case 1:
		shutdown(*fd, SHUT_WR);
		break;
	case 2:
	case 3:
		while (recv(*fd, sink, sizeof(sink), MSG_DONTWAIT) > 0)
			;
		break;
	default:
		(void)!send(*fd, p, len, MSG_DONTWAIT | MSG_NOSIGNAL);
		break;
	}
}

/* What holds for a device whatever its driver did. */
static void check(struct vdev *d)
{
	/* The guest reads without an exit what it would read with one. */
	for (unsigned off = 0; off < DRV_CONFIG; off += 4)
		drv_read(d, off);
	for (unsigned i = 0; i < d->ops->config_size; i++) {
		uint8_t byte;

		vdev_mmio_read(d, DRV_CONFIG + i, &byte, 1);
		assert(byte == d->window[DRV_CONFIG + i]);
	}
	assert(!(atomic_load(d->isr) & ~3u));
	assert(!(d->status & ~0xcfu));
	if (d->status & VDEV_S_FEATURES_OK)
		assert(!(d->features & ~d->features_offered) && vdev_has(d, VDEV_F_VERSION_1));
	for (unsigned i = 0; i < d->n_queues; i++) {
		const struct vq *q = &d->queues[i];

		if (!q->enabled)
			continue;
		assert(d->status & VDEV_S_FEATURES_OK);
		assert(q->size && q->size <= d->ops->queue_size_max);
		assert((uint16_t)(q->next_avail - q->next_used) <= q->size);
	}
}

/* For fuzz_attach(): a correct driver that starts any device, with any features. */
static const struct fuzz_device any = { .features = UINT64_MAX };

/* One chain, of a few segments, in the next descriptors of a queue that fuzz_attach() laid out. */
static void offer(struct drv_queue *dq, struct fuzz_input *in)
{
	unsigned n = (unsigned)fuzz_get(in, 1) % 4 + 1;
	struct drv_seg segs[4];

	for (unsigned i = 0; i < n; i++) {
		segs[i].addr = fuzz_address(in);
		segs[i].len = (uint32_t)fuzz_get(in, 3);
		segs[i].write = segs[i].len & 0x800000;
		segs[i].len &= 0x1ffff;
	}
	drv_send(dq, segs, n);
}

/* A state that was saved can be loaded, and is the same then. */
static void snapshot(struct box *b)
{
	struct box copy;
	struct buf first, second;

	box_create(&copy, b->which);
	buf_init(&first, 0);
	buf_init(&second, 0);
	vdev_drain(b->d);
	if (vdev_save(b->d, &first) || vdev_load(copy.d, buf_data(&first), buf_len(&first), NULL) ||
	    vdev_save(copy.d, &second))
		abort();
	assert(buf_len(&first) == buf_len(&second));
	assert(!memcmp(buf_data(&first), buf_data(&second), buf_len(&first)));
	box_destroy(&copy);
	vdev_undrain(b->d);
	buf_fini(&first);
	buf_fini(&second);
}

/* The box goes on from a state that nobody saved, if the device takes it. */
static void load(struct box *b, struct fuzz_input *in)
{
	size_t len = fuzz_get(in, 2);
	const uint8_t *p = fuzz_bytes(in, &len);
	struct box fresh;

	box_create(&fresh, b->which);
	if (vdev_load(fresh.d, p, len, NULL)) {
		check(fresh.d);
		assert(!fresh.d->status);
		box_destroy(&fresh);
		return;
	}
	box_destroy(b);
	*b = fresh;
	vdev_undrain(b->d);
}

static void access_register(struct vdev *d, struct fuzz_input *in, bool write)
{
	uint64_t off = fuzz_get(in, 2);
	size_t len = fuzz_get(in, 1) % 17;
	uint8_t b[16];
	const uint8_t *p;

	off = off & 0x8000 ? UINT64_MAX - (off & 0xff) : off & 0x1fff;
	if (write) {
		p = fuzz_bytes(in, &len);
		vdev_mmio_write(d, off, p, (uint32_t)len);
	} else {
		vdev_mmio_read(d, off, b, (uint32_t)len);
	}
}

/* One step of the script. */
static void step(struct box *b, struct fuzz_input *in)
{
	unsigned op = (unsigned)fuzz_get(in, 1) % 12, n;
	uint64_t at;

	switch (op) {
	case 0:
	case 1:
		access_register(b->d, in, op);
		break;
	case 2:
		at = fuzz_get(in, 1) % 64 * 4;
		drv_write(b->d, (unsigned)at, (uint32_t)fuzz_get(in, 4));
		break;
	case 3:
		vdev_kick(b->d, (unsigned)fuzz_get(in, 1));
		break;
	case 4:
		fuzz_poke(in);
		break;
	case 5:
	case 6:
		n = (unsigned)fuzz_get(in, 1) % b->d->n_queues;
		if (!fuzz_dq[n].size)
			break;
		offer(&fuzz_dq[n], in);
		if (op == 6)
			vdev_kick(b->d, n);
		break;
	case 7:
		loop_run_once(fuzz_loop, 0);
		break;
	case 8:
		snapshot(b);
		break;
	case 9:
		load(b, in);
		break;
	case 10:
		fuzz_attach(&any, b->d, fuzz_get(in, 8));
		break;
	default:
		box_traffic(b, in);
		break;
	}
	check(b->d);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input in = { data, size };
	struct box box;

	setup();
	memset(fuzz_dq, 0, sizeof(fuzz_dq));
	box_create(&box, (unsigned)fuzz_get(&in, 1) % ARRAY_SIZE(makers));
	if (fuzz_get(&in, 1) & 1)
		fuzz_attach(&any, box.d, fuzz_get(&in, 8));
	/* At most: an input is a script, not a day's work. */
	for (unsigned i = 0; i < 1024 && in.left; i++)
		step(&box, &in);
	box_destroy(&box);
	/* What the loop was still to do for the device, it must not do now. */
	loop_run_once(fuzz_loop, 0);
	return 0;
}
