/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_CODEC_SANDBOXFILE_KEYS_H
#define MSB_CODEC_SANDBOXFILE_KEYS_H

/* The table of a Sandboxfile's keys: what parser, JSON Schema and documentation are made from. */

#include "codec/sandboxfile.h"

enum sandboxfile_type {
	SANDBOXFILE_TEXT, /* const char * */
	SANDBOXFILE_SIZE, /* uint64_t, bytes: 512 (MiB), 512M, 2G */
	SANDBOXFILE_NUMBER, /* uint64_t */
	SANDBOXFILE_TIME, /* uint64_t, milliseconds: 30 (seconds), 1.5s, 2m, 1h */
	SANDBOXFILE_LIST, /* struct sandboxfile_list, unless take() keeps them elsewhere */
	SANDBOXFILE_LIST_OR_TEXT, /* the same; one text stands for a list of one */
	SANDBOXFILE_PAIRS, /* struct sandboxfile_list of NAME=value; a list or a mapping */
	SANDBOXFILE_MAP, /* struct sandboxfile_map: name and text */
	SANDBOXFILE_NETWORK, /* const char *: rules, or the mapping that other programs write */
	SANDBOXFILE_OBJECT, /* keys of its own, at @offset */
	SANDBOXFILE_DEPENDS, /* depends_on and its ports: names, or a mapping to {port: N} */
	SANDBOXFILE_SECRETS, /* struct sandboxfile_list as of --secret; a list, or a mapping */
	SANDBOXFILE_GROUPS, /* names, and behind each the keys of a group */
	SANDBOXFILE_STEPS, /* struct sandboxfile_list; a list, or a mapping whose names are for people */
	SANDBOXFILE_BUILDS, /* names, and behind each the keys of a build */
	SANDBOXFILE_SANDBOXES, /* names, and behind each the keys of a sandbox */
};

struct sandboxfile_key {
	const char *name;
	enum sandboxfile_type type;
	size_t offset; /* in what the table describes */
	uint64_t min, max; /* SIZE (bytes), NUMBER, TIME (milliseconds) */
	const char *const *values; /* TEXT: all that there are; NULL = any */
	/*
	 * Looks at one text, TEXT's or a list's, or a name's in a MAP; may keep it in @owner, what
	 * the table describes.  @at: where it stands.  NULL = every text is good.
	 */
	int (*take)(void *owner, const char *text, struct ytree_at at, struct err *e);
	bool taken; /* take() keeps it: not put at @offset */
	bool required; /* one of those that are so has to be there, and no other */
	const struct sandboxfile_key *keys; /* OBJECT */
	const char *help; /* one sentence, for the schema and the documentation */
	const char *example; /* YAML, one line */
	const char *refused; /* known and not supported: why, and what to do instead */
};

/* Each ended by name NULL. */
extern const struct sandboxfile_key sandboxfile_top_keys[], sandboxfile_sandbox_keys[],
	sandboxfile_build_keys[], sandboxfile_group_keys[];

/* What people write for a key of the table: "env" for "envs". NULL = nothing known. */
const char *sandboxfile_synonym(const char *word);

/* The key of that name; NULL = there is none. */
const struct sandboxfile_key *sandboxfile_key_find(const struct sandboxfile_key *keys,
						   const char *name);

/* Keys that the parser passes over: a place for anchors. */
bool sandboxfile_key_is_extension(const char *name);

#endif
