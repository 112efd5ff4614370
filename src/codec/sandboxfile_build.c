/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which image a build makes.
 *
 * Its name holds the hash of all that the file says of what it is made of, so that a sandbox never
 * runs the result of an older file: what is changed has another name, which is not there until
 * `msb build` was run.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/buf.h"
#include "codec/reference.h"
#include "codec/sandboxfile_internal.h"
#include "codec/sha256.h"

#define BUILD_FORMAT "msb build 1\n"
#define BUILD_HASH 32u /* hex digits in the name */

const struct sandboxfile_sandbox *sandboxfile_find_build(const struct sandboxfile *f,
							 const char *name)
{
	for (size_t i = 0; i < f->n_builds; i++)
		if (!strcmp(f->builds[i]->name, name))
			return f->builds[i];
	return NULL;
}

/* What a build is made of, to be hashed. */
struct build_text {
	struct sandboxfile_reader *r;
	struct ytree_at at; /* of the build */
	struct buf bytes;
};

/* Appends a text so that no two lists of texts give the same bytes. */
static int build_put(struct build_text *t, const char *key, const char *text)
{
	char head[64];
	int n = snprintf(head, sizeof(head), "%s %zu:", key, text ? strlen(text) : 0);
	struct buf *b = &t->bytes;

	if (!text)
		return 0;
	if (sandboxfile_spend(t->r, "build", t->at, strlen(text)))
		return -EINVAL;
	return buf_append(b, head, (size_t)n) || buf_append(b, text, strlen(text)) ? -ENOMEM : 0;
}

static int build_put_list(struct build_text *t, const char *key, const struct sandboxfile_list *l)
{
	int rc = 0;

	for (size_t i = 0; i < l->n && !rc; i++)
		rc = build_put(t, key, l->v[i]);
	return rc;
}

/* s->image is known.  A failure has been noted. */
static int build_name(struct sandboxfile_reader *r, struct sandboxfile_sandbox *s)
{
	uint8_t sum[SHA256_BYTES];
	char hex[DIGEST_SIZE];
	struct build_text t = { .r = r, .at = s->at, .bytes = BUF_INIT };
	int rc;

	if ((rc = buf_append(&t.bytes, BUILD_FORMAT, strlen(BUILD_FORMAT))) ||
	    (rc = build_put(&t, "image", s->image)) || (rc = build_put(&t, "shell", s->shell)) ||
	    (rc = build_put(&t, "workdir", s->workdir)) ||
	    (rc = build_put_list(&t, "env", &s->envs)) ||
	    (rc = build_put_list(&t, "step", &s->steps))) {
		buf_fini(&t.bytes);
		return rc == -ENOMEM ? sandboxfile_memory(r) : rc;
	}
	sha256(buf_data(&t.bytes), buf_len(&t.bytes), sum);
	buf_fini(&t.bytes);
	sha256_text(sum, hex);
	snprintf(s->result, sizeof(s->result), SANDBOXFILE_RESULT "%s:%.*s", s->name,
		 (int)BUILD_HASH, hex + strlen("sha256:"));
	return 0;
}

/* The build that @s names; NULL after a message. */
static struct sandboxfile_sandbox *build_find(struct sandboxfile_reader *r,
					      const struct sandboxfile_sandbox *s)
{
	const char *names[SANDBOXFILE_SANDBOXES_MAX + 1], *near;

	for (size_t i = 0; i < r->f->n_builds; i++) {
		names[i] = r->f->builds[i]->name;
		if (!strcmp(names[i], s->build))
			return r->f->builds[i];
	}
	names[r->f->n_builds] = NULL;
	near = sandboxfile_hint(r, s->build, names);
	sandboxfile_bad(r, s->at, "'%s': no build '%s' in the file%s%s%s", s->name, s->build,
			near ? ": did you mean '" : "", near ? near : "", near ? "'?" : "");
	return NULL;
}

/* Puts the builds in an order in which each is behind the one that it stands on. */
static void build_order(struct sandboxfile_reader *r)
{
	struct sandboxfile *f = r->f;
	size_t done = 0;

	while (done < f->n_builds) {
		size_t before = done;

		for (size_t i = done; i < f->n_builds; i++) {
			struct sandboxfile_sandbox *s = f->builds[i], *base = NULL;
			size_t k = 0;

			if (s->build && !(base = build_find(r, s)))
				return;
			while (base && k < done && f->builds[k] != base)
				k++;
			if (base && k == done)
				continue;
			if (base)
				s->image = base->result;
			if (build_name(r, s))
				return;
			/* The others keep their order. */
			memmove(f->builds + done + 1, f->builds + done,
				(i - done) * sizeof(struct sandboxfile_sandbox *));
			f->builds[done++] = s;
		}
		if (done == before) {
			sandboxfile_bad(r, f->builds[done]->at,
					"build '%s' stands on itself, by way of '%s'",
					f->builds[done]->name, f->builds[done]->build);
			return;
		}
	}
}

void sandboxfile_resolve_builds(struct sandboxfile_reader *r)
{
	build_order(r);
	for (size_t i = 0; i < r->f->n_sandboxes && !r->notes->errors && !r->no_memory; i++) {
		struct sandboxfile_sandbox *s = r->f->sandboxes[i], *build;

		if (!s->build)
			continue;
		build = build_find(r, s);
		if (build)
			s->image = build->result;
	}
}
