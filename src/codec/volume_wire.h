/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_CODEC_VOLUME_WIRE_H
#define MSB_CODEC_VOLUME_WIRE_H

/*
 * DOC: The volume wire
 *
 * What crosses the port `agent.fuse`: FUSE messages between the guest's kernel and the
 * file server (msb-volume), carried by the agent's pump.  All volumes share the port, so
 * each message has a header that says whose it is.  Little-endian:
 *
 *     offset 0   u32  length of the body, at most VOLUME_BODY_MAX
 *     offset 4   u16  number of the volume, below VOLUMES_MAX
 *     offset 6   u16  type, enum volume_wire_type
 *
 * The body of FUSE is one message as /dev/fuse has it (linux/fuse.h), requests towards the
 * host and replies towards the guest.  OPEN comes once for each volume, before its first
 * request: u32 uid, u32 gid, who in the guest owns what the server's own user owns.
 *
 * Neither side waits for the other to read: the pump always takes replies, because
 * /dev/fuse does, and the server takes no request while replies wait to be taken.
 */

#include <stdint.h>

#include "codec/le.h"

#define VOLUME_WIRE_HEADER 8u
#define VOLUME_WRITE_MAX (1024u * 1024) /* bytes that one WRITE or READ carries */
#define VOLUME_HEAD_MAX 8192u /* of a FUSE message without its data */
#define VOLUME_BODY_MAX (VOLUME_WRITE_MAX + VOLUME_HEAD_MAX)
#define VOLUME_OPEN_SIZE 8u

enum volume_wire_type { VOLUME_WIRE_FUSE = 0, VOLUME_WIRE_OPEN = 1 };

struct volume_wire {
	uint32_t length;
	uint16_t volume;
	uint16_t type;
};

static inline void volume_wire_put(uint8_t *p, struct volume_wire w)
{
	le_put32(p, w.length);
	le_put16(p + 4, w.volume);
	le_put16(p + 6, w.type);
}

static inline struct volume_wire volume_wire_get(const uint8_t *p)
{
	return (struct volume_wire){
		.length = le_get32(p),
		.volume = le_get16(p + 4),
		.type = le_get16(p + 6),
	};
}

#endif
