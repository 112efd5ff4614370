/* SPDX-License-Identifier: Apache-2.0 */
/* What layers do to the tree: entries are given as in a tar, the result is listed. */
#include "unit/test.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "image/tree.h"

static struct tree *make(void)
{
	struct tree *t;

	assert_int_equal(tree_create(100000, 1u << 24, &t, NULL), 0);
	assert_int_equal(tree_layer_begin(t, NULL), 0);
	return t;
}

static int put(struct tree *t, const char *path, mode_t mode, const char *link, struct err *e)
{
	struct tree_attr a = { .mode = mode, .link = link, .link_len = link ? strlen(link) : 0 };
	uint32_t inode;

	return tree_add(t, path, strlen(path), &a, &inode, e);
}

static void file(struct tree *t, const char *path)
{
	assert_int_equal(put(t, path, S_IFREG | 0644, NULL, NULL), 0);
}

static void dir(struct tree *t, const char *path)
{
	assert_int_equal(put(t, path, S_IFDIR | 0750, NULL, NULL), 0);
}

static void symlink_to(struct tree *t, const char *path, const char *target)
{
	assert_int_equal(put(t, path, S_IFLNK | 0777, target, NULL), 0);
}

static int hard(struct tree *t, const char *path, const char *target, struct err *e)
{
	return tree_link(t, path, strlen(path), target, strlen(target), e);
}

static void list(struct tree *t, uint32_t node, const char *prefix, char *to, size_t size)
{
	uint32_t *v = NULL;
	size_t cap = 0;
	int64_t n = tree_children(t, node, &v, &cap);

	for (int64_t i = 0; i < n; i++) {
		const struct tree_node *c = tree_node(t, v[i]);
		uint32_t mode = tree_inode(t, c->inode)->mode;
		char path[512];

		snprintf(path, sizeof(path), "%s%.*s", prefix, c->name_len, tree_bytes(t, c->name));
		snprintf(to + strlen(to), size - strlen(to), "%s%s ", path,
			 S_ISDIR(mode)   ? "/"
			 : S_ISLNK(mode) ? "@"
					 : "");
		if (S_ISDIR(mode)) {
			strcat(path, "/");
			list(t, v[i], path, to, size);
		}
	}
	free(v);
}

/* Compares the sorted listing and ends the tree. */
static void expect(struct tree *t, const char *want)
{
	char got[4096] = "";

	list(t, TREE_ROOT, "", got, sizeof(got));
	assert_string_equal(got, want);
	tree_destroy(t);
}

static void test_names(void **state)
{
	struct tree *t = make();

	(void)state;
	dir(t, "./");
	file(t, "./b");
	file(t, "/a");
	dir(t, "d/");
	file(t, "d/./x");
	file(t, "e//f/g");
	expect(t, "a b d/ d/x e/ e/f/ e/f/g ");
}

static void test_refused(void **state)
{
	static const char *const names[] = { "..",   "../x",  "a/../b", "/..", "a/..",
					     ".wh.", ".wh..", ".wh...", "f/x", "./" };
	char longest[300], path[5000];
	struct tree *t = make();

	(void)state;
	file(t, "f");
	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
		struct err e = ERR_INIT;

		assert_int_equal(put(t, names[i], S_IFREG | 0644, NULL, &e), -EINVAL);
		assert_null(strchr(e.msg, '\n'));
	}
	memset(longest, 'n', sizeof(longest));
	longest[256] = '\0';
	assert_int_equal(put(t, longest, S_IFREG, NULL, NULL), -EINVAL);
	longest[255] = '\0';
	assert_int_equal(put(t, longest, S_IFREG, NULL, NULL), 0);
	memset(path, 'p', sizeof(path));
	path[4999] = '\0';
	assert_int_equal(put(t, path, S_IFREG, NULL, NULL), -EINVAL);
	for (size_t i = 0; i < 4000; i++)
		path[i] = i % 2 ? '/' : 'd';
	path[4000] = '\0';
	assert_int_equal(put(t, path, S_IFREG, NULL, NULL), -EINVAL);
	assert_int_equal(put(t, "empty-link", S_IFLNK, "", NULL), -EINVAL);
	tree_destroy(t);
}

static void test_replace(void **state)
{
	struct tree *t = make();

	(void)state;
	file(t, "a");
	dir(t, "a"); /* a directory over a file */
	file(t, "a/x");
	dir(t, "a"); /* a directory over a directory keeps what is in it */
	dir(t, "b");
	file(t, "b/x");
	file(t, "b"); /* a file over a directory */
	symlink_to(t, "c", "a");
	dir(t, "c"); /* a directory over a link */
	file(t, "c/y");
	expect(t, "a/ a/x b c/ c/y ");
}

static void test_parents_through_links(void **state)
{
	struct tree *t = make();

	(void)state;
	dir(t, "usr");
	symlink_to(t, "bin", "usr/bin");
	symlink_to(t, "abs", "/usr/../../..//usr");
	symlink_to(t, "out", "../../../etc");
	symlink_to(t, "loop", "loop2");
	symlink_to(t, "loop2", "loop");
	file(t, "bin/sh");
	file(t, "abs/x");
	file(t, "out/passwd");
	assert_int_equal(put(t, "loop/x", S_IFREG, NULL, NULL), -EINVAL);
	expect(t, "abs@ bin@ etc/ etc/passwd loop@ loop2@ out@ usr/ usr/bin/ usr/bin/sh usr/x ");
}

static void test_whiteouts(void **state)
{
	struct tree *t = make();

	(void)state;
	file(t, "a/low");
	file(t, "b/low");
	file(t, "b/keep/x");
	file(t, "c");
	file(t, "d");
	assert_int_equal(tree_layer_begin(t, NULL), 0);
	/* They act on lower layers only, wherever they stand. */
	file(t, "a/new");
	file(t, "a/.wh..wh..opq");
	file(t, "b/.wh.low");
	file(t, "c");
	file(t, ".wh.c");
	file(t, ".wh.d");
	file(t, ".wh.nothing");
	file(t, ".wh..wh.plnk/x");
	assert_int_equal(tree_layer_begin(t, NULL), 0);
	file(t, ".wh.b");
	file(t, "b/again");
	expect(t, ".wh..wh.plnk/ .wh..wh.plnk/x a/ a/new b/ b/again c ");
}

static void test_hard_links(void **state)
{
	struct tree *t = make();
	uint32_t inode;
	char name[32];

	(void)state;
	file(t, "a");
	dir(t, "d");
	file(t, "d/in");
	symlink_to(t, "s", "a");
	assert_int_equal(hard(t, "b", "./a", NULL), 0);
	assert_int_equal(hard(t, "s2", "s", NULL), 0); /* a link itself can have two names */
	assert_int_equal(hard(t, "a", "a", NULL), 0);
	assert_int_equal(hard(t, "x", "nothing", NULL), -EINVAL);
	assert_int_equal(hard(t, "x", "d", NULL), -EINVAL);
	assert_int_equal(hard(t, "x", "../a", NULL), -EINVAL);
	assert_int_equal(hard(t, "d", "d/in", NULL), 0); /* its own folder goes */
	assert_int_equal(tree_layer_begin(t, NULL), 0);
	/* Across layers: the file lives on under its other name. */
	assert_int_equal(hard(t, "e", "b", NULL), 0);
	file(t, ".wh.a");
	inode = tree_node(t, tree_find(t, "b"))->inode;
	assert_int_equal(tree_inode(t, inode)->links, 2);
	assert_int_equal(tree_node(t, tree_find(t, "e"))->inode, inode);
	for (unsigned i = 2; i < TREE_LINKS_MAX; i++) {
		snprintf(name, sizeof(name), "n/%u", i);
		assert_int_equal(hard(t, name, "b", NULL), 0);
	}
	assert_int_equal(hard(t, "one-too-many", "b", NULL), -EINVAL);
	file(t, ".wh.n"); /* its content is of this layer: it stays */
	assert_int_not_equal(tree_find(t, "n/2"), TREE_NONE);
	tree_destroy(t);
}

static void test_limits(void **state)
{
	struct tree_xattr x = { "user.x", 6, "v", 1 }, big = { "user.y", 6, NULL, 70000 };
	struct tree_attr a = { .mode = S_IFREG, .xattrs = &x, .n_xattrs = 1 };
	struct tree_xattr got;
	char name[16], value[70000] = { 0 };
	uint32_t inode;
	struct tree *t;
	uint64_t at;
	int rc = 0;

	(void)state;
	assert_int_equal(tree_create(50, 4096, &t, NULL), 0);
	assert_int_equal(tree_layer_begin(t, NULL), 0);
	assert_int_equal(tree_add(t, "x", 1, &a, &inode, NULL), 0);
	at = tree_inode(t, inode)->xattrs;
	tree_xattr_next(t, &at, &got);
	assert_int_equal(got.name_len, 6);
	assert_memory_equal(got.value, "v", 1);
	big.value = value;
	a.xattrs = &big;
	assert_int_equal(tree_add(t, "y", 1, &a, &inode, NULL), -EINVAL);
	for (unsigned i = 0; !rc && i < 100; i++) {
		snprintf(name, sizeof(name), "f%u", i);
		rc = put(t, name, S_IFREG, NULL, NULL);
	}
	assert_int_equal(rc, -E2BIG);
	tree_destroy(t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_names),     TEST(test_refused),
		TEST(test_replace),   TEST(test_parents_through_links),
		TEST(test_whiteouts), TEST(test_hard_links),
		TEST(test_limits),
	};

	return test_run(tests);
}
