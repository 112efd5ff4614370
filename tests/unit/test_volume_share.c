/* SPDX-License-Identifier: Apache-2.0 */
/* The file server's operations on a directory of the test's, with requests of any kind. */
#include "unit/test.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "codec/volume_wire.h"
#include "sys/tree.h"
#include "volume/host.h"
#include "volume/share.h"

struct fixture {
	char dir[64], path[96];
	struct budget budget;
	struct share share;
	struct buf out;
	struct fuse_out_header answer;
	uint8_t body[VOLUME_BODY_MAX];
	size_t len;
};

static struct fixture fx;

static void open_share(bool readonly, uint64_t quota, unsigned descriptors)
{
	const struct share_options o = { .path = fx.path, .readonly = readonly, .quota = quota };

	snprintf(fx.dir, sizeof(fx.dir), "/tmp/msb-share-XXXXXX");
	assert_non_null(mkdtemp(fx.dir));
	snprintf(fx.path, sizeof(fx.path), "%s/v", fx.dir);
	assert_int_equal(mkdir(fx.path, 0755), 0);
	host_set_fd_dir("/proc/self/fd");
	budget_init(&fx.budget, descriptors);
	buf_init(&fx.out, 0);
	assert_int_equal(share_init(&fx.share, 0, &o, &fx.budget, NULL), 0);
	umask(022);
}

static void close_share(void)
{
	unsigned handles = fx.budget.handles;

	share_fini(&fx.share);
	assert_int_equal(fx.budget.inodes, 0);
	assert_int_equal(fx.budget.handles, 0);
	(void)handles;
	buf_fini(&fx.out);
	tree_remove(AT_FDCWD, fx.dir);
}

/* Sends one request. Return: 0 or the error of the answer; 1: there was none. */
static int ask(uint32_t opcode, uint64_t node, const void *args, size_t n, const void *rest,
	       size_t m)
{
	static uint8_t msg[VOLUME_BODY_MAX];
	struct fuse_in_header h = {
		.len = (uint32_t)(sizeof(h) + n + m), .opcode = opcode, .unique = 77, .nodeid = node
	};
	struct volume_wire w;
	struct request r;
	int rc;

	memcpy(msg, &h, sizeof(h));
	if (n)
		memcpy(msg + sizeof(h), args, n);
	if (m)
		memcpy(msg + sizeof(h) + n, rest, m);
	rc = request_parse(msg, h.len, &r);
	assert_int_not_equal(rc, -EPROTO);
	assert_int_equal(share_serve(&fx.share, &r, rc, &fx.out), 0);
	if (!buf_len(&fx.out))
		return 1;
	w = volume_wire_get(buf_data(&fx.out));
	assert_int_equal(w.length + VOLUME_WIRE_HEADER, buf_len(&fx.out));
	memcpy(&fx.answer, buf_data(&fx.out) + VOLUME_WIRE_HEADER, sizeof(fx.answer));
	assert_int_equal(fx.answer.len, w.length);
	assert_int_equal(fx.answer.unique, 77);
	fx.len = w.length - sizeof(fx.answer);
	memcpy(fx.body, buf_data(&fx.out) + VOLUME_WIRE_HEADER + sizeof(fx.answer), fx.len);
	buf_consume(&fx.out, buf_len(&fx.out));
	return fx.answer.error;
}

static int ask_name(uint32_t opcode, uint64_t node, const void *args, size_t n, const char *name)
{
	return ask(opcode, node, args, n, name, strlen(name) + 1);
}

static uint64_t entry_node(void)
{
	struct fuse_entry_out e;

	assert_true(fx.len >= sizeof(e));
	memcpy(&e, fx.body, sizeof(e));
	return e.nodeid;
}

static uint64_t lookup(uint64_t dir, const char *name)
{
	int rc = ask_name(FUSE_LOOKUP, dir, NULL, 0, name);

	return rc ? 0 : entry_node();
}

static uint64_t make(uint64_t dir, const char *name, uint64_t *fh)
{
	struct fuse_create_in in = { .flags = O_RDWR | O_CREAT, .mode = 0644 };
	struct fuse_open_out open;

	assert_int_equal(ask_name(FUSE_CREATE, dir, &in, sizeof(in), name), 0);
	memcpy(&open, fx.body + sizeof(struct fuse_entry_out), sizeof(open));
	*fh = open.fh;
	return entry_node();
}

static int write_at(uint64_t node, uint64_t fh, uint64_t at, const void *p, size_t n)
{
	struct fuse_write_in in = { .fh = fh, .offset = at, .size = (uint32_t)n };

	return ask(FUSE_WRITE, node, &in, sizeof(in), p, n);
}

static int forget(uint64_t node, uint64_t n)
{
	return ask(FUSE_FORGET, node, &(struct fuse_forget_in){ n }, sizeof(struct fuse_forget_in),
		   NULL, 0);
}

static int release(uint64_t node, uint64_t fh)
{
	struct fuse_release_in in = { .fh = fh };

	return ask(FUSE_RELEASE, node, &in, sizeof(in), NULL, 0);
}

static void a_file_from_its_making_to_its_end(void **state)
{
	struct fuse_read_in read = { .size = 100 };
	uint64_t fh, node;

	(void)state;
	open_share(false, 0, 64);
	node = make(1, "f", &fh);
	assert_int_equal(write_at(node, fh, 0, "hello", 5), 0);
	read.fh = fh;
	assert_int_equal(ask(FUSE_READ, node, &read, sizeof(read), NULL, 0), 0);
	assert_int_equal(fx.len, 5);
	assert_memory_equal(fx.body, "hello", 5);
	assert_int_equal(ask_name(FUSE_UNLINK, 1, NULL, 0, "f"), 0);
	/* Without a name it lives as long as it is open. */
	assert_int_equal(ask(FUSE_READ, node, &read, sizeof(read), NULL, 0), 0);
	assert_int_equal(fx.len, 5);
	assert_int_equal(release(node, fh), 0);
	assert_int_equal(forget(node, 1), 1);
	assert_int_equal(ask(FUSE_GETATTR, node, &(struct fuse_getattr_in){ 0 },
			     sizeof(struct fuse_getattr_in), NULL, 0),
			 -ESTALE);
	assert_int_equal(fx.share.table.n_inodes, 1);
	close_share();
}

static void numbers_that_were_never_given(void **state)
{
	static const uint64_t numbers[] = { 0,           2,           77,        0xffffffff,
					    0x100000001, 0x200000001, UINT64_MAX };
	struct fuse_getattr_in get = { 0 };
	struct fuse_rename2_in rename = { 0 };
	struct fuse_link_in link = { 0 };
	struct fuse_read_in read = { .size = 10 };
	uint64_t fh, node;

	(void)state;
	open_share(false, 0, 64);
	node = make(1, "f", &fh);
	assert_int_equal(release(node, fh), 0);
	assert_int_equal(forget(node, 1), 1);
	for (size_t i = 0; i < ARRAY_SIZE(numbers); i++) {
		uint64_t n = numbers[i];

		assert_int_equal(ask(FUSE_GETATTR, n, &get, sizeof(get), NULL, 0), -ESTALE);
		rename.newdir = link.oldnodeid = n;
		assert_int_equal(ask(FUSE_RENAME2, 1, &rename, sizeof(rename), "f\0g", 4), -ESTALE);
		assert_int_equal(ask_name(FUSE_LINK, 1, &link, sizeof(link), "g"), -ESTALE);
		forget(n, UINT64_MAX);
		read.fh = n;
		assert_int_equal(ask(FUSE_READ, 1, &read, sizeof(read), NULL, 0), -EBADF);
		assert_int_equal(release(1, n), -EBADF);
		assert_int_equal(write_at(1, n, 0, "x", 1), -EBADF);
	}
	/* A handle that was given back is nobody's, also when its place is taken again. */
	node = make(1, "g", &read.fh);
	assert_int_not_equal(read.fh, fh);
	assert_int_equal(write_at(node, fh, 0, "x", 1), -EBADF);
	/* The root is not forgotten. */
	forget(1, UINT64_MAX);
	assert_int_equal(ask(FUSE_GETATTR, 1, &get, sizeof(get), NULL, 0), 0);
	/* A file is no directory, nor the other way round. */
	assert_int_equal(ask_name(FUSE_LOOKUP, node, NULL, 0, "x"), -ENOTDIR);
	assert_int_equal(ask_name(FUSE_UNLINK, node, NULL, 0, "x"), -ENOTDIR);
	assert_int_equal(ask(FUSE_OPEN, 1, &(struct fuse_open_in){ 0 }, sizeof(struct fuse_open_in),
			     NULL, 0),
			 -EISDIR);
	assert_int_equal(ask(FUSE_OPENDIR, node, &(struct fuse_open_in){ 0 },
			     sizeof(struct fuse_open_in), NULL, 0),
			 -ENOTDIR);
	close_share();
}

static void offsets_and_sizes_out_of_range(void **state)
{
	struct fuse_read_in read = { .size = UINT32_MAX };
	struct fuse_setattr_in set = { .valid = FATTR_SIZE, .size = UINT64_MAX };
	struct fuse_fallocate_in fa = { .offset = 1ull << 62, .length = 1ull << 63 };
	struct fuse_lseek_in seek = { .offset = UINT64_MAX, .whence = SEEK_DATA };
	uint64_t node;

	(void)state;
	open_share(false, 0, 64);
	node = make(1, "f", &read.fh);
	fa.fh = seek.fh = read.fh;
	assert_int_equal(write_at(node, read.fh, UINT64_MAX, "x", 1), -EFBIG);
	assert_int_equal(write_at(node, read.fh, INT64_MAX, "x", 1), -EFBIG);
	assert_int_equal(ask(FUSE_READ, node, &read, sizeof(read), NULL, 0), 0);
	read.offset = UINT64_MAX;
	assert_int_equal(ask(FUSE_READ, node, &read, sizeof(read), NULL, 0), -EINVAL);
	assert_int_equal(ask(FUSE_SETATTR, node, &set, sizeof(set), NULL, 0), -EFBIG);
	set.valid = FATTR_MTIME;
	set.mtimensec = 1000000000;
	assert_int_equal(ask(FUSE_SETATTR, node, &set, sizeof(set), NULL, 0), -EINVAL);
	assert_int_equal(ask(FUSE_FALLOCATE, node, &fa, sizeof(fa), NULL, 0), -EFBIG);
	fa = (struct fuse_fallocate_in){ .fh = read.fh, .length = 1, .mode = 0x20 };
	assert_int_equal(ask(FUSE_FALLOCATE, node, &fa, sizeof(fa), NULL, 0), -EOPNOTSUPP);
	assert_int_equal(ask(FUSE_LSEEK, node, &seek, sizeof(seek), NULL, 0), -EINVAL);
	close_share();
}

static void what_no_guest_may_make(void **state)
{
	struct fuse_mknod_in dev = { .mode = S_IFCHR | 0666, .rdev = 0x103 };
	struct fuse_create_in suid = { .flags = O_RDWR | O_CREAT, .mode = 04755 };
	struct fuse_setattr_in set = { .valid = FATTR_MODE, .mode = 04755 };
	uint64_t fh, node;

	(void)state;
	open_share(false, 0, 64);
	assert_int_equal(ask_name(FUSE_MKNOD, 1, &dev, sizeof(dev), "dev"), -EPERM);
	dev.mode = S_IFREG | 04755;
	assert_int_equal(ask_name(FUSE_MKNOD, 1, &dev, sizeof(dev), "suid"), -EPERM);
	assert_int_equal(ask_name(FUSE_CREATE, 1, &suid, sizeof(suid), "suid"), -EPERM);
	node = make(1, "f", &fh);
	assert_int_equal(ask(FUSE_SETATTR, node, &set, sizeof(set), NULL, 0), -EPERM);
	/* Without identity there is one owner. */
	set = (struct fuse_setattr_in){ .valid = FATTR_UID, .uid = 12345 };
	assert_int_equal(ask(FUSE_SETATTR, node, &set, sizeof(set), NULL, 0), -EPERM);
	set.uid = 0;
	assert_int_equal(ask(FUSE_SETATTR, node, &set, sizeof(set), NULL, 0), 0);
	close_share();
}

static void links_are_not_followed(void **state)
{
	char path[128];
	uint64_t node;

	(void)state;
	open_share(false, 0, 64);
	snprintf(path, sizeof(path), "%s/l", fx.path);
	assert_int_equal(symlink("/etc", path), 0);
	node = lookup(1, "l");
	assert_int_not_equal(node, 0);
	assert_int_equal(ask_name(FUSE_LOOKUP, node, NULL, 0, "passwd"), -ENOTDIR);
	assert_int_equal(ask(FUSE_OPEN, node, &(struct fuse_open_in){ 0 },
			     sizeof(struct fuse_open_in), NULL, 0),
			 -ENXIO);
	assert_int_equal(ask(FUSE_READLINK, node, NULL, 0, NULL, 0), 0);
	assert_memory_equal(fx.body, "/etc", 4);
	close_share();
}

static void few_descriptors_many_inodes(void **state)
{
	uint64_t nodes[200], dirs[20], fh;
	char name[16];

	(void)state;
	open_share(false, 0, 24);
	for (unsigned i = 0; i < 20; i++) {
		snprintf(name, sizeof(name), "d%u", i);
		assert_int_equal(ask_name(FUSE_MKDIR, 1, &(struct fuse_mkdir_in){ .mode = 0755 },
					  sizeof(struct fuse_mkdir_in), name),
				 0);
		dirs[i] = entry_node();
	}
	for (unsigned i = 0; i < 200; i++) {
		snprintf(name, sizeof(name), "f%u", i);
		nodes[i] = make(dirs[i % 20], name, &fh);
		assert_int_equal(release(nodes[i], fh), 0);
	}
	assert_true(fx.budget.inodes <= 12);
	for (unsigned i = 0; i < 200; i++)
		assert_int_equal(ask(FUSE_GETATTR, nodes[i], &(struct fuse_getattr_in){ 0 },
				     sizeof(struct fuse_getattr_in), NULL, 0),
				 0);
	/* Somebody else's file under the old name is not the file. */
	char path[160], other[160];
	snprintf(path, sizeof(path), "%s/d3/f3", fx.path);
	snprintf(other, sizeof(other), "%s/d3/f23", fx.path);
	assert_int_equal(rename(other, path), 0);
	assert_int_equal(ask(FUSE_GETATTR, nodes[3], &(struct fuse_getattr_in){ 0 },
			     sizeof(struct fuse_getattr_in), NULL, 0),
			 -ESTALE);
	/* Given back, parents before children. */
	for (unsigned i = 0; i < 20; i++)
		forget(dirs[i], 1);
	for (unsigned i = 0; i < 200; i++)
		forget(nodes[i], 1);
	assert_int_equal(fx.share.table.n_inodes, 1);
	close_share();
}

static void handles_are_bounded(void **state)
{
	struct fuse_open_in open = { .flags = O_RDONLY };
	uint64_t fh, node;
	unsigned n = 0;

	(void)state;
	open_share(false, 0, 64);
	node = make(1, "f", &fh);
	while (n < 100 && !ask(FUSE_OPEN, node, &open, sizeof(open), NULL, 0))
		n++;
	assert_int_equal(n, 31); /* one is the CREATE's */
	assert_int_equal(fx.answer.error, -ENFILE);
	assert_int_equal(release(node, fh), 0);
	assert_int_equal(ask(FUSE_OPEN, node, &open, sizeof(open), NULL, 0), 0);
	close_share();
}

static void read_only_refuses_all_that_writes(void **state)
{
	struct fuse_open_in in = { .flags = O_RDWR };
	struct fuse_setattr_in set = { .valid = FATTR_MODE, .mode = 0600 };
	char path[128];
	uint64_t node;

	(void)state;
	open_share(true, 0, 64);
	snprintf(path, sizeof(path), "%s/f", fx.path);
	close(open(path, O_CREAT | O_WRONLY, 0644));
	node = lookup(1, "f");
	assert_int_equal(ask(FUSE_OPEN, node, &in, sizeof(in), NULL, 0), -EROFS);
	in.flags = O_TRUNC;
	assert_int_equal(ask(FUSE_OPEN, node, &in, sizeof(in), NULL, 0), -EROFS);
	in.flags = O_RDONLY;
	assert_int_equal(ask(FUSE_OPEN, node, &in, sizeof(in), NULL, 0), 0);
	assert_int_equal(ask(FUSE_SETATTR, node, &set, sizeof(set), NULL, 0), -EROFS);
	assert_int_equal(ask_name(FUSE_UNLINK, 1, NULL, 0, "f"), -EROFS);
	assert_int_equal(ask_name(FUSE_MKDIR, 1, &(struct fuse_mkdir_in){ 0 },
				  sizeof(struct fuse_mkdir_in), "d"),
			 -EROFS);
	close_share();
}

static void quota_counts_and_gives_back(void **state)
{
	static uint8_t block[256 * 1024];
	struct fuse_fallocate_in fa = { .length = 1 << 20 };
	uint64_t fh, node, before;
	unsigned n = 0;

	(void)state;
	open_share(false, 1000 * 1024, 64);
	before = fx.share.used;
	memset(block, 'x', sizeof(block));
	node = make(1, "f", &fh);
	while (n < 10 && !write_at(node, fh, n * sizeof(block), block, sizeof(block)))
		n++;
	assert_int_equal(n, 3);
	assert_int_equal(fx.answer.error, -ENOSPC);
	fa.fh = fh;
	assert_int_equal(ask(FUSE_FALLOCATE, node, &fa, sizeof(fa), NULL, 0), -ENOSPC);
	/* In place it can still be written. */
	assert_int_equal(write_at(node, fh, 0, block, 100), 0);
	/* A file that was unlinked takes its space as long as somebody has it open. */
	assert_int_equal(ask_name(FUSE_UNLINK, 1, NULL, 0, "f"), 0);
	assert_true(fx.share.used > before + 700000);
	assert_int_equal(release(node, fh), 0);
	assert_int_equal(forget(node, 1), 1);
	assert_true(fx.share.used <= before + 8192);
	close_share();
}

static void directories_are_read_in_pieces(void **state)
{
	struct fuse_read_in read = { .size = 400 };
	struct fuse_open_out open;
	char name[16], seen[100] = { 0 };
	unsigned n = 0;
	uint64_t fh;

	(void)state;
	open_share(false, 0, 300);
	for (unsigned i = 0; i < 100; i++) {
		snprintf(name, sizeof(name), "f%u", i);
		forget(make(1, name, &fh), 1);
		assert_int_equal(release(1, fh), 0);
	}
	assert_int_equal(ask(FUSE_OPENDIR, 1, &(struct fuse_open_in){ 0 },
			     sizeof(struct fuse_open_in), NULL, 0),
			 0);
	memcpy(&open, fx.body, sizeof(open));
	read.fh = open.fh;
	while (!ask(FUSE_READDIRPLUS, 1, &read, sizeof(read), NULL, 0) && fx.len) {
		for (size_t at = 0; at < fx.len;) {
			struct fuse_direntplus d;
			char text[300] = { 0 };

			memcpy(&d, fx.body + at, FUSE_NAME_OFFSET_DIRENTPLUS);
			memcpy(text, fx.body + at + FUSE_NAME_OFFSET_DIRENTPLUS, d.dirent.namelen);
			if (text[0] == 'f') {
				unsigned k = (unsigned)atoi(text + 1);

				assert_false(seen[k]);
				seen[k] = 1;
				n++;
				assert_int_not_equal(d.entry_out.nodeid, 0);
			}
			read.offset = d.dirent.off;
			at += FUSE_DIRENTPLUS_SIZE(&d);
		}
	}
	assert_int_equal(n, 100);
	read.size = 10;
	read.offset = 0;
	assert_int_equal(ask(FUSE_READDIR, 1, &read, sizeof(read), NULL, 0), -EINVAL);
	close_share();
}

static void only_attributes_of_users(void **state)
{
	struct fuse_getxattr_in get = { .size = 100 };

	(void)state;
	open_share(false, 0, 64);
	assert_int_equal(ask_name(FUSE_GETXATTR, 1, &get, sizeof(get), "security.capability"),
			 -EOPNOTSUPP);
	assert_int_equal(ask(FUSE_SETXATTR, 1, "\1\0\0\0\0\0\0\0", 8, "trusted.x\0y", 11),
			 -EOPNOTSUPP);
	assert_int_equal(ask_name(FUSE_REMOVEXATTR, 1, NULL, 0, "user."), -EOPNOTSUPP);
	close_share();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_file_from_its_making_to_its_end),
		TEST(numbers_that_were_never_given),
		TEST(offsets_and_sizes_out_of_range),
		TEST(what_no_guest_may_make),
		TEST(links_are_not_followed),
		TEST(few_descriptors_many_inodes),
		TEST(handles_are_bounded),
		TEST(read_only_refuses_all_that_writes),
		TEST(quota_counts_and_gives_back),
		TEST(directories_are_read_in_pieces),
		TEST(only_attributes_of_users),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
