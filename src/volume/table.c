/* SPDX-License-Identifier: Apache-2.0 */
#include "volume/table.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "volume/dirbuf.h"
#include "volume/host.h"

#define TABLE_BUCKETS 16384u
#define TABLE_NO_FREE UINT32_MAX

void budget_init(struct budget *b, unsigned descriptors)
{
	*b = (struct budget){ 0 };
	b->handles_max = descriptors / 2;
	b->inodes_max = descriptors - b->handles_max;
	list_init(&b->lru);
}

static struct identity table_identity(const struct statx *st)
{
	return (struct identity){
		.dev_major = st->stx_dev_major,
		.dev_minor = st->stx_dev_minor,
		.ino = st->stx_ino,
		/* Zeros where a file system knows none. */
		.btime_s = st->stx_mask & STATX_BTIME ? st->stx_btime.tv_sec : 0,
		.btime_ns = st->stx_mask & STATX_BTIME ? st->stx_btime.tv_nsec : 0,
	};
}

static bool table_same(const struct identity *a, const struct identity *b)
{
	return a->ino == b->ino && a->dev_major == b->dev_major && a->dev_minor == b->dev_minor &&
	       a->btime_s == b->btime_s && a->btime_ns == b->btime_ns;
}

static struct inode **table_bucket(struct table *t, const struct identity *id)
{
	uint64_t h = (id->ino ^ (uint64_t)id->dev_minor << 40) * 0x9e3779b97f4a7c15u;

	return &t->hash[(h >> 32) % TABLE_BUCKETS];
}

/* ---- descriptors of inodes -------------------------------------------- */

static void table_evict(struct budget *b, struct inode *i)
{
	list_remove(&i->lru);
	close_fd(&i->fd);
	b->inodes--;
}

/* Room for one more descriptor. Return: 0 or -ENFILE. */
static int table_make_room(struct budget *b)
{
	if (b->inodes < b->inodes_max)
		return 0;
	if (list_empty(&b->lru))
		return -ENFILE;
	table_evict(b, list_entry(b->lru.next, struct inode, lru));
	return 0;
}

/* It was used just now. */
static void table_touch(struct table *t, struct inode *i)
{
	list_remove(&i->lru);
	if (i->fd >= 0 && !i->pins && !i->unlinked && i->parent)
		list_append(&t->budget->lru, &i->lru);
}

void table_pin(struct table *t, struct inode *i)
{
	i->pins++;
	table_touch(t, i);
}

void table_unpin(struct table *t, struct inode *i)
{
	i->pins--;
	table_touch(t, i);
}

static int table_reopen(struct table *t, struct inode *i)
{
	struct identity id;
	struct statx st;
	int fd, rc;

	rc = table_make_room(t->budget);
	if (rc)
		return rc;
	if (i->parent->fd < 0) /* there was but one that could be closed, this one */
		return -ENFILE;
	fd = host_open_entry(i->parent->fd, i->name);
	if (fd < 0)
		return fd == -ENOENT || fd == -ENOTDIR || fd == -ELOOP ? -ESTALE : fd;
	rc = host_stat(fd, &st);
	id = table_identity(&st);
	if (rc || !table_same(&id, &i->id)) {
		close(fd);
		return rc ? rc : -ESTALE;
	}
	i->fd = fd;
	t->budget->inodes++;
	return 0;
}

int table_fd(struct table *t, struct inode *i)
{
	struct inode *path[TABLE_DEPTH_MAX];
	unsigned depth = 0;
	int rc = 0;

	for (struct inode *up = i; up->fd < 0; up = up->parent) {
		if (depth == TABLE_DEPTH_MAX)
			return -ESTALE;
		path[depth++] = up;
	}
	while (depth && !rc) {
		struct inode *next = path[--depth];

		/* The one before is still open: it was used last, and is evicted last. */
		rc = table_reopen(t, next);
		if (!rc)
			table_touch(t, next);
	}
	if (rc)
		return rc;
	table_touch(t, i);
	return i->fd;
}

/* ---- inodes ------------------------------------------------------------ */

static int table_grow_slots(struct table *t)
{
	uint32_t cap = t->cap_slots ? t->cap_slots * 2 : 1024;
	struct inode **slots;
	uint32_t *g, *f;

	slots = reallocarray(t->slots, cap, sizeof(*slots));
	if (slots)
		t->slots = slots;
	g = reallocarray(t->generations, cap, sizeof(*g));
	if (g)
		t->generations = g;
	f = reallocarray(t->free_slots, cap, sizeof(*f));
	if (f)
		t->free_slots = f;
	if (!slots || !g || !f)
		return -ENOMEM;
	memset(slots + t->cap_slots, 0, (cap - t->cap_slots) * sizeof(*slots));
	memset(g + t->cap_slots, 0, (cap - t->cap_slots) * sizeof(*g));
	t->cap_slots = cap;
	return 0;
}

static int table_new_slot(struct table *t, uint32_t *out)
{
	if (t->n_free) {
		*out = t->free_slots[--t->n_free];
		return 0;
	}
	if (t->n_slots == t->cap_slots && table_grow_slots(t))
		return -ENOMEM;
	*out = t->n_slots++;
	return 0;
}

/* Takes @fd on success. */
static int table_new(struct table *t, struct inode *parent, const char *name, int fd,
		     const struct statx *st, struct inode **out)
{
	auto_free struct inode *i = calloc(1, sizeof(*i));
	auto_free char *copy = name ? strdup(name) : NULL;
	struct inode **bucket;
	uint32_t slot;

	if (t->n_inodes >= TABLE_INODES_MAX)
		return -ENFILE;
	if (!i || (name && !copy) || table_new_slot(t, &slot))
		return -ENOMEM;
	i->id = table_identity(st);
	i->type = st->stx_mode & S_IFMT;
	/* Slot 0 is the root's, whose number is FUSE_ROOT_ID. */
	i->nodeid = ((uint64_t)t->generations[slot] << 32 | slot) + 1;
	i->fd = fd;
	i->parent = parent;
	if (parent)
		parent->children++;
	i->name = take_ptr(&copy);
	list_init(&i->lru);
	t->slots[slot] = i;
	bucket = table_bucket(t, &i->id);
	i->hash_next = *bucket;
	*bucket = i;
	t->n_inodes++;
	t->budget->inodes++;
	*out = take_ptr(&i);
	return 0;
}

static void table_free(struct table *t, struct inode *i)
{
	uint32_t slot = (uint32_t)(i->nodeid - 1);

	for (struct inode **p = table_bucket(t, &i->id); *p; p = &(*p)->hash_next)
		if (*p == i) {
			*p = i->hash_next;
			break;
		}
	list_remove(&i->lru);
	if (i->fd >= 0) {
		close_fd(&i->fd);
		t->budget->inodes--;
	}
	t->slots[slot] = NULL;
	t->generations[slot]++;
	t->free_slots[t->n_free++] = slot;
	t->n_inodes--;
	free(i->name);
	free(i);
}

/* Frees it, and the parents that nobody else holds, if nobody holds it. */
static void table_put(struct table *t, struct inode *i)
{
	while (i->parent && !i->lookups && !i->children && !i->pins) {
		struct inode *parent = i->parent;

		table_free(t, i);
		parent->children--;
		i = parent;
	}
}

struct inode *table_find(struct table *t, uint64_t nodeid)
{
	uint32_t slot = (uint32_t)(nodeid - 1);
	struct inode *i = nodeid && slot < t->n_slots ? t->slots[slot] : NULL;

	return i && i->nodeid == nodeid && (i->lookups || !i->parent) ? i : NULL;
}

struct inode *table_known(struct table *t, const struct statx *st)
{
	struct identity id = table_identity(st);

	for (struct inode *i = *table_bucket(t, &id); i; i = i->hash_next)
		if (table_same(&i->id, &id) && i->type == (st->stx_mode & S_IFMT))
			return i;
	return NULL;
}

void table_move(struct table *t, struct inode *i, struct inode *parent, const char *name)
{
	struct inode *old = i->parent;
	char *copy;

	if (!old || (old == parent && !strcmp(i->name, name)))
		return;
	/* No memory: it stays where it was, and may become ESTALE. */
	copy = strdup(name);
	if (!copy)
		return;
	free(i->name);
	i->name = copy;
	i->parent = parent;
	parent->children++;
	old->children--;
	table_put(t, old);
}

/* A mount of the host's can put a directory into one of its own descendants. */
static bool table_above(const struct inode *i, const struct inode *below)
{
	for (; below; below = below->parent)
		if (below == i)
			return true;
	return false;
}

int table_look(struct table *t, struct inode *parent, const char *name, int fd,
	       const struct statx *st, struct inode **out)
{
	struct inode *i = table_known(t, st);
	auto_close int own = fd;
	int rc;

	if (i) {
		if (!table_above(i, parent))
			table_move(t, i, parent, name);
		if (i->fd < 0 && !table_make_room(t->budget)) {
			i->fd = take_fd(&own);
			t->budget->inodes++;
		}
	} else {
		rc = table_make_room(t->budget);
		if (!rc)
			rc = table_new(t, parent, name, own, st, &i);
		if (rc)
			return rc;
		take_fd(&own);
	}
	i->lookups++;
	table_touch(t, i);
	*out = i;
	return 0;
}

void table_forget(struct table *t, struct inode *i, uint64_t n)
{
	i->lookups -= n < i->lookups ? n : i->lookups;
	table_put(t, i);
}

void table_unlink(struct table *t, struct inode *i)
{
	if (table_fd(t, i) < 0)
		return;
	i->unlinked = true;
	table_touch(t, i);
}

int table_init(struct table *t, struct budget *b, int fd, struct err *e)
{
	auto_close int own = fd;
	struct statx st;
	int rc;

	*t = (struct table){ .budget = b, .first_free = TABLE_NO_FREE };
	t->hash = calloc(TABLE_BUCKETS, sizeof(*t->hash));
	rc = host_stat(own, &st);
	if (!t->hash || rc)
		return err_errno(e, rc ? -rc : ENOMEM, "the volume's root");
	rc = table_new(t, NULL, NULL, own, &st, &t->root);
	if (rc)
		return err_errno(e, -rc, "the volume's root");
	take_fd(&own);
	return 0;
}

void table_fini(struct table *t)
{
	for (uint32_t i = 0; i < t->n_handles; i++)
		if (t->handles[i].fd >= 0)
			table_close(t, &t->handles[i]);
	for (uint32_t i = 0; i < t->n_slots; i++)
		if (t->slots[i])
			table_free(t, t->slots[i]);
	free(t->slots);
	free(t->generations);
	free(t->free_slots);
	free(t->hash);
	free(t->handles);
	*t = (struct table){ .budget = t->budget };
}

/* ---- handles ------------------------------------------------------------- */

int table_open(struct table *t, struct inode *i, int fd, uint32_t flags, uint64_t *number)
{
	auto_close int own = fd;
	struct handle *h;

	if (t->budget->handles >= t->budget->handles_max)
		return -ENFILE;
	if (t->first_free != TABLE_NO_FREE) {
		h = &t->handles[t->first_free];
		t->first_free = h->next_free;
	} else {
		if (t->n_handles == t->cap_handles) {
			uint32_t cap = t->cap_handles ? t->cap_handles * 2 : 64;

			h = reallocarray(t->handles, cap, sizeof(*h));
			if (!h)
				return -ENOMEM;
			t->handles = h;
			t->cap_handles = cap;
		}
		h = &t->handles[t->n_handles++];
		h->generation = 0;
	}
	h->fd = take_fd(&own);
	h->flags = flags;
	h->inode = i;
	h->dir = NULL;
	table_pin(t, i);
	t->budget->handles++;
	*number = (uint64_t)h->generation << 32 | (uint64_t)(h - t->handles);
	return 0;
}

struct handle *table_handle(struct table *t, uint64_t number)
{
	uint32_t at = (uint32_t)number;

	if (at >= t->n_handles || t->handles[at].fd < 0 || t->handles[at].generation != number >> 32)
		return NULL;
	return &t->handles[at];
}

void table_close(struct table *t, struct handle *h)
{
	struct inode *i = h->inode;

	close_fd(&h->fd);
	dirbuf_free(h->dir);
	h->dir = NULL;
	h->inode = NULL;
	h->generation++;
	h->next_free = t->first_free;
	t->first_free = (uint32_t)(h - t->handles);
	t->budget->handles--;
	table_unpin(t, i);
	table_put(t, i);
}
