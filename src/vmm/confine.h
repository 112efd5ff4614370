/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_VMM_CONFINE_H
#define MSB_VMM_CONFINE_H

/*
 * The seccomp lists of msb-vmm's threads.  Each call binds the calling thread alone and
 * for good: what is not on its list ends the process.  The order of stages is told in
 * confine.c and kept by main.c, vcpu.c and virtio/disk_worker.c.
 */

#include <stdbool.h>

#include "base/err.h"

/*
 * The I/O thread, which is the main thread: after the machine is complete (all threads
 * are started, the state of a snapshot is loaded) and before the guest's first
 * instruction.  It may still pause, resume and snapshot the machine, and end it.
 */
int vmm_confine_io(bool log_only, struct err *e);

/* A vCPU's thread, as the first thing it does. */
int vmm_confine_vcpu(bool log_only, struct err *e);

/* The disk worker's thread, as the first thing it does. */
int vmm_confine_disk(bool log_only, struct err *e);

#endif
