/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Entry of the hostile guest: 64-bit mode, RSI = zero page, the first GiB mapped one to
 * one (Documentation/x86/boot.rst, "64-bit Boot Protocol").  The devices lie above that,
 * so the first thing is a map of 4 GiB.  Interrupts stay off for good: there is no table
 * of handlers, and a fault of ours ends the machine as a triple fault.
 */
	.code64
	.section .head, "ax"
	.globl _start
_start:
	cld
	lea	stack_top(%rip), %rsp

	/* Page directory pointers: four directories, present and writable. */
	lea	pdpt(%rip), %rdi
	lea	directories(%rip), %rax
	mov	$4, %ecx
1:	lea	3(%rax), %rdx
	mov	%rdx, (%rdi)
	add	$4096, %rax
	add	$8, %rdi
	dec	%ecx
	jnz	1b
	/* 2048 pages of 2 MiB. */
	lea	directories(%rip), %rdi
	mov	$0x83, %eax
	mov	$2048, %ecx
2:	mov	%rax, (%rdi)
	add	$0x200000, %rax
	add	$8, %rdi
	dec	%ecx
	jnz	2b
	lea	pdpt(%rip), %rax
	or	$3, %rax
	mov	%rax, pml4(%rip)
	lea	pml4(%rip), %rax
	mov	%rax, %cr3

	mov	%rsi, %rdi
	call	hostile_main
3:	hlt
	jmp	3b

	.section .bss, "aw", @nobits
	.balign 4096
pml4:	.skip 4096
pdpt:	.skip 4096
directories:
	.skip 4 * 4096
	.skip 16384
stack_top:
	.section .note.GNU-stack, "", @progbits
