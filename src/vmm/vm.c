/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DOC: Theory of operation
 *
 * Purpose: the machine as a whole: its VM in KVM, its parts, and its state (paused,
 * running, ended), which CPU threads, I/O thread and a snapshot agree on.
 *
 * Spec: Documentation/virt/kvm/api.rst of the kernel; virtio 1.2 §4.2 for the devices.
 *
 * The machine: KVM's interrupt controllers (local APICs, IOAPIC, PICs), no PIT, no
 * firmware, no PCI, no ACPI, no serial port.  docs/vmm.md has the memory map.
 *
 * Threads and locks: the I/O thread (the process's first) owns everything here; a CPU
 * thread uses what does not change after vm_start(), and state, parked and the end under
 * vm->lock.
 *
 * Order of KVM calls: doorbells are registered before CPUs exist, because later each would
 * wait for all CPUs (SRCU).  Creating the VM waits for the kernel, on some hosts for tens
 * of milliseconds; boot.h has something to do meanwhile.
 *
 * Failure: a host's failure while starting is returned; afterwards it ends the machine,
 * as the guest's own end does.  The first reason is kept.
 */
#include "vmm/vm.h"

#include <assert.h>
#include <errno.h>
#include <linux/kvm.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include "base/mem.h"
#include "vmm/irq.h"
#include "vmm/trace.h"
#include "vmm/virtio/disk_worker.h"

#define VM_KVM_API 12
#define VM_WINDOWS_BYTES ((size_t)VM_DEVICES_MAX * VDEV_MMIO_SIZE)
/* Three pages that KVM needs on Intel's CPUs, between the local APICs and 4 GiB. */
#define VM_TSS_ADDR 0xfffbd000ul

static void vm_on_end(struct loop_watch *w, uint32_t events)
{
	struct vm *vm = container_of(w, struct vm, end_watch);

	(void)events;
	loop_stop(vm->loop, (int)vm->end_kind);
}

static int vm_check_config(const struct vm_config *cfg, struct err *e)
{
	if (!cfg->n_cpus || cfg->n_cpus > VM_CPUS_MAX)
		return err_set(e, EINVAL, "%u CPUs: 1 to %u are possible", cfg->n_cpus, VM_CPUS_MAX);
	if (cfg->memory_bytes < VM_MEMORY_MIN || cfg->memory_bytes > VM_MEMORY_MAX)
		return err_set(e, EINVAL, "%llu bytes of memory: 16 MiB to 1 TiB are possible",
			       (unsigned long long)cfg->memory_bytes);
	return 0;
}

static int vm_create_kvm(struct vm *vm, struct err *e)
{
	int kvm = vm->cfg.kvm_fd;
	int n = ioctl(kvm, KVM_GET_API_VERSION, 0);

	if (n != VM_KVM_API)
		return err_set(e, ENOTSUP, "descriptor %d is no /dev/kvm of API version %d", kvm,
			       VM_KVM_API);
	n = ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
	if (n < (int)sizeof(struct kvm_run))
		return err_errno(e, n < 0 ? errno : ENOTSUP, "KVM_GET_VCPU_MMAP_SIZE");
	vm->vcpu_run_bytes = (size_t)n;
	vm->vm_fd = ioctl(kvm, KVM_CREATE_VM, 0ul);
	if (vm->vm_fd < 0)
		return err_errno(e, errno, "KVM_CREATE_VM");
	if (ioctl(vm->vm_fd, KVM_SET_TSS_ADDR, VM_TSS_ADDR) < 0)
		return err_errno(e, errno, "KVM_SET_TSS_ADDR");
	if (ioctl(vm->vm_fd, KVM_CREATE_IRQCHIP, 0) < 0)
		return err_errno(e, errno, "KVM_CREATE_IRQCHIP");
	return 0;
}

int vm_create(struct vm *vm, const struct vm_config *cfg, struct err *e)
{
	int rc;

	memset(vm, 0, sizeof(*vm));
	vm->cfg = *cfg;
	vm->vm_fd = vm->end_fd = -1;
	pthread_mutex_init(&vm->lock, NULL);
	pthread_cond_init(&vm->changed, NULL);
	loop_watch_init(&vm->end_watch, vm_on_end);
	for (unsigned i = 0; i < VM_CPUS_MAX; i++)
		vm->vcpus[i].fd = -1;
	rc = vm_check_config(cfg, e);
	if (!rc)
		rc = vm_create_kvm(vm, e);
	if (!rc) {
		vm->windows = mmap(NULL, VM_WINDOWS_BYTES, PROT_READ | PROT_WRITE,
				   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (vm->windows == MAP_FAILED) {
			vm->windows = NULL;
			rc = err_errno(e, ENOMEM, "register windows");
		}
	}
	if (!rc)
		rc = loop_create(&vm->loop, e);
	if (!rc) {
		vm->end_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		if (vm->end_fd < 0 ||
		    loop_watch_add(vm->loop, &vm->end_watch, vm->end_fd, EPOLLIN) < 0)
			rc = err_errno(e, errno, "eventfd");
	}
	if (rc)
		vm_destroy(vm);
	return rc;
}

int vm_add_device(struct vm *vm, struct vdev *d, struct err *e)
{
	struct vm_device *dev;

	if (vm->n_devices == VM_DEVICES_MAX) {
		d->ops->destroy(d);
		return err_set(e, E2BIG, "more than %u devices", VM_DEVICES_MAX);
	}
	dev = &vm->devices[vm->n_devices];
	*dev = (struct vm_device){
		.vdev = d,
		.gpa = VM_MMIO_BASE + vm->n_devices * VDEV_MMIO_SIZE,
		.gsi = VM_GSI_BASE + vm->n_devices,
		.ack_fd = -1,
		.irq_fd = -1,
	};
	vdev_use_window(d, vm->windows + (size_t)vm->n_devices * VDEV_MMIO_SIZE);
	vm->n_devices++;
	return irq_connect(vm, dev, e);
}

int vm_use_memory(struct vm *vm, struct memory *m, struct err *e)
{
	int rc = 0;

	assert(m->bytes == vm->cfg.memory_bytes && !vm->memory.n_slots);
	vm->memory = *m;
	*m = (struct memory){ .n_slots = 0 };
	trace_point(TRACE_MAPPED, 0);
	for (unsigned i = 0; !rc && i < vm->memory.n_slots; i++) {
		const struct memory_slot *s = &vm->memory.slots[i];
		struct kvm_userspace_memory_region region = {
			.slot = i,
			.guest_phys_addr = s->gpa,
			.memory_size = s->size,
			.userspace_addr = (uintptr_t)s->host,
		};

		if (ioctl(vm->vm_fd, KVM_SET_USER_MEMORY_REGION, &region) < 0)
			rc = err_errno(e, errno, "KVM_SET_USER_MEMORY_REGION: %llu MiB",
				       (unsigned long long)(s->size >> 20));
	}
	/* The devices' registers, to read (virtio/mmio.c): a write there exits all the same. */
	if (!rc && vm->n_devices) {
		struct kvm_userspace_memory_region region = {
			.slot = MEMORY_SLOTS_MAX,
			.flags = KVM_MEM_READONLY,
			.guest_phys_addr = VM_MMIO_BASE,
			.memory_size = vm->n_devices * (uint64_t)VDEV_MMIO_SIZE,
			.userspace_addr = (uintptr_t)vm->windows,
		};

		if (ioctl(vm->vm_fd, KVM_SET_USER_MEMORY_REGION, &region) < 0)
			rc = err_errno(e, errno, "KVM_SET_USER_MEMORY_REGION: register windows");
	}
	trace_point(TRACE_MEMORY, 0);
	return rc;
}

int vm_create_vcpus(struct vm *vm, struct err *e)
{
	int rc = 0;

	while (!rc && vm->n_vcpus < vm->cfg.n_cpus) {
		rc = vcpu_create(&vm->vcpus[vm->n_vcpus], vm, vm->n_vcpus, e);
		if (!rc)
			vm->n_vcpus++;
	}
	trace_point(TRACE_VCPUS, 0);
	return rc;
}

int vm_start(struct vm *vm, struct err *e)
{
	int rc = vcpu_prepare_signals(e);

	for (unsigned i = 0; !rc && i < vm->n_vcpus; i++)
		rc = vcpu_start(&vm->vcpus[i], e);
	return rc;
}

static void vm_kick_all(struct vm *vm)
{
	for (unsigned i = 0; i < vm->n_vcpus; i++)
		vcpu_kick(&vm->vcpus[i]);
}

bool vm_pause(struct vm *vm)
{
	bool paused;

	pthread_mutex_lock(&vm->lock);
	if (vm->state == VM_RUNNING) {
		vm->state = VM_PAUSED;
		vm_kick_all(vm);
	}
	while (vm->state == VM_PAUSED && vm->parked < vm->n_vcpus)
		pthread_cond_wait(&vm->changed, &vm->lock);
	paused = vm->state == VM_PAUSED;
	pthread_mutex_unlock(&vm->lock);
	return paused;
}

void vm_resume(struct vm *vm)
{
	pthread_mutex_lock(&vm->lock);
	if (vm->state == VM_PAUSED) {
		vm->state = VM_RUNNING;
		pthread_cond_broadcast(&vm->changed);
	}
	pthread_mutex_unlock(&vm->lock);
}

void vm_end(struct vm *vm, enum vm_end_kind kind, const char *fmt, ...)
{
	va_list ap;

	pthread_mutex_lock(&vm->lock);
	if (vm->state != VM_ENDED) {
		vm->state = VM_ENDED;
		vm->end_kind = kind;
		va_start(ap, fmt);
		vsnprintf(vm->end_reason, sizeof(vm->end_reason), fmt, ap);
		va_end(ap);
		vm_kick_all(vm);
		pthread_cond_broadcast(&vm->changed);
		(void)!eventfd_write(vm->end_fd, 1);
	}
	pthread_mutex_unlock(&vm->lock);
}

void vm_destroy(struct vm *vm)
{
	if (vm->n_vcpus)
		vm_end(vm, VM_END_HOST, "the machine was destroyed");
	for (unsigned i = 0; i < vm->n_vcpus; i++)
		vcpu_join(&vm->vcpus[i]);
	/* No CPU can touch a device any more. */
	for (unsigned i = 0; i < vm->n_devices; i++) {
		irq_disconnect(&vm->devices[i]);
		vm->devices[i].vdev->ops->destroy(vm->devices[i].vdev);
	}
	vm->n_devices = 0;
	if (vm->disk_worker)
		disk_worker_destroy(take_ptr(&vm->disk_worker));
	for (unsigned i = 0; i < vm->n_vcpus; i++)
		vcpu_destroy(&vm->vcpus[i]);
	vm->n_vcpus = 0;
	loop_watch_remove(&vm->end_watch);
	loop_destroy(take_ptr(&vm->loop));
	close_fd(&vm->end_fd);
	close_fd(&vm->vm_fd);
	memory_destroy(&vm->memory);
	if (vm->windows)
		munmap(take_ptr(&vm->windows), VM_WINDOWS_BYTES);
	pthread_cond_destroy(&vm->changed);
	pthread_mutex_destroy(&vm->lock);
}
