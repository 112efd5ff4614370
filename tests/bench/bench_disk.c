/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What it costs to have a disk's reads done by the disk worker: reads of a cached file, one
 * at a time, by the calling thread (preadv), by it without ever waiting (disk_request_try),
 * and by the worker, the answer fetched from the event loop.  Prints MiB/s and the ratio
 * to the first.  `make bench-disk`.
 */
#include <err.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/mem.h"
#include "sys/loop.h"
#include "vmm/virtio/disk_worker.h"

#define FILE_BYTES (64u << 20)
#define SEGMENT 4096u /* a guest's pages are rarely contiguous */
#define SAMPLE_NS 300000000ull

enum way { DIRECT, TRY, WORKER, WAYS };

static struct loop *loop;
static struct disk_worker *worker;
static struct disk_client client;
static uint8_t *memory;
static int fd;
static bool finished;

static void completed(struct disk_client *c)
{
	while (disk_client_take(c))
		finished = true;
}

static void read_once(enum way way, uint64_t offset, size_t bytes)
{
	static struct iovec iov[256];
	struct disk_request r = { .op = DISK_READ, .fd = fd, .offset = offset, .iov = iov };

	for (size_t at = 0; at < bytes; at += SEGMENT)
		iov[r.n_iov++] = (struct iovec){ memory + at, SEGMENT };
	switch (way) {
	case DIRECT:
		if (preadv(fd, iov, (int)r.n_iov, (off_t)offset) != (ssize_t)bytes)
			err(1, "preadv");
		return;
	case TRY:
		if (!disk_request_try(&r) || r.result)
			errx(1, "the file is not in the page cache, or its file system "
				"does not know RWF_NOWAIT");
		return;
	default:
		finished = false;
		disk_client_submit(&client, &r);
		while (!finished)
			loop_run_once(loop, -1);
	}
}

static double measure(enum way way, size_t bytes)
{
	uint64_t start = loop_now_ns(), now, offset = 0, done = 0;

	do {
		for (unsigned i = 0; i < 64; i++) {
			read_once(way, offset, bytes);
			offset = (offset + bytes) % FILE_BYTES;
		}
		done += 64 * bytes;
		now = loop_now_ns();
	} while (now - start < SAMPLE_NS);
	return (double)done / (1 << 20) / ((double)(now - start) / 1e9);
}

int main(void)
{
	static const size_t sizes[] = { 4096, 16384, 65536, 131072, 262144, 1048576 };

	memory = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	fd = open("/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	if (memory == MAP_FAILED || fd < 0)
		err(1, "set up");
	memset(memory, 1, 1 << 20);
	for (size_t at = 0; at < FILE_BYTES; at += 1 << 20)
		if (write(fd, memory, 1 << 20) != 1 << 20)
			err(1, "write the file");
	if (loop_create(&loop, NULL) || disk_worker_create(&worker, loop, NULL))
		errx(1, "no loop or worker");
	disk_client_init(&client, worker, completed);
	printf("%10s %12s %18s %18s\n", "bytes", "preadv", "without waiting", "worker");
	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		double rate[WAYS];

		for (enum way way = DIRECT; way < WAYS; way++)
			rate[way] = measure(way, sizes[i]);
		printf("%10zu %6.0f MiB/s %6.0f MiB/s %4.2f %6.0f MiB/s %4.2f\n", sizes[i],
		       rate[DIRECT], rate[TRY], rate[TRY] / rate[DIRECT], rate[WORKER],
		       rate[WORKER] / rate[DIRECT]);
	}
	disk_worker_destroy(worker);
	loop_destroy(loop);
	close(fd);
	return 0;
}
