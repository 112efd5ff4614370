/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_IMAGE_FETCH_H
#define MSB_IMAGE_FETCH_H

/* msb-image's side of msb-fetch (codec/fetch_wire.h). */

#include "base/err.h"
#include "codec/fetch_wire.h"
#include "sys/child.h"

struct fetch {
	struct child child;
	int sock; /* readable: fetch_next() */
};

#define FETCH_INIT \
	{ \
		.child = CHILD_INIT, .sock = -1 \
	}

/* Starts msb-fetch in its jail. @ca: PEM certificates, or NULL. */
int fetch_start(const struct fetch_setup *setup, const char *ca, struct fetch *out, struct err *e);
void fetch_stop(struct fetch *f); /* harmless on FETCH_INIT */

/* Sends a request. *@body: the readable end of the pipe for its answer; the caller closes it. */
int fetch_send(struct fetch *f, const struct fetch_request *r, int *body, struct err *e);

/* The next event, waiting for it; its texts are printable. */
int fetch_next(struct fetch *f, struct fetch_event *ev, struct err *e);

/*
 * fetch_doc() - a small document, while nothing else is asked for
 * @kind:   FETCH_MANIFEST, FETCH_HEAD, FETCH_BLOB or FETCH_PING
 * @note:   gets what msb-fetch says of further tries; may be NULL
 * @out:    malloc'ed, NUL-terminated; may be NULL if it is not wanted
 * @done:   head of the answer
 */
int fetch_doc(struct fetch *f, enum fetch_kind kind, const char *what, uint64_t size,
	      void (*note)(const char *text), char **out, size_t *len, struct fetch_event *done,
	      struct err *e);

#endif
