/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_VMM_VM_H
#define MSB_VMM_VM_H

/*
 * The machine: one KVM VM with its memory, CPUs and devices.  vm.c tells the theory.
 *
 * Order of use (main.c):
 *
 *   vm_create()          VM descriptor, interrupt controllers
 *   vm_add_device()…     each with its interrupt line and doorbells
 *   vm_use_memory()      fresh (boot.h), or mapped over a snapshot's file
 *   vm_create_vcpus()    no registers yet
 *   boot_finish() or the restore of a snapshot
 *   vm_start()           threads, all parked
 *   vm_resume()          the guest runs; vm_pause(), vm_resume() at will
 *   loop_run(vm->loop)   until vm_end()
 *   vm_destroy()
 */

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "sys/loop.h"
#include "vmm/memory.h"
#include "vmm/vcpu.h"
#include "vmm/virtio/vdev.h"

#define VM_CPUS_MAX 16u
#define VM_DEVICES_MAX 8u
#define VM_MEMORY_MIN (16ull << 20)
#define VM_MEMORY_MAX (1024ull << 30)

/* Device i: registers at VM_MMIO_BASE + i * VDEV_MMIO_SIZE, interrupt line VM_GSI_BASE + i. */
#define VM_MMIO_BASE 0xd0000000ull
#define VM_GSI_BASE 5u

/* Why a machine ended; also the exit status of the process (main.c). */
enum vm_end_kind {
	VM_END_RESET = 0, /* the guest asked for it: reboot, power-off, panic */
	VM_END_HOST = 1, /* the host failed: no memory, a KVM call refused */
	/* 2 is the status of a wrong command line */
	VM_END_CRASH = 3, /* the guest's CPU shut down: triple fault */
	VM_END_KVM = 4, /* KVM cannot run this guest's code here */
};

enum vm_state {
	VM_PAUSED, /* no CPU is in KVM_RUN, or about to be */
	VM_RUNNING,
	VM_ENDED, /* for good; see end_kind and end_reason */
};

struct disk_worker;

/* The doorbell of one queue: an ioeventfd that the I/O thread watches. */
struct vm_doorbell {
	struct loop_watch watch;
	struct vdev *vdev; /* not owned */
	unsigned queue;
	int fd; /* owned */
};

struct vm_device {
	struct vdev *vdev; /* owned: destroyed by vm_destroy() */
	uint64_t gpa; /* of its register window */
	uint32_t gsi;
	int ack_fd; /* eventfd that takes the driver's acknowledgements; owned */
	int irq_fd; /* eventfd that raises the line; owned, the device knows its number */
	struct vm_doorbell *doorbells; /* vdev->n_queues of them */
};

struct vm_config {
	const char *name; /* of the sandbox, for the log; outlives the VM */
	int kvm_fd; /* /dev/kvm; stays the caller's */
	unsigned n_cpus; /* 1 … VM_CPUS_MAX */
	uint64_t memory_bytes; /* VM_MEMORY_MIN … VM_MEMORY_MAX, a multiple of 4096 */
	bool seccomp_log; /* see vmm/confine.h */
};

struct vm {
	struct vm_config cfg;
	int vm_fd; /* owned */
	size_t vcpu_run_bytes;
	struct memory memory;
	struct loop *loop; /* of the I/O thread; owned */
	struct vm_device devices[VM_DEVICES_MAX]; /* in the order of their addresses */
	unsigned n_devices;
	uint8_t *windows; /* VM_DEVICES_MAX of VDEV_MMIO_SIZE, which the guest reads */
	struct disk_worker *disk_worker; /* shared by the disks; NULL: none; owned */
	struct vcpu vcpus[VM_CPUS_MAX];
	unsigned n_vcpus; /* created */

	/* Under lock: */
	pthread_mutex_t lock;
	pthread_cond_t changed; /* state or parked */
	enum vm_state state;
	unsigned parked; /* vCPU threads that wait outside KVM_RUN for a change of state */
	enum vm_end_kind end_kind;
	char end_reason[512]; /* one line for a person; "" for VM_END_RESET */

	int end_fd; /* eventfd: wakes the I/O thread at VM_ENDED; owned */
	struct loop_watch end_watch;
};

/* @cfg is copied.  Nothing is left behind by a failure; every success needs a vm_destroy(). */
int vm_create(struct vm *vm, const struct vm_config *cfg, struct err *e);

/**
 * vm_add_device() - give @d the next address and interrupt line
 *
 * Takes over @d, also on failure.  Before vm_create_vcpus(): registering a doorbell is
 * cheap only while no CPU exists.
 */
int vm_add_device(struct vm *vm, struct vdev *d, struct err *e);

/**
 * vm_use_memory() - make @m, of as many bytes as configured, the guest's RAM
 *
 * Takes it over, also on failure: @m is empty afterwards.
 */
int vm_use_memory(struct vm *vm, struct memory *m, struct err *e);

int vm_create_vcpus(struct vm *vm, struct err *e);

/* Starts the threads of the CPUs, parked: the state is VM_PAUSED. */
int vm_start(struct vm *vm, struct err *e);

/**
 * vm_pause() - stop the guest (I/O thread)
 *
 * Returns when every CPU's thread is parked outside KVM_RUN with no exit half done, so
 * that all its registers may be read.  The devices go on with what is in flight: see
 * vdev_drain().  Return: false if the machine has ended.
 */
bool vm_pause(struct vm *vm);
void vm_resume(struct vm *vm);

/**
 * vm_end() - end the machine, from any thread; the first call counts
 *
 * The CPUs stop, loop_run() returns @kind.
 */
void vm_end(struct vm *vm, enum vm_end_kind kind, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/* Ends what runs, waits for all threads, frees everything. */
void vm_destroy(struct vm *vm);

#endif
