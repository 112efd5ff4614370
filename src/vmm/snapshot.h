/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_VMM_SNAPSHOT_H
#define MSB_VMM_SNAPSHOT_H

/*
 * Freezing a machine, writing it to two files, and making a machine of them again.
 * snapshot.c tells the theory; codec/snapshot.h has the formats.
 *
 * Freezing (I/O thread):
 *   snapshot_freeze(), snapshot_write() any number of times, snapshot_thaw()
 *
 * Restoring (main.c):
 *   snapshot_open(), vm_create() and its devices, vm_use_memory() with the memory file,
 *   vm_create_vcpus(), snapshot_load(), snapshot_close(), vm_start(), snapshot_thaw()
 */

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "codec/snapshot.h"
#include "vmm/vm.h"

/**
 * snapshot_freeze() - stop the CPUs and drain the devices
 *
 * Until snapshot_thaw() nothing of the machine changes: registers, memory, disks.
 * Return: false if the machine has ended.
 */
bool snapshot_freeze(struct vm *vm);

/* Lets devices and CPUs go on; also what a restored machine starts with. */
void snapshot_thaw(struct vm *vm);

/**
 * snapshot_write() - write a frozen machine to two files
 * @state_fd, @memory_fd: regular files, or memfds, open for writing and empty; they stay
 *                        the caller's
 *
 * Nothing is synced: a caller who keeps the files past a power loss syncs them, before he
 * gives them the name by which they are found.  On failure the files are to be thrown
 * away; the machine is frozen as before.
 */
int snapshot_write(struct vm *vm, int state_fd, int memory_fd, struct err *e);

/* A snapshot that was opened, and found to be whole and fit for this host. */
struct snapshot_source {
	uint8_t *bytes; /* owned */
	struct snapshot s; /* points into bytes */
};

/**
 * snapshot_open() - read the state, and look at the memory file
 * @state_fd, @memory_fd: stay the caller's
 *
 * The memory file may be open read-only, or be a memfd that is sealed against writing;
 * a descriptor that could change it is refused, because other machines may share it.
 */
int snapshot_open(struct snapshot_source *src, int state_fd, int memory_fd, struct err *e);

/* Puts the state into a machine as state_load() does. */
int snapshot_load(struct vm *vm, const struct snapshot_source *src, struct err *e);

/* Harmless on a source that is all zero. */
void snapshot_close(struct snapshot_source *src);

/**
 * snapshot_write_memory() - the pages of @m that are not zero, at their place in @fd
 *
 * @fd is made as long as the memory, and is sparse where it is zero.
 */
int snapshot_write_memory(const struct memory *m, int fd, struct err *e);

#endif
