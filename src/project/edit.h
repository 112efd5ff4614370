/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_PROJECT_EDIT_H
#define MSB_PROJECT_EDIT_H

/*
 * Sandboxes put into the text of a Sandboxfile, and taken out, without touching the rest:
 * comments, order and layout are the user's.
 *
 * Lines are inserted or removed where the parser saw the sandboxes begin and end.  Then the new
 * text is parsed, and has to be the old one with that one sandbox more or less: what comes out
 * otherwise (an anchor that others use, a layout that was not foreseen) is refused.  Pure.
 */

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"
#include "base/err.h"

/* ---- a sandbox's keys, as text ---- */

/* Each appends a key, in the order of the calls. Return: 0; -EINVAL: no UTF-8; -ENOMEM. */
int edit_put_text(struct buf *body, const char *key, const char *value, struct err *e);
/* A number or size: written as it is. */
int edit_put_word(struct buf *body, const char *key, const char *value, struct err *e);
int edit_put_list(struct buf *body, const char *key, const char *const *values, size_t n,
		  struct err *e);
/* The start of a mapping, whose pairs follow. */
int edit_put_map(struct buf *body, const char *key, struct err *e);
int edit_put_pair(struct buf *body, const char *key, const char *value, struct err *e);

/* May @s stand in a file as it is, without quotes? */
bool edit_is_plain(const char *s);

/* ---- the file ---- */

/**
 * edit_add() - the text with one sandbox more, behind the others
 * @text: may be NULL if @len is 0
 * @body: its keys, of the functions above
 *
 * Return: 0 and @out, which was empty; -EEXIST: there is one of that name; -ENOTSUP: it cannot
 * be done safely, and why; -EINVAL: the text is no YAML; -ENOMEM.
 */
int edit_add(const char *text, size_t len, const char *name, const struct buf *body,
	     struct buf *out, struct err *e);

/* The text without a sandbox. Return: as edit_add(); -ENOENT: there is none of that name. */
int edit_remove(const char *text, size_t len, const char *name, struct buf *out, struct err *e);

#endif
