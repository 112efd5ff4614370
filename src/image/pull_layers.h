/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_IMAGE_PULL_LAYERS_H
#define MSB_IMAGE_PULL_LAYERS_H

#include <stdbool.h>

#include "codec/manifest.h"
#include "image/fetch.h"
#include "image/store_write.h"

struct pull_layers {
	struct store_writer *w;
	struct fetch *fetch; /* NULL = they are all there */
	/* Hands over a file that is a layer, its digest known to be right; false = there is none. */
	bool (*take)(void *ctx, const struct descriptor *d, struct store_temp *out);
	void *ctx;
	const struct manifest *m;
	const struct image_config *c;
	unsigned parallel;
	uint64_t max_unpacked; /* bytes of the layers' contents; 0 = as for any image */
	uint64_t fetched; /* bytes that came */
};

/*
 * pull_layers_run() - all layers that are missing, and the root image if it is
 *
 * Nothing is named in the store before all of it is right.  After a failure that may pass,
 * what has come stays for the next try.
 */
int pull_layers_run(struct pull_layers *job, struct err *e);

/* Lifts the process's limit of open files: each layer has one. */
void pull_more_files(void);

#endif
