/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_AGENT_BOOT_H
#define MSB_AGENT_BOOT_H

/*
 * What only the init of a virtual machine does: mounts, ports, names, network, power.
 * Nothing here runs in the unit tests; it is tried in a machine.
 */

#include "agent/agent.h"

/* boot.c: first of all: the kernel's file systems, descriptors 0 to 2, settings. */
int boot_early(struct err *e);
/* boot.c: the descriptors of @a, after agent_init(). */
int boot_open(struct agent *a, struct err *e);

/* boot.c: struct agent_platform */
int boot_seed(uint64_t realtime_ns, const uint8_t *entropy, size_t n, struct err *e);
int boot_set_clock(uint64_t realtime_ns, struct err *e);
int boot_configure(struct agent *a, const struct frame_configure *c, struct err *e);

/* Writes @text to a file of the kernel's. Return: 0, or a negative errno. */
int boot_write_file(const char *path, const char *text);

/* ports.c: opens the agent's ports as they appear, and serves them. */
int ports_start(struct agent *a, struct err *e);

/* root.c: the virtio-blk disk with this serial, as a path in /dev. */
int root_find_disk(const char *serial, char *dev, size_t size, struct err *e);
/* root.c: image and upper become the root directory. */
int root_mount(struct agent *a, const struct frame_configure *c, struct err *e);
/*
 * root.c: back to the initramfs, so that nothing of this process holds the overlay.
 * Return: a descriptor of the overlay's root for root_unmount(), or -1: not mounted.
 */
int root_leave(void);
/* root.c: writes back and unmounts.  In a child: a volume's server may hang. */
void root_unmount(int overlay_fd);

/* etc.c: hostname, hosts and resolv.conf in the tree at @root_fd. */
int etc_write(int root_fd, const struct frame_configure *c, struct err *e);

/* net.c: lo and eth0. */
int net_configure(const struct frame_configure *c, struct err *e);

/* power.c: the end of the machine. */
void power_shutdown(struct agent *a, uint32_t grace_ms);
void power_reboot(void) __attribute__((noreturn));

#endif
