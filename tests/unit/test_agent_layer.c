/* SPDX-License-Identifier: Apache-2.0 */
/* A directory as an overlay writes it, to a layer, as libarchive reads it. */
#include "unit/test.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "agent/layer.h"
#include "base/mem.h"
#include "sys/tree.h"

#define LONG_NAME \
	"0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567" \
	"890123456789012345678901234567890123456789"

static char dir[64];
static int dirfd_, out;

static int make(void **state)
{
	FILE *f;

	test_setup(state);
	strcpy(dir, "/tmp/msb-layer-XXXXXX");
	assert_non_null(mkdtemp(dir));
	dirfd_ = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	f = tmpfile();
	out = dup(fileno(f));
	fclose(f);
	assert_true(dirfd_ >= 0 && out >= 0);
	return 0;
}

static int clean(void **state)
{
	close(dirfd_);
	close(out);
	assert_int_equal(tree_remove(AT_FDCWD, dir), 0);
	return test_teardown(state);
}

static void put(const char *name, const char *text)
{
	int fd = openat(dirfd_, name, O_WRONLY | O_CREAT | O_EXCL, 0640);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	close(fd);
}

static struct archive *pack(void)
{
	struct archive *a = archive_read_new();
	struct err e = ERR_INIT;

	if (layer_pack(dirfd_, out, &e))
		fail_msg("%s", e.msg);
	assert_int_equal(lseek(out, 0, SEEK_SET), 0);
	archive_read_support_format_tar(a);
	assert_int_equal(archive_read_open_fd(a, out, 10240), ARCHIVE_OK);
	return a;
}

/* The next entry has this name. */
static struct archive_entry *next(struct archive *a, const char *name)
{
	struct archive_entry *entry;

	assert_int_equal(archive_read_next_header(a, &entry), ARCHIVE_OK);
	assert_string_equal(archive_entry_pathname(entry), name);
	return entry;
}

static void content(struct archive *a, const char *text)
{
	char got[512] = "";

	assert_int_equal(archive_read_data(a, got, sizeof(got)), strlen(text));
	assert_string_equal(got, text);
}

static void end(struct archive *a)
{
	struct archive_entry *entry;

	assert_int_equal(archive_read_next_header(a, &entry), ARCHIVE_EOF);
	archive_read_free(a);
}

static void test_kinds_of_files(void **state)
{
	struct timespec times[2] = { { 0, UTIME_OMIT }, { 1600000000, 123456789 } };
	struct archive_entry *entry;
	struct archive *a;

	(void)state;
	assert_int_equal(mkdirat(dirfd_, "d", 01755), 0);
	put("d/file", "some text");
	assert_int_equal(fchmodat(dirfd_, "d/file", 04750, 0), 0);
	assert_int_equal(utimensat(dirfd_, "d/file", times, 0), 0);
	assert_int_equal(linkat(dirfd_, "d/file", dirfd_, "d/hard", 0), 0);
	assert_int_equal(symlinkat("/some\nwhere", dirfd_, "d/soft"), 0);
	assert_int_equal(mkfifoat(dirfd_, "fifo", 0600), 0);
	put(LONG_NAME, "");
	a = pack();
	next(a, LONG_NAME);
	entry = next(a, "d/");
	assert_int_equal(archive_entry_filetype(entry), AE_IFDIR);
	assert_int_equal(archive_entry_perm(entry), 01755);
	entry = next(a, "d/file");
	assert_int_equal(archive_entry_perm(entry), 04750);
	assert_int_equal(archive_entry_size(entry), 9);
	assert_int_equal(archive_entry_uid(entry), getuid());
	assert_int_equal(archive_entry_mtime(entry), 1600000000);
	assert_int_equal(archive_entry_mtime_nsec(entry), 123456789);
	content(a, "some text");
	assert_string_equal(archive_entry_hardlink(next(a, "d/hard")), "d/file");
	assert_string_equal(archive_entry_symlink(next(a, "d/soft")), "/some\nwhere");
	assert_int_equal(archive_entry_filetype(next(a, "fifo")), AE_IFIFO);
	end(a);
}

static void test_what_is_gone(void **state)
{
	struct archive *a;

	(void)state;
	assert_int_equal(mkdirat(dirfd_, "d", 0755), 0);
	/* Since Linux 5.8 everybody may make this device, and no other. */
	assert_int_equal(mknodat(dirfd_, "d/gone", S_IFCHR, 0), 0);
	a = pack();
	next(a, "d/");
	assert_int_equal(archive_entry_size(next(a, "d/.wh.gone")), 0);
	end(a);
}

static void test_opaque_and_attributes(void **state)
{
	char path[128];
	const char *name;
	const void *value;
	size_t size;
	struct archive_entry *entry;
	struct archive *a;

	(void)state;
	assert_int_equal(mkdirat(dirfd_, "d", 0755), 0);
	put("d/a", "x");
	snprintf(path, sizeof(path), "%s/d", dir);
	if (setxattr(path, "trusted.overlay.opaque", "y", 1, 0) ||
	    setxattr(path, "trusted.overlay.origin", "z", 1, 0))
		skip(); /* only root may */
	snprintf(path, sizeof(path), "%s/d/a", dir);
	assert_int_equal(setxattr(path, "trusted.mine", "a=\n\0b", 5, 0), 0);
	a = pack();
	entry = next(a, "d/");
	assert_int_equal(archive_entry_xattr_count(entry), 0);
	next(a, "d/.wh..wh..opq");
	entry = next(a, "d/a");
	assert_int_equal(archive_entry_xattr_reset(entry), 1);
	archive_entry_xattr_next(entry, &name, &value, &size);
	assert_string_equal(name, "trusted.mine");
	assert_int_equal(size, 5);
	assert_memory_equal(value, "a=\n\0b", 5);
	end(a);
}

static void test_left_out(void **state)
{
	struct archive *a;

	(void)state;
	assert_int_equal(mkdirat(dirfd_, "tmp", 01777), 0);
	put("tmp/x", "x");
	assert_int_equal(mkdirat(dirfd_, "tmp/d", 0755), 0);
	assert_int_equal(mkdirat(dirfd_, "etc", 0755), 0);
	put("etc/hosts", "x");
	put("etc/mine", "y");
	assert_int_equal(mkdirat(dirfd_, "proc", 0755), 0);
	a = pack();
	next(a, "etc/");
	next(a, "etc/mine");
	content(a, "y");
	next(a, "tmp/");
	end(a);
}

static void test_deep_and_unwritable(void **state)
{
	struct err e = ERR_INIT;
	int fd = dup(dirfd_), full = open("/dev/full", O_WRONLY | O_CLOEXEC);

	(void)state;
	put("x", "x");
	assert_int_equal(layer_pack(dirfd_, full, &e), -ENOSPC);
	close(full);
	for (int i = 0; i < 600; i++) {
		int deeper;

		assert_int_equal(mkdirat(fd, "d", 0755), 0);
		deeper = openat(fd, "d", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		close(fd);
		fd = deeper;
	}
	close(fd);
	err_clear(&e);
	assert_int_equal(layer_pack(dirfd_, out, &e), -ELOOP);
}

#define IN_DIR(fn) cmocka_unit_test_setup_teardown(fn, make, clean)

int main(void)
{
	const struct CMUnitTest tests[] = {
		IN_DIR(test_kinds_of_files),        IN_DIR(test_what_is_gone),
		IN_DIR(test_opaque_and_attributes), IN_DIR(test_left_out),
		IN_DIR(test_deep_and_unwritable),
	};

	return test_run(tests);
}
