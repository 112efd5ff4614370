/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_VMM_VIRTIO_RNG_H
#define MSB_VMM_VIRTIO_RNG_H

/* The entropy device; rng.c tells how it works. */

#include "base/err.h"

struct loop;
struct memory;
struct vdev;

/**
 * rng_create() - a virtio entropy device
 * @m, @l: stay the machine's and outlive the device
 *
 * Return: 0 and *@out, to be freed with its ops->destroy(), or a negative errno.
 */
int rng_create(struct vdev **out, const struct memory *m, struct loop *l, struct err *e);

#endif
