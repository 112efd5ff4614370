/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_VMM_CONTROL_H
#define MSB_VMM_CONTROL_H

/* The VMM's end of its control socket; codec/vmm_control.h has the messages. */

#include "base/err.h"
#include "vmm/vm.h"

struct control;

/**
 * control_create() - answer requests on @fd from vm->loop on
 * @fd: connected SOCK_SEQPACKET socket; taken over, also on failure
 *
 * A request is worked on in the loop's turn: while a snapshot is written the I/O thread
 * does nothing else, and has nothing else to do.
 */
int control_create(struct control **out, struct vm *vm, int fd, struct err *e);

/* Tells the supervisor why the machine ended; once, after vm_end(). */
void control_send_ended(struct control *c);

/* NULL is fine.  Before vm_destroy(). */
void control_destroy(struct control *c);

#endif
