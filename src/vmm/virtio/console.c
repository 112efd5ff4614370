/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DOC: Theory of operation
 *
 * Purpose
 *   Byte streams between the guest and the host: port 0 is the guest's console (hvc0), the
 *   others are named and carry the agent's protocol.  Each is a unix stream socket here.
 *
 * Spec
 *   virtio 1.2 §5.3: queues §5.3.2, features §5.3.3, configuration §5.3.4, the handshake that
 *   announces ports §5.3.5 and §5.3.6.2.  Port i has the queues 0 and 1 (i = 0) or 2i + 2 and
 *   2i + 3; 2 and 3 are for control.  A driver without MULTIPORT has port 0 only.
 *
 * Trust boundary
 *   Control messages of the guest are copied once; those of unknown ports or kinds are
 *   ignored, as are repeated ones.  A chain of the wrong direction, or too short for a
 *   message, breaks the device.  Data is never looked at.
 *
 * Threads and locks
 *   I/O thread, vdev->lock.  A reset may come from a vCPU thread: there a watch is only
 *   changed, never removed.  Nothing blocks: sockets are used with MSG_DONTWAIT.  A queue has
 *   CONSOLE_TURN_CHAINS chains and CONSOLE_TURN_BYTES bytes a turn, then others have theirs.
 *
 * Back-pressure
 *   To the guest: when a socket takes no more, the chain stays in the queue (with the number
 *   of its bytes that are through, tx_done) until the socket is writable.
 *   To the host: without buffers of the guest, or while its port is closed, the socket is
 *   not read.  No byte is kept here in either direction.
 *   The exception is the output of port 0: a guest's kernel spins, interrupts off, until
 *   each piece of its console output is taken, so a reader that is slow or gone would
 *   stop the whole guest.  What the socket does not take at once is lost, counted and logged.
 *
 * States of a port
 *   The guest learns of a port by ADD, answers READY, is told CONSOLE (port 0), NAME and OPEN,
 *   and says OPEN itself when somebody opens it.  What the guest is still to be told is a set
 *   of bits per port, not a list of messages, so that it is bounded.
 *   The host's end of file closes the port, after all that the host sent: the guest is told,
 *   and what it still sends is thrown away.  Port 0 may be half-closed by its host: output
 *   goes on.
 *
 * Snapshot
 *   Kept: what each port's guest said and was told, and tx_done, so that no byte is sent
 *   twice or lost.  Afresh: the sockets.  A guest whose port was open is not told that another
 *   peer is there now; the protocol above does that (a hello with a generation).
 *
 * Failure
 *   A socket error is as good as an end of file.
 *
 * Limits
 *   CONSOLE_PORTS_MAX ports, queues of CONSOLE_QUEUE_SIZE.
 *
 * Not implemented
 *   SIZE and RESIZE (the console shows a log; terminals are the agent's), EMERG_WRITE, adding
 *   and removing ports later.
 */
#include "vmm/virtio/console.h"

#include <endian.h>
#include <errno.h>
#include <linux/virtio_console.h>
#include <linux/virtio_ids.h>
#include <string.h>
#include <sys/socket.h>

#include "base/log.h"
#include "base/mem.h"
#include "codec/le.h"
#include "sys/loop.h"
#include "vmm/virtio/vdev.h"

#define CONSOLE_QUEUE_SIZE 128u
#define CONSOLE_QUEUES (2 * CONSOLE_PORTS_MAX + 2)
#define CONSOLE_QUEUE_CONTROL_RX 2u
#define CONSOLE_QUEUE_CONTROL_TX 3u
#define CONSOLE_TURN_CHAINS 64u
#define CONSOLE_TURN_BYTES (1u << 20)

#define CONSOLE_F_MULTIPORT (1ull << VIRTIO_CONSOLE_F_MULTIPORT)

/* What the guest is to be told of a port, in this order. */
#define CONSOLE_TELL_ADD 1u
#define CONSOLE_TELL_CONSOLE 2u
#define CONSOLE_TELL_NAME 4u
#define CONSOLE_TELL_OPEN 8u
#define CONSOLE_TELL_ALL 15u

/* A control message: le32 port, le16 event, le16 value; a name may follow (§5.3.6.2). */
#define CONSOLE_MSG 8u

/* A port in a snapshot: name, NUL-padded; le32 flags; le32 tx_done. */
#define CONSOLE_STATE_PORT (CONSOLE_NAME_MAX + 1 + 8)
#define CONSOLE_STATE_ADDED 1u
#define CONSOLE_STATE_READY 2u
#define CONSOLE_STATE_GUEST_OPEN 4u
#define CONSOLE_STATE_TOLD_OPEN 8u
#define CONSOLE_STATE_TELL_SHIFT 8

struct console;

struct console_port {
	struct console *console;
	struct loop_watch watch;
	int fd; /* owned; -1 = closed by the host */
	char name[CONSOLE_NAME_MAX + 1];
	bool added; /* announced to the guest */
	bool ready; /* and accepted by it */
	bool guest_open;
	bool told_open; /* what the guest last heard of the host's end */
	uint8_t tell; /* CONSOLE_TELL_… */
	bool rx_starved; /* the guest has no buffer: the socket waits */
	bool rx_eof; /* port 0: the host sends nothing more */
	bool tx_blocked; /* the socket takes no more: the queue waits */
	bool deaf; /* the host takes nothing ever again; what it sent is still read */
	uint32_t tx_done; /* bytes of the first chain in the queue that are through */
	uint64_t lost; /* port 0: bytes that nobody took */
};

struct console {
	struct vdev vdev;
	unsigned n_ports;
	struct log_limit log_limit;
	struct vq_chain chain;
	struct iovec iov[VQ_SIZE_MAX];
	struct console_port ports[CONSOLE_PORTS_MAX];
};

static struct console *console_of(struct vdev *d)
{
	return container_of(d, struct console, vdev);
}

static unsigned console_port_id(const struct console_port *p)
{
	return (unsigned)(p - p->console->ports);
}

static unsigned console_queue_rx(const struct console_port *p)
{
	unsigned id = console_port_id(p);

	return id ? 2 * id + 2 : 0;
}

static unsigned console_queue_tx(const struct console_port *p)
{
	return console_queue_rx(p) + 1;
}

/*
 * Takes the next chain of queue @index into c->chain: only readable segments if @readable,
 * only writable ones otherwise.  With none left, kicks are on.
 * Return: 1, 0, or -EINVAL after which the device is broken.
 */
static int console_pop(struct console *c, unsigned index, bool readable)
{
	struct vq *q = &c->vdev.queues[index];
	int rc = vq_pop(q, &c->chain);

	if (rc == 0) {
		if (!vq_notify_on(q))
			return 0;
		vq_notify_off(q);
		/* Once is enough: a driver that plays with its index comes again. */
		rc = vq_pop(q, &c->chain);
		if (rc == 0)
			vdev_kick_later(&c->vdev, index);
	}
	if (rc > 0 && (readable ? c->chain.n_write : c->chain.n_read))
		rc = -EINVAL;
	if (rc < 0)
		vdev_fault(&c->vdev, "malformed chain");
	return rc;
}

/* ---- control ------------------------------------------------------------ */

/* Writes the message that @bit stands for.  Return: its length. */
static uint32_t console_message(struct console_port *p, unsigned bit, uint8_t *msg)
{
	uint16_t event = VIRTIO_CONSOLE_PORT_ADD, value = 1;
	uint32_t len = CONSOLE_MSG;

	switch (bit) {
	case CONSOLE_TELL_CONSOLE:
		event = VIRTIO_CONSOLE_CONSOLE_PORT;
		break;
	case CONSOLE_TELL_NAME:
		event = VIRTIO_CONSOLE_PORT_NAME;
		memcpy(msg + CONSOLE_MSG, p->name, strlen(p->name));
		len += (uint32_t)strlen(p->name);
		break;
	case CONSOLE_TELL_OPEN:
		event = VIRTIO_CONSOLE_PORT_OPEN;
		value = p->fd >= 0;
		break;
	default:
		break;
	}
	le_put32(msg, console_port_id(p));
	le_put16(msg + 4, event);
	le_put16(msg + 6, value);
	return len;
}

/* Tells the guest one thing.  Return: false if it has to wait, or the device broke. */
static bool console_tell_one(struct console_port *p, unsigned bit)
{
	struct console *c = p->console;
	uint8_t msg[CONSOLE_MSG + CONSOLE_NAME_MAX];
	uint32_t len;

	if (console_pop(c, CONSOLE_QUEUE_CONTROL_RX, false) <= 0)
		return false;
	len = console_message(p, bit, msg);
	if (vq_chain_write(&c->chain, 0, msg, len) < len) {
		vdev_fault(&c->vdev, "a buffer too small for a control message");
		return false;
	}
	vq_push(&c->vdev.queues[CONSOLE_QUEUE_CONTROL_RX], c->chain.head, len);
	p->tell &= (uint8_t)~bit;
	if (bit == CONSOLE_TELL_OPEN)
		p->told_open = p->fd >= 0;
	return true;
}

/* Tells the guest what it does not know yet, as far as it has buffers. */
static void console_tell(struct console *c)
{
	struct vq *q = &c->vdev.queues[CONSOLE_QUEUE_CONTROL_RX];
	bool more = true;

	if (!vdev_live(&c->vdev) || !q->enabled)
		return;
	vq_notify_off(q);
	for (unsigned i = 0; i < c->n_ports && more; i++) {
		struct console_port *p = &c->ports[i];

		while (p->tell && more)
			more = console_tell_one(p, p->tell & -(unsigned)p->tell);
	}
	if (vdev_live(&c->vdev))
		vdev_interrupt_queue(&c->vdev, q);
}

/* Watches the socket for what can be done with it now.  @hung: it reports a hang-up. */
static void console_watch(struct console_port *p, bool hung)
{
	uint32_t events = 0;
	int rc = 0;

	if (p->fd < 0)
		return;
	if (vdev_live(&p->console->vdev)) {
		if (p->guest_open && !p->rx_starved && !p->rx_eof)
			events |= EPOLLIN;
		if (p->tx_blocked)
			events |= EPOLLOUT;
	}
	/* A hang-up is reported for ever: not before somebody wants to hear of it. */
	if (!events && hung)
		loop_watch_remove(&p->watch);
	else if (p->watch.fd >= 0)
		rc = loop_watch_set(&p->watch, events);
	else if (events)
		rc = loop_watch_add(p->console->vdev.loop, &p->watch, p->fd, events);
	if (rc && log_limit_pass(&p->console->log_limit, NULL))
		log_err("event=watch-failed device=%s port=%u detail=\"%s\"", p->console->vdev.name,
			console_port_id(p), strerror(-rc));
}

/* The host's end is gone. */
static void console_close(struct console_port *p, int error)
{
	if (p->fd < 0)
		return;
	log_debug("event=port-closed device=%s port=%u name=%s error=%d", p->console->vdev.name,
		  console_port_id(p), p->name, error);
	loop_watch_remove(&p->watch);
	close_fd(&p->fd);
	p->tx_blocked = false;
	if (p->ready && p->told_open)
		p->tell |= CONSOLE_TELL_OPEN;
	console_tell(p->console);
	/* What waited for the socket waits for nothing now. */
	vdev_kick_later(&p->console->vdev, console_queue_tx(p));
}

/* ---- from the host to the guest ----------------------------------------- */

static bool console_may_receive(const struct console_port *p)
{
	return p->fd >= 0 && p->guest_open && !p->rx_eof;
}

/*
 * Reads from the socket into the chain.  Return: the bytes, 0 if there are none now; then
 * the port may have closed.
 */
static uint32_t console_receive_chain(struct console_port *p)
{
	struct console *c = p->console;
	struct msghdr msg = { .msg_iov = c->chain.iov + c->chain.n_read,
			      .msg_iovlen = c->chain.n_write };
	ssize_t n;

	do
		n = recvmsg(p->fd, &msg, MSG_DONTWAIT);
	while (n < 0 && errno == EINTR);
	if (n > 0)
		return (uint32_t)n; /* no more than write_bytes */
	if (n < 0 && errno == EAGAIN)
		return 0;
	if (n == 0 && console_port_id(p) == 0)
		p->rx_eof = true;
	else
		console_close(p, n < 0 ? errno : 0);
	return 0;
}

static void console_receive(struct console_port *p)
{
	struct console *c = p->console;
	struct vq *q = &c->vdev.queues[console_queue_rx(p)];
	uint32_t bytes = 0;

	if (!q->enabled || !console_may_receive(p))
		return;
	vq_notify_off(q);
	/* What remains after a turn, epoll reports again. */
	for (unsigned n = 0; n < CONSOLE_TURN_CHAINS && bytes < CONSOLE_TURN_BYTES; n++) {
		int rc = console_pop(c, console_queue_rx(p), false);
		uint16_t head = c->chain.head;
		uint32_t room = c->chain.write_bytes, got;

		if (rc < 0)
			return;
		p->rx_starved = rc == 0;
		if (rc == 0)
			break;
		got = console_receive_chain(p);
		if (!got) {
			if (vdev_live(&c->vdev))
				vq_unpop(q);
			break;
		}
		vq_push(q, head, got);
		bytes += got;
		if (got < room) /* then there was no more */
			break;
	}
	if (vdev_live(&c->vdev))
		vdev_interrupt_queue(&c->vdev, q);
}

/* ---- from the guest to the host ----------------------------------------- */

/* Nobody took @n bytes of the console's output. */
static void console_lose(struct console_port *p, uint32_t n)
{
	p->lost += n;
	if (!log_limit_pass(&p->console->log_limit, NULL))
		return;
	log_warn("event=output-lost device=%s port=0 bytes=%llu", p->console->vdev.name,
		 (unsigned long long)p->lost);
	p->lost = 0;
}

/*
 * Sends what is left of the chain, at most *@budget bytes.  Return: is the chain done with?
 */
static bool console_send_chain(struct console_port *p, uint32_t *budget)
{
	struct console *c = p->console;
	struct msghdr msg = { .msg_iov = c->iov };

	while (p->fd >= 0 && !p->deaf && *budget) {
		ssize_t n;

		/* Put back and taken again, a chain may have become shorter. */
		msg.msg_iovlen =
			vq_chain_slice_read(&c->chain, p->tx_done, *budget, c->iov, VQ_SIZE_MAX);
		if (!msg.msg_iovlen)
			return true;
		n = sendmsg(p->fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);
		if (n >= 0) {
			p->tx_done += (uint32_t)n;
			*budget -= (uint32_t)n;
		} else if (errno == EAGAIN) {
			if (console_port_id(p) == 0) {
				console_lose(p, c->chain.read_bytes - p->tx_done);
				return true;
			}
			p->tx_blocked = true;
			return false;
		} else if (errno != EINTR) {
			p->deaf = true;
		}
	}
	return p->fd < 0 || p->deaf || p->tx_done >= c->chain.read_bytes;
}

static void console_transmit(struct console_port *p)
{
	struct console *c = p->console;
	const unsigned index = console_queue_tx(p);
	struct vq *q = &c->vdev.queues[index];
	uint32_t budget = CONSOLE_TURN_BYTES;

	if (!q->enabled)
		return;
	vq_notify_off(q);
	for (unsigned n = 0; !p->tx_blocked; n++) {
		int rc;

		if (n == CONSOLE_TURN_CHAINS || !budget) {
			vdev_kick_later(&c->vdev, index);
			break;
		}
		rc = console_pop(c, index, true);
		if (rc < 0)
			return;
		if (rc == 0)
			break;
		if (!console_send_chain(p, &budget)) {
			vq_unpop(q);
			continue;
		}
		p->tx_done = 0;
		vq_push(q, c->chain.head, 0);
	}
	vdev_interrupt_queue(&c->vdev, q);
	if (p->deaf && p->rx_eof)
		console_close(p, 0);
}

/* ---- events ------------------------------------------------------------- */

static void console_event(struct loop_watch *w, uint32_t events)
{
	struct console_port *p = container_of(w, struct console_port, watch);
	struct vdev *d = &p->console->vdev;
	const bool hung = events & (EPOLLHUP | EPOLLERR);

	pthread_mutex_lock(&d->lock);
	if (vdev_live(d) && (hung || events & EPOLLIN) && !p->rx_starved)
		console_receive(p);
	if (vdev_live(d) && p->tx_blocked && (hung || events & EPOLLOUT)) {
		p->tx_blocked = false;
		console_transmit(p);
	}
	if (vdev_live(d) && hung && p->rx_eof)
		console_close(p, 0);
	console_watch(p, hung);
	pthread_mutex_unlock(&d->lock);
}

/* What a control message of the guest says. */
static void console_heed(struct console *c, uint32_t id, uint16_t event, uint16_t value)
{
	struct console_port *p = id < c->n_ports ? &c->ports[id] : NULL;

	switch (event) {
	case VIRTIO_CONSOLE_DEVICE_READY:
		for (unsigned i = 0; i < c->n_ports && value; i++) {
			/* A port that exists may not be added again (§5.3.6.2.1). */
			if (!c->ports[i].added)
				c->ports[i].tell |= CONSOLE_TELL_ADD;
			c->ports[i].added = true;
		}
		break;
	case VIRTIO_CONSOLE_PORT_READY:
		if (!p || !p->added || !value)
			break;
		p->ready = true;
		p->tell |= CONSOLE_TELL_OPEN;
		if (id == 0)
			p->tell |= CONSOLE_TELL_CONSOLE;
		if (p->name[0])
			p->tell |= CONSOLE_TELL_NAME;
		break;
	case VIRTIO_CONSOLE_PORT_OPEN:
		if (!p || !p->added)
			break;
		p->guest_open = value != 0;
		console_watch(p, false);
		break;
	default:
		break;
	}
}

static void console_control(struct console *c)
{
	struct vq *q = &c->vdev.queues[CONSOLE_QUEUE_CONTROL_TX];

	vq_notify_off(q);
	for (unsigned n = 0;; n++) {
		uint8_t msg[CONSOLE_MSG];
		int rc;

		if (n == CONSOLE_TURN_CHAINS) {
			vdev_kick_later(&c->vdev, CONSOLE_QUEUE_CONTROL_TX);
			break;
		}
		rc = console_pop(c, CONSOLE_QUEUE_CONTROL_TX, true);
		if (rc < 0)
			return;
		if (rc == 0)
			break;
		if (vq_chain_read(&c->chain, 0, msg, sizeof(msg)) < sizeof(msg)) {
			vdev_fault(&c->vdev, "a short control message");
			return;
		}
		console_heed(c, le_get32(msg), le_get16(msg + 4), le_get16(msg + 6));
		vq_push(q, c->chain.head, 0);
	}
	vdev_interrupt_queue(&c->vdev, q);
	console_tell(c);
}

static void console_kick(struct vdev *d, unsigned q)
{
	struct console *c = console_of(d);
	struct console_port *p;

	if (q >= 2 && !vdev_has(d, CONSOLE_F_MULTIPORT))
		return;
	if (q == CONSOLE_QUEUE_CONTROL_RX) {
		console_tell(c);
		return;
	}
	if (q == CONSOLE_QUEUE_CONTROL_TX) {
		console_control(c);
		return;
	}
	p = &c->ports[q < 2 ? 0 : (q - 2) / 2];
	if (q == console_queue_rx(p)) {
		p->rx_starved = false;
		console_receive(p);
	} else {
		console_transmit(p);
	}
	console_watch(p, false);
}

/* ---- operations --------------------------------------------------------- */

static void console_config_read(struct vdev *d, uint32_t off, void *to, uint32_t len)
{
	const struct virtio_console_config config = {
		.max_nr_ports = htole32(console_of(d)->n_ports),
	};

	memcpy(to, (const uint8_t *)&config + off, len);
}

static void console_start(struct vdev *d)
{
	struct console_port *p = &console_of(d)->ports[0];

	/* Without control messages the only port is there from the start. */
	p->guest_open = !vdev_has(d, CONSOLE_F_MULTIPORT);
	console_watch(p, false);
}

static void console_stop(struct vdev *d)
{
	struct console *c = console_of(d);

	for (unsigned i = 0; i < c->n_ports; i++) {
		struct console_port *p = &c->ports[i];

		p->added = p->ready = p->guest_open = p->told_open = false;
		p->rx_starved = p->tx_blocked = false;
		p->tell = 0;
		p->tx_done = 0;
		/* Not removed: this may be a vCPU's thread. */
		loop_watch_set(&p->watch, 0);
	}
}

static void console_drain(struct vdev *d)
{
	struct console *c = console_of(d);

	for (unsigned i = 0; i < c->n_ports; i++)
		console_watch(&c->ports[i], false);
}

static void console_undrain(struct vdev *d)
{
	struct console *c = console_of(d);

	for (unsigned i = 0; i < c->n_ports; i++) {
		struct console_port *p = &c->ports[i];

		if (p->ready && p->told_open != (p->fd >= 0))
			p->tell |= CONSOLE_TELL_OPEN;
		console_watch(p, false);
	}
}

static int console_save(struct vdev *d, struct buf *out)
{
	struct console *c = console_of(d);
	uint8_t *at;
	int rc = buf_reserve(out, (size_t)CONSOLE_STATE_PORT * c->n_ports, &at);

	if (rc)
		return rc;
	for (unsigned i = 0; i < c->n_ports; i++, at += CONSOLE_STATE_PORT) {
		const struct console_port *p = &c->ports[i];
		uint32_t flags = (uint32_t)p->tell << CONSOLE_STATE_TELL_SHIFT;

		flags |= p->added ? CONSOLE_STATE_ADDED : 0;
		flags |= p->ready ? CONSOLE_STATE_READY : 0;
		flags |= p->guest_open ? CONSOLE_STATE_GUEST_OPEN : 0;
		flags |= p->told_open ? CONSOLE_STATE_TOLD_OPEN : 0;
		memcpy(at, p->name, sizeof(p->name));
		le_put32(at + sizeof(p->name), flags);
		le_put32(at + sizeof(p->name) + 4, p->tx_done);
	}
	buf_commit(out, (size_t)CONSOLE_STATE_PORT * c->n_ports);
	return 0;
}

static int console_load(struct vdev *d, const uint8_t *data, size_t len)
{
	const uint32_t known = CONSOLE_STATE_ADDED | CONSOLE_STATE_READY |
			       CONSOLE_STATE_GUEST_OPEN | CONSOLE_STATE_TOLD_OPEN |
			       CONSOLE_TELL_ALL << CONSOLE_STATE_TELL_SHIFT;
	struct console *c = console_of(d);

	if (len != (size_t)CONSOLE_STATE_PORT * c->n_ports)
		return -EINVAL;
	for (unsigned i = 0; i < c->n_ports; i++, data += CONSOLE_STATE_PORT) {
		struct console_port *p = &c->ports[i];
		const uint32_t flags = le_get32(data + sizeof(p->name));

		if (memcmp(data, p->name, sizeof(p->name)) != 0 || (flags & ~known))
			return -EINVAL;
		p->added = flags & CONSOLE_STATE_ADDED;
		p->ready = flags & CONSOLE_STATE_READY;
		p->guest_open = flags & CONSOLE_STATE_GUEST_OPEN;
		p->told_open = flags & CONSOLE_STATE_TOLD_OPEN;
		p->tell = (uint8_t)(flags >> CONSOLE_STATE_TELL_SHIFT);
		p->tx_done = le_get32(data + sizeof(p->name) + 4);
	}
	return 0;
}

static void console_destroy(struct vdev *d)
{
	struct console *c = console_of(d);

	for (unsigned i = 0; i < c->n_ports; i++) {
		loop_watch_remove(&c->ports[i].watch);
		close_fd(&c->ports[i].fd);
	}
	vdev_fini(d);
	free(c);
}

static const struct vdev_ops console_ops = {
	.name = "console",
	.id = VIRTIO_ID_CONSOLE,
	.n_queues = CONSOLE_QUEUES,
	.queue_size_max = CONSOLE_QUEUE_SIZE,
	/* Up to the register of a feature that is not offered. */
	.config_size = offsetof(struct virtio_console_config, emerg_wr),
	.config_read = console_config_read,
	.start = console_start,
	.stop = console_stop,
	.kick = console_kick,
	.drain = console_drain,
	.undrain = console_undrain,
	.save = console_save,
	.load = console_load,
	.destroy = console_destroy,
};

static int console_check_port(const struct console_config *c, unsigned i, struct err *e)
{
	const struct console_port_config *p = &c->ports[i];
	const size_t name_len = p->name ? strlen(p->name) : 0;
	socklen_t len = sizeof(int);
	int type;

	if (name_len > CONSOLE_NAME_MAX || (i && !name_len))
		return err_set(e, EINVAL, "console port %u: its name has to have 1 to %u bytes", i,
			       CONSOLE_NAME_MAX);
	if (p->fd >= 0 &&
	    (getsockopt(p->fd, SOL_SOCKET, SO_TYPE, &type, &len) < 0 || type != SOCK_STREAM))
		return err_set(e, EINVAL, "console port %u: descriptor %d is no stream socket", i,
			       p->fd);
	return 0;
}

int console_create(struct vdev **out, const struct console_config *cfg, const struct memory *m,
		   struct loop *l, struct err *e)
{
	auto_free struct console *c = calloc(1, sizeof(*c));

	if (!c)
		return err_errno(e, ENOMEM, "console");
	if (!cfg->n_ports || cfg->n_ports > CONSOLE_PORTS_MAX)
		return err_set(e, EINVAL, "console: %u ports, has to have 1 to %u", cfg->n_ports,
			       CONSOLE_PORTS_MAX);
	for (unsigned i = 0; i < cfg->n_ports; i++) {
		int rc = console_check_port(cfg, i, e);

		if (rc)
			return rc;
	}
	c->n_ports = cfg->n_ports;
	c->log_limit = (struct log_limit)LOG_LIMIT(1, 10000);
	vdev_init(&c->vdev, &console_ops, cfg->name, 2 * c->n_ports + 2, CONSOLE_F_MULTIPORT, m, l);
	for (unsigned i = 0; i < c->n_ports; i++) {
		struct console_port *p = &c->ports[i];

		p->console = c;
		p->fd = cfg->ports[i].fd;
		if (cfg->ports[i].name)
			memcpy(p->name, cfg->ports[i].name, strlen(cfg->ports[i].name));
		loop_watch_init(&p->watch, console_event);
	}
	*out = &take_ptr(&c)->vdev;
	return 0;
}
