/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_VMM_BOOT_H
#define MSB_VMM_BOOT_H

/*
 * From an empty machine to one whose first CPU stands at the 64-bit entry point of a
 * Linux kernel: memory, tables, registers.  boot.c has the memory map.
 */

#include "base/err.h"
#include "vmm/vm.h"

/* With its end; Linux's COMMAND_LINE_SIZE on x86. */
#define BOOT_CMDLINE_MAX 2048u

struct boot_config {
	int kernel_fd; /* ELF vmlinux or bzImage, a regular file */
	int initramfs_fd; /* a regular file; -1 = none */
	const char *cmdline; /* the devices of the VM are added to it */
};

/**
 * boot_load() - after vm_map_memory() and vm_create_vcpus()
 *
 * The descriptors stay the caller's and are not needed afterwards.
 */
int boot_load(struct vm *vm, const struct boot_config *cfg, struct err *e);

#endif
