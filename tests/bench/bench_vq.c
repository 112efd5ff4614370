/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a queue costs a device: batches of chains are taken, given back and signalled, with
 * EVENT_IDX, by one thread that is driver and device in turns.  Prints nanoseconds of the
 * device's side for each chain.  `make bench-vq`.
 */
#include <err.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"
#include "sys/loop.h"
#include "unit/virtio_driver.h"

#define SIZE 256u
#define TABLES 0x10000u /* of indirect descriptors */
#define DATA 0x100000u
#define SAMPLE_NS 300000000ull

struct shape {
	const char *name;
	unsigned segments;
	bool indirect;
};

/* Fills all of the queue with chains of the shape.  Return: how many. */
static unsigned offer(struct drv_queue *dq, const struct shape *s)
{
	struct drv_seg segs[16];
	unsigned chains = s->indirect ? SIZE : SIZE / s->segments;

	for (unsigned i = 0; i < s->segments; i++)
		segs[i] = (struct drv_seg){ DATA + 4096ull * i, 4096, i > 0 };
	for (unsigned c = 0; c < chains; c++) {
		uint64_t table = TABLES + 16ull * 16 * c;

		if (!s->indirect) {
			drv_send(dq, segs, s->segments);
			continue;
		}
		for (unsigned i = 0; i < s->segments; i++)
			drv_desc(dq->memory, table, i, segs[i].addr, segs[i].len,
				 (segs[i].write ? DRV_WRITE : 0) |
					 (i + 1 < s->segments ? DRV_NEXT : 0),
				 i + 1);
		drv_desc(dq->memory, dq->desc, c, table, 16 * s->segments, DRV_INDIRECT, 0);
		drv_offer(dq, c);
	}
	return chains;
}

static unsigned serve(struct vq *q)
{
	static struct vq_chain c;
	unsigned n = 0;

	do {
		vq_notify_off(q);
		for (; vq_pop(q, &c) > 0; n++)
			vq_push(q, c.head, c.write_bytes);
	} while (vq_notify_on(q));
	vq_wants_interrupt(q);
	return n;
}

int main(void)
{
	static const struct shape shapes[] = {
		{ "1 segment", 1, false },
		{ "3 segments", 3, false },
		{ "3 segments, indirect", 3, true },
		{ "16 segments, indirect", 16, true },
	};
	struct memory m;

	if (memory_create(&m, 4u << 20, -1, NULL))
		errx(1, "no memory");
	for (unsigned i = 0; i < ARRAY_SIZE(shapes); i++) {
		uint64_t spent = 0, chains = 0;
		struct drv_queue dq;
		struct vq q;

		drv_queue_init(&dq, &m, 0x1000, SIZE);
		if (drv_queue_bind(&dq, &q))
			errx(1, "no queue");
		q.indirect = q.event_idx = true;
		while (spent < SAMPLE_NS) {
			unsigned n = offer(&dq, &shapes[i]);
			uint64_t start = loop_now_ns();

			if (serve(&q) != n)
				errx(1, "a chain was lost");
			spent += loop_now_ns() - start;
			chains += n;
		}
		printf("%-22s %6.1f ns\n", shapes[i].name, (double)spent / (double)chains);
	}
	memory_destroy(&m);
	return 0;
}
