/* SPDX-License-Identifier: Apache-2.0 */
/*
 * silent-kernel: what is loaded and entered as a kernel, and never says anything
 *
 * The two bytes of the jump are the same in 32-bit mode, where QEMU enters by the PVH note,
 * and in 64-bit mode, where msb-vmm does.
 */
	.section .note.Xen, "a", @note
	.long 4, 4, 18
	.asciz "Xen"
	.long _start
	.text
	.code32
	.globl _start
_start:	jmp _start
	.section .note.GNU-stack, "", @progbits
