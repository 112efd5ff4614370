/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_VMM_VIRTIO_BLK_H
#define MSB_VMM_VIRTIO_BLK_H

/* A disk whose contents are a regular file of the host; blk.c tells how it works. */

#include <stdbool.h>

#include "base/err.h"

struct disk_worker;
struct loop;
struct memory;
struct vdev;

struct blk_config {
	const char *name; /* for the log: "blk.image" */
	const char *serial; /* by which the guest finds it: 1 to 20 bytes */
	int fd; /* the file; taken over on success */
	/* Readable only, by the guest and by us: @fd has to be open for reading only then. */
	bool readonly;
};

/**
 * blk_create() - a virtio block device
 * @m, @l, @w: stay the machine's and outlive the device
 *
 * The disk's size is the file's, in whole sectors of 512 bytes, and stays what it is now.
 * Return: 0 and *@out, or a negative errno with its reason.
 */
int blk_create(struct vdev **out, const struct blk_config *c, const struct memory *m,
	       struct loop *l, struct disk_worker *w, struct err *e);

#endif
