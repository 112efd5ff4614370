/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_VMM_OPTIONS_H
#define MSB_VMM_OPTIONS_H

/*
 * The command line of msb-vmm.  It is written by src/engine/kvm.c; everything that the
 * machine uses is named in it, as a descriptor that is open already.
 */

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/log.h"

#define OPTIONS_DISKS_MAX 4u
#define OPTIONS_PORTS_MAX 6u
#define OPTIONS_SERIAL_MAX 20u /* virtio 1.2 §5.2.6.1 */
#define OPTIONS_PORT_NAME_MAX 31u

struct options_disk {
	int fd;
	bool readonly;
	char serial[OPTIONS_SERIAL_MAX + 1];
};

struct options_port {
	int fd;
	char name[OPTIONS_PORT_NAME_MAX + 1];
};

/* A descriptor that was not given is -1. */
struct options {
	const char *name, *cmdline; /* in argv */
	unsigned cpus;
	uint64_t memory_bytes;
	int kvm_fd, kernel_fd, initramfs_fd;
	struct options_disk disks[OPTIONS_DISKS_MAX];
	unsigned n_disks;
	int console_fd;
	struct options_port ports[OPTIONS_PORTS_MAX];
	unsigned n_ports;
	int net_fd;
	uint8_t net_mac[6];
	int control_fd;
	int restore_state_fd, restore_memory_fd;
	int trace_fd; /* see vmm/trace.h */
	bool seccomp_log;
	enum log_level level;
};

extern const char options_usage[];

/*
 * Return: 0; -EINVAL with the reason.  Every descriptor in *@out is open then, and what
 * belongs together is there.
 */
int options_parse(int argc, char **argv, struct options *out, struct err *e);

#endif
