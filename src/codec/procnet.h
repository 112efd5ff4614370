/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_CODEC_PROCNET_H
#define MSB_CODEC_PROCNET_H

/* Linux's /proc/net/tcp and tcp6: does somebody listen on a port?  From a guest: any bytes. */

#include <stddef.h>
#include <stdint.h>

enum procnet_state {
	PROCNET_SHUT,
	PROCNET_LOCAL, /* on a loopback address only: nobody else gets there */
	PROCNET_OPEN,
};

/* The most that any line of @text says; lines that are none say nothing. */
enum procnet_state procnet_listens(const char *text, size_t len, uint16_t port);

#endif
