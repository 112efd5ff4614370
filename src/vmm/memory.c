/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/memory.h"

#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/checked.h"
#include "base/mem.h"

#define MEMORY_PAGE 4096u
/* A huge page of the host can back the guest's only if both begin at a multiple of it. */
#define MEMORY_ALIGN (2ull << 20)

static void memory_add_slot(struct memory *m, uint64_t gpa, uint64_t size, uint8_t *host)
{
	m->slots[m->n_slots++] = (struct memory_slot){ .gpa = gpa, .size = size, .host = host };
}

/*
 * Address space for @bytes at a multiple of MEMORY_ALIGN, in a reservation that is
 * larger: what is left of it on either side catches a pointer that runs off the end.
 */
static uint8_t *memory_reserve(uint64_t bytes, uint8_t **base, uint64_t *size)
{
	uint8_t *p;

	if (!checked_add(bytes, 2 * MEMORY_ALIGN, size))
		return NULL;
	p = mmap(NULL, *size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (p == MAP_FAILED)
		return NULL;
	*base = p;
	return (uint8_t *)(((uintptr_t)p + 2 * MEMORY_ALIGN - 1) & ~(uintptr_t)(MEMORY_ALIGN - 1));
}

int memory_create(struct memory *m, uint64_t bytes, int fd, struct err *e)
{
	int flags = MAP_PRIVATE | MAP_NORESERVE | MAP_FIXED | (fd < 0 ? MAP_ANONYMOUS : 0);
	uint64_t low = min_u64(bytes, MEMORY_HOLE_START);
	struct memory new = { .bytes = bytes };
	uint8_t *host;

	if (!bytes || bytes % MEMORY_PAGE)
		return err_set(e, EINVAL,
			       "guest memory of %llu bytes: has to be a multiple of 4096",
			       (unsigned long long)bytes);
	host = memory_reserve(bytes, &new.reserved, &new.reserved_bytes);
	if (!host)
		return err_errno(e, ENOMEM, "guest memory: no address space for %llu MiB",
				 (unsigned long long)(bytes >> 20));
	if (mmap(host, bytes, PROT_READ | PROT_WRITE, flags, fd, 0) == MAP_FAILED) {
		int code = errno;

		munmap(new.reserved, new.reserved_bytes);
		return err_errno(e, code, "guest memory: cannot map %llu MiB%s",
				 (unsigned long long)(bytes >> 20),
				 fd < 0 ? "" : " of the snapshot's memory file");
	}
	if (fd < 0)
		madvise(host, bytes, MADV_HUGEPAGE); /* a host without them has small ones */
	memory_add_slot(&new, 0, low, host);
	if (bytes > low)
		memory_add_slot(&new, MEMORY_HOLE_END, bytes - low, host + low);
	*m = new;
	return 0;
}

void memory_destroy(struct memory *m)
{
	if (m->reserved)
		munmap(m->reserved, m->reserved_bytes);
	*m = (struct memory){ .n_slots = 0 };
}

void *memory_at(const struct memory *m, uint64_t gpa, uint64_t len)
{
	for (unsigned i = 0; i < m->n_slots; i++) {
		const struct memory_slot *s = &m->slots[i];

		if (gpa >= s->gpa && checked_range(gpa - s->gpa, len, s->size))
			return s->host + (gpa - s->gpa);
	}
	return NULL;
}

int memory_discard(const struct memory *m, uint64_t gpa, uint64_t len)
{
	void *p = memory_at(m, gpa, len);

	if (!p || gpa % MEMORY_PAGE || len % MEMORY_PAGE)
		return -EINVAL;
	return madvise(p, len, MADV_DONTNEED) < 0 ? -errno : 0;
}
