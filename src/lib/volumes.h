/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_LIB_VOLUMES_H
#define MSB_LIB_VOLUMES_H

/*
 * Volumes before a sandbox starts: paths of the host are looked up, named volumes are
 * found.  A named volume is <parent>/NAME/: `data` is what sandboxes get, `volume.json` says
 * its quota.  A sandbox that has it holds a shared lock (flock) on `data`.
 */

#include <stdint.h>

#include "base/err.h"
#include "codec/volume.h"

#define VOLUMES_DIR "volumes" /* in the home; of volumes_parent() */

struct volume_info {
	char name[VOLUME_NAME_MAX + 1];
	uint64_t quota; /* bytes; 0 = none */
	int64_t created_s; /* CLOCK_REALTIME */
	bool in_use;
	bool client; /* a client of the server made it */
};

/* How much clients may make in one namespace. */
struct volumes_limit {
	unsigned n; /* volumes; 0 = none, and none is removed */
	uint64_t bytes; /* their quotas together */
};

/* Namespaces that have a directory for volumes; a client makes no more. */
#define VOLUMES_NAMESPACES_MAX 1024u

/*
 * Where named volumes are, made if absent; malloc'ed: <home>/volumes, or of a namespace of the
 * server <home>/volumes/@NS, which no name can be.
 */
int volumes_parent(const char *home, const char *ns, char **out, struct err *e);

/* The same without making it. Return: 0; -ENOENT: there are no volumes. */
int volumes_parent_find(const char *home, const char *ns, char **out, struct err *e);

/* How many namespaces have a directory; 0 if that is not known. */
unsigned volumes_namespaces(const char *home);

/*
 * @limit: NULL if it is the user's own, else it is made for a client.
 * Return: 0; -EEXIST; -EINVAL: no name; -EDQUOT: beyond @limit.
 */
int volumes_create(const char *parent, const char *name, uint64_t quota,
		   const struct volumes_limit *limit, struct err *e);

/* Removes it with all it holds. Return: 0; -ENOENT; -EBUSY: a sandbox has it. */
int volumes_remove(const char *parent, const char *name, struct err *e);

int volumes_get(const char *parent, const char *name, struct volume_info *out, struct err *e);

/* Its directory for the host's eyes; malloc'ed. */
int volumes_path(const char *parent, const char *name, char **out, struct err *e);

/* Calls @fn for each, in the order of names. */
int volumes_each(const char *parent, void (*fn)(void *ctx, const struct volume_info *v), void *ctx,
		 struct err *e);

/* Bytes that its files take, as a quota counts them. */
int volumes_usage(const char *parent, const char *name, uint64_t *bytes, struct err *e);

/* Which volumes may be asked for. */
struct volumes_policy {
	const char *parent; /* where named volumes are */
	const char *ns; /* namespace of the server, for messages; NULL: they are the user's own */
	bool restricted; /* paths of the host only inside @dirs */
	const char *const *dirs; /* absolute, without links (volumes_allow()) */
	size_t n_dirs;
};

/* The form of a directory for volumes_policy.dirs; malloc'ed. */
int volumes_allow(const char *dir, char **out, struct err *e);

/**
 * volumes_resolve() - make ready what was read from a command line or a request
 *
 * Afterwards each is VOLUME_HOST with a path that exists, absolute and without links, or
 * VOLUME_TMPFS; parents come first.  The error says what to do.
 */
int volumes_resolve(struct volume_list *l, const struct volumes_policy *p, struct err *e);

/* @owner (may be NULL or empty) is the user of those that have none of their own. */
int volumes_own(struct volume_list *l, const char *owner, struct err *e);

#endif
