/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_CODEC_YTREE_H
#define MSB_CODEC_YTREE_H

/*
 * A YAML document as a tree of nodes, each of which knows where it stands.
 *
 * Trust boundary.  The text may be anybody's.  It is UTF-8 of at most YTREE_BYTES_MAX, one
 * document, no deeper than YTREE_DEPTH_MAX.  An alias is a second way to the node that it
 * names, never a copy, and cannot name what it stands in; merge keys (`<<`) are resolved, each
 * key that they bring counting as a node.  Keys are scalars and unlike each other; no scalar
 * holds a NUL.  Values have no types: "yes", 12 and null are texts, and what a text means
 * is for whoever knows what ought to be there.
 */

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"

#define YTREE_BYTES_MAX (1u << 20)
#define YTREE_DEPTH_MAX 64u
#define YTREE_NODES_MAX 65536u
#define YTREE_ANCHORS_MAX 256u

/* Where something stands: both from 1, the column in characters. line 0 = not known. */
struct ytree_at {
	unsigned line, column;
};

enum ytree_kind { YTREE_SCALAR, YTREE_LIST, YTREE_MAP };

struct ytree_node {
	enum ytree_kind kind;
	bool plain; /* scalar: without quotes and no block */
	bool flow; /* list, map: in brackets, braces */
	bool anchor; /* others may refer to it */
	bool merged; /* map: some of its keys came by `<<` */
	struct ytree_at at;
	size_t start, end; /* its bytes in the text; the end of a block may be far behind */
	const char *text; /* scalar; ends in NUL */
	size_t len;
	struct ytree_node **child; /* list: @n items; map: @n keys, each followed by its value */
	size_t n;
};

struct ytree;

/*
 * Reads a document; @root is NULL if it is empty.  The tree owns every node and text.
 * Return: 0; -EINVAL, -EFBIG with what is wrong, and *@at where; -ENOMEM.
 */
int ytree_parse(const char *text, size_t len, struct ytree **out, struct ytree_at *at,
		struct err *e);
void ytree_free(struct ytree *t);

const struct ytree_node *ytree_root(const struct ytree *t);

/* Memory that lives as long as the tree, zeroed; NULL = none left. */
void *ytree_alloc(struct ytree *t, size_t n);

/* A plain scalar that stands for nothing: empty, ~ or null. */
bool ytree_is_null(const struct ytree_node *n);

/* The value of @key in a map, with *@key_node (may be NULL) its key; NULL = not there. */
const struct ytree_node *ytree_get(const struct ytree_node *map, const char *key,
				   const struct ytree_node **key_node);

/* Do they hold the same, wherever it stands and however it is written? Takes bounded time. */
bool ytree_equal(const struct ytree_node *a, const struct ytree_node *b);

#endif
