/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_IMAGE_STORE_WRITE_INTERNAL_H
#define MSB_IMAGE_STORE_WRITE_INTERNAL_H

#include "image/store_internal.h"
#include "image/store_write.h"

struct store_writer {
	struct store *store;
	int lock; /* shared */
	unsigned temps;
	bool replaced; /* an image lost its name to another: its files may be garbage */
};

/* An unfinished blob that nobody has touched for so long is given up. */
#define STORE_PARTIAL_DAYS 7

/* Sets an error of errno: "<what> in the image store …". */
int store_fail(const struct store_writer *w, struct err *e, const char *what);

/* flock() that a signal does not end. */
int store_flock(int fd, int op);

/* The lock of index.json; *@out is to be closed. */
int store_lock_index(struct store_writer *w, int *out, struct err *e);
int store_write_index(struct store_writer *w, const struct index *x, struct err *e);
void store_drop_entry(struct index *x, size_t i);

/* Removes unfinished blobs that nobody has now and nobody touched for @age_s seconds. */
uint64_t store_clean_partials(struct store_writer *w, int64_t age_s);

/* Removes what no image needs, unless somebody is writing. *@bytes: what that freed. */
void store_collect(struct store_writer *w, uint64_t *bytes);

#endif
