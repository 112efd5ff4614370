/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/irq.h"

#include <errno.h>
#include <linux/kvm.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>

#include "base/mem.h"

static void irq_raise(struct vdev *d)
{
	/* Fails only when the counter is full: then the line is about to be raised anyway. */
	(void)!eventfd_write(d->irq_fd, 1);
}

/*
 * What the driver writes after each interrupt of a queue goes to an eventfd that nobody
 * reads: KVM takes it, without an exit to user space.
 */
static int irq_connect_ack(struct vm *vm, struct vm_device *dev, struct err *e)
{
	struct kvm_ioeventfd req = {
		.datamatch = VDEV_ISR_QUEUE,
		.addr = dev->gpa + VDEV_MMIO_INTERRUPT_ACK,
		.len = 4,
		.flags = KVM_IOEVENTFD_FLAG_DATAMATCH,
	};

	dev->ack_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (dev->ack_fd < 0)
		return err_errno(e, errno, "%s: eventfd", dev->vdev->name);
	req.fd = dev->ack_fd;
	if (ioctl(vm->vm_fd, KVM_IOEVENTFD, &req) < 0)
		return err_errno(e, errno, "%s: KVM_IOEVENTFD for InterruptACK", dev->vdev->name);
	return 0;
}

static int irq_connect_line(struct vm *vm, struct vm_device *dev, struct err *e)
{
	struct kvm_irqfd req = { .gsi = dev->gsi };

	dev->irq_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (dev->irq_fd < 0)
		return err_errno(e, errno, "%s: eventfd", dev->vdev->name);
	req.fd = (uint32_t)dev->irq_fd;
	if (ioctl(vm->vm_fd, KVM_IRQFD, &req) < 0)
		return err_errno(e, errno, "%s: KVM_IRQFD for line %u", dev->vdev->name, dev->gsi);
	dev->vdev->irq_fd = dev->irq_fd;
	dev->vdev->raise = irq_raise;
	return 0;
}

static void irq_doorbell_rung(struct loop_watch *w, uint32_t events)
{
	struct vm_doorbell *b = container_of(w, struct vm_doorbell, watch);
	eventfd_t n;

	(void)events;
	if (!eventfd_read(b->fd, &n))
		vdev_kick(b->vdev, b->queue);
}

static int irq_connect_doorbell(struct vm *vm, struct vm_device *dev, struct vm_doorbell *b,
				struct err *e)
{
	struct kvm_ioeventfd req = {
		.datamatch = b->queue,
		.addr = dev->gpa + VDEV_MMIO_QUEUE_NOTIFY,
		.len = 4,
		.flags = KVM_IOEVENTFD_FLAG_DATAMATCH,
	};
	int rc;

	b->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (b->fd < 0)
		return err_errno(e, errno, "%s: eventfd", dev->vdev->name);
	req.fd = b->fd;
	if (ioctl(vm->vm_fd, KVM_IOEVENTFD, &req) < 0)
		return err_errno(e, errno, "%s: KVM_IOEVENTFD for queue %u", dev->vdev->name,
				 b->queue);
	rc = loop_watch_add(vm->loop, &b->watch, b->fd, EPOLLIN);
	return rc ? err_errno(e, -rc, "%s: watch queue %u", dev->vdev->name, b->queue) : 0;
}

int irq_connect(struct vm *vm, struct vm_device *dev, struct err *e)
{
	unsigned n = dev->vdev->n_queues;
	int rc = irq_connect_line(vm, dev, e);

	if (!rc)
		rc = irq_connect_ack(vm, dev, e);
	if (rc)
		return rc;
	dev->doorbells = calloc(n, sizeof(*dev->doorbells));
	if (!dev->doorbells)
		return err_errno(e, ENOMEM, "%s: %u doorbells", dev->vdev->name, n);
	for (unsigned i = 0; i < n; i++) {
		struct vm_doorbell *b = &dev->doorbells[i];

		*b = (struct vm_doorbell){ .vdev = dev->vdev, .queue = i, .fd = -1 };
		loop_watch_init(&b->watch, irq_doorbell_rung);
	}
	for (unsigned i = 0; !rc && i < n; i++)
		rc = irq_connect_doorbell(vm, dev, &dev->doorbells[i], e);
	return rc;
}

void irq_disconnect(struct vm_device *dev)
{
	for (unsigned i = 0; dev->doorbells && i < dev->vdev->n_queues; i++) {
		loop_watch_remove(&dev->doorbells[i].watch);
		close_fd(&dev->doorbells[i].fd);
	}
	free(take_ptr(&dev->doorbells));
	close_fd(&dev->irq_fd);
	close_fd(&dev->ack_fd);
}
