/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The state file of a snapshot.  The input is taken twice: as it is, and with a header
 * whose magic, version, size and checksum are right, so that what lies behind the
 * checksum is reached.  What is read can be written, and reads back the same.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "codec/le.h"
#include "codec/snapshot.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void fuzz_same_part(const struct snapshot_part *a, const struct snapshot_part *b)
{
	if (a->len != b->len || memcmp(a->data, b->data, a->len))
		abort();
}

static void fuzz_same(const struct snapshot *a, const struct snapshot *b)
{
	if (memcmp(&a->identity, &b->identity, sizeof(a->identity)) || a->n_slots != b->n_slots ||
	    memcmp(a->slots, b->slots, sizeof(a->slots)) || a->n_cpus != b->n_cpus ||
	    a->n_devices != b->n_devices)
		abort();
	for (unsigned k = 0; k < SNAPSHOT_VM_PARTS; k++)
		fuzz_same_part(&a->vm[k], &b->vm[k]);
	for (unsigned i = 0; i < a->n_cpus; i++)
		for (unsigned k = 0; k < SNAPSHOT_CPU_PARTS; k++)
			fuzz_same_part(&a->cpus[i][k], &b->cpus[i][k]);
	for (unsigned i = 0; i < a->n_devices; i++) {
		if (memcmp(a->devices[i].name, b->devices[i].name, SNAPSHOT_NAME_SIZE) ||
		    a->devices[i].id != b->devices[i].id ||
		    a->devices[i].n_queues != b->devices[i].n_queues ||
		    a->devices[i].features != b->devices[i].features)
			abort();
		fuzz_same_part(&a->devices[i].state, &b->devices[i].state);
	}
}

static void fuzz_one(const uint8_t *p, size_t n)
{
	struct snapshot s, t;
	uint8_t trailer[SNAPSHOT_TRAILER_SIZE];
	struct buf b;

	if (snapshot_decode(p, n, &s, NULL))
		return;
	if (snapshot_check_identity(&s, &s.identity, NULL))
		abort();
	snapshot_trailer_encode(&s, trailer);
	if (snapshot_trailer_check(&s, trailer, NULL))
		abort();
	buf_init(&b, SNAPSHOT_SIZE_MAX);
	if (snapshot_encode(&s, &b, NULL) || buf_len(&b) != n ||
	    snapshot_decode(buf_data(&b), n, &t, NULL))
		abort();
	fuzz_same(&s, &t);
	buf_fini(&b);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8_t *p;

	fuzz_one(data, size);
	if (size < SNAPSHOT_HEADER_SIZE || size > SNAPSHOT_SIZE_MAX)
		return 0;
	p = malloc(size);
	if (!p)
		return 0;
	memcpy(p, data, size);
	memcpy(p, SNAPSHOT_MAGIC, 8);
	le_put32(p + 8, SNAPSHOT_VERSION);
	le_put64(p + 16, size);
	memset(p + 24, 0, 8);
	le_put64(p + 24, snapshot_crc64(0, p, size));
	fuzz_one(p, size);
	free(p);
	return 0;
}
