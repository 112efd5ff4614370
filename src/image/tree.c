/* SPDX-License-Identifier: Apache-2.0 */
#include "image/tree.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>

#include "base/checked.h"
#include "base/mem.h"

#define WHITEOUT ".wh."
#define WHITEOUT_LEN 4u
#define WHITEOUT_META ".wh..wh." /* names that a layered file system keeps for itself */
#define WHITEOUT_OPAQUE ".wh..wh..opq"
#define LINK_HOPS_MAX 40u
#define WORK_MAX (2u * TREE_PATH_MAX)

struct tree {
	struct tree_node *nodes;
	struct tree_inode *inodes;
	char *arena;
	uint32_t n_nodes, cap_nodes, n_inodes, cap_inodes, max_entries;
	uint64_t arena_len, arena_cap, arena_max;
	uint32_t *buckets; /* node index; power of two many */
	uint32_t n_buckets;
	uint64_t key; /* names are hostile: nobody may choose colliding ones */
	uint16_t layer; /* current; the first is 1, the root before it is of 0 */
};

const char *tree_quote(char *to, size_t size, const char *name, size_t len)
{
	size_t n = 0;

	for (size_t i = 0; i < len && n + 4 < size; i++) {
		unsigned char c = (unsigned char)name[i];

		to[n++] = c < 0x20 || c == 0x7f || c == '\'' ? '?' : (char)c;
		if (n + 5 >= size && i + 1 < len) {
			memcpy(to + n, "...", 3);
			n += 3;
			break;
		}
	}
	to[n] = '\0';
	return to;
}

static int tree_refuse(struct err *e, int code, const char *path, size_t len, const char *why)
{
	char q[300];

	return err_set(e, code, "entry '%s': %s", tree_quote(q, sizeof(q), path, len), why);
}

static int tree_grow(void **mem, uint32_t used, uint32_t *cap, size_t size)
{
	uint32_t want = *cap ? *cap * 2 : 256;
	void *p;

	if (used < *cap)
		return 0;
	p = want > *cap ? reallocarray(*mem, want, size) : NULL;
	if (!p)
		return -ENOMEM;
	*mem = p;
	*cap = want;
	return 0;
}

/* Makes room for @n bytes and returns where they go through *@at. */
static int tree_arena_take(struct tree *t, uint64_t n, uint64_t *at)
{
	uint64_t end, cap = t->arena_cap ? t->arena_cap : 65536;
	char *p;

	if (!checked_add(t->arena_len, n, &end) || end > t->arena_max)
		return -E2BIG;
	while (cap < end)
		cap *= 2;
	if (cap > t->arena_cap) {
		p = realloc(t->arena, cap);
		if (!p)
			return -ENOMEM;
		t->arena = p;
		t->arena_cap = cap;
	}
	*at = t->arena_len;
	t->arena_len = end;
	return 0;
}

static int tree_arena_add(struct tree *t, const void *p, size_t n, uint64_t *at)
{
	int rc = tree_arena_take(t, n, at);

	if (!rc && n)
		memcpy(t->arena + *at, p, n);
	return rc;
}

/* ---- the index of names ---- */

static uint64_t tree_mix(uint64_t a, uint64_t b)
{
	__uint128_t m = (__uint128_t)a * b;

	return (uint64_t)m ^ (uint64_t)(m >> 64);
}

static uint32_t tree_hash(const struct tree *t, uint32_t parent, const char *name, size_t len)
{
	uint64_t h = tree_mix(t->key ^ parent, 0x9e3779b97f4a7c15u) ^ len, w;

	for (; len >= 8; name += 8, len -= 8) {
		memcpy(&w, name, 8);
		h = tree_mix(h ^ w, t->key | 1);
	}
	w = 0;
	memcpy(&w, name, len);
	h = tree_mix(h ^ w, t->key | 1);
	return (uint32_t)(h ^ (h >> 32));
}

static uint32_t tree_child(const struct tree *t, uint32_t parent, const char *name, size_t len)
{
	uint32_t h = tree_hash(t, parent, name, len);
	uint32_t i = t->buckets[h & (t->n_buckets - 1)];

	for (; i != TREE_NONE; i = t->nodes[i].hash_next) {
		const struct tree_node *n = &t->nodes[i];

		if (n->hash == h && n->parent == parent && n->name_len == len &&
		    !memcmp(t->arena + n->name, name, len))
			return i;
	}
	return TREE_NONE;
}

static void tree_index_add(struct tree *t, uint32_t i)
{
	uint32_t *b = &t->buckets[t->nodes[i].hash & (t->n_buckets - 1)];

	t->nodes[i].hash_next = *b;
	*b = i;
}

static void tree_index_remove(struct tree *t, uint32_t i)
{
	uint32_t *b = &t->buckets[t->nodes[i].hash & (t->n_buckets - 1)];

	while (*b != i)
		b = &t->nodes[*b].hash_next;
	*b = t->nodes[i].hash_next;
}

static int tree_index_grow(struct tree *t)
{
	uint32_t n = t->n_buckets ? t->n_buckets * 2 : 1024;
	uint32_t *p = reallocarray(NULL, n, sizeof(*p));

	if (!p)
		return -ENOMEM;
	free(t->buckets);
	t->buckets = p;
	t->n_buckets = n;
	memset(p, 0xff, (size_t)n * sizeof(*p));
	for (uint32_t i = 1; i < t->n_nodes; i++)
		if (t->nodes[i].live)
			tree_index_add(t, i);
	return 0;
}

/* ---- nodes ---- */

static int tree_inode_new(struct tree *t, uint32_t *out)
{
	if (t->n_inodes >= t->max_entries)
		return -E2BIG;
	if (tree_grow((void **)&t->inodes, t->n_inodes, &t->cap_inodes, sizeof(*t->inodes)))
		return -ENOMEM;
	t->inodes[t->n_inodes] = (struct tree_inode){ .links = 0 };
	*out = t->n_inodes++;
	return 0;
}

static int tree_node_new(struct tree *t, uint32_t parent, const char *name, size_t len,
			 uint32_t inode, uint32_t *out)
{
	struct tree_node *n;
	uint64_t at;
	int rc;

	if (t->n_nodes >= t->max_entries)
		return -E2BIG;
	if (tree_grow((void **)&t->nodes, t->n_nodes, &t->cap_nodes, sizeof(*t->nodes)))
		return -ENOMEM;
	if (t->n_nodes >= t->n_buckets && (rc = tree_index_grow(t)))
		return rc;
	rc = tree_arena_add(t, name, len, &at);
	if (rc)
		return rc;
	n = &t->nodes[t->n_nodes];
	*n = (struct tree_node){
		.parent = parent,
		.first_child = TREE_NONE,
		.next = t->nodes[parent].first_child,
		.prev = TREE_NONE,
		.inode = inode,
		.hash = tree_hash(t, parent, name, len),
		.name = at,
		.name_len = (uint8_t)len,
		.layer = t->layer,
		.depth = (uint16_t)(t->nodes[parent].depth + 1),
		.live = true,
	};
	if (n->next != TREE_NONE)
		t->nodes[n->next].prev = t->n_nodes;
	t->nodes[parent].first_child = t->n_nodes;
	tree_index_add(t, t->n_nodes);
	t->inodes[inode].links++;
	*out = t->n_nodes++;
	return 0;
}

static void tree_detach(struct tree *t, uint32_t i)
{
	struct tree_node *n = &t->nodes[i];

	tree_index_remove(t, i);
	if (n->prev != TREE_NONE)
		t->nodes[n->prev].next = n->next;
	else
		t->nodes[n->parent].first_child = n->next;
	if (n->next != TREE_NONE)
		t->nodes[n->next].prev = n->prev;
	t->inodes[n->inode].links--;
	n->live = false;
}

/*
 * Removes @i and what is under it; with @below, only what came with layers below
 * the current one, so that a directory stays while something of the current layer
 * is in it.  The depth of the recursion is bounded by TREE_DEPTH_MAX.
 */
static void tree_remove(struct tree *t, uint32_t i, bool below)
{
	uint32_t next;

	for (uint32_t c = t->nodes[i].first_child; c != TREE_NONE; c = next) {
		next = t->nodes[c].next;
		tree_remove(t, c, below);
	}
	if (below && (t->nodes[i].layer == t->layer || t->nodes[i].first_child != TREE_NONE))
		return;
	tree_detach(t, i);
}

static bool tree_is_dir(const struct tree *t, uint32_t node)
{
	return S_ISDIR(t->inodes[t->nodes[node].inode].mode);
}

/* A directory that no entry described: what a person would make with mkdir -p. */
static int tree_implied_dir(struct tree *t, uint32_t parent, const char *name, size_t len,
			    uint32_t *out)
{
	uint32_t inode;
	int rc = tree_inode_new(t, &inode);

	if (rc)
		return rc;
	t->inodes[inode].mode = S_IFDIR | 0755;
	return tree_node_new(t, parent, name, len, inode, out);
}

static int tree_limit(struct err *e, int rc, const char *path, size_t len)
{
	return tree_refuse(e, -rc, path, len,
			   rc == -ENOMEM ? "out of memory" : "the image has too many entries");
}

/* Puts "<target>/<rest>" into @work, where @rest may lie in @work itself. */
static bool tree_expand(const struct tree *t, uint32_t node, char *work, const char *rest)
{
	const struct tree_inode *ino = &t->inodes[t->nodes[node].inode];
	size_t rest_len = strlen(rest);

	if (ino->link_len + 1 + rest_len + 1 > WORK_MAX)
		return false;
	memmove(work + ino->link_len + 1, rest, rest_len + 1);
	memcpy(work, t->arena + ino->link, ino->link_len);
	work[ino->link_len] = '/';
	return true;
}

/*
 * Walks @path (no more than TREE_PATH_MAX bytes) to a directory, following links
 * inside the tree.  *@out is TREE_NONE if it is absent and @make is false.
 */
static int tree_walk(struct tree *t, const char *path, size_t len, bool make, uint32_t *out,
		     struct err *e)
{
	char work[WORK_MAX];
	char *p = work;
	uint32_t at = TREE_ROOT, hops = 0, child;
	int rc;

	memcpy(work, path, len);
	work[len] = '\0';
	for (;;) {
		size_t n;

		while (*p == '/')
			p++;
		n = strcspn(p, "/");
		if (!n)
			break;
		if (n == 1 && p[0] == '.') {
			p += n;
			continue;
		}
		if (n == 2 && p[0] == '.' && p[1] == '.') {
			if (at != TREE_ROOT)
				at = t->nodes[at].parent;
			p += n;
			continue;
		}
		if (n > TREE_NAME_MAX)
			return tree_refuse(e, EINVAL, path, len, "a name of more than 255 bytes");
		child = tree_child(t, at, p, n);
		if (child == TREE_NONE && !make) {
			*out = TREE_NONE;
			return 0;
		}
		if (child == TREE_NONE) {
			if (t->nodes[at].depth >= TREE_DEPTH_MAX)
				return tree_refuse(e, EINVAL, path, len,
						   "more than 1024 directories deep");
			rc = tree_implied_dir(t, at, p, n, &child);
			if (rc)
				return tree_limit(e, rc, path, len);
		} else if (S_ISLNK(t->inodes[t->nodes[child].inode].mode)) {
			uint64_t link = t->inodes[t->nodes[child].inode].link;

			if (++hops > LINK_HOPS_MAX || !tree_expand(t, child, work, p + n))
				return tree_refuse(e, EINVAL, path, len,
						   "too many symbolic links in its path");
			if (t->arena[link] == '/')
				at = TREE_ROOT;
			p = work;
			continue;
		} else if (!tree_is_dir(t, child)) {
			return tree_refuse(e, EINVAL, path, len,
					   "a part of its path is not a directory");
		}
		at = child;
		p += n;
	}
	*out = at;
	return 0;
}

struct tree_name {
	const char *base;
	size_t base_len; /* 0 = the root itself */
	uint32_t parent;
};

/* Checks a name of the archive and finds its parent; @make: create the parents. */
static int tree_resolve(struct tree *t, const char *path, size_t len, bool make,
			struct tree_name *out, struct err *e)
{
	size_t end = len, start;

	if (memchr(path, '\0', len))
		return tree_refuse(e, EINVAL, path, len, "a NUL byte in its name");
	if (len >= TREE_PATH_MAX)
		return tree_refuse(e, EINVAL, path, len, "a path of more than 4095 bytes");
	for (size_t i = 0; i < len;) {
		size_t n = 0;

		while (i + n < len && path[i + n] != '/')
			n++;
		if (n == 2 && path[i] == '.' && path[i + 1] == '.')
			return tree_refuse(e, EINVAL, path, len, "'..' in its name");
		i += n + 1;
	}
	/* "a/b/./" names a/b. */
	for (;;) {
		while (end && path[end - 1] == '/')
			end--;
		if (end == 0 || path[end - 1] != '.' || (end > 1 && path[end - 2] != '/'))
			break;
		end--;
	}
	start = end;
	while (start && path[start - 1] != '/')
		start--;
	if (end - start > TREE_NAME_MAX)
		return tree_refuse(e, EINVAL, path, len, "a name of more than 255 bytes");
	out->base = path + start;
	out->base_len = end - start;
	return tree_walk(t, path, start, make, &out->parent, e);
}

uint32_t tree_find(struct tree *t, const char *path)
{
	struct tree_name n;

	if (tree_resolve(t, path, strlen(path), false, &n, NULL) || n.parent == TREE_NONE)
		return TREE_NONE;
	return n.base_len ? tree_child(t, n.parent, n.base, n.base_len) : TREE_ROOT;
}

static int tree_xattr_order(const void *a, const void *b)
{
	const struct tree_xattr *x = a, *y = b;
	size_t n = x->name_len < y->name_len ? x->name_len : y->name_len;
	int d = memcmp(x->name, y->name, n);

	return d ? d : (x->name_len > y->name_len) - (x->name_len < y->name_len);
}

static int tree_store_xattrs(struct tree *t, struct tree_inode *ino, const struct tree_attr *a)
{
	auto_free struct tree_xattr *v = NULL;
	uint64_t total = 0, at;
	uint32_t head[2];
	int rc;

	ino->n_xattrs = 0;
	if (!a->n_xattrs)
		return 0;
	for (size_t i = 0; i < a->n_xattrs; i++)
		if (!checked_add(total, a->xattrs[i].name_len, &total) ||
		    !checked_add(total, a->xattrs[i].value_len, &total) || total > TREE_XATTRS_MAX)
			return -EOVERFLOW;
	v = reallocarray(NULL, a->n_xattrs, sizeof(*v));
	if (!v)
		return -ENOMEM;
	memcpy(v, a->xattrs, a->n_xattrs * sizeof(*v));
	qsort(v, a->n_xattrs, sizeof(*v), tree_xattr_order);
	for (size_t i = 0; i < a->n_xattrs; i++) {
		/* A name given twice: the archive's reader may do that; the first one counts. */
		if (i && !tree_xattr_order(&v[i - 1], &v[i]))
			continue;
		head[0] = (uint32_t)v[i].name_len;
		head[1] = (uint32_t)v[i].value_len;
		if ((rc = tree_arena_add(t, head, sizeof(head), &at)))
			return rc;
		if (!ino->n_xattrs++)
			ino->xattrs = at;
		if ((rc = tree_arena_add(t, v[i].name, v[i].name_len, &at)) ||
		    (rc = tree_arena_add(t, v[i].value, v[i].value_len, &at)))
			return rc;
	}
	return 0;
}

void tree_xattr_next(const struct tree *t, uint64_t *at, struct tree_xattr *x)
{
	uint32_t head[2];

	memcpy(head, t->arena + *at, sizeof(head));
	x->name = t->arena + *at + sizeof(head);
	x->name_len = head[0];
	x->value = x->name + head[0];
	x->value_len = head[1];
	*at += sizeof(head) + head[0] + head[1];
}

static int tree_set_attr(struct tree *t, uint32_t index, const struct tree_attr *a,
			 const char *path, size_t len, struct err *e)
{
	struct tree_inode *ino = &t->inodes[index];
	int rc;

	ino->mode = a->mode;
	ino->uid = a->uid;
	ino->gid = a->gid;
	ino->mtime = a->mtime;
	ino->mtime_nsec = a->mtime_nsec;
	ino->major = a->major;
	ino->minor = a->minor;
	if (S_ISLNK(a->mode)) {
		if (!a->link_len || a->link_len >= TREE_PATH_MAX ||
		    memchr(a->link, '\0', a->link_len))
			return tree_refuse(e, EINVAL, path, len,
					   "a symbolic link with an empty or too long target");
		rc = tree_arena_add(t, a->link, a->link_len, &ino->link);
		if (rc)
			return tree_limit(e, rc, path, len);
		ino->link_len = (uint32_t)a->link_len;
	}
	rc = tree_store_xattrs(t, ino, a);
	if (rc == -EOVERFLOW)
		return tree_refuse(e, EINVAL, path, len, "more than 64 KiB of extended attributes");
	return rc ? tree_limit(e, rc, path, len) : 0;
}

/* Return: 1 if the entry was a whiteout (and is done), 0 if not. */
static int tree_whiteout(struct tree *t, const struct tree_name *n, const char *path, size_t len,
			 struct err *e)
{
	const char *victim = n->base + WHITEOUT_LEN;
	size_t victim_len;
	uint32_t i, next;

	if (n->base_len < WHITEOUT_LEN || memcmp(n->base, WHITEOUT, WHITEOUT_LEN))
		return 0;
	victim_len = n->base_len - WHITEOUT_LEN;
	if (n->base_len == strlen(WHITEOUT_OPAQUE) &&
	    !memcmp(n->base, WHITEOUT_OPAQUE, n->base_len)) {
		for (i = t->nodes[n->parent].first_child; i != TREE_NONE; i = next) {
			next = t->nodes[i].next;
			tree_remove(t, i, true);
		}
		return 1;
	}
	if (n->base_len >= strlen(WHITEOUT_META) &&
	    !memcmp(n->base, WHITEOUT_META, strlen(WHITEOUT_META)))
		return 1;
	if (!victim_len || (victim_len <= 2 && !memcmp(victim, "..", victim_len)))
		return tree_refuse(e, EINVAL, path, len, "a whiteout that names nothing");
	i = tree_child(t, n->parent, victim, victim_len);
	if (i != TREE_NONE)
		tree_remove(t, i, true);
	return 1;
}

/*
 * Makes room for a new node of the name @n: what is there goes, except that a
 * directory stays under a directory.  *@keep is that node, or TREE_NONE.
 */
static int tree_replace(struct tree *t, const struct tree_name *n, bool dir, uint32_t *keep,
			const char *path, size_t len, struct err *e)
{
	uint32_t old = tree_child(t, n->parent, n->base, n->base_len);

	*keep = TREE_NONE;
	if (old != TREE_NONE && dir && tree_is_dir(t, old)) {
		*keep = old;
		return 0;
	}
	if (old != TREE_NONE)
		tree_remove(t, old, false);
	if (t->nodes[n->parent].depth >= TREE_DEPTH_MAX)
		return tree_refuse(e, EINVAL, path, len, "more than 1024 directories deep");
	return 0;
}

int tree_add(struct tree *t, const char *path, size_t len, const struct tree_attr *attr,
	     uint32_t *inode, struct err *e)
{
	bool dir = S_ISDIR(attr->mode);
	struct tree_name n = { 0 };
	uint32_t node, index;
	int rc = tree_resolve(t, path, len, true, &n, e);

	if (rc)
		return rc;
	if (!n.base_len) {
		/* "." and "/" are the root; a tree of one file is not a root image. */
		if (!dir)
			return tree_refuse(e, EINVAL, path, len,
					   "the root of an image must be a directory");
		*inode = TREE_ROOT;
		return tree_set_attr(t, TREE_ROOT, attr, path, len, e);
	}
	rc = tree_whiteout(t, &n, path, len, e);
	if (rc) {
		if (rc > 0)
			*inode = TREE_NONE;
		return rc > 0 ? 0 : rc;
	}
	rc = tree_replace(t, &n, dir, &node, path, len, e);
	if (rc)
		return rc;
	if (node != TREE_NONE) {
		index = t->nodes[node].inode;
		t->nodes[node].layer = t->layer;
	} else {
		rc = tree_inode_new(t, &index);
		if (!rc)
			rc = tree_node_new(t, n.parent, n.base, n.base_len, index, &node);
		if (rc)
			return tree_limit(e, rc, path, len);
	}
	rc = tree_set_attr(t, index, attr, path, len, e);
	if (!rc)
		*inode = index;
	return rc;
}

int tree_link(struct tree *t, const char *path, size_t len, const char *target, size_t target_len,
	      struct err *e)
{
	struct tree_name n = { 0 }, to = { 0 };
	uint32_t node, inode, from;
	int rc = tree_resolve(t, target, target_len, false, &to, e);

	if (rc) {
		err_wrap(e, "target of a hard link");
		return rc;
	}
	from = to.parent == TREE_NONE || !to.base_len
		       ? TREE_NONE
		       : tree_child(t, to.parent, to.base, to.base_len);
	if (from == TREE_NONE)
		return tree_refuse(e, EINVAL, path, len, "a hard link to a file that is not there");
	if (tree_is_dir(t, from))
		return tree_refuse(e, EINVAL, path, len, "a hard link to a directory");
	inode = t->nodes[from].inode;
	rc = tree_resolve(t, path, len, true, &n, e);
	if (rc)
		return rc;
	if (!n.base_len)
		return tree_refuse(e, EINVAL, path, len, "the root of an image must be a directory");
	if (tree_child(t, n.parent, n.base, n.base_len) == from)
		return 0;
	if (t->inodes[inode].links >= TREE_LINKS_MAX)
		return tree_refuse(e, EINVAL, path, len, "a file with more than 65000 hard links");
	/* Replacing a directory may take the target with it: it must survive as @inode. */
	t->inodes[inode].links++;
	rc = tree_replace(t, &n, false, &node, path, len, e);
	t->inodes[inode].links--;
	if (rc)
		return rc;
	rc = tree_node_new(t, n.parent, n.base, n.base_len, inode, &node);
	return rc ? tree_limit(e, rc, path, len) : 0;
}

int tree_layer_begin(struct tree *t, struct err *e)
{
	if (t->layer == UINT16_MAX)
		return err_set(e, E2BIG, "the image has too many layers");
	t->layer++;
	return 0;
}

int tree_create(uint32_t max_entries, uint64_t max_bytes, struct tree **out, struct err *e)
{
	struct tree *t = calloc(1, sizeof(*t));
	uint32_t root;

	if (!t)
		return err_errno(e, ENOMEM, "image tree");
	t->max_entries = max_entries;
	t->arena_max = max_bytes;
	if (getrandom(&t->key, sizeof(t->key), 0) != (ssize_t)sizeof(t->key) ||
	    tree_index_grow(t) || tree_inode_new(t, &root) ||
	    tree_grow((void **)&t->nodes, 0, &t->cap_nodes, sizeof(*t->nodes))) {
		tree_destroy(t);
		return err_errno(e, ENOMEM, "image tree");
	}
	t->inodes[TREE_ROOT].mode = S_IFDIR | 0755;
	t->inodes[TREE_ROOT].links = 1;
	t->nodes[TREE_ROOT] = (struct tree_node){
		.parent = TREE_ROOT,
		.first_child = TREE_NONE,
		.next = TREE_NONE,
		.prev = TREE_NONE,
		.inode = TREE_ROOT,
		.live = true,
	};
	t->n_nodes = 1;
	*out = t;
	return 0;
}

void tree_destroy(struct tree *t)
{
	if (!t)
		return;
	free(t->nodes);
	free(t->inodes);
	free(t->arena);
	free(t->buckets);
	free(t);
}

uint32_t tree_node_count(const struct tree *t)
{
	return t->n_nodes;
}

uint32_t tree_inode_count(const struct tree *t)
{
	return t->n_inodes;
}

struct tree_node *tree_node(struct tree *t, uint32_t index)
{
	return &t->nodes[index];
}

struct tree_inode *tree_inode(struct tree *t, uint32_t index)
{
	return &t->inodes[index];
}

const char *tree_bytes(const struct tree *t, uint64_t offset)
{
	return t->arena + offset;
}

/* qsort_r()'s order of two node indices by the names' bytes. */
static int tree_name_order(const void *a, const void *b, void *ctx)
{
	const struct tree *t = ctx;
	const struct tree_node *x = &t->nodes[*(const uint32_t *)a];
	const struct tree_node *y = &t->nodes[*(const uint32_t *)b];
	size_t n = x->name_len < y->name_len ? x->name_len : y->name_len;
	int d = memcmp(t->arena + x->name, t->arena + y->name, n);

	return d ? d : (x->name_len > y->name_len) - (x->name_len < y->name_len);
}

int64_t tree_children(struct tree *t, uint32_t dir, uint32_t **out, size_t *cap)
{
	size_t n = 0;

	for (uint32_t c = t->nodes[dir].first_child; c != TREE_NONE; c = t->nodes[c].next) {
		if (n == *cap) {
			size_t want = *cap ? *cap * 2 : 64;
			uint32_t *p = reallocarray(*out, want, sizeof(*p));

			if (!p)
				return -ENOMEM;
			*out = p;
			*cap = want;
		}
		(*out)[n++] = c;
	}
	if (n)
		qsort_r(*out, n, sizeof(**out), tree_name_order, t);
	return (int64_t)n;
}
