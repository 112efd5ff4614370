/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_CODEC_RECIPE_H
#define MSB_CODEC_RECIPE_H

/*
 * A recipe: how to put an image together from Debian packages.
 *
 * One statement a line; words are separated by blanks, a word in double quotes may
 * hold blanks (\" \\ \n \t inside), `#` at the start of a word begins a comment.
 * docs/images.md has the table of statements.
 *
 *   name python
 *   package python3 python3-pip
 *   omit debconf                      # though something depends on it
 *   exclude /usr/share/man* /usr/share/doc*   # the last rule that matches decides
 *   include /usr/share/doc*copyright
 *   dir 1777 /tmp
 *   link /usr/bin/python python3
 *   file 0644 /etc/passwd <<END
 *   root:x:0:0:root:/root:/bin/bash
 *   END
 *   join 0644 /etc/ssl/certs/ca-certificates.crt /usr/share/ca-certificates/moz*.crt
 *   python-bytecode /usr/bin/python3 /usr/lib/python3*
 *   library-cache
 *   entrypoint, cmd, env, workdir, user, stop-signal, label
 *
 * Trust boundary.  Recipes come with the program, but a user can name a file of his
 * own: every limit is checked, every error names the line.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "codec/manifest.h"

#define RECIPE_TEXT_MAX (1u << 20)
#define RECIPE_WORDS_MAX 256u /* of one line */
#define RECIPE_LIST_MAX 2048u /* packages, variables, …: of each */
#define RECIPE_NAME_MAX 64u

enum recipe_kind {
	RECIPE_DIR,
	RECIPE_LINK, /* arg: target */
	RECIPE_FILE, /* arg: content */
	RECIPE_JOIN, /* arg: pattern of the files whose contents are joined, by name */
};

struct recipe_step {
	enum recipe_kind kind;
	uint32_t mode; /* permissions */
	char *path; /* absolute */
	char *arg;
	size_t arg_len;
};

struct recipe_rule {
	bool include;
	char *pattern;
};

struct recipe {
	char name[RECIPE_NAME_MAX];
	char **packages, **omit; /* may be NULL */
	struct recipe_rule *rules;
	size_t n_rules;
	struct recipe_step *steps;
	size_t n_steps;
	char *bytecode_python; /* interpreter, or NULL */
	char **bytecode_dirs; /* patterns */
	bool ld_cache;
	struct image_config config; /* what the image is run with; no diff_ids */
};

/* Return: 0, -EINVAL ("line 7: …"), -ENOMEM. */
int recipe_parse(const char *text, size_t len, struct recipe *out, struct err *e);
void recipe_fini(struct recipe *r);

/* Does the image keep the packages' file of that absolute path? */
bool recipe_keeps(const struct recipe *r, const char *path);

/* `*` stands for any characters, `/` too, `?` for one. Time: length times length. */
bool recipe_match(const char *pattern, const char *path);

#endif
