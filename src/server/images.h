/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_SERVER_IMAGES_H
#define MSB_SERVER_IMAGES_H

/*
 * Finding images for sandboxes that are to start.  One that is absent is put together from
 * its recipe, or pulled from its registry, by msb-image; all who wait for it share one such
 * process.  A client's word reaches public registries only, and those that registries.json has.
 *
 * Recipes are few and the server's own, so one that was begun is finished.  Names to pull are
 * as many as clients can think of: a pull ends when nobody waits for it any more, so there are
 * never more of them than sandboxes.  What came is there for the next pull.
 */

#include "base/list.h"
#include "image/store.h"
#include "sys/loop.h"

struct images {
	struct loop *loop;
	const char *home;
	const char *jail; /* of what reads archives: "full" or "reduced" */
	bool pull; /* registries are asked */
	struct list jobs;
};

struct image_job;

struct image_wait {
	struct list link;
	struct image_job *job; /* that it waits for; NULL = none */
	/* Called once; @e is NULL if the image can now be found. */
	void (*done)(struct image_wait *w, const struct err *e);
	/* What is being done meanwhile; may be NULL. */
	void (*progress)(struct image_wait *w, const char *what);
};

void images_init(struct images *im, struct loop *l, const char *home, const char *jail, bool pull);

/* Ends what is being put together. */
void images_fini(struct images *im);

/*
 * Return: 0 with *@out, to be freed with image_free(); -EINPROGRESS: it is being put
 * together, @w->done comes; or an error.
 */
int images_find(struct images *im, const char *name, struct image_wait *w, struct image **out,
		struct err *e);

/* Does not wait any more. Harmless if it does not. */
void images_forget(struct image_wait *w);

#endif
