/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_CODEC_SANDBOXFILE_H
#define MSB_CODEC_SANDBOXFILE_H

/*
 * The Sandboxfile: the sandboxes of a project, as people write them (YAML).
 *
 * One table (sandboxfile_keys.c) says which keys there are and what they take.  The parser,
 * the JSON Schema for editors and the table in docs/sandboxfile.md are made from it.
 *
 * Trust boundary.  The file may come with a repository that nobody has read.  The tree beneath
 * (codec/ytree.h) bounds size, depth and aliases; here every count is bounded, and nothing is
 * looked up: whether an image, a path or a variable exists is for src/project.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "codec/publish.h"
#include "codec/volume.h"
#include "codec/ytree.h"

#define SANDBOXFILE_NAME "Sandboxfile"
#define SANDBOXFILE_BYTES_MAX YTREE_BYTES_MAX
#define SANDBOXFILE_SANDBOXES_MAX 256u
#define SANDBOXFILE_LIST_MAX 1024u /* items of a list, keys of a map */
#define SANDBOXFILE_NAME_MAX 63u
/*
 * The image that a build makes is called SANDBOXFILE_RESULT NAME ":" and the hash of what the
 * file says of it.  No registry can have that name (RFC 6761 §6.4).
 */
#define SANDBOXFILE_RESULT "build.invalid/"
#define SANDBOXFILE_RESULT_MAX 112u
#define SANDBOXFILE_NOTES_MAX 64u
#define SANDBOXFILE_NOTE_MAX 400u

/* Texts in the order of the file. @v ends with NULL; NULL if there are none. */
struct sandboxfile_list {
	const char **v;
	struct ytree_at *at; /* where each stands */
	size_t n;
};

struct sandboxfile_entry {
	const char *name, *text;
	struct ytree_at at; /* of the name */
};

/* Names and their texts, in the order of the file. */
struct sandboxfile_map {
	struct sandboxfile_entry *v;
	size_t n;
};

struct sandboxfile_meta {
	struct sandboxfile_list authors, tags;
	const char *description, *homepage, *repository, *readme, *icon;
};

/* What was not said is NULL, 0 or empty. */
struct sandboxfile_sandbox {
	const char *name;
	struct ytree_at at;
	const char *image; /* never NULL; with @build that build's result */
	const char *build; /* the build that makes the image */
	const char *version;
	struct sandboxfile_meta meta;
	uint64_t memory_bytes, disk_bytes;
	uint64_t cpus;
	struct volume_list volumes; /* as written: not looked up; those of tmpfs among them */
	struct ytree_at volume_at[VOLUMES_MAX];
	struct publish_list ports;
	struct ytree_at port_at[PUBLISH_MAX];
	struct sandboxfile_list envs; /* NAME=value */
	struct sandboxfile_list env_file; /* paths; a later one wins, envs over all */
	struct sandboxfile_list depends_on; /* names of sandboxes in the file, none its own */
	uint16_t *depends_port; /* of each: where it has to listen, 0 = nowhere; NULL = none has */
	struct sandboxfile_list command;
	const char *workdir; /* absolute */
	const char *shell; /* absolute */
	const char *user;
	struct sandboxfile_map scripts; /* "start" is the default; none is called "shell" */
	const char *scope; /* none, group, public, any */
	const char *group; /* name of the group; with it the scope is "group" */
	struct ytree_at group_at;
	struct sandboxfile_list secrets; /* as of --secret: codec/secret.h, names once each */
	const char *network; /* a policy as in codec/netrule.h */
	uint64_t timeout_ms; /* longest time of a run */
	/* Of the life cycle. */
	uint64_t idle_timeout_ms, max_lifetime_ms;
	const char *restart; /* no, on-failure, always */
	struct sandboxfile_list health; /* a command */
	uint64_t health_interval_ms;
	/* Of a build. */
	struct sandboxfile_list steps; /* texts for the shell */
	char result[SANDBOXFILE_RESULT_MAX]; /* the image that it makes */
};

/* A group of sandboxes that reach each other. */
struct sandboxfile_group {
	const char *name;
	struct ytree_at at;
	const char *version;
	struct sandboxfile_meta meta;
};

struct sandboxfile {
	struct sandboxfile_meta meta;
	struct sandboxfile_group *groups; /* NULL = not said: every name is one */
	size_t n_groups;
	struct sandboxfile_sandbox **sandboxes; /* in the order of the file */
	size_t n_sandboxes;
	struct sandboxfile_sandbox **builds; /* those that others stand on come first */
	size_t n_builds;
	struct ytree *tree; /* owns the texts */
};

/* Something to say about the file, with where. */
struct sandboxfile_note {
	struct ytree_at at;
	bool error; /* else a warning */
	char text[SANDBOXFILE_NOTE_MAX]; /* one line */
};

struct sandboxfile_notes {
	struct sandboxfile_note v[SANDBOXFILE_NOTES_MAX]; /* in the order of the file */
	size_t n, more; /* @more did not fit */
	size_t errors;
};

/* Adds a note at its place. If there is no room, the last one goes for an error before it. */
void sandboxfile_notes_add(struct sandboxfile_notes *l, bool error, struct ytree_at at,
			   const char *text);

/**
 * sandboxfile_parse() - read a Sandboxfile
 * @name: how messages call the file
 * @notes: every error and warning; may be NULL
 *
 * Empty text is a file without sandboxes.
 * Return: 0 and *@out, for sandboxfile_free(); -EINVAL and the first error in @e, with the file's
 * name, line and column in front; -ENOMEM.
 */
int sandboxfile_parse(const char *text, size_t len, const char *name, struct sandboxfile **out,
		      struct sandboxfile_notes *notes, struct err *e);
void sandboxfile_free(struct sandboxfile *f);

/* A build by name; NULL = there is none. */
const struct sandboxfile_sandbox *sandboxfile_find_build(const struct sandboxfile *f,
							 const char *name);

/* By name; NULL = there is none. */
const struct sandboxfile_sandbox *sandboxfile_find(const struct sandboxfile *f, const char *name);

/*
 * The same with an error, which says what name may have been meant; @out may be NULL.
 * Return: 0 or -ENOENT.
 */
int sandboxfile_need(const struct sandboxfile *f, const char *name,
		     const struct sandboxfile_sandbox **out, struct err *e);

/**
 * sandboxfile_order() - in which order to start sandboxes
 * @names, @n: those that are wanted; n = 0 is all
 * @out: room for f->n_sandboxes; what each depends on comes before it, else the file's order
 *
 * What the wanted ones depend on is among them.  Return: 0; -ENOENT: no such sandbox.
 */
int sandboxfile_order(const struct sandboxfile *f, const char *const *names, size_t n,
		      const struct sandboxfile_sandbox **out, size_t *n_out, struct err *e);

/* The text of a script; NULL = there is none of that name. */
const char *sandboxfile_script(const struct sandboxfile_sandbox *s, const char *name);

/* Letters, digits, - and _, the first a letter or digit, at most SANDBOXFILE_NAME_MAX bytes. */
bool sandboxfile_name_valid(const char *name);

/* The JSON Schema of the file (draft 2020-12), malloc'ed. */
int sandboxfile_schema(char **text, struct err *e);

/* The name among @names (ended by NULL) that @word may have been meant for; NULL = none is near. */
const char *sandboxfile_nearest(const char *word, const char *const *names);

#endif
