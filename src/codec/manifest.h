/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_CODEC_MANIFEST_H
#define MSB_CODEC_MANIFEST_H

/*
 * The JSON documents of an image: index, manifest and configuration.
 *
 * Spec: OCI image-spec 1.1 (image-index.md, manifest.md, config.md, annotations.md)
 * and Docker image manifest version 2, schema 2.
 *
 * Trust boundary.  Documents come from registries and archives.  Sizes are bounded
 * before a document is parsed, numbers and digests are checked, a duplicate key is
 * an error, unknown keys are ignored.  Strings hold no NUL.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "codec/reference.h"

#define MANIFEST_DOC_MAX (4u << 20) /* bytes of one document */
#define MANIFEST_LAYERS_MAX 1024u
#define MANIFEST_INDEX_MAX 65536u /* entries of an index */

#define MEDIA_INDEX "application/vnd.oci.image.index.v1+json"
#define MEDIA_MANIFEST "application/vnd.oci.image.manifest.v1+json"
#define MEDIA_CONFIG "application/vnd.oci.image.config.v1+json"
#define MEDIA_LAYER "application/vnd.oci.image.layer.v1.tar"
#define MEDIA_LAYER_GZIP MEDIA_LAYER "+gzip"
#define MEDIA_LAYER_ZSTD MEDIA_LAYER "+zstd"
#define MEDIA_DOCKER_LIST "application/vnd.docker.distribution.manifest.list.v2+json"
#define MEDIA_DOCKER_MANIFEST "application/vnd.docker.distribution.manifest.v2+json"
#define MEDIA_DOCKER_CONFIG "application/vnd.docker.container.image.v1+json"
#define MEDIA_DOCKER_LAYER "application/vnd.docker.image.rootfs.diff.tar"
#define MEDIA_DOCKER_FOREIGN "application/vnd.docker.image.rootfs.foreign.diff.tar"

struct descriptor {
	char media_type[128];
	char digest[DIGEST_SIZE];
	uint64_t size;
};

struct index_entry {
	struct descriptor target;
	char name[REFERENCE_MAX]; /* org.opencontainers.image.ref.name; "" = none */
	char image_name[REFERENCE_MAX]; /* io.containerd.image.name; "" = none */
	char created[40]; /* org.opencontainers.image.created; "" = none */
	char os[32], arch[32], variant[32]; /* of the platform; "" = not given */
	char source[DIGEST_SIZE]; /* of the index that a registry has for it; "" = none */
	char *raw; /* the entry as it was read, with what is not known here; NULL = a new one */
};

struct index {
	struct index_entry *entries;
	size_t n;
};

struct manifest {
	char media_type[128]; /* what it says that it is itself; "" = nothing */
	struct descriptor config;
	struct descriptor *layers; /* bottom first */
	size_t n_layers;
};

/* Lists end with NULL and are never NULL themselves after image_config_parse(). */
struct image_config {
	char *os, *architecture, *created; /* NULL = not given */
	char **entrypoint, **cmd, **env; /* env: NAME=value */
	char **labels, **exposed_ports, **volumes; /* labels: NAME=value */
	char *workdir, *user, *stop_signal; /* NULL = not given */
	char (*diff_ids)[DIGEST_SIZE]; /* bottom first */
	size_t n_diff_ids;
};

/* Each: 0, -EINVAL (with what is wrong), -ENOMEM. The _fini functions take a zeroed object too. */
int index_parse(const void *p, size_t len, struct index *out, struct err *e);
void index_fini(struct index *x);
int manifest_parse(const void *p, size_t len, struct manifest *out, struct err *e);
void manifest_fini(struct manifest *m);
int image_config_parse(const void *p, size_t len, struct image_config *out, struct err *e);
void image_config_fini(struct image_config *c);

/* Canonical text (sorted keys, no spaces): same content, same bytes. NULL = no memory. */
char *index_format(const struct index *x);
char *manifest_format(const struct manifest *m);
char *image_config_format(const struct image_config *c);

/*
 * What a document from a registry is: MEDIA_INDEX or MEDIA_MANIFEST, or the Docker type of
 * the same.  What it says itself counts; @given, the answer's head, where it says nothing.
 * NULL = neither, with an error that says what else.
 */
const char *manifest_kind(const void *p, size_t len, const char *given, struct err *e);

/* Is it a layer's type that we can unpack (the compression is told by the bytes)? */
bool manifest_is_layer(const char *media_type);

/*
 * The entry of an index for a platform; @variant "" = any.  Of several that fit, one
 * without a variant goes first.  NULL = none.
 */
const struct index_entry *index_pick(const struct index *x, const char *os, const char *arch,
				     const char *variant);

/*
 * The media type that OCI has for a Docker document, configuration or layer; itself for
 * any other.
 */
const char *manifest_oci_type(const char *media_type);

bool manifest_is_index(const char *media_type);
bool manifest_is_manifest(const char *media_type);

/* Lists of strings that end with NULL. */
size_t strlist_count(char *const *list);
void strlist_free(char **list);
/* Appends a copy. Return: 0 or -ENOMEM (the list is unchanged). */
int strlist_add(char ***list, const char *s);

#endif
