/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DOC: Theory of operation
 *
 * Purpose
 *   A disk for the guest: its sectors are the bytes of a regular file.  The root image is
 *   shared by all sandboxes and read-only, the upper belongs to one and is sparse.
 *
 * Spec
 *   virtio 1.2 §5.2: features §5.2.3, configuration §5.2.4, initialization §5.2.5, requests
 *   and what the device owes them §5.2.6, §5.2.6.2.
 *
 * Trust boundary
 *   Each request's header and ranges are copied once and judged by the copy: direction and
 *   length of the parts, whole sectors, inside the disk, not writing to a read-only one.
 *   Wrong requests with a place for the status byte get IOERR or UNSUPP there, as §5.2.6.2
 *   wants it; without one the device is broken until it is reset.  Readable bytes after
 *   what a request needs are refused for reads and writes, and ignored otherwise.
 *
 * Threads and locks
 *   A read first takes what the host's page cache has, in the I/O thread (RWF_NOWAIT never
 *   sleeps on a disk), up to BLK_TURN_BYTES in one go.  All else is done by the disk worker,
 *   so that neither a slow disk nor a guest's flood of requests holds up other devices.
 *   Measured with `make bench-disk` (2 CPUs under load, the file in the page cache, pages of
 *   the guest scattered, one request at a time), relative to preadv() in the calling thread:
 *
 *     bytes a request     4 KiB  16 KiB  64 KiB  128 KiB  256 KiB  1 MiB
 *     RWF_NOWAIT           1.0    1.0     1.0     1.0      1.0      1.0
 *     by the worker        0.08   0.2     0.4     0.55     0.7      0.96
 *
 *   that is about 10 us for two wake-ups; a guest's usual read-ahead is 128 KiB.
 *   What is not there, the try has the kernel read ahead, and the worker waits for the rest.
 *
 * States
 *   A request slot is free, or its request is in flight: with the worker, or on the way
 *   back.  With no slot free the queue is left alone; the next completion looks at it again.
 *
 * Ownership
 *   Slots hold host addresses of guest memory (data and status byte) only while in flight.
 *   A reset takes every slot back and returns when the worker touches none any more.
 *
 * Durability
 *   FLUSH is fdatasync().  A driver that did not accept FLUSH was promised a write-through
 *   disk (§5.2.6.2): its writes are on the disk when they complete.  Requests in flight are
 *   done in any order, as the driver must expect.
 *
 * Failure
 *   What the host's file system refuses (ENOSPC, EIO, …) is IOERR to the guest and a
 *   rate-limited line in the log.  A file that was cut meanwhile reads as EIO.
 *
 * Snapshot
 *   drain waits for all requests and completes them, so only the disk's identity (size,
 *   serial, read-only or not) is saved, to refuse another disk at the restore.
 *
 * Limits
 *   One queue of BLK_QUEUE_SIZE; BLK_SLOTS requests in flight; BLK_SEG_MAX segments of data,
 *   with which a request of 1 MiB needs no contiguous guest memory; BLK_RANGES ranges of a
 *   discard, of at most 1 GiB each, so that a reset never waits long.
 *
 * Not implemented
 *   Several queues (one worker serves all), topology, geometry, CONFIG_WCE, lifetime, secure
 *   erase, zones.  SIZE_MAX: no segment is too long.
 */
#include "vmm/virtio/blk.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/virtio_blk.h>
#include <linux/virtio_ids.h>
#include <string.h>
#include <sys/stat.h>

#include "base/checked.h"
#include "base/log.h"
#include "base/mem.h"
#include "vmm/virtio/disk_worker.h"
#include "vmm/virtio/vdev.h"

#define BLK_QUEUE_SIZE 256u
#define BLK_SEG_MAX (BLK_QUEUE_SIZE - 2) /* with header and status: no longer than the queue */
#define BLK_SLOTS 64u
#define BLK_RANGES 16u
#define BLK_SECTOR 512u
#define BLK_DISCARD_SECTORS ((1u << 30) / BLK_SECTOR)
#define BLK_ZEROES_SECTORS ((16u << 20) / BLK_SECTOR) /* where they have to be written */
/* One turn of the I/O thread: requests looked at, bytes copied from the page cache. */
#define BLK_TURN_REQUESTS 128u
#define BLK_TURN_BYTES (1u << 20)
/* Not a status of §5.2.6: the request is not decided yet. */
#define BLK_UNDECIDED 0xffu

struct blk_slot {
	struct disk_request io;
	uint16_t head; /* of the chain */
	uint8_t *status; /* in guest memory */
	uint32_t written; /* for the used ring, if it succeeds */
	uint32_t written_failed; /* and if not */
	struct disk_range ranges[BLK_RANGES];
	struct iovec iov[VQ_SIZE_MAX];
};

struct blk {
	struct vdev vdev;
	struct disk_client client;
	int fd; /* owned */
	bool readonly;
	uint64_t capacity; /* sectors */
	struct virtio_blk_config config;
	char serial[VIRTIO_BLK_ID_BYTES]; /* NUL-padded, not terminated */
	struct log_limit log_limit;
	struct vq_chain chain;
	/* Free slots, a stack: what a quiet guest never uses costs no memory. */
	uint8_t free[BLK_SLOTS];
	unsigned n_free;
	struct blk_slot slots[BLK_SLOTS];
};

/* What a snapshot holds. */
struct blk_state {
	uint64_t capacity; /* little-endian */
	uint8_t readonly;
	char serial[VIRTIO_BLK_ID_BYTES];
} __attribute__((packed));

static struct blk *blk_of(struct vdev *d)
{
	return container_of(d, struct blk, vdev);
}

/* ---- slots -------------------------------------------------------------- */

static void blk_slots_reset(struct blk *b)
{
	for (unsigned i = 0; i < BLK_SLOTS; i++)
		b->free[i] = (uint8_t)i;
	b->n_free = BLK_SLOTS;
}

static void blk_slot_free(struct blk *b, struct blk_slot *s)
{
	b->free[b->n_free++] = (uint8_t)(s - b->slots);
}

/* The request is over: tells the driver, unless the device broke meanwhile. */
static void blk_finish(struct blk *b, struct blk_slot *s, uint8_t status)
{
	if (!(b->vdev.status & VDEV_S_NEEDS_RESET)) {
		*s->status = status;
		vq_push(&b->vdev.queues[0], s->head,
			status == VIRTIO_BLK_S_OK ? s->written : s->written_failed);
	}
	blk_slot_free(b, s);
}

static uint8_t blk_io_status(struct blk *b, const struct blk_slot *s)
{
	static const char *const names[] = {
		[DISK_READ] = "read", [DISK_WRITE] = "write",     [DISK_FLUSH] = "flush",
		[DISK_ZERO] = "zero", [DISK_DISCARD] = "discard",
	};
	unsigned held;

	if (!s->io.result)
		return VIRTIO_BLK_S_OK;
	if (log_limit_pass(&b->log_limit, &held))
		log_warn("event=disk-error device=%s op=%s offset=%llu held_back=%u detail=\"%s\"",
			 b->vdev.name, names[s->io.op], (unsigned long long)s->io.offset, held,
			 strerror(-s->io.result));
	return VIRTIO_BLK_S_IOERR;
}

/* ---- requests ----------------------------------------------------------- */

static uint8_t blk_begin_transfer(struct blk *b, struct blk_slot *s, bool write, uint64_t sector)
{
	const struct vq_chain *c = &b->chain;
	const uint32_t header = sizeof(struct virtio_blk_outhdr);
	uint32_t bytes;

	if (write && b->readonly)
		return VIRTIO_BLK_S_IOERR;
	/* All data on the right side, none on the other. */
	if (write ? c->write_bytes != 1 : c->read_bytes != header)
		return VIRTIO_BLK_S_IOERR;
	bytes = write ? c->read_bytes - header : c->write_bytes - 1;
	if (!bytes || bytes % BLK_SECTOR || !checked_range(sector, bytes / BLK_SECTOR, b->capacity))
		return VIRTIO_BLK_S_IOERR;
	s->io.op = write ? DISK_WRITE : DISK_READ;
	s->io.offset = sector * BLK_SECTOR;
	s->io.iov = s->iov;
	if (write) {
		s->io.n_iov = vq_chain_slice_read(c, header, bytes, s->iov, VQ_SIZE_MAX);
		s->io.stable = !vdev_has(&b->vdev, 1ull << VIRTIO_BLK_F_FLUSH);
	} else {
		s->io.n_iov = vq_chain_slice_write(c, 0, bytes, s->iov, VQ_SIZE_MAX);
		s->written = c->write_bytes;
	}
	return BLK_UNDECIDED;
}

/* DISCARD and WRITE_ZEROES: a list of ranges. */
static uint8_t blk_begin_ranges(struct blk *b, struct blk_slot *s, enum disk_op op)
{
	const struct vq_chain *c = &b->chain;
	const bool zero = op == DISK_ZERO;
	const unsigned feature = zero ? VIRTIO_BLK_F_WRITE_ZEROES : VIRTIO_BLK_F_DISCARD;
	const uint32_t flags_known = zero ? VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP : 0;
	const uint32_t max = zero ? BLK_ZEROES_SECTORS : BLK_DISCARD_SECTORS;
	struct virtio_blk_discard_write_zeroes in[BLK_RANGES];
	const uint32_t header = sizeof(struct virtio_blk_outhdr);
	const uint32_t bytes = c->read_bytes - header;
	unsigned n = bytes / sizeof(in[0]);

	if (!vdev_has(&b->vdev, 1ull << feature))
		return VIRTIO_BLK_S_UNSUPP;
	if (!n || n > (zero ? 1 : BLK_RANGES) || bytes % sizeof(in[0]))
		return VIRTIO_BLK_S_IOERR;
	vq_chain_read(c, header, in, bytes);
	for (unsigned i = 0; i < n; i++) {
		const uint64_t sector = le64toh(in[i].sector);
		const uint32_t sectors = le32toh(in[i].num_sectors);

		if (le32toh(in[i].flags) & ~flags_known)
			return VIRTIO_BLK_S_UNSUPP;
		if (sectors > max || !checked_range(sector, sectors, b->capacity))
			return VIRTIO_BLK_S_IOERR;
		s->ranges[i].offset = sector * BLK_SECTOR;
		s->ranges[i].len = (uint64_t)sectors * BLK_SECTOR;
	}
	s->io.op = op;
	s->io.offset = s->ranges[0].offset; /* for the log */
	s->io.ranges = s->ranges;
	s->io.n_ranges = n;
	s->io.stable = zero && !vdev_has(&b->vdev, 1ull << VIRTIO_BLK_F_FLUSH);
	return BLK_UNDECIDED;
}

static uint8_t blk_get_id(struct blk *b, struct blk_slot *s)
{
	const struct vq_chain *c = &b->chain;
	const uint32_t data = c->write_bytes - 1;

	if (data < sizeof(b->serial))
		return VIRTIO_BLK_S_IOERR;
	vq_chain_write(c, 0, b->serial, sizeof(b->serial));
	s->written = data == sizeof(b->serial) ? c->write_bytes : (uint32_t)sizeof(b->serial);
	return VIRTIO_BLK_S_OK;
}

/* Return: a status if the request is decided, BLK_UNDECIDED if @s->io has to be done. */
static uint8_t blk_begin(struct blk *b, struct blk_slot *s)
{
	struct virtio_blk_outhdr header;

	if (vq_chain_read(&b->chain, 0, &header, sizeof(header)) < sizeof(header))
		return VIRTIO_BLK_S_IOERR;
	switch (le32toh(header.type)) {
	case VIRTIO_BLK_T_IN:
		return blk_begin_transfer(b, s, false, le64toh(header.sector));
	case VIRTIO_BLK_T_OUT:
		return blk_begin_transfer(b, s, true, le64toh(header.sector));
	case VIRTIO_BLK_T_FLUSH:
		s->io.op = DISK_FLUSH;
		return b->readonly ? VIRTIO_BLK_S_OK : BLK_UNDECIDED;
	case VIRTIO_BLK_T_GET_ID:
		return blk_get_id(b, s);
	case VIRTIO_BLK_T_DISCARD:
		return blk_begin_ranges(b, s, DISK_DISCARD);
	case VIRTIO_BLK_T_WRITE_ZEROES:
		return blk_begin_ranges(b, s, DISK_ZERO);
	default:
		return VIRTIO_BLK_S_UNSUPP;
	}
}

/*
 * Serves b->chain.  *@budget: bytes that may still be copied in this turn.
 * Return: false if the chain has no place for a status.
 */
static bool blk_serve(struct blk *b, uint32_t *budget)
{
	const struct vq_chain *c = &b->chain;
	const struct iovec *last;
	struct blk_slot *s;
	uint8_t status;

	if (!c->write_bytes)
		return false;
	s = &b->slots[b->free[--b->n_free]];
	last = &c->iov[c->n_read + c->n_write - 1];
	s->io = (struct disk_request){ .fd = b->fd };
	s->head = c->head;
	s->status = (uint8_t *)last->iov_base + last->iov_len - 1;
	/*
	 * The used length counts from the first writable byte without a gap (§2.7.8.2), so the
	 * status counts only if everything before it was written.
	 */
	s->written = s->written_failed = c->write_bytes == 1;
	status = blk_begin(b, s);
	if (status == BLK_UNDECIDED && s->io.op == DISK_READ && c->write_bytes - 1 <= *budget) {
		*budget -= c->write_bytes - 1;
		if (disk_request_try(&s->io))
			status = blk_io_status(b, s);
	}
	if (status == BLK_UNDECIDED)
		disk_client_submit(&b->client, &s->io);
	else
		blk_finish(b, s, status);
	return true;
}

/* Serves what is in the queue, one turn's worth of it. */
static void blk_process(struct blk *b)
{
	struct vq *q = &b->vdev.queues[0];
	uint32_t budget = BLK_TURN_BYTES;

	if (!vdev_live(&b->vdev) || !q->enabled)
		return;
	vq_notify_off(q);
	/* Without a free slot the next completion goes on here. */
	for (unsigned n = 0; b->n_free; n++) {
		int rc;

		if (n == BLK_TURN_REQUESTS) {
			vdev_kick_later(&b->vdev, 0);
			break;
		}
		rc = vq_pop(q, &b->chain);
		if (rc == 0) {
			if (!vq_notify_on(q))
				break;
			vq_notify_off(q);
			continue;
		}
		if (rc < 0 || !blk_serve(b, &budget)) {
			vdev_fault(&b->vdev, rc < 0 ? "malformed request queue"
						    : "a request without a status byte");
			return;
		}
	}
	vdev_interrupt_queue(&b->vdev, q);
}

/* Takes back what the worker has finished. */
static void blk_reap(struct blk *b)
{
	struct disk_request *r;

	while ((r = disk_client_take(&b->client))) {
		struct blk_slot *s = container_of(r, struct blk_slot, io);

		blk_finish(b, s, blk_io_status(b, s));
	}
}

static void blk_completed(struct disk_client *c)
{
	struct blk *b = container_of(c, struct blk, client);

	pthread_mutex_lock(&b->vdev.lock);
	blk_reap(b);
	/* The driver should not wait for what it has while we look for more. */
	if (vdev_live(&b->vdev))
		vdev_interrupt_queue(&b->vdev, &b->vdev.queues[0]);
	blk_process(b);
	pthread_mutex_unlock(&b->vdev.lock);
}

/* ---- operations --------------------------------------------------------- */

static void blk_config_read(struct vdev *d, uint32_t off, void *to, uint32_t len)
{
	memcpy(to, (const uint8_t *)&blk_of(d)->config + off, len);
}

static void blk_kick(struct vdev *d, unsigned q)
{
	(void)q;
	blk_process(blk_of(d));
}

static void blk_stop(struct vdev *d)
{
	struct blk *b = blk_of(d);

	disk_client_cancel(&b->client);
	blk_slots_reset(b);
}

static void blk_drain(struct vdev *d)
{
	struct blk *b = blk_of(d);

	disk_client_wait(&b->client);
	blk_reap(b);
	vdev_interrupt_queue(d, &d->queues[0]);
}

static struct blk_state blk_state_now(const struct blk *b)
{
	struct blk_state s = { .capacity = htole64(b->capacity), .readonly = b->readonly };

	memcpy(s.serial, b->serial, sizeof(s.serial));
	return s;
}

static int blk_save(struct vdev *d, struct buf *out)
{
	const struct blk_state s = blk_state_now(blk_of(d));

	return buf_append(out, &s, sizeof(s));
}

static int blk_load(struct vdev *d, const uint8_t *data, size_t len)
{
	const struct blk_state s = blk_state_now(blk_of(d));

	return len == sizeof(s) && !memcmp(data, &s, len) ? 0 : -EINVAL;
}

static void blk_destroy(struct vdev *d)
{
	struct blk *b = blk_of(d);

	disk_client_cancel(&b->client);
	close_fd(&b->fd);
	vdev_fini(d);
	free(b);
}

static const struct vdev_ops blk_ops = {
	.name = "blk",
	.id = VIRTIO_ID_BLOCK,
	.n_queues = 1,
	.queue_size_max = BLK_QUEUE_SIZE,
	/* Up to the fields of features that are never offered. */
	.config_size = offsetof(struct virtio_blk_config, max_secure_erase_sectors),
	.config_read = blk_config_read,
	.stop = blk_stop,
	.kick = blk_kick,
	.drain = blk_drain,
	.save = blk_save,
	.load = blk_load,
	.destroy = blk_destroy,
};

/* ---- creation ----------------------------------------------------------- */

static int blk_check_file(const struct blk_config *c, uint64_t *capacity, struct err *e)
{
	const int flags = fcntl(c->fd, F_GETFL);
	struct stat st;
	int mode;

	if (flags < 0 || fstat(c->fd, &st) < 0)
		return err_errno(e, errno, "disk %s: descriptor %d", c->serial, c->fd);
	mode = flags & O_ACCMODE;
	if (!S_ISREG(st.st_mode))
		return err_set(e, EINVAL, "disk %s: not a regular file", c->serial);
	/* What is not open for writing, no mistake of ours can write to. */
	if (c->readonly && mode != O_RDONLY)
		return err_set(e, EINVAL, "disk %s: read-only, but its file is open for writing",
			       c->serial);
	if (!c->readonly && mode != O_RDWR)
		return err_set(e, EINVAL, "disk %s: its file is not open for reading and writing",
			       c->serial);
	*capacity = (uint64_t)st.st_size / BLK_SECTOR;
	if (!*capacity)
		return err_set(e, EINVAL, "disk %s: its file has %lld bytes, less than a sector",
			       c->serial, (long long)st.st_size);
	return 0;
}

static void blk_fill_config(struct blk *b)
{
	struct virtio_blk_config *c = &b->config;

	c->capacity = htole64(b->capacity);
	c->seg_max = htole32(BLK_SEG_MAX);
	c->blk_size = htole32(BLK_SECTOR);
	if (b->readonly)
		return;
	c->max_discard_sectors = htole32(BLK_DISCARD_SECTORS);
	c->max_discard_seg = htole32(BLK_RANGES);
	c->discard_sector_alignment = htole32(4096 / BLK_SECTOR); /* a block of most hosts */
	c->max_write_zeroes_sectors = htole32(BLK_ZEROES_SECTORS);
	c->max_write_zeroes_seg = htole32(1);
	c->write_zeroes_may_unmap = 1;
}

int blk_create(struct vdev **out, const struct blk_config *c, const struct memory *m,
	       struct loop *l, struct disk_worker *w, struct err *e)
{
	auto_free struct blk *b = calloc(1, sizeof(*b));
	const size_t serial_len = strlen(c->serial);
	uint64_t features = 1ull << VIRTIO_BLK_F_SEG_MAX | 1ull << VIRTIO_BLK_F_BLK_SIZE |
			    1ull << VIRTIO_BLK_F_FLUSH;
	int rc;

	if (!b)
		return err_errno(e, ENOMEM, "disk %s", c->serial);
	if (!serial_len || serial_len > sizeof(b->serial))
		return err_set(e, EINVAL, "disk serial '%s': has to have 1 to %zu bytes", c->serial,
			       sizeof(b->serial));
	rc = blk_check_file(c, &b->capacity, e);
	if (rc)
		return rc;
	memcpy(b->serial, c->serial, serial_len);
	b->readonly = c->readonly;
	if (b->readonly)
		features |= 1ull << VIRTIO_BLK_F_RO;
	else
		features |= 1ull << VIRTIO_BLK_F_DISCARD | 1ull << VIRTIO_BLK_F_WRITE_ZEROES;
	blk_fill_config(b);
	b->log_limit = (struct log_limit)LOG_LIMIT(1, 10000);
	disk_client_init(&b->client, w, blk_completed);
	blk_slots_reset(b);
	vdev_init(&b->vdev, &blk_ops, c->name, 1, features, m, l);
	b->fd = c->fd;
	*out = &take_ptr(&b)->vdev;
	return 0;
}
