/* SPDX-License-Identifier: Apache-2.0 */
/* Keys of a sandbox that name others: what it depends on, its group; and its secrets. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "codec/sandboxfile_internal.h"
#include "codec/secret.h"

#define LINKS_SOURCE_MAX 4095u /* bytes of a variable's name, or of a path */

/* ---- depends_on ---- */

/* {port: N}, or nothing. */
static int links_port(struct sandboxfile_reader *r, const struct sandboxfile_key *k,
		      const char *name, const struct ytree_node *v, uint16_t *out)
{
	const struct sandboxfile_key port = {
		.name = "port", .type = SANDBOXFILE_NUMBER, .min = k->min, .max = k->max
	};
	uint64_t n = 0;
	int rc = 0;

	if (v->kind == YTREE_SCALAR && ytree_is_null(v))
		return 0;
	if (v->kind != YTREE_MAP)
		return sandboxfile_bad(r, v->at, "%s: %.80s takes {port: NUMBER}, or nothing",
				       k->name, name);
	for (size_t i = 0; i < v->n && !rc; i++) {
		const struct ytree_node *key = v->child[2 * i], *value = v->child[2 * i + 1];
		const char *text;

		if (strcmp(key->text, "port"))
			return sandboxfile_bad(r, key->at,
					       "%s has no '%.64s': it takes {port: NUMBER}, or "
					       "nothing",
					       k->name, key->text);
		text = sandboxfile_text(r, "port", value);
		rc = text ? sandboxfile_number(r, &port, text, value->at, &n) : -EINVAL;
	}
	*out = (uint16_t)n;
	return rc;
}

int sandboxfile_bind_depends(struct sandboxfile_reader *r, const struct sandboxfile_key *k,
			     const struct ytree_node *v, struct sandboxfile_sandbox *s)
{
	struct sandboxfile_list *l = &s->depends_on;
	struct sandboxfile_key list = *k;
	int rc;

	if (v->kind != YTREE_MAP) {
		list.type = SANDBOXFILE_LIST_OR_TEXT;
		return sandboxfile_bind_list(r, &list, v, s);
	}
	rc = sandboxfile_list_room(r, k, v->n, v->at, l);
	if (rc)
		return rc;
	s->depends_port = ytree_alloc(r->f->tree, (v->n + 1) * sizeof(*s->depends_port));
	if (!s->depends_port)
		return sandboxfile_memory(r);
	for (size_t i = 0; i < v->n; i++) {
		const struct ytree_node *name = v->child[2 * i];

		s->depends_port[l->n] = 0;
		rc = sandboxfile_take(r, k, s, name->text, name->at);
		if (!rc)
			rc = links_port(r, k, name->text, v->child[2 * i + 1],
					&s->depends_port[l->n]);
		if (rc)
			return rc;
		l->at[l->n] = name->at;
		l->v[l->n++] = name->text;
	}
	return 0;
}

/* ---- secrets ---- */

/* One secret of a mapping, as the parts of what stands behind --secret. */
struct links_secret {
	const char *name;
	const char *env, *file;
	const struct ytree_node *hosts;
};

static int links_secret_part(struct sandboxfile_reader *r, struct links_secret *p,
			     const struct ytree_node *key, const struct ytree_node *v)
{
	const char **text = NULL;

	if (!strcmp(key->text, "hosts")) {
		p->hosts = v;
		return 0;
	}
	if (!strcmp(key->text, "env"))
		text = &p->env;
	else if (!strcmp(key->text, "file"))
		text = &p->file;
	else
		return sandboxfile_bad(r, key->at,
				       "secrets: a secret takes 'env' or 'file', and 'hosts', not "
				       "'%.64s'; its value does not belong into the file",
				       key->text);
	*text = sandboxfile_text(r, key->text, v);
	return *text ? 0 : -EINVAL;
}

static int links_secret_parts(struct sandboxfile_reader *r, const struct ytree_node *name,
			      const struct ytree_node *v, struct links_secret *p)
{
	int rc = 0;

	*p = (struct links_secret){ .name = name->text };
	/* What stands there may be the value: it is not repeated. */
	if (v->kind != YTREE_MAP)
		return sandboxfile_bad(r, name->at,
				       "secrets: %.80s takes {env: VARIABLE, hosts: [HOST]} or "
				       "{file: PATH, hosts: [HOST]}; its value does not belong "
				       "into the file",
				       name->text);
	for (size_t i = 0; i < v->n && !rc; i++)
		rc = links_secret_part(r, p, v->child[2 * i], v->child[2 * i + 1]);
	if (!rc && p->env && p->file)
		rc = sandboxfile_bad(r, name->at,
				     "secrets: %.80s has 'env' and 'file': give one of them",
				     name->text);
	if (!rc && (!p->hosts || (p->hosts->kind == YTREE_LIST && !p->hosts->n)))
		rc = sandboxfile_bad(r, name->at,
				     "secrets: %.80s has no 'hosts': to whom does it go?",
				     name->text);
	return rc;
}

static size_t links_hosts_size(const struct ytree_node *hosts)
{
	size_t size = 0;

	if (hosts->kind != YTREE_LIST)
		return hosts->kind == YTREE_SCALAR ? hosts->len + 1 : 0;
	for (size_t i = 0; i < hosts->n; i++)
		if (hosts->child[i]->kind == YTREE_SCALAR)
			size += hosts->child[i]->len + 1;
	return size;
}

/* "NAME=env:VARIABLE@HOST,HOST", which the take() of the key then judges. */
static int links_secret_text(struct sandboxfile_reader *r, const struct links_secret *p,
			     const struct ytree_node *v, char **out)
{
	const char *from = p->file ? p->file : p->env ? p->env : p->name;
	const struct ytree_node *hosts = p->hosts;
	size_t n = hosts->kind == YTREE_LIST ? hosts->n : 1, size, len;
	char *to;

	/* An alias costs nothing in the file: what is made of it has bounds of its own. */
	if (strlen(from) > LINKS_SOURCE_MAX)
		return sandboxfile_bad(r, v->at,
				       "secrets: %.80s: the name of what has its value "
				       "is too long",
				       p->name);
	if (n > SECRET_HOSTS_MAX)
		return sandboxfile_bad(r, hosts->at, "secrets: %.80s has more than %u hosts",
				       p->name, SECRET_HOSTS_MAX);
	size = strlen(p->name) + strlen(from) + 8 + links_hosts_size(hosts);
	to = sandboxfile_make(r, "secrets", v->at, size);
	if (!to)
		return -EINVAL;
	len = (size_t)snprintf(to, size, "%s=%s:%s", p->name, p->file ? "file" : "env", from);
	for (size_t i = 0; i < n; i++) {
		const struct ytree_node *host = hosts->kind == YTREE_LIST ? hosts->child[i] : hosts;
		const char *text = sandboxfile_text(r, "hosts", host);

		if (!text)
			return -EINVAL;
		if (!*text || strlen(text) >= NETRULE_TEXT_MAX || strpbrk(text, "@,"))
			return sandboxfile_bad(r, host->at,
					       "secrets: a host of %.80s is no domain name",
					       p->name);
		len += (size_t)snprintf(to + len, size - len, "%c%s", i ? ',' : '@', text);
	}
	*out = to;
	return 0;
}

static int links_secret_map(struct sandboxfile_reader *r, const struct sandboxfile_key *k,
			    const struct ytree_node *v, struct sandboxfile_sandbox *s)
{
	struct sandboxfile_list *l = &s->secrets;
	int rc = v->n > SECRETS_MAX
			 ? sandboxfile_bad(r, v->at, "secrets: more than %u", SECRETS_MAX)
			 : sandboxfile_list_room(r, k, v->n, v->at, l);

	for (size_t i = 0; i < v->n && !rc; i++) {
		const struct ytree_node *name = v->child[2 * i];
		struct links_secret p;
		char *text = NULL;

		/* Its name alone first: an '=' in it would make it another secret. */
		if (strpbrk(name->text, "=@"))
			return sandboxfile_bad(r, name->at,
					       "secrets: a secret's name is that of an "
					       "environment variable");
		rc = links_secret_parts(r, name, v->child[2 * i + 1], &p);
		if (!rc)
			rc = links_secret_text(r, &p, name, &text);
		if (!rc)
			rc = sandboxfile_take(r, k, s, text, name->at);
		if (rc)
			return rc;
		l->at[l->n] = name->at;
		l->v[l->n++] = text;
	}
	return rc;
}

int sandboxfile_bind_secrets(struct sandboxfile_reader *r, const struct sandboxfile_key *k,
			     const struct ytree_node *v, struct sandboxfile_sandbox *s)
{
	const struct sandboxfile_list *l = &s->secrets;
	int rc = v->kind == YTREE_MAP ? links_secret_map(r, k, v, s)
				      : sandboxfile_bind_list(r, k, v, s);

	if (rc)
		return rc;
	if (l->n > SECRETS_MAX)
		return sandboxfile_bad(r, v->at, "secrets: more than %u", SECRETS_MAX);
	for (size_t i = 0; i < l->n; i++)
		for (size_t j = 0, len = strcspn(l->v[i], "=@"); j < i; j++)
			if (strcspn(l->v[j], "=@") == len && !strncmp(l->v[i], l->v[j], len))
				return sandboxfile_bad(r, l->at[i], "secrets: %.*s is given twice",
						       (int)len, l->v[i]);
	return 0;
}

/* ---- groups ---- */

int sandboxfile_bind_groups(struct sandboxfile_reader *r, const struct ytree_node *v)
{
	struct sandboxfile_group *list;
	char what[SANDBOXFILE_NAME_MAX + 16];
	int rc = 0;

	if (v->kind == YTREE_SCALAR && ytree_is_null(v))
		return 0;
	if (v->kind != YTREE_MAP)
		return sandboxfile_bad(r, v->at, "groups takes names, as in 'backend:'");
	if (v->n > SANDBOXFILE_SANDBOXES_MAX)
		return sandboxfile_bad(r, v->at, "more than %u groups", SANDBOXFILE_SANDBOXES_MAX);
	list = ytree_alloc(r->f->tree, (v->n + 1) * sizeof(*list));
	if (!list)
		return sandboxfile_memory(r);
	r->f->groups = list;
	for (size_t i = 0; i < v->n && !r->no_memory; i++) {
		const struct ytree_node *name = v->child[2 * i];
		struct sandboxfile_group *g = &list[r->f->n_groups];

		if (sandboxfile_key_is_extension(name->text))
			continue;
		if (!sandboxfile_name_valid(name->text)) {
			rc = sandboxfile_bad(r, name->at, "'%.80s' is not the name of a group",
					     name->text);
			continue;
		}
		*g = (struct sandboxfile_group){ .name = name->text, .at = name->at };
		r->f->n_groups++;
		snprintf(what, sizeof(what), "group '%s'", g->name);
		if (sandboxfile_bind_object(r, sandboxfile_group_keys, what, v->child[2 * i + 1], g))
			rc = -EINVAL;
	}
	return rc;
}
