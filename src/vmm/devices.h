/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_VMM_DEVICES_H
#define MSB_VMM_DEVICES_H

/*
 * The devices of a VM, as the command line names them.  Their order is their address,
 * and so part of what a snapshot fits to: disks, console, network, entropy, balloon.
 */

#include "base/err.h"
#include "vmm/options.h"
#include "vmm/vm.h"

/*
 * Makes them and gives them to @vm.  Descriptors of @o are the devices' as far as they
 * were made, on failure too.
 */
int devices_create(struct vm *vm, const struct options *o, struct err *e);

#endif
