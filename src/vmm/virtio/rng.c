/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DOC: Theory of operation
 *
 * Purpose
 *   Gives the guest random numbers from the host's generator.
 *
 * Spec
 *   virtio 1.2 §5.4: one queue of device-writable buffers, no features, no configuration.
 *
 * Trust boundary
 *   The guest chooses how many bytes it asks for, in how many buffers.  A request is
 *   filled from its start with at most RNG_REQUEST_MAX bytes, as §5.4.6.2 allows, and a
 *   turn of the loop costs at most RNG_TURN_COST; the rest of the queue waits for the next
 *   turn.  Overlapping buffers thus cost no more than others.  The bytes go from the
 *   kernel straight into guest memory: no copy of a guest's keys stays here.
 *
 * Failure
 *   A device-readable buffer is the guest's fault (§5.4.6.1).  A host without random
 *   numbers leaves a device that needs a reset, for a request may not be answered with
 *   nothing.
 *
 * Snapshot
 *   No state of its own, no request in flight between turns.  A clone must not rely on
 *   this device for what makes it differ from its siblings: the agent reseeds the guest.
 */
#include "vmm/virtio/rng.h"

#include <errno.h>
#include <sys/random.h>

#include "base/checked.h"
#include "base/mem.h"
#include "vmm/virtio/vdev.h"

#define RNG_ID 4u /* §5.4.1 */
#define RNG_QUEUE_SIZE 16u
#define RNG_REQUEST_MAX (64u << 10)
/* In bytes: those written, and for each system call what it costs besides. */
#define RNG_TURN_COST (64u << 10)
#define RNG_CALL_COST 512u

struct rng {
	struct vdev vdev;
	struct vq_chain chain; /* of the request being served */
};

/* All of [@to, @to + @len).  Return: 0 or a negative errno. */
static int rng_fill(uint8_t *to, size_t len)
{
	while (len) {
		ssize_t n = getrandom(to, len, 0);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n ? -errno : -EIO;
		to += n;
		len -= (size_t)n;
	}
	return 0;
}

/* Serves the request.  Return: bytes written, or a negative errno. */
static int rng_serve(const struct vq_chain *c, size_t *cost)
{
	size_t left = min_u64(c->write_bytes, RNG_REQUEST_MAX), done = 0;

	for (unsigned i = c->n_read; left; i++) {
		size_t part = min_u64(c->iov[i].iov_len, left);
		int rc = rng_fill(c->iov[i].iov_base, part);

		if (rc)
			return rc;
		done += part;
		left -= part;
		*cost += part + RNG_CALL_COST;
	}
	return (int)done;
}

static void rng_kick(struct vdev *d, unsigned n)
{
	struct rng *r = container_of(d, struct rng, vdev);
	struct vq *q = &d->queues[n];
	size_t cost = 0;
	int rc;

	do {
		vq_notify_off(q);
		while ((rc = vq_pop(q, &r->chain)) > 0) {
			if (r->chain.n_read) {
				vdev_fault(d, "request with a readable buffer");
				return;
			}
			rc = rng_serve(&r->chain, &cost);
			if (rc < 0) {
				vdev_fault(d, "the host has no random numbers");
				return;
			}
			vq_push(q, r->chain.head, (uint32_t)rc);
			if (cost >= RNG_TURN_COST) {
				vdev_interrupt_queue(d, q);
				vdev_kick_later(d, n);
				return;
			}
		}
	} while (!rc && vq_notify_on(q));
	if (rc)
		vdev_fault(d, "malformed chain");
	vdev_interrupt_queue(d, q);
}

static void rng_destroy(struct vdev *d)
{
	vdev_fini(d);
	free(container_of(d, struct rng, vdev));
}

static const struct vdev_ops rng_ops = {
	.name = "rng",
	.id = RNG_ID,
	.n_queues = 1,
	.queue_size_max = RNG_QUEUE_SIZE,
	.kick = rng_kick,
	.destroy = rng_destroy,
};

int rng_create(struct vdev **out, const struct memory *m, struct loop *l, struct err *e)
{
	struct rng *r = calloc(1, sizeof(*r));

	if (!r)
		return err_errno(e, ENOMEM, "rng: allocate the device");
	vdev_init(&r->vdev, &rng_ops, "rng", 1, 0, m, l);
	*out = &r->vdev;
	return 0;
}
