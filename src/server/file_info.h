/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_SERVER_FILE_INFO_H
#define MSB_SERVER_FILE_INFO_H

/*
 * FileInfo of api/openrpc.json: what a guest said of a file, as JSON.  Names and paths are
 * the guest's bytes, and are made UTF-8.
 */

#include <jansson.h>

#include "codec/frame.h"

/* Text of bytes that may be anything. Return: NULL if there is no memory. */
json_t *file_info_text(const void *p, size_t n);

/* A size as JSON has it, which a guest may say is larger than that. */
json_int_t file_info_size(uint64_t size);

/* The file at @path, as in the answer to a request about it. Return: NULL if there is no memory. */
json_t *file_info(const char *path, const struct frame_file_done *d);

/* The entry @d of the directory @dir. Return: NULL if there is no memory. */
json_t *file_info_entry(const char *dir, const struct frame_dirent *d);

/*
 * What the members of an error say: {"errno": "ENOENT", "path": path}.  @code: an errno; "EIO" if it
 * has no name.  Return: NULL if there is no memory.
 */
json_t *file_info_error(const char *path, int code);

#endif
