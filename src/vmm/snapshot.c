/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DOC: Theory of operation
 *
 * Purpose: a frozen machine as two files, and back.
 *
 * Writing: the state is put together first, then the memory's pages are written, then the
 * memory's trailer, which names the state, then the state.  So a state file that can be
 * decoded has a whole memory file, and a memory file that belongs to it.
 *
 * Memory: a page that is all zero is not written, and stays a hole.  Every page is read
 * for that.  mincore() would spare the pages that were never touched, but counts a page
 * that is swapped out among them; /proc is not to be had in the jail.  For the same
 * reason the pages of a clone are all written, also those that it shares with its
 * template.
 *
 * Restoring: the state is read and checked before the machine is made; the memory is
 * only mapped, copy on write.  No page of it is touched before the guest does.
 *
 * Trust boundary: both files may come from a hostile hand.  The state goes through
 * snapshot_decode(), the memory is guest memory and as hostile as that always is.
 * The files that are written to come from the supervisor.
 *
 * Ownership: the memory file may be shared by many machines, some with hostile guests.
 * So it is refused if it could be written through the descriptor at hand, even though
 * nothing here would: the process may be taken over.  Whoever truncates a memory file
 * that is in use kills the machines over it; a sealed memfd cannot be truncated.
 *
 * Failure: a host's failure is an error of the call, the machine stays as it was.
 */
#include "vmm/snapshot.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "vmm/state.h"

#define PAGE_BYTES 4096u
/* One write: long enough to cost nothing by itself. */
#define RUN_BYTES_MAX (4u << 20)
#define TRAILER_BYTES_USED 64u /* of SNAPSHOT_TRAILER_SIZE; the rest is zero */

/* ---- freezing ---- */

bool snapshot_freeze(struct vm *vm)
{
	if (!vm_pause(vm))
		return false;
	for (unsigned i = 0; i < vm->n_devices; i++)
		vdev_drain(vm->devices[i].vdev);
	return true;
}

void snapshot_thaw(struct vm *vm)
{
	for (unsigned i = 0; i < vm->n_devices; i++)
		vdev_undrain(vm->devices[i].vdev);
	vm_resume(vm);
}

/* ---- writing ---- */

static int snapshot_pwrite(int fd, const uint8_t *p, size_t n, uint64_t off, struct err *e)
{
	while (n) {
		ssize_t w = pwrite(fd, p, n, (off_t)off);

		if (w < 0 && errno == EINTR)
			continue;
		if (w <= 0)
			return err_errno(e, w ? errno : EIO, "cannot write the snapshot");
		p += w;
		n -= (size_t)w;
		off += (uint64_t)w;
	}
	return 0;
}

static bool page_is_zero(const uint8_t *page)
{
	for (unsigned i = 0; i < PAGE_BYTES; i += 64) {
		uint64_t w[8];

		memcpy(w, page + i, sizeof(w));
		if (w[0] | w[1] | w[2] | w[3] | w[4] | w[5] | w[6] | w[7])
			return false;
	}
	return true;
}

static int snapshot_write_slot(const struct memory_slot *s, uint64_t file_off, int fd, struct err *e)
{
	uint64_t begin = 0, at;
	int rc = 0;

	/* [begin, at) is a run of pages that have something in them. */
	for (at = 0; !rc && at < s->size; at += PAGE_BYTES) {
		bool zero = page_is_zero(s->host + at);

		if (zero || at - begin == RUN_BYTES_MAX) {
			rc = snapshot_pwrite(fd, s->host + begin, at - begin, file_off + begin, e);
			begin = zero ? at + PAGE_BYTES : at;
		}
	}
	return rc ? rc : snapshot_pwrite(fd, s->host + begin, at - begin, file_off + begin, e);
}

int snapshot_write_memory(const struct memory *m, int fd, struct err *e)
{
	uint64_t off = 0;
	int rc = 0;

	if (ftruncate(fd, (off_t)m->bytes) < 0)
		return err_errno(e, errno, "cannot write the snapshot: memory file of %llu MiB",
				 (unsigned long long)(m->bytes >> 20));
	for (unsigned i = 0; !rc && i < m->n_slots; i++) {
		rc = snapshot_write_slot(&m->slots[i], off, fd, e);
		off += m->slots[i].size;
	}
	return rc;
}

/* Is @fd a place where a file of a snapshot may go? */
static int snapshot_check_target(int fd, const char *what, struct err *e)
{
	struct stat st;
	int flags = fcntl(fd, F_GETFL);

	if (flags < 0 || fstat(fd, &st) < 0)
		return err_errno(e, errno, "%s file", what);
	/* O_APPEND would put every page at the end, wherever it belongs. */
	if (!S_ISREG(st.st_mode) || st.st_size || (flags & O_ACCMODE) == O_RDONLY ||
	    (flags & O_APPEND))
		return err_set(e, EINVAL,
			       "%s file: has to be an empty regular file, open for writing (not "
			       "appending)",
			       what);
	return 0;
}

static int snapshot_write_files(struct vm *vm, struct snapshot *s, struct buf *bytes, int state_fd,
				int memory_fd, struct err *e)
{
	uint8_t trailer[SNAPSHOT_TRAILER_SIZE];
	int rc = snapshot_encode(s, bytes, e);

	if (!rc)
		rc = snapshot_write_memory(&vm->memory, memory_fd, e);
	if (!rc) {
		snapshot_trailer_encode(s, trailer);
		rc = snapshot_pwrite(memory_fd, trailer, sizeof(trailer), vm->memory.bytes, e);
	}
	return rc ? rc : snapshot_pwrite(state_fd, buf_data(bytes), buf_len(bytes), 0, e);
}

int snapshot_write(struct vm *vm, int state_fd, int memory_fd, struct err *e)
{
	struct buf bytes;
	struct state *st;
	int rc;

	if ((rc = snapshot_check_target(state_fd, "state", e)) ||
	    (rc = snapshot_check_target(memory_fd, "memory", e)) || (rc = state_save(vm, &st, e)))
		return rc;
	buf_init(&bytes, SNAPSHOT_SIZE_MAX);
	rc = snapshot_write_files(vm, state_snapshot(st), &bytes, state_fd, memory_fd, e);
	buf_fini(&bytes);
	state_destroy(st);
	return rc;
}

/* ---- restoring ---- */

static int snapshot_pread(int fd, uint8_t *p, size_t n, uint64_t off, const char *what,
			  struct err *e)
{
	while (n) {
		ssize_t r = pread(fd, p, n, (off_t)off);

		if (r < 0 && errno == EINTR)
			continue;
		if (r < 0)
			return err_errno(e, errno, "cannot read the %s file", what);
		if (!r)
			return err_set(e, EINVAL, "%s file: cut short", what);
		p += r;
		n -= (size_t)r;
		off += (uint64_t)r;
	}
	return 0;
}

static int snapshot_read_state(int fd, uint8_t **out, size_t *len, struct err *e)
{
	auto_free uint8_t *p = NULL;
	struct stat st;
	int rc;

	if (fstat(fd, &st) < 0)
		return err_errno(e, errno, "state file");
	if (!S_ISREG(st.st_mode) || !st.st_size || st.st_size > SNAPSHOT_SIZE_MAX)
		return err_set(e, EINVAL, "state file: has to be a regular file of 1 to %u bytes",
			       SNAPSHOT_SIZE_MAX);
	p = malloc((size_t)st.st_size);
	if (!p)
		return err_errno(e, ENOMEM, "state file");
	rc = snapshot_pread(fd, p, (size_t)st.st_size, 0, "state", e);
	if (rc)
		return rc;
	*len = (size_t)st.st_size;
	*out = take_ptr(&p);
	return 0;
}

static int snapshot_check_readonly(int fd, struct err *e)
{
	int flags = fcntl(fd, F_GETFL);
	int seals = fcntl(fd, F_GET_SEALS);

	if (flags < 0)
		return err_errno(e, errno, "memory file");
	if ((flags & O_ACCMODE) == O_RDONLY || (seals > 0 && (seals & F_SEAL_WRITE)))
		return 0;
	return err_set(e, EPERM,
		       "memory file: could be written through this descriptor, and other machines "
		       "may share it: open it read-only, or seal the memfd (F_SEAL_WRITE)");
}

static int snapshot_check_memory(const struct snapshot *s, int fd, struct err *e)
{
	uint64_t bytes = snapshot_memory_bytes(s);
	uint8_t trailer[TRAILER_BYTES_USED];
	struct stat st;
	int rc = snapshot_check_readonly(fd, e);

	if (rc)
		return rc;
	if (fstat(fd, &st) < 0)
		return err_errno(e, errno, "memory file");
	if (!S_ISREG(st.st_mode) || (uint64_t)st.st_size != bytes + SNAPSHOT_TRAILER_SIZE)
		return err_set(e, EINVAL, "memory file: has %llu bytes, the snapshot's has %llu",
			       (unsigned long long)st.st_size,
			       (unsigned long long)bytes + SNAPSHOT_TRAILER_SIZE);
	rc = snapshot_pread(fd, trailer, sizeof(trailer), bytes, "memory", e);
	return rc ? rc : snapshot_trailer_check(s, trailer, e);
}

int snapshot_open(struct snapshot_source *src, int state_fd, int memory_fd, struct err *e)
{
	struct snapshot_source new = { .bytes = NULL };
	struct snapshot_identity here;
	size_t len = 0;
	int rc;

	if ((rc = state_identity(&here, e)) ||
	    (rc = snapshot_read_state(state_fd, &new.bytes, &len, e)))
		return rc;
	if ((rc = snapshot_decode(new.bytes, len, &new.s, e)) ||
	    (rc = snapshot_check_identity(&new.s, &here, e)) ||
	    (rc = snapshot_check_memory(&new.s, memory_fd, e))) {
		free(new.bytes);
		return rc;
	}
	*src = new;
	return 0;
}

int snapshot_load(struct vm *vm, const struct snapshot_source *src, struct err *e)
{
	return state_load(vm, &src->s, e);
}

void snapshot_close(struct snapshot_source *src)
{
	free(src->bytes);
	*src = (struct snapshot_source){ .bytes = NULL };
}
