/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_IMAGE_CMD_H
#define MSB_IMAGE_CMD_H

/*
 * The commands of msb-image.  Each returns 0, a negative errno with an error, or 2 for a
 * mistake in the arguments, with an error too.
 */

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "codec/manifest.h"
#include "image/registry.h"
#include "image/store_write.h"

struct cmd_options {
	const char *name, *tar, *dir, *base;
	struct image_config config;
	bool quiet, json, force, all;
	struct registry_args registry;
	const char *platform;
	uint64_t max_unpacked; /* of pull; 0 = not given */
	const char *user;
	bool password_stdin;
	const char *format, *output, *input;
	uint64_t older_s, max_bytes; /* of prune; UINT64_MAX = no matter */
};

extern const char *cmd_program; /* as people called it: "msb image" */

int cmd_usage(struct err *e, const char *text);
int cmd_writer(struct store_writer **out, struct err *e);
int cmd_store(struct store **out, struct err *e);
/* The full name under which an image is kept: with a tag, without a digest. */
int cmd_full_name(const char *name, char to[REFERENCE_MAX], struct err *e);
/* Prints and frees it. */
void cmd_print_json(json_t *doc);
void cmd_format_size(uint64_t bytes, char to[16]);

int cmd_import(struct cmd_options *o, int argc, char **argv, struct err *e);
int cmd_build(struct cmd_options *o, int argc, char **argv, struct err *e);
int cmd_prepare(struct cmd_options *o, int argc, char **argv, struct err *e);
int cmd_ls(struct cmd_options *o, int argc, char **argv, struct err *e);
int cmd_inspect(struct cmd_options *o, int argc, char **argv, struct err *e);
int cmd_rm(struct cmd_options *o, int argc, char **argv, struct err *e);
int cmd_prune(struct cmd_options *o, int argc, char **argv, struct err *e);
int cmd_df(struct cmd_options *o, int argc, char **argv, struct err *e);
int cmd_history(struct cmd_options *o, int argc, char **argv, struct err *e);
int cmd_load(struct cmd_options *o, int argc, char **argv, struct err *e);
int cmd_save(struct cmd_options *o, int argc, char **argv, struct err *e);
int cmd_pull(struct cmd_options *o, int argc, char **argv, struct err *e);
int cmd_login(struct cmd_options *o, int argc, char **argv, struct err *e);
int cmd_logout(struct cmd_options *o, int argc, char **argv, struct err *e);

#endif
