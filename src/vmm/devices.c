/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/devices.h"

#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "vmm/virtio/balloon.h"
#include "vmm/virtio/blk.h"
#include "vmm/virtio/console.h"
#include "vmm/virtio/disk_worker.h"
#include "vmm/virtio/net.h"
#include "vmm/virtio/rng.h"

_Static_assert(OPTIONS_PORTS_MAX + 1 <= CONSOLE_PORTS_MAX, "port 0 is the console");
_Static_assert(OPTIONS_PORT_NAME_MAX <= CONSOLE_NAME_MAX, "names of ports");
_Static_assert(OPTIONS_DISKS_MAX + 4 <= VM_DEVICES_MAX, "console, net, rng, balloon");

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
	if (!vm->disk_worker) {
		rc = disk_worker_create(&vm->disk_worker, vm->loop, e);
		if (!rc)
			disk_worker_confine(vm->disk_worker, vm->cfg.seccomp_log);
	}
	if (!rc)
		rc = blk_create(&dev, &cfg, &vm->memory, vm->loop, vm->disk_worker, e);
	return rc ? rc : vm_add_device(vm, dev, e);
}

static int devices_add_console(struct vm *vm, const struct options *o, struct err *e)
{
	struct console_config cfg = {
		.name = "console",
		.n_ports = 1 + o->n_ports,
		.ports = { { .fd = o->console_fd } },
	};
	struct vdev *dev;
	int rc;

	for (unsigned i = 0; i < o->n_ports; i++)
		cfg.ports[1 + i] = (struct console_port_config){
			.fd = o->ports[i].fd,
			.name = o->ports[i].name,
		};
	rc = console_create(&dev, &cfg, &vm->memory, vm->loop, e);
	return rc ? rc : vm_add_device(vm, dev, e);
}

/* The supervisor, whose child msb-net is, sees its end and ends the sandbox. */
static void devices_net_lost(void *arg, int error)
{
	(void)arg;
	log_warn("event=net-lost reason=\"%s\"", error ? strerror(error) : "msb-net closed it");
}

static int devices_add_net(struct vm *vm, const struct options *o, struct err *e)
{
	struct net_config cfg = { .name = "net", .fd = o->net_fd, .lost = devices_net_lost };
	struct vdev *dev;
	int rc;

	memcpy(cfg.mac, o->net_mac, sizeof(cfg.mac));
	rc = net_create(&dev, &cfg, &vm->memory, vm->loop, e);
	return rc ? rc : vm_add_device(vm, dev, e);
}

static int devices_add_rng(struct vm *vm, struct err *e)
{
	struct vdev *dev;
	int rc = rng_create(&dev, &vm->memory, vm->loop, e);

	return rc ? rc : vm_add_device(vm, dev, e);
}

static int devices_add_balloon(struct vm *vm, struct err *e)
{
	struct vdev *dev;
	int rc = balloon_create(&dev, &vm->memory, vm->loop, e);

	return rc ? rc : vm_add_device(vm, dev, e);
}

int devices_create(struct vm *vm, const struct options *o, struct err *e)
{
	int rc = 0;

	for (unsigned i = 0; !rc && i < o->n_disks; i++)
		rc = devices_add_disk(vm, &o->disks[i], e);
	if (!rc && (o->console_fd >= 0 || o->n_ports))
		rc = devices_add_console(vm, o, e);
	if (!rc && o->net_fd >= 0)
		rc = devices_add_net(vm, o, e);
	if (!rc)
		rc = devices_add_rng(vm, e);
	return rc ? rc : devices_add_balloon(vm, e);
}
