/* SPDX-License-Identifier: Apache-2.0 */
/* Blobs that are being fetched, and who fetches. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/mem.h"
#include "codec/sha256.h"
#include "image/store_write_internal.h"

int store_partial_open(struct store_writer *w, const char digest[DIGEST_SIZE],
		       struct store_temp *out, struct err *e)
{
	struct store_temp t = { .w = NULL, .fd = -1 };
	struct stat have, named;

	snprintf(t.name, sizeof(t.name), "partial/%.64s", digest + strlen("sha256:"));
	_Static_assert(sizeof(t.name) > sizeof("partial/") + 64, "room for a digest");
	t.fd = openat(w->store->dir, t.name, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0644);
	if (t.fd < 0)
		return store_fail(w, e, "make a file");
	/* Whoever had it may have finished or removed it between the two calls. */
	if (flock(t.fd, LOCK_EX | LOCK_NB) == 0 && fstat(t.fd, &have) == 0 &&
	    fstatat(w->store->dir, t.name, &named, AT_SYMLINK_NOFOLLOW) == 0 &&
	    have.st_ino == named.st_ino && S_ISREG(have.st_mode)) {
		t.w = w;
		*out = t;
		return 0;
	}
	close_fd(&t.fd);
	return store_temp_file(w, out, e);
}

void store_partial_keep(struct store_temp *t)
{
	struct stat st;

	if (!t->w || strncmp(t->name, "partial/", 8) || fstat(t->fd, &st) < 0 || !st.st_size) {
		store_temp_fini(t);
		return;
	}
	close_fd(&t->fd);
	t->w = NULL;
}

uint64_t store_clean_partials(struct store_writer *w, int64_t age_s)
{
	int fd = openat(w->store->dir, "partial", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *list = fd < 0 ? NULL : fdopendir(fd);
	const struct dirent *d;
	uint64_t freed = 0;

	if (!list) {
		close_fd(&fd);
		return 0;
	}
	while ((d = readdir(list))) {
		auto_close int one = -1;
		struct stat st;

		if (d->d_name[0] == '.')
			continue;
		one = openat(dirfd(list), d->d_name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
		if (one < 0 || flock(one, LOCK_EX | LOCK_NB) < 0 || fstat(one, &st) < 0 ||
		    time(NULL) - st.st_mtime < age_s)
			continue;
		if (unlinkat(dirfd(list), d->d_name, 0) == 0)
			freed += (uint64_t)st.st_blocks * 512;
	}
	closedir(list);
	return freed;
}

int store_lock_pull(struct store_writer *w, const char *name, void (*waiting)(const char *),
		    int *out, struct err *e)
{
	auto_close int fd = openat(w->store->dir, "pull.lock", O_RDWR | O_CREAT | O_CLOEXEC, 0644);
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_len = 1 };
	uint8_t sum[SHA256_BYTES];
	int rc;

	/* A byte of the file for each name: two that share one wait for each other, no harm. */
	sha256(name, strlen(name), sum);
	for (int i = 0; i < 6; i++)
		lock.l_start = lock.l_start << 8 | sum[i];
	if (fd < 0)
		return store_fail(w, e, "lock the image");
	rc = fcntl(fd, F_OFD_SETLK, &lock);
	if (rc < 0 && (errno == EAGAIN || errno == EACCES)) {
		if (waiting)
			waiting(name);
		do
			rc = fcntl(fd, F_OFD_SETLKW, &lock);
		while (rc < 0 && errno == EINTR);
	}
	if (rc < 0)
		return store_fail(w, e, "lock the image");
	*out = take_fd(&fd);
	return 0;
}
