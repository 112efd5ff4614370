/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_VOLUME_CONFINE_H
#define MSB_VOLUME_CONFINE_H

#include "sys/jail.h"

/* Every system call that msb-volume makes once it serves, each with its reason. */
extern const struct jail_syscall volume_syscalls[];

#endif
