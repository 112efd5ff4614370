/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_VOLUME_QUOTA_H
#define MSB_VOLUME_QUOTA_H

/*
 * DOC: The quota of a named volume
 *
 * No quota of the host's file system is needed: what the files take is counted when the server
 * starts, and kept up to date with each request.  What several sandboxes, or the host, write
 * to one volume at the same time is counted when the next server starts.  A file without a
 * name counts until the guest has forgotten it.
 */

#include "volume/share.h"

/* Counts what is there. */
int quota_scan(struct share *s, struct err *e);

/* The guest gives @n of its counts back; what is freed by it is free for others. */
void quota_forget(struct share *s, struct inode *i, uint64_t n);

/* @i (NULL: the guest does not know it) with @st loses a name; before. */
void quota_unlink(struct share *s, struct inode *i, const struct statx *st);

/* A handle of @i is about to be closed. */
void quota_close(struct share *s, struct inode *i);

#endif
