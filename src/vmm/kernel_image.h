/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_VMM_KERNEL_IMAGE_H
#define MSB_VMM_KERNEL_IMAGE_H

/*
 * Where the parts of a kernel file go: an uncompressed ELF vmlinux, or a bzImage.
 * Pure: bytes in, a plan out, every number of it checked.
 */

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

/* The first bytes of the file, which have to hold all headers. */
#define KERNEL_IMAGE_HEAD 4096u
#define KERNEL_IMAGE_SEGMENTS_MAX 16u

/* A kernel lies in [1 MiB, 1 GiB): above what boot.c writes, within its page tables. */
#define KERNEL_IMAGE_GPA_MIN (1ull << 20)
#define KERNEL_IMAGE_GPA_MAX (1ull << 30)

/* The setup header in a bzImage and in the zero page, up to the field behind it. */
#define KERNEL_IMAGE_SETUP_OFFSET 0x1f1u
#define KERNEL_IMAGE_SETUP_MAX (0x290u - KERNEL_IMAGE_SETUP_OFFSET)

/* Inside the file, inside [KERNEL_IMAGE_GPA_MIN, KERNEL_IMAGE_GPA_MAX), no two overlap. */
struct kernel_segment {
	uint64_t file_offset, file_bytes;
	uint64_t gpa;
	uint64_t memory_bytes; /* at least file_bytes; the rest is zero */
};

struct kernel_image {
	struct kernel_segment segments[KERNEL_IMAGE_SEGMENTS_MAX];
	unsigned n_segments;
	uint64_t entry; /* 64-bit entry point, inside a segment's file bytes */
	uint64_t end; /* first byte behind all that the kernel needs before it has its own
			 memory management; at most KERNEL_IMAGE_GPA_MAX */
	uint64_t initramfs_max; /* highest address that its initramfs may occupy */
	uint8_t setup[KERNEL_IMAGE_SETUP_MAX];
	size_t setup_bytes; /* 0: an ELF file, which has none */
};

/**
 * kernel_image_parse() - understand a kernel file
 * @head, @head_bytes: its first KERNEL_IMAGE_HEAD bytes, or all if it is smaller
 * @file_bytes:        its size
 *
 * Return: 0; -ENOEXEC with the reason if it is not a kernel that can be started.
 */
int kernel_image_parse(const uint8_t *head, size_t head_bytes, uint64_t file_bytes,
		       struct kernel_image *out, struct err *e);

#endif
