/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_CODEC_VMM_CONTROL_H
#define MSB_CODEC_VMM_CONTROL_H

/*
 * DOC: The control socket of msb-vmm
 *
 * Purpose
 *   What a supervisor tells a running VMM, and what it hears from it.  A connected
 *   SOCK_SEQPACKET socket pair, made before the VMM starts: a message is a packet.
 *
 * Messages, little-endian, at most VMM_CONTROL_MAX bytes
 *     offset 0   u16  VMM_CONTROL_VERSION
 *            2   u16  type
 *            4   u32  id: a request's own choice, repeated by its answer; of events 0
 *            8   u32  code
 *           12   u32  bytes of text
 *           16        text: one printable line, no NUL
 *
 *   PAUSE, RESUME and SNAPSHOT are requests, code and text empty; SNAPSHOT carries two
 *   descriptors (SCM_RIGHTS): the state file and the memory file, both empty and open
 *   for writing.  Each request gets one DONE: code 0, or an errno and its reason.
 *   Requests are worked on one at a time, in their order.
 *
 *   ENDED comes once, before the VMM's end: code is enum vmm_control_end, text the
 *   reason for people.  Requests under way get no answer any more.
 *
 * States
 *   Running: PAUSE.  Paused: RESUME, SNAPSHOT.  A PAUSE while paused and a RESUME while
 *   running are done at once; SNAPSHOT while running is refused with EBUSY.  From the
 *   answer to PAUSE to the next RESUME nothing of the machine changes: CPUs stand
 *   still, the devices have finished what was in flight and start nothing new.
 *
 * Trust boundary
 *   The VMM may have been taken over by its guest: the supervisor believes no length,
 *   no type and no text.  The VMM checks what it gets as well.
 */

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define VMM_CONTROL_VERSION 1u
#define VMM_CONTROL_HEADER_SIZE 16u
#define VMM_CONTROL_MAX 512u
#define VMM_CONTROL_TEXT_MAX (VMM_CONTROL_MAX - VMM_CONTROL_HEADER_SIZE)
#define VMM_CONTROL_FDS_MAX 2u

enum vmm_control_type {
	VMM_CONTROL_PAUSE = 1,
	VMM_CONTROL_RESUME = 2,
	VMM_CONTROL_SNAPSHOT = 3,
	VMM_CONTROL_DONE = 16,
	VMM_CONTROL_ENDED = 17,
};

/* Why a machine ended: also the exit status of the VMM (vmm/main.c). */
enum vmm_control_end {
	VMM_CONTROL_END_RESET = 0, /* the guest asked for it: reboot, power-off, panic */
	VMM_CONTROL_END_HOST = 1, /* the host failed: no memory, a KVM call refused */
	VMM_CONTROL_END_CRASH = 3, /* the guest's CPU shut down: triple fault */
	VMM_CONTROL_END_KVM = 4, /* KVM cannot run this guest's code here */
};

struct vmm_control_message {
	uint16_t type; /* enum vmm_control_type */
	uint32_t id;
	uint32_t code;
	char text[VMM_CONTROL_TEXT_MAX + 1]; /* "" if there is none */
};

/* Is this a message from the supervisor to the VMM? */
static inline int vmm_control_is_request(uint16_t type)
{
	return type >= VMM_CONTROL_PAUSE && type <= VMM_CONTROL_SNAPSHOT;
}

/**
 * vmm_control_encode() - one message as a packet
 *
 * Bytes of the text that are not printable become '?'; a text that is too long is cut.
 * Return: the packet's size.
 */
size_t vmm_control_encode(const struct vmm_control_message *m, uint8_t out[VMM_CONTROL_MAX]);

/**
 * vmm_control_decode() - read a packet
 * @out: written on success only
 *
 * Return: 0, or -EPROTO.
 */
int vmm_control_decode(const uint8_t *p, size_t n, struct vmm_control_message *out, struct err *e);

/* "PAUSE", …, or "?" */
const char *vmm_control_type_name(uint16_t type);

#endif
