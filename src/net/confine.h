/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_NET_CONFINE_H
#define MSB_NET_CONFINE_H

#include "sys/jail.h"

/* What msb-net may still ask of the kernel once it serves the guest. */
extern const struct jail_syscall net_syscalls[];

/* The same where nothing is open to the outside: no socket can be made. */
extern const struct jail_syscall net_syscalls_closed[];

#endif
