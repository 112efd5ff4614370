/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_VMM_IRQ_H
#define MSB_VMM_IRQ_H

/*
 * Between a device and KVM: its interrupt line, as an irqfd, and the doorbells of its
 * queues, as ioeventfds.  Neither takes an exit to user space (KVM_IRQFD, KVM_IOEVENTFD
 * in Documentation/virt/kvm/api.rst).
 */

#include "base/err.h"
#include "vmm/vm.h"

/**
 * irq_connect() - connect dev->vdev at dev->gpa with the line dev->gsi
 *
 * From then on the device's interrupts are edges on the line, and a 4 byte write of a
 * queue's number to QueueNotify becomes a vdev_kick() on the I/O thread.  On failure
 * irq_disconnect() still has to be called.
 */
int irq_connect(struct vm *vm, struct vm_device *dev, struct err *e);

/* Closes what irq_connect() opened; the KVM side goes with the VM. */
void irq_disconnect(struct vm_device *dev);

#endif
