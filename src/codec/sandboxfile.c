/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From a tree to sandboxes, by the table of sandboxfile_keys.c.
 *
 * An error does not end the reading: what is left is read for what else is wrong, and the
 * first error of the file is the one that is returned.  Only then the sandboxes are looked at
 * together (sandboxfile_graph.c).
 */
#include "codec/sandboxfile.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "codec/netrule.h"
#include "codec/sandboxfile_internal.h"
#include "codec/sandboxfile_keys.h"

#define SANDBOXFILE_MADE_MAX (4u * SANDBOXFILE_BYTES_MAX)

/* ---- notes ---- */

static bool sandboxfile_before(struct ytree_at a, struct ytree_at b)
{
	return a.line != b.line ? a.line < b.line : a.column < b.column;
}

void sandboxfile_notes_add(struct sandboxfile_notes *l, bool error, struct ytree_at at,
			   const char *text)
{
	struct sandboxfile_note n = { .at = at, .error = error };
	size_t i;

	snprintf(n.text, sizeof(n.text), "%s", text);
	err_sanitise(n.text);
	if (error)
		l->errors++;
	if (l->n == SANDBOXFILE_NOTES_MAX) {
		l->more++;
		if (!error || !sandboxfile_before(at, l->v[l->n - 1].at))
			return;
		l->n--;
	}
	for (i = l->n; i && sandboxfile_before(at, l->v[i - 1].at); i--)
		l->v[i] = l->v[i - 1];
	l->v[i] = n;
	l->n++;
}

static void sandboxfile_vnote(struct sandboxfile_reader *r, bool error, struct ytree_at at,
			      const char *fmt, va_list ap)
{
	char text[SANDBOXFILE_NOTE_MAX];

	vsnprintf(text, sizeof(text), fmt, ap);
	sandboxfile_notes_add(r->notes, error, at, text);
}

int sandboxfile_bad(struct sandboxfile_reader *r, struct ytree_at at, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	sandboxfile_vnote(r, true, at, fmt, ap);
	va_end(ap);
	return -EINVAL;
}

void sandboxfile_warn(struct sandboxfile_reader *r, struct ytree_at at, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	sandboxfile_vnote(r, false, at, fmt, ap);
	va_end(ap);
}

int sandboxfile_memory(struct sandboxfile_reader *r)
{
	r->no_memory = true;
	return -ENOMEM;
}

/* ---- scalars ---- */

/* The text that a node has to be; NULL after a message. */
const char *sandboxfile_text(struct sandboxfile_reader *r, const char *key,
			     const struct ytree_node *v)
{
	if (v->kind != YTREE_SCALAR) {
		sandboxfile_bad(r, v->at, "%s takes a text, not a %s", key,
				v->kind == YTREE_MAP ? "mapping" : "list");
		return NULL;
	}
	if (ytree_is_null(v)) {
		sandboxfile_bad(r, v->at, "%s has no value", key);
		return NULL;
	}
	return v->text;
}

/*
 * An alias costs nothing where it stands for a node.  A text that is put together is a copy, and
 * by aliases there could be any number of them.
 */
int sandboxfile_spend(struct sandboxfile_reader *r, const char *key, struct ytree_at at, size_t size)
{
	if (size > SANDBOXFILE_MADE_MAX - r->made)
		return sandboxfile_bad(r, at, "%s: too much text comes by aliases", key);
	r->made += size;
	return 0;
}

char *sandboxfile_make(struct sandboxfile_reader *r, const char *key, struct ytree_at at,
		       size_t size)
{
	char *text;

	if (sandboxfile_spend(r, key, at, size))
		return NULL;
	text = ytree_alloc(r->f->tree, size);
	if (!text)
		sandboxfile_memory(r);
	return text;
}

/* "1.5G" by a list of units, the first for a number alone. */
struct sandboxfile_unit {
	const char *name;
	double factor;
};

static bool sandboxfile_scaled(const char *s, const struct sandboxfile_unit *units, uint64_t *out)
{
	size_t n = strspn(s, "0123456789.");
	char *end;
	double v;

	if (!n || n > 20 || *s == '.')
		return false;
	v = strtod(s, &end);
	if (end != s + n || !isfinite(v))
		return false;
	for (; units->name; units++) {
		if (strcasecmp(end, units->name))
			continue;
		v *= units->factor;
		if (v >= 9e18)
			return false;
		*out = (uint64_t)v;
		return true;
	}
	return false;
}

int sandboxfile_number(struct sandboxfile_reader *r, const struct sandboxfile_key *k,
		       const char *text, struct ytree_at at, uint64_t *out)
{
	static const struct sandboxfile_unit sizes[] = {
		{ "", 1 << 20 },    { "m", 1 << 20 },         { "mb", 1 << 20 },
		{ "mib", 1 << 20 }, { "g", 1 << 30 },         { "gb", 1 << 30 },
		{ "gib", 1 << 30 }, { "t", 1099511627776.0 }, { "tib", 1099511627776.0 },
		{ "k", 1 << 10 },   { "kib", 1 << 10 },       { "b", 1 },
		{ NULL, 0 },
	};
	static const struct sandboxfile_unit times[] = {
		{ "", 1000 },       { "s", 1000 },       { "ms", 1 }, { "m", 60000 },
		{ "h", 3600000.0 }, { "d", 86400000.0 }, { NULL, 0 },
	};
	static const struct sandboxfile_unit counts[] = { { "", 1 }, { NULL, 0 } };
	uint64_t v = 0;

	switch (k->type) {
	case SANDBOXFILE_SIZE:
		if (sandboxfile_scaled(text, sizes, &v) && v >= k->min && v <= k->max)
			break;
		return sandboxfile_bad(r, at,
				       "%s is '%.64s': give MiB or a size such as 512M or 2G, from "
				       "%lluM to %lluG",
				       k->name, text, (unsigned long long)(k->min >> 20),
				       (unsigned long long)(k->max >> 30));
	case SANDBOXFILE_TIME:
		if (sandboxfile_scaled(text, times, &v) && v >= k->min && v <= k->max)
			break;
		return sandboxfile_bad(r, at,
				       "%s is '%.64s': give seconds or a time such as 1.5s, 10m or "
				       "2h, at least %llums",
				       k->name, text, (unsigned long long)k->min);
	default:
		if (!strchr(text, '.') && sandboxfile_scaled(text, counts, &v) && v >= k->min &&
		    v <= k->max)
			break;
		return sandboxfile_bad(r, at, "%s is '%.64s': give a number from %llu to %llu",
				       k->name, text, (unsigned long long)k->min,
				       (unsigned long long)k->max);
	}
	*out = v;
	return 0;
}

/* Is it one of the values that there are? */
static int sandboxfile_one_of(struct sandboxfile_reader *r, const struct sandboxfile_key *k,
			      const char *text, struct ytree_at at, const char **out)
{
	char all[128] = "";

	for (const char *const *v = k->values; *v; v++) {
		if (!strcasecmp(*v, text)) {
			*out = *v;
			return 0;
		}
		snprintf(all + strlen(all), sizeof(all) - strlen(all), "%s%s", all[0] ? ", " : "",
			 *v);
	}
	return sandboxfile_bad(r, at, "%s is '%.64s': use one of %s", k->name, text, all);
}

/* ---- lists ---- */

int sandboxfile_take(struct sandboxfile_reader *r, const struct sandboxfile_key *k, void *owner,
		     const char *text, struct ytree_at at)
{
	struct err e = ERR_INIT;
	int rc = k->take ? k->take(owner, text, at, &e) : 0;

	if (rc == -ENOMEM)
		return sandboxfile_memory(r);
	return rc ? sandboxfile_bad(r, at, "%s: %s", k->name, err_text(&e)) : 0;
}

int sandboxfile_list_room(struct sandboxfile_reader *r, const struct sandboxfile_key *k, size_t n,
			  struct ytree_at at, struct sandboxfile_list *l)
{
	if (n > SANDBOXFILE_LIST_MAX)
		return sandboxfile_bad(r, at, "%s has more than %u items", k->name,
				       SANDBOXFILE_LIST_MAX);
	l->n = 0;
	l->v = ytree_alloc(r->f->tree, (n + 1) * sizeof(*l->v));
	l->at = ytree_alloc(r->f->tree, (n + 1) * sizeof(*l->at));
	return l->v && l->at ? 0 : sandboxfile_memory(r);
}

/* The nodes of a list; one text is one where the key says so. */
static int sandboxfile_items(struct sandboxfile_reader *r, const struct sandboxfile_key *k,
			     const struct ytree_node *v, struct ytree_node *const **items,
			     size_t *n)
{
	*items = v->child;
	*n = v->n;
	if (v->kind == YTREE_LIST)
		return 0;
	*n = 0;
	if (v->kind == YTREE_SCALAR && ytree_is_null(v))
		return 0;
	return sandboxfile_bad(r, v->at, "%s takes a list%s%s", k->name,
			       k->example ? ", as in " : "", k->example ? k->example : "");
}

int sandboxfile_bind_list(struct sandboxfile_reader *r, const struct sandboxfile_key *k,
			  const struct ytree_node *v, void *owner)
{
	struct sandboxfile_list local, *l = &local;
	struct ytree_node *one[1] = { (struct ytree_node *)v };
	struct ytree_node *const *items = one;
	size_t n = 1;
	int rc = 0, bad;

	if (!k->taken)
		l = (struct sandboxfile_list *)((char *)owner + k->offset);
	if (k->type != SANDBOXFILE_LIST_OR_TEXT || v->kind != YTREE_SCALAR || ytree_is_null(v))
		rc = sandboxfile_items(r, k, v, &items, &n);
	if (!rc)
		rc = sandboxfile_list_room(r, k, n, v->at, l);
	if (rc)
		return rc;
	for (size_t i = 0; i < n; i++) {
		const char *text = sandboxfile_text(r, k->name, items[i]);

		bad = text ? sandboxfile_take(r, k, owner, text, items[i]->at) : -EINVAL;
		if (bad == -ENOMEM)
			return bad;
		if (bad) {
			rc = bad;
			continue;
		}
		l->at[l->n] = items[i]->at;
		l->v[l->n++] = text;
	}
	return rc;
}

/* NAME=value of one entry of a mapping; NULL after a message. */
static const char *sandboxfile_pair(struct sandboxfile_reader *r, const struct sandboxfile_key *k,
				    const struct ytree_node *name, const struct ytree_node *value)
{
	const char *text = ytree_is_null(value) ? "" : sandboxfile_text(r, k->name, value);
	size_t size = name->len + (text ? strlen(text) : 0) + 2;
	char *pair;

	if (!text)
		return NULL;
	if (strchr(name->text, '=')) {
		sandboxfile_bad(r, name->at, "%s: a name cannot hold '='", k->name);
		return NULL;
	}
	pair = sandboxfile_make(r, k->name, name->at, size);
	if (pair)
		snprintf(pair, size, "%s=%s", name->text, text);
	return pair;
}

/*
 * A list, or a mapping in its place: NAME=value for each of its entries, or, where the names are
 * for people alone, the values.
 */
static int sandboxfile_bind_named(struct sandboxfile_reader *r, const struct sandboxfile_key *k,
				  const struct ytree_node *v, void *owner)
{
	struct sandboxfile_list *l = (struct sandboxfile_list *)((char *)owner + k->offset);
	int rc;

	if (v->kind != YTREE_MAP)
		return sandboxfile_bind_list(r, k, v, owner);
	rc = sandboxfile_list_room(r, k, v->n, v->at, l);
	for (size_t i = 0; i < v->n && !rc; i++) {
		const struct ytree_node *name = v->child[2 * i], *value = v->child[2 * i + 1];
		const char *text = k->type == SANDBOXFILE_PAIRS
					   ? sandboxfile_pair(r, k, name, value)
					   : sandboxfile_text(r, k->name, value);

		if (!text)
			return -EINVAL;
		rc = sandboxfile_take(r, k, owner, text, name->at);
		l->at[l->n] = name->at;
		l->v[l->n++] = text;
	}
	return rc;
}

static int sandboxfile_bind_map(struct sandboxfile_reader *r, const struct sandboxfile_key *k,
				const struct ytree_node *v, void *owner)
{
	struct sandboxfile_map *m = (struct sandboxfile_map *)((char *)owner + k->offset);
	int rc = 0;

	if (v->kind == YTREE_SCALAR && ytree_is_null(v))
		return 0;
	if (v->kind != YTREE_MAP)
		return sandboxfile_bad(r, v->at, "%s takes a mapping%s%s", k->name,
				       k->example ? ", as in " : "", k->example ? k->example : "");
	if (v->n > SANDBOXFILE_LIST_MAX)
		return sandboxfile_bad(r, v->at, "%s has more than %u items", k->name,
				       SANDBOXFILE_LIST_MAX);
	m->v = ytree_alloc(r->f->tree, (v->n + 1) * sizeof(*m->v));
	if (!m->v)
		return sandboxfile_memory(r);
	for (size_t i = 0; i < v->n && !rc; i++) {
		const struct ytree_node *name = v->child[2 * i];
		const char *text;

		rc = sandboxfile_take(r, k, owner, name->text, name->at);
		text = rc ? NULL : sandboxfile_text(r, name->text, v->child[2 * i + 1]);
		if (!rc && !text)
			rc = -EINVAL;
		m->v[m->n++] = (struct sandboxfile_entry){ name->text, text, name->at };
	}
	return rc;
}

/* ---- network ---- */

static int sandboxfile_policy_text(struct sandboxfile_reader *r, const struct netpolicy *p,
				   const char **out)
{
	struct buf b = BUF_INIT;
	char *text;
	int rc = netpolicy_format(p, &b);

	text = rc ? NULL : ytree_alloc(r->f->tree, buf_len(&b) + 1);
	if (text && buf_len(&b))
		memcpy(text, buf_data(&b), buf_len(&b));
	buf_fini(&b);
	*out = text;
	return text ? 0 : sandboxfile_memory(r);
}

static int sandboxfile_bind_rules(struct sandboxfile_reader *r, const struct sandboxfile_key *k,
				  const struct ytree_node *v, const char **out)
{
	auto_free struct netpolicy *p = calloc(1, sizeof(*p));
	struct ytree_node *const *items;
	size_t n;
	int rc = sandboxfile_items(r, k, v, &items, &n);

	if (!p)
		return sandboxfile_memory(r);
	for (size_t i = 0; i < n && !rc; i++) {
		const char *text = sandboxfile_text(r, k->name, items[i]);
		struct err e = ERR_INIT;

		if (!text)
			return -EINVAL;
		rc = netpolicy_add(p, text, strlen(text), &e);
		if (rc)
			rc = sandboxfile_bad(r, items[i]->at, "%s: %s", k->name, err_text(&e));
	}
	return rc || !n ? rc : sandboxfile_policy_text(r, p, out);
}

/* A list of rules, or what others write: {scope: public}. */
static int sandboxfile_bind_network(struct sandboxfile_reader *r, const struct sandboxfile_key *k,
				    const struct ytree_node *v, struct sandboxfile_sandbox *s)
{
	static const struct sandboxfile_key rules = { .name = "rules" };
	int rc = 0;

	if (v->kind != YTREE_MAP)
		return sandboxfile_bind_rules(r, k, v, &s->network);
	for (size_t i = 0; i < v->n && !rc; i++) {
		const struct ytree_node *name = v->child[2 * i], *value = v->child[2 * i + 1];
		const struct sandboxfile_key *scope =
			sandboxfile_key_find(sandboxfile_sandbox_keys, "scope");

		if (!strcmp(name->text, "rules")) {
			rc = sandboxfile_bind_rules(r, &rules, value, &s->network);
		} else if (!strcmp(name->text, "scope")) {
			const char *text = sandboxfile_text(r, "scope", value);

			if (s->scope)
				return sandboxfile_bad(r, name->at, "the scope is given twice");
			rc = text ? sandboxfile_one_of(r, scope, text, value->at, &s->scope)
				  : -EINVAL;
		} else {
			rc = sandboxfile_bad(r, name->at,
					     "network has no '%.64s': it takes a list of rules, or "
					     "'scope' and 'rules'",
					     name->text);
		}
	}
	return rc;
}

/* ---- objects ---- */

static int sandboxfile_bind_text(struct sandboxfile_reader *r, const struct sandboxfile_key *k,
				 const struct ytree_node *v, void *owner)
{
	void *to = (char *)owner + k->offset;
	const char *text = sandboxfile_text(r, k->name, v);
	int rc;

	if (!text)
		return -EINVAL;
	if (k->type != SANDBOXFILE_TEXT)
		return sandboxfile_number(r, k, text, v->at, to);
	if (k->values && *(const char **)to) /* `network: {scope: …}` came first */
		return sandboxfile_bad(r, v->at, "the %s is given twice", k->name);
	if (k->values)
		return sandboxfile_one_of(r, k, text, v->at, to);
	rc = sandboxfile_take(r, k, owner, text, v->at);
	if (!rc)
		*(const char **)to = text;
	return rc;
}

static int sandboxfile_bind(struct sandboxfile_reader *r, const struct sandboxfile_key *k,
			    const struct ytree_node *v, struct ytree_at at, void *owner)
{
	if (k->refused)
		return sandboxfile_bad(r, at, "%s is %s", k->name, k->refused);
	switch (k->type) {
	case SANDBOXFILE_LIST:
	case SANDBOXFILE_LIST_OR_TEXT:
		return sandboxfile_bind_list(r, k, v, owner);
	case SANDBOXFILE_PAIRS:
	case SANDBOXFILE_STEPS:
		return sandboxfile_bind_named(r, k, v, owner);
	case SANDBOXFILE_MAP:
		return sandboxfile_bind_map(r, k, v, owner);
	case SANDBOXFILE_NETWORK:
		return sandboxfile_bind_network(r, k, v, owner);
	case SANDBOXFILE_OBJECT:
		return sandboxfile_bind_object(r, k->keys, k->name, v, (char *)owner + k->offset);
	case SANDBOXFILE_DEPENDS:
		return sandboxfile_bind_depends(r, k, v, owner);
	case SANDBOXFILE_SECRETS:
		return sandboxfile_bind_secrets(r, k, v, owner);
	case SANDBOXFILE_GROUPS:
		return sandboxfile_bind_groups(r, v);
	case SANDBOXFILE_BUILDS:
	case SANDBOXFILE_SANDBOXES:
		return sandboxfile_bind_sandboxes(r, v, k->type == SANDBOXFILE_BUILDS);
	default:
		return sandboxfile_bind_text(r, k, v, owner);
	}
}

static void sandboxfile_unknown(struct sandboxfile_reader *r, const struct sandboxfile_key *keys,
				const char *what, const struct ytree_node *name)
{
	const char *near = sandboxfile_synonym(name->text);
	const char *names[64];
	size_t n = 0;

	for (const struct sandboxfile_key *k = keys; k->name && n + 1 < ARRAY_SIZE(names); k++)
		if (!k->refused)
			names[n++] = k->name;
	names[n] = NULL;
	if (!near || !sandboxfile_key_find(keys, near))
		near = sandboxfile_hint(r, name->text, names);
	if (near)
		sandboxfile_warn(r, name->at,
				 "%s has no key '%.64s', which is passed over: did you "
				 "mean '%s'?",
				 what, name->text, near);
	else
		sandboxfile_warn(r, name->at, "%s has no key '%.64s', which is passed over", what,
				 name->text);
}

/* @what: what has the keys, for messages. */
int sandboxfile_bind_object(struct sandboxfile_reader *r, const struct sandboxfile_key *keys,
			    const char *what, const struct ytree_node *v, void *owner)
{
	int rc = 0;

	if (v->kind == YTREE_SCALAR && ytree_is_null(v))
		return 0;
	if (v->kind != YTREE_MAP)
		return sandboxfile_bad(r, v->at, "%s takes keys and values, as in 'key: value'",
				       what);
	if (v->n > SANDBOXFILE_LIST_MAX)
		return sandboxfile_bad(r, v->at, "%s has more than %u keys", what,
				       SANDBOXFILE_LIST_MAX);
	for (size_t i = 0; i < v->n; i++) {
		const struct ytree_node *name = v->child[2 * i];
		const struct sandboxfile_key *k = sandboxfile_key_find(keys, name->text);

		if (sandboxfile_key_is_extension(name->text))
			continue;
		if (!k)
			sandboxfile_unknown(r, keys, what, name);
		else if (sandboxfile_bind(r, k, v->child[2 * i + 1], name->at, owner))
			rc = -EINVAL;
	}
	return rc;
}

/* Is there an image, or a build, and not both? */
static int sandboxfile_check_image(struct sandboxfile_reader *r, const struct ytree_node *name,
				   const char *what, const struct ytree_node *v)
{
	bool image = ytree_get(v, "image", NULL), build = ytree_get(v, "build", NULL);

	if (image && build)
		return sandboxfile_bad(r, name->at, "%s has 'image' and 'build': give one of them",
				       what);
	if (!image && !build)
		return sandboxfile_bad(r, name->at, "%s has no 'image', as in 'image: python'",
				       what);
	return 0;
}

static int sandboxfile_check_name(struct sandboxfile_reader *r, const struct ytree_node *name,
				  bool build)
{
	struct err e = ERR_INIT;

	if (build)
		return sandboxfile_check_build(name->text, &e)
			       ? sandboxfile_bad(r, name->at, "%s", err_text(&e))
			       : 0;
	if (sandboxfile_name_valid(name->text))
		return 0;
	return sandboxfile_bad(r, name->at,
			       "'%.80s' is not a name for a sandbox: use letters, digits, '-' and "
			       "'_', at most %u",
			       name->text, SANDBOXFILE_NAME_MAX);
}

static int sandboxfile_bind_sandbox(struct sandboxfile_reader *r, const struct ytree_node *name,
				    const struct ytree_node *v, bool build)
{
	const struct sandboxfile_key *keys =
		build ? sandboxfile_build_keys : sandboxfile_sandbox_keys;
	struct sandboxfile_sandbox *s;
	char what[SANDBOXFILE_NAME_MAX + 16];
	int rc = sandboxfile_check_name(r, name, build);

	if (rc)
		return rc;
	s = calloc(1, sizeof(*s));
	if (!s)
		return sandboxfile_memory(r);
	if (build)
		r->f->builds[r->f->n_builds++] = s;
	else
		r->f->sandboxes[r->f->n_sandboxes++] = s;
	s->name = name->text;
	s->at = name->at;
	snprintf(what, sizeof(what), "%s '%s'", build ? "build" : "sandbox", s->name);
	rc = sandboxfile_bind_object(r, keys, what, v, s);
	if (rc && v->kind != YTREE_MAP)
		return rc;
	return sandboxfile_check_image(r, name, what, v);
}

int sandboxfile_bind_sandboxes(struct sandboxfile_reader *r, const struct ytree_node *v, bool builds)
{
	struct sandboxfile_sandbox **list;
	const char *what = builds ? "builds" : "sandboxes";

	if (v->kind == YTREE_SCALAR && ytree_is_null(v))
		return 0;
	if (v->kind != YTREE_MAP)
		return sandboxfile_bad(r, v->at,
				       "%s takes names, and behind each what it is, as in "
				       "'app: {image: python}'",
				       what);
	if (v->n > SANDBOXFILE_SANDBOXES_MAX)
		return sandboxfile_bad(r, v->at, "more than %u %s", SANDBOXFILE_SANDBOXES_MAX, what);
	list = ytree_alloc(r->f->tree, (v->n + 1) * sizeof(struct sandboxfile_sandbox *));
	if (!list)
		return sandboxfile_memory(r);
	if (builds)
		r->f->builds = list;
	else
		r->f->sandboxes = list;
	for (size_t i = 0; i < v->n && !r->no_memory; i++)
		if (!sandboxfile_key_is_extension(v->child[2 * i]->text))
			sandboxfile_bind_sandbox(r, v->child[2 * i], v->child[2 * i + 1], builds);
	return 0;
}

/* ---- the whole ---- */

static int sandboxfile_result(struct sandboxfile_reader *r, const char *name, struct err *e)
{
	if (r->no_memory)
		return err_errno(e, ENOMEM, "read %s", name);
	for (size_t i = 0; i < r->notes->n; i++) {
		const struct sandboxfile_note *n = &r->notes->v[i];

		if (!n->error)
			continue;
		if (!n->at.line)
			return err_set(e, EINVAL, "%s: %s", name, n->text);
		return err_set(e, EINVAL, "%s:%u:%u: %s", name, n->at.line, n->at.column, n->text);
	}
	return 0;
}

static void sandboxfile_read(struct sandboxfile_reader *r, const char *text, size_t len)
{
	struct err e = ERR_INIT;
	struct ytree_at at;
	int rc;

	rc = ytree_parse(text, len, &r->f->tree, &at, &e);
	if (rc == -ENOMEM)
		r->no_memory = true;
	else if (rc)
		sandboxfile_bad(r, at, "%s", err_text(&e));
	if (rc || !ytree_root(r->f->tree))
		return;
	sandboxfile_bind_object(r, sandboxfile_top_keys, "the file", ytree_root(r->f->tree), r->f);
	if (!r->no_memory)
		sandboxfile_check_together(r);
	if (!r->no_memory && !r->notes->errors)
		sandboxfile_resolve_builds(r);
}

int sandboxfile_parse(const char *text, size_t len, const char *name, struct sandboxfile **out,
		      struct sandboxfile_notes *notes, struct err *e)
{
	auto_free struct sandboxfile_notes *own = NULL;
	struct sandboxfile_reader r = { .notes = notes };
	int rc;

	if (!r.notes)
		r.notes = own = malloc(sizeof(*own));
	r.f = calloc(1, sizeof(*r.f));
	if (!r.notes || !r.f) {
		free(r.f);
		return err_errno(e, ENOMEM, "read %s", name);
	}
	r.notes->n = r.notes->more = r.notes->errors = 0;
	sandboxfile_read(&r, text, len);
	rc = sandboxfile_result(&r, name, e);
	if (rc)
		sandboxfile_free(r.f);
	else
		*out = r.f;
	return rc;
}

void sandboxfile_free(struct sandboxfile *f)
{
	if (!f)
		return;
	for (size_t i = 0; i < f->n_sandboxes; i++) {
		volume_list_fini(&f->sandboxes[i]->volumes);
		free(f->sandboxes[i]);
	}
	for (size_t i = 0; i < f->n_builds; i++)
		free(f->builds[i]);
	ytree_free(f->tree);
	free(f);
}

const struct sandboxfile_sandbox *sandboxfile_find(const struct sandboxfile *f, const char *name)
{
	for (size_t i = 0; i < f->n_sandboxes; i++)
		if (!strcmp(f->sandboxes[i]->name, name))
			return f->sandboxes[i];
	return NULL;
}

const char *sandboxfile_script(const struct sandboxfile_sandbox *s, const char *name)
{
	for (size_t i = 0; i < s->scripts.n; i++)
		if (!strcmp(s->scripts.v[i].name, name))
			return s->scripts.v[i].text;
	return NULL;
}
