/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DOC: Theory of operation
 *
 * Purpose
 *   Gives memory that the guest does not use back to the host: unasked, as the guest
 *   reports free pages, and on demand, by a balloon of a size that the host sets.  Either
 *   ends in memory_discard(): MADV_DONTNEED on the private mapping, which frees what is
 *   the guest's own and never touches a memory file that others map too.
 *
 * Spec
 *   virtio 1.2 §5.5.  Offered: DEFLATE_ON_OOM, since a guest that dies of our wish helps
 *   nobody, and PAGE_REPORTING (§5.5.6.7).
 *
 * Queues
 *   0 inflate, 1 deflate, and every other one takes reports: by §5.5.2 that is queue 4,
 *   but drivers of Linux count only the queues that exist and use 2.  The statistics and
 *   hinting queues, whose numbers 2 and 3 are, are not offered.
 *
 * Trust boundary
 *   A page number out of RAM, a list that is not of whole numbers, a buffer of the wrong
 *   direction are the guest's fault.  The guest can only lose its own memory: a page that
 *   it gives away and still uses reads as zero, or as in the snapshot.  `actual` is what
 *   it claims; nothing is computed with it.
 *   A turn of the loop discards at most BALLOON_TURN_PAGES pages in at most
 *   BALLOON_TURN_CALLS system calls.  A request that is longer goes back to its queue with
 *   a mark of how far it came, and is continued in the next turn: nothing of it is kept
 *   that a reset, a snapshot or a driver that changes it meanwhile could spoil.
 *
 * Failure
 *   If the kernel does not take a page it stays where it is: a line in the log, no more.
 *
 * Not implemented
 *   Statistics (the agent has better ones), free page hinting (for live migration), page
 *   poison (a guest that wants its free pages to keep a value does not report them),
 *   MUST_TELL_HOST (any page can be touched at any time: the kernel provides it anew).
 */
#include "vmm/virtio/balloon.h"

#include <errno.h>
#include <string.h>

#include "base/checked.h"
#include "base/log.h"
#include "base/mem.h"
#include "codec/le.h"
#include "vmm/virtio/vdev.h"

#define BALLOON_ID 5u /* §5.5.1 */
#define BALLOON_PAGE 4096u /* of page numbers, whatever the guest's pages are (§5.5.6) */
#define BALLOON_QUEUE_SIZE 128u
#define BALLOON_F_DEFLATE_ON_OOM (1ull << 2)
#define BALLOON_F_PAGE_REPORTING (1ull << 5)

/* Of the configuration (§5.5.4): le32 num_pages, le32 actual. */
#define BALLOON_CONFIG_ACTUAL 4u
#define BALLOON_CONFIG_SIZE 8u

#define BALLOON_INFLATE 0u
#define BALLOON_DEFLATE 1u
#define BALLOON_QUEUES 5u

#define BALLOON_TURN_PAGES 8192u
#define BALLOON_TURN_CALLS 256u
#define BALLOON_BATCH 256u /* page numbers copied at once */

#define BALLOON_STATE_SIZE 8u

struct balloon {
	struct vdev vdev;
	uint8_t config[BALLOON_CONFIG_SIZE]; /* as the driver sees it */
	/* Bytes of the first available chain that earlier turns have dealt with. */
	size_t done[BALLOON_QUEUES];
	/* What this turn may still spend. */
	unsigned pages, calls;
	struct log_limit discard_limit;
	struct vq_chain chain; /* of the request being served */
};

/* What became of a request in this turn. */
enum balloon_verdict { BALLOON_DONE, BALLOON_MORE, BALLOON_BAD };

static struct balloon *balloon_of(struct vdev *d)
{
	return container_of(d, struct balloon, vdev);
}

/* Discards a range of RAM in whole pages.  A page not taken by the kernel is no harm. */
static void balloon_discard(struct balloon *b, uint64_t gpa, uint64_t len)
{
	int rc = memory_discard(b->vdev.memory, gpa, len);

	b->calls--;
	b->pages -= (unsigned)(len / BALLOON_PAGE);
	if (rc && log_limit_pass(&b->discard_limit, NULL))
		log_warn("event=discard-failed device=%s errno=%d", b->vdev.name, -rc);
}

/* A run of pages that are discarded together. */
struct balloon_run {
	uint64_t start, end;
};

static void balloon_flush(struct balloon *b, struct balloon_run *r)
{
	if (r->start != r->end)
		balloon_discard(b, r->start, r->end - r->start);
	*r = (struct balloon_run){ 0, 0 };
}

/* Adds a page to the run, at either end, if the two slots of RAM let them be one. */
static bool balloon_extend(const struct balloon *b, struct balloon_run *r, uint64_t gpa)
{
	struct balloon_run wider = *r;

	if (gpa == r->end)
		wider.end += BALLOON_PAGE;
	else if (gpa + BALLOON_PAGE == r->start)
		wider.start = gpa;
	else
		return false;
	if (!memory_at(b->vdev.memory, wider.start, wider.end - wider.start))
		return false;
	*r = wider;
	return true;
}

/* The page numbers in @le, as far as this turn goes.  Return: how many, or -EINVAL. */
static int balloon_take_pages(struct balloon *b, const uint8_t *le, unsigned n)
{
	struct balloon_run run = { 0, 0 };
	unsigned i;

	for (i = 0; i < n; i++) {
		uint64_t gpa = (uint64_t)le_get32(le + 4 * (size_t)i) * BALLOON_PAGE;

		if (!memory_at(b->vdev.memory, gpa, BALLOON_PAGE)) {
			balloon_flush(b, &run);
			return -EINVAL;
		}
		if (run.start != run.end && (run.end - run.start) / BALLOON_PAGE < b->pages &&
		    balloon_extend(b, &run, gpa))
			continue;
		balloon_flush(b, &run);
		if (!b->calls || !b->pages)
			break;
		run = (struct balloon_run){ gpa, gpa + BALLOON_PAGE };
	}
	balloon_flush(b, &run);
	return (int)i;
}

static enum balloon_verdict balloon_inflate(struct balloon *b, size_t *done)
{
	const struct vq_chain *c = &b->chain;

	if (c->n_write || c->read_bytes % 4)
		return BALLOON_BAD;
	while (*done < c->read_bytes) {
		uint8_t le[4 * BALLOON_BATCH];
		/* Copied once: the guest may change the list while we look. */
		size_t got = vq_chain_read(c, *done, le, sizeof(le));
		int taken = balloon_take_pages(b, le, (unsigned)(got / 4));

		if (taken < 0)
			return BALLOON_BAD;
		*done += 4 * (size_t)taken;
		if (!b->calls || !b->pages)
			break;
	}
	return *done < c->read_bytes ? BALLOON_MORE : BALLOON_DONE;
}

/* Guest physical address of a byte that vq.c found in RAM. */
static uint64_t balloon_gpa(const struct memory *m, const uint8_t *host)
{
	unsigned i = 0;

	while (i + 1 < m->n_slots && (uint64_t)(host - m->slots[i].host) >= m->slots[i].size)
		i++;
	return m->slots[i].gpa + (uint64_t)(host - m->slots[i].host);
}

static enum balloon_verdict balloon_report(struct balloon *b, size_t *done)
{
	const struct vq_chain *c = &b->chain;

	if (c->n_read)
		return BALLOON_BAD;
	while (*done < c->write_bytes) {
		struct iovec part;
		uint64_t gpa, start, end;

		if (!b->calls || !b->pages)
			return BALLOON_MORE;
		vq_chain_slice_write(c, *done, (size_t)b->pages * BALLOON_PAGE, &part, 1);
		gpa = balloon_gpa(b->vdev.memory, part.iov_base);
		/* Only whole pages: the rest of a page at either end is in use. */
		start = (gpa + BALLOON_PAGE - 1) & ~(uint64_t)(BALLOON_PAGE - 1);
		end = (gpa + part.iov_len) & ~(uint64_t)(BALLOON_PAGE - 1);
		if (start < end)
			balloon_discard(b, start, end - start);
		else
			b->calls--;
		*done += part.iov_len;
	}
	return BALLOON_DONE;
}

/* Deflation is a courtesy (§5.5.6): a page comes back when it is touched. */
static enum balloon_verdict balloon_deflate(struct balloon *b)
{
	b->calls--;
	return b->chain.n_write || b->chain.read_bytes % 4 ? BALLOON_BAD : BALLOON_DONE;
}

static enum balloon_verdict balloon_serve(struct balloon *b, unsigned n)
{
	switch (n) {
	case BALLOON_INFLATE:
		return balloon_inflate(b, &b->done[n]);
	case BALLOON_DEFLATE:
		return balloon_deflate(b);
	default:
		if (!vdev_has(&b->vdev, BALLOON_F_PAGE_REPORTING))
			return BALLOON_BAD;
		return balloon_report(b, &b->done[n]);
	}
}

static void balloon_kick(struct vdev *d, unsigned n)
{
	struct balloon *b = balloon_of(d);
	struct vq *q = &d->queues[n];
	enum balloon_verdict v;
	int rc;

	b->pages = BALLOON_TURN_PAGES;
	b->calls = BALLOON_TURN_CALLS;
	do {
		vq_notify_off(q);
		while ((rc = vq_pop(q, &b->chain)) > 0) {
			v = b->calls && b->pages ? balloon_serve(b, n) : BALLOON_MORE;
			if (v == BALLOON_BAD) {
				vdev_fault(d, "request that makes no sense, or page out of RAM");
				return;
			}
			if (v == BALLOON_MORE) {
				vq_unpop(q);
				vdev_interrupt_queue(d, q);
				vdev_kick_later(d, n);
				return;
			}
			b->done[n] = 0;
			vq_push(q, b->chain.head, 0);
		}
	} while (!rc && vq_notify_on(q));
	if (rc)
		vdev_fault(d, "malformed chain");
	vdev_interrupt_queue(d, q);
}

static void balloon_config_read(struct vdev *d, uint32_t off, void *to, uint32_t len)
{
	memcpy(to, balloon_of(d)->config + off, len);
}

static void balloon_config_write(struct vdev *d, uint32_t off, const void *from, uint32_t len)
{
	/* num_pages is ours. */
	if (off >= BALLOON_CONFIG_ACTUAL)
		memcpy(balloon_of(d)->config + off, from, len);
}

static void balloon_stop(struct vdev *d)
{
	struct balloon *b = balloon_of(d);

	memset(b->done, 0, sizeof(b->done));
	/* A new driver has nothing in the balloon. */
	le_put32(b->config + BALLOON_CONFIG_ACTUAL, 0);
}

static int balloon_save(struct vdev *d, struct buf *out)
{
	/* Requests half done are in their queues, and will be done again as a whole. */
	return buf_append(out, balloon_of(d)->config, BALLOON_STATE_SIZE);
}

static int balloon_load(struct vdev *d, const uint8_t *data, size_t len)
{
	if (len != BALLOON_STATE_SIZE || le_get32(data) > d->memory->bytes / BALLOON_PAGE)
		return -EINVAL;
	memcpy(balloon_of(d)->config, data, len);
	return 0;
}

static void balloon_destroy(struct vdev *d)
{
	vdev_fini(d);
	free(balloon_of(d));
}

static const struct vdev_ops balloon_ops = {
	.name = "balloon",
	.id = BALLOON_ID,
	.n_queues = BALLOON_QUEUES,
	.queue_size_max = BALLOON_QUEUE_SIZE,
	.config_size = BALLOON_CONFIG_SIZE,
	.config_read = balloon_config_read,
	.config_write = balloon_config_write,
	.stop = balloon_stop,
	.kick = balloon_kick,
	.save = balloon_save,
	.load = balloon_load,
	.destroy = balloon_destroy,
};

int balloon_create(struct vdev **out, const struct memory *m, struct loop *l, struct err *e)
{
	struct balloon *b = calloc(1, sizeof(*b));

	if (!b)
		return err_errno(e, ENOMEM, "balloon: allocate the device");
	vdev_init(&b->vdev, &balloon_ops, "balloon", BALLOON_QUEUES,
		  BALLOON_F_DEFLATE_ON_OOM | BALLOON_F_PAGE_REPORTING, m, l);
	b->discard_limit = (struct log_limit)LOG_LIMIT(1, 60000);
	*out = &b->vdev;
	return 0;
}

int balloon_set_target(struct vdev *d, uint64_t bytes, struct err *e)
{
	struct balloon *b = balloon_of(d);

	if (bytes > d->memory->bytes || bytes / BALLOON_PAGE > UINT32_MAX)
		return err_set(e, ERANGE, "balloon: %llu bytes are more than the guest has (%llu)",
			       (unsigned long long)bytes, (unsigned long long)d->memory->bytes);
	pthread_mutex_lock(&d->lock);
	le_put32(b->config, (uint32_t)(bytes / BALLOON_PAGE));
	vdev_interrupt_config(d);
	pthread_mutex_unlock(&d->lock);
	return 0;
}

uint64_t balloon_actual(struct vdev *d)
{
	uint64_t pages;

	pthread_mutex_lock(&d->lock);
	pages = le_get32(balloon_of(d)->config + BALLOON_CONFIG_ACTUAL);
	pthread_mutex_unlock(&d->lock);
	return pages * BALLOON_PAGE;
}
