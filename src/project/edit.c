/* SPDX-License-Identifier: Apache-2.0 */
#include "project/edit.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "codec/ytree.h"

#define EDIT_KEY "sandboxes"
#define EDIT_BY_HAND "; edit the file by hand"

/* A file's text and where its sandboxes are. */
struct edit {
	const char *text;
	size_t len;
	const char *eol;
	struct ytree *tree;
	const struct ytree_node *root; /* NULL: nothing in it */
	const struct ytree_node *key, *map; /* of the sandboxes; NULL = there are none */
	struct err *e;
};

/* What is inserted, or removed if @n is 0. */
struct edit_change {
	size_t from, to; /* bytes that go */
	const char *p; /* what comes */
	size_t n;
};

/* ---- lines ---- */

static size_t edit_line_start(const struct edit *d, size_t at)
{
	while (at && d->text[at - 1] != '\n')
		at--;
	return at;
}

static size_t edit_line_end(const struct edit *d, size_t at)
{
	while (at < d->len && d->text[at] != '\n')
		at++;
	return at < d->len ? at + 1 : at;
}

/* Blanks in front of what the line that starts at @at has. */
static size_t edit_indent(const struct edit *d, size_t at)
{
	size_t n = 0;

	while (at + n < d->len && d->text[at + n] == ' ')
		n++;
	return n;
}

static bool edit_is_blank(const struct edit *d, size_t at)
{
	while (at < d->len && strchr(" \t\r", d->text[at]))
		at++;
	return at >= d->len || d->text[at] == '\n';
}

static bool edit_is_comment(const struct edit *d, size_t at)
{
	while (at < d->len && strchr(" \t", d->text[at]))
		at++;
	return at < d->len && d->text[at] == '#';
}

/*
 * The end of what a sandbox has, going back from @end, where the next thing begins, over empty
 * lines and comments.  A comment that is indented as @indent says, or more, is kept.
 */
static size_t edit_content_end(const struct edit *d, size_t start, size_t end, size_t indent)
{
	size_t at = end == d->len ? end : edit_line_start(d, end);

	while (at > start) {
		size_t line = edit_line_start(d, at - 1);

		if (line < start)
			break;
		if (!edit_is_blank(d, line) &&
		    !(edit_is_comment(d, line) && edit_indent(d, line) < indent))
			break;
		at = line;
	}
	return at;
}

/* ---- the text and its sandboxes ---- */

static int edit_no(struct edit *d, const char *why)
{
	return err_set(d->e, ENOTSUP, "%s" EDIT_BY_HAND, why);
}

static int edit_parse(const char *text, size_t len, struct ytree **out, struct err *e)
{
	struct ytree_at at;
	struct err why = ERR_INIT;
	int rc = ytree_parse(text, len, out, &at, &why);

	return rc ? err_set(e, -rc, "line %u: %s", at.line, err_text(&why)) : 0;
}

static int edit_open(struct edit *d, const char *text, size_t len, struct err *e)
{
	const char *nl = len ? memchr(text, '\n', len) : NULL;
	int rc;

	/* An empty buffer has no bytes, and the parser of YAML wants some. */
	*d = (struct edit){ .text = text ? text : "", .len = len, .e = e };
	d->eol = nl && nl > text && nl[-1] == '\r' ? "\r\n" : "\n";
	rc = edit_parse(d->text, len, &d->tree, e);
	if (rc)
		return rc;
	d->root = ytree_root(d->tree);
	if (d->root && ytree_is_null(d->root))
		d->root = NULL;
	if (d->root && d->root->kind != YTREE_MAP)
		return edit_no(d, "the file is no mapping");
	if (d->root && (d->root->flow || d->root->merged))
		return edit_no(d, "the file is written in braces or has merge keys");
	if (d->root)
		d->map = ytree_get(d->root, EDIT_KEY, &d->key);
	if (!d->map)
		return 0;
	if (d->map->kind != YTREE_MAP && !ytree_is_null(d->map))
		return edit_no(d, "'sandboxes' is no mapping");
	if (d->map->anchor || d->map->merged)
		return edit_no(d, "'sandboxes' has an anchor or merge keys");
	return 0;
}

static size_t edit_count(const struct edit *d)
{
	return d->map && d->map->kind == YTREE_MAP ? d->map->n : 0;
}

/* ---- is it what was meant? ---- */

/* Are all values of the files the same, but those of the sandboxes? */
static bool edit_same_rest(const struct edit *a, const struct edit *b)
{
	size_t na = a->root ? a->root->n : 0, nb = b->root ? b->root->n : 0, k = 0;

	for (size_t i = 0; i < na; i++) {
		if (a->root->child[2 * i] == a->key)
			continue;
		if (k < nb && b->root->child[2 * k] == b->key)
			k++;
		if (k == nb || !ytree_equal(a->root->child[2 * i], b->root->child[2 * k]) ||
		    !ytree_equal(a->root->child[2 * i + 1], b->root->child[2 * k + 1]))
			return false;
		k++;
	}
	if (k < nb && b->root->child[2 * k] == b->key)
		k++;
	return k == nb;
}

/* Has @more the sandboxes of @less, and one at place @at besides? */
static bool edit_same_but(const struct edit *less, const struct edit *more, size_t at)
{
	if (edit_count(more) != edit_count(less) + 1 || !edit_same_rest(less, more))
		return false;
	for (size_t i = 0; i < edit_count(less); i++) {
		size_t k = 2 * (i + (i >= at));

		if (!ytree_equal(less->map->child[2 * i], more->map->child[k]) ||
		    !ytree_equal(less->map->child[2 * i + 1], more->map->child[k + 1]))
			return false;
	}
	return true;
}

static int edit_apply(const struct edit *d, const struct edit_change *c, struct buf *out)
{
	buf_reset(out);
	if (buf_append(out, d->text, c->from) || buf_append(out, c->p, c->n) ||
	    buf_append(out, d->text + c->to, d->len - c->to))
		return err_errno(d->e, ENOMEM, "edit the file");
	return 0;
}

/* ---- adding ---- */

static int edit_put(struct edit *d, struct buf *b, const char *s, size_t n)
{
	return buf_append(b, s, n) ? err_errno(d->e, ENOMEM, "edit the file") : 0;
}

/* Appends a line that is indented, with the file's kind of line end. */
static int edit_put_line(struct edit *d, struct buf *b, size_t indent, const char *s, size_t n)
{
	int rc = 0;

	for (size_t i = 0; i < indent && n && !rc; i++)
		rc = edit_put(d, b, " ", 1);
	if (!rc)
		rc = edit_put(d, b, s, n);
	return rc ? rc : edit_put(d, b, d->eol, strlen(d->eol));
}

/* How far a sandbox's keys stand behind its name. */
static size_t edit_step(const struct edit *d)
{
	for (size_t i = 0; i < edit_count(d); i++) {
		const struct ytree_node *name = d->map->child[2 * i];
		const struct ytree_node *v = d->map->child[2 * i + 1];

		if (v->kind == YTREE_MAP && !v->flow && !v->anchor && !v->merged && v->n &&
		    v->child[0]->at.line > name->at.line &&
		    v->child[0]->at.column > name->at.column)
			return v->child[0]->at.column - name->at.column;
	}
	return 2;
}

static int edit_entry(struct edit *d, struct buf *b, size_t indent, const char *name,
		      const struct buf *body)
{
	const char *p = (const char *)buf_data(body), *end = p + buf_len(body);
	char key[128];
	size_t n = strlen(name);
	int rc;

	if (n + 4 > sizeof(key))
		return err_set(d->e, EINVAL, "the name is too long");
	/* A name that reads like a number is one for other programs. */
	if (!edit_is_plain(name)) {
		key[0] = key[n + 1] = '"';
		memcpy(key + 1, name, n);
		n += 2;
	} else {
		memcpy(key, name, n);
	}
	key[n++] = ':';
	rc = edit_put_line(d, b, indent, key, n);
	while (p < end && !rc) {
		const char *nl = memchr(p, '\n', (size_t)(end - p));

		nl = nl ? nl : end;
		rc = edit_put_line(d, b, indent + edit_step(d), p, (size_t)(nl - p));
		p = nl < end ? nl + 1 : end;
	}
	return rc;
}

/* Is there an empty line between the last two sandboxes? */
static bool edit_is_airy(const struct edit *d)
{
	size_t n = edit_count(d), at;

	if (n < 2)
		return false;
	at = edit_line_start(d, d->map->child[2 * (n - 1)]->start);
	while (at && edit_is_comment(d, edit_line_start(d, at - 1)))
		at = edit_line_start(d, at - 1);
	return at && edit_is_blank(d, edit_line_start(d, at - 1));
}

/* Where a new one goes, what has to go for it, and how far it is indented. */
struct edit_place {
	size_t from, to, indent;
	bool key; /* `sandboxes:` is missing, too */
};

static int edit_find_place(struct edit *d, bool tight, struct edit_place *p)
{
	size_t column = d->root && d->root->n ? d->root->child[0]->at.column - 1 : 0;
	const struct ytree_node *first;

	*p = (struct edit_place){ .from = d->len, .to = d->len, .indent = column };
	p->key = !d->map;
	if (!d->map)
		return 0;
	if (!edit_count(d)) {
		p->indent = column + 2;
		p->from = p->to = edit_line_end(d, d->key->end);
		if (d->map->end == d->map->start)
			return 0;
		/* `{}` or `~` goes, with what stands behind it on its line. */
		if (d->map->end > p->from || (d->map->flow && d->map->at.line != d->key->at.line))
			return edit_no(d, "'sandboxes' is written in braces");
		p->from = d->map->start;
		p->to = d->map->end;
		return 0;
	}
	if (d->map->flow)
		return edit_no(d, "'sandboxes' is written in braces");
	first = d->map->child[0];
	p->indent = first->at.column - 1;
	p->from = d->map->end == d->len ? d->len : edit_line_start(d, d->map->end);
	if (tight)
		p->from = edit_content_end(d, first->start, d->map->end, p->indent);
	p->to = p->from;
	return 0;
}

static int edit_insert(struct edit *d, const struct edit_place *p, const char *name,
		       const struct buf *body, struct buf *out)
{
	struct buf b = BUF_INIT;
	size_t from = p->from, end = p->to;
	bool newline = from && d->text[from - 1] != '\n';
	int rc = 0;

	if (p->to > p->from) { /* `{}`: what follows on the line stays there */
		while (from && d->text[from - 1] == ' ')
			from--;
		end = edit_line_end(d, p->to);
		rc = edit_put(d, &b, d->text + p->to, end - p->to);
		newline = end == p->to || d->text[end - 1] != '\n';
	}
	if (!rc && newline)
		rc = edit_put_line(d, &b, 0, "", 0);
	if (!rc && (edit_is_airy(d) || (p->key && d->root)))
		rc = edit_put_line(d, &b, 0, "", 0);
	if (!rc && p->key)
		rc = edit_put_line(d, &b, p->indent, EDIT_KEY ":", strlen(EDIT_KEY) + 1);
	if (!rc)
		rc = edit_entry(d, &b, p->indent + (p->key ? 2 : 0), name, body);
	if (!rc)
		rc = edit_apply(d,
				&(struct edit_change){ from, end, (const char *)buf_data(&b),
						       buf_len(&b) },
				out);
	buf_fini(&b);
	return rc;
}

/* Is @out the file @d with @name and the keys of @body behind all others? */
static bool edit_is_added(const struct edit *d, const struct buf *out, const char *name,
			  const struct buf *body)
{
	const char *p = (const char *)buf_data(body);
	struct ytree *keys = NULL;
	struct edit now;
	bool same = false;

	if (!edit_open(&now, (const char *)buf_data(out), buf_len(out), NULL) &&
	    !edit_parse(buf_len(body) ? p : "", buf_len(body), &keys, NULL) && ytree_root(keys) &&
	    edit_same_but(d, &now, edit_count(d))) {
		const struct ytree_node *const *last =
			(const struct ytree_node *const *)now.map->child + 2 * edit_count(d);

		same = !strcmp(last[0]->text, name) && ytree_equal(last[1], ytree_root(keys));
	}
	ytree_free(keys);
	ytree_free(now.tree);
	return same;
}

int edit_add(const char *text, size_t len, const char *name, const struct buf *body,
	     struct buf *out, struct err *e)
{
	struct edit d;
	int rc = edit_open(&d, text, len, e);

	if (!rc && d.map && ytree_get(d.map, name, NULL))
		rc = err_set(e, EEXIST, "there is a sandbox '%.80s' already", name);
	/* First right behind the last one; if that would change it, behind what follows it. */
	for (int tight = 1; tight >= 0 && !rc; tight--) {
		struct edit_place p;

		rc = edit_find_place(&d, tight, &p);
		if (!rc)
			rc = edit_insert(&d, &p, name, body, out);
		if (!rc && edit_is_added(&d, out, name, body))
			goto out;
	}
	if (!rc)
		rc = edit_no(&d, "there is no safe place for another sandbox");
	buf_reset(out);
out:
	ytree_free(d.tree);
	return rc;
}

/* ---- removing ---- */

static int edit_find_lines(struct edit *d, size_t i, struct edit_change *c)
{
	const struct ytree_node *key = d->map->child[2 * i];
	size_t next = i + 1 < d->map->n ? d->map->child[2 * i + 2]->start : d->map->end;
	size_t indent = key->at.column - 1;

	c->from = edit_line_start(d, key->start);
	if (d->map->flow || edit_indent(d, c->from) != key->start - c->from)
		return edit_no(d, "it is not on lines of its own");
	/* Comments at the height of the names are the next one's. */
	c->to = edit_content_end(d, c->from, next, indent + 1);
	if (c->to <= c->from)
		return edit_no(d, "it is not on lines of its own");
	/* The empty line in front goes where another one, or the end, follows. */
	if (c->from && edit_is_blank(d, edit_line_start(d, c->from - 1)) &&
	    (c->to == d->len || edit_is_blank(d, c->to)))
		c->from = edit_line_start(d, c->from - 1);
	return 0;
}

static bool edit_is_removed(const struct edit *d, const struct buf *out, size_t i)
{
	struct edit now;
	bool same = !edit_open(&now, (const char *)buf_data(out), buf_len(out), NULL) &&
		    edit_same_but(&now, d, i);

	ytree_free(now.tree);
	return same;
}

int edit_remove(const char *text, size_t len, const char *name, struct buf *out, struct err *e)
{
	struct edit_change c = { .p = "" };
	struct edit d;
	size_t i = 0;
	int rc = edit_open(&d, text, len, e);

	if (!rc) {
		while (i < edit_count(&d) && strcmp(d.map->child[2 * i]->text, name))
			i++;
		if (i == edit_count(&d))
			rc = err_set(e, ENOENT, "there is no sandbox '%.80s'", name);
	}
	if (!rc)
		rc = edit_find_lines(&d, i, &c);
	if (!rc)
		rc = edit_apply(&d, &c, out);
	if (!rc && !edit_is_removed(&d, out, i))
		rc = edit_no(&d, "other parts of the file need its lines, as an anchor perhaps");
	if (rc)
		buf_reset(out);
	ytree_free(d.tree);
	return rc;
}
