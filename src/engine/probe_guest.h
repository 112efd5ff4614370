/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_ENGINE_PROBE_GUEST_H
#define MSB_ENGINE_PROBE_GUEST_H

/*
 * The guest that tries out /dev/kvm (probe_vm.c): a page of machine code, run in ring 0
 * of long mode, and the memory that it expects.  One page = 4096 bytes, one slot at 0.
 *
 * The constants are also the assembler's, so they are plain numbers.
 */

/* Guest physical = guest virtual addresses, by 2 MiB pages, unless told otherwise. */
#define PROBE_GUEST_BYTES 0x10000
#define PROBE_GUEST_PML4 0x1000
#define PROBE_GUEST_PDPT 0x2000
#define PROBE_GUEST_PD 0x3000 /* [0, 1 GiB): 2 MiB of RAM, and the page table below */
#define PROBE_GUEST_PD_HIGH 0x4000 /* [3 GiB, 4 GiB): devices */
#define PROBE_GUEST_PT 0x5000 /* of PROBE_GUEST_WINDOW; empty, the guest fills it */
#define PROBE_GUEST_GDT 0x6000
#define PROBE_GUEST_IDT 0x6800
#define PROBE_GUEST_STACK 0x8000 /* its top; one page */
#define PROBE_GUEST_DATA 0x8000 /* two pages to map into the window */
#define PROBE_GUEST_SCRATCH 0xa000
#define PROBE_GUEST_XSAVE 0xb000
#define PROBE_GUEST_CODE 0xc000
#define PROBE_GUEST_CODE_MAX 0x4000

#define PROBE_GUEST_WINDOW 0x200000
#define PROBE_GUEST_MMIO 0xd0000000 /* nothing there: an exit to us */
#define PROBE_GUEST_APIC 0xfee00000 /* the in-kernel interrupt controller */

#define PROBE_GUEST_CS 0x08
#define PROBE_GUEST_DS 0x10

/* Ports: the guest tells where it is; its checksum; a question that we answer. */
#define PROBE_GUEST_PORT_MARK 0x10
#define PROBE_GUEST_PORT_SUM 0x14
#define PROBE_GUEST_PORT_ASK 0x18

/* What we answer at PROBE_GUEST_PORT_ASK and PROBE_GUEST_MMIO; it writes back one more. */
#define PROBE_GUEST_ANSWER 0x5a17c0de

/* Marks, each sent before the thing is done. */
#define PROBE_MARK_IDLE 1 /* nothing until the next mark: the price of an exit */
#define PROBE_MARK_LOOP 2 /* the timed loop */
#define PROBE_MARK_LOOP_END 3
#define PROBE_MARK_CONTROL 4 /* control registers, MSRs, CPUID */
#define PROBE_MARK_VECTOR 5 /* SSE, XSAVE */
#define PROBE_MARK_PAGING 6 /* page tables, invlpg */
#define PROBE_MARK_FAULT 7 /* exceptions, iretq */
#define PROBE_MARK_DEVICE 8 /* port and memory-mapped I/O, the local APIC */
#define PROBE_MARK_DONE 9
#define PROBE_MARK_WRONG 10 /* something gave a wrong result */

/* The loop runs this often, this many rounds each; instructions a round. */
#define PROBE_GUEST_LOOPS 3
#define PROBE_GUEST_ROUNDS 150
#define PROBE_GUEST_LOOP_INSNS 12

#ifndef __ASSEMBLER__
#include <stdint.h>

/* [start, end) is copied to PROBE_GUEST_CODE; entered at its first byte. */
extern const uint8_t probe_guest_start[], probe_guest_end[];
extern const uint8_t probe_guest_breakpoint[], probe_guest_page_fault[]; /* handlers */

/**
 * probe_guest_loop() - the timed loop, also to be called by the host: the same bytes
 * @words:  64 words of memory, which it changes
 * @rounds: at least 1
 *
 * Return: a checksum.
 */
uint64_t probe_guest_loop(uint64_t *words, uint64_t rounds);
#endif

#endif
