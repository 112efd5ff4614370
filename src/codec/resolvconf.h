/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_CODEC_RESOLVCONF_H
#define MSB_CODEC_RESOLVCONF_H

/* The DNS servers in the text of /etc/resolv.conf, resolv.conf(5). */

#include "codec/netaddr.h"

#define RESOLVCONF_SERVERS_MAX 3u /* libc's MAXNS */
#define RESOLVCONF_TEXT_MAX 65536u

struct resolvconf_server {
	struct netaddr addr;
	char zone[16]; /* of a link-local IPv6 address: the interface's name; else "" */
};

struct resolvconf {
	struct resolvconf_server servers[RESOLVCONF_SERVERS_MAX];
	unsigned n;
};

/* What cannot be read is passed over, as libc does; without any server it is 127.0.0.1. */
void resolvconf_parse(const char *text, size_t len, struct resolvconf *out);

#endif
