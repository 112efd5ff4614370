/* SPDX-License-Identifier: Apache-2.0 */
/* Adding to any file, and taking out again, leaves the other sandboxes as they were, or is refused. */
#include <assert.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "codec/ytree.h"
#include "project/edit.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The sandboxes of a text that is known to parse. */
static const struct ytree_node *sandboxes(const char *text, size_t len, struct ytree **t)
{
	struct ytree_at at;

	assert(!ytree_parse(text, len, t, &at, NULL));
	return ytree_root(*t) ? ytree_get(ytree_root(*t), "sandboxes", NULL) : NULL;
}

static size_t count(const struct ytree_node *map)
{
	return map && map->kind == YTREE_MAP ? map->n : 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct buf body = BUF_INIT, with = BUF_INIT, without = BUF_INIT;
	const struct ytree_node *before, *after;
	struct ytree *old = NULL, *new = NULL;
	struct err e = ERR_INIT;
	const char *text;

	assert(!edit_put_text(&body, "image", "x", NULL));
	assert(!edit_put_map(&body, "scripts", NULL));
	assert(!edit_put_pair(&body, "start", "one\n\ntwo\n", NULL));
	if (edit_add((const char *)data, size, "a-new-one", &body, &with, &e)) {
		assert(e.code && !buf_len(&with));
		goto out;
	}
	text = (const char *)buf_data(&with);
	before = sandboxes((const char *)data, size, &old);
	after = sandboxes(text, buf_len(&with), &new);
	assert(count(after) == count(before) + 1);
	for (size_t i = 0; i < 2 * count(before); i++)
		assert(ytree_equal(before->child[i], after->child[i]));
	if (!edit_remove(text, buf_len(&with), "a-new-one", &without, NULL)) {
		ytree_free(new);
		new = NULL;
		after = sandboxes(buf_len(&without) ? (const char *)buf_data(&without) : "",
				  buf_len(&without), &new);
		assert(count(after) == count(before));
	}
	buf_reset(&without);
	/* Any other, too. */
	for (size_t i = 0; i < count(before) && i < 8; i++)
		edit_remove((const char *)data, size, before->child[2 * i]->text, &without, NULL);
out:
	ytree_free(old);
	ytree_free(new);
	buf_fini(&body);
	buf_fini(&with);
	buf_fini(&without);
	return 0;
}
