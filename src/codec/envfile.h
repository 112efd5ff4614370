/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_CODEC_ENVFILE_H
#define MSB_CODEC_ENVFILE_H

/*
 * A file of environment variables (.env), one a line:
 *
 *	NAME=value		blanks around it are dropped, ` #` begins a comment
 *	NAME='as it is'		up to the next quote
 *	NAME="a\n\"b\""		\n \r \t \" \\ \$ inside
 *	export NAME=value	the same, so that a shell may read the file too
 *
 * Empty lines and lines that begin with # are passed over.  Nothing is expanded: a $ is a $.
 */

#include <stddef.h>

#include "base/err.h"

#define ENVFILE_BYTES_MAX (256u << 10)
#define ENVFILE_VARS_MAX 4096u

/*
 * Appends NAME=value of each line to *@list (codec/manifest.h, strlist_free()).
 * Return: 0; -EINVAL: "line 3: …"; -ENOMEM.  After a failure *@list holds what came before.
 */
int envfile_parse(const char *text, size_t len, char ***list, struct err *e);

#endif
