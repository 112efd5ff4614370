/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DOC: Theory of operation
 *
 * Purpose
 *   The life of a virtio device that its type does not matter for; vdev.h has states and
 *   locks.
 *
 * Spec
 *   virtio 1.2 §2.1 device status, §2.2 features, §2.3 notifications, §2.5 configuration,
 *   §3.1.1 order of the initialization.
 *
 * Trust boundary
 *   The driver may write any status at any time.  The only steps taken are forward along
 *   the order of §3.1.1, bit by bit or several at once; to FAILED; and to 0, which is a
 *   reset.  Clearing a bit, setting an unknown one, or leaving one out has no effect: the
 *   driver reads back what is.  FEATURES_OK does not stick if the features are not a
 *   subset of those offered, or without VERSION_1 (a legacy driver, which we have not).
 *
 * Snapshot
 *   Fixed little-endian fields, no version of their own: the blob around them has one.
 *
 *     u32 type, u32 queues, u64 features, u32 status, u32 isr, u32 generation,
 *     u32 device_features_sel, u32 driver_features_sel, u32 queue_sel
 *     each queue: u16 size, enabled, next_avail, next_used, signalled_used, 0; u32 0;
 *                 u64 desc, avail, used
 *     the device's own bytes, to the end
 *
 *   What is loaded could not be reached by register writes that we would refuse: the same
 *   checks are made.  The ring positions may lie (the rings in guest memory are as hostile
 *   in any case): only that no more is in flight than the queue holds is seen to.
 */
#include "vmm/virtio/vdev.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "codec/le.h"

#define VDEV_FAULTS_BURST 5u
#define VDEV_FAULTS_PERIOD_MS 10000u
#define VDEV_CONFIG_MAX (VDEV_MMIO_SIZE - 0x100u)

#define VDEV_STATE_HEAD 40u
#define VDEV_STATE_QUEUE 40u

#define VDEV_S_ORDER (VDEV_S_ACKNOWLEDGE | VDEV_S_DRIVER | VDEV_S_FEATURES_OK | VDEV_S_DRIVER_OK)

static void vdev_again_fire(struct loop_timer *t)
{
	struct vdev *d = container_of(t, struct vdev, again);
	uint32_t queues;

	pthread_mutex_lock(&d->lock);
	queues = d->again_queues;
	d->again_queues = 0;
	pthread_mutex_unlock(&d->lock);
	for (unsigned q = 0; queues; q++, queues >>= 1)
		if (queues & 1)
			vdev_kick(d, q);
}

void vdev_init(struct vdev *d, const struct vdev_ops *ops, const char *name, unsigned n_queues,
	       uint64_t features, const struct memory *memory, struct loop *loop)
{
	assert(n_queues <= ops->n_queues && n_queues <= VDEV_QUEUES_MAX);
	assert(ops->queue_size_max <= VQ_SIZE_MAX && ops->config_size <= VDEV_CONFIG_MAX);
	*d = (struct vdev){
		.ops = ops,
		.memory = memory,
		.loop = loop,
		.n_queues = n_queues,
		.features_offered =
			features | VDEV_F_VERSION_1 | VDEV_F_INDIRECT_DESC | VDEV_F_EVENT_IDX,
		.irq_fd = -1,
		.isr = &d->own_isr,
		.log_limit = LOG_LIMIT(VDEV_FAULTS_BURST, VDEV_FAULTS_PERIOD_MS),
	};
	pthread_mutex_init(&d->lock, NULL);
	loop_timer_init(&d->again, vdev_again_fire);
	for (unsigned i = 0; i < n_queues; i++)
		vq_init(&d->queues[i], memory);
	snprintf(d->name, sizeof(d->name), "%s", name);
}

void vdev_fini(struct vdev *d)
{
	loop_timer_cancel(&d->again);
	pthread_mutex_destroy(&d->lock);
}

bool vdev_live(const struct vdev *d)
{
	return (d->status & VDEV_S_DRIVER_OK) &&
	       !(d->status & (VDEV_S_NEEDS_RESET | VDEV_S_FAILED)) && !d->drained;
}

void vdev_kick(struct vdev *d, unsigned q)
{
	pthread_mutex_lock(&d->lock);
	if (q < d->n_queues && d->queues[q].enabled && vdev_live(d))
		d->ops->kick(d, q);
	pthread_mutex_unlock(&d->lock);
}

void vdev_kick_later(struct vdev *d, unsigned q)
{
	assert(q < d->n_queues);
	if (!d->again_queues)
		loop_timer_set(d->loop, &d->again, 0);
	d->again_queues |= 1u << q;
}

/* Sets interrupt status bits and raises the line: in this order, for the driver reads then. */
static void vdev_interrupt(struct vdev *d, unsigned bits)
{
	atomic_fetch_or_explicit(d->isr, bits, memory_order_release);
	if (d->raise)
		d->raise(d);
}

void vdev_interrupt_queue(struct vdev *d, struct vq *q)
{
	if (vq_wants_interrupt(q))
		vdev_interrupt(d, VDEV_ISR_QUEUE);
}

void vdev_interrupt_config(struct vdev *d)
{
	d->config_generation++;
	vdev_mmio_publish(d);
	/* Before DRIVER_OK nobody listens; the driver reads the configuration anyway. */
	if (d->status & VDEV_S_DRIVER_OK)
		vdev_interrupt(d, VDEV_ISR_CONFIG);
}

void vdev_fault(struct vdev *d, const char *what)
{
	unsigned dropped;

	if (d->status & VDEV_S_NEEDS_RESET)
		return;
	d->status |= VDEV_S_NEEDS_RESET;
	vdev_mmio_publish(d);
	if (log_limit_pass(&d->log_limit, &dropped))
		log_warn("event=device-fault device=%s what=\"%s\" dropped=%u", d->name, what,
			 dropped);
	if (d->status & VDEV_S_DRIVER_OK)
		vdev_interrupt(d, VDEV_ISR_CONFIG);
}

void vdev_refuse(struct vdev *d, const char *what)
{
	if (log_enabled(LOG_DEBUG) && log_limit_pass(&d->log_limit, NULL))
		log_debug("event=register-refused device=%s what=\"%s\"", d->name, what);
}

static void vdev_reset(struct vdev *d)
{
	if ((d->status & VDEV_S_DRIVER_OK) && d->ops->stop)
		d->ops->stop(d);
	for (unsigned i = 0; i < d->n_queues; i++)
		vq_reset(&d->queues[i]);
	d->status = 0;
	d->features = 0;
	d->device_features_sel = d->driver_features_sel = d->queue_sel = 0;
	d->again_queues = 0;
	atomic_store(d->isr, 0);
}

/* Is @status one of the five states that §3.1.1 leads through? */
static bool vdev_status_in_order(uint32_t status)
{
	switch (status) {
	case 0:
	case VDEV_S_ACKNOWLEDGE:
	case VDEV_S_ACKNOWLEDGE | VDEV_S_DRIVER:
	case VDEV_S_ACKNOWLEDGE | VDEV_S_DRIVER | VDEV_S_FEATURES_OK:
	case VDEV_S_ORDER:
		return true;
	default:
		return false;
	}
}

static bool vdev_features_valid(const struct vdev *d, uint64_t features)
{
	return !(features & ~d->features_offered) && (features & VDEV_F_VERSION_1);
}

static void vdev_apply_features(struct vdev *d)
{
	for (unsigned i = 0; i < d->n_queues; i++) {
		d->queues[i].indirect = vdev_has(d, VDEV_F_INDIRECT_DESC);
		d->queues[i].event_idx = vdev_has(d, VDEV_F_EVENT_IDX);
	}
}

void vdev_set_status(struct vdev *d, uint32_t status)
{
	uint32_t added;

	if (!status) {
		vdev_reset(d);
		return;
	}
	/* NEEDS_RESET is ours: the driver may write it back or leave it out (§2.1). */
	status &= ~VDEV_S_NEEDS_RESET;
	added = status & ~(uint32_t)d->status;
	if (!added)
		return;
	if (added & VDEV_S_FAILED) {
		d->status |= VDEV_S_FAILED;
		if (log_limit_pass(&d->log_limit, NULL))
			log_warn("event=driver-failed device=%s", d->name);
		return;
	}
	if ((d->status & ~VDEV_S_ORDER) || (d->status & ~status) || !vdev_status_in_order(status)) {
		vdev_refuse(d, "status out of order");
		return;
	}
	if (added & VDEV_S_FEATURES_OK) {
		if (!vdev_features_valid(d, d->features)) {
			vdev_refuse(d, "features not offered, or no VERSION_1");
			status &= ~(VDEV_S_FEATURES_OK | VDEV_S_DRIVER_OK);
			added &= ~(VDEV_S_FEATURES_OK | VDEV_S_DRIVER_OK);
		} else {
			vdev_apply_features(d);
		}
	}
	d->status = (uint8_t)status;
	if ((added & VDEV_S_DRIVER_OK) && d->ops->start)
		d->ops->start(d);
}

void vdev_drain(struct vdev *d)
{
	pthread_mutex_lock(&d->lock);
	if (!d->drained) {
		d->drained = true;
		if (d->ops->drain)
			d->ops->drain(d);
	}
	pthread_mutex_unlock(&d->lock);
}

void vdev_undrain(struct vdev *d)
{
	pthread_mutex_lock(&d->lock);
	if (d->drained) {
		d->drained = false;
		if (d->ops->undrain)
			d->ops->undrain(d);
		for (unsigned i = 0; i < d->n_queues; i++)
			if (d->queues[i].enabled && vdev_live(d))
				d->ops->kick(d, i);
		if (atomic_load(d->isr) && d->raise)
			d->raise(d);
	}
	pthread_mutex_unlock(&d->lock);
}

static void vdev_save_head(const struct vdev *d, uint8_t *p)
{
	le_put32(p, d->ops->id);
	le_put32(p + 4, d->n_queues);
	le_put64(p + 8, d->features);
	le_put32(p + 16, d->status);
	le_put32(p + 20, atomic_load(d->isr));
	le_put32(p + 24, d->config_generation);
	le_put32(p + 28, d->device_features_sel);
	le_put32(p + 32, d->driver_features_sel);
	le_put32(p + 36, d->queue_sel);
}

static void vdev_save_queue(const struct vq *q, uint8_t *p)
{
	le_put16(p, q->size);
	le_put16(p + 2, q->enabled);
	le_put16(p + 4, q->next_avail);
	le_put16(p + 6, q->next_used);
	le_put16(p + 8, q->signalled_used);
	memset(p + 10, 0, 6);
	le_put64(p + 16, q->desc);
	le_put64(p + 24, q->avail);
	le_put64(p + 32, q->used);
}

int vdev_save(struct vdev *d, struct buf *out)
{
	size_t bytes = VDEV_STATE_HEAD + (size_t)VDEV_STATE_QUEUE * d->n_queues;
	uint8_t *p;
	int rc;

	pthread_mutex_lock(&d->lock);
	assert(d->drained);
	rc = buf_reserve(out, bytes, &p);
	if (!rc) {
		vdev_save_head(d, p);
		for (unsigned i = 0; i < d->n_queues; i++)
			vdev_save_queue(&d->queues[i],
					p + VDEV_STATE_HEAD + (size_t)VDEV_STATE_QUEUE * i);
		buf_commit(out, bytes);
		if (d->ops->save)
			rc = d->ops->save(d, out);
	}
	pthread_mutex_unlock(&d->lock);
	return rc;
}

static int vdev_load_head(struct vdev *d, const uint8_t *p)
{
	uint64_t features = le_get64(p + 8);
	uint32_t status = le_get32(p + 16);
	uint32_t isr = le_get32(p + 20);

	if (le_get32(p) != d->ops->id || le_get32(p + 4) != d->n_queues)
		return -EINVAL;
	if (!vdev_status_in_order(status & ~(VDEV_S_NEEDS_RESET | VDEV_S_FAILED)))
		return -EINVAL;
	if ((status & VDEV_S_FEATURES_OK) && !vdev_features_valid(d, features))
		return -EINVAL;
	if (isr & ~(VDEV_ISR_QUEUE | VDEV_ISR_CONFIG))
		return -EINVAL;
	d->features = features;
	d->status = (uint8_t)status;
	atomic_store(d->isr, isr);
	d->config_generation = le_get32(p + 24);
	d->device_features_sel = le_get32(p + 28);
	d->driver_features_sel = le_get32(p + 32);
	d->queue_sel = le_get32(p + 36);
	return 0;
}

static int vdev_load_queue(struct vdev *d, struct vq *q, const uint8_t *p)
{
	uint16_t enabled = le_get16(p + 2);

	q->size = le_get16(p);
	q->next_avail = le_get16(p + 4);
	q->next_used = le_get16(p + 6);
	q->signalled_used = le_get16(p + 8);
	q->desc = le_get64(p + 16);
	q->avail = le_get64(p + 24);
	q->used = le_get64(p + 32);
	if (le_get16(p + 10) || le_get32(p + 12) || enabled > 1)
		return -EINVAL;
	if (!enabled)
		return q->next_avail || q->next_used || q->signalled_used ? -EINVAL : 0;
	if (!(d->status & VDEV_S_FEATURES_OK) || (uint16_t)(q->next_avail - q->next_used) > q->size)
		return -EINVAL;
	return vq_enable(q, d->ops->queue_size_max);
}

static int vdev_load_parts(struct vdev *d, const uint8_t *data, size_t len, struct err *e)
{
	size_t common = VDEV_STATE_HEAD + (size_t)VDEV_STATE_QUEUE * d->n_queues;
	int rc;

	if (len < common)
		return err_set(e, EINVAL, "snapshot: device %s: %zu bytes of state, %zu wanted",
			       d->name, len, common);
	if (vdev_load_head(d, data))
		return err_set(e, EINVAL, "snapshot: device %s: state of another device, or none",
			       d->name);
	for (unsigned i = 0; i < d->n_queues; i++)
		if (vdev_load_queue(d, &d->queues[i],
				    data + VDEV_STATE_HEAD + (size_t)VDEV_STATE_QUEUE * i))
			return err_set(e, EINVAL, "snapshot: device %s: queue %u is malformed",
				       d->name, i);
	if (d->status & VDEV_S_FEATURES_OK)
		vdev_apply_features(d);
	if (d->ops->load)
		rc = d->ops->load(d, data + common, len - common);
	else
		rc = len == common ? 0 : -EINVAL;
	return rc ? err_set(e, EINVAL, "snapshot: device %s: its own state is malformed", d->name)
		  : 0;
}

int vdev_load(struct vdev *d, const uint8_t *data, size_t len, struct err *e)
{
	int rc;

	pthread_mutex_lock(&d->lock);
	assert(!d->status);
	d->drained = true;
	rc = vdev_load_parts(d, data, len, e);
	if (rc) {
		vdev_reset(d);
		d->config_generation = 0;
		d->drained = false;
	}
	vdev_mmio_publish(d);
	pthread_mutex_unlock(&d->lock);
	return rc;
}
