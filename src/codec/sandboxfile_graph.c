/* SPDX-License-Identifier: Apache-2.0 */
/* The sandboxes of a file together: names, order, ports. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "codec/sandboxfile_internal.h"

#define GRAPH_WORD_MAX 64u

/* ---- names that are nearly right ---- */

static size_t sandboxfile_min3(size_t a, size_t b, size_t c)
{
	size_t m = a < b ? a : b;

	return m < c ? m : c;
}

/* Letters to change, add, leave out or swap, to come from one to the other; without case. */
static size_t sandboxfile_distance(const char *a, const char *b)
{
	size_t row[3][GRAPH_WORD_MAX + 1], la = strlen(a), lb = strlen(b);
	size_t *old = row[0], *last = row[1], *now = row[2];

	if (la > GRAPH_WORD_MAX || lb > GRAPH_WORD_MAX)
		return SIZE_MAX;
	for (size_t j = 0; j <= lb; j++)
		last[j] = j;
	for (size_t i = 1; i <= la; i++) {
		size_t *free_row = old;

		now[0] = i;
		for (size_t j = 1; j <= lb; j++) {
			unsigned char x = (unsigned char)a[i - 1] | 0x20;
			unsigned char y = (unsigned char)b[j - 1] | 0x20;

			now[j] = sandboxfile_min3(last[j] + 1, now[j - 1] + 1,
						  last[j - 1] + (x != y));
			if (i > 1 && j > 1 && x == ((unsigned char)b[j - 2] | 0x20) &&
			    y == ((unsigned char)a[i - 2] | 0x20) && old[j - 2] + 1 < now[j])
				now[j] = old[j - 2] + 1;
		}
		old = last;
		last = now;
		now = free_row;
	}
	return last[lb];
}

const char *sandboxfile_nearest(const char *word, const char *const *names)
{
	size_t best = strlen(word) < 4 ? 2 : 3; /* one change in a short word, two in others */
	const char *found = NULL;

	for (; *names; names++) {
		size_t d = sandboxfile_distance(word, *names);

		if (d < best && d < strlen(*names)) {
			best = d;
			found = *names;
		}
	}
	return found;
}

const char *sandboxfile_hint(struct sandboxfile_reader *r, const char *word,
			     const char *const *names)
{
	return r->hints++ < SANDBOXFILE_NOTES_MAX ? sandboxfile_nearest(word, names) : NULL;
}

/* @r: NULL outside of the reading. */
static int graph_need(struct sandboxfile_reader *r, const struct sandboxfile *f, const char *name,
		      const struct sandboxfile_sandbox **out, struct err *e)
{
	const char *names[SANDBOXFILE_SANDBOXES_MAX + 1], *near;
	const struct sandboxfile_sandbox *s = sandboxfile_find(f, name);

	if (s) {
		if (out)
			*out = s;
		return 0;
	}
	for (size_t i = 0; i < f->n_sandboxes; i++)
		names[i] = f->sandboxes[i]->name;
	names[f->n_sandboxes] = NULL;
	near = r ? sandboxfile_hint(r, name, names) : sandboxfile_nearest(name, names);
	if (near)
		return err_set(e, ENOENT, "no sandbox '%.80s': did you mean '%s'?", name, near);
	return err_set(e, ENOENT, "no sandbox '%.80s' in the Sandboxfile", name);
}

int sandboxfile_need(const struct sandboxfile *f, const char *name,
		     const struct sandboxfile_sandbox **out, struct err *e)
{
	return graph_need(NULL, f, name, out, e);
}

/* ---- order ---- */

enum graph_state { GRAPH_NEW, GRAPH_OPEN, GRAPH_DONE };

/* One sandbox on the way from a sandbox to what it depends on. */
struct graph_step {
	size_t sandbox, next; /* the dependency to look at next */
};

struct graph {
	const struct sandboxfile *f;
	uint8_t state[SANDBOXFILE_SANDBOXES_MAX];
	struct graph_step way[SANDBOXFILE_SANDBOXES_MAX];
	size_t depth;
	const struct sandboxfile_sandbox **out;
	size_t n_out;
};

static size_t graph_index(const struct sandboxfile *f, const char *name)
{
	size_t i = 0;

	while (i < f->n_sandboxes && strcmp(f->sandboxes[i]->name, name))
		i++;
	return i;
}

/*
 * Puts @start behind what it depends on.  Return: true, or false at a cycle: then the end of
 * `way`, from @from on, is it.
 */
static bool graph_visit(struct graph *g, size_t start, size_t *from)
{
	if (g->state[start] == GRAPH_DONE)
		return true;
	g->depth = 0;
	g->way[g->depth++] = (struct graph_step){ start, 0 };
	g->state[start] = GRAPH_OPEN;
	while (g->depth) {
		struct graph_step *step = &g->way[g->depth - 1];
		const struct sandboxfile_sandbox *s = g->f->sandboxes[step->sandbox];
		size_t next;

		if (step->next == s->depends_on.n) {
			g->state[step->sandbox] = GRAPH_DONE;
			g->out[g->n_out++] = s;
			g->depth--;
			continue;
		}
		next = graph_index(g->f, s->depends_on.v[step->next++]);
		if (next == g->f->n_sandboxes || g->state[next] == GRAPH_DONE)
			continue;
		if (g->state[next] == GRAPH_OPEN) {
			for (*from = 0; g->way[*from].sandbox != next;)
				++*from;
			return false;
		}
		g->state[next] = GRAPH_OPEN;
		g->way[g->depth++] = (struct graph_step){ next, 0 };
	}
	return true;
}

int sandboxfile_order(const struct sandboxfile *f, const char *const *names, size_t n,
		      const struct sandboxfile_sandbox **out, size_t *n_out, struct err *e)
{
	struct graph g = { .f = f, .out = out };
	size_t from;

	for (size_t i = 0; i < n; i++) {
		int rc = sandboxfile_need(f, names[i], NULL, e);

		if (rc)
			return rc;
	}
	/* In the order of the file, whatever the order of the names. */
	for (size_t i = 0; i < f->n_sandboxes; i++) {
		bool wanted = !n;

		for (size_t k = 0; k < n && !wanted; k++)
			wanted = !strcmp(names[k], f->sandboxes[i]->name);
		if (wanted && !graph_visit(&g, i, &from))
			return err_set(e, ELOOP, "'%s' depends on itself", f->sandboxes[i]->name);
	}
	*n_out = g.n_out;
	return 0;
}

static void graph_check_names(struct sandboxfile_reader *r)
{
	for (size_t i = 0; i < r->f->n_sandboxes; i++) {
		const struct sandboxfile_list *l = &r->f->sandboxes[i]->depends_on;

		for (size_t k = 0; k < l->n; k++) {
			struct err e = ERR_INIT;

			if (graph_need(r, r->f, l->v[k], NULL, &e))
				sandboxfile_bad(r, l->at[k], "depends_on: %s", err_text(&e));
		}
	}
}

static void graph_check_cycles(struct sandboxfile_reader *r)
{
	const struct sandboxfile_sandbox *order[SANDBOXFILE_SANDBOXES_MAX];
	struct graph g = { .f = r->f, .out = order };
	char cycle[SANDBOXFILE_NOTE_MAX / 2] = "";
	size_t from;

	for (size_t i = 0; i < r->f->n_sandboxes; i++) {
		const struct sandboxfile_sandbox *first;

		if (graph_visit(&g, i, &from))
			continue;
		first = r->f->sandboxes[g.way[from].sandbox];
		for (size_t k = from; k < g.depth; k++)
			snprintf(cycle + strlen(cycle), sizeof(cycle) - strlen(cycle), "%s -> ",
				 r->f->sandboxes[g.way[k].sandbox]->name);
		sandboxfile_bad(r, first->at, "depends_on goes in a circle: %s%s", cycle,
				first->name);
		return;
	}
}

/* ---- ports ---- */

struct graph_port {
	const struct publish *p;
	const struct sandboxfile_sandbox *s;
	struct ytree_at at;
};

/* By what can be bound once: port, protocol and family; then by address, 0 (all of them) first. */
static int graph_compare_ports(const void *a, const void *b)
{
	const struct graph_port *x = a, *y = b;
	int d;

	if (x->p->host != y->p->host)
		return x->p->host < y->p->host ? -1 : 1;
	if (x->p->udp != y->p->udp || x->p->ipv6 != y->p->ipv6)
		return x->p->udp + 2 * x->p->ipv6 < y->p->udp + 2 * y->p->ipv6 ? -1 : 1;
	d = memcmp(x->p->addr, y->p->addr, sizeof(x->p->addr));
	if (d)
		return d;
	if (x->at.line != y->at.line)
		return x->at.line < y->at.line ? -1 : 1;
	return (x->at.column > y->at.column) - (x->at.column < y->at.column);
}

/* @v is sorted; @group: the first of those of the same port, protocol and family. */
static void graph_check_port(struct sandboxfile_reader *r, const struct graph_port *v, size_t i,
			     size_t group)
{
	static const uint8_t all[16];
	const struct graph_port *other = NULL, *late = &v[i];

	if (!memcmp(v[i].p->addr, v[i - 1].p->addr, sizeof(v[i].p->addr)))
		other = &v[i - 1];
	else if (!memcmp(v[group].p->addr, all, sizeof(all)))
		other = &v[group];
	if (!other)
		return;
	if (other->at.line > late->at.line) {
		late = other;
		other = &v[i];
	}
	sandboxfile_bad(r, late->at, "ports: port %u is published by '%s' at line %u already",
			late->p->host, other->s->name, other->at.line);
}

static void graph_check_ports(struct sandboxfile_reader *r)
{
	auto_free struct graph_port *v = NULL;
	size_t n = 0, k = 0;

	for (size_t i = 0; i < r->f->n_sandboxes; i++)
		n += r->f->sandboxes[i]->ports.n;
	v = calloc(n + 1, sizeof(*v));
	if (!v) {
		r->no_memory = true;
		return;
	}
	for (size_t i = 0; i < r->f->n_sandboxes; i++) {
		const struct sandboxfile_sandbox *s = r->f->sandboxes[i];

		for (size_t j = 0; j < s->ports.n; j++)
			if (s->ports.v[j].host)
				v[k++] = (struct graph_port){ &s->ports.v[j], s, s->port_at[j] };
	}
	qsort(v, k, sizeof(*v), graph_compare_ports);
	for (size_t i = 1, group = 0; i < k; i++) {
		const struct publish *x = v[i].p, *y = v[group].p;

		if (x->host != y->host || x->udp != y->udp || x->ipv6 != y->ipv6)
			group = i;
		else
			graph_check_port(r, v, i, group);
	}
}

/* ---- groups ---- */

static void graph_check_group_name(struct sandboxfile_reader *r, const struct sandboxfile_sandbox *s)
{
	const char *names[SANDBOXFILE_SANDBOXES_MAX + 1], *near;

	for (size_t i = 0; i < r->f->n_groups; i++) {
		names[i] = r->f->groups[i].name;
		if (!strcmp(names[i], s->group))
			return;
	}
	names[r->f->n_groups] = NULL;
	near = sandboxfile_hint(r, s->group, names);
	sandboxfile_bad(r, s->group_at, "group: there is no '%.80s' in groups%s%s%s", s->group,
			near ? ": did you mean '" : "", near ? near : "", near ? "'?" : "");
}

/* Members are known by their names in small letters. */
static void graph_check_members(struct sandboxfile_reader *r, size_t i)
{
	const struct sandboxfile_sandbox *s = r->f->sandboxes[i];

	for (size_t k = 0; k < i; k++) {
		const struct sandboxfile_sandbox *o = r->f->sandboxes[k];

		if (o->group && !strcmp(o->group, s->group) && !strcasecmp(o->name, s->name))
			sandboxfile_bad(r, s->at,
					"group: '%s' and '%s' have one name in the network of %s",
					o->name, s->name, s->group);
	}
}

static void graph_check_groups(struct sandboxfile_reader *r)
{
	for (size_t i = 0; i < r->f->n_builds; i++) {
		const struct sandboxfile_sandbox *s = r->f->builds[i];

		if (s->scope && !strcmp(s->scope, "group"))
			sandboxfile_bad(r, s->at, "scope: build '%s' can be in no group", s->name);
	}
	for (size_t i = 0; i < r->f->n_sandboxes; i++) {
		struct sandboxfile_sandbox *s = r->f->sandboxes[i];

		/* Who names a group wants to be in it. */
		if (s->group && !s->scope)
			s->scope = "group";
		if (!s->scope || !strcmp(s->scope, "group") == !!s->group) {
			if (s->group && r->f->groups)
				graph_check_group_name(r, s);
			if (s->group)
				graph_check_members(r, i);
		} else if (s->group) {
			sandboxfile_bad(r, s->group_at,
					"group goes with scope group, not %s: what else is to be "
					"reached are rules of network",
					s->scope);
		} else {
			sandboxfile_bad(r, s->at,
					"sandbox '%s' has scope group and no 'group', as in "
					"'group: backend'",
					s->name);
		}
	}
}

void sandboxfile_check_together(struct sandboxfile_reader *r)
{
	graph_check_names(r);
	graph_check_cycles(r);
	graph_check_ports(r);
	graph_check_groups(r);
}
