/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_VOLUME_TABLE_H
#define MSB_VOLUME_TABLE_H

/*
 * DOC: What the guest's kernel knows of a volume
 *
 * Inodes: each has a number that the guest uses, and a count of how often it was given out;
 * the guest gives the counts back (FORGET).  An inode is held by an O_PATH descriptor, so that
 * neither a rename nor a replacement on the host turns it into another one.
 *
 * Descriptors are few and inodes many.  Of those that are not in use the ones that were used
 * longest ago are closed, and opened again by parent and name when they are needed;
 * device, inode number and time of birth say whether it is still the same one, else it is
 * ESTALE, and the guest's kernel looks again.  What has lost its name is never closed.
 *
 * Handles: open files and directories.
 *
 * Numbers carry a generation, so that one that was given back is not another one's.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

#include "base/err.h"
#include "base/list.h"

#define TABLE_INODES_MAX (256u * 1024) /* of a volume */
#define TABLE_DEPTH_MAX 256u /* of directories that have to be opened again */

struct identity {
	uint32_t dev_major, dev_minor;
	uint64_t ino;
	int64_t btime_s;
	uint32_t btime_ns;
};

struct inode {
	uint64_t nodeid;
	struct identity id;
	uint64_t lookups; /* how often the guest holds it */
	unsigned children; /* inodes whose parent it is */
	unsigned pins; /* > 0: the descriptor stays open */
	bool unlinked; /* it lost a name here: its descriptor stays open for good */
	int fd; /* O_PATH, owned; -1 = closed for want of descriptors */
	uint32_t type; /* S_IFMT */
	struct inode *parent; /* where it was last seen; NULL: the root */
	char *name;
	struct inode *hash_next;
	struct list lru; /* in budget->lru while the descriptor may be closed */
	/* When it was last opened: as it was then, its pages in the guest are good. */
	struct statx_timestamp open_mtime, open_ctime;
	uint64_t open_size;
};

/* Descriptors of all volumes together. */
struct budget {
	unsigned inodes, inodes_max;
	unsigned handles, handles_max;
	struct list lru; /* struct inode, the one used longest ago first */
};

struct handle {
	int fd; /* owned; -1 = free */
	uint32_t generation;
	uint32_t next_free;
	uint32_t flags; /* O_* as the guest opened it */
	struct inode *inode; /* pinned */
	struct dirbuf *dir; /* of directories; owned */
};

struct table {
	struct budget *budget;
	struct inode **slots; /* by the lower half of nodeid */
	uint32_t *generations;
	uint32_t n_slots, cap_slots, n_inodes;
	uint32_t *free_slots;
	uint32_t n_free;
	struct inode **hash;
	struct inode *root;
	struct handle *handles;
	uint32_t n_handles, cap_handles, first_free;
};

void budget_init(struct budget *b, unsigned descriptors);

/* The root is @fd (taken), an O_PATH descriptor of a directory or a regular file. */
int table_init(struct table *t, struct budget *b, int fd, struct err *e);
void table_fini(struct table *t);

/* The inode of a number of the guest's, or NULL. */
struct inode *table_find(struct table *t, uint64_t nodeid);

/*
 * The inode that @fd (an O_PATH descriptor, taken, also on failure) is, seen as @name in
 * @parent; made if it is new, and given out once more.  Return: 0, -ENFILE, -ENOMEM.
 */
int table_look(struct table *t, struct inode *parent, const char *name, int fd,
	       const struct statx *st, struct inode **out);

/* The one that is @st, if the guest knows it; not given out. */
struct inode *table_known(struct table *t, const struct statx *st);

/* The guest gives @n back. */
void table_forget(struct table *t, struct inode *i, uint64_t n);

/* It is @name in @parent from now on. */
void table_move(struct table *t, struct inode *i, struct inode *parent, const char *name);

/* It loses a name: holds on to it.  Call it before. */
void table_unlink(struct table *t, struct inode *i);

/* Its descriptor, opened again if need be; good until the next call of table_fd(). */
int table_fd(struct table *t, struct inode *i);

/* While pinned, its descriptor stays. */
void table_pin(struct table *t, struct inode *i);
void table_unpin(struct table *t, struct inode *i);

/* Return: 0 and the handle's number; takes @fd, also on failure.  -ENFILE, -ENOMEM. */
int table_open(struct table *t, struct inode *i, int fd, uint32_t flags, uint64_t *number);
struct handle *table_handle(struct table *t, uint64_t number);
void table_close(struct table *t, struct handle *h);

#endif
