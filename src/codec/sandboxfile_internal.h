/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_CODEC_SANDBOXFILE_INTERNAL_H
#define MSB_CODEC_SANDBOXFILE_INTERNAL_H

/* What the parts of the parser share. */

#include "codec/sandboxfile.h"
#include "codec/sandboxfile_keys.h"

struct sandboxfile_reader {
	struct sandboxfile *f;
	struct sandboxfile_notes *notes;
	bool no_memory;
	size_t made; /* bytes of texts that were put together from the file's */
	size_t hints; /* names that were looked for among others */
};

/* Notes an error. Return: -EINVAL. */
int sandboxfile_bad(struct sandboxfile_reader *r, struct ytree_at at, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
void sandboxfile_warn(struct sandboxfile_reader *r, struct ytree_at at, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

int sandboxfile_bind_sandboxes(struct sandboxfile_reader *r, const struct ytree_node *v,
			       bool builds);

/*
 * The parts that the kinds of values are made of (sandboxfile.c).  A function that fails has
 * noted why; -ENOMEM is noted too.
 */
int sandboxfile_memory(struct sandboxfile_reader *r);
const char *sandboxfile_text(struct sandboxfile_reader *r, const char *key,
			     const struct ytree_node *v);
/* Counts bytes that are copied from the file's texts, of which aliases could make any number. */
int sandboxfile_spend(struct sandboxfile_reader *r, const char *key, struct ytree_at at,
		      size_t size);
/* Room for a text that is put together; NULL after a message. */
char *sandboxfile_make(struct sandboxfile_reader *r, const char *key, struct ytree_at at,
		       size_t size);
int sandboxfile_number(struct sandboxfile_reader *r, const struct sandboxfile_key *k,
		       const char *text, struct ytree_at at, uint64_t *out);
int sandboxfile_take(struct sandboxfile_reader *r, const struct sandboxfile_key *k, void *owner,
		     const char *text, struct ytree_at at);
int sandboxfile_list_room(struct sandboxfile_reader *r, const struct sandboxfile_key *k, size_t n,
			  struct ytree_at at, struct sandboxfile_list *l);
int sandboxfile_bind_list(struct sandboxfile_reader *r, const struct sandboxfile_key *k,
			  const struct ytree_node *v, void *owner);
int sandboxfile_bind_object(struct sandboxfile_reader *r, const struct sandboxfile_key *keys,
			    const char *what, const struct ytree_node *v, void *owner);

/* What names other things of the file, or of the host (sandboxfile_links.c). */
int sandboxfile_bind_depends(struct sandboxfile_reader *r, const struct sandboxfile_key *k,
			     const struct ytree_node *v, struct sandboxfile_sandbox *s);
int sandboxfile_bind_secrets(struct sandboxfile_reader *r, const struct sandboxfile_key *k,
			     const struct ytree_node *v, struct sandboxfile_sandbox *s);
int sandboxfile_bind_groups(struct sandboxfile_reader *r, const struct ytree_node *v);

/*
 * sandboxfile_nearest() for a message.  It takes time, and by aliases a file can be wrong any
 * number of times: as many have a hint as there is room for notes.
 */
const char *sandboxfile_hint(struct sandboxfile_reader *r, const char *word,
			     const char *const *names);

/* Is it a name for a build? Return: 0 or -EINVAL. */
int sandboxfile_check_build(const char *name, struct err *e);

/* Which image each build makes, and which image sandboxes and builds have that name a build. */
void sandboxfile_resolve_builds(struct sandboxfile_reader *r);

/* What can be wrong only of several sandboxes: what they depend on, ports that two have. */
void sandboxfile_check_together(struct sandboxfile_reader *r);

#endif
