/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_ENGINE_PROBE_H
#define MSB_ENGINE_PROBE_H

/* Can /dev/kvm run our guests?  That it opens proves nothing. */

#include "base/err.h"

/**
 * engine_probe_kvm() - is hardware virtualization usable here?
 *
 * Opens /dev/kvm, asks for what the VMM needs, and runs ring-0 code in a throw-away VM
 * (probe_vm.h).  The result of that run is kept for this boot of the machine, in the
 * file kvm-probe of MICROSANDBOX_HOME; without a file it is made anew.
 *
 * Return: 0, or a negative errno with the reason and, where there is one, the remedy.
 */
int engine_probe_kvm(struct err *e);

#endif
