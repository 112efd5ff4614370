/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_CODEC_HTTPSUB_H
#define MSB_CODEC_HTTPSUB_H

/*
 * The guest's half of a plain HTTP/1 connection to a host that has secrets: placeholders in
 * the fields of request heads become values.  See httpsub.c for what is read how.
 *
 * Pure: bytes in, bytes out.
 */

#include "codec/secret.h"

#define HTTPSUB_HEAD_MAX (64u * 1024u) /* of a request, as it came */
#define HTTPSUB_HEAD_OUT_MAX (256u * 1024u) /* with the values in it */
#define HTTPSUB_FIELDS_MAX 256u
#define HTTPSUB_CHUNK_LINE_MAX 256u
#define HTTPSUB_TRAILER_MAX (16u * 1024u)

enum httpsub_state {
	HTTPSUB_HEAD,
	HTTPSUB_BODY, /* left bytes of it are to come */
	HTTPSUB_CHUNK_SIZE, /* a line */
	HTTPSUB_CHUNK, /* left bytes, and the CR LF behind them */
	HTTPSUB_TRAILER, /* lines, up to an empty one */
	HTTPSUB_OPAQUE, /* no HTTP/1, or no more: everything passes as it is */
};

struct httpsub {
	/* Of the owner; not owned. */
	const struct secret *secrets;
	uint32_t mask; /* those that this connection may get, a bit each */
	uint16_t port; /* of the host */

	enum httpsub_state state;
	struct buf head; /* what there is of a head, or of a line of a chunked body */
	size_t line; /* where its last line begins */
	uint64_t left; /* bytes of a body or chunk */
	size_t trailer; /* bytes of it so far */
	uint64_t requests; /* whose heads have passed */
	uint32_t used; /* secrets that were put in */
};

void httpsub_init(struct httpsub *h, const struct secret *secrets, uint32_t mask, uint16_t port);

/* Wipes and frees. */
void httpsub_fini(struct httpsub *h);

/**
 * httpsub_feed() - the next bytes of the guest
 * @out: what the host gets is appended; at most @n and HTTPSUB_HEAD_OUT_MAX for each head more
 *
 * Takes all of them.  Return: 0; -EPROTO with the reason: where the request ends is not
 * certain, so that nothing more may be sent and the connection has to end; -ENOMEM.
 */
int httpsub_feed(struct httpsub *h, const uint8_t *p, size_t n, struct buf *out, struct err *e);

/* The guest has said all: what it began and did not end is passed on as it is. */
int httpsub_finish(struct httpsub *h, struct buf *out);

#endif
