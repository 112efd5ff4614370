/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_CODEC_PUBLISH_H
#define MSB_CODEC_PUBLISH_H

/*
 * Published ports as people write them:
 *
 *	[ADDRESS:]HOST:GUEST[/tcp|/udp]	host port or range, guest port or range
 *	PORT[/tcp|/udp]			the same port, or range, on both sides
 *
 * ADDRESS is IPv4, or IPv6 in brackets; without one it is 127.0.0.1.  A host port of 0 lets
 * the kernel choose one.  Ranges (8000-8010) have to be of the same length on both sides.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define PUBLISH_MAX 128u /* ports of a sandbox, each of a range counted */

/* "[IPv6]:65535:65535/udp" */
#define PUBLISH_TEXT_MAX 72u

struct publish {
	bool ipv6, udp;
	uint8_t addr[16]; /* in network order; IPv4: the first 4 bytes, the others 0 */
	uint16_t host; /* 0 = not chosen yet */
	uint16_t guest;
};

struct publish_list {
	size_t n;
	struct publish v[PUBLISH_MAX];
};

/**
 * publish_add() - read one text and add what it asks for, each port of a range by itself
 *
 * Return: 0; -EINVAL: not of the form, or there already; -E2BIG: more than PUBLISH_MAX ports.
 * After a failure the list is as it was.
 */
int publish_add(struct publish_list *l, const char *text, struct err *e);

/* The canonical text: address, both ports and the protocol; publish_add() reads it again. */
void publish_format(const struct publish *p, char text[PUBLISH_TEXT_MAX]);

/* The address alone, as in a URL: IPv6 in brackets. */
void publish_format_addr(const struct publish *p, char text[PUBLISH_TEXT_MAX]);

/* Does only this machine reach it? */
bool publish_is_local(const struct publish *p);

#endif
