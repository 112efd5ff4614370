/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Entries for the tree, read from the input: one byte of kind, a name, a second name
 * for links, each ended by a zero byte.  Names stay in the tree, and every node is
 * reached from the root exactly once.
 */
#include <assert.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "image/tree.h"

static const char *fuzz_word(const uint8_t **p, const uint8_t *end, size_t *len)
{
	const uint8_t *zero = memchr(*p, 0, (size_t)(end - *p));
	const char *s = (const char *)*p;

	*len = (size_t)((zero ? zero : end) - *p);
	*p = zero ? zero + 1 : end;
	return s;
}

static uint32_t fuzz_walk(struct tree *t, uint32_t dir, unsigned depth)
{
	uint32_t *children = NULL, n = 1;
	size_t cap = 0;
	int64_t k = tree_children(t, dir, &children, &cap);

	assert(depth <= TREE_DEPTH_MAX + 1 && k >= 0);
	for (int64_t i = 0; i < k; i++) {
		const struct tree_node *c = tree_node(t, children[i]);

		assert(c->live && c->parent == dir && c->name_len > 0);
		assert(!memchr(tree_bytes(t, c->name), '/', c->name_len));
		assert(tree_inode(t, c->inode)->links > 0);
		n += S_ISDIR(tree_inode(t, c->inode)->mode) ? fuzz_walk(t, children[i], depth + 1)
							    : 1;
	}
	free(children);
	return n;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const mode_t types[] = { S_IFDIR, S_IFREG, S_IFLNK, S_IFCHR, S_IFIFO };
	const uint8_t *p = data, *end = data + size;
	uint32_t live = 0, inode;
	struct tree *t;

	assert(!tree_create(4096, 1u << 20, &t, NULL) && !tree_layer_begin(t, NULL));
	while (p < end) {
		uint8_t kind = *p++;
		size_t len, len2 = 0;
		const char *a = fuzz_word(&p, end, &len), *b = "";
		struct tree_attr attr = { .mode = types[kind % 5] | 0644 };

		if (kind % 8 == 7) {
			if (tree_layer_begin(t, NULL))
				break;
			continue;
		}
		if (kind % 5 == 2 || kind & 0x40)
			b = fuzz_word(&p, end, &len2);
		attr.link = b;
		attr.link_len = len2;
		if (kind & 0x40)
			tree_link(t, a, len, b, len2, NULL);
		else
			tree_add(t, a, len, &attr, &inode, NULL);
	}
	for (uint32_t i = 0; i < tree_node_count(t); i++)
		live += tree_node(t, i)->live;
	assert(fuzz_walk(t, TREE_ROOT, 0) == live);
	tree_destroy(t);
	return 0;
}
