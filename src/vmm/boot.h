/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_VMM_BOOT_H
#define MSB_VMM_BOOT_H

/*
 * From nothing to a machine whose first CPU stands at the 64-bit entry point of a Linux
 * kernel: memory, tables, registers.  boot.c has the memory map.
 *
 * Reading the kernel takes as long as everything else, so a thread of its own does it
 * while the VM is made in KVM:
 *
 *   boot_begin()                       memory is mapped, the thread reads
 *   vm_create(), devices
 *   vm_use_memory(vm, &boot->memory)
 *   vm_create_vcpus()
 *   boot_finish()                      waits for the thread; tables, registers
 *   boot_fini()
 */

#include <pthread.h>

#include "base/err.h"
#include "vmm/kernel_image.h"
#include "vmm/memory.h"
#include "vmm/vm.h"

/* With its end; Linux's COMMAND_LINE_SIZE on x86. */
#define BOOT_CMDLINE_MAX 2048u

struct boot_config {
	int kernel_fd; /* ELF vmlinux or bzImage, a regular file */
	int initramfs_fd; /* a regular file; -1 = none */
	const char *cmdline; /* the devices of the VM are added to it */
};

struct boot {
	struct boot_config cfg;
	struct memory memory; /* until vm_use_memory() takes it */
	struct memory target; /* the same, for the thread */
	pthread_t thread;
	bool started; /* thread is valid and not joined */
	/* The thread's result: */
	int rc;
	struct err err;
	struct kernel_image image;
	uint64_t initramfs_gpa, initramfs_bytes; /* 0 bytes: none */
};

/*
 * Maps @memory_bytes of fresh memory and begins to read kernel and initramfs into it.
 * The descriptors of @cfg, and its text, stay the caller's, until boot_fini().
 */
int boot_begin(struct boot *b, const struct boot_config *cfg, uint64_t memory_bytes, struct err *e);

/* Finishes: the CPUs of @vm, which has the memory, can be started. */
int boot_finish(struct boot *b, struct vm *vm, struct err *e);

/* Harmless on a boot that is all zero. */
void boot_fini(struct boot *b);

#endif
