/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DOC: Theory of operation
 *
 * Purpose
 *   What a kernel does in its first moments, in a few hundred instructions: the probe's
 *   guest.  A /dev/kvm that cannot do all of it cannot boot Linux.
 *
 * Spec
 *   AMD64 Architecture Programmer's Manual, volume 2: long mode (§1.3), paging (§5.3),
 *   exceptions (§8), XSAVE (§11.5).
 *
 * States
 *   The host has set up long mode, ring 0, interrupts off, the tables of
 *   probe_guest.h.  The speed comes first, by plain instructions: whoever interprets
 *   them may not know the rest.  Each part says its mark, then does it; a wrong result
 *   is PROBE_MARK_WRONG.  %r15d is the mask of XSAVE components to use.
 */
#include "engine/probe_guest.h"

#define PROBE_TEXT_(x) #x
#define PROBE_TEXT(x) PROBE_TEXT_(x)
/* A constant of probe_guest.h, as an operand ("$" before it) or an address. */
#define K(name) PROBE_TEXT(PROBE_##name)
#define MARK(name) \
	"	mov	$" K(MARK_##name) ", %al\n	out	%al, $" K(GUEST_PORT_MARK) "\n"

/* clang-format off */
__asm__(
"	.pushsection .text.probe_guest, \"ax\", @progbits\n"
"	.balign	16\n"
"	.globl	probe_guest_start, probe_guest_end, probe_guest_loop\n"
"	.globl	probe_guest_breakpoint, probe_guest_page_fault\n"
"	.hidden	probe_guest_start, probe_guest_end, probe_guest_loop\n"
"	.hidden	probe_guest_breakpoint, probe_guest_page_fault\n"
"probe_guest_start:\n"

	/* Speed: an empty exit, the loop, its checksum. */
"	mov	$" K(GUEST_LOOPS) ", %ebx\n"
"1:\n"
	MARK(IDLE)
	MARK(LOOP)
"	mov	$" K(GUEST_SCRATCH) ", %edi\n"
"	mov	$" K(GUEST_ROUNDS) ", %esi\n"
"	call	probe_guest_loop\n"
"	mov	%rax, %r12\n"
	MARK(LOOP_END)
"	mov	%r12d, %eax\n"
"	out	%eax, $" K(GUEST_PORT_SUM) "\n"
"	dec	%ebx\n"
"	jnz	1b\n"

	/* CR0: MP, NE set, EM clear.  CR4: OSFXSR, OSXMMEXCPT, OSXSAVE, PGE.  CR3 again. */
	MARK(CONTROL)
"	mov	%cr0, %rax\n"
"	and	$~0x4, %eax\n"
"	or	$0x22, %eax\n"
"	mov	%rax, %cr0\n"
"	mov	%cr4, %rax\n"
"	or	$0x40680, %eax\n"
"	mov	%rax, %cr4\n"
"	mov	%cr3, %rax\n"
"	mov	%rax, %cr3\n"
	/* KERNEL_GS_BASE through wrmsr, then swapgs, then GS_BASE through rdmsr. */
"	mov	$0xc0000102, %ecx\n"
"	mov	$0x12345000, %eax\n"
"	mov	$0xffff8000, %edx\n"
"	wrmsr\n"
"	swapgs\n"
"	mov	$0xc0000101, %ecx\n"
"	xor	%eax, %eax\n"
"	xor	%edx, %edx\n"
"	rdmsr\n"
"	cmp	$0x12345000, %eax\n"
"	jne	probe_guest_wrong\n"
"	cmp	$0xffff8000, %edx\n"
"	jne	probe_guest_wrong\n"
"	xor	%eax, %eax\n"
"	xor	%ecx, %ecx\n"
"	cpuid\n"
"	test	%eax, %eax\n"
"	jz	probe_guest_wrong\n"
"	rdtsc\n"

	/* 0x...01 added four times in SSE registers; saved, cleared, restored by XSAVE. */
	MARK(VECTOR)
"	mov	$0x00000001, %eax\n"
"	movd	%eax, %xmm0\n"
"	pshufd	$0, %xmm0, %xmm0\n"
"	movdqa	%xmm0, %xmm1\n"
"	paddd	%xmm0, %xmm1\n"
"	paddd	%xmm1, %xmm1\n"
"	movdqa	%xmm1, " K(GUEST_SCRATCH) "\n"
"	cmpl	$4, " K(GUEST_SCRATCH) "+12\n"
"	jne	probe_guest_wrong\n"
"	xor	%ecx, %ecx\n"
"	xor	%edx, %edx\n"
"	mov	%r15d, %eax\n"
"	xsetbv\n"
"	xgetbv\n"
"	cmp	%r15d, %eax\n"
"	jne	probe_guest_wrong\n"
"	mov	$" K(GUEST_XSAVE) ", %edi\n"
"	xsave	(%rdi)\n"
"	pxor	%xmm1, %xmm1\n"
"	mov	%r15d, %eax\n"
"	xrstor	(%rdi)\n"
"	movd	%xmm1, %eax\n"
"	cmp	$4, %eax\n"
"	jne	probe_guest_wrong\n"

	/* Two pages behind one address, one after the other; accessed and dirty bits. */
	MARK(PAGING)
"	mov	$" K(GUEST_WINDOW) ", %edi\n"
"	movq	$" K(GUEST_DATA) "+3, " K(GUEST_PT) "\n"
"	invlpg	(%rdi)\n"
"	movl	$0x1d, (%rdi)\n"
"	cmpl	$0x1d, " K(GUEST_DATA) "\n"
"	jne	probe_guest_wrong\n"
"	mov	" K(GUEST_PT) ", %eax\n"
"	and	$0x60, %eax\n"
"	cmp	$0x60, %eax\n"
"	jne	probe_guest_wrong\n"
"	movl	$0x2e, " K(GUEST_DATA) "+0x1000\n"
"	movq	$" K(GUEST_DATA) "+0x1003, " K(GUEST_PT) "\n"
"	invlpg	(%rdi)\n"
"	cmpl	$0x2e, (%rdi)\n"
"	jne	probe_guest_wrong\n"

	/* A breakpoint; a page fault whose handler maps the page. */
	MARK(FAULT)
"	xor	%r14d, %r14d\n"
"	int3\n"
"	cmp	$1, %r14d\n"
"	jne	probe_guest_wrong\n"
"	cmpl	$0x2e, 0x1000(%rdi)\n"
"	jne	probe_guest_wrong\n"
"	cmp	$2, %r14d\n"
"	jne	probe_guest_wrong\n"

	MARK(DEVICE)
"	mov	$" K(GUEST_MMIO) ", %edi\n"
"	mov	(%rdi), %eax\n"
"	cmp	$" K(GUEST_ANSWER) ", %eax\n"
"	jne	probe_guest_wrong\n"
"	inc	%eax\n"
"	mov	%eax, 4(%rdi)\n"
"	in	$" K(GUEST_PORT_ASK) ", %eax\n"
"	cmp	$" K(GUEST_ANSWER) ", %eax\n"
"	jne	probe_guest_wrong\n"
"	mov	$" K(GUEST_APIC) ", %edi\n"
"	mov	0x30(%rdi), %eax\n" /* its version register, APM §16.3.4: 0x10 or more */
"	test	$0xf0, %al\n"
"	jz	probe_guest_wrong\n"
	MARK(DONE)
"	hlt\n"

"probe_guest_wrong:\n"
	MARK(WRONG)
"	hlt\n"

"probe_guest_breakpoint:\n"
"	inc	%r14d\n"
"	iretq\n"

"probe_guest_page_fault:\n"
"	inc	%r14d\n"
"	movq	$" K(GUEST_DATA) "+0x1003, " K(GUEST_PT) "+8\n"
"	add	$8, %rsp\n" /* the error code */
"	iretq\n"

	/* Loads, stores, arithmetic, the stack, a branch; PROBE_GUEST_LOOP_INSNS a round. */
"	.balign	16\n"
"	.type	probe_guest_loop, @function\n"
"probe_guest_loop:\n"
"	xor	%eax, %eax\n"
"	mov	%rsi, %rcx\n"
"1:	mov	%ecx, %edx\n"
"	and	$63, %edx\n"
"	add	(%rdi,%rdx,8), %rax\n"
"	imul	$0x1e3779b1, %rax, %rax\n"
"	rol	$7, %rax\n"
"	push	%rax\n"
"	xor	%rcx, %rax\n"
"	pop	%rdx\n"
"	and	$63, %edx\n"
"	mov	%rax, (%rdi,%rdx,8)\n"
"	dec	%rcx\n"
"	jnz	1b\n"
"	ret\n"
"	.size	probe_guest_loop, . - probe_guest_loop\n"
"probe_guest_end:\n"
"	.popsection\n"
);
/* clang-format on */
