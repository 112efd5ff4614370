/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_VMM_VIRTIO_CONSOLE_H
#define MSB_VMM_VIRTIO_CONSOLE_H

/* The guest's console and its named byte streams; console.c tells how they work. */

#include "base/err.h"

struct loop;
struct memory;
struct vdev;

#define CONSOLE_PORTS_MAX 7u /* two queues each, and two for control */
#define CONSOLE_NAME_MAX 31u

struct console_port_config {
	int fd; /* a connected stream socket, taken over on success; -1 = nobody there */
	const char *name; /* by which the guest finds it: 1 to CONSOLE_NAME_MAX bytes */
};

struct console_config {
	const char *name; /* for the log: "console" */
	unsigned n_ports; /* 1 … CONSOLE_PORTS_MAX */
	/* Port 0 is hvc0, its output is never waited for; it may have no name (NULL). */
	struct console_port_config ports[CONSOLE_PORTS_MAX];
};

/**
 * console_create() - a virtio console with one port per socket
 * @m, @l: stay the machine's and outlive the device
 *
 * Return: 0 and *@out, or a negative errno with its reason.
 */
int console_create(struct vdev **out, const struct console_config *c, const struct memory *m,
		   struct loop *l, struct err *e);

#endif
