/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libyaml's events, put together to a tree.
 *
 * libyaml bounds nothing: the size of the text, the depth, the nodes and the anchors are
 * bounded here, while the events come.  Its marks count characters; what edits a file wants
 * bytes, so texts that are not ASCII get a table of where each character begins.
 */
#include "codec/ytree.h"

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

#include "base/mem.h"
#include "codec/utf8.h"

#define YTREE_CHUNK 16384u
#define YTREE_TAGS "tag:yaml.org,2002:"
#define YTREE_COMPARE_MAX (8u * YTREE_NODES_MAX)

struct ytree_chunk {
	struct ytree_chunk *next;
	size_t used, size;
	max_align_t mem[];
};

struct ytree {
	struct ytree_chunk *chunks;
	struct ytree_node *root;
};

struct ytree_anchor {
	char *name;
	struct ytree_node *node;
	bool open; /* what it names is not complete */
};

/* A list or map that is being read. */
struct ytree_level {
	struct ytree_node *node;
	struct ytree_node **child;
	size_t n, cap;
};

struct ytree_reader {
	struct ytree *t;
	yaml_parser_t parser;
	const char *text;
	size_t len;
	size_t skip; /* bytes in front of @text: a byte order mark */
	uint32_t *bytes; /* of each character; NULL = one byte each */
	size_t n_chars;
	struct ytree_level level[YTREE_DEPTH_MAX];
	unsigned depth;
	struct ytree_anchor anchors[YTREE_ANCHORS_MAX];
	unsigned n_anchors;
	size_t nodes;
	struct ytree_at *at;
	struct err *e;
};

/* ---- memory ---- */

void *ytree_alloc(struct ytree *t, size_t n)
{
	struct ytree_chunk *c = t->chunks;
	void *p;

	if (n > SIZE_MAX / 2)
		return NULL;
	n = (n + sizeof(max_align_t) - 1) & ~(sizeof(max_align_t) - 1);
	if (!c || n > c->size - c->used) {
		size_t size = n > YTREE_CHUNK ? n : YTREE_CHUNK;

		c = malloc(sizeof(*c) + size);
		if (!c)
			return NULL;
		c->next = t->chunks;
		c->used = 0;
		c->size = size;
		t->chunks = c;
	}
	p = (char *)c->mem + c->used;
	c->used += n;
	return memset(p, 0, n);
}

void ytree_free(struct ytree *t)
{
	if (!t)
		return;
	while (t->chunks) {
		struct ytree_chunk *c = t->chunks;

		t->chunks = c->next;
		free(c);
	}
	free(t);
}

/* ---- errors ---- */

static int ytree_memory(struct ytree_reader *r)
{
	return err_errno(r->e, ENOMEM, "read YAML");
}

static struct ytree_at ytree_mark_at(const yaml_mark_t *m)
{
	return (struct ytree_at){ (unsigned)m->line + 1, (unsigned)m->column + 1 };
}

static int ytree_bad(struct ytree_reader *r, struct ytree_at at, const char *why)
{
	*r->at = at;
	return err_set(r->e, EINVAL, "%s", why);
}

static int ytree_bad_name(struct ytree_reader *r, struct ytree_at at, const char *why,
			  const char *name)
{
	*r->at = at;
	return err_set(r->e, EINVAL, "%s: '%.64s'", why, name);
}

/* Line and column of a byte. */
static struct ytree_at ytree_at_byte(const char *text, size_t byte)
{
	struct ytree_at at = { 1, 1 };

	for (size_t i = 0; i < byte; i++) {
		if (text[i] == '\n') {
			at.line++;
			at.column = 1;
		} else if (((unsigned char)text[i] & 0xc0) != 0x80) {
			at.column++;
		}
	}
	return at;
}

/* What libyaml found, with the words of its commonest finding put for people. */
static int ytree_syntax(struct ytree_reader *r)
{
	const yaml_parser_t *p = &r->parser;
	struct ytree_at at = ytree_mark_at(&p->problem_mark);

	if (p->error == YAML_MEMORY_ERROR)
		return ytree_memory(r);
	if (p->error == YAML_READER_ERROR)
		return ytree_bad(r, ytree_at_byte(r->text, p->problem_offset),
				 "a control character, which no YAML has");
	*r->at = at;
	if (p->problem && strstr(p->problem, "cannot start any token")) {
		size_t i = p->problem_mark.index;
		size_t byte = r->bytes && i < r->n_chars ? r->bytes[i] : i;

		if (byte < r->len && r->text[byte] == '\t')
			return err_set(r->e, EINVAL,
				       "a tab: YAML is indented with spaces, tabs are an error");
		return err_set(r->e, EINVAL, "a text cannot begin with '%c': put it in quotes",
			       byte < r->len ? r->text[byte] : '?');
	}
	if (p->context && p->context_mark.line + 1 != at.line)
		return err_set(r->e, EINVAL, "not YAML: %s (%s at line %zu)",
			       p->problem ? p->problem : "?", p->context, p->context_mark.line + 1);
	return err_set(r->e, EINVAL, "not YAML: %s", p->problem ? p->problem : "?");
}

/* ---- the text ---- */

/* Is it UTF-8, and where is each character? */
static int ytree_measure(struct ytree_reader *r)
{
	const uint8_t *p = (const uint8_t *)r->text;
	bool ascii = true;
	unsigned bad;

	for (size_t i = 0; i < r->len;) {
		unsigned n = utf8_next(p + i, r->len - i, &bad);

		if (!n || !p[i])
			return ytree_bad(
				r, ytree_at_byte(r->text, i),
				n ? "a NUL byte: this is no text"
				  : "not UTF-8: this is no text, or one of an old encoding");
		ascii = ascii && n == 1;
		r->n_chars++;
		i += n;
	}
	if (ascii)
		return 0;
	r->bytes = malloc((r->n_chars + 1) * sizeof(*r->bytes));
	if (!r->bytes)
		return ytree_memory(r);
	r->n_chars = 0;
	for (size_t i = 0; i < r->len; i++)
		if ((p[i] & 0xc0) != 0x80)
			r->bytes[r->n_chars++] = (uint32_t)i;
	r->bytes[r->n_chars] = (uint32_t)r->len;
	return 0;
}

static size_t ytree_byte(const struct ytree_reader *r, const yaml_mark_t *m)
{
	if (m->index >= r->n_chars)
		return r->skip + r->len;
	return r->skip + (r->bytes ? r->bytes[m->index] : m->index);
}

/* ---- keys ---- */

struct ytree_key {
	const struct ytree_node *key;
	size_t i;
};

static int ytree_compare_text(const struct ytree_node *x, const struct ytree_node *y)
{
	size_t n = x->len < y->len ? x->len : y->len;
	int d = memcmp(x->text, y->text, n);

	return d ? d : (x->len > y->len) - (x->len < y->len);
}

static int ytree_compare_keys(const void *a, const void *b)
{
	const struct ytree_key *x = a, *y = b;
	int d = ytree_compare_text(x->key, y->key);

	return d ? d : (x->i > y->i) - (x->i < y->i);
}

/* The keys of a map, sorted. NULL = no memory. */
static struct ytree_key *ytree_sort_keys(const struct ytree_node *map)
{
	struct ytree_key *v = calloc(map->n + 1, sizeof(*v));

	for (size_t i = 0; v && i < map->n; i++)
		v[i] = (struct ytree_key){ map->child[2 * i], i };
	if (v)
		qsort(v, map->n, sizeof(*v), ytree_compare_keys);
	return v;
}

static bool ytree_has_key(const struct ytree_key *sorted, size_t n, const struct ytree_node *key)
{
	size_t low = 0, high = n;

	while (low < high) {
		size_t mid = low + (high - low) / 2;
		int d = ytree_compare_text(sorted[mid].key, key);

		if (!d)
			return true;
		if (d < 0)
			low = mid + 1;
		else
			high = mid;
	}
	return false;
}

static bool ytree_is_merge(const struct ytree_node *key)
{
	return key->plain && !strcmp(key->text, "<<");
}

static int ytree_check_keys(struct ytree_reader *r, const struct ytree_node *map)
{
	struct ytree_key *v = ytree_sort_keys(map);
	int rc = 0;

	if (!v)
		return ytree_memory(r);
	for (size_t i = 1; i < map->n && !rc; i++) {
		if (ytree_compare_text(v[i].key, v[i - 1].key))
			continue;
		*r->at = v[i].key->at;
		rc = err_set(r->e, EINVAL, "'%.64s' is here twice: it stands at line %u already",
			     v[i].key->text, v[i - 1].key->at.line);
	}
	free(v);
	return rc;
}

/* ---- merge keys ---- */

/* Adds to @map the keys of @from that it does not have. */
static int ytree_merge_one(struct ytree_reader *r, struct ytree_node *map,
			   const struct ytree_node *from, struct ytree_at at)
{
	struct ytree_key *v;
	struct ytree_node **child;
	size_t n = map->n;

	if (from->kind != YTREE_MAP)
		return ytree_bad(r, at,
				 "'<<' takes a mapping, as in '<<: *name', or a list of them");
	r->nodes += 2 * from->n + 1;
	if (r->nodes > YTREE_NODES_MAX)
		return ytree_bad(r, at, "too many keys come by '<<'");
	v = ytree_sort_keys(map);
	child = ytree_alloc(r->t, 2 * (n + from->n) * sizeof(struct ytree_node *));
	if (!v || !child) {
		free(v);
		return ytree_memory(r);
	}
	if (n)
		memcpy(child, map->child, 2 * n * sizeof(struct ytree_node *));
	map->child = child;
	for (size_t i = 0; i < from->n; i++) {
		if (ytree_has_key(v, n, from->child[2 * i]))
			continue;
		child[2 * map->n] = from->child[2 * i];
		child[2 * map->n + 1] = from->child[2 * i + 1];
		map->n++;
	}
	free(v);
	return 0;
}

/* Takes `<<` out of a map and puts in what it brings, behind the map's own keys. */
static int ytree_merge(struct ytree_reader *r, struct ytree_node *map)
{
	const struct ytree_node *value;
	struct ytree_at at;
	size_t i = 0;
	int rc = 0;

	while (i < map->n && !ytree_is_merge(map->child[2 * i]))
		i++;
	if (i == map->n)
		return 0;
	at = map->child[2 * i]->at;
	value = map->child[2 * i + 1];
	memmove(map->child + 2 * i, map->child + 2 * i + 2,
		2 * (map->n - i - 1) * sizeof(struct ytree_node *));
	map->n--;
	map->merged = true;
	if (value->kind != YTREE_LIST)
		return ytree_merge_one(r, map, value, at);
	for (i = 0; i < value->n && !rc; i++)
		rc = ytree_merge_one(r, map, value->child[i], at);
	return rc;
}

/* ---- events ---- */

static struct ytree_node *ytree_new(struct ytree_reader *r, const yaml_event_t *ev,
				    enum ytree_kind kind)
{
	struct ytree_node *n;

	if (++r->nodes > YTREE_NODES_MAX) {
		ytree_bad(r, ytree_mark_at(&ev->start_mark), "too many values for one file");
		return NULL;
	}
	n = ytree_alloc(r->t, sizeof(*n));
	if (!n) {
		ytree_memory(r);
		return NULL;
	}
	n->kind = kind;
	n->at = ytree_mark_at(&ev->start_mark);
	n->start = ytree_byte(r, &ev->start_mark);
	n->end = ytree_byte(r, &ev->end_mark);
	return n;
}

/* Puts a node where it belongs. */
static int ytree_put(struct ytree_reader *r, struct ytree_node *n, struct ytree_at at)
{
	struct ytree_level *l;

	if (!r->depth) {
		r->t->root = n;
		return 0;
	}
	l = &r->level[r->depth - 1];
	if (l->node->kind == YTREE_MAP && l->n % 2 == 0 && n->kind != YTREE_SCALAR)
		return ytree_bad(r, at, "a key has to be a text, not a list or mapping");
	if (l->n == l->cap) {
		size_t cap = l->cap ? 2 * l->cap : 16;
		struct ytree_node **v = reallocarray(l->child, cap, sizeof(struct ytree_node *));

		if (!v)
			return ytree_memory(r);
		l->child = v;
		l->cap = cap;
	}
	l->child[l->n++] = n;
	return 0;
}

static int ytree_tag(struct ytree_reader *r, const yaml_char_t *tag, struct ytree_at at)
{
	static const char *const known[] = { "str", "int", "bool", "float", "null", "seq", "map" };
	const char *s = (const char *)tag;
	size_t n = strlen(YTREE_TAGS);

	if (!s || !strcmp(s, "!"))
		return 0;
	for (size_t i = 0; i < ARRAY_SIZE(known); i++)
		if (!strncmp(s, YTREE_TAGS, n) && !strcmp(s + n, known[i]))
			return 0;
	return ytree_bad_name(r, at, "this tag means nothing here", s);
}

/* An anchor that is given again means the new node from then on. */
static int ytree_anchor(struct ytree_reader *r, const yaml_char_t *name, struct ytree_node *n,
			bool open)
{
	unsigned i;

	if (!name)
		return 0;
	n->anchor = true;
	for (i = 0; i < r->n_anchors; i++)
		if (!strcmp(r->anchors[i].name, (const char *)name))
			break;
	if (i == YTREE_ANCHORS_MAX)
		return ytree_bad(r, n->at, "too many anchors");
	if (i == r->n_anchors) {
		r->anchors[i].name = strdup((const char *)name);
		if (!r->anchors[i].name)
			return ytree_memory(r);
		r->n_anchors++;
	}
	r->anchors[i].node = n;
	r->anchors[i].open = open;
	return 0;
}

static int ytree_on_alias(struct ytree_reader *r, const yaml_event_t *ev)
{
	const char *name = (const char *)ev->data.alias.anchor;
	struct ytree_at at = ytree_mark_at(&ev->start_mark);

	if (++r->nodes > YTREE_NODES_MAX)
		return ytree_bad(r, at, "too many values for one file");
	for (unsigned i = 0; i < r->n_anchors; i++) {
		if (strcmp(r->anchors[i].name, name))
			continue;
		if (r->anchors[i].open)
			return ytree_bad_name(r, at, "an alias of what it stands in", name);
		return ytree_put(r, r->anchors[i].node, at);
	}
	return ytree_bad_name(r, at, "no anchor of this name stands before it", name);
}

static int ytree_on_scalar(struct ytree_reader *r, const yaml_event_t *ev)
{
	struct ytree_node *n = ytree_new(r, ev, YTREE_SCALAR);
	char *text;
	int rc;

	if (!n)
		return -r->e->code;
	n->plain = ev->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
	n->len = ev->data.scalar.length;
	text = ytree_alloc(r->t, n->len + 1);
	if (!text)
		return ytree_memory(r);
	memcpy(text, ev->data.scalar.value, n->len);
	n->text = text;
	if (memchr(text, '\0', n->len))
		return ytree_bad(r, n->at, "a text cannot hold a NUL byte (\\0)");
	rc = ytree_tag(r, ev->data.scalar.tag, n->at);
	if (!rc)
		rc = ytree_anchor(r, ev->data.scalar.anchor, n, false);
	return rc ? rc : ytree_put(r, n, n->at);
}

static int ytree_on_open(struct ytree_reader *r, const yaml_event_t *ev)
{
	bool map = ev->type == YAML_MAPPING_START_EVENT;
	struct ytree_node *n = ytree_new(r, ev, map ? YTREE_MAP : YTREE_LIST);
	int rc;

	if (!n)
		return -r->e->code;
	if (r->depth == YTREE_DEPTH_MAX)
		return ytree_bad(r, n->at, "nested too deeply");
	n->flow = map ? ev->data.mapping_start.style == YAML_FLOW_MAPPING_STYLE
		      : ev->data.sequence_start.style == YAML_FLOW_SEQUENCE_STYLE;
	rc = ytree_tag(r, map ? ev->data.mapping_start.tag : ev->data.sequence_start.tag, n->at);
	if (!rc)
		rc = ytree_anchor(r,
				  map ? ev->data.mapping_start.anchor
				      : ev->data.sequence_start.anchor,
				  n, true);
	if (!rc)
		rc = ytree_put(r, n, n->at);
	if (!rc)
		r->level[r->depth++] = (struct ytree_level){ .node = n };
	return rc;
}

static int ytree_on_close(struct ytree_reader *r, const yaml_event_t *ev)
{
	struct ytree_level *l = &r->level[r->depth - 1];
	struct ytree_node *n = l->node;
	int rc = 0;

	n->end = ytree_byte(r, &ev->end_mark);
	n->n = n->kind == YTREE_MAP ? l->n / 2 : l->n;
	if (l->n) {
		n->child = ytree_alloc(r->t, l->n * sizeof(struct ytree_node *));
		if (!n->child)
			return ytree_memory(r);
		memcpy(n->child, l->child, l->n * sizeof(struct ytree_node *));
	}
	free(l->child);
	r->depth--;
	for (unsigned i = 0; i < r->n_anchors; i++)
		if (r->anchors[i].node == n)
			r->anchors[i].open = false;
	if (n->kind == YTREE_MAP) {
		rc = ytree_check_keys(r, n);
		if (!rc)
			rc = ytree_merge(r, n);
	}
	return rc;
}

static int ytree_on_event(struct ytree_reader *r, const yaml_event_t *ev)
{
	switch (ev->type) {
	case YAML_DOCUMENT_START_EVENT:
		if (r->t->root)
			return ytree_bad(r, ytree_mark_at(&ev->start_mark),
					 "a second document: one file has one");
		return 0;
	case YAML_ALIAS_EVENT:
		return ytree_on_alias(r, ev);
	case YAML_SCALAR_EVENT:
		return ytree_on_scalar(r, ev);
	case YAML_SEQUENCE_START_EVENT:
	case YAML_MAPPING_START_EVENT:
		return ytree_on_open(r, ev);
	case YAML_SEQUENCE_END_EVENT:
	case YAML_MAPPING_END_EVENT:
		return ytree_on_close(r, ev);
	default:
		return 0;
	}
}

static int ytree_run(struct ytree_reader *r)
{
	bool end = false;
	int rc = 0;

	yaml_parser_set_encoding(&r->parser, YAML_UTF8_ENCODING);
	yaml_parser_set_input_string(&r->parser, (const unsigned char *)r->text, r->len);
	while (!rc && !end) {
		yaml_event_t ev;

		if (!yaml_parser_parse(&r->parser, &ev))
			return ytree_syntax(r);
		rc = ytree_on_event(r, &ev);
		end = ev.type == YAML_STREAM_END_EVENT;
		yaml_event_delete(&ev);
	}
	return rc;
}

int ytree_parse(const char *text, size_t len, struct ytree **out, struct ytree_at *at, struct err *e)
{
	struct err own = ERR_INIT;
	struct ytree_reader *r;
	int rc;

	*at = (struct ytree_at){ 0, 0 };
	if (!e)
		e = &own; /* the first error decides what is returned */
	if (len > YTREE_BYTES_MAX)
		return err_set(e, EFBIG, "larger than %u KiB", YTREE_BYTES_MAX >> 10);
	r = calloc(1, sizeof(*r));
	if (!r)
		return err_errno(e, ENOMEM, "read YAML");
	r->skip = len >= 3 && !memcmp(text, "\xef\xbb\xbf", 3) ? 3 : 0;
	r->text = text + r->skip;
	r->len = len - r->skip;
	r->at = at;
	r->e = e;
	r->t = calloc(1, sizeof(*r->t));
	if (!r->t || !yaml_parser_initialize(&r->parser)) {
		free(r->t);
		free(r);
		return err_errno(e, ENOMEM, "read YAML");
	}
	rc = ytree_measure(r);
	if (!rc)
		rc = ytree_run(r);
	yaml_parser_delete(&r->parser);
	while (r->depth)
		free(r->level[--r->depth].child);
	while (r->n_anchors)
		free(r->anchors[--r->n_anchors].name);
	free(r->bytes);
	if (rc)
		ytree_free(r->t);
	else
		*out = r->t;
	free(r);
	return rc;
}

/* ---- looking ---- */

const struct ytree_node *ytree_root(const struct ytree *t)
{
	return t->root;
}

bool ytree_is_null(const struct ytree_node *n)
{
	return n->kind == YTREE_SCALAR && n->plain &&
	       (!n->len || !strcmp(n->text, "~") || !strcasecmp(n->text, "null"));
}

const struct ytree_node *ytree_get(const struct ytree_node *map, const char *key,
				   const struct ytree_node **key_node)
{
	for (size_t i = 0; map->kind == YTREE_MAP && i < map->n; i++) {
		if (strcmp(map->child[2 * i]->text, key))
			continue;
		if (key_node)
			*key_node = map->child[2 * i];
		return map->child[2 * i + 1];
	}
	return NULL;
}

/* Aliases make a tree that is larger than its text: @left bounds the steps. */
static bool ytree_compare(const struct ytree_node *a, const struct ytree_node *b, size_t *left)
{
	size_t n;

	if (!*left)
		return false;
	--*left;
	if (a->kind != b->kind)
		return false;
	if (a->kind == YTREE_SCALAR)
		return a->len == b->len && !memcmp(a->text, b->text, a->len) &&
		       ytree_is_null(a) == ytree_is_null(b);
	if (a->n != b->n)
		return false;
	n = a->kind == YTREE_MAP ? 2 * a->n : a->n;
	for (size_t i = 0; i < n; i++)
		if (!ytree_compare(a->child[i], b->child[i], left))
			return false;
	return true;
}

bool ytree_equal(const struct ytree_node *a, const struct ytree_node *b)
{
	size_t left = YTREE_COMPARE_MAX;

	return ytree_compare(a, b, &left);
}
