/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_CODEC_VOLUME_H
#define MSB_CODEC_VOLUME_H

/*
 * Volumes as people write them:
 *
 *   HOST:GUEST[:OPTIONS]   a directory or file of the host; HOST has a '/' or begins with '.'
 *   PATH[:OPTIONS]         the same path on both sides; absolute
 *   NAME:GUEST[:OPTIONS]   a named volume
 *   GUEST[:OPTIONS]        of --tmpfs: memory of the guest
 *
 * OPTIONS, separated by commas: ro, rw, owner=USER (of HOST and NAME), size=N (of --tmpfs).
 * No side can hold a colon.  Pure: nothing here looks at a file.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define VOLUMES_MAX 32u
#define VOLUME_PATH_MAX 4095u
#define VOLUME_NAME_MAX 63u
#define VOLUME_OWNER_MAX 255u

enum volume_kind {
	VOLUME_HOST, /* source is a path of the host, absolute once it was looked up */
	VOLUME_NAMED, /* source is a name; becomes VOLUME_HOST when it was looked up */
	VOLUME_TMPFS, /* no source */
};

struct volume {
	enum volume_kind kind;
	char *source, *guest; /* malloc'ed; guest is absolute, in its shortest form */
	char *owner; /* user of the guest whose files they are; NULL = not said. malloc'ed */
	bool readonly;
	bool file; /* VOLUME_HOST: source is a file; known once it was looked up */
	bool named; /* VOLUME_HOST: it was VOLUME_NAMED; nobody may remove it meanwhile */
	uint64_t size; /* bytes: of tmpfs; the quota of a named volume; 0 = no limit */
};

struct volume_list {
	struct volume v[VOLUMES_MAX];
	unsigned n;
};

void volume_fini(struct volume *v);
void volume_list_fini(struct volume_list *l);

/*
 * Reads one of --volume, or with @tmpfs one of --tmpfs.  Return: 0 and *@out, the caller's;
 * -EINVAL and what to do.
 */
int volume_parse(const char *text, bool tmpfs, struct volume *out, struct err *e);

/* Appends @v (taken, also on failure). -E2BIG: VOLUMES_MAX; -EEXIST: its guest path is taken. */
int volume_list_add(struct volume_list *l, struct volume *v, struct err *e);

/* Puts each volume behind those that its guest path is in, for mounting one after the other. */
void volume_list_sort(struct volume_list *l);

/* 512M, 2G, 64K; a number alone is MiB. Return: 0 or -EINVAL. */
int volume_parse_size(const char *text, uint64_t *out);

/* 1 to VOLUME_NAME_MAX of letters, digits, '_', '-', '.', the first a letter or digit. */
bool volume_name_valid(const char *name);

/*
 * Is @path one that may be mounted on: absolute, without "." and "..", not the root and
 * nothing of the kernel's?  Writes its shortest form to *@out (malloc'ed).
 */
int volume_guest_path(const char *path, char **out, struct err *e);

#endif
