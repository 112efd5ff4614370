/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_VOLUME_DIRBUF_H
#define MSB_VOLUME_DIRBUF_H

/* Reading a directory, entry by entry, from where the guest says. */

#include <stdint.h>

struct dirbuf;

struct dirbuf_entry {
	uint64_t ino;
	uint64_t next; /* the position behind it */
	uint8_t type; /* DT_* */
	const char *name; /* until the next call */
};

/* The entry at position @at. Return: 1; 0 = the end; or a negative errno. */
int dirbuf_read(struct dirbuf **b, int fd, uint64_t at, struct dirbuf_entry *out);

/* The entry that was read last is to be read again. */
void dirbuf_unread(struct dirbuf *b);

void dirbuf_free(struct dirbuf *b);

#endif
