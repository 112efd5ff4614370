/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_CODEC_FETCH_WIRE_H
#define MSB_CODEC_FETCH_WIRE_H

/*
 * What msb-image and msb-fetch say to each other: whole structs, one a message, over a
 * SOCK_SEQPACKET pair.  Both are of the same build.
 *
 *   msb-image   struct fetch_setup once, then a struct fetch_request for each GET, which
 *               carries the writing end of a pipe for the answer's body
 *   msb-fetch   struct fetch_event: NOTE when it has to try again, at last DONE or FAILED
 *
 * Trust boundary.  msb-fetch reads what the network sends; msb-image believes none of it:
 * texts are made printable, bytes count once their digest is the one that was asked for.
 */

#include <stdbool.h>
#include <stdint.h>

#include "codec/authfile.h"
#include "codec/reference.h"
#include "codec/registries.h"

#define FETCH_FD_SOCKET 3
#define FETCH_FD_CA 4 /* PEM certificates to trust beside the system's; empty = none */

#define FETCH_ENDPOINTS_MAX (REGISTRY_MIRRORS_MAX + 1)
#define FETCH_WORKERS_MAX 16u
#define FETCH_TEXT_MAX 512u

struct fetch_endpoint {
	char url[REGISTRY_URL_MAX]; /* "https://host:port" */
	bool plain; /* if nobody speaks TLS there, HTTP will do */
	bool unverified; /* certificates are not looked at */
	bool public; /* private, loopback and link-local addresses are not connected to */
	struct credential credential; /* secret "" = none */
};

struct fetch_setup {
	struct fetch_endpoint endpoints[FETCH_ENDPOINTS_MAX]; /* tried in order */
	uint32_t n_endpoints;
	uint32_t workers; /* requests at a time */
	uint32_t retries; /* in a row without a byte */
	uint32_t stall_s; /* a connection that is silent for so long is given up */
	char path[sizeof(((struct reference *)0)->path)]; /* repository, for the token's scope */
};

enum fetch_kind {
	FETCH_MANIFEST = 1, /* path: …/manifests/REF: any of the media types that we know */
	FETCH_HEAD, /* the same, without its body */
	FETCH_BLOB, /* path: …/blobs/DIGEST; begins at @offset */
	FETCH_PING, /* /v2/: is there a registry, and are the credentials good? */
};

struct fetch_request {
	uint32_t kind, id;
	uint64_t offset; /* bytes that are there already */
	uint64_t size; /* of the whole; an answer of another length is refused; 0 = unknown */
	uint64_t max; /* bytes of the whole that are taken at most */
	char what[DIGEST_SIZE + 128]; /* tag or digest */
};

enum fetch_event_kind { FETCH_EV_NOTE = 1, FETCH_EV_DONE, FETCH_EV_FAILED };

struct fetch_event {
	uint32_t kind, id;
	uint32_t code; /* FAILED: positive errno; see below */
	char media_type[128], digest[DIGEST_SIZE]; /* DONE: of the head; "" = not given */
	char text[FETCH_TEXT_MAX]; /* NOTE, FAILED */
};

/*
 * FAILED codes that mean something of their own: ENOENT the registry has no such thing;
 * EACCES it wants (other) credentials; EHOSTUNREACH no registry answers; EPROTO answers that
 * make no sense; EAGAIN it went on failing in a way that may pass.
 */

#endif
