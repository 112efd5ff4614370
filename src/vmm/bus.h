/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_VMM_BUS_H
#define MSB_VMM_BUS_H

/*
 * Who answers where: the guest's I/O ports and the addresses that are not RAM.
 *
 *   0xd0000000 + i * 0x1000   registers of virtio-mmio device i
 *   port 0x64                 the keyboard controller, of which only the reset line
 *                             exists: writing 0xfe to it resets the machine
 *
 * Interrupt controllers are KVM's.  Nothing else is there: reads give all ones,
 * writes go nowhere, as on a bus without the device.
 */

#include <stdbool.h>
#include <stdint.h>

#include "vmm/vm.h"

/* A read or write by the guest of @len bytes (1 to 8) at an address that is not RAM. */
void bus_mmio(struct vm *vm, uint64_t gpa, uint8_t *data, uint32_t len, bool write);

/**
 * bus_pio() - @count accesses (a string instruction's) of @size bytes each to @port
 * @data: @count * @size bytes
 *
 * Return: false if the machine has been ended by it.
 */
bool bus_pio(struct vm *vm, uint16_t port, uint8_t *data, uint32_t size, uint32_t count, bool write);

#endif
