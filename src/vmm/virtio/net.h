/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_VMM_VIRTIO_NET_H
#define MSB_VMM_VIRTIO_NET_H

/* The guest's network card; net.c tells how it works. */

#include <stdint.h>

#include "base/err.h"

struct loop;
struct memory;
struct vdev;

#define NET_MTU 65520u /* docs/network.md */

struct net_config {
	const char *name; /* for the log: "net" */
	int fd; /* a connected stream socket to msb-net, taken over on success */
	uint8_t mac[6];
	/*
	 * The peer went away (@error 0) or failed; called once, in the I/O thread and with
	 * the device's lock held: it must not call into the device.  May be NULL.
	 */
	void (*lost)(void *arg, int error);
	void *arg;
};

/**
 * net_create() - a virtio network card whose cable is a socket
 * @m, @l: stay the machine's and outlive the device
 *
 * Return: 0 and *@out, or a negative errno with its reason.
 */
int net_create(struct vdev **out, const struct net_config *c, const struct memory *m,
	       struct loop *l, struct err *e);

#endif
