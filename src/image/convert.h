/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_IMAGE_CONVERT_H
#define MSB_IMAGE_CONVERT_H

/*
 * DOC: The converter: layers to a root image, in a jail
 *
 * Purpose.  Archives are the least trusted thing that this program meets, and
 * libarchive, the decompressors and libext2fs are the largest code that it runs on
 * them.  All of it runs in one child that has nothing but its descriptors: the
 * layers (read), the new root image (read and write), a pipe for reports.
 *
 * Why the whole conversion and not the archive reader alone: a reader that sent its
 * entries to a writer outside would need a protocol and a second parser of
 * untrusted bytes outside the jail.  So nothing but struct convert_report comes
 * out, of fixed size, and a converter that an archive took over can only spoil the
 * image that it was writing: its file becomes visible only if the digests agree
 * with what the parent expects.  (A root image is found by the diff_ids which the
 * converter computes; an archive that takes the converter over could claim those of
 * another image.  Where a manifest says what to expect, the parent compares.)
 *
 * Descriptors: 3 output, 4 reports, 5 a socket over which the layers come, bottom
 * first, the next one when the one before it was reported.
 */

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "image/digest.h"
#include "image/rootimage.h"

enum convert_kind {
	CONVERT_PROGRESS = 1, /* bytes: read of the layers so far */
	CONVERT_LAYER, /* digest: diff_id; bytes: uncompressed */
	CONVERT_DONE, /* bytes: of the root image; count: inodes; dropped */
	CONVERT_FAILED, /* code, text */
};

struct convert_report {
	uint32_t kind;
	uint32_t code; /* positive errno */
	uint32_t count, dropped;
	uint64_t bytes;
	uint8_t digest[DIGEST_BYTES];
	char text[512];
};

/* With each layer's descriptor. */
struct convert_layer {
	uint8_t has_known;
	uint8_t known[DIGEST_BYTES];
};

struct convert_job {
	const int *layers; /* bottom first; files or pipes */
	/* Instead of them: opens layer @i when it is wanted; -1 = it cannot. Closed by us. */
	int (*open_layer)(void *ctx, size_t i);
	/*
	 * The digest of layer @i's bytes, "sha256:<hex>", if the caller hashes them himself: then
	 * those of a plain layer, of which it is the diff_id too, are not hashed again.  NULL = not
	 * known; as a function, that of none.
	 */
	const char *(*known)(void *ctx, size_t i);
	size_t n_layers;
	int out; /* empty file, readable and writable */
	struct rootimage_limits limits;
	void (*progress)(void *ctx, uint64_t bytes_read);
	void *ctx;
};

struct convert_result {
	uint8_t (*diff_ids)[DIGEST_BYTES]; /* n_layers; malloc'ed */
	uint8_t chain[DIGEST_BYTES];
	uint64_t bytes;
	uint32_t inodes, xattrs_dropped;
};

/* Runs the converter and waits for it. The caller frees result->diff_ids. */
int convert_run(const struct convert_job *job, struct convert_result *out, struct err *e);

/*
 * The same in steps, for a caller who does something else meanwhile, such as fetching the
 * layers.  @job stays until the end.
 */
struct converter;
int convert_start(const struct convert_job *job, struct converter **out, struct err *e);
int convert_fd(const struct converter *c); /* readable: convert_step() */
/* Takes one report. Return: 0 (there will be more), 1 (that was the last), or what went wrong. */
int convert_step(struct converter *c, struct err *e);
/* After a 1: the result, once the converter has ended well. Frees @c. */
int convert_finish(struct converter *c, struct convert_result *out, struct err *e);
void convert_abort(struct converter *c); /* NULL is nothing */

/* What the child does; called by main() for `msb-image convert`. Return: exit status. */
int convert_main(int argc, char **argv);

#endif
