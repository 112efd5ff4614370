/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_IMAGE_STORE_WRITE_H
#define MSB_IMAGE_STORE_WRITE_H

/* Changing the store: temporary files, commits, the index, removal.  See store.h. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "codec/manifest.h"
#include "image/store.h"

struct store_writer;

/* Creates the store if need be, takes its shared lock, removes what dead writers left in tmp/. */
int store_writer_open(const char *home, struct store_writer **out, struct err *e);
void store_writer_close(struct store_writer *w);

struct store *store_writer_store(struct store_writer *w);

/* A file or folder under tmp/ that goes away unless it is committed. */
struct store_temp {
	struct store_writer *w; /* NULL = nothing to clean up */
	int fd; /* read-write; of a folder: the folder */
	bool dir;
	char name[80]; /* below the store: "tmp/…" */
};

#define STORE_TEMP_INIT \
	{ \
		.w = NULL, .fd = -1 \
	}

int store_temp_file(struct store_writer *w, struct store_temp *out, struct err *e);
int store_temp_dir(struct store_writer *w, struct store_temp *out, struct err *e);
/* Absolute path of a temporary. Malloc'ed; NULL = no memory. */
char *store_temp_path(const struct store_temp *t);
void store_temp_fini(struct store_temp *t); /* removes it (with all that is in it) unless committed */

/*
 * A blob that is being fetched: a temporary under partial/, named by its digest, that
 * survives its writer unless it is removed, so that the next one goes on where that
 * stopped.  If another process has it now, an ordinary temporary.
 */
int store_partial_open(struct store_writer *w, const char digest[DIGEST_SIZE],
		       struct store_temp *out, struct err *e);
/* Leaves it there, unfinished. */
void store_partial_keep(struct store_temp *t);

/* Syncs and renames; a blob or root image that is there already is left as it is. */
int store_commit_blob(struct store_temp *t, const char digest[DIGEST_SIZE], struct err *e);
int store_commit_rootfs(struct store_temp *t, const char chain[DIGEST_SIZE], struct err *e);

/* store_commit_blob() in two steps, for many: the names of them all are synced at once. */
int store_name_blob(struct store_temp *t, const char digest[DIGEST_SIZE], struct err *e);
int store_sync_blobs(struct store_writer *w, struct err *e);

/* Writes a small blob and describes it. */
int store_put_doc(struct store_writer *w, const char *doc, const char *media_type,
		  struct descriptor *out, struct err *e);

/*
 * Gives an image its name, which an older image loses. @created: RFC 3339 or "".  @source:
 * digest of the index by which a registry knows it, or "".
 */
int store_set_name(struct store_writer *w, const struct descriptor *manifest, const char *name,
		   const char *created, const char *source, struct err *e);

/*
 * Takes the image's name away; then, unless somebody is writing to the store, removes
 * what no image needs.  @name: full name as in index.json, or a digest.  @force: also if a
 * sandbox runs it, which then keeps its root image until it ends.
 * Return: 0, -ENOENT or -EBUSY.
 */
int store_remove(struct store_writer *w, const char *name, bool force, struct err *e);

/* Removes what no image needs and what was fetched of images that never became whole. */
int store_prune(struct store_writer *w, uint64_t *bytes, struct err *e);

/*
 * What that would free now, if nobody is writing.  @all: with all images that no sandbox runs.
 * Nothing is changed.
 */
int store_prunable(const struct store *s, bool all, uint64_t *bytes, struct err *e);

/* Serialises pulls of one image in the same way; @name: its full name. */
int store_lock_pull(struct store_writer *w, const char *name, void (*waiting)(const char *),
		    int *fd, struct err *e);

/*
 * Serialises builds of one recipe: the second waits for the first.  *@fd: to be
 * closed.  @waiting (may be NULL) is called once if it has to wait.
 */
int store_lock_recipe(struct store_writer *w, const char *recipe, void (*waiting)(const char *),
		      int *fd, struct err *e);

#endif
