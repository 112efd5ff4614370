/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_CODEC_SNAPSHOT_H
#define MSB_CODEC_SNAPSHOT_H

/*
 * DOC: The state of a frozen machine
 *
 * Purpose
 *   A snapshot is two files: the state (this format: CPUs, interrupt controllers,
 *   devices) and the guest's memory.  snapshot_encode() and snapshot_decode() turn the
 *   first into bytes and back; vmm/state.c fills and uses it.
 *
 * Format of the state, little-endian
 *   header (SNAPSHOT_HEADER_SIZE bytes)
 *     offset  0   8 bytes  "MSBSTATE"
 *             8   u32      SNAPSHOT_VERSION
 *            12   u32      number of sections
 *            16   u64      size of the whole file
 *            24   u64      CRC-64/XZ of the whole file with these 8 bytes as zero
 *            32  32 bytes  build of the VMM (GNU build id, padded with zeros)
 *            64  12 bytes  CPU: vendor
 *            76   u32 × 3  CPU: family, model, stepping
 *            88  32 bytes  CPU: SHA-256 of its feature bits (vmm/state_cpu.c)
 *   sections, each at a multiple of 8
 *     u16 kind, u16 index (of the CPU or device, else 0), u32 bytes of payload,
 *     payload, zeros up to a multiple of 8
 *
 *   The payloads of the CPUs and interrupt controllers are structs of the kernel's KVM
 *   interface as they are: x86-64 only, whose layout the kernel keeps for ever.
 *
 * Format of the memory
 *   The guest's RAM, slot after slot, sparse; then a trailer of SNAPSHOT_TRAILER_SIZE
 *   bytes that names its state by the checksum.  It is written last: a memory file that
 *   was cut short, or that belongs to another state, has no such trailer.
 *
 * Trust boundary
 *   A state file may come from a hostile hand.  The checksum is against accidents only;
 *   every count, length and combination is checked here.  What the values mean to the
 *   CPU is checked by KVM, what they mean to a device by its load function.
 *
 * Limits
 *   SNAPSHOT_SIZE_MAX bytes; each kind of section once (per CPU, per device).
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "codec/sha256.h"

#define SNAPSHOT_MAGIC "MSBSTATE"
#define SNAPSHOT_VERSION 1u
#define SNAPSHOT_HEADER_SIZE 120u
#define SNAPSHOT_SIZE_MAX (10u << 20)
#define SNAPSHOT_CPUS_MAX 16u
#define SNAPSHOT_DEVICES_MAX 8u
#define SNAPSHOT_SLOTS_MAX 2u
#define SNAPSHOT_BUILD_SIZE 32u
#define SNAPSHOT_NAME_SIZE 32u /* of a device, with its NUL */

#define SNAPSHOT_TRAILER_MAGIC "MSBMEMRY"
#define SNAPSHOT_TRAILER_SIZE 4096u /* a page, so that the file can be mapped as a whole */

/* What a snapshot can be restored on, and nowhere else. */
struct snapshot_identity {
	uint8_t build[SNAPSHOT_BUILD_SIZE];
	char vendor[12]; /* "AuthenticAMD"; no NUL */
	uint32_t family, model, stepping;
	uint8_t features[SHA256_BYTES];
};

/* Bytes of a section; they stay the file's (decoding) or the caller's (encoding). */
struct snapshot_part {
	const uint8_t *data;
	size_t len;
};

enum snapshot_vm_part {
	SNAPSHOT_CLOCK, /* struct kvm_clock_data */
	SNAPSHOT_PIC_MASTER, /* struct kvm_pic_state */
	SNAPSHOT_PIC_SLAVE,
	SNAPSHOT_IOAPIC, /* struct kvm_ioapic_state */
	SNAPSHOT_VM_PARTS
};

enum snapshot_cpu_part {
	SNAPSHOT_CPUID, /* struct kvm_cpuid_entry2 … */
	SNAPSHOT_MP_STATE, /* struct kvm_mp_state */
	SNAPSHOT_REGS, /* struct kvm_regs */
	SNAPSHOT_SREGS, /* struct kvm_sregs */
	SNAPSHOT_XSAVE, /* struct kvm_xsave, or longer */
	SNAPSHOT_XCRS, /* struct kvm_xcrs */
	SNAPSHOT_DEBUGREGS, /* struct kvm_debugregs */
	SNAPSHOT_LAPIC, /* struct kvm_lapic_state */
	SNAPSHOT_TSC_KHZ, /* u32 */
	SNAPSHOT_MSRS, /* struct kvm_msr_entry … */
	SNAPSHOT_EVENTS, /* struct kvm_vcpu_events */
	SNAPSHOT_CPU_PARTS
};

struct snapshot_slot {
	uint64_t gpa, bytes;
};

struct snapshot_device {
	char name[SNAPSHOT_NAME_SIZE]; /* "blk.image"; NUL-padded */
	uint32_t id; /* virtio device type */
	uint32_t n_queues;
	uint64_t features; /* as offered to the driver */
	struct snapshot_part state; /* from vdev_save() */
};

struct snapshot {
	struct snapshot_identity identity;
	struct snapshot_slot slots[SNAPSHOT_SLOTS_MAX];
	unsigned n_slots;
	unsigned n_cpus, n_devices;
	struct snapshot_part vm[SNAPSHOT_VM_PARTS];
	struct snapshot_part cpus[SNAPSHOT_CPUS_MAX][SNAPSHOT_CPU_PARTS];
	struct snapshot_device devices[SNAPSHOT_DEVICES_MAX];
	uint64_t checksum; /* of the encoded form; set by encoding and decoding */
};

/**
 * snapshot_encode() - write a state file to @out, which is empty
 *
 * Sets the checksum of @s.  What snapshot_decode() would refuse is refused here as well.
 * Return: 0, or a negative errno.
 */
int snapshot_encode(struct snapshot *s, struct buf *out, struct err *e);

/**
 * snapshot_decode() - read a state file
 * @out: its parts point into @p; written on success only
 *
 * Return: 0; -EINVAL if this is no whole, undamaged state file of this version.
 */
int snapshot_decode(const uint8_t *p, size_t n, struct snapshot *out, struct err *e);

/* May @s be restored @here?  Return: 0, or -EXDEV with the reason. */
int snapshot_check_identity(const struct snapshot *s, const struct snapshot_identity *here,
			    struct err *e);

/* Bytes of the memory that @s describes, without the trailer. */
uint64_t snapshot_memory_bytes(const struct snapshot *s);

/* The trailer of the memory file of @s. */
void snapshot_trailer_encode(const struct snapshot *s, uint8_t out[SNAPSHOT_TRAILER_SIZE]);

/* Does @p (SNAPSHOT_TRAILER_SIZE bytes) end the memory file of @s?  Return: 0 or -EINVAL. */
int snapshot_trailer_check(const struct snapshot *s, const uint8_t *p, struct err *e);

/* CRC-64/XZ (ECMA-182, reflected) over @n bytes, continuing @crc; starts with 0. */
uint64_t snapshot_crc64(uint64_t crc, const uint8_t *p, size_t n);

#endif
