/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/devices.h"

#include <stdio.h>

#include "base/mem.h"
#include "vmm/virtio/blk.h"
#include "vmm/virtio/disk_worker.h"

static int devices_add_disk(struct vm *vm, const struct options_disk *d, struct err *e)
{
	char name[8 + OPTIONS_SERIAL_MAX];
	const struct blk_config cfg = {
		.name = name,
		.serial = d->serial,
		.fd = d->fd,
		.readonly = d->readonly,
	};
	struct vdev *dev;
	int rc = 0;

	snprintf(name, sizeof(name), "blk.%s", d->serial);
	if (!vm->disk_worker)
		rc = disk_worker_create(&vm->disk_worker, vm->loop, e);
	if (!rc)
		rc = blk_create(&dev, &cfg, &vm->memory, vm->loop, vm->disk_worker, e);
	return rc ? rc : vm_add_device(vm, dev, e);
}

int devices_create(struct vm *vm, const struct options *o, struct err *e)
{
	int rc = 0;

	for (unsigned i = 0; !rc && i < o->n_disks; i++)
		rc = devices_add_disk(vm, &o->disks[i], e);
	return rc;
}
