/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/bus.h"

#include <string.h>

#include "base/log.h"

#define BUS_PORT_RESET 0x64u
#define BUS_RESET_COMMAND 0xfeu /* pulse output line 0, the CPU's reset */

/* The guest can fill a log with these. */
static void bus_log_unknown(const char *what, uint64_t where, bool write)
{
	static struct log_limit limit = LOG_LIMIT(10, 60000);
	static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
	bool pass;

	if (!log_enabled(LOG_DEBUG))
		return;
	pthread_mutex_lock(&lock);
	pass = log_limit_pass(&limit, NULL);
	pthread_mutex_unlock(&lock);
	if (pass)
		log_debug("event=no-device bus=%s address=0x%llx access=%s", what,
			  (unsigned long long)where, write ? "write" : "read");
}

static struct vdev *bus_device(struct vm *vm, uint64_t gpa)
{
	uint64_t i = (gpa - VM_MMIO_BASE) / VDEV_MMIO_SIZE;

	return gpa >= VM_MMIO_BASE && i < vm->n_devices ? vm->devices[i].vdev : NULL;
}

void bus_mmio(struct vm *vm, uint64_t gpa, uint8_t *data, uint32_t len, bool write)
{
	struct vdev *d = bus_device(vm, gpa);

	if (!d) {
		bus_log_unknown("memory", gpa, write);
		if (!write)
			memset(data, 0xff, len);
		return;
	}
	/* An access that runs over the end of the window is refused by the device. */
	if (write)
		vdev_mmio_write(d, gpa % VDEV_MMIO_SIZE, data, len);
	else
		vdev_mmio_read(d, gpa % VDEV_MMIO_SIZE, data, len);
}

bool bus_pio(struct vm *vm, uint16_t port, uint8_t *data, uint32_t size, uint32_t count, bool write)
{
	size_t bytes = (size_t)size * count;

	if (port != BUS_PORT_RESET) {
		bus_log_unknown("port", port, write);
		if (!write)
			memset(data, 0xff, bytes);
		return true;
	}
	if (!write) {
		/* Status: ready for a command.  All ones would be a controller that is busy. */
		memset(data, 0, bytes);
		return true;
	}
	for (size_t i = 0; i < bytes; i += size) {
		if (data[i] == BUS_RESET_COMMAND) {
			vm_end(vm, VM_END_RESET, "%s", "");
			return false;
		}
	}
	return true;
}
