/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_VMM_VIRTIO_BALLOON_H
#define MSB_VMM_VIRTIO_BALLOON_H

/* The memory balloon with free-page reporting; balloon.c tells how it works. */

#include <stdint.h>

#include "base/err.h"

struct loop;
struct memory;
struct vdev;

/**
 * balloon_create() - a virtio memory balloon, empty
 * @m, @l: stay the machine's and outlive the device; the RAM may be mapped later
 *
 * Return: 0 and *@out, to be freed with its ops->destroy(), or a negative errno.
 */
int balloon_create(struct vdev **out, const struct memory *m, struct loop *l, struct err *e);

/**
 * balloon_set_target() - ask the guest for memory, or give it back
 * @bytes: wanted in the balloon, rounded down to pages; the guest takes its time, or does
 *         not comply at all
 *
 * Return: 0, or -ERANGE for more than the guest's RAM.
 */
int balloon_set_target(struct vdev *d, uint64_t bytes, struct err *e);

/* Bytes in the balloon, as the guest says: not to be relied on. */
uint64_t balloon_actual(struct vdev *d);

#endif
