/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DOC: Theory of operation
 *
 * Purpose
 *   The guest's network card.  Its cable is a unix stream socket to msb-net, on which each
 *   Ethernet frame is preceded by its length in 4 bytes, most significant first
 *   (docs/network.md).
 *
 * Spec
 *   virtio 1.2 §5.1: queues §5.1.2 (0 receives, 1 transmits), features §5.1.3, configuration
 *   §5.1.4, transmission §5.1.6.2, receive buffers §5.1.6.3, reception §5.1.6.4.
 *
 * Trust boundary
 *   A frame of the guest is bytes between its header, which asks for nothing as long as no
 *   offload was negotiated and so is not looked at, and its end.  A chain of the wrong
 *   direction or too short for the header breaks the device; a frame too short or too long
 *   to be one is dropped.  Who may talk to whom is msb-net's business.
 *   The peer is not trusted either: a length beyond the protocol's bound ends the link, a
 *   frame beyond the MTU (§5.1.4.1) is dropped.
 *
 * Threads and locks
 *   I/O thread, vdev->lock.  A reset may come from a vCPU thread: there the watch is only
 *   changed, never removed.  Nothing blocks.  The transmit queue has NET_TURN_FRAMES frames
 *   and NET_TURN_BYTES bytes a turn, reception what one recv() brought.
 *
 * Back-pressure
 *   No frame is dropped for want of room.  When the socket takes no frame, it stays in the
 *   queue; when it takes part of one, the rest is copied (tx_rest), since the stream has to
 *   stay in step whatever the guest does to its memory.  While the guest has no buffers, the
 *   socket is not read.  Exceptions: a buffer of a driver without MRG_RXBUF, or a whole queue
 *   of buffers, too small for a frame.
 *
 * MRG_RXBUF
 *   Frames are up to 64 KiB.  Without merging, a driver has to keep 17 pages in each of its
 *   receive buffers; with it, one, and a frame takes as many as it needs.  All of them get
 *   used at once (§5.1.6.4.1), or none while there are too few.
 *
 * Snapshot
 *   Kept: nothing but the MAC, to refuse another card.  Afresh: the socket, and with it
 *   the frames on their way, which a network may lose.  In the VM that goes on after a
 *   snapshot nothing is lost.  A reset keeps the stream in step in the same way.
 *
 * Failure
 *   The peer's end or a socket error: link down (§5.1.4.2, STATUS), and the machine is told,
 *   since a sandbox does not go on without its network.  What the guest sends is dropped.
 *
 * Limits
 *   Frames of NET_FRAME_MIN to NET_FRAME_MAX bytes; queues of NET_QUEUE_SIZE.
 *
 * Not implemented (and why)
 *   Checksum and segmentation offload: the protocol has no place to say so and msb-net would
 *   have to do the work; at an MTU of 65520 there is little to gain.  Control queue (no
 *   filter here: the peer sends only what is for this guest), several queue pairs.
 */
#include "vmm/virtio/net.h"

#include <endian.h>
#include <errno.h>
#include <linux/virtio_ids.h>
#include <linux/virtio_net.h>
#include <string.h>
#include <sys/socket.h>

#include "base/checked.h"
#include "base/log.h"
#include "base/mem.h"
#include "sys/loop.h"
#include "vmm/virtio/vdev.h"

#define NET_QUEUE_SIZE 256u
#define NET_QUEUE_RX 0u
#define NET_QUEUE_TX 1u
#define NET_PREFIX 4u
#define NET_HEADER ((uint32_t)sizeof(struct virtio_net_hdr_v1))
#define NET_FRAME_MIN 14u /* addresses and type */
#define NET_FRAME_MAX (NET_MTU + 14 + 4) /* and a VLAN tag */
#define NET_WIRE_MAX 69632u /* more means that the stream is out of step */
/* Two of the largest frames: while one is incomplete, much of the next has room. */
#define NET_RX_BYTES (2 * (NET_PREFIX + NET_WIRE_MAX))
#define NET_TURN_FRAMES 64u
#define NET_TURN_BYTES (1u << 20)

struct net {
	struct vdev vdev;
	int fd; /* owned; -1 = link down */
	struct loop_watch watch;
	uint8_t mac[6];
	void (*lost)(void *arg, int error);
	void *arg;
	bool rx_starved; /* the guest has too few buffers: the socket waits */
	bool tx_blocked; /* the socket takes no more: the queue waits */
	uint64_t dropped; /* frames that cannot be delivered or sent */
	struct vq_chain chain;
	struct iovec iov[VQ_SIZE_MAX + 1];
	struct vq_used used[VQ_SIZE_MAX];
	/* Bytes [rx_start, rx_end) came from the socket and are not delivered. */
	uint32_t rx_start, rx_end;
	uint8_t rx[NET_RX_BYTES];
	/* Bytes [tx_start, tx_end) have to be sent before the next frame. */
	uint32_t tx_start, tx_end;
	uint8_t tx_rest[NET_PREFIX + NET_FRAME_MAX];
};

static struct net *net_of(struct vdev *d)
{
	return container_of(d, struct net, vdev);
}

static void net_watch(struct net *n)
{
	uint32_t events = 0;

	if (n->fd < 0)
		return;
	if (vdev_live(&n->vdev) && !n->rx_starved)
		events |= EPOLLIN;
	/* What the stream needs to be in step is sent even after a reset. */
	if (!n->vdev.drained && (n->tx_blocked || n->tx_end))
		events |= EPOLLOUT;
	loop_watch_set(&n->watch, events);
}

/* The cable is out, for good. */
static void net_lose(struct net *n, int error)
{
	log_warn("event=link-lost device=%s dropped=%llu detail=\"%s\"", n->vdev.name,
		 (unsigned long long)n->dropped,
		 error ? strerror(error) : "the network process is gone");
	loop_watch_remove(&n->watch);
	close_fd(&n->fd);
	n->tx_blocked = false;
	n->tx_start = n->tx_end = 0;
	n->rx_start = n->rx_end = 0;
	vdev_interrupt_config(&n->vdev);
	if (n->lost)
		n->lost(n->arg, error);
}

/* ---- to the guest ------------------------------------------------------- */

/* The next whole frame.  Return: 1, 0 if it is not there yet, -EPROTO. */
static int net_next_frame(const struct net *n, const uint8_t **frame, uint32_t *len)
{
	const uint32_t have = n->rx_end - n->rx_start;
	uint32_t prefix;

	if (have < NET_PREFIX)
		return 0;
	memcpy(&prefix, n->rx + n->rx_start, sizeof(prefix));
	prefix = be32toh(prefix);
	if (prefix > NET_WIRE_MAX)
		return -EPROTO;
	if (have - NET_PREFIX < prefix)
		return 0;
	*frame = n->rx + n->rx_start + NET_PREFIX;
	*len = prefix;
	return 1;
}

/*
 * The next receive buffer into n->chain; @taken of them are in hand for the same frame.
 * Return: 1, 0 if there is none, -EINVAL if it is none.
 */
static int net_next_buffer(struct net *n, unsigned taken)
{
	int rc = vq_pop(&n->vdev.queues[NET_QUEUE_RX], &n->chain);

	if (rc <= 0)
		return rc;
	if (n->chain.n_read || (!taken && n->chain.write_bytes < NET_HEADER))
		return -EINVAL;
	return 1;
}

/*
 * Copies a frame into the guest's buffers, n->used, without giving them back yet.
 * Return: how many; 0 if there are too few for now; -ENOBUFS if never enough; -EINVAL if
 * one is malformed.
 */
static int net_fill(struct net *n, const uint8_t *frame, uint32_t len)
{
	struct vq *q = &n->vdev.queues[NET_QUEUE_RX];
	const bool merge = vdev_has(&n->vdev, 1ull << VIRTIO_NET_F_MRG_RXBUF);
	const struct virtio_net_hdr_v1 header = { .num_buffers = htole16(1) };
	struct iovec count[sizeof(header.num_buffers)]; /* where num_buffers is */
	unsigned taken = 0, n_count = 0;
	uint32_t done = 0;
	int rc;

	do {
		uint32_t off = taken ? 0 : NET_HEADER, part;

		rc = net_next_buffer(n, taken);
		if (rc > 0 && !merge && n->chain.write_bytes - off < len) {
			vq_unpop(q);
			rc = -ENOBUFS;
		}
		if (rc <= 0)
			break;
		if (!taken) {
			vq_chain_write(&n->chain, 0, &header, NET_HEADER);
			n_count = vq_chain_slice_write(
				&n->chain, offsetof(struct virtio_net_hdr_v1, num_buffers),
				sizeof(header.num_buffers), count, ARRAY_SIZE(count));
		}
		part = (uint32_t)vq_chain_write(&n->chain, off, frame + done, len - done);
		n->used[taken++] = (struct vq_used){ n->chain.head, off + part };
		done += part;
	} while (done < len);
	if (done < len) {
		for (unsigned i = 0; i < taken; i++)
			vq_unpop(q);
		if (rc == 0 && taken == q->size)
			return -ENOBUFS;
		/* A kick at the next buffer; if it is there already, another look at them. */
		if (rc == 0 && vq_notify_on_beyond(q, (uint16_t)taken))
			vdev_kick_later(&n->vdev, NET_QUEUE_RX);
		return rc;
	}
	if (taken > 1) {
		const uint16_t buffers = htole16((uint16_t)taken);
		const uint8_t *from = (const uint8_t *)&buffers;

		for (unsigned i = 0; i < n_count; from += count[i].iov_len, i++)
			memcpy(count[i].iov_base, from, count[i].iov_len);
	}
	return (int)taken;
}

/* Delivers the frames that are there, as far as the guest has buffers. */
static void net_deliver(struct net *n)
{
	struct vq *q = &n->vdev.queues[NET_QUEUE_RX];
	const uint8_t *frame;
	uint32_t len;
	int rc;

	if (!vdev_live(&n->vdev) || !q->enabled)
		return;
	vq_notify_off(q);
	n->rx_starved = false;
	while ((rc = net_next_frame(n, &frame, &len)) > 0) {
		if (len < NET_FRAME_MIN || len > NET_FRAME_MAX)
			rc = -ENOBUFS;
		else
			rc = net_fill(n, frame, len);
		if (rc == -EINVAL) {
			vdev_fault(&n->vdev, "malformed receive buffer");
			return;
		}
		n->rx_starved = rc == 0;
		if (rc == 0)
			break;
		if (rc > 0)
			vq_push_many(q, n->used, (unsigned)rc);
		else
			n->dropped++;
		n->rx_start += NET_PREFIX + len;
	}
	vdev_interrupt_queue(&n->vdev, q);
	if (rc < 0)
		net_lose(n, -rc);
}

static void net_receive(struct net *n)
{
	ssize_t got;

	/* Whole frames may have been left by a driver that was reset. */
	net_deliver(n);
	if (n->fd < 0 || n->rx_starved || !vdev_live(&n->vdev))
		return;
	/* What is left is less than a frame: there is room for the rest of it. */
	memmove(n->rx, n->rx + n->rx_start, n->rx_end - n->rx_start);
	n->rx_end -= n->rx_start;
	n->rx_start = 0;
	got = recv(n->fd, n->rx + n->rx_end, sizeof(n->rx) - n->rx_end, MSG_DONTWAIT);
	if (got > 0) {
		n->rx_end += (uint32_t)got;
		net_deliver(n);
	} else if (got == 0 || (errno != EAGAIN && errno != EINTR)) {
		net_lose(n, got ? errno : 0);
	}
}

/* ---- from the guest ----------------------------------------------------- */

/* Return: what was sent, 0 if the socket takes nothing now; -1 if the link is lost. */
static ssize_t net_send(struct net *n, struct iovec *iov, unsigned n_iov)
{
	struct msghdr msg = { .msg_iov = iov, .msg_iovlen = n_iov };
	ssize_t sent;

	do
		sent = sendmsg(n->fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);
	while (sent < 0 && errno == EINTR);
	if (sent >= 0)
		return sent;
	if (errno == EAGAIN)
		return 0;
	net_lose(n, errno == EPIPE || errno == ECONNRESET ? 0 : errno);
	return -1;
}

/* Sends the rest of a frame.  Return: is the way free for the next one? */
static bool net_flush(struct net *n)
{
	while (n->fd >= 0 && n->tx_end) {
		struct iovec iov = { n->tx_rest + n->tx_start, n->tx_end - n->tx_start };
		ssize_t sent = net_send(n, &iov, 1);

		if (sent <= 0)
			return sent < 0;
		n->tx_start += (uint32_t)sent;
		if (n->tx_start == n->tx_end)
			n->tx_start = n->tx_end = 0;
	}
	return true;
}

/* Sends the frame in n->chain.  Return: false if it has to stay in the queue. */
static bool net_send_chain(struct net *n)
{
	const uint32_t len = n->chain.read_bytes - NET_HEADER;
	uint32_t prefix = htobe32(len);
	unsigned n_iov;
	ssize_t sent;

	if (n->fd < 0 || len < NET_FRAME_MIN || len > NET_FRAME_MAX) {
		n->dropped++;
		return true;
	}
	n->iov[0] = (struct iovec){ &prefix, sizeof(prefix) };
	n_iov = 1 + vq_chain_slice_read(&n->chain, NET_HEADER, len, n->iov + 1, VQ_SIZE_MAX);
	sent = net_send(n, n->iov, n_iov);
	if (sent == 0)
		n->tx_blocked = true;
	if (sent <= 0)
		return sent < 0;
	if ((uint32_t)sent < NET_PREFIX + len) {
		/* The rest as it is now: the length is out, so many bytes have to follow. */
		memcpy(n->tx_rest, &prefix, sizeof(prefix));
		vq_chain_read(&n->chain, NET_HEADER, n->tx_rest + NET_PREFIX, len);
		n->tx_start = (uint32_t)sent;
		n->tx_end = NET_PREFIX + len;
	}
	return true;
}

static void net_transmit(struct net *n)
{
	struct vq *q = &n->vdev.queues[NET_QUEUE_TX];
	uint32_t bytes = 0;

	if (!net_flush(n) || !vdev_live(&n->vdev) || !q->enabled)
		return;
	vq_notify_off(q);
	for (unsigned i = 0; !n->tx_blocked && !n->tx_end; i++) {
		int rc;

		if (i == NET_TURN_FRAMES || bytes >= NET_TURN_BYTES) {
			vdev_kick_later(&n->vdev, NET_QUEUE_TX);
			break;
		}
		rc = vq_pop(q, &n->chain);
		if (rc == 0) {
			if (!vq_notify_on(q))
				break;
			vq_notify_off(q);
			continue;
		}
		if (rc < 0 || n->chain.n_write || n->chain.read_bytes < NET_HEADER) {
			vdev_fault(&n->vdev, "malformed frame to send");
			return;
		}
		bytes += (uint32_t)min_u64(n->chain.read_bytes, NET_TURN_BYTES);
		if (net_send_chain(n))
			vq_push(q, n->chain.head, 0);
		else
			vq_unpop(q);
	}
	vdev_interrupt_queue(&n->vdev, q);
}

/* ---- events ------------------------------------------------------------- */

static void net_event(struct loop_watch *w, uint32_t events)
{
	struct net *n = container_of(w, struct net, watch);

	pthread_mutex_lock(&n->vdev.lock);
	if (n->vdev.drained && !(events & (EPOLLHUP | EPOLLERR))) {
		net_watch(n);
	} else {
		if (n->fd >= 0 && events & EPOLLOUT) {
			n->tx_blocked = false;
			net_transmit(n);
		}
		if (n->fd >= 0 && events & EPOLLIN && vdev_live(&n->vdev) && !n->rx_starved)
			net_receive(n);
		/* Frames of a peer that is gone are of no use: not read to the end. */
		if (n->fd >= 0 && events & (EPOLLHUP | EPOLLERR))
			net_lose(n, 0);
		net_watch(n);
	}
	pthread_mutex_unlock(&n->vdev.lock);
}

static void net_kick(struct vdev *d, unsigned q)
{
	struct net *n = net_of(d);

	if (q == NET_QUEUE_RX)
		net_deliver(n);
	else if (!n->tx_blocked)
		net_transmit(n);
	net_watch(n);
}

/* ---- operations --------------------------------------------------------- */

static void net_config_read(struct vdev *d, uint32_t off, void *to, uint32_t len)
{
	const struct net *n = net_of(d);
	struct virtio_net_config config = {
		.status = htole16(n->fd >= 0 ? VIRTIO_NET_S_LINK_UP : 0),
		.mtu = htole16(NET_MTU),
	};

	memcpy(config.mac, n->mac, sizeof(config.mac));
	memcpy(to, (const uint8_t *)&config + off, len);
}

static void net_start(struct vdev *d)
{
	net_watch(net_of(d));
}

static void net_stop(struct vdev *d)
{
	struct net *n = net_of(d);

	n->rx_starved = n->tx_blocked = false;
	/* Not removed: this may be a vCPU's thread.  The rest of a frame goes out later. */
	loop_watch_set(&n->watch, n->tx_end ? EPOLLOUT : 0);
}

static void net_rewatch(struct vdev *d)
{
	net_watch(net_of(d));
}

static int net_save(struct vdev *d, struct buf *out)
{
	const struct net *n = net_of(d);

	return buf_append(out, n->mac, sizeof(n->mac));
}

static int net_load(struct vdev *d, const uint8_t *data, size_t len)
{
	const struct net *n = net_of(d);

	return len == sizeof(n->mac) && !memcmp(data, n->mac, len) ? 0 : -EINVAL;
}

static void net_destroy(struct vdev *d)
{
	struct net *n = net_of(d);

	loop_watch_remove(&n->watch);
	close_fd(&n->fd);
	vdev_fini(d);
	free(n);
}

static const struct vdev_ops net_ops = {
	.name = "net",
	.id = VIRTIO_ID_NET,
	.n_queues = 2,
	.queue_size_max = NET_QUEUE_SIZE,
	/* Up to the fields of features that are never offered. */
	.config_size = offsetof(struct virtio_net_config, speed),
	.config_read = net_config_read,
	.start = net_start,
	.stop = net_stop,
	.kick = net_kick,
	.drain = net_rewatch,
	.undrain = net_rewatch,
	.save = net_save,
	.load = net_load,
	.destroy = net_destroy,
};

int net_create(struct vdev **out, const struct net_config *c, const struct memory *m,
	       struct loop *l, struct err *e)
{
	const uint64_t features = 1ull << VIRTIO_NET_F_MAC | 1ull << VIRTIO_NET_F_MTU |
				  1ull << VIRTIO_NET_F_STATUS | 1ull << VIRTIO_NET_F_MRG_RXBUF;
	auto_free struct net *n = calloc(1, sizeof(*n));
	socklen_t len = sizeof(int);
	int type, rc;

	if (!n)
		return err_errno(e, ENOMEM, "network card");
	if (getsockopt(c->fd, SOL_SOCKET, SO_TYPE, &type, &len) < 0 || type != SOCK_STREAM)
		return err_set(e, EINVAL, "network card: descriptor %d is no stream socket", c->fd);
	if (c->mac[0] & 1)
		return err_set(e, EINVAL, "network card: its MAC is a group's address");
	loop_watch_init(&n->watch, net_event);
	rc = loop_watch_add(l, &n->watch, c->fd, 0);
	if (rc)
		return err_errno(e, -rc, "network card: watch descriptor %d", c->fd);
	memcpy(n->mac, c->mac, sizeof(n->mac));
	n->lost = c->lost;
	n->arg = c->arg;
	vdev_init(&n->vdev, &net_ops, c->name, 2, features, m, l);
	n->fd = c->fd;
	*out = &take_ptr(&n)->vdev;
	return 0;
}
