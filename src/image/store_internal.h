/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_IMAGE_STORE_INTERNAL_H
#define MSB_IMAGE_STORE_INTERNAL_H

#include "image/store.h"

struct store {
	char *path; /* absolute, of the images folder */
	int dir; /* of it; -1 = there is no store yet */
};

/* Reads a file of at most MANIFEST_DOC_MAX bytes. -ENOENT sets no error. *@out is malloc'ed. */
int store_read_doc(const struct store *s, const char *name, char **out, size_t *len, struct err *e);

/* index.json; an empty one if there is none. */
int store_read_index(const struct store *s, struct index *out, struct err *e);

/* "blobs/sha256/<hex>" of a valid digest. */
#define STORE_BLOB_PATH_MAX 96
void store_blob_path(const char *digest, char to[STORE_BLOB_PATH_MAX]);

/* A blob's content, its size checked against the descriptor. */
int store_read_blob(const struct store *s, const struct descriptor *d, char **out, size_t *len,
		    struct err *e);

/* The name that OCI has for this machine's architecture. */
const char *store_arch(void);

/* Where the root image of these layers is. Malloc'ed; NULL = no memory. */
char *store_rootfs_path(const struct store *s, const struct image_config *c);

/* Is the blob there, with its size? */
bool store_has_blob(const struct store *s, const struct descriptor *d);

/* Fills in the size of a blob of which only the digest is known. */
int store_describe(const struct store *s, struct descriptor *d, struct err *e);

/* The manifest and configuration of an index entry; of an index, our platform's manifest. */
int store_load(const struct store *s, const struct descriptor *d, struct descriptor *found,
	       struct manifest *m, struct image_config *c, struct err *e);

#endif
